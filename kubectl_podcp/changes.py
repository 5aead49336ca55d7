"""What of a source changed while it was read, where its tar does not say so.

In go the headers of what passed, and what the source's shell says behind its archive: names whose
time is since about when it began. Out come those that are not as their headers were: they were
written to after tar had read their headers. No I/O, raises nothing. Used by the relay's source
reader while an attempt runs, and by the caller after it.

Of the headers only those are kept whose time is not older than the copy itself, so what is held in
memory is what is being written to. The time of a header is in whole seconds: what is written within
one second, and keeps its size, is not seen.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable

from kubectl_podcp.archive.headers import DIRECTORY, HARD_LINK, REGULAR, Member
from kubectl_podcp.errors import printable
from kubectl_podcp.remote.records import Records

MAX_NAMED = 20
"""Names that are kept; the others are counted."""

MOST_HELD = 16 * 1024 * 1024
"""Bytes that headers are kept in, some 65,000 of them: where a source has more files that are being
written to, or a clock that is ahead, what changed is not known."""

EACH = 200
"""Bytes of a header beside its name."""

_RECORD = re.compile(rb"([0-9a-f]{1,8}) (\d{1,20}) (-?\d{1,20}) (?:\./)+(.+)\n", re.DOTALL)


class Changes:
    """One attempt's.

    :param wants: whether a name counts, and whether it is a directory is said too.
    :param since: when the copy began, by the source's clock, in seconds since the epoch.
    :ivar known: whether the source's shell could tell, and told to the end.
    :ivar found: how many names changed.
    """

    def __init__(
        self,
        nonce: str,
        since: int,
        wants: Callable[[bytes, bool], bool] = lambda _name, _is_directory: True,
    ) -> None:
        self.known = False
        self.found = 0
        self._since = since
        self._wants = wants
        self._records = Records(nonce)
        self._passed: dict[bytes, tuple[int, int]] = {}
        self._room = MOST_HELD
        self._lines: list[str] = []

    def note(self, item: object) -> None:
        """Note what the follower gave, if it is a header that may be needed."""
        if not isinstance(item, Member) or self._room <= 0:
            return
        if item.type == HARD_LINK:
            if item.linkname in self._passed:
                self._keep(item.name, self._passed[item.linkname])
        elif item.type in (REGULAR, DIRECTORY) and item.mtime >= self._since:
            self._keep(item.name, (item.size, item.mtime))

    def _keep(self, name: bytes, passed: tuple[int, int]) -> None:
        self._passed[name] = passed
        self._room -= EACH + len(name)

    def hear(self, data: bytes) -> bool:
        """Take the next piece of what the source's shell says; return whether it was the last."""
        for record in self._records.feed(data):
            if match := _RECORD.fullmatch(record):
                self._compare(match[4], int(match[1], 16), (int(match[2]), int(match[3])))
        self.known = self._records.code == 0 and self._room > 0
        return self._records.is_over

    def _compare(self, name: bytes, mode: int, now: tuple[int, int]) -> None:
        is_directory = stat.S_ISDIR(mode)
        if (
            self._room <= 0
            or now[1] < self._since
            or self._passed.get(name) == ((0, now[1]) if is_directory else now)
        ):
            return
        if not self._wants(name, is_directory):
            return
        self.found += 1
        if self.found <= MAX_NAMED:
            what = "names in it came or went" if is_directory else "it changed"
            self._lines.append(f"{printable(name)}: {what} while it was read")

    def lines(self) -> str:
        """Return what a user should know, a line for each name, and one for those left out."""
        more = self.found - len(self._lines)
        return "\n".join([*self._lines, *([f"and {more:,} more changed"] if more else [])])
