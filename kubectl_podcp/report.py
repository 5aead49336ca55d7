"""What was copied: counted while it passes, reported at the end.

No I/O. :class:`Tally` is written by the relay's source reader and read by the progress bar's
thread: each field is set by one thread alone, and a reader that sees one a moment before another
shows a figure that is a moment old.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from kubectl_podcp.archive.headers import DIRECTORY, Member
from kubectl_podcp.errors import PodcpError, printable

MAX_NOTICES = 20
"""Notices about members that are kept; the others are counted."""


COPYING, ALONE, AGAIN = "copying", "copying alone", "to be tried again"
"""States of a :class:`Row` that is not settled; of others, it is the result's status."""

WORKING = (COPYING, ALONE)


class Watcher(Protocol):
    """Who wants to know what passes, and not only how much; see :mod:`kubectl_podcp.items`."""

    def restart(self) -> None:
        """Another copy begins."""

    def begin(self, staged: Iterable[Member]) -> None:
        """An attempt begins, with these files there already."""

    def add(self, member: Member) -> None:
        """A member passes."""


@dataclass(slots=True)
class Tally:
    """What has passed so far.

    :ivar files: members that are no directories.
    :ivar size: bytes of their contents, as the headers say.
    :ivar relayed: bytes of the archive that came from the source, the current member's too, and
        of files that are there already.
    :ivar received: bytes that came from the source, in all attempts.
    :ivar sent: bytes of archives that went to the destination, in all attempts.
    :ivar total: bytes expected where that is known, else None.
    :ivar up_to_date: files that need not be sent, since they are there as they are.
    :ivar kept: files that need not be sent, since others are there that are to stay.
    :ivar spared: files of ``files`` that are not there, since others are that are to stay.
    :ivar backed_up: files that were replaced, and have another name now.
    :ivar notices: what a user should know about members that did not go as they were.
    :ivar more_notices: how many such there were that ``notices`` has no room for.
    :ivar own_notices: what a user should know of this destination alone.
    :ivar verifying: whether all has passed, and is read again at the destination.
    :ivar read_again: files that were.
    :ivar asking: whether the user is being asked something, and nothing may be drawn.
    :ivar watcher: is told each member as it passes.
    :ivar rows: one for each of several destinations.
    """

    files: int = 0
    directories: int = 0
    size: int = 0
    relayed: int = 0
    received: int = 0
    sent: int = 0
    total: int | None = None
    up_to_date: int = 0
    kept: int = 0
    spared: int = 0
    backed_up: int = 0
    notices: list[str] = field(default_factory=list)
    more_notices: int = 0
    own_notices: list[str] = field(default_factory=list)
    verifying: bool = False
    read_again: int = 0
    asking: bool = False
    watcher: Watcher | None = None
    rows: list[Row] = field(default_factory=list)

    @property
    def passed(self) -> int:
        """Bytes of ``total`` that came, where that is known; an archive is more than its file."""
        return min(self.relayed, self.total) if self.total else self.relayed

    def begin(self) -> None:
        """Begin another copy."""
        self.received = self.sent = 0
        self.total = None
        if self.watcher is not None:
            self.watcher.restart()
        self.begin_again()

    def begin_again(
        self, files: int = 0, size: int = 0, up_to_date: int = 0, kept: int = 0
    ) -> None:
        """Begin an attempt, with so many files and bytes staged, and files up to date or kept."""
        self.files, self.directories, self.size, self.relayed = files, 0, size, size
        self.up_to_date, self.kept = up_to_date, kept
        self.spared = self.backed_up = 0
        self.verifying, self.read_again = False, 0
        self.notices.clear()
        self.own_notices.clear()
        self.more_notices = 0

    def adopt(self, other: Tally) -> None:
        """Take over what has passed for several destinations at once."""
        self.files, self.directories, self.size = other.files, other.directories, other.size
        self.relayed, self.received, self.total = other.relayed, other.received, other.total
        self.up_to_date = other.up_to_date
        self.notices, self.more_notices = [*other.notices], other.more_notices

    def add(self, member: Member) -> None:
        """Count a member."""
        if member.type == DIRECTORY:
            self.directories += 1
        else:
            self.files += 1
            self.size += member.size

    def all_notices(self) -> list[str]:
        """Return the notices, how many more there were, and those of this destination."""
        more = [f"and {self.more_notices:,} more"] if self.more_notices else []
        return [*self.notices, *more, *self.own_notices]

    def note(self, member: Member, what: str) -> None:
        """Note that a member did not go as it was."""
        if len(self.notices) < MAX_NOTICES:
            self.notices.append(f"{printable(member.name)}: {what}")
        else:
            self.more_notices += 1


