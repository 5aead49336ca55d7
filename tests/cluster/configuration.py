"""What the daemons are told: ports, tokens, configuration files, kubeconfigs.

All of it is made anew for each start and stands in the state folder.
"""

from __future__ import annotations

import base64
import errno
import json
import random
import secrets
import socket
from dataclasses import asdict, dataclass, field
from typing import Any

from . import certificates
from .layout import INSIDE, KUBECONFIG, STATE, ClusterError

NAMESPACE = "podcp-test"

NAMESPACES = (NAMESPACE, "podcp-test-2")
"""Each has all of the Pods, so that two processes can run the suite at once."""
PAUSE_IMAGE = "docker.io/library/podcp-noshell:latest"

USERS = {
    "admin": "system:masters",
    "node": "system:nodes",
    "nobody": "podcp",
    "viewer": "podcp",
}
"""Who has a token, and the group: nobody may do nothing, the viewer may get Pods but not exec."""

CONTEXTS = {
    "podcp-v5": ("api-server", "admin"),
    "podcp-v4": ("api-server-v4", "admin"),
    "podcp-nobody-v5": ("api-server", "nobody"),
    "podcp-viewer-v5": ("api-server", "viewer"),
}
"""The contexts of the kubeconfig: API server and user."""

_PORTS = ("etcd", "etcd-peers", "api-server", "api-server-v4", "kubelet", "streams")
_SETTINGS = STATE / "settings.json"
_ETC = STATE / "etc"


@dataclass(frozen=True, slots=True)
class Settings:
    """What differs from one start to the next: TCP ports on 127.0.0.1, and bearer tokens."""

    ports: dict[str, int]
    tokens: dict[str, str] = field(repr=False)

    @classmethod
    def choose(cls) -> Settings:
        """Choose free ports and new tokens, and write them down."""
        tokens = {user: secrets.token_hex(16) for user in USERS}
        settings = cls(dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True)), tokens)
        _SETTINGS.touch(mode=0o600)
        _SETTINGS.write_text(json.dumps(asdict(settings)))
        return settings

    @classmethod
    def load(cls) -> Settings:
        """Return what the last start chose.

        :raises ClusterError: the cluster is not up.
        """
        if not _SETTINGS.exists():
            raise ClusterError("the cluster is not up")
        return cls(**json.loads(_SETTINGS.read_text()))

    def server(self, name: str) -> str:
        """Return the URL of an API server."""
        return f"https://127.0.0.1:{self.ports[name]}"


def write(settings: Settings) -> None:
    """Write every file that the daemons and the tests read."""
    certificates.make(_ETC)
    (_ETC / "tokens.csv").write_text(_tokens(settings))
    (_ETC / "containerd.toml").write_text(_containerd(settings))
    (_ETC / "kubelet.json").write_text(json.dumps(_kubelet(settings), indent=2))
    node = _kubeconfig(settings, {"node": ("api-server", "node")})
    (_ETC / "node.kubeconfig").write_text(json.dumps(node, indent=2))
    KUBECONFIG.touch(mode=0o600)
    KUBECONFIG.write_text(json.dumps(_kubeconfig(settings, CONTEXTS), indent=2))


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now.

    They are below those that the kernel gives to outgoing connections (32768 and up), one of
    which could otherwise take a port between now and the daemon's start.
    """
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 1_000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise ClusterError("no free ports on 127.0.0.1")


def _tokens(settings: Settings) -> str:
    """Return the API servers' token file: token, user, uid, groups."""
    names = {user: f"podcp-{user}" for user in USERS} | {"node": "system:node:localhost"}
    return "".join(
        f'{settings.tokens[user]},{names[user]},{user},"{group}"\n' for user, group in USERS.items()
    )


def _containerd(settings: Settings) -> str:
    """Return containerd's configuration: standard paths, for its /run and /var/lib are private.

    The native snapshotter copies, so it works on any file system; restrict_oom_score_adj is for
    machines without CAP_SYS_RESOURCE, and disable_apparmor for those where AppArmor would keep a
    profile of ours. The CNI configuration only has to be there: all Pods use the host's network.
    """
    cni = _ETC / "cni"
    cni.mkdir()
    network = {"cniVersion": "0.4.0", "name": "podcp", "plugins": [{"type": "loopback"}]}
    (cni / "10-loopback.conflist").write_text(json.dumps(network))
    return f"""\
version = 2
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
  stream_server_port = "{settings.ports["streams"]}"
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".cni]
  conf_dir = "{INSIDE}/etc/cni"
"""


def _kubelet(settings: Settings) -> dict[str, Any]:
    """Return the kubelet's configuration: nothing that needs systemd, and no evictions."""
    return {
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "address": "127.0.0.1",
        "port": settings.ports["kubelet"],
        "healthzPort": 0,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "cgroupDriver": "cgroupfs",
        "cgroupsPerQOS": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "failCgroupV1": False,
        "featureGates": {"KubeletInUserNamespace": True},
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        "resolvConf": "",
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "imagefs.available": "0%",
            "memory.available": "0%",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
        },
    }


def _kubeconfig(settings: Settings, contexts: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """Return a kubeconfig (JSON is YAML) whose current context is the first of `contexts`."""
    authority = base64.b64encode((_ETC / "ca.crt").read_bytes()).decode()
    servers = sorted({server for server, _ in contexts.values()})
    users = sorted({user for _, user in contexts.values()})
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": next(iter(contexts)),
        "clusters": [
            {
                "name": name,
                "cluster": {
                    "server": settings.server(name),
                    "certificate-authority-data": authority,
                },
            }
            for name in servers
        ],
        "users": [{"name": user, "user": {"token": settings.tokens[user]}} for user in users],
        "contexts": [
            {"name": name, "context": {"cluster": server, "user": user, "namespace": NAMESPACE}}
            for name, (server, user) in contexts.items()
        ],
    }
