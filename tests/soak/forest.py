"""Random trees, and random older trees in their place.

In goes a source of chance; out come members of an archive, each with its content, as the witness
unpacks them. What a tar cannot carry to the Pod, the times of directories and of what is before
1970, is in :func:`script`. No I/O, raises nothing.
"""

from __future__ import annotations

import copy
import tarfile
from collections.abc import Iterable, Iterator
from random import Random

from tests.end_to_end import trees

Member = tuple[tarfile.TarInfo, bytes]

LONGEST = 1500
"""Bytes of a path, well below what a system call takes: the staging folder comes on top."""

TIMES = (0, 1, 2**31 - 1, 2**31, 2**32 + 5, -5)
FILE_MODES = (0o644, 0o644, 0o600, 0o755, 0o000, 0o400, 0o4755, 0o2711)
DIRECTORY_MODES = (0o755, 0o755, 0o700, 0o555, 0o1777, 0o2775, 0o000)
OWNERS = (0, 0, 0, 1000, 65534, 3_000_000)
TARGETS = ("nowhere", ".", "..", "/etc/passwd", "../../..", "x/" * 90 + "y", "line\nfeed")


def name(chance: Random) -> bytes:
    """Return a name that stands in one path, often a plain one."""
    if chance.random() < 0.75:
        return b"%b%d" % (chance.choice((b"a", b"file-", b"D", b"x.")), chance.randrange(10**6))
    return chance.choice(trees.ODD_NAMES)


def file(chance: Random, path: bytes) -> Member:
    """Return a file at ``path``: what a source is that is no tree, and what it replaces."""
    size = chance.choice((0, 1, 511, 512, 10_241, 300_000, 1 << 20, chance.randrange(6 << 20)))
    return _file(chance, path, size)


def tree(chance: Random, top: bytes) -> list[Member]:
    """Return a tree: a few names or some hundred, of every kind."""
    grown = [_directory(chance, top)]
    directories, files, taken = [top], list[bytes](), {top}
    big = chance.choice((0, 0, 0, 0, 1, 3))
    for _ in range(chance.choice((0, 3, 10, 40, 40, 120, 300))):
        path = chance.choice(directories[-20:]) + b"/" + name(chance)
        if path in taken or len(path) > LONGEST:
            continue
        taken.add(path)
        if chance.random() < 0.2:
            directories.append(path)
            grown.append(_directory(chance, path))
        elif files and chance.random() < 0.06:
            grown.append(_hard_link(path, chance.choice(files)))
        elif chance.random() < 0.14:
            grown.append(_odd(chance, path))
        else:
            files.append(path)
            grown.append(_file(chance, path, _size(chance, big)))
            big -= big > 0
    if chance.random() < 0.1:
        grown += _deep(chance, chance.choice(directories[:5]))
    return grown


def older(chance: Random, of: Iterable[Member], top: bytes, misfit: bool) -> list[Member]:
    """Return what a tree is merged with: some of its names, otherwise filled, and some others.

    :param misfit: whether one name stands for a directory in one of them and not in the other.
    """
    old: dict[bytes, Member] = {top: _directory(chance, top)}
    rest = [(path, each.isdir()) for each, _ in of if (path := _path(each)) != top]
    chosen = [pair for pair in rest if chance.random() < 0.3]
    wrong = chance.choice(rest) if misfit and rest else None
    for path, is_directory in [*chosen, *([wrong] if wrong else [])]:
        if path in old or any(_is_in_the_way(old, parent) for parent in _parents(path, top)):
            continue
        for parent in _parents(path, top):
            old.setdefault(parent, _directory(chance, parent))
        if is_directory is (wrong != (path, is_directory)):
            old[path] = _directory(chance, path)
        else:
            old[path] = _not_a_directory(chance, path)
    for number in range(chance.randrange(6)):
        path = chance.choice([at for at in old if old[at][0].isdir()]) + b"/kept-%d" % number
        old[path] = _not_a_directory(chance, path)
    files = [at for at in old if old[at][0].isreg()]
    if files and chance.random() < 0.3:
        old[top + b"/kept-link"] = _hard_link(top + b"/kept-link", chance.choice(files))
    return list(old.values())


