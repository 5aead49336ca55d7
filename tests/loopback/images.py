"""The root file systems of the Pods: built once for this machine, copied for each container.

What goes in: the name of a userland and the place for the copy. What comes out: a directory that
a container may write in as it likes. Raises what :mod:`tests.userlands` raises. Any thread, and
several processes at once, may call :func:`unpack`: an image appears under its name by a rename.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from tests import userlands

_CACHE = Path(__file__).parents[2] / ".cache" / "loopback"


def unpack(name: str, root: Path) -> None:
    """Make the directory `root` a root file system with the userland of that name."""
    try:
        image = _cached(name)
    except PermissionError:  # a read-only checkout: slower, but it works
        userlands.build(name, root)
    else:
        shutil.copytree(image, root, symlinks=True)


def _cached(name: str) -> Path:
    image = _CACHE / f"{name}-{_fingerprint(name)}"
    if not image.is_dir():
        _CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_CACHE) as directory:
            fresh = Path(directory, "image")
            userlands.build(name, fresh)
            with suppress(OSError):  # somebody else was faster
                fresh.rename(image)
    return image


def _fingerprint(name: str) -> str:
    """Return what changes when the image would: its programs, its recipe, its owner."""
    facts = [Path(userlands.__file__).read_text(), str(os.geteuid())]
    for source in userlands.sources(name):
        status = source.stat()
        facts.append(f"{source} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
