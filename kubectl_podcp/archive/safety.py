"""What a member of an archive may not do.

In: members as their headers describe them, in the archive's order. Out: the member as it may go
on, or why it is left out. Raises :class:`Refused` for what no destination should unpack.
No I/O. One thread at a time: a :class:`Guard` remembers what the archive made so far.

The source is a container, and what runs there may be hostile; the destination's tar may be any
of four, of which two make hard links to files outside and one writes through symlinks. So all
is decided here, and before a byte of the member is sent on:

- every name is ``top``, or stands under it: no absolute name, no ``.``, ``..`` or empty part;
- nothing is written through a symlink of the archive, nor onto one, nor onto itself;
- nothing comes again as something else, nor once it has a hard link, unless the policy lets it;
- hard links point to what stands under ``top``, and not through a symlink;
- devices are left out, and setuid and setgid are taken off files, unless the policy lets them.

Where a symlink points is not restricted: it is the file's content, and nothing is written there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from kubectl_podcp.archive.headers import DEVICES, DIRECTORY, FIFO, HARD_LINK, SYMLINK, Member
from kubectl_podcp.archive.seen import Seen
from kubectl_podcp.errors import UnsafeMember, printable

MAX_NAME = 8 * 1024
"""The longest name and link target. Linux takes paths of up to 4,096 bytes (PATH_MAX) and
symlinks of as many, macOS 1,024: no destination's tar could make a longer one."""

MAX_REMEMBERED = 128 * 1024 * 1024
"""The memory for names of symlinks: a million of them with names of 50 bytes."""

_SET_ENTRY = 80  # what a short bytes object and its place in a set take beside the text

_SETUID_SETGID = 0o6000
_AT_PARTS = (b".", b"..", b"")

# What a name was, for Seen.
_FILE, _DIRECTORY, _SYMLINK, _OTHER, _LINKED = range(1, 6)
_KINDS = {DIRECTORY: _DIRECTORY, SYMLINK: _SYMLINK, FIFO: _OTHER} | dict.fromkeys(DEVICES, _OTHER)

# libarchive's filter for uuencoded data looks for such a line (uudecode_bidder_bid). Where a folder
# of the destination is unpacked once more, on another mount, bsdtar's archive begins with a name.
_UUENCODED = (b"\nbegin ", b"\nbegin-base64 ")


class Refused(UnsafeMember):
    """A member that is refused; nothing of it was sent on.

    :param name: the member's name, its bytes as they came.
    :param why: completes "… is refused: ".
    """

    def __init__(self, name: bytes, why: str, *, advice: str = "") -> None:
        super().__init__(
            f"the source's archive holds '{printable(name)}', which is refused: {why}",
            advice=advice or "look at what made the archive",
        )
        self.name = name
        self.why = why


@dataclass(frozen=True, slots=True)
class Policy:
    """What a user may allow, or must forbid.

    ``devices``: character and block devices go on. ``setuid``: setuid and setgid of files go on.
    ``early_times``: times before 1970 go on; toybox as the destination stops at them.
    ``linked_symlinks``: hard links to symlinks go on; toybox gives the mode of such a hard link to
    what the symlink leads to. ``repeats``: a name may come again as something else; only GNU tar
    makes of that what the archive says (docs/tars.md).
    """

    devices: bool = False
    setuid: bool = False
    early_times: bool = True
    linked_symlinks: bool = True
    repeats: bool = True

    def lessened(self, member: Member) -> Altered:
        """Return ``member`` without what is forbidden, which may be nothing."""
        why = []
        # A directory's setgid gives nobody any right: it says which group new files are of, and
        # Kubernetes itself sets it on volumes with an fsGroup.
        if member.mode & _SETUID_SETGID and member.type != DIRECTORY and not self.setuid:
            member = replace(member, mode=member.mode & ~_SETUID_SETGID)
            why.append(WITHOUT_SETID)
        if member.mtime < 0 and not self.early_times:
            member = replace(member, mtime=0)
            why.append("with 1970 for its time")
        return Altered(member, tuple(why))


@dataclass(frozen=True, slots=True)
class LeftOut:
    """``member`` does not go on; ``why`` completes a sentence about it."""

    member: Member
    why: str


@dataclass(frozen=True, slots=True)
class Altered:
    """``member`` goes on as it stands here, which is less than its header said.

    :ivar why: each completes a sentence about it.
    """

    member: Member
    why: tuple[str, ...]


WITHOUT_SETID = "without setuid and setgid"
_AGAIN = "Each tar but GNU's makes something else of that: make the archive anew."
OF_ITS_OWN = "as a symbolic link of its own, and not as a hard link to one"


