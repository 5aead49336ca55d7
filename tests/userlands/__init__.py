"""Root file systems for test Pods, made from this machine's own programs.

What goes in: the name of a userland and an empty directory. What comes out: a tree with the
programs of that userland, the libraries that ``ldd`` names for them, and the few directories and
files that a container image has. Nothing is fetched and nothing of the machine is changed; every
file is a copy, so that a Pod may overwrite its own ``/usr/bin/tar``.

========  ==========================================================================
gnu       GNU coreutils, findutils, sed, grep, gzip, zstd and tar; dash (or bash) as ``sh``
busybox   a static busybox under the name of each of its applets
bsdtar    as gnu, but ``tar`` is libarchive's bsdtar
toybox    toybox under the name of each of its commands; ``sh`` is dash: Debian's has none
notar     as gnu, without a tar
noshell   one static ``sleep`` and nothing else, as in a distroless image
========  ==========================================================================

All but noshell also hold ``/opt/witness/busybox``, where busybox-static is installed: a program
that tests call by its absolute path to look at the result with other eyes than the userland's.

Raises :class:`MissingPrograms` (with the Debian packages to install) before anything is written.
Any thread may call these functions; two calls must not build into the same directory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

__all__ = ["NAMES", "MissingPrograms", "available", "build", "missing", "sources"]

NAMES = ("gnu", "busybox", "bsdtar", "toybox", "notar", "noshell")

MTIME = 1_767_225_600
"""2026-01-01 00:00:00 UTC: the time of every file of a root file system, in seconds."""

_SEARCH = "/usr/bin:/bin:/usr/sbin:/sbin"

# fmt: off
_COREUTILS = (
    "[", "b2sum", "base32", "base64", "basename", "cat", "chgrp", "chmod", "chown", "cksum",
    "comm", "cp", "cut", "date", "dd", "df", "dirname", "du", "echo", "env", "expr", "false",
    "fold", "head", "id", "install", "link", "ln", "ls", "md5sum", "mkdir", "mkfifo", "mknod",
    "mktemp", "mv", "nice", "nl", "nohup", "nproc", "od", "paste", "printenv", "printf", "pwd",
    "readlink", "realpath", "rm", "rmdir", "seq", "sha1sum", "sha256sum", "sha512sum", "shred",
    "shuf", "sleep", "sort", "split", "stat", "stdbuf", "stty", "sync", "tac", "tail", "tee",
    "test", "timeout", "touch", "tr", "true", "truncate", "tsort", "tty", "uname", "uniq",
    "unlink", "wc", "whoami", "yes",
)
# fmt: on
_GNU = (*_COREUTILS, "find", "grep", "gzip", "sed", "sh", "xargs", "zstd")
_WHERE_PRESENT = ("awk", "bash", "egrep", "fgrep", "gunzip", "kill", "zcat")
"""Added to the GNU userlands if the machine has them; nothing may rely on them."""

_PACKAGES = {
    "bsdtar": "libarchive-tools",
    "busybox": "busybox-static",
    "find": "findutils",
    "grep": "grep",
    "gzip": "gzip",
    "sed": "sed",
    "sh": "dash",
    "tar": "tar",
    "toybox": "toybox",
    "xargs": "findutils",
    "zstd": "zstd",
}
"""The Debian package of each program; all others are of coreutils."""

_DIRECTORIES = (
    "data",
    "dev",
    "etc",
    "opt",
    "proc",
    "root",
    "run",
    "srv",
    "sys",
    "tmp",
    "usr/bin",
    "usr/lib",
    "usr/lib64",
    "usr/sbin",
    "var/tmp",
)
_MERGED = ("bin", "lib", "lib64", "sbin")
"""Directories that are symlinks into /usr, as in Debian's own images."""

_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
user:x:1000:1000:user:/tmp:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
"""
_GROUP = """\
root:x:0:
user:x:1000:
nogroup:x:65534:
"""


class MissingPrograms(Exception):
    """Programs that a userland is made of are not installed on this machine.

    :param name: the userland.
    :param packages: the Debian packages that bring them, sorted.
    """

    def __init__(self, name: str, packages: list[str]) -> None:
        super().__init__(name, packages)
        self.name = name
        self.packages = packages

    def __str__(self) -> str:
        return f"the {self.name} userland needs: apt-get install {' '.join(self.packages)}"


def missing() -> list[str]:
    """Return the Debian packages, sorted, that are still to be installed for all userlands."""
    return sorted({package for name in NAMES for package in _missing_for(name)})


def available() -> list[str]:
    """Return the userlands, in the order of :data:`NAMES`, that this machine can build."""
    return [name for name in NAMES if not _missing_for(name)]


def sources(name: str) -> list[Path]:
    """Return this machine's programs that the userland is made of: what a cache depends on."""
    return sorted(set(_programs(name).values()) | set(_witness()))


