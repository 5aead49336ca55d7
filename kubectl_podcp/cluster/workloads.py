"""Which Pods are taken, where the user names what has Pods: a Deployment, a Service, labels, …

In: a cluster, a namespace, a resource as RBAC names it, a name; or labels. Out: the document of a
Pod that is ready, or the names of all that are. Raises :class:`~kubectl_podcp.errors.PodNotFound`,
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
from dataclasses import dataclass
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

_ENDED = ("Succeeded", "Failed")
"""Phases of Pods in which nothing will run again."""

_LISTED = 10
"""How many Pods an error lists."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The Pods of a workload, or with some labels, that are ready.

    :ivar names: of those, in order; at least one.
    :ivar others: what each of the others is that has not ended: ``web-3 is Pending``.
    """

    names: tuple[str, ...]
    others: tuple[str, ...]


def ready_pod(cluster: Cluster, namespace: str, resource: str, name: str) -> dict[str, Any]:
    """Return the Pod that has been ready the longest.

    :raises PodNotFound: there is no such workload, or it has no Pods.
    :raises PodNotRunning: it has Pods, but none is ready; says what each of them is.
    """
    return min(_those_ready(*_pods_of(cluster, namespace, resource, name)), key=_rank)


def ready_pods(cluster: Cluster, namespace: str, resource: str, name: str) -> Ready:
    """Return all Pods that are ready; raises as :func:`ready_pod`."""
    return _ready(*_pods_of(cluster, namespace, resource, name))


def labelled_pods(cluster: Cluster, namespace: str, selector: str) -> Ready:
    """Return all Pods that are ready and whose labels ``selector`` matches.

    :param selector: as ``kubectl get -l`` takes it.
    :raises PodNotFound: there is none with these labels.
    :raises PodNotRunning: none of them is ready; says what each of them is.
    """
    pods = objects.pods_with(cluster, namespace, selector)
    labels = f"the labels {selector}"
    if not pods:
        raise PodNotFound(
            f'no Pod in namespace "{namespace}" has {labels}',
            advice=f"`kubectl get pods -n {namespace} --show-labels` lists those that there are.",
        )
    return _ready(pods, f'namespace "{namespace}" with {labels}')


def _pods_of(
    cluster: Cluster, namespace: str, resource: str, name: str
) -> tuple[list[dict[str, Any]], str]:
    """Return a workload's Pods, at least one, and what it is called."""
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
    return pods, called


def _those_ready(pods: list[dict[str, Any]], called: str) -> list[dict[str, Any]]:
    """Return those that are ready.

    :raises PodNotRunning: none is.
    """
    ready = [pod for pod in pods if _state(pod) == "ready"]
    if not ready:
        states = sorted(f"{_name(pod)} is {_state(pod)}" for pod in pods)
        more = [f"and {len(states) - _LISTED} more"] if len(states) > _LISTED else []
        raise PodNotRunning(
            f"no Pod of {called} is ready: {', '.join(states[:_LISTED] + more)}",
            advice="Wait until one is, or name the Pod to be taken as it is.",
        )
    return ready


def _ready(pods: list[dict[str, Any]], called: str) -> Ready:
    names = sorted(map(_name, _those_ready(pods, called)))
    states = ((_name(pod), _state(pod)) for pod in pods)
    others = (
        f"{name} is {state}" for name, state in sorted(states) if state not in ("ready", *_ENDED)
    )
    return Ready(tuple(names), tuple(others))


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
