"""``python3 -m tests.userlands``: install what the userlands are made of, where root may."""

from __future__ import annotations

import sys

from tests import debian, userlands


def main() -> int:
    """Install what is missing; return the exit code."""
    try:
        debian.install(userlands.missing())
    except debian.CannotInstall as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
