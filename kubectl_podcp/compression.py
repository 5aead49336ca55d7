"""What compresses on this side, and what is worth its time.

In: what a container and this Python can, how fast the way is, and how far things shrink. Out: what
is the quickest, and what does our part of it; a container does its own with a command
(:data:`kubectl_podcp.remote.scripts.PACKERS`). No I/O. Raises
:class:`~kubectl_podcp.errors.UsageError` for what this Python cannot do.

zstd is in Python's own library since 3.14; before, it is the package ``backports.zstd``. The one
file cannot bring it along, since it is no pure Python.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

from kubectl_podcp.errors import UsageError

GZIP, ZSTD = "gzip", "zstd"

SPEEDS = {GZIP: 40e6, ZSTD: 150e6}
"""Bytes per second, about, that the slower of both sides compresses or undoes: one core each."""

WORTH = 0.9
"""What compression must bring the time down to: it costs somebody's CPU."""

_LEVEL = 1
_GZIP_WINDOW = 31  # zlib's way to say: gzip's header, and the longest window


def known() -> tuple[str, ...]:
    """Return what this Python can, the best first."""
    return (ZSTD, GZIP) if _zstd() is not None else (GZIP,)


def check_known(kind: str) -> None:
    """Check that this Python can do what is asked for.

    :raises UsageError: it cannot.
    """
    if kind == ZSTD and _zstd() is None:
        raise UsageError(
            "--compress=zstd needs a Python that knows zstd, and this one does not",
            advice="take gzip, or Python 3.14, or install the package backports.zstd",
        )


def best(has: Collection[str], rate: float, share: float) -> str:
    """Return what makes a copy the quickest; empty where nothing does.

    :param has: what the container can.
    :param rate: bytes per second of the way there.
    :param share: what is left of a byte that is compressed.
    """
    kinds = [kind for kind in known() if kind in has]
    took = {kind: max(share / rate, 1 / SPEEDS[kind]) for kind in kinds}
    quickest = min(took, key=lambda kind: took[kind], default="")
    return quickest if quickest and took[quickest] < WORTH / rate else ""


class Encoder:
    """Compresses a stream; see :class:`kubectl_podcp.remote.feed.Encoder`."""

    def __init__(self, kind: str) -> None:
        self._made = _encoder(kind)

    def encode(self, data: bytes) -> bytes:
        """Take ``data``, and return what is ready; that may be nothing."""
        return bytes(self._made.compress(data))

    def end(self) -> bytes:
        """Return the rest."""
        return bytes(self._made.flush())


class Decoder:
    """Undoes a compression; see :class:`kubectl_podcp.exec.inflating.Decoder`."""

    damage: type[Exception]

    def __init__(self, kind: str) -> None:
        self._is_gzip = kind == GZIP
        self._made: Any
        if self._is_gzip:
            self._made, self.damage = zlib.decompressobj(_GZIP_WINDOW), zlib.error
        else:
            zstd = _zstd()
            assert zstd is not None
            self._made, self.damage = zstd.ZstdDecompressor(), zstd.ZstdError

    def decode(self, data: bytes, most: int) -> bytes:
        if self._made.eof:
            return b""
        if self._is_gzip:
            data = self._made.unconsumed_tail + data
        return bytes(self._made.decompress(data, most))

    @property
    def rest(self) -> bytes | None:
        return bytes(self._made.unused_data) if self._made.eof else None


def _encoder(kind: str) -> Any:
    if kind == GZIP:
        return zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
    zstd = _zstd()
    assert zstd is not None
    parameter = zstd.CompressionParameter
    return zstd.ZstdCompressor(
        options={parameter.compression_level: _LEVEL, parameter.checksum_flag: 1}
    )


@cache
def _zstd() -> ModuleType | None:
    for name in ("compression.zstd", "backports.zstd"):
        try:
            return import_module(name)
        except ImportError:
            continue
    return None
