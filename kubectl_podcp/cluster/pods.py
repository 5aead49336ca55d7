"""Which Pod, and which of its containers: asked and settled before any session is opened.

In: a cluster and the names as the user gave them. Out: a :class:`Pod`, whose container runs.
Raises :class:`~kubectl_podcp.errors.PodNotFound`, :class:`~kubectl_podcp.errors.PodNotRunning`,
:class:`~kubectl_podcp.errors.ContainerNotFound`, and what :mod:`kubectl_podcp.cluster.api`
raises. Any thread.

Containers are chosen as kubectl chooses them: k8s.io/kubectl ``pkg/cmd/util/podcmd/podcmd.go``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kubectl_podcp.cluster import objects, workloads
from kubectl_podcp.cluster.access import Cluster
from kubectl_podcp.cluster.objects import CONTAINERS, DEFAULT_CONTAINER, STATUSES, section
from kubectl_podcp.errors import ContainerNotFound, PodNotRunning, printable
from kubectl_podcp.logs import CHOICES

log = logging.getLogger(__name__)

_KINDS = dict(zip(CONTAINERS, ("", " (ephem)", " (init)"), strict=True))
"""The fields of a Pod's spec that hold containers, in the order and words of kubectl's lists."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A running container of a Pod.

    :param container_id: the runtime's, ``containerd://…``: it changes when the container is
        restarted. Empty where the server does not tell.
    :param notice: what the user should be told about the choice, or ``None``.
    """

    namespace: str
    name: str
    container: str
    container_id: str
    notice: str | None = None


def resolve(
    cluster: Cluster,
    namespace: str | None,
    name: str,
    container: str | None,
    resource: str = "pods",
) -> Pod:
    """Return the Pod and its container, checked to be running.

    :param namespace: ``None`` for the context's.
    :param name: the Pod's; or that of a ``resource`` of which a ready Pod is to be taken.
    :param container: ``None`` for the default one.
    :raises PodNotFound: says whether it is the namespace that is missing.
    :raises PodNotRunning: names the phase, or the state of the container and its reason.
    :raises ContainerNotFound: lists the containers that there are.
    """
    namespace = namespace or cluster.namespace
    if resource == "pods":
        document, pod = objects.read(cluster, namespace, resource, name), name
    else:
        document = workloads.ready_pod(cluster, namespace, resource, name)
        pod = str(section(document, "metadata")["name"])
    phase = section(document, "status").get("phase", "Unknown")
    if phase in ("Succeeded", "Failed"):
        raise PodNotRunning(
            f'Pod "{pod}" in namespace "{namespace}": cannot exec into a container in a completed '
            f"pod; current phase is {phase}",
            advice="Nothing runs in it any more that could read or write its files.",
        )
    chosen, notice = _choose(document, pod, container)
    container_id = _running(document, namespace, pod, chosen, phase)
    log.log(CHOICES, "Pod %s/%s: container %s", namespace, pod, printable(chosen))
    return Pod(namespace, pod, chosen, container_id, notice)


# --- the container -------------------------------------------------------------------------


def _choose(pod: Mapping[str, Any], name: str, wanted: str | None) -> tuple[str, str | None]:
    """Return the container's name and the notice that goes with it."""
    listed = list(_containers(pod))
    names = [container for container, _ in listed]
    out_of = ", ".join(f"{container}{kind}" for container, kind in listed)
    annotated = section(section(pod, "metadata"), "annotations").get(DEFAULT_CONTAINER)
    if wanted or annotated:
        chosen = str(wanted or annotated)
        if chosen in names:
            return chosen, None
        # Older kubectls take the first container where the annotation is wrong, newer ones fail: a
        # copy into a container that its author did not mean is worse than a question.
        why = "" if wanted else f", which the annotation {DEFAULT_CONTAINER} names"
        raise ContainerNotFound(
            f'Pod "{name}" has no container "{chosen}"{why}',
            advice=f"Choose one with -c out of: {out_of}",
        )
    if not names:
        raise ContainerNotFound(
            f'Pod "{name}" has no containers', advice="`kubectl describe pod` tells more."
        )
    if len(names) == 1:
        return names[0], None
    return names[0], f'Defaulted container "{names[0]}" out of: {out_of}'


def _containers(pod: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    spec = section(pod, "spec")
    for field, kind in _KINDS.items():
        for container in spec.get(field) or []:
            yield container["name"], kind


def _running(
    document: Mapping[str, Any], namespace: str, pod: str, container: str, phase: str
) -> str:
    """Return the id of a running container.

    The container's state decides, not the phase: a Pod that is Pending may have an init
    container that runs.

    :raises PodNotRunning: it does not run.
    """
    status = section(document, "status")
    entries = (entry for field in STATUSES for entry in status.get(field) or [])
    entry = next((entry for entry in entries if entry.get("name") == container), None)
    if entry is None:
        if phase == "Running":
            return ""  # a kubelet that is not one, or a container this moment begun
        raise PodNotRunning(
            f'Pod "{pod}" in namespace "{namespace}" is not running: its phase is {phase}'
            f"{_unscheduled(status)}",
            advice=_describe(namespace, pod),
        )
    state = section(entry, "state")
    if "running" in state:
        return str(entry.get("containerID") or "")
    raise PodNotRunning(
        f'container "{container}" of Pod "{pod}" in namespace "{namespace}" is not running: it is '
        f"{_stopped(state)}; the Pod's phase is {phase}",
        advice=_describe(namespace, pod),
    )


def _stopped(state: Mapping[str, Any]) -> str:
    """Return what a container does that does not run, as the server says it."""
    if "terminated" in state:
        ended = section(state, "terminated")
        code = f"exit code {ended.get('exitCode', 'unknown')}"
        return f"terminated ({', '.join(filter(None, (ended.get('reason'), code)))})"
    waiting = section(state, "waiting")
    told = ": ".join(filter(None, (waiting.get("reason"), waiting.get("message"))))
    return f"waiting ({told})" if told else "waiting"


def _unscheduled(status: Mapping[str, Any]) -> str:
    """Return why no node has taken the Pod, where that is the reason."""
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            told = (condition.get("reason"), condition.get("message"))
            return f" ({': '.join(filter(None, told))})"
    return ""


def _describe(namespace: str, pod: str) -> str:
    return f"`kubectl describe pod -n {namespace} {pod}` tells more."
