"""What a copy will do: all questions asked and answered before anything is created.

In: a :class:`~kubectl_podcp.request.CopyRequest`. Out: a :class:`Plan`: both ends, what stands at
both paths, and where the copy comes to stand. Raises
:class:`~kubectl_podcp.errors.PodcpError`.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from kubectl_podcp import paths
from kubectl_podcp.ends import End, LocalEnd, PodEnd
from kubectl_podcp.errors import (
    DestinationRefused,
    Interrupted,
    PodcpError,
    SourceError,
    printable,
)
from kubectl_podcp.logs import CHOICES
from kubectl_podcp.paths import Kind, Path, Placement, PodPath
from kubectl_podcp.remote import probe, scripts
from kubectl_podcp.request import CopyRequest

if TYPE_CHECKING:  # imported where they are used: they are what start-up takes its time for
    from kubectl_podcp.cluster.kubeconfig import Cluster

log = logging.getLogger(__name__)

PROBE_TIMEOUT = 20.0
"""Seconds for a probe: a few system calls, on a node that may be busy."""

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a copy will do, all questions answered.

    :ivar request: what was asked for, with the Pods' own names.
    """

    clusters: tuple[Cluster, Cluster]
    request: CopyRequest
    source: End
    target: End
    found: probe.Source
    there: probe.Target
    placement: Placement

    @property
    def stall_timeout(self) -> float | None:
        """Seconds for which nothing may move; None is for ever."""
        return self.request.stall_timeout or None

    @property
    def existing(self) -> Kind:
        """What stands where the copy will, a link not followed."""
        if self.placement.merge:
            return Kind.DIRECTORY
        there = self.there.facts
        return there.inner if there.kind is Kind.DIRECTORY else there.kind

    @property
    def key(self) -> str:
        """16 hexadecimal digits that stand for this target and for no other.

        Staging folders begin with them, so that a later copy to the same target knows what
        earlier ones have left.
        """
        placement = self.placement
        what = (placement.directory, placement.name, self.found.facts.top)
        return hashlib.sha256(b"\0".join((self.target.identity, *what))).hexdigest()[:16]


def make(clusters: tuple[Cluster, Cluster], request: CopyRequest) -> Plan:
    """Ask both ends, and apply the directory rule.

    :param clusters: the source's and the destination's; one object where they are one.
    """
    (source, source_path), (target, target_path) = both(
        lambda: find(clusters, request, request.source, request.source_container),
        lambda: find(clusters, request, request.destination, request.dest_container),
    )
    request = replace(request, source=source_path, destination=target_path)
    ask_source = scripts.probe_source(request.source.path)
    ask_target = scripts.probe_target(request.destination.path, request.source.name)
    said, answered = both(
        lambda: source.run(ask_source, PROBE_TIMEOUT),
        lambda: target.run(ask_target, PROBE_TIMEOUT),
    )
    found = probe.source(said, request.source)
    there = probe.target(answered, request.destination)
    placement = paths.place(
        request.source,
        found.facts,
        request.destination,
        there.facts,
        no_target_directory=request.no_target_directory,
        must_exist=request.into,
    )
    if request.files_from is not None and found.facts.kind is not Kind.DIRECTORY:
        raise SourceError(
            f"{request.source} is not a directory, and --files-from names what is in one",
            advice="a link to a directory is followed where a slash ends it",
        )
    check_verify(request, there)
    if source.is_same(target):
        _check_not_into_itself(found, placement)
    plan = Plan(clusters, request, source, target, found, there, placement)
    _log(plan)
    return plan


def find(
    clusters: tuple[Cluster, Cluster], request: CopyRequest, path: Path, container: str | None
) -> tuple[End, Path]:
    """Return the end that ``path``, one of the request's two, is at, and the path there."""
    if not isinstance(path, PodPath):
        return LocalEnd(), path
    from kubectl_podcp.cluster import pods

    cluster = clusters[0 if path is request.source else 1]
    namespace = path.namespace or request.namespace
    container = container or request.container
    try:
        pod = pods.resolve(cluster, namespace, path.pod, container, path.resource)
    except PodcpError as error:
        if clusters[0] is not clusters[1] and cluster.context:
            error.happened += f' (context "{cluster.context}")'
        raise
    taken = path.owner if path.kind else None
    return PodEnd(cluster, pod, taken), path.in_pod(pod.name)


def check_verify(request: CopyRequest, there: probe.Target) -> None:
    """Refuse to verify where that cannot be done."""
    if request.verify and not there.sha256:
        raise DestinationRefused(
            f"there is no sha256sum, and no openssl, {request.destination.where}",
            advice="without --verify, a copy needs neither",
        )


def renewed(plan: Plan) -> Plan:
    """Return the plan for another try: the same one, unless a container is another by now.

    One that was restarted, or whose Pod was made anew, has lost what was staged in it, and other
    files may be there. As long as the destination's is the same, its target is too: a copy that
    was put in place, unbeknown to us, must not move the next one into itself.
    """
    source, target = both(plan.source.current, plan.target.current)
    if target != plan.target:
        return make(plan.clusters, plan.request)
    if source != plan.source:
        said = source.run(scripts.probe_source(plan.request.source.path), PROBE_TIMEOUT)
        return replace(plan, source=source, found=probe.source(said, plan.request.source))
    return plan


def _log(plan: Plan) -> None:
    here, there = plan.found.facts, plan.there.facts
    stands, comes = paths.join(here.directory, here.top), plan.placement.path
    said = "source: %s, tar: %s; %s is there: %s"
    told = (plan.source, plan.found.tar.value, printable(stands), here.kind.value)
    log.log(CHOICES, said, *told)
    said = "destination: %s, tar: %s; comes to stand at %s, the path given is: %s"
    told = (plan.target, plan.there.tar.value, printable(comes), there.kind.value)
    log.log(CHOICES, said, *told)


def both(first: Callable[[], T], second: Callable[[], U]) -> tuple[T, U]:
    """Do both at once, each within its own deadline; the first one's error wins.

    A signal does not wait for the thread: that ends by its deadline, without effect.
    """
    result: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            result.append(first())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        other = second()
    except Interrupted:
        raise
    except PodcpError:
        thread.join()
        if errors:
            raise errors[0] from None
        raise
    thread.join()
    if errors:
        raise errors[0]
    return result[0], other


def _check_not_into_itself(found: probe.Source, placement: Placement) -> None:
    source = paths.join(found.facts.directory, found.facts.top)
    if placement.path == source:
        raise DestinationRefused(
            f"{printable(source)} is already there: source and target are one",
            advice="copy to another name or directory",
        )
    if (placement.directory + b"/").startswith(source + b"/"):
        raise DestinationRefused(
            f"cannot copy {printable(source)} into itself, {printable(placement.path)}",
            advice="copy to a directory that is not in it",
        )
