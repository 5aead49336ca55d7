"""What was copied: counted while it passes, reported at the end.

No I/O. :class:`Tally` is written by the relay's source reader and read by the progress bar's
thread: each field is set by one thread alone, and a reader that sees one a moment before another
shows a figure that is a moment old.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kubectl_podcp.archive.headers import DIRECTORY, Member
from kubectl_podcp.errors import printable

MAX_NOTICES = 20
"""Notices about members that are kept; the others are counted."""


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
    :ivar notices: what a user should know about members that did not go as they were.
    :ivar more_notices: how many such there were that ``notices`` has no room for.
    """

    files: int = 0
    directories: int = 0
    size: int = 0
    relayed: int = 0
    received: int = 0
    sent: int = 0
    total: int | None = None
    notices: list[str] = field(default_factory=list)
    more_notices: int = 0

    def begin_again(self, files: int = 0, size: int = 0) -> None:
        """Begin an attempt, with so many files and bytes there already."""
        self.files, self.directories, self.size, self.relayed = files, 0, size, size
        self.notices.clear()
        self.more_notices = 0

    def add(self, member: Member) -> None:
        """Count a member."""
        if member.type == DIRECTORY:
            self.directories += 1
        else:
            self.files += 1
            self.size += member.size

    def note(self, member: Member, what: str) -> None:
        """Note that a member did not go as it was."""
        if len(self.notices) < MAX_NOTICES:
            self.notices.append(f"{printable(member.name)}: {what}")
        else:
            self.more_notices += 1


@dataclass(frozen=True, slots=True)
class Report:
    """A copy that was proved complete.

    :ivar status: ``partial`` where the source could not read some of what was asked for: what
        was copied is complete, ``stderr`` says what is missing.
    :ivar source: and ``destination``: as asked for.
    :ivar target: physical path at which the copy stands.
    :ivar size: bytes of file contents.
    :ivar seconds: from the first to the last step, probes included.
    :ivar protocols: exec subprotocols of the source's and the destination's session.
    :ivar received: bytes that came from the source, in all attempts.
    :ivar sent: bytes of archives that went to the destination, in all attempts.
    :ivar retries: attempts that failed before.
    :ivar notices: what a user should know, in order.
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
    notices: tuple[str, ...] = ()
    stderr: bytes = b""

    def summary(self) -> str:
        """Return the one line that a user reads at the end."""
        rate = human_size(self.size / self.seconds if self.seconds else 0)
        files = "1 file" if self.files == 1 else f"{self.files:,} files"
        again = {0: "", 1: ", after 1 retry"}.get(self.retries, f", after {self.retries} retries")
        return (
            f"{self.status}: {files}, {human_size(self.size)} in {self.seconds:.1f} s "
            f"({rate}/s, at {printable(self.target)}{again})"
        )


def human_size(size: float) -> str:
    """Return ``size`` bytes in binary units: ``13.5 MiB``."""
    if size < 1024:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 1023.95:  # what is more rounds to 1024.0
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"
