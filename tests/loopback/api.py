"""The answers to plain GET requests, and the checks before an exec session.

What goes in: a request, its user, and the Pods. What comes out: a response in the JSON of
Kubernetes; or, for exec, an :class:`ExecRequest`. Raises :class:`Refused` with the response that
says why. No I/O; any thread.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.loopback import statuses, workloads
from tests.loopback.access import ANONYMOUS, User
from tests.loopback.exec_session import ExecRequest
from tests.loopback.pods import Container, Pod
from tests.loopback.statuses import V4, V5
from tests.loopback.web import (
    Request,
    Response,
    is_spdy,
    is_websocket,
    json_response,
    no_common_protocol,
    offered_protocols,
    text_response,
)

_CREATED = "2026-01-01T00:00:00Z"
_VERSION = {"major": "1", "minor": "34", "gitVersion": "v1.34.0-loopback", "platform": "linux"}

Document = dict[str, Any]


class Refused(Exception):
    """The request is not granted; the response says why."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status, response.body)
        self.response = response


def refused(code: int, reason: str, message: str, details: Document | None = None) -> Refused:
    """Return the refusal that carries a Status document."""
    return Refused(json_response(statuses.refusal(code, reason, message, details), code))


def unauthorized() -> Refused:
    """Return the refusal of a token that nobody has."""
    return refused(401, "Unauthorized", "Unauthorized")


@dataclass(frozen=True, slots=True)
class Api:
    """The API of one server."""

    pods: Sequence[Pod]

    def get(self, request: Request, user: User) -> Response:
        """Answer a GET.

        :raises Refused: not allowed, or not there.
        """
        match request.path.strip("/").split("/"):
            case _ if request.path.strip("/") in _DISCOVERY:
                if user == ANONYMOUS and request.path != "/version":
                    raise _forbidden(user, f'cannot get path "{request.path}"')
                return json_response(_DISCOVERY[request.path.strip("/")])
            case ["api", "v1", "namespaces"]:
                _check(user, "list", "namespaces")
                return json_response(_list("Namespace", map(_namespace, self._namespaces())))
            case ["api", "v1", "namespaces", namespace]:
                _check(user, "get", "namespaces", namespace)
                if namespace not in self._namespaces():
                    raise _not_found("namespaces", namespace)
                return json_response(_namespace(namespace))
            case ["api", "v1", "pods"]:
                _check(user, "list", "pods")
                return _pod_list(request, self.pods)
            case ["api", "v1", "namespaces", namespace, "pods"]:
                _check(user, "list", "pods", namespace=namespace)
                return _pod_list(request, self._in(namespace))
            case ["api", "v1", "namespaces", namespace, "pods", name]:
                _check(user, "get", "pods", name, namespace)
                pod = self._pod(namespace, name)
                return _as_table([pod]) if _wants_table(request) else json_response(_pod(pod))
            case ["api" | "apis" as root, *group, "v1", "namespaces", namespace, plural, name] if (
                kind := workloads.kind(root, group, plural)
            ):
                _check(user, "get", kind.resource, name, namespace)
                if not any(_app(pod) == name for pod in self._in(namespace)):
                    raise _not_found(kind.resource, name)
                return json_response(kind.document(namespace, name))
        raise Refused(text_response("404 page not found", 404))

    def exec_request(
        self, request: Request, user: User, protocols: Sequence[str]
    ) -> tuple[Pod, ExecRequest]:
        """Return what an exec request asks for, once it passed all checks of a real server.

        :param protocols: the subprotocols that the server speaks.
        :raises Refused: not allowed, not there, not running, or in no common language.
        """
        match request.path.strip("/").split("/"):
            case ["api", "v1", "namespaces", namespace, "pods", name, "exec"]:
                pass
            case _:
                raise Refused(text_response("404 page not found", 404))
        verb = "create" if request.method == "POST" else "get"
        _check(user, verb, "pods/exec", name, namespace)
        pod = self._pod(namespace, name)
        container = _exec_container(pod, request)
        if not is_websocket(request) and not is_spdy(request):
            raise _bad_request("Upgrade request required")
        protocol = _negotiate(request, protocols)
        return pod, ExecRequest(
            container,
            tuple(request.query["command"]),
            protocol,
            stdin=request.flag("stdin"),
            stdout=request.flag("stdout"),
            stderr=request.flag("stderr"),
            stdin_can_end=protocol == V5 or is_spdy(request),
        )

    def _namespaces(self) -> list[str]:
        return sorted({"default"} | {pod.namespace for pod in self.pods})

    def _in(self, namespace: str) -> list[Pod]:
        return [pod for pod in self.pods if pod.namespace == namespace]

    def _pod(self, namespace: str, name: str) -> Pod:
        for pod in self.pods:
            if (pod.namespace, pod.name) == (namespace, name):
                return pod
        raise _not_found("pods", name)


