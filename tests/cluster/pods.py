"""What the tests find in the cluster: namespaces, a user who may only look, and the Pods.

All Pods use the host's network and a local image and end without grace. Their shell waits for a
sleep instead of being one: so it reaps what exec sessions leave behind, as an init would.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from . import api
from .configuration import NAMESPACE, NAMESPACES
from .daemons import wait_until
from .images import image
from .layout import ClusterError
from .machine import Machine

_PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
"""Those that can be deleted and made again."""

_WAIT = ("sh", "-c", "while :; do sleep 86400; done")
_SLEEP = ("/bin/sleep", "2147483")
"""For a container without a shell."""

_NEEDED = ("api-server", "controllers", "scheduler", "containerd", "kubelet")


def create() -> None:
    """Create everything; needs API servers, controllers and images."""
    for namespace in NAMESPACES:
        _create(namespace)


def _create(namespace: str) -> None:
    roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    _post("/api/v1/namespaces", {"kind": "Namespace", "metadata": {"name": namespace}})
    _post(f"{roles}/roles", _viewer_role())
    _post(f"{roles}/rolebindings", _viewer_binding())
    account = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
    wait_until(lambda: _exists(account), "the default service account", _NEEDED[:2])
    for pod in manifests():
        _post(f"/api/v1/namespaces/{namespace}/pods", pod)


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


def delete(name: str) -> None:
    """Delete a Pod, and wait until it is gone, its processes too."""
    statuses = api.request("GET", f"{_PODS}/{name}")["status"]["containerStatuses"]
    api.request("DELETE", f"{_PODS}/{name}")
    wait_until(lambda: not _exists(f"{_PODS}/{name}"), f"{name} to be gone", _NEEDED)
    for each in statuses:
        ended = partial(_has_ended, each["containerID"])
        wait_until(ended, f"{name} to end", _NEEDED)


def create_one(name: str) -> None:
    """Create one of the Pods again."""
    _post(_PODS, next(pod for pod in manifests() if pod["metadata"]["name"] == name))


def recreate(name: str) -> None:
    """Delete a Pod and make it again: new files, and no restart that would be put off."""
    delete(name)
    create_one(name)
    await_ready()


def kill_container(name: str, container: str) -> None:
    """Kill the first process of a container; the kubelet starts it again."""
    statuses = api.request("GET", f"{_PODS}/{name}")["status"]["containerStatuses"]
    identity = next(each["containerID"] for each in statuses if each["name"] == container)
    _tasks("kill", "--signal=SIGKILL", identity)

    def restarted() -> bool:
        now = api.request("GET", f"{_PODS}/{name}")["status"]["containerStatuses"]
        return all("running" in each["state"] for each in now) and identity not in {
            each["containerID"] for each in now
        }

    wait_until(restarted, f"{container} of {name} to be started again", _NEEDED)


def _tasks(*arguments: str) -> None:
    """Run ``ctr tasks`` for a container; raises ClusterError where there is none."""
    machine = Machine.find()
    if machine is None:
        raise ClusterError("the cluster is not up")
    *words, identity = arguments
    ctr = ("ctr", "--namespace=k8s.io", "tasks")
    machine.run(*ctr, *words, identity.removeprefix("containerd://"))


def _has_ended(identity: str) -> bool:
    try:
        _tasks("ps", identity)
    except ClusterError:
        return True
    return False


def ready() -> bool:
    """Return whether each Pod is as the tests expect it."""
    try:
        observed = observe()
    except api.ApiError:
        return False
    return all(observed.get(name) == state for name, state in expected().items())


def expected() -> dict[str, str]:
    """Return the Pods, by namespace and name, and the states in which the tests expect them."""
    names = [pod["metadata"]["name"] for pod in manifests()]
    states = {name: "Succeeded" if name == "done-0" else "Ready" for name in names}
    return {f"{space}/{name}": states[name] for space in NAMESPACES for name in names}


def observe() -> dict[str, str]:
    """Return the Pods there are and their states: Ready, or their phase."""
    return {
        f"{namespace}/{pod['metadata']['name']}": _state(pod)
        for namespace in NAMESPACES
        for pod in api.request("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
    }


def manifests() -> list[dict[str, Any]]:
    """Return the Pods to create."""
    pairs = [
        _pod(f"{userland}-{number}", _container("main", userland))
        for userland in ("gnu", "busybox", "bsdtar", "toybox")
        for number in (0, 1)
    ]
    pods = {pod["metadata"]["name"]: pod for pod in pairs}
    pods["gnu-0"] = _pod("gnu-0", _container("main", "gnu"), _container("side", "gnu"))
    for name in ("gnu-0", "busybox-0", "bsdtar-0", "toybox-0"):
        pods[name] = _with_volumes(pods[name], {"/kept": {}})
    pods["gnu-1"] = _with_volumes(
        pods["gnu-1"],
        {
            "/small": {"medium": "Memory", "sizeLimit": "8Mi"},
            "/memory": {"medium": "Memory", "sizeLimit": "1Gi"},
        },
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
