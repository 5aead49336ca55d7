"""Installing Debian packages that the tests need, where that may be done without asking.

That is: as root, with apt-get. Everybody else is told what to install. Raises
:class:`CannotInstall`, whose text is that sentence.
"""

from __future__ import annotations

import os
import shutil
import subprocess


class CannotInstall(Exception):
    """Packages are missing, and installing them is left to the user, or failed."""


def install(packages: list[str]) -> None:
    """Install ``packages``; nothing is done for an empty list."""
    if not packages:
        return
    wish = f"apt-get install {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise CannotInstall(f"no apt-get here; on Debian it would be: {wish}")
    if os.geteuid() != 0:
        raise CannotInstall(f"not root, so this is left to you: {wish}")
    _apt_get("update", "--quiet=2")
    _apt_get("install", "--quiet=2", "--yes", "--no-install-recommends", *packages)


def _apt_get(*arguments: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if subprocess.run(["apt-get", *arguments], env=environment, check=False).returncode:
        raise CannotInstall(f"apt-get {arguments[0]} failed")
