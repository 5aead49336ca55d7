"""The cluster as a whole: up, down, status.

Each may be repeated. `up` and `down` of one checkout wait for each other. What `up` has started
when it fails, or is killed, ends with it; the folder it then leaves is removed by the next call.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
from collections.abc import Iterator

from . import api, binaries, configuration, daemons, images, pods, requirements
from .layout import CACHE, LOGS
from .machine import Machine, destroy

_FAILED = CACHE / "failed"
"""The logs of the last start, if it failed."""


def up() -> None:
    """Bring the cluster up; do nothing where it is up and whole.

    :raises ClusterError: it cannot be; nothing but the logs is left, in .cache/cluster/failed.
    """
    requirements.check()
    with _lock():
        _build()
        if whole():
            _say("the cluster is up already")
            return
        destroy()
        shutil.rmtree(_FAILED, ignore_errors=True)
        begin = time.monotonic()
        try:
            _start()
        except BaseException:
            _keep_logs()
            destroy()
            raise
        _say(f"the cluster is up after {time.monotonic() - begin:.1f} s")


def down() -> None:
    """Take the cluster down and remove its state; the binaries stay."""
    with _lock():
        destroy()
    _say("the cluster is down")


def whole() -> bool:
    """Return whether every daemon is alive and every Pod is as the tests expect it."""
    return all(states().values())


def states() -> dict[str, bool]:
    """Return for each daemon and each Pod whether it is as it should be."""
    found = {name: daemons.alive(name) for name in daemons.NAMES}
    try:
        observed = pods.observe() if found["api-server"] else {}
    except api.ApiError:
        observed = {}
    return found | {pod: observed.get(pod) == state for pod, state in pods.expected().items()}


def _build() -> None:
    if not binaries.built():
        _say(f"building Kubernetes {binaries.version()}: some minutes, once")
        binaries.build()


def _start() -> None:
    machine = Machine.create()
    configuration.write(configuration.Settings.choose())
    _say("starting etcd, containerd and the API servers")
    for name in ("etcd", "containerd", "api-server", "api-server-v4"):
        daemons.launch(name, machine)
    images.write_archive()
    daemons.await_ready("containerd")
    _say("loading the images")
    images.load(machine)
    for name in ("api-server", "api-server-v4"):
        daemons.await_ready(name)
    _say("starting the controllers, the scheduler and the kubelet")
    for name in ("controllers", "scheduler", "kubelet"):
        daemons.launch(name, machine)
    pods.create()
    _say("waiting for the Pods")
    pods.await_ready()
    machine.keep()


def _keep_logs() -> None:
    """Copy the daemons' logs of a failed start to where they survive it."""
    if LOGS.exists():
        _FAILED.mkdir()
        for log in LOGS.glob("*.log"):
            shutil.copy(log, _FAILED)


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """Let one launcher of this checkout at a time change the cluster."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(text: str) -> None:
    print(text, flush=True)