@dataclass(slots=True)
class Row:
    """How far the copy to one of several destinations is; any thread may read it.

    :ivar name: the destination, as asked for.
    :ivar tally: its own.
    :ivar passed: says how many bytes of the archive went there; None while it is copied to alone,
        which its tally says.
    :ivar state: ``copying``, or what has become of it.
    """

    name: str
    tally: Tally
    passed: Callable[[], int] | None = None
    state: str = COPYING

    @property
    def sent(self) -> int:
        """Bytes that went there."""
        return self.tally.passed if self.passed is None else self.passed()

    def text(self) -> str:
        """Return what the bar says of it."""
        state = "verifying" if self.tally.verifying and self.state in WORKING else self.state
        return f"{printable(self.name)}  {human_size(self.sent)}  {state}"


@dataclass(frozen=True, slots=True)
class Report:
    """A copy that was proved complete.

    :ivar status: ``partial`` where the source could not read some of what was asked for, or where
        it changed meanwhile: what else was copied is complete, ``stderr`` says what it is.
    :ivar source: and ``destination``: as asked for, but of a Pod that was taken its own name.
    :ivar target: physical path at which the copy stands.
    :ivar size: bytes of file contents that passed.
    :ivar seconds: from the first to the last step, probes included.
    :ivar protocols: exec subprotocols of the source's and the destination's session; empty where
        nothing had to be sent.
    :ivar received: bytes that came from the source, in all attempts.
    :ivar sent: bytes of archives that went to the destination, in all attempts.
    :ivar retries: attempts that failed before.
    :ivar up_to_date: files that were not sent, since they were there as they are.
    :ivar kept: files that were not copied, since others are there that were to stay.
    :ivar backed_up: files that were replaced, and are there under another name.
    :ivar notices: what a user should know, in order.
    :ivar verified: whether the contents of every file but those up to date were read again at the
        destination, and were what had passed.
    :ivar owner: what stands in front of ``target`` in words, where there are several destinations.
    """

    status: Literal["complete", "partial"]
    source: str
    destination: str
    target: bytes
    files: int
    directories: int
    size: int
    seconds: float
    protocols: tuple[str, str]
    received: int = 0
    sent: int = 0
    retries: int = 0
    up_to_date: int = 0
    kept: int = 0
    backed_up: int = 0
    notices: tuple[str, ...] = ()
    stderr: bytes = b""
    verified: bool = False
    owner: str = ""

    def summary(self) -> str:
        """Return the one line that a user reads at the end."""
        rate = human_size(self.size / self.seconds if self.seconds else 0)
        files = count_files(self.files)
        again = {0: "", 1: ", after 1 retry"}.get(self.retries, f", after {self.retries} retries")
        current = f", {self.up_to_date:,} up to date" if self.up_to_date else ""
        current += f", {self.kept:,} kept" if self.kept else ""
        current += f", {self.backed_up:,} backed up" if self.backed_up else ""
        verified = ", sha256 verified" if self.verified else ""
        return (
            f"{self.status}: {files}, {human_size(self.size)} in {self.seconds:.1f} s "
            f"({rate}/s, at {self.owner}{printable(self.target)}{again}{current}{verified})"
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """One of several copies, which failed.

    :ivar source: and ``destination``: likewise; as asked for where none was taken yet.
    :ivar name: which of the copies it is, where the source does not tell: there are several
        destinations.
    """

    source: str
    destination: str
    error: PodcpError
    name: str = ""

    @property
    def status(self) -> str:
        """Return it in a word."""
        return "failed"

    def message(self) -> str:
        """Return what a user reads; it begins with which of the copies it was, where the error's
        own words do not name that."""
        said = str(self.error)
        if self.name:
            named = self.name in self.error.happened
            return said if named else f"{printable(self.name)}: {said}"
        return said if self.source in said else f"{self.source}: {said}"


Result = Report | Failure
"""How one copy of several ended."""


def total(results: Sequence[Result], seconds: float) -> str:
    """Return the last line of a run of several copies."""
    made = [each for each in results if isinstance(each, Report)]
    whole = sum(each.status == "complete" for each in made)
    if whole == len(results):
        status, copies = "complete", f"{whole:,} copies"
    else:
        status = "partial" if made else "failed"
        copies = f"{whole:,} of {len(results):,} copies complete"
    failed = [each.name for each in results if isinstance(each, Failure) and each.name]
    files, size = sum(each.files for each in made), sum(each.size for each in made)
    counts = {
        "up to date": sum(each.up_to_date for each in made),
        "kept": sum(each.kept for each in made),
        "backed up": sum(each.backed_up for each in made),
    }
    more = [f", {count:,} {what}" for what, count in counts.items() if count]
    return (
        f"{status}: {copies}, {count_files(files)}, {human_size(size)} in {seconds:.1f} s "
        f"({human_size(size / seconds if seconds else 0)}/s"
        f"{''.join(more)})"
        f"{'; failed: ' if failed else ''}{printable(', '.join(failed))}"
    )


def count_files(files: int) -> str:
    """Return how many files there are, in words."""
    return "1 file" if files == 1 else f"{files:,} files"


def human_size(size: float) -> str:
    """Return ``size`` bytes in binary units: ``13.5 MiB``."""
    if size < 1024:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1023.95:  # what is more rounds to 1024.0
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"