def _exec_container(pod: Pod, request: Request) -> Container:
    """Return the container that is meant, if it can run a command now."""
    name = request.last("container")
    container = pod.container(name)
    if container is None:
        raise _bad_request(f"container {name} is not valid for pod {pod.name}")
    if not name and len(pod.main_containers) > 1:
        names = " ".join(container.name for container in pod.main_containers)
        raise _bad_request(
            f"a container name must be specified for pod {pod.name}, choose one of: [{names}]"
        )
    if not request.query.get("command"):
        raise _bad_request("you must specify at least 1 command to execute")
    if not any(map(request.flag, ("stdin", "stdout", "stderr"))):
        raise _bad_request("you must specify at least 1 of stdin, stdout, stderr")
    if request.flag("tty"):
        raise _bad_request("the embedded cluster has no terminals (tty=true)")
    if pod.phase == "Pending" and not pod.of_kind("init"):
        raise _bad_request(f"pod {pod.name} does not have a host assigned")
    if not pod.runs(container):
        raise Refused(text_response(f'container not found ("{container.name}")', 500))
    return container


def _negotiate(request: Request, spoken: Sequence[str]) -> str:
    """Choose a protocol: v5 before all where it is spoken, else the client's first.

    SPDY carries v4; that its streams can end was the reason to make v5 for WebSockets.
    """
    spoken = (V4,) if is_spdy(request) else spoken
    common = [protocol for protocol in offered_protocols(request) if protocol in spoken]
    if not common:
        raise Refused(no_common_protocol())
    return V5 if V5 in common else common[0]


def _check(user: User, verb: str, resource: str, name: str = "", namespace: str = "") -> None:
    """Refuse what the user may not do, in the words of RBAC."""
    if user.may(verb, resource):
        return
    where = f' in the namespace "{namespace}"' if namespace else " at the cluster scope"
    plural, _, group = resource.partition(".")
    message = f'cannot {verb} resource "{plural}" in API group "{group}"{where}'
    raise _forbidden(user, message, resource.partition("/")[0], name)


def _forbidden(user: User, what: str, resource: str = "", name: str = "") -> Refused:
    subject = f'{resource} "{name}" is' if name else f"{resource} is" if resource else ""
    message = f'{subject} forbidden: User "{user.name}" {what}'.strip()
    return refused(403, "Forbidden", message, {"name": name, "kind": resource})


def _not_found(resource: str, name: str) -> Refused:
    details = {"name": name, "kind": resource}
    return refused(404, "NotFound", f'{resource} "{name}" not found', details)


def _bad_request(message: str) -> Refused:
    return refused(400, "BadRequest", message)


# --- documents -----------------------------------------------------------------------------


def _resource(
    name: str, kind: str, *verbs: str, namespaced: bool = True, short: Sequence[str] = ()
) -> Document:
    singular = "" if "/" in name else kind.lower()
    return {
        "name": name,
        "singularName": singular,
        "kind": kind,
        "namespaced": namespaced,
        "verbs": verbs,
        "shortNames": short,
    }


def _workloads(group: str) -> list[Document]:
    return [
        _resource(each.plural, each.kind, "get", short=[each.short] if each.short else [])
        for each in workloads.KINDS
        if each.group == group
    ]


_DISCOVERY: dict[str, Document] = {
    "version": _VERSION,
    "api": {"kind": "APIVersions", "versions": ["v1"]},
    "apis": {
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": [workloads.group(name) for name in workloads.GROUPS],
    },
    "api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            _resource("namespaces", "Namespace", "get", "list", namespaced=False, short=["ns"]),
            _resource("pods", "Pod", "get", "list", short=["po"]),
            _resource("pods/exec", "PodExecOptions", "create", "get"),
            *_workloads(""),
        ],
    },
    **{
        f"apis/{name}/v1": {
            "kind": "APIResourceList",
            "groupVersion": f"{name}/v1",
            "resources": _workloads(name),
        }
        for name in workloads.GROUPS
    },
}


_AFTER = "after-"
"""What begins a token for the next page; it says nothing to clients."""


def _list_metadata(following: str) -> Document:
    return {"resourceVersion": "1", **({"continue": following} if following else {})}


def _list(kind: str, items: Iterable[Document], following: str = "") -> Document:
    metadata = _list_metadata(following)
    return {"kind": f"{kind}List", "apiVersion": "v1", "metadata": metadata, "items": [*items]}


