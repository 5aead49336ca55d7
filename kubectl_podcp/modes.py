"""What ``--chmod`` asks for, as GNU chmod reads it.

In: words like ``640``, ``u+rwX,go-w``. Out: :class:`Modes`, which say what becomes of permission
bits. No I/O. Raises :class:`~kubectl_podcp.errors.UsageError`. What words mean is what gnulib's
``lib/modechange.c`` makes of them.
"""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass

from kubectl_podcp.errors import UsageError, printable

ALL = 0o7777
SETID = stat.S_ISUID | stat.S_ISGID

_CLASSES = {
    "u": stat.S_ISUID | stat.S_IRWXU,
    "g": stat.S_ISGID | stat.S_IRWXG,
    "o": stat.S_ISVTX | stat.S_IRWXO,
    "a": ALL,
}
_BITS = {"r": 0o444, "w": 0o222, "x": 0o111, "X": 0, "s": SETID, "t": stat.S_ISVTX}
_COPIED = {"u": stat.S_IRWXU, "g": stat.S_IRWXG, "o": stat.S_IRWXO}

_OCTAL = re.compile(r"[0-7]+")
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))*(?:[-+=][0-7]+)?)")
_STEP = re.compile(r"([-+=])([0-7]+|[ugo]|[rwxXst]*)")


@dataclass(frozen=True, slots=True)
class Change:
    """One step.

    :ivar operator: ``+``, ``-`` or ``=``.
    :ivar whom: bits that may change; 0: those that the umask leaves.
    :ivar bits: that are set or taken away.
    :ivar mentioned: what of a directory's setuid and setgid may change: that must be said.
    :ivar copies: ``bits`` is a class whose rights are copied to the others.
    :ivar if_any: to be run or entered, too, where that is a directory, or somebody may already.
    """

    operator: str
    whom: int
    bits: int
    mentioned: int
    copies: bool = False
    if_any: bool = False

    def applied(self, mode: int, *, is_directory: bool, umask: int) -> int:
        """Return the twelve bits that become of ``mode``."""
        omitted = SETID & ~self.mentioned if is_directory else 0
        bits = self.bits
        if self.copies:
            bits &= mode
            bits = sum(each for each in (0o444, 0o222, 0o111) if bits & each)
        if self.if_any and (is_directory or mode & 0o111):
            bits |= 0o111
        bits &= (self.whom or ALL & ~umask) & ~omitted
        if self.operator == "+":
            return mode | bits
        if self.operator == "-":
            return mode & ~bits
        kept = (ALL & ~self.whom if self.whom else 0) | omitted
        return (mode & kept) | bits


@dataclass(frozen=True, slots=True)
class Modes:
    """Steps, in order."""

    changes: tuple[Change, ...]

    def applied(self, mode: int, *, is_directory: bool, umask: int) -> int:
        """Return what becomes of the twelve permission bits ``mode``.

        :param umask: what a step that names nobody leaves alone.
        """
        for change in self.changes:
            mode = change.applied(mode, is_directory=is_directory, umask=umask)
        return mode


def parse(text: str) -> Modes:
    """Return what ``text`` asks for.

    :raises UsageError: it is no mode.
    """
    if _OCTAL.fullmatch(text) and int(text, 8) <= ALL:
        bits = int(text, 8)
        # As many digits say that setuid and setgid of directories are meant, too.
        mentioned = ALL if len(text) > 4 else (bits & SETID) | ALL & ~SETID
        return Modes((Change("=", ALL, bits, mentioned),))
    changes = list[Change]()
    for clause in text.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None or not match[2]:
            raise _refusal(text)
        for operator, what in _STEP.findall(match[2]):
            changes.append(_change(match[1], operator, what, text))
    return Modes(tuple(changes))


def _change(who: str, operator: str, what: str, text: str) -> Change:
    whom = 0
    for letter in who:
        whom |= _CLASSES[letter]
    if what[:1].isdigit():
        bits = int(what, 8)
        if whom or bits > ALL:
            raise _refusal(text)
        return Change(operator, ALL, bits, ALL)
    copies = what in _COPIED
    bits = _COPIED[what] if copies else 0
    if not copies:
        for letter in what:
            bits |= _BITS[letter]
    return Change(operator, whom, bits, whom & bits if whom else bits, copies, "X" in what)


def _refusal(text: str) -> UsageError:
    return UsageError(
        f"'{printable(text)}' for --chmod is no mode",
        advice="write it as for chmod: 640, or u+rwX,go-w",
    )