def script(members: Iterable[Member]) -> bytes:
    """Return shell commands that set the times which the archive does not, for the witness."""
    late = (each for each, _ in members if each.isdir() or each.mtime < 0)
    lines = (b"touch -h -d @%d -- %b\n" % (each.mtime, _quoted(_path(each))) for each in late)
    return b"".join(lines)


def archive(members: Iterable[Member]) -> bytes:
    """Pack members; :func:`script` sets what is lost."""
    return trees.archive((_since_1970(each), content) for each, content in members)


def size(members: Iterable[Member]) -> int:
    """Return the bytes of an archive of ``members``, more or less."""
    return sum(512 + (len(content) + 511) // 512 * 512 for _, content in members)


def _file(chance: Random, path: bytes, size: int) -> Member:
    content = chance.randbytes(size)
    return trees.member(path, tarfile.REGTYPE, size=size, **_look(chance, FILE_MODES)), content


def _directory(chance: Random, path: bytes) -> Member:
    return trees.member(path, tarfile.DIRTYPE, **_look(chance, DIRECTORY_MODES)), b""


def _hard_link(path: bytes, to: bytes) -> Member:
    return trees.member(path, tarfile.LNKTYPE, linkname=to.decode("utf-8", "surrogateescape")), b""


def _odd(chance: Random, path: bytes) -> Member:
    if chance.random() < 0.2:
        return trees.member(path, tarfile.FIFOTYPE, **_look(chance, FILE_MODES)), b""
    return _symlink(chance, path)


def _symlink(chance: Random, path: bytes) -> Member:
    fields = {**_look(chance, (0o777,)), "linkname": chance.choice(TARGETS)}
    fields["mtime"] = abs(int(str(fields["mtime"])))  # nothing sets a link's time before 1970
    return trees.member(path, tarfile.SYMTYPE, **fields), b""


def _not_a_directory(chance: Random, path: bytes) -> Member:
    return _odd(chance, path) if chance.random() < 0.3 else _file(chance, path, _size(chance, 0))


def _deep(chance: Random, path: bytes) -> Iterator[Member]:
    for _ in range(12):
        path += b"/" + b"d" * 60
        yield _directory(chance, path)
    yield _file(chance, path + b"/deep", 4)


def _look(chance: Random, modes: tuple[int, ...]) -> dict[str, object]:
    odd = chance.random() < 0.15
    mtime = chance.choice(TIMES) if odd else trees.MTIME - chance.randrange(10**7)
    return {
        "mode": chance.choice(modes),
        "uid": chance.choice(OWNERS),
        "gid": chance.choice(OWNERS),
        "mtime": mtime,
    }


def _size(chance: Random, big: int) -> int:
    if big and chance.random() < 0.3:
        return chance.randrange(3 << 20)
    return chance.choice((0, 1, chance.randrange(600), 512, 10_240, chance.randrange(40_000)))


def _path(each: tarfile.TarInfo) -> bytes:
    return each.name.encode("utf-8", "surrogateescape")


def _parents(path: bytes, top: bytes) -> list[bytes]:
    """Return the directories between ``top`` and ``path``, the outermost first."""
    words = path[len(top) + 1 :].split(b"/")[:-1]
    return [top + b"/" + b"/".join(words[: n + 1]) for n in range(len(words))]


def _is_in_the_way(old: dict[bytes, Member], parent: bytes) -> bool:
    return parent in old and not old[parent][0].isdir()


def altered(info: tarfile.TarInfo, **fields: object) -> tarfile.TarInfo:
    """Return ``info`` with other ``fields``; ``TarInfo.replace`` came with Python 3.11.4."""
    other = copy.copy(info)
    for name, value in fields.items():
        setattr(other, name, value)
    return other


def _since_1970(each: tarfile.TarInfo) -> tarfile.TarInfo:
    return each if each.mtime >= 0 else altered(each, mtime=0)


def _quoted(word: bytes) -> bytes:
    return b"'" + word.replace(b"'", b"'\\''") + b"'"
