"""Objects of the API, read by their name or by their labels.

In: a cluster, a namespace, a resource as RBAC names it (``pods``, ``deployments.apps``), a name.
Out: the decoded document. Raises :class:`~kubectl_podcp.errors.PodNotFound`, which says whether it
is the namespace that is missing, :class:`~kubectl_podcp.errors.Forbidden`, which names the right
that is missing, and what :mod:`kubectl_podcp.cluster.api` raises. Any thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from kubectl_podcp.cluster import api
from kubectl_podcp.cluster.access import Cluster
from kubectl_podcp.errors import Forbidden, PodcpError, PodNotFound, UsageError

KINDS = {
    "pods": "Pod",
    "deployments.apps": "Deployment",
    "statefulsets.apps": "StatefulSet",
    "daemonsets.apps": "DaemonSet",
    "replicasets.apps": "ReplicaSet",
    "jobs.batch": "Job",
    "replicationcontrollers": "ReplicationController",
    "services": "Service",
}
"""What may be read, and what it is called. The version of each is v1."""

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
"""The annotation by which a Pod's author names the container that commands are meant for."""

CONTAINERS = ("containers", "ephemeralContainers", "initContainers")
"""The fields of a Pod's spec that hold containers."""

STATUSES = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
"""Those of its status that say what becomes of them."""

PAGE = 500
"""How many Pods are asked for at once, as by kubectl: of each, all that it has comes."""

_GONE = 410


def read(cluster: Cluster, namespace: str, resource: str, name: str) -> dict[str, Any]:
    """Return one object."""
    path = f"{_folder(namespace, resource)}/{_segment(name)}"
    status, body = api.fetch(cluster, path)
    if status == 404 and _says_not_found(body):
        raise _not_found(cluster, namespace, resource, name)
    if status != 200:
        what = f'reading {KINDS[resource]} "{name}" in namespace "{namespace}"'
        raise _refused(status, body, what, "" if resource == "pods" else f"get on {resource}")
    return api.decode(body, path)


def pods_with(cluster: Cluster, namespace: str, selector: str) -> list[dict[str, Any]]:
    """Return the Pods whose labels a selector matches, with what of them is asked here."""
    path, labels = _folder(namespace, "pods"), {"labelSelector": selector}
    query, pods = {**labels, "limit": str(PAGE)}, list[dict[str, Any]]()
    while True:
        status, body = api.fetch(cluster, path, query)
        if status == _GONE and "continue" in query:
            # The server has forgotten of when it was telling: as client-go does, ask for all.
            query, pods = labels, []
            continue
        if status != 200:
            what = f'listing Pods in namespace "{namespace}"'
            raise _refused(status, body, what, "list on pods")
        document = api.decode(body, path)
        pods += map(_needed, document.get("items") or [])
        following = section(document, "metadata").get("continue")
        if not following:
            return pods
        query = {**labels, "limit": str(PAGE), "continue": str(following)}


def _needed(pod: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a Pod says whether it may be taken, and which container: a hundredth, for
    most of it is who manages which field, environments and volumes."""
    metadata, spec, status = (section(pod, part) for part in ("metadata", "spec", "status"))
    annotations = _some(section(metadata, "annotations"), DEFAULT_CONTAINER)
    told = ("name", "restartCount", "state", "containerID")
    return {
        "metadata": {
            **_some(metadata, "name", "creationTimestamp", "deletionTimestamp"),
            "annotations": annotations,
        },
        "spec": {
            field: [_some(each, "name") for each in spec.get(field) or []] for field in CONTAINERS
        },
        "status": {
            **_some(status, "phase", "conditions"),
            **{
                field: [_some(each, *told) for each in status.get(field) or []]
                for field in STATUSES
            },
        },
    }


def _some(document: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: document[key] for key in keys if key in document}


def section(document: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """Return a nested object; an empty one where it is missing or null."""
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _refused(status: int, body: bytes, what: str, right: str) -> PodcpError:
    """Return the error for a refusal.

    :param right: verb and resource, where they are not among those that every copy needs.
    """
    error = api.refused(status, body, what)
    if right and isinstance(error, Forbidden):
        error.advice = f"This needs the verb {right}. Without it, name a Pod."
    return error


def _says_not_found(body: bytes) -> bool:
    """Whether a 404 is the API server's own, and not that of something else at its address."""
    return b'"NotFound"' in body and b'"Status"' in body


def _not_found(cluster: Cluster, namespace: str, resource: str, name: str) -> PodNotFound:
    """Say what is missing: the server blames the object even where there is no such namespace."""
    status, body = api.fetch(cluster, f"/api/v1/namespaces/{_segment(namespace)}")
    if status == 404 and _says_not_found(body):
        return PodNotFound(
            f'there is no namespace "{namespace}"', advice="`kubectl get namespaces` lists them."
        )
    kind, plural = KINDS[resource], resource.partition(".")[0]
    advice = f"`kubectl get {plural} -n {namespace}` lists the {kind}s that there are."
    if status != 200:  # most users may not look at namespaces
        advice += " The namespace may be missing too; you are not allowed to look."
    return PodNotFound(f'there is no {kind} "{name}" in namespace "{namespace}"', advice=advice)


def _folder(namespace: str, resource: str) -> str:
    plural, _, group = resource.partition(".")
    api_group = f"apis/{group}" if group else "api"
    return f"/{api_group}/v1/namespaces/{_segment(namespace)}/{plural}"


def _segment(name: str) -> str:
    """Return a name as one segment of a path.

    :raises UsageError: it could stand for another path (``path.IsValidPathSegmentName``).
    """
    if name in ("", ".", "..") or "/" in name or "%" in name:
        raise UsageError(
            f'"{name}" cannot be the name of a Pod or a namespace',
            advice="names are of small letters, digits, '-' and '.'",
        )
    return quote(name, safe="")
