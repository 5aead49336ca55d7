"""What a source has whose owner its tar cannot say, where that says another one in its place.

In goes what the source's shell says behind its archive: names, and who owns them. Out comes the
first one whose owner passed as somebody else's. No I/O, raises nothing. The relay's source reader's
alone. One name is held, and nothing of the others.

A header has seven or eight octal digits for an owner. What does not fit is written in another form
by all tars but busybox', which leaves the first digits off and ends with 0: 16,777,216 becomes 0.
OpenShift gives each namespace users from 1,000,000,000 on.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Callable
from dataclasses import dataclass

from kubectl_podcp.errors import SourceError, printable
from kubectl_podcp.remote.records import Records

HIGHEST = 8**8 - 1
"""The highest user or group that busybox' tar can say."""

_RECORD = re.compile(rb"([0-9a-f]{1,8}) (\d{1,10}):(\d{1,10}) (?:\./)+(.+)\n", re.DOTALL)
_ADVICE = "copy with --no-preserve=ownership or --chown, or use GNU tar at the source"


@dataclass(frozen=True, slots=True)
class Owned:
    """A name, and the numbers of its user and group."""

    name: bytes
    uid: int
    gid: int


class Owners:
    """One attempt's.

    :param given: user and group that all of the copy gets; None for what stays as it is.
    :param passes: whether what has this name, and this type and mode (``st_mode``), is sent.
    :ivar known: whether the source's shell could tell, and told to the end: ``find`` has the top at
        least to speak of, and ends alike where that was all and where it could not ask ``stat``.
    :ivar lost: the first name whose owner passed as somebody else's; None where there is none.
    """

    def __init__(
        self,
        nonce: str,
        given: tuple[int | None, int | None],
        passes: Callable[[bytes, int], bool],
    ) -> None:
        self.known = False
        self.lost: Owned | None = None
        self._given = given
        self._passes = passes
        self._records = Records(nonce)
        self._has_heard = False

    def hear(self, data: bytes) -> bool:
        """Take the next piece of what the source's shell says; return whether it was the last."""
        for record in self._records.feed(data):
            match = _RECORD.fullmatch(record)
            self._has_heard |= match is not None or record == b"\n"
            if match is not None and self.lost is None:
                owned = Owned(match[4], int(match[2]), int(match[3]))
                if self._is_lost(owned) and self._passes(owned.name, int(match[1], 16)):
                    self.lost = owned
        self.known = self._records.code == 0 and self._has_heard
        return self._records.is_over

    def _is_lost(self, owned: Owned) -> bool:
        numbers = zip(self._given, (owned.uid, owned.gid), strict=True)
        return any(given is None and number > HIGHEST for given, number in numbers)

    def error(self) -> SourceError | None:
        """Return why a destination that gives owners must not have the copy; None: it may."""
        if self.lost is not None:
            owned = self.lost
            return SourceError(
                f"'{printable(owned.name)}' belongs to {owned.uid}:{owned.gid}, and the source's "
                f"tar, busybox', says another owner, for it knows none above {HIGHEST:,}",
                advice=_ADVICE,
            )
        if self.known:
            return None
        return SourceError(
            f"the source's tar, busybox', knows no owner above {HIGHEST:,}, and whether there are "
            "any could not be found out",
            advice=f"see whether there are find and stat beside it; or {_ADVICE}",
        )


def is_left_out(mode: int, *, devices: bool) -> bool:
    """Whether what has this type and mode is never sent: a socket, or a device.

    :param devices: whether devices are.
    """
    is_device = stat.S_ISBLK(mode) or stat.S_ISCHR(mode)
    return stat.S_ISSOCK(mode) or (is_device and not devices)
