"""The tree that the demonstration copies: a few thousand small files and some large ones.

What goes in: the root file system of the Pod ``shop/web-0``. What comes out: ``/data/photos`` in
it, about 30 MB, the same on each machine and each time.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

_ALBUMS = ("coast", "harbour", "mountains", "old town", "workshop")
_THUMBNAILS = 600
"""Small files in each album."""
_PANORAMAS = {"coast/panorama.raw": 12, "harbour/night.raw": 8, "mountains/summit.raw": 4}
"""Large files, with their sizes in MiB."""
_TAKEN = 1_751_360_400
"""The time of the first picture, in seconds since 1970; each later one is a minute younger."""


def populate(root: Path) -> None:
    """Make the tree below `root`."""
    photos = root / "data/photos"
    noise = random.Random(1751)
    for number, album in enumerate(_ALBUMS):
        (photos / album).mkdir(parents=True)
        for picture in range(_THUMBNAILS):
            path = photos / album / f"picture-{picture:04}.jpg"
            path.write_bytes(noise.randbytes(512 + 3 * picture))
            taken = _TAKEN + 60 * (number * _THUMBNAILS + picture)
            os.utime(path, (taken, taken))
    for name, size in _PANORAMAS.items():
        (photos / name).write_bytes(noise.randbytes(size << 20))
        os.utime(photos / name, (_TAKEN, _TAKEN))
    (photos / "newest.jpg").symlink_to(f"{_ALBUMS[-1]}/picture-{_THUMBNAILS - 1:04}.jpg")
    for path in (*photos.iterdir(), photos):
        os.utime(path, (_TAKEN, _TAKEN), follow_symlinks=False)
