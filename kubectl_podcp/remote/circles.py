"""Whether symbolic links that are followed lead in circles, or to where the copy goes.

In goes what :func:`~kubectl_podcp.remote.scripts.list_followed` made ``sh`` say; out come names.
No I/O, raises nothing: what is not said is not known.
"""

from __future__ import annotations

import re

_RECORD = re.compile(rb"(\d+:\d+) (?:\./(.+))?", re.DOTALL)
# GNU's and toybox's find. A name may have lines; other errors are not part of this one.
_LOOP = re.compile(rb"(?m)^find: (?:(?!\nfind: )[\s\S])*?loop detected.*$")
_NAME = re.compile(rb"'\./(.+?)'", re.DOTALL)


def circle(output: bytes, nonce: str) -> bytes | None:
    """Return the name of a directory that is in itself; None where there is none."""
    directories = dict[bytes, bytes]()
    for identity, name in _records(output, nonce):
        directories[name] = identity
        above = name.rpartition(b"/")[0]
        while name and above:
            if directories.get(above) == identity:
                return name
            above = above.rpartition(b"/")[0]
    found = _LOOP.search(output)
    if found is None:
        return None
    said = _NAME.search(found[0])
    return said[1] if said else found[0]


def holds_target(output: bytes, nonce: str) -> bytes | None:
    """Return the directory of the source that is the one where the copy comes to stand."""
    records = _records(output, nonce)
    target = next((identity for identity, name in records if not name), None)
    return next((name for identity, name in records if name and identity == target), None)


def _records(output: bytes, nonce: str) -> list[tuple[bytes, bytes]]:
    """Return device and inode of each directory, and its name; the target's has none."""
    found = []
    for line in output.split(nonce.encode("ascii") + b" ")[1:]:
        match = _RECORD.fullmatch(line.partition(b"\nfind: ")[0].removesuffix(b"\n"))
        if match is not None:
            found.append((match[1], match[2] or b""))
    return found
