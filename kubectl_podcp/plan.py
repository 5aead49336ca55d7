"""What a copy will do: all questions asked and answered before anything is created.

In: a :class:`~kubectl_podcp.request.CopyRequest`. Out: a :class:`Plan`: both ends, what stands at
both paths, and where the copy comes to stand. Raises
:class:`~kubectl_podcp.errors.PodcpError`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from kubectl_podcp import packing, paths
from kubectl_podcp.archive.rewriting import Rewriting
from kubectl_podcp.archive.safety import Policy
from kubectl_podcp.ends import End, LocalEnd, PodEnd
from kubectl_podcp.errors import (
    DestinationRefused,
    Interrupted,
    PodcpError,
    SourceError,
    printable,
)
from kubectl_podcp.fidelity import DEVICES, SETUID, TIMESTAMPS, XATTR_OR_NOTHING
from kubectl_podcp.logs import CHOICES
from kubectl_podcp.overrides import LONGEST
from kubectl_podcp.packing import PLAIN, Packing
from kubectl_podcp.paths import Kind, Path, Placement, PodPath
from kubectl_podcp.remote import circles, listing, probe, scripts
from kubectl_podcp.request import NONE, CopyRequest

if TYPE_CHECKING:  # imported where they are used: they are what start-up takes its time for
    from kubectl_podcp.cluster.kubeconfig import Cluster

log = logging.getLogger(__name__)

FOLLOW_TIMEOUT = 60.0
"""Seconds for looking at all directories of a source whose links are followed."""

PROBE_TIMEOUT = 20.0
"""Seconds for a probe: a few system calls, on a node that may be busy."""

T = TypeVar("T")
U = TypeVar("U")


def _now() -> int:
    return int(time.time())


@dataclass(frozen=True, slots=True)
class Plan:
    """What a copy will do, all questions answered.

    :ivar request: what was asked for, with the Pods' own names.
    :ivar packings: how the archive is compressed on its way from the source, and to the target.
    :ivar holes: whether GNU tar may say where files have holes.
    :ivar beside: the tars of all destinations with which the copy began.
    :ivar staged: the names of the folders in which tries before have unpacked it.
    :ivar began: when it did, in seconds since the epoch: the time of all members where they are not
        to have their own. No destination and no try has another: they get one archive, and what is
        written to stdout cannot be taken back.
    """

    clusters: tuple[Cluster, Cluster]
    request: CopyRequest
    source: End
    target: End
    found: probe.Source
    there: probe.Target
    placement: Placement
    packings: tuple[Packing, Packing] = (PLAIN, PLAIN)
    holes: bool = True
    beside: frozenset[probe.Tar] = frozenset()
    staged: frozenset[bytes] = frozenset()
    began: int = field(default_factory=_now)

    @property
    def notices(self) -> list[str]:
        """What the user should be told about what was chosen."""
        said = [packing.remark for packing in self.packings if packing.remark]
        return [*self.source.notices, *self.target.notices, *said]

    @property
    def stall_timeout(self) -> float | None:
        """Seconds for which nothing may move; None is for ever."""
        return min(self.request.stall_timeout, LONGEST) or None

    @property
    def rewriting(self) -> Rewriting:
        """What becomes of modes, owners and times."""
        request = self.request
        owner = request.chown or (None, None)
        mtime = None if TIMESTAMPS in request.preserve else self.began
        return Rewriting(request.preserve, self.there.umask, request.chmod, owner, mtime)

    @property
    def policy(self) -> Policy:
        """What may be copied; of early times, each attempt says."""
        preserve = self.request.preserve
        return Policy(devices=DEVICES in preserve, setuid=SETUID in preserve)

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


@dataclass(frozen=True, slots=True)
class Asked:
    """What the source answered.

    :ivar path: with the Pod's own name.
    :ivar packing: how the archive is compressed on its way from there.
    :ivar when: in seconds since the epoch, by our clock.
    """

    end: End
    path: Path
    found: probe.Source
    packing: Packing = PLAIN
    when: int = field(default_factory=_now)


def make(clusters: tuple[Cluster, Cluster], request: CopyRequest) -> Plan:
    """Ask both ends, and apply the directory rule.

    :param clusters: the source's and the destination's; one object where they are one.
    """
    (source, source_path), (target, target_path) = both(
        lambda: find(clusters, request, request.source, request.source_container),
        lambda: find(clusters, request, request.destination, request.dest_container),
    )
    asked, there = both(
        lambda: _ask_source(source, source_path, request),
        lambda: look_at_target(target, target_path, source_path.name, request),
    )
    return _decide(clusters, request, asked, target, target_path, there)


def ask(clusters: tuple[Cluster, Cluster], request: CopyRequest) -> Asked:
    """Ask the source alone, once for several destinations."""
    end, path = find(clusters, request, request.source, request.source_container)
    return _ask_source(end, path, request)


def toward(clusters: tuple[Cluster, Cluster], request: CopyRequest, asked: Asked) -> Plan:
    """Ask the destination; return what :func:`make` does, where the source has answered."""
    target, path = find(clusters, request, request.destination, request.dest_container)
    there = look_at_target(target, path, asked.path.name, request)
    return _decide(clusters, request, asked, target, path, there)


def look_at_source(end: End, path: Path, request: CopyRequest) -> probe.Source:
    """Return what stands at ``path``."""
    packers = request.compress != NONE
    script = scripts.probe_source(path.path, follow=request.dereference, packers=packers)
    return probe.source(end.ask(script, PROBE_TIMEOUT), path)


def look_at_target(end: End, path: Path, name: bytes, request: CopyRequest) -> probe.Target:
    """Return what stands at ``path``, where ``name`` is to be."""
    script = scripts.probe_target(path.path, name, unpackers=request.compress != NONE)
    return probe.target(end.ask(script, PROBE_TIMEOUT), path)


def _ask_source(end: End, path: Path, request: CopyRequest) -> Asked:
    found = look_at_source(end, path, request)
    return Asked(end, path, found, packing.of_source(end, path, request, found))


def _decide(
    clusters: tuple[Cluster, Cluster],
    request: CopyRequest,
    asked: Asked,
    target: End,
    path: Path,
    there: probe.Target,
) -> Plan:
    """Apply the directory rule to what both ends answered."""
    source, found = asked.end, asked.found
    request = replace(request, source=asked.path, destination=path)
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
    check_made(request, found)
    check_verify(request, there)
    check_xattrs(request, found, there)
    if source.is_same(target):
        _check_not_into_itself(found, placement)
    if request.dereference:
        same = placement.directory if source.is_same(target) else b""
        check_links(source, request.source, found, same)
    packings = asked.packing, packing.of_target(target, path, request, there, asked.packing)
    plan = Plan(
        clusters, request, source, target, found, there, placement, packings, began=asked.when
    )
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


def check_made(request: CopyRequest, found: probe.Source) -> None:
    """Refuse a tree with something wanted in it that the kernel makes as it is read."""
    for place in found.made:
        top, *parts = place[len(paths.join(found.facts.directory, b"")) :].split(b"/")
        names = (b"/".join((top, *parts[:depth])) for depth in range(1, len(parts) + 1))
        if all(request.selection.wants(name, is_directory=True) for name in names):
            raise SourceError(
                f"{printable(place)} is in it, where the kernel makes files as they are read: tar "
                "goes by their sizes, which say nothing of their contents",
                advice=f"leave it out: --exclude '/{printable(b'/'.join(parts))}'",
            )


def check_verify(request: CopyRequest, there: probe.Target) -> None:
    """Refuse to verify where that cannot be done."""
    if request.verify and not there.sha256:
        raise DestinationRefused(
            f"there is no sha256sum, and no openssl, {request.destination.where}",
            advice="without --verify, a copy needs neither",
        )


def check_xattrs(request: CopyRequest, found: probe.Source, there: probe.Target) -> None:
    """Refuse to keep extended attributes where that was asked for by name and cannot be done."""
    if XATTR_OR_NOTHING not in request.preserve:
        return
    said, advice = "knows no extended attributes", "leave xattr out of --preserve, or put GNU tar"
    if found.tar not in probe.PAX_TARS:
        where = request.source.where
        raise SourceError(f"the tar {where} {said}", advice=f"{advice} {where}")
    if there.tar not in probe.PAX_TARS:
        where = request.destination.where
        raise DestinationRefused(f"the tar {where} {said}", advice=f"{advice} {where}")


def check_links(source: End, path: Path, found: probe.Source, target: bytes = b"") -> None:
    """Refuse to follow links that lead in circles, or to where the copy comes to stand.

    :param target: that directory, where both ends have one file system.
    """
    if found.facts.kind is not Kind.DIRECTORY:
        return
    nonce = os.urandom(16).hex()
    script = scripts.list_followed(found.facts, nonce, target)
    said = source.ask(script, FOLLOW_TIMEOUT, listing.LIMIT)
    name = circles.circle(said, nonce)
    if name is not None:
        raise SourceError(
            f"'{printable(name)}' in {path} leads back to a directory above it: with "
            "--dereference there would be no end of it",
            advice="leave out --dereference, or copy what is beside that link piece by piece",
        )
    name = circles.holds_target(said, nonce)
    if name is not None:
        raise DestinationRefused(
            f"'{printable(name)}' in {path} is where the copy would come to stand",
            advice="copy to a directory that no link of the source leads to",
        )


def renewed(plan: Plan) -> Plan:
    """Return the plan for another try: the same one, unless a container is another by now.

    One that was restarted, or whose Pod was made anew, has lost what was staged in it, and other
    files may be there. As long as the destination's is the same, its target is too: a copy that
    was put in place, unbeknown to us, must not move the next one into itself.
    """
    source, target = both(plan.source.current, plan.target.current)
    if target != plan.target:
        made = make(plan.clusters, plan.request)
        return replace(made, began=plan.began, staged=plan.staged)
    if source != plan.source:
        asked = _ask_source(source, plan.request.source, plan.request)
        check_xattrs(plan.request, asked.found, plan.there)
        packings = asked.packing, plan.packings[1]
        return replace(plan, source=source, found=asked.found, packings=packings)
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


def at_once(works: Sequence[Callable[[], T]]) -> list[T | PodcpError]:
    """Do all at once, each within its own deadline; return what each returned, or its error.

    A signal does not wait for the threads: they end by their deadlines.
    """
    ended: queue.SimpleQueue[tuple[int, T | BaseException]] = queue.SimpleQueue()

    def run(number: int, work: Callable[[], T]) -> None:
        try:
            ended.put((number, work()))
        except BaseException as error:
            ended.put((number, error))

    for each in enumerate(works):
        threading.Thread(target=run, args=each, daemon=True).start()
    results = dict[int, T | PodcpError]()
    for _ in works:
        number, result = ended.get()
        if isinstance(result, BaseException) and not isinstance(result, PodcpError):
            raise result
        results[number] = result
    return [results[number] for number in range(len(works))]


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