def _namespace(name: str) -> Document:
    return {
        "kind": "Namespace",
        "apiVersion": "v1",
        "metadata": {"name": name, "uid": _uid(name), "creationTimestamp": _CREATED},
        "status": {"phase": "Active"},
    }


_CONTAINERS = ("", "init", "ephemeral")


def _pod(pod: Pod) -> Document:
    ready = "True" if pod.phase == "Running" else "False"
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": _metadata(pod),
        "spec": {
            **{
                f"{kind}Containers" if kind else "containers": [
                    {"name": container.name, "image": f"loopback/{container.userland}"}
                    for container in pod.of_kind(kind)
                ]
                for kind in _CONTAINERS
            },
            "restartPolicy": "Never",
            **({} if pod.phase == "Pending" else {"nodeName": "localhost"}),
        },
        "status": {
            "phase": pod.phase,
            "conditions": [{"type": "Ready", "status": ready}],
            "hostIP": "127.0.0.1",
            "podIP": "127.0.0.1",
            "startTime": _CREATED,
            **{
                f"{kind}ContainerStatuses" if kind else "containerStatuses": [
                    _container_status(pod, each) for each in pod.of_kind(kind)
                ]
                for kind in _CONTAINERS
            },
        },
    }


def _metadata(pod: Pod) -> Document:
    return {
        "name": pod.name,
        "namespace": pod.namespace,
        "uid": _uid(f"{pod.namespace}/{pod.name}"),
        "resourceVersion": "1",
        "creationTimestamp": _CREATED,
        "labels": {"app": _app(pod)},
    }


def _app(pod: Pod) -> str:
    return pod.name.rpartition("-")[0]


def _container_status(pod: Pod, container: Container) -> Document:
    containerd = f"containerd://{container.id}"
    running = pod.runs(container)
    phase = "Running" if running else pod.phase
    states: dict[str, Document] = {
        "Pending": {"waiting": {"reason": "ContainerCreating"}},
        "Running": {"running": {"startedAt": _CREATED}},
        "Succeeded": {
            "terminated": {"exitCode": 0, "reason": "Completed", "containerID": containerd}
        },
    }
    return {
        "name": container.name,
        "image": f"loopback/{container.userland}",
        "imageID": "",
        "ready": running,
        "started": running,
        "restartCount": 0,
        "state": states[phase],
        **({} if phase == "Pending" else {"containerID": containerd}),
    }


def _uid(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


def _pod_list(request: Request, pods: Sequence[Pod]) -> Response:
    selector = request.last("labelSelector")  # of those that there are, app=NAME alone
    pods = [pod for pod in pods if selector in ("", f"app={_app(pod)}")]
    pods, following = _page(request, pods)
    if _wants_table(request):
        return _as_table(pods, following)
    return json_response(_list("Pod", map(_pod, pods), following))


def _page(request: Request, pods: Sequence[Pod]) -> tuple[Sequence[Pod], str]:
    """Return the page that is asked for, and what asks for the next one, if there is one.

    :raises Refused: that is not what asks for a page.
    """
    limit, token = request.last("limit"), request.last("continue")
    if token and not token.removeprefix(_AFTER).isdecimal():
        raise _bad_request("continue key is not valid")
    start = int(token.removeprefix(_AFTER) or 0)
    end = start + (int(limit or 0) or len(pods))
    return pods[start:end], f"{_AFTER}{end}" if end < len(pods) else ""


def _wants_table(request: Request) -> bool:
    return "as=Table" in request.headers.get("Accept", "")


def _as_table(pods: Sequence[Pod], following: str = "") -> Response:
    """Return the columns that `kubectl get pods` prints."""
    columns = [("Name", "string"), ("Ready", "string"), ("Status", "string"), ("Age", "string")]
    rows = []
    for pod in pods:
        total = len(pod.main_containers)
        ready = total if pod.phase == "Running" else 0
        status = "Completed" if pod.phase == "Succeeded" else pod.phase
        rows.append(
            {
                "cells": [pod.name, f"{ready}/{total}", status, "1s"],
                "object": {
                    "kind": "PartialObjectMetadata",
                    "apiVersion": "meta.k8s.io/v1",
                    "metadata": _metadata(pod),
                },
            }
        )
    return json_response(
        {
            "kind": "Table",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": _list_metadata(following),
            "columnDefinitions": [
                {"name": name, "type": kind, "format": "", "description": "", "priority": 0}
                for name, kind in columns
            ],
            "rows": rows,
        }
    )
