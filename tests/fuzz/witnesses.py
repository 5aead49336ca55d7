"""What others read in an archive: Python's tarfile, and GNU tar.

Both are asked for all that a header says, and for the contents one after another.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone

from kubectl_podcp.archive.headers import Member, end_of_archive

KINDS = {b"0": "-", b"1": "h", b"2": "l", b"3": "c", b"4": "b", b"5": "d", b"6": "p"}
_ESCAPES = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 92: "\\"}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def whole(archive: bytes) -> bytes:
    """Return the archive with the end that the relay gives it."""
    return archive + end_of_archive(len(archive))


def read_by_tarfile(archive: bytes) -> tuple[list[Member], bytes]:
    """Return the members that tarfile finds, and all contents."""
    members, contents = [], []
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:", errors="surrogateescape") as tar:
        for info in tar:
            is_device = info.type in (b"3", b"4")
            members.append(
                Member(
                    os.fsencode(info.name),
                    b"0" if info.isreg() else info.type,
                    0 if info.islnk() else info.size,
                    info.mode & 0o7777,
                    info.uid,
                    info.gid,
                    int(info.mtime // 1),
                    os.fsencode(info.linkname) if info.issym() or info.islnk() else b"",
                    info.devmajor if is_device else 0,
                    info.devminor if is_device else 0,
                )
            )
            if info.isreg():
                file = tar.extractfile(info)
                assert file is not None
                contents.append(file.read())
    return members, b"".join(contents)


def read_by_gnu_tar(archive: bytes) -> tuple[list[str], bytes]:
    """Return the lines in which GNU tar lists its members, and all contents."""
    listing = _run(archive, "-t", "-v", "--utc", "--full-time", "--quoting-style=escape")
    lines = listing.decode("ascii").splitlines()
    return [re.sub(r"^(\S+ \S+) +", r"\1 ", line) for line in lines], _run(archive, "-x", "-O")


def _run(archive: bytes, *options: str) -> bytes:
    command = ["tar", "-f", "-", "--numeric-owner", "--warning=no-timestamp", *options]
    environment = {"LC_ALL": "C", "PATH": os.environ["PATH"]}
    run = subprocess.run(command, input=archive, capture_output=True, env=environment, check=False)
    assert (run.returncode, run.stderr) == (0, b""), run
    return run.stdout


def listed(members: Iterable[Member]) -> list[str]:
    """Return the lines in which GNU tar lists ``members``."""
    return [_line(member) for member in members]


def _line(member: Member) -> str:
    size = str(member.size)
    if member.type in (b"3", b"4"):
        size = f"{member.devmajor},{member.devminor}"
    name = member.name + b"/" if member.type == b"5" else member.name
    line = f"{_mode(member)} {member.uid}/{member.gid} {size} {_time(member.mtime)} {_quoted(name)}"
    if member.type == b"1":
        line += f" link to {_quoted(member.linkname)}"
    if member.type == b"2":
        line += f" -> {_quoted(member.linkname)}"
    return line


def _mode(member: Member) -> str:
    shown = KINDS[member.type]
    for shift, special, letters in ((6, 0o4000, "sS"), (3, 0o2000, "sS"), (0, 0o1000, "tT")):
        bits = member.mode >> shift
        shown += ("r" if bits & 4 else "-") + ("w" if bits & 2 else "-")
        if member.mode & special:
            shown += letters[0] if bits & 1 else letters[1]
        else:
            shown += "x" if bits & 1 else "-"
    return shown


def _time(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S")


def _quoted(name: bytes) -> str:
    return "".join(
        f"\\{_ESCAPES[byte]}"
        if byte in _ESCAPES
        else chr(byte)
        if 32 <= byte < 127
        else f"\\{byte:03o}"
        for byte in name
    )
