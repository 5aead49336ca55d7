"""Patterns and names that stand in files on this machine, or come on stdin.

In: a file's name, ``-`` for stdin. Out: what is in it. Raises
:class:`~kubectl_podcp.errors.UsageError` for what cannot be read.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kubectl_podcp import ignore
from kubectl_podcp.errors import UsageError, printable


def patterns(file: str) -> list[bytes]:
    """Return the patterns in ``file``, as git reads a ``.gitignore``."""
    return ignore.lines(_content(file, "--exclude-from"))


def names(file: str, *, null: bool) -> list[bytes]:
    """Return the names in ``file``, each ended by a newline, or by a NUL where ``null`` is said."""
    ended = b"\0" if null else b"\n"
    return [name for name in _content(file, "--files-from").split(ended) if name]


def _content(file: str, flag: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except (OSError, AttributeError, ValueError) as error:  # stdin may be none, or closed
        why = os.strerror(error.errno or 0) if isinstance(error, OSError) else "it is closed"
        raise UsageError(
            f"'{printable(file)}' cannot be read, which {flag} names: {why}",
            advice="name a file on this machine, or - for what comes on stdin",
        ) from None
