"""A copy from stdin or to stdout: what of the plan and of a try is different.

In: a request of which one end is a stream. Out: its plan, and the class of its tries. Raises
:class:`~kubectl_podcp.errors.PodcpError`.

To stdout goes a file's contents, or the archive of a directory as the follower gives it. From stdin
comes an archive where the destination is a directory, else one file.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from kubectl_podcp import packing, paths
from kubectl_podcp import plan as plans
from kubectl_podcp.archive.contents import Contents, Raw
from kubectl_podcp.archive.follower import CutArchive, Follower, MalformedArchive
from kubectl_podcp.archive.headers import end_of_archive
from kubectl_podcp.archive.wrapping import Wrapping
from kubectl_podcp.attempt import Attempt, Delivered, Reader
from kubectl_podcp.errors import IncompleteArchive, SourceError, SourceFailed, UsageError
from kubectl_podcp.exec.channels import Protocol
from kubectl_podcp.fidelity import FRACTIONS, XATTR
from kubectl_podcp.packing import PLAIN
from kubectl_podcp.paths import Kind, Placement, SourceFacts, StreamPath, TargetFacts
from kubectl_podcp.plan import PROBE_TIMEOUT, Plan
from kubectl_podcp.relay import Filter
from kubectl_podcp.remote import probe, scripts
from kubectl_podcp.remote.feed import BareFeed, Feed
from kubectl_podcp.request import CopyRequest
from kubectl_podcp.sink import NOT_PLACED, PLACING, Ending
from kubectl_podcp.standard import Stdin, Stdout

if TYPE_CHECKING:
    from kubectl_podcp.cluster.kubeconfig import Cluster
    from kubectl_podcp.ends import Session

TOP = b"-"
"""The name under which what comes on stdin is staged, and by which it is spoken of."""

_NOWHERE = TargetFacts(b"", b"", Kind.MISSING, Kind.MISSING, writable=True)
_OUTPUT = probe.Target(_NOWHERE, probe.Tar.UNKNOWN, fullblock=False)


def make(clusters: tuple[Cluster, Cluster], request: CopyRequest) -> Plan:
    """Ask the end that is a container; see :func:`kubectl_podcp.plan.make`."""
    to_stdout = isinstance(request.destination, StreamPath)
    return (_to_stdout if to_stdout else _from_stdin)(clusters, request)


def attempt(plan: Plan) -> type[Attempt]:
    """Return what a try of ``plan`` is."""
    if isinstance(plan.target, Stdout):
        return Archiving if plan.found.facts.kind is Kind.DIRECTORY else Writing
    if isinstance(plan.source, Stdin):
        return Unpacking if plan.found.facts.kind is Kind.DIRECTORY else Filling
    return Attempt


def _to_stdout(clusters: tuple[Cluster, Cluster], request: CopyRequest) -> Plan:
    target = Stdout.ours()
    end, path = plans.find(clusters, request, request.source, request.source_container)
    as_it_is = replace(request, dereference=False)
    found = plans.look_at_source(end, path, as_it_is)
    if found.facts.kind is Kind.LINK:  # it is nothing by itself that could be written
        path = replace(path, path=end.ask(scripts.resolve(path.path), PROBE_TIMEOUT)[:-1])
        found = plans.look_at_source(end, path, as_it_is)
    if found.facts.kind not in (Kind.FILE, Kind.DIRECTORY):
        raise SourceError(
            f"{request.source} is neither a file nor a directory",
            advice="name a file, or a directory for a tar archive of it",
        )
    plans.check_made(request, found)
    _check_contents(request, found.facts.kind)
    if request.dereference:
        plans.check_links(end, path, found)
    request = replace(request, source=path)
    packings = packing.of_source(end, path, request, found), PLAIN
    return Plan(clusters, request, end, target, found, _OUTPUT, Placement(TOP, b""), packings)


def _from_stdin(clusters: tuple[Cluster, Cluster], request: CopyRequest) -> Plan:
    source = Stdin.ours()
    end, path = plans.find(clusters, request, request.destination, request.dest_container)
    there = plans.look_at_target(end, path, TOP, request)
    kind = Kind.FILE
    if there.facts.kind is Kind.DIRECTORY or path.has_trailing_slash:
        kind = Kind.DIRECTORY
        if sys.stdin.isatty():
            raise UsageError(
                f"{request.destination} is a directory, which takes a tar archive, and standard "
                "input is a terminal",
                advice="pipe what tar writes into it",
            )
    _check_contents(request, kind)
    # Its tar has said all that it had to say, like GNU's: it is not asked what changed.
    found = probe.Source(SourceFacts(b"", TOP, kind), probe.Tar.GNU)
    plans.check_verify(request, there)
    placement = paths.place(request.source, found.facts, path, there.facts)
    request = replace(request, destination=path, retries=0)
    packings = PLAIN, packing.of_target(end, path, request, there, PLAIN)
    return Plan(clusters, request, source, end, found, there, placement, packings)


def _check_contents(request: CopyRequest, kind: Kind) -> None:
    """Refuse to change the mode or owner of what is nothing but bytes."""
    for name in ("chown", "chmod"):
        if kind is Kind.FILE and getattr(request, name) is not None:
            raise UsageError(
                f"--{name} is for files, and what passes here is the contents of one",
                advice="leave it out; a file that is replaced gives the new one its mode",
            )


class _Out(Attempt):
    """To stdout."""

    may_be_placed = False
    has_staged = False
    placed = NOT_PLACED

    def _open_destination(self, nonce: str) -> Session:
        assert isinstance(self._plan.target, Stdout)
        session = self._plan.target.outlet(nonce)
        session.stall_timeout = self._plan.stall_timeout
        return session

    def _progress(self) -> bytes:
        return PLACING

    def _feed(self, protocol: Protocol) -> Feed:  # noqa: ARG002
        return BareFeed()


class Archiving(_Out):
    """A directory, as an archive."""

    def _ending(self, nonce: str) -> Ending:  # noqa: ARG002
        return end_of_archive


class Writing(_Out):
    """A file's contents."""

    has_owners = False

    def _filter(self, follower: Reader) -> Filter:
        counted, contents = super()._filter(follower), Contents()
        return lambda data: contents.only(counted(data))

    def _note_times(self, *, kept: bool) -> None:
        """Contents have no time."""

    def _check_xattrs(self, stderr: bytes, *, kept: bool) -> None:
        """Nor have they attributes."""

    def _ending(self, nonce: str) -> Ending:  # noqa: ARG002
        return lambda _sent: b""


