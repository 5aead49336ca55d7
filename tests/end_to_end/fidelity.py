"""What a copy cannot keep, because the tar at one end cannot: all of it, and nothing more.

The same list stands in docs/fidelity.md; a test holds the two together.
"""

from __future__ import annotations

from tests.end_to_end.trees import Entry, Tree

DIRECTORY_TIMES = "busybox at the destination restores no time of a directory"
LINK_TIMES = "busybox at the destination restores no time of a symbolic link"
LIMITS = (DIRECTORY_TIMES, LINK_TIMES)


def expected(tree: Tree, destination: str) -> Tree:
    """Return ``tree`` as a destination of that userland can have it, for :func:`comparable`."""
    return comparable(tree, destination)


def comparable(tree: Tree, destination: str) -> Tree:
    """Return ``tree`` without what that userland's tar cannot restore."""
    if destination != "busybox":
        return tree
    entries = {name: _without_lost_times(entry) for name, entry in tree.entries.items()}
    return Tree(entries, tree.links)


def _without_lost_times(entry: Entry) -> Entry:
    return entry.without_time() if entry.kind in (b"5", b"2") else entry