def build(name: str, root: Path) -> None:
    """Make the root file system of one userland in the directory `root`.

    :param name: one of :data:`NAMES`.
    :param root: a directory that is empty or does not exist yet.
    :raises MissingPrograms: a package has to be installed first.
    :raises ValueError: no such userland, or `root` is not empty.
    """
    packages = _missing_for(name)
    if packages:
        raise MissingPrograms(name, packages)
    root.mkdir(parents=True, exist_ok=True)
    if any(root.iterdir()):
        raise ValueError(f"{root} is not empty")
    _make_skeleton(root)
    programs = _programs(name)
    for command, source in programs.items():
        _copy(source, root / "usr/bin" / command)
    for applet in _applets(name, programs):
        (root / "usr/bin" / applet).symlink_to(name)
    for source in _witness() if name != "noshell" else ():
        _copy(source, root / "opt/witness/busybox")
    for library in _libraries(programs.values()):
        _copy(library, root / _merged_path(library))
    _set_times(root)


def _programs(name: str) -> dict[str, Path]:
    """Return which of this machine's files becomes which command in /usr/bin of the userland."""
    programs = {command: _find(source) for command, source in _wanted(name).items()}
    if name in ("gnu", "bsdtar", "notar"):
        programs |= {command: _find(command) for command in _WHERE_PRESENT}
    return {command: source for command, source in programs.items() if source is not None}


def _wanted(name: str) -> dict[str, str]:
    """Return the commands that the userland must have, each with its name on this machine."""
    gnu = {command: command for command in _GNU}
    wanted = {
        "gnu": gnu | {"tar": "tar"},
        "busybox": {"busybox": "busybox"},
        "bsdtar": gnu | {"tar": "bsdtar"},
        "toybox": {"toybox": "toybox", "sh": "sh"},
        "notar": gnu,
        "noshell": {"sleep": "busybox"},
    }
    if name not in wanted:
        raise ValueError(f"no userland {name!r}; there are {', '.join(NAMES)}")
    return wanted[name]


def _missing_for(name: str) -> list[str]:
    absent = {source for source in _wanted(name).values() if _find(source) is None}
    return sorted({_PACKAGES.get(source, "coreutils") for source in absent})


def _find(program: str) -> Path | None:
    """Return the file behind a command of this machine, with all symlinks resolved."""
    for candidate in ("dash", "bash") if program == "sh" else (program,):
        found = shutil.which(candidate, path=_SEARCH)
        if found is not None and (program != "busybox" or _is_static(Path(found))):
            return Path(found).resolve()
    return None


def _is_static(program: Path) -> bool:
    """Return whether the program runs without a loader: only such a one runs in every root.

    An ELF file that needs a loader names it, as ``/lib64/ld-linux-x86-64.so.2``, near its start.
    """
    with program.open("rb") as file:
        return b"/ld-" not in file.read(4096)


def _witness() -> list[Path]:
    busybox = _find("busybox")
    return [] if busybox is None else [busybox]


def _applets(name: str, programs: dict[str, Path]) -> Iterator[str]:
    """Yield the further names under which a multi-call program is to be found."""
    if name not in ("busybox", "toybox"):
        return
    arguments = ["--list"] if name == "busybox" else []
    listing = subprocess.run([programs[name], *arguments], capture_output=True, check=True)
    for applet in sorted(set(listing.stdout.decode().split())):
        if applet not in programs:
            yield applet


def _libraries(programs: Iterable[Path]) -> list[Path]:
    """Return the libraries and the loader that the programs need, under the names they ask for.

    `ldd` prints ``name => /path (address)`` for a library and ``/path (address)`` for the loader.
    It fails on a static program and on a script, and says so; what it does name is what counts.
    """
    listing = subprocess.run(
        ["ldd", *sorted(set(programs))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"LC_ALL": "C", "PATH": _SEARCH},
        check=False,
    )
    found = set()
    for line in listing.stdout.decode().splitlines():
        words = line.split()
        path = words[2] if words[1:2] == ["=>"] and len(words) > 2 else words[0] if words else ""
        if line.startswith("\t") and path.startswith("/"):
            found.add(Path(path))
    return sorted(found)


def _merged_path(library: Path) -> Path:
    """Return where in the root a library stands so that its loader finds it under its own name."""
    relative = library.relative_to("/")
    return Path("usr") / relative if relative.parts[0] in _MERGED else relative


def _make_skeleton(root: Path) -> None:
    root.chmod(0o755)
    for directory in _DIRECTORIES:
        (root / directory).mkdir(parents=True, exist_ok=True)
    for directory in _MERGED:
        (root / directory).symlink_to(f"usr/{directory}")
    for path in root.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755)
    (root / "root").chmod(0o700)
    for directory in ("tmp", "var/tmp"):
        (root / directory).chmod(0o1777)
    _write(root / "etc/passwd", _PASSWD)
    _write(root / "etc/group", _GROUP)


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o644)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755)


def _set_times(root: Path) -> None:
    """Give every file and directory the same time, so that two builds are the same tree."""
    for path in (root, *root.rglob("*")):
        os.utime(path, (MTIME, MTIME), follow_symlinks=False)
