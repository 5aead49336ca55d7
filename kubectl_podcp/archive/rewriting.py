"""What of a member's mode, owner and time goes on, where that is not what its header says.

In: members that were admitted, as the source has them. Out: as they come to stand at the
destination. Raises :class:`~kubectl_podcp.errors.SourceError` for a hard link that must become a
file of its own. No I/O; any thread.

Whatever compares the source with what is staged asks here what the source's mode and owner become.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass, replace

from kubectl_podcp.archive.headers import DIRECTORY, HARD_LINK, SYMLINK, Member
from kubectl_podcp.errors import SourceError, printable
from kubectl_podcp.fidelity import KEPT, LINKS, MASKED, MODE, OWNERSHIP, SETUID, Owner, Preserved
from kubectl_podcp.modes import ALL, SETID, Modes

NEW_FILE, NEW_DIRECTORY = 0o666, 0o777
"""Modes of what is new, before the umask."""


@dataclass(frozen=True, slots=True)
class Rewriting:
    """What becomes of all members of a copy.

    :ivar kept: attributes that are kept, as :mod:`kubectl_podcp.fidelity` has them.
    :ivar umask: of whoever unpacks.
    :ivar modes: what then becomes of modes.
    :ivar owner: user and group; None for what stays as it is.
    :ivar mtime: the time of all members; None: each has its own.
    """

    kept: Preserved = KEPT
    umask: int = 0o022
    modes: Modes | None = None
    owner: Owner = (None, None)
    mtime: int | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether every member goes on as it is."""
        return (
            {MODE, OWNERSHIP, LINKS} <= self.kept
            and self.modes is None
            and self.owner == (None, None)
            and self.mtime is None
        )

    def member(self, member: Member) -> Member:
        """Return the member as it goes on.

        :raises SourceError: it is a hard link, and those are not kept.
        """
        if self.is_nothing:
            return member
        if member.type == HARD_LINK and LINKS not in self.kept:
            raise SourceError(
                f"'{printable(member.name)}' is one file with '{printable(member.linkname)}', and "
                "the source's tar cannot send its contents twice",
                advice="leave out --no-preserve=links, or use GNU tar at the source",
            )
        uid, gid = self.owner_of((member.uid, member.gid))
        return replace(
            member,
            mode=self._mode(member.mode, member.type == DIRECTORY, member.type == SYMLINK),
            uid=uid,
            gid=gid,
            mtime=member.mtime if self.mtime is None else self.mtime,
            nanoseconds=member.nanoseconds if self.mtime is None else 0,
        )

    def mode_of(self, mode: int) -> int:
        """Return what becomes of a file's type and mode (``st_mode``)."""
        permissions, is_directory = stat.S_IMODE(mode), stat.S_ISDIR(mode)
        if SETUID not in self.kept and not is_directory:
            permissions &= ~SETID
        return stat.S_IFMT(mode) | self._mode(permissions, is_directory, stat.S_ISLNK(mode))

    def gives_modes_as(self, other: Rewriting) -> bool:
        """Whether both make the same of every mode, though their umasks differ."""
        return self.umask == other.umask or all(
            self._mode(mode, is_directory, False) == other._mode(mode, is_directory, False)
            for mode in range(ALL + 1)
            for is_directory in (False, True)
        )

    def owner_of(self, owner: tuple[int, int]) -> tuple[int, int]:
        """Return what becomes of user and group; root's where whoever unpacks is to own it."""
        if OWNERSHIP not in self.kept:
            return 0, 0
        uid, gid = self.owner
        return owner[0] if uid is None else uid, owner[1] if gid is None else gid

    def _mode(self, mode: int, is_directory: bool, is_symlink: bool) -> int:
        if is_symlink:  # which has none
            return mode
        if MASKED in self.kept:
            mode &= ~(self.umask | SETID)
        elif MODE not in self.kept:
            mode = (NEW_DIRECTORY if is_directory else NEW_FILE) & ~self.umask
        if self.modes is not None:
            mode = self.modes.applied(mode, is_directory=is_directory, umask=self.umask)
        return mode
