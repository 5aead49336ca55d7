"""What the tests find in the cluster: a namespace, a user who may only look, and the Pods.

All Pods use the host's network and a local image and end without grace. Their shell waits for a
sleep instead of being one: so it reaps what exec sessions leave behind, as an init would.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import api
from .configuration import NAMESPACE
from .daemons import wait_until
from .images import image
from .layout import ClusterError

_ROLES = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}"
_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"

_WAIT = ("sh", "-c", "while :; do sleep 86400; done")
_SLEEP = ("/bin/sleep", "2147483")
"""For a container without a shell."""

_NEEDED = ("api-server", "controllers", "scheduler", "containerd", "kubelet")


def create() -> None:
    """Create everything; needs API servers, controllers and images."""
    _post("/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": NAMESPACE}})
    _post(f"{_ROLES}/roles", _viewer_role())
    _post(f"{_ROLES}/rolebindings", _viewer_binding())
    account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"
    wait_until(lambda: _exists(account), "the default service account", _NEEDED[:2])
    for pod in manifests():
        _post(_PODS, pod)


def await_ready() -> None:
    """Wait until each Pod is as the tests expect it."""
    try:
        wait_until(ready, "the Pods to become ready", _NEEDED)
    except ClusterError as error:
        try:
            states = ", ".join(f"{name} {state}" for name, state in sorted(observe().items()))
        except api.ApiError:
            raise error from None
        raise ClusterError(f"{error}; now: {states}", error.log) from error


def ready() -> bool:
    """Return whether each Pod is as the tests expect it."""
    try:
        observed = observe()
    except api.ApiError:
        return False
    return all(observed.get(name) == state for name, state in expected().items())


def expected() -> dict[str, str]:
    """Return the Pods and the states in which the tests expect them."""
    names = [pod["metadata"]["name"] for pod in manifests()]
    return {name: "Succeeded" if name == "done-0" else "Ready" for name in names}


def observe() -> dict[str, str]:
    """Return the Pods there are and their states: Ready, or their phase."""
    return {pod["metadata"]["name"]: _state(pod) for pod in api.request("GET", _PODS)["items"]}


def manifests() -> list[dict[str, Any]]:
    """Return the Pods to create."""
    pairs = [
        _pod(f"{userland}-{number}", _container("main", userland))
        for userland in ("gnu", "busybox", "bsdtar", "toybox")
        for number in (0, 1)
    ]
    pods = {pod["metadata"]["name"]: pod for pod in pairs}
    pods["gnu-0"] = _pod("gnu-0", _container("main", "gnu"), _container("side", "gnu"))
    pods["gnu-1"] = _with_volumes(
        pods["gnu-1"], {"/small": {"medium": "Memory", "sizeLimit": "8Mi"}}
    )
    pods["notar-0"] = _pod("notar-0", _container("main", "notar"))
    pods["noshell-0"] = _pod("noshell-0", _container("main", "noshell", _SLEEP))
    pods["done-0"] = _pod("done-0", _container("main", "busybox", ("sh", "-c", "exit 0")))
    pods["done-0"]["spec"]["restartPolicy"] = "Never"
    pods["user-0"] = _with_volumes(
        _pod("user-0", _container("main", "gnu")), {"/data": {}, "/srv": {}}
    )
    pods["user-0"]["spec"]["securityContext"] = {"runAsUser": 1000, "runAsGroup": 1000}
    return list(pods.values())


def _pod(name: str, *containers: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "hostNetwork": True,
            "enableServiceLinks": False,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "containers": list(containers),
        },
    }


def _container(name: str, userland: str, command: tuple[str, ...] = _WAIT) -> dict[str, Any]:
    return {
        "name": name,
        "image": image(userland),
        "imagePullPolicy": "Never",
        "command": list(command),
    }


def _with_volumes(pod: dict[str, Any], mounts: Mapping[str, dict[str, str]]) -> dict[str, Any]:
    """Return the Pod with emptyDir volumes at these paths of its first container."""
    spec = pod["spec"]
    names = {path: path.strip("/") for path in mounts}
    spec["volumes"] = [{"name": names[path], "emptyDir": kind} for path, kind in mounts.items()]
    spec["containers"][0]["volumeMounts"] = [
        {"name": name, "mountPath": path} for path, name in names.items()
    ]
    return pod


def _viewer_role() -> dict[str, Any]:
    rule = {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    return {"metadata": {"name": "viewer"}, "rules": [rule]}


def _viewer_binding() -> dict[str, Any]:
    group = "rbac.authorization.k8s.io"
    return {
        "metadata": {"name": "viewer"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "viewer"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "podcp-viewer"}],
    }


def _state(pod: Mapping[str, Any]) -> str:
    conditions = {entry["type"]: entry["status"] for entry in pod["status"].get("conditions", [])}
    ready = conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]
    return "Ready" if ready else str(pod["status"]["phase"])


def _exists(path: str) -> bool:
    try:
        api.request("GET", path)
    except api.ApiError as error:
        if error.status == 404:
            return False
        raise
    return True


def _post(path: str, document: Mapping[str, Any]) -> None:
    api.request("POST", path, document)
