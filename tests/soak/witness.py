"""What the witness sees of a case in a Pod: trees, by digests made there, and processes.

In goes a Pod and a case's directory; out come :class:`~tests.end_to_end.trees.Tree` objects and
command lines. Nothing of a file leaves the Pod but its digest. Raises ``CommandFailed`` where the
Pod does not answer. One caller at a time for each Pod object.
"""

from __future__ import annotations

import stat
import tarfile
from collections import defaultdict

from tests.end_to_end.pods import TestPod
from tests.end_to_end.trees import Entry, Tree

_BEGIN = b"@begin@ "
_DIGEST = 64

LOOK = """
cd {0}
find . -exec stat -c '@begin@ %f %u %g %Y %s %i %N' {{}} +
echo @begin@ digests
find . -type f -exec sha256sum {{}} +
"""
"""Run where nothing changes meanwhile: the files come twice, in the same order."""

_KINDS = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}

# The directory's name is put together there, so that this script itself has it nowhere.
_PROCESSES = """
for p in /proc/[0-9]*; do
  {{ w="$(readlink $p/cwd) $(tr '\\0\\n' '  ' <$p/cmdline)"; }} 2>/dev/null || continue
  case $w/ in *'{0}'/'{1}'/*) {2} ;; esac
done; :
"""


def look(pod: TestPod, directory: str) -> Tree:
    """Return all that stands in a directory, itself included, under the empty name."""
    return parsed(pod.sh(LOOK.format(directory)))


def parsed(said: bytes) -> Tree:
    """Return the tree that :data:`LOOK` said."""
    *records, digests = said.split(_BEGIN)[1:]
    said = digests.removeprefix(b"digests\n")
    entries: dict[bytes, Entry] = {}
    same: dict[bytes, set[bytes]] = defaultdict(set)
    for record in records:
        mode, uid, gid, mtime, size, inode, name = record.removesuffix(b"\n").split(b" ", 6)
        kind = _KINDS[stat.S_IFMT(int(mode, 16))]
        content = ""
        if kind == tarfile.SYMTYPE:
            name, _, target = name[1:-1].partition(b"' -> '")
            content = target.decode("utf-8", "surrogateescape")
        elif kind == tarfile.REGTYPE:
            line = _DIGEST + len(b"  \n") + len(name)
            content, said = said[:line].decode("utf-8", "surrogateescape"), said[line:]
            assert content[_DIGEST:] == "  " + name.decode("utf-8", "surrogateescape") + "\n"
            content = f"{size.decode()} {content[:_DIGEST]}"
            same[inode].add(name[2:])
        bits = stat.S_IMODE(int(mode, 16))
        entries[name[2:]] = Entry(kind, bits, int(uid), int(gid), int(mtime), content)
    assert said == b"", said
    links = frozenset(frozenset(names) for names in same.values() if len(names) > 1)
    return Tree(entries, links)


def processes(pod: TestPod, case: str) -> list[str]:
    """Return the command lines of what is at work for a case, or in its directory."""
    said = pod.sh(_PROCESSES.format(*case.rsplit("/", 1), "echo ${p#/proc/} $w"))
    return said.decode("utf-8", "replace").splitlines()


def kill(pod: TestPod, case: str, condition: str) -> None:
    """Send SIGKILL to each process of a case for which a condition on ``$p`` and ``$w`` holds."""
    pod.sh(_PROCESSES.format(*case.rsplit("/", 1), f"! {condition} || kill -9 ${{p#/proc/}} || :"))
