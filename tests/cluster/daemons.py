"""The daemons of the cluster: their command lines, and how to start, stop and kill one by name.

Tests break the cluster on purpose with :func:`stop`, :func:`kill` and :func:`start`, or with
:func:`without`. Call them from one thread at a time. Each waits until it is done and raises
:class:`~tests.cluster.layout.ClusterError` (with the daemon's log) where it takes too long.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from . import api
from .configuration import Settings
from .layout import INSIDE, LOGS, STATE, ClusterError
from .machine import Machine, end

NAMES = (
    "etcd",
    "containerd",
    "api-server",
    "api-server-v4",
    "controllers",
    "scheduler",
    "kubelet",
)
"""All daemons, in the order of their start; `api-server` is the one that speaks v5."""

DEADLINE = 120.0
"""Seconds that a daemon may take to become ready, on a machine with much else to do."""

_BIN = f"{INSIDE}/bin"
_ETC = f"{INSIDE}/etc"


def launch(name: str, machine: Machine | None = None) -> None:
    """Start a daemon and return at once; nothing is done where it runs already."""
    if alive(name):
        return
    machine = machine or _machine()
    pid = machine.spawn(_command(name, Settings.load()), log(name))
    _pid_file(name).write_text(f"{pid}\n")


def await_ready(name: str) -> None:
    """Wait until a launched daemon does its work."""
    wait_until(lambda: _ready(name), f"{name} to become ready", (name,))


def start(name: str) -> None:
    """Start a daemon, unless it runs, and wait until it does its work."""
    launch(name)
    await_ready(name)


def stop(name: str) -> None:
    """Ask a daemon to end (SIGTERM), as an upgrade would, and wait until it has ended.

    An API server first waits up to 60 s for its clients' connections.
    """
    _end(name, signal.SIGTERM)


def terminate(name: str) -> None:
    """Ask a daemon to end, and do not wait for it."""
    pid = _pid(name)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)


def kill(name: str) -> None:
    """End a daemon at once (SIGKILL), as a crash would."""
    _end(name, signal.SIGKILL)


@contextlib.contextmanager
def without(name: str) -> Iterator[None]:
    """Kill a daemon, and start it again at the end of the block."""
    kill(name)
    try:
        yield
    finally:
        start(name)


def alive(name: str) -> bool:
    """Return whether a daemon's process exists."""
    return _pid(name) is not None


def log(name: str) -> Path:
    """Return a daemon's log file."""
    return LOGS / f"{name}.log"


def wait_until(condition: Callable[[], bool], what: str, needed: tuple[str, ...]) -> None:
    """Wait for a condition at most :data:`DEADLINE` seconds, and only while `needed` are alive.

    :raises ClusterError: with the log of the daemon that died, or of the last one named.
    """
    deadline = time.monotonic() + DEADLINE
    while not condition():
        for name in needed:
            if not alive(name):
                raise ClusterError(f"{name} died while waiting for {what}", log(name))
        if time.monotonic() > deadline:
            raise ClusterError(f"waited {DEADLINE:.0f} s for {what}", log(needed[-1]))
        time.sleep(0.1)


def _machine() -> Machine:
    machine = Machine.find()
    if machine is None:
        raise ClusterError("the cluster is not up")
    return machine


def _end(name: str, number: signal.Signals) -> None:
    pid = _pid(name)
    if pid is not None:
        end(pid, number, DEADLINE)


def _pid(name: str) -> int | None:
    """Return the process id, outside, of a living daemon."""
    try:
        pid = int(_pid_file(name).read_text())
    except FileNotFoundError:
        return None
    machine = Machine.find()
    return pid if machine is not None and machine.holds(pid) else None


def _pid_file(name: str) -> Path:
    return STATE / "pids" / name


def _ready(name: str) -> bool:
    if name == "etcd":
        return _listens(Settings.load().ports["etcd"])
    if name == "containerd":
        return _listens(Settings.load().ports["streams"])
    if name.startswith("api-server"):
        return api.ready(name)
    if name == "kubelet":
        return _kubelet_ready()
    return alive(name)


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def _kubelet_ready() -> bool:
    """Return whether the kubelet answers and, after a restart, knows its Pods again."""
    try:
        known = api.kubelet_pods()
        pods = api.request("GET", "/api/v1/pods?fieldSelector=status.phase%3DRunning")["items"]
    except api.ApiError:
        return False
    return {pod["metadata"]["name"] for pod in pods} <= known


def _command(name: str, settings: Settings) -> list[str]:
    """Return a daemon's command line, with paths as they are inside."""
    commands: dict[str, Callable[[Settings], list[str]]] = {
        "etcd": _etcd,
        "containerd": lambda _: ["containerd", f"--config={_ETC}/containerd.toml"],
        "api-server": lambda settings: _api_server(settings, "api-server"),
        "api-server-v4": lambda settings: [
            *_api_server(settings, "api-server-v4"),
            "--feature-gates=TranslateStreamCloseWebsocketRequests=false",
        ],
        "controllers": lambda _: _controllers(),
        "scheduler": lambda _: [
            f"{_BIN}/kube-scheduler",
            f"--kubeconfig={INSIDE}/kubeconfig",
            "--leader-elect=false",
            "--secure-port=0",
        ],
        "kubelet": lambda _: [
            f"{_BIN}/kubelet",
            f"--config={_ETC}/kubelet.json",
            f"--kubeconfig={_ETC}/node.kubeconfig",
            "--hostname-override=localhost",
        ],
    }
    return commands[name](settings)


def _etcd(settings: Settings) -> list[str]:
    clients = f"http://127.0.0.1:{settings.ports['etcd']}"
    peers = f"http://127.0.0.1:{settings.ports['etcd-peers']}"
    return [
        "etcd",
        "--name=podcp",
        "--data-dir=/var/lib/etcd",
        "--unsafe-no-fsync",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=podcp={peers}",
    ]


def _api_server(settings: Settings, name: str) -> list[str]:
    return [
        f"{_BIN}/kube-apiserver",
        f"--etcd-servers=http://127.0.0.1:{settings.ports['etcd']}",
        "--bind-address=127.0.0.1",
        f"--secure-port={settings.ports[name]}",
        f"--tls-cert-file={_ETC}/server.crt",
        f"--tls-private-key-file={_ETC}/server.key",
        f"--token-auth-file={_ETC}/tokens.csv",
        "--authorization-mode=Node,RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={_ETC}/accounts.pub",
        f"--service-account-signing-key-file={_ETC}/accounts.key",
        "--service-cluster-ip-range=127.96.0.0/16",
        "--kubelet-preferred-address-types=Hostname",
        "--allow-privileged=true",
        "--endpoint-reconciler-type=none",
    ]


def _controllers() -> list[str]:
    return [
        f"{_BIN}/kube-controller-manager",
        f"--kubeconfig={INSIDE}/kubeconfig",
        f"--service-account-private-key-file={_ETC}/accounts.key",
        f"--root-ca-file={_ETC}/ca.crt",
        "--leader-elect=false",
        "--secure-port=0",
    ]
