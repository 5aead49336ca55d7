"""Digests of files, as the digest scripts say them.

In goes the output of :func:`~kubectl_podcp.remote.scripts.digests_of_staged` or
:func:`~kubectl_podcp.remote.scripts.digests_of_named`, in pieces of any cut; out come names and
digests. No I/O, raises nothing: a record that is not whole says nothing, and its file is missed.
What is held is the record that is coming, and of one for many files the line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

LONGEST = 64 * 1024
"""Bytes of a record of one file, whose name has some 4,096; what is longer is none of ours."""

_RECORD = re.compile(rb"([0-9a-f]{64}) [ *]\./(.+)", re.DOTALL)
_MANY = b"many\n"
_END = re.compile(rb"end (\d{1,3})\n")


class Digests:
    """Reads one script's output.

    :ivar code: the exit code of what looked for the files; None until the end has come.
    """

    code: int | None

    def __init__(self, nonce: str) -> None:
        self.code = None
        self._mark = nonce.encode("ascii") + b" "
        self._rest = b""

    @property
    def is_none(self) -> bool:
        """Whether what came last is longer than anything that a digest script says."""
        return len(self._rest) > LONGEST

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Take the next piece; yield each name, relative to the tree's parent, and its digest."""
        *records, self._rest = (self._rest + data).split(self._mark)
        for record in records:
            yield from _read(record)
        if self._rest.startswith(_MANY):
            whole, _, line = self._rest.rpartition(b"\n")
            self._rest = _MANY + line
            yield from _read(whole)
        if end := _END.fullmatch(self._rest):
            self.code = int(end[1])


def _read(record: bytes) -> Iterator[tuple[bytes, bytes]]:
    many = record.startswith(_MANY)
    for line in record.split(b"\n") if many else (record.removesuffix(b"\n"),):
        if match := _RECORD.fullmatch(line):
            yield match[2], bytes.fromhex(match[1].decode("ascii"))