class _In(Attempt):
    """From stdin."""

    def _open_inlet(self, ending: bytes) -> Session:
        assert isinstance(self._plan.source, Stdin)
        self._inlet = self._plan.source.inlet(ending)
        return self._inlet

    def _open_destination(self, nonce: str) -> Session:
        session = self._opened(nonce)
        self._inlet.on_idle = session.ping  # or a load balancer would take it for dead
        return session

    def _opened(self, nonce: str) -> Session:
        return super()._open_destination(nonce)


class Unpacking(_In):
    """An archive, whoever made it."""

    def run(self) -> Delivered:
        try:
            return super().run()
        except CutArchive as cut:
            what = f"ends after {cut.total:,} bytes, without the end of a tar archive"
            raise IncompleteArchive(
                f"standard input {what if cut.total else 'is empty'}",
                advice="look at what the command in front of the pipe says",
            ) from cut
        except MalformedArchive as malformed:
            raise SourceFailed(
                "standard input is not a tar archive: "
                f"at byte {malformed.offset:,}, {malformed.why}",
                advice="a directory takes a tar archive that is not compressed; anything else "
                "needs the name of a file that it becomes",
            ) from malformed

    def _open_source(self, nonce: str, names: bytes | None) -> Session:  # noqa: ARG002
        return self._open_inlet(f"\npodcp-{nonce} 0\n".encode())

    def _follower(self, nonce: str) -> Follower:
        wrapping = Wrapping(TOP, int(time.time()))
        return Follower(
            nonce,
            TOP,
            self._policy(),
            hashes=self._hashes(),
            wrapping=wrapping,
            rewriting=self._rewriting,
            fractions=self._keeps(FRACTIONS),
            xattrs=self._keeps(XATTR),
            holes=self._keeps_holes,
        )


class Filling(_In):
    """One file, of any length."""

    is_raw = True

    def _open_source(self, nonce: str, names: bytes | None) -> Session:  # noqa: ARG002
        return self._open_inlet(b"")

    def _follower(self, nonce: str) -> Reader:  # noqa: ARG002
        return Raw(TOP)

    def _note_owner(self, owners: set[tuple[int, int]], *, has_setid: bool) -> None:
        """It has no owner that could be kept."""

    def _note_times(self, *, kept: bool) -> None:
        """It has no time, either."""

    def _check_xattrs(self, stderr: bytes, *, kept: bool) -> None:
        """Nor has it attributes."""

    def _opened(self, nonce: str) -> Session:
        script = scripts.receive_file(self._staging, nonce, unpacker=self._unpacker)
        session = self._plan.target.open(script, Protocol.V5, Protocol.V4)
        session.stall_timeout = self._plan.stall_timeout
        return session

    def _feed(self, protocol: Protocol) -> Feed:
        return self._exact_feed(protocol)

    def _ending(self, nonce: str) -> Ending:
        return lambda sent: scripts.file_end(nonce, sent)
