"""What a container can do, and what stands at a path in it.

In goes the output of the probe scripts (:mod:`kubectl_podcp.remote.scripts`); out come the facts
that :func:`kubectl_podcp.paths.place` decides by. No I/O: the caller runs the script. Raises
:class:`ExecFailed` where the container lacks what every copy needs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from kubectl_podcp.errors import (
    DestinationRefused,
    ExecFailed,
    SourceError,
    SourceNotFound,
    printable,
)
from kubectl_podcp.paths import Kind, PodPath, SourceFacts, TargetFacts


class Tar(Enum):
    """Whose ``tar`` it is, told by the first line of ``tar --version``."""

    GNU = "GNU tar"
    BUSYBOX = "busybox"
    BSDTAR = "bsdtar"
    TOYBOX = "toybox"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Source:
    """A source as it was found."""

    facts: SourceFacts
    tar: Tar


@dataclass(frozen=True, slots=True)
class Target:
    """A destination as it was found.

    :ivar fullblock: whether ``dd`` knows ``iflag=fullblock``, which chunks on stdin need.
    :ivar leftovers: names of staging folders that are there.
    """

    facts: TargetFacts
    tar: Tar
    fullblock: bool
    leftovers: tuple[bytes, ...] = ()


def source(output: bytes, path: PodPath) -> Source:
    """Read what :func:`scripts.probe_source` printed.

    :raises SourceNotFound: nothing stands there.
    :raises SourceError: it cannot be reached, or it is the root directory.
    """
    facts = _facts(output)
    kind = Kind(facts.get("kind", b"missing").decode("ascii"))
    if kind is Kind.MISSING:
        raise SourceNotFound(
            f"{path} does not exist",
            advice="a relative path starts at the working directory; what stands below a directory "
            "that the container's user may not enter cannot be seen either",
        )
    if "directory" not in facts:
        raise SourceError(f"{path} cannot be entered: permission denied")
    if not facts["top"]:
        raise SourceError(
            f"{path} is the root of the container, which cannot be copied as a whole",
            advice="name the directories that you need",
        )
    size = facts.get("size", b"")
    return Source(
        SourceFacts(facts["directory"], facts["top"], kind, int(size) if size else None),
        _tar(facts, path),
    )


def target(output: bytes, path: PodPath) -> Target:
    """Read what :func:`scripts.probe_target` printed.

    :raises DestinationRefused: it is a directory that cannot be entered.
    """
    facts = _facts(output)
    kind = Kind(facts.get("kind", b"missing").decode("ascii"))
    if kind is Kind.DIRECTORY and "directory" not in facts:
        raise DestinationRefused(f"{path} cannot be entered: permission denied")
    return Target(
        TargetFacts(
            directory=facts.get("directory", b""),
            name=facts.get("name", b""),
            kind=kind,
            inner=Kind(facts.get("inner", b"missing").decode("ascii")),
            writable="writable" in facts,
        ),
        _tar(facts, path),
        "fullblock" in facts,
        tuple(re.findall(rb"\.podcp-[0-9a-f]{32}\b", facts.get("leftovers", b""))),
    )


def _tar(facts: dict[str, bytes], path: PodPath) -> Tar:
    if "tar" not in facts:
        raise ExecFailed(
            f"there is no tar in the container of {path.pod}",
            advice="a copy needs sh and tar in both containers",
        )
    version = printable(facts["tar"])
    return next((tar for tar in Tar if tar.value in version), Tar.UNKNOWN)


def _facts(output: bytes) -> dict[str, bytes]:
    """Split ``key=value`` records, each ended by a NUL; what is no record is some shell's noise."""
    records = (record.partition(b"=") for record in output.split(b"\0"))
    return {
        key.rpartition(b"\n")[2].decode("ascii", "replace"): value
        for key, sep, value in records
        if sep
    }
