"""Which Pod is taken, where the user names what has Pods: a Deployment, a Service, …

In: a cluster, a namespace, a resource as RBAC names it, a name. Out: the document of a Pod that is
ready. Raises :class:`~kubectl_podcp.errors.PodNotFound`,
:class:`~kubectl_podcp.errors.PodNotRunning`, and what :mod:`kubectl_podcp.cluster.objects` raises.
Any thread.

Pods are found, and one is preferred to another, as in ``kubectl exec deploy/web``: k8s.io/kubectl
``pkg/polymorphichelpers/helpers.go`` (``SelectorsForObject``), ``pkg/util/podutils/podutils.go``
(``ActivePods``). kubectl waits where there is none, and takes one that is not ready where there is
no better one; for a copy, either is more likely a mistake.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kubectl_podcp.cluster import objects
from kubectl_podcp.cluster.access import Cluster
from kubectl_podcp.cluster.credentials import parse_time
from kubectl_podcp.cluster.objects import KINDS, section
from kubectl_podcp.errors import PodNotFound, PodNotRunning

_PLAIN = ("services", "replicationcontrollers")
"""Their selectors are labels alone."""

_FORMS = {
    "In": "{key} in ({values})",
    "NotIn": "{key} notin ({values})",
    "Exists": "{key}",
    "DoesNotExist": "!{key}",
}

_LISTED = 10
"""How many Pods an error lists."""


def ready_pod(cluster: Cluster, namespace: str, resource: str, name: str) -> dict[str, Any]:
    """Return the Pod that has been ready the longest.

    :raises PodNotFound: there is no such workload, or it has no Pods.
    :raises PodNotRunning: it has Pods, but none is ready; says what each of them is.
    """
    called = f'{KINDS[resource]} "{name}" in namespace "{namespace}"'
    spec = section(objects.read(cluster, namespace, resource, name), "spec")
    selector = _query(section(spec, "selector"), plain=resource in _PLAIN)
    if not selector:
        raise PodNotFound(f"{called} has no selector, so no Pods", advice="Name a Pod.")
    pods = objects.pods_with(cluster, namespace, selector)
    if not pods:
        raise PodNotFound(
            f"{called} has no Pods",
            advice=f"`kubectl get pods -n {namespace} -l '{selector}'` finds none either.",
        )
    ready = [pod for pod in pods if _state(pod) == "ready"]
    if not ready:
        states = sorted(f"{_name(pod)} is {_state(pod)}" for pod in pods)
        more = [f"and {len(states) - _LISTED} more"] if len(states) > _LISTED else []
        raise PodNotRunning(
            f"no Pod of {called} is ready: {', '.join(states[:_LISTED] + more)}",
            advice="Wait until one is, or name the Pod to be taken as it is.",
        )
    return min(ready, key=_rank)


def _query(selector: Mapping[str, Any], *, plain: bool) -> str:
    """Return what a selector demands, in the form that the query of a list has."""
    labels = selector if plain else section(selector, "matchLabels")
    demands = [(key, f"{key}={value}") for key, value in labels.items()]
    for each in [] if plain else selector.get("matchExpressions") or []:
        form = _FORMS[each["operator"]]
        values = ",".join(sorted(each.get("values") or []))
        demands.append((each["key"], form.format(key=each["key"], values=values)))
    return ",".join(demand for _, demand in sorted(demands))


def _state(pod: Mapping[str, Any]) -> str:
    """Return ``ready``, or what keeps a Pod from being taken."""
    status = section(pod, "status")
    phase = str(status.get("phase", "Unknown"))
    if section(pod, "metadata").get("deletionTimestamp"):
        return "Terminating"
    if phase != "Running":
        return phase
    return "ready" if _readiness(pod).get("status") == "True" else "Running, but not ready"


def _rank(pod: Mapping[str, Any]) -> tuple[float, int, float, str]:
    """Return what sorts the better one of two ready Pods first."""
    restarts = (
        int(container.get("restartCount", 0))
        for container in section(pod, "status").get("containerStatuses") or []
    )
    created = section(pod, "metadata").get("creationTimestamp")
    since = _readiness(pod).get("lastTransitionTime")
    return _time(since), max(restarts, default=0), _time(created), _name(pod)


def _readiness(pod: Mapping[str, Any]) -> Mapping[str, Any]:
    conditions = section(pod, "status").get("conditions") or []
    return next((each for each in conditions if each.get("type") == "Ready"), {})


def _time(text: object) -> float:
    return parse_time(str(text)) if text else math.inf


def _name(pod: Mapping[str, Any]) -> str:
    return str(section(pod, "metadata").get("name"))
