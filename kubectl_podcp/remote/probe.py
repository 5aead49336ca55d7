"""What a container can do, and what stands at a path in it.

In goes the output of the probe scripts (:mod:`kubectl_podcp.remote.scripts`); out come the facts
that :func:`kubectl_podcp.paths.place` decides by. No I/O: the caller runs the script. Raises
:class:`ExecFailed` where the container lacks what every copy needs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from kubectl_podcp import paths
from kubectl_podcp.errors import (
    DestinationRefused,
    ExecFailed,
    SourceError,
    SourceNotFound,
    printable,
)
from kubectl_podcp.paths import GRAMMAR, Kind, LocalPath, Path, SourceFacts, TargetFacts
from kubectl_podcp.remote.scripts import PACKERS, SHA256, UNPACKERS


class Tar(Enum):
    """Whose ``tar`` it is, told by the first line of ``tar --version``."""

    GNU = "GNU tar"
    BUSYBOX = "busybox"
    BSDTAR = "bsdtar"
    TOYBOX = "toybox"
    UNKNOWN = "unknown"


PAX_TARS = frozenset({Tar.GNU, Tar.BSDTAR})
"""Which tars write and restore what only pax carries, fractions of times and extended attributes;
and the holes of files."""


@dataclass(frozen=True, slots=True)
class Source:
    """A source as it was found.

    :ivar sha256: command that takes SHA-256, of :data:`scripts.SHA256`; empty where there is none.
    :ivar now: its time, in seconds since the epoch; 0 where it is not known.
    :ivar made: paths in it where file systems of :data:`MADE` are mounted.
    :ivar packers: which of :data:`scripts.PACKERS` are there, where that was asked.
    """

    facts: SourceFacts
    tar: Tar
    sha256: str = ""
    now: int = 0
    made: tuple[bytes, ...] = ()
    packers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """A destination as it was found.

    :ivar fullblock: whether ``dd`` knows ``iflag=fullblock``, which chunks on stdin need.
    :ivar leftovers: names of staging folders that are there.
    :ivar sha256: command that takes SHA-256, of :data:`scripts.SHA256`; empty where there is none.
    :ivar mounts: paths at which something is mounted; empty where nobody tells.
    :ivar umask: of our user there.
    :ivar unpackers: which commands of :data:`scripts.UNPACKERS` undo which compression, where that
        was asked.
    :ivar uids: numbers that are users there; empty where nobody tells, or all are.
    :ivar gids: the same for groups.
    """

    facts: TargetFacts
    tar: Tar
    fullblock: bool
    leftovers: tuple[bytes, ...] = ()
    sha256: str = ""
    mounts: tuple[bytes, ...] = ()
    umask: int = 0o022
    unpackers: Mapping[str, str] = field(default_factory=dict)
    uids: tuple[range, ...] = ()
    gids: tuple[range, ...] = ()

    def has_owner(self, uid: int, gid: int) -> bool:
        """Whether both are somebody there, as far as is known."""
        pairs = ((uid, self.uids), (gid, self.gids))
        return all(not ids or any(number in each for each in ids) for number, ids in pairs)


MADE = frozenset(
    b"proc sysfs cgroup cgroup2 debugfs tracefs securityfs configfs pstore bpf fusectl binfmt_misc "
    b"selinuxfs efivarfs rpc_pipefs resctrl nsfs".split()
)
"""Types of file systems whose files the kernel makes as they are read; many say a size of 0."""

_ODD = "the shell there does not say what was asked: mistrust that container"
_NOT_ENTERED = "take a directory that the user there may enter, or another container with -c"


def source(output: bytes, path: Path) -> Source:
    """Read what :func:`scripts.probe_source` printed.

    :raises SourceNotFound: nothing stands there.
    :raises SourceError: it cannot be reached, or it is nothing that can be copied.
    """
    facts = _facts(output)
    kind = _kind(facts, "kind")
    if kind is Kind.MISSING and "slash" in facts:
        raise SourceError(
            f"{path} is not a directory", advice="leave the slash out at the end of a file's name"
        )
    if kind is Kind.MISSING:
        raise _not_found(path)
    if "special" in facts:
        raise SourceError(
            f"{path} is a device or a socket, which is never copied",
            advice="copy a file, a directory or a link; within a directory they are left out",
        )
    if "directory" not in facts:
        raise SourceError(f"{path} cannot be entered: permission denied", advice=_NOT_ENTERED)
    if b"/" in facts.get("top", b"/") or facts["top"] in (b".", b".."):
        raise SourceError(f"{path} is called {printable(facts.get('top', b''))} there", advice=_ODD)
    if not facts["top"]:
        raise SourceError(
            f"{path} is the root of the container, which cannot be copied as a whole",
            advice="name the directories that you need",
        )
    around, below = _made(facts)
    around = facts.get("made", around)
    if around is not None:
        raise SourceError(
            f"{path} stands in {printable(around)}, where the kernel makes files as they "
            "are read: tar goes by their sizes, which say nothing of their contents",
            advice="copy what it says to a file first, with cat",
        )
    return Source(
        SourceFacts(facts["directory"], facts["top"], kind, _number(facts, "size")),
        _tar(facts, path),
        _sha256(facts),
        _number(facts, "now") or 0,
        below,
        tuple(name for name in PACKERS if f"packs:{name}" in facts),
    )


def _made(facts: dict[str, bytes]) -> tuple[bytes | None, tuple[bytes, ...]]:
    """Return where a file system of :data:`MADE` is mounted that holds the source, if one does, and
    where others are mounted in it."""
    source = paths.join(facts["directory"], facts["top"])
    mounts = dict[bytes, bytes]()
    for line in facts.get("mounts", b"").splitlines():
        kind, _, place = line.partition(b" ")
        mounts[_unescaped(place)] = kind  # of two at one place the later one counts
    holds = [each for each in mounts if (source + b"/").startswith(each.rstrip(b"/") + b"/")]
    around = max(holds, key=len, default=None)
    below = (each for each in mounts if each.startswith(source + b"/") and mounts[each] in MADE)
    return (around if around and mounts[around] in MADE else None), tuple(below)


def _not_found(path: Path) -> SourceNotFound:
    if isinstance(path, LocalPath):  # who forgets the colon should hear where we looked
        return SourceNotFound(
            f"{path} does not exist on this machine",
            advice=f"a path in a Pod is written {GRAMMAR}; what stands below a directory that you "
            "may not enter cannot be seen either",
        )
    absolute = path.path.startswith(b"/")
    return SourceNotFound(
        f"{path} does not exist",
        advice=("" if absolute else "a relative path starts at the working directory; ")
        + "what stands below a directory that the user there may not enter cannot be seen either",
    )


def target(output: bytes, path: Path) -> Target:
    """Read what :func:`scripts.probe_target` printed.

    :raises DestinationRefused: it is a directory that cannot be entered.
    """
    facts = _facts(output)
    kind = _kind(facts, "kind")
    if kind is Kind.DIRECTORY and "directory" not in facts:
        raise DestinationRefused(
            f"{path} cannot be entered: permission denied", advice=_NOT_ENTERED
        )
    umask = facts.get("umask", b"")
    return Target(
        TargetFacts(
            directory=facts.get("directory", b""),
            name=facts.get("name", b""),
            kind=kind,
            inner=_kind(facts, "inner"),
            writable="writable" in facts,
            inner_writable="inner_writable" in facts,
        ),
        _tar(facts, path),
        "fullblock" in facts,
        tuple(re.findall(rb"\.podcp-[0-9a-f]{32}\b", facts.get("leftovers", b""))),
        _sha256(facts),
        tuple(map(_unescaped, facts.get("mounts", b"").splitlines())),
        int(umask, 8) if re.fullmatch(rb"[0-7]{1,4}", umask) else 0o022,
        _unpackers(facts),
        _ids(facts, "uids"),
        _ids(facts, "gids"),
    )


def _ids(facts: dict[str, bytes], key: str) -> tuple[range, ...]:
    """Return the numbers that a user namespace has (user_namespaces(7)); empty where nobody says
    it: each line has the first one, what that is outside, and how many there are."""
    lines = [line.split() for line in facts.get(key, b"").splitlines()]
    if not all(len(line) == 3 and all(map(_is_id, line)) for line in lines):
        return ()
    return tuple(range(int(first), int(first) + int(count)) for first, _, count in lines)


def _is_id(word: bytes) -> bool:
    return re.fullmatch(rb"[0-9]{1,10}", word) is not None


def _kind(facts: dict[str, bytes], key: str) -> Kind:
    said = facts.get(key, b"missing").decode("ascii", "replace")
    return Kind(said) if said in {each.value for each in Kind} else Kind.OTHER


def _number(facts: dict[str, bytes], key: str) -> int | None:
    """Return a number that the container says, if it has no more digits than one of its own has."""
    said = facts.get(key, b"")
    return int(said) if re.fullmatch(rb"\d{1,20}", said) else None


def _unpackers(facts: dict[str, bytes]) -> dict[str, str]:
    """Return those commands of ours that the container says it has."""
    found = {name: facts.get(f"unpacks:{name}", b"").decode("ascii", "replace") for name in PACKERS}
    return {name: said for name, said in found.items() if said in UNPACKERS[name]}


def _unescaped(field: bytes) -> bytes:
    r"""Return a path as it is; the kernel says ``\040`` for a space (proc(5), mountinfo)."""
    return re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), field)


def _sha256(facts: dict[str, bytes]) -> str:
    said = facts.get("sha256", b"")
    return next((command for command in SHA256 if command.encode("ascii") == said), "")


def _tar(facts: dict[str, bytes], path: Path) -> Tar:
    if "tar" not in facts:
        raise ExecFailed(
            f"there is no tar {path.where}",
            advice="a copy needs sh and tar at both ends",
        )
    version = printable(facts["tar"])
    return next((tar for tar in Tar if tar.value in version), Tar.UNKNOWN)


def _facts(output: bytes) -> dict[str, bytes]:
    """Split ``key=value`` records, each ended by a NUL; what is no record is some shell's noise."""
    records = (record.partition(b"=") for record in output.split(b"\0"))
    return {
        key.rpartition(b"\n")[2].decode("ascii", "replace"): value
        for key, sep, value in records
        if sep
    }