class Guard:
    """The rules, and what the archive made so far.

    :param top: the name under which everything must stand, one part, as the source's tar was told.
    :param nonce: the copy's; names that hold ``.podcp-<nonce>`` are those of the copy itself.
    :param staged: names of folders in which the copy is unpacked: what holds them is the copy, too.
    :raises ValueError: ``top`` is not one part of a name.
    """

    def __init__(
        self, top: bytes, nonce: str, policy: Policy, staged: Collection[bytes] = ()
    ) -> None:
        if top in _AT_PARTS or b"/" in top or b"\0" in top:
            raise ValueError(f"not one part of a name: {top!r}")
        self._top = top
        self._under = top + b"/"
        self._ours = b".podcp-" + nonce.encode()
        self._staged = staged
        self._policy = policy
        self._seen = None if policy.repeats else Seen()
        self._symlinks: dict[bytes, bytes] = {}  # and where they lead
        self._left_out: set[bytes] = set()
        self._room = MAX_REMEMBERED
        self._sound = b""  # the directory that was last found free of symlinks

    def admit(self, member: Member) -> Member | LeftOut | Altered:
        """Return ``member`` as it may go on, its names without a leading ``./``.

        :raises Refused: no destination should unpack it.
        """
        name = self._settled(member.name, member.name)
        if self._symlinks:
            self._check_path(name, member.name)
        if name is not member.name:
            member = replace(member, name=name)
        if member.type == SYMLINK:
            self._check_length(member.linkname, name)
            self._remember_symlink(name, member.linkname)
        elif member.type == HARD_LINK:
            member = self._hard_link(member)
            if member.linkname in self._left_out:
                self._remember_left_out(name)
                return LeftOut(member, "it is a hard link to a device")
        elif member.type in DEVICES and not self._policy.devices:
            self._remember_left_out(name)
            return LeftOut(member, "it is a device")
        if self._seen is not None:
            self._check_kind(self._seen, member)
        lessened = self._lessened(member)
        return lessened if lessened.why else lessened.member

    def _lessened(self, member: Member) -> Altered:
        lessened = self._policy.lessened(member)
        if (
            self._policy.linked_symlinks
            or member.type != HARD_LINK
            or (leads := self._symlinks.get(member.linkname)) is None
        ):
            return lessened
        symlink = replace(lessened.member, type=SYMLINK, linkname=leads)
        return Altered(symlink, (*lessened.why, OF_ITS_OWN))

    def _check_kind(self, seen: Seen, member: Member) -> None:
        """Refuse a name that comes again, unless it is what it was."""
        kind = _KINDS.get(member.type, _FILE)
        if member.type == HARD_LINK:
            if member.linkname in self._symlinks:
                kind = _SYMLINK
            else:
                seen.note(member.linkname, _LINKED)
        before = seen.note(member.name, kind)
        if before == _LINKED:
            raise Refused(member.name, "it comes again, and has a hard link by now", advice=_AGAIN)
        if before not in (0, kind):
            raise Refused(member.name, "it comes again as something else", advice=_AGAIN)
        if seen.is_full:
            raise Refused(
                member.name,
                "the archive has more names than can be told apart",
                advice="Copy the directories below it one by one.",
            )

    def release(self, member: Member) -> None:
        """Let a member that was admitted go on; nobody need ask this for one that stays behind.

        :raises Refused: it stands where the copy is unpacked, and would be copied into itself.
        """
        if b".podcp-" in member.name and any(each in member.name for each in self._staged):
            raise self._is_this_copy(member.name)

    def _is_this_copy(self, name: bytes) -> Refused:
        return Refused(
            name,
            "it is this very copy",
            advice="The destination lies inside the source: choose one outside it.",
        )

    def _settled(self, path: bytes, member: bytes) -> bytes:
        """Return ``path``, a name or a hard link's target, without leading ``./``."""
        self._check_length(path, member)
        while path.startswith(b"./"):
            path = path[2:]
        if not path.startswith(self._under) and path != self._top:
            raise Refused(member, self._complaint(path))
        # The first part is sound: it is `top`. Look closer only where another can be amiss.
        if (b"/." in path or b"//" in path or path.endswith(b"/")) and any(
            part in _AT_PARTS for part in path.split(b"/")
        ):
            raise Refused(member, self._complaint(path))
        if self._ours in path:
            raise self._is_this_copy(member)
        if b"\nbegin" in path and any(each in path for each in _UUENCODED):
            raise Refused(member, "to bsdtar a name of such lines begins a uuencoded file")
        return path

    def _check_length(self, path: bytes, member: bytes) -> None:
        if len(path) > MAX_NAME:
            name = member if len(member) <= MAX_NAME else member[:100] + b"..."
            raise Refused(name, f"a name of {len(path)} bytes is too long")

    def _complaint(self, path: bytes) -> str:
        if path.startswith(b"/"):
            return "a name is absolute"
        if b".." in path.split(b"/"):
            return "a name has the part '..'"
        if path.startswith(self._under):
            return "a name has an empty part, or '.'"
        return f"a name does not stand under '{printable(self._top)}'"

    def _check_path(self, path: bytes, member: bytes) -> None:
        """Refuse a name that is a symlink of this archive, or leads through one."""
        if path in self._symlinks:
            raise Refused(member, "the archive has a symlink of the same name")
        self._check_parents(path, member)

    def _check_parents(self, path: bytes, member: bytes) -> None:
        parent = path.rpartition(b"/")[0]
        if parent == self._sound:
            return
        slash = path.find(b"/")
        while slash >= 0:
            if path[:slash] in self._symlinks:
                raise Refused(member, "it leads through a symlink of the same archive")
            slash = path.find(b"/", slash + 1)
        self._sound = parent

    def _hard_link(self, member: Member) -> Member:
        """Settle a hard link's target; a hard link to a symlink is one more symlink."""
        target = self._settled(member.linkname, member.name)
        if target == member.name:
            raise Refused(member.name, "it is a hard link to itself")
        if self._symlinks:
            self._check_parents(target, member.name)
        if target in self._symlinks:
            self._remember_symlink(member.name, self._symlinks[target])
        return member if target is member.linkname else replace(member, linkname=target)

    def _remember_symlink(self, name: bytes, leads: bytes) -> None:
        leads = b"" if self._policy.linked_symlinks else leads  # nobody asks where
        self._remember(name, len(leads))
        self._symlinks[name] = leads

    def _remember_left_out(self, name: bytes) -> None:
        self._remember(name)
        self._left_out.add(name)

    def _remember(self, name: bytes, more: int = 0) -> None:
        """Take the room for a name, and for so many bytes ``more``."""
        self._room -= len(name) + more + _SET_ENTRY
        if self._room < 0:
            raise Refused(
                name,
                "the archive has more symlinks than can be checked",
                advice="Copy the directories below it one by one.",
            )
        self._sound = b""
