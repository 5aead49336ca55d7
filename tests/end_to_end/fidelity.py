"""What a copy cannot keep, because the tar at one end cannot: all of it, and nothing more.

The same list stands in docs/fidelity.md; a test holds the two together.
"""

from __future__ import annotations

import tarfile
from dataclasses import replace

from tests.end_to_end.trees import Entry, Tree

DIRECTORY_TIMES = "busybox at the destination restores no time of a directory"
LINK_TIMES = "busybox at the destination restores no time of a symbolic link"
LINK_OWNERS = "busybox at the destination restores no owner of a symbolic link"
LIMITS = (DIRECTORY_TIMES, LINK_TIMES, LINK_OWNERS)


def comparable(tree: Tree, destination: str) -> Tree:
    """Return ``tree`` without what that userland's tar cannot restore."""
    if destination != "busybox":
        return tree
    entries = {name: _without_losses(entry) for name, entry in tree.entries.items()}
    return Tree(entries, tree.links)


def _without_losses(entry: Entry) -> Entry:
    if entry.kind == tarfile.DIRTYPE:
        return entry.without_time()
    if entry.kind == tarfile.SYMTYPE:
        return replace(entry, mtime=0, uid=0, gid=0)
    return entry
