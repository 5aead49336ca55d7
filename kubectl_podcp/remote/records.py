"""Records, as a source's shell says them behind its archive.

In goes what it says, in pieces of any cut; out come the records that are whole, each of which the
nonce stands before. No I/O, raises nothing. What is held is the record that is coming.
"""

from __future__ import annotations

import re

LONGEST = 64 * 1024
"""Bytes of a record, whose name has some 4,096; what is longer is nothing that we asked for."""

_END = re.compile(rb"end (\d{1,3})\n")


class Records:
    """Reads one answer.

    :ivar code: the exit code of what looked for the names; None until the end has come.
    """

    code: int | None

    def __init__(self, nonce: str) -> None:
        self.code = None
        self._mark = nonce.encode("ascii") + b" "
        self._rest = b""

    @property
    def is_over(self) -> bool:
        """Whether no more is to be read: the end has come, or what is longer than any record."""
        return self.code is not None or len(self._rest) > LONGEST

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next piece; return the records that it ends, each without the nonce."""
        *records, self._rest = (self._rest + data).split(self._mark)
        if len(self._rest) <= LONGEST and (end := _END.fullmatch(self._rest)):
            self.code = int(end[1])
        return records
