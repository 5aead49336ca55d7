"""Wildcards in a path in a container: the files that they stand for there.

In: a path as it was typed, and the end where it is. Out: paths. Raises
:class:`~kubectl_podcp.errors.PodcpError`. On this machine the user's own shell does this, so a
local path is meant as it stands.
"""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import replace

from kubectl_podcp.ends import PodEnd
from kubectl_podcp.errors import SourceError, SourceNotFound, printable
from kubectl_podcp.paths import Path, PodPath
from kubectl_podcp.remote import scripts

TIMEOUT = 60.0
"""Seconds for reading the directories that a pattern leads through."""

MOST = 64 * 1024
"""Names that a pattern may stand for: each is a copy of its own, and some 500 bytes are held for
it. What a container says that lies would be two million names."""

_LOOSE = re.compile(rb"\[[!^]*\[|\[\^")
"""What makes it depend on the kind of shell what a set in a pattern is."""

_WILDCARD = re.compile(rb"[*?\[]")


def has_wildcards(path: Path) -> bool:
    """Whether ``path`` may stand for several."""
    return isinstance(path, PodPath) and _WILDCARD.search(path.path) is not None


def expand(end: PodEnd, path: PodPath) -> list[Path]:
    """Return the paths that ``path`` stands for, in that Pod; itself where there is such a file.

    :raises SourceNotFound: there is none.
    :raises SourceError: there are too many.
    """
    wildcard = _WILDCARD.search(path.path)
    assert wildcard is not None
    at = path.path.rfind(b"/", 0, wildcard.start()) + 1
    directory, pattern = path.path[:at], path.path[at:]
    nonce = os.urandom(16).hex()
    said = end.ask(scripts.expand(directory, pattern, nonce), TIMEOUT, scripts.LISTING)
    *names, last = said.split(b"\0", MOST)
    if last != b"podcp-%b end" % nonce.encode():
        raise SourceError(
            f"{path} stands for more names than can be listed, the shell there says",
            advice="copy the directory that they are in, or be more precise",
        )
    names = [name for name in names if not _has_dots(pattern, name)]
    if not names:
        raise SourceNotFound(
            f"{path} does not exist, and no file there is called like it",
            advice="as in any shell, no wildcard stands for a dot at the beginning of a name; a "
            "relative path starts at the working directory",
        )
    for name in names:
        if not _is_meant(pattern, name):
            raise SourceError(
                f"{path} does not stand for '{printable(name)}', which the shell there said",
                advice="name the files one by one, and mistrust that container",
            )
    if not directory:  # a file may be called "~", which stands for the home folder in what is typed
        names = [b"./" + name if name.startswith(b"~") else name for name in names]
    return [replace(path, pod=end.pod.name, kind="", path=directory + name) for name in names]


def _is_meant(pattern: bytes, name: bytes) -> bool:
    """Whether ``pattern`` may stand for ``name``, which a shell that is not trusted has said: with
    another name the source would choose what is replaced at the destination (CVE-2019-6111)."""
    if name == pattern:
        return True
    wanted, said = _parts(pattern), _parts(name)
    return len(said) == len(wanted) and all(map(_matches, wanted, said))


def _has_dots(pattern: bytes, name: bytes) -> bool:
    """Whether a wildcard behind a dot stands for ``.`` or ``..`` there: to dash, busybox and older
    bash ``.*`` is them, too, and nobody means them."""
    return any(
        wanted.startswith(b".") and _WILDCARD.search(wanted) and said in (b".", b"..")
        for wanted, said in zip(_parts(pattern), _parts(name), strict=False)
    )


def _parts(path: bytes) -> list[bytes]:
    return re.sub(rb"/+", b"/", path).split(b"/")


def _matches(pattern: bytes, name: bytes) -> bool:
    """The same for one part of a path."""
    if name in (b"", b".", b"..") or not _WILDCARD.search(pattern):
        return name == pattern
    if name.startswith(b".") and not pattern.startswith(b"."):
        return False
    if _LOOSE.search(pattern):  # never for what the name holds, which that shell has chosen
        pattern = re.sub(rb"\[[!^]?\]?(?:\[[:.=].*?[:.=]\]|[^\]])*\]|\?", b"*", pattern)
    # What "?" and a set stand for is a byte, or a character, by the shell's locale.
    texts = (each.decode("utf-8", "surrogateescape") for each in (name, pattern))
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(*texts)
