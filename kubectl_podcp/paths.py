"""What is copied where: the grammar of ``[[namespace/]pod:]path`` and the directory rule.

In go the words of the command line and the facts that a probe found; out come
:class:`LocalPath`, :class:`PodPath` and :class:`Placement`. No I/O. Raises :class:`UsageError`
for a word that is no path and :class:`DestinationRefused` for a target that cannot take the
source. Paths in containers are POSIX paths and therefore ``bytes``: a name need not be UTF-8.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from enum import Enum

from kubectl_podcp.errors import DestinationRefused, UsageError, printable

GRAMMAR = "[[namespace/]pod:]path"

_NAME = re.compile(rb"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
"""A DNS subdomain (RFC 1123), which names of Pods and namespaces are."""


@dataclass(frozen=True, slots=True)
class LocalPath:
    """A path on this machine."""

    path: bytes

    def __str__(self) -> str:
        return printable(self.path)


@dataclass(frozen=True, slots=True)
class PodPath:
    """A path in a container; ``namespace`` is None where the word names none."""

    namespace: str | None
    pod: str
    path: bytes

    def __str__(self) -> str:
        prefix = f"{self.namespace}/" if self.namespace else ""
        return f"{prefix}{self.pod}:{printable(self.path)}"

    @property
    def name(self) -> bytes:
        """The last component, under which an existing directory receives the source."""
        return self.path.rstrip(b"/").rpartition(b"/")[2]

    @property
    def is_contents(self) -> bool:
        """Whether the contents of a directory are meant: ``.``, ``..``, ``src/.``."""
        return self.name in (b".", b"..", b"")

    @property
    def has_trailing_slash(self) -> bool:
        """Whether the word insists on a directory."""
        return self.path.endswith(b"/")


def parse(word: str | bytes) -> LocalPath | PodPath:
    """Return the path that a word of the command line names.

    As in ``kubectl cp`` (k8s.io/kubectl ``pkg/cmd/cp/cp.go``, ``extractFileSpec``) the word is
    split at its first colon; without a colon, or with nothing or a path in front of it, it is a
    path on this machine.

    :raises UsageError: an empty path, or a Pod that no Pod can be called.
    """
    raw = os.fsencode(word)
    if b"\0" in raw:
        raise UsageError(f"'{printable(raw)}' has a NUL byte, which no path can have")
    head, colon, path = raw.partition(b":")
    if not raw or (colon and not path):
        raise UsageError(
            f"'{printable(raw)}' has an empty path",
            advice=f"a path is written {GRAMMAR}, for example shop/web-0:/data/photos",
        )
    if not colon or head.startswith((b"/", b".")):
        return LocalPath(raw)
    namespace, pod = _pod(head, raw)
    return PodPath(namespace, pod, path)


def _pod(head: bytes, word: bytes) -> tuple[str | None, str]:
    parts = head.split(b"/")
    if len(parts) > 2 or not all(parts):
        raise UsageError(
            f"'{printable(word)}' does not match {GRAMMAR}",
            advice="in front of the colon stand a Pod, or a namespace and a Pod; "
            "write a path on this machine that has a colon as ./name:with:colon",
        )
    if not all(map(_NAME.fullmatch, parts)):
        raise UsageError(
            f"'{printable(head)}' is no name of a Pod",
            advice="names are of small letters, digits, '-' and '.'",
        )
    names = [part.decode("ascii") for part in parts]
    return (names[0] if len(names) == 2 else None), names[-1]


def join(directory: bytes, name: bytes) -> bytes:
    """Return the path of ``name`` in ``directory``, which may be the root."""
    return directory.rstrip(b"/") + b"/" + name


class Kind(Enum):
    """What stands at a path, a symbolic link not followed."""

    DIRECTORY = "directory"
    FILE = "file"
    LINK = "link"
    OTHER = "other"
    MISSING = "missing"


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What a probe found at the source path.

    :ivar directory: physical path of the directory that holds it.
    :ivar top: its name there, under which every member of the archive stands.
    :ivar kind: what it is.
    :ivar size: bytes, of a regular file; else None.
    """

    directory: bytes
    top: bytes
    kind: Kind
    size: int | None = None


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """What a probe found at the destination path ``P`` for a source called ``name``.

    :ivar directory: physical path of ``P`` where that is a directory (a link to one is
        followed), else of the directory that would hold it; empty where that does not exist.
    :ivar name: last component of ``P``; empty where ``P`` is an existing directory.
    :ivar kind: DIRECTORY, or what else stands at ``P``, a link not followed.
    :ivar inner: what stands at ``P/name``, a link not followed; MISSING unless ``P`` is a
        directory.
    :ivar writable: whether ``directory`` can be written.
    """

    directory: bytes
    name: bytes
    kind: Kind
    inner: Kind
    writable: bool


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the source comes to stand.

    :ivar directory: physical path of the directory in which the copy is staged and placed.
    :ivar name: the copy's name there; empty where ``directory`` is itself the target, and a
        directory's contents are merged into it.
    """

    directory: bytes
    name: bytes

    @property
    def merge(self) -> bool:
        """Whether the source is merged into a directory that exists, instead of renamed."""
        return not self.name

    @property
    def path(self) -> bytes:
        """The physical path at which the copy stands at the end."""
        return join(self.directory, self.name) if self.name else self.directory


def place(
    source: PodPath,
    found: SourceFacts,
    target: PodPath,
    there: TargetFacts,
    *,
    no_target_directory: bool = False,
) -> Placement:
    """Apply the directory rule, that of GNU ``cp -r``: an existing directory receives the source
    under its own name; ``src/.`` and ``-T`` make the destination be the source.

    :raises DestinationRefused: there is no directory to write to, or one of source and target is
        a directory and the other is not.
    """
    into = there.kind is Kind.DIRECTORY and not no_target_directory and not source.is_contents
    if not there.directory or there.name in (b".", b".."):
        raise DestinationRefused(
            f"the directory that would hold {target} does not exist",
            advice=f"create it first, or name a directory that exists in {target.pod}",
        )
    if not there.writable:
        raise DestinationRefused(
            f"cannot write to {printable(there.directory)} in {target.pod}",
            advice="copy to a directory that the container's user may write to",
        )
    if into:
        return _place_as(found, source.name, there.directory, there.inner)
    if there.kind is Kind.DIRECTORY:
        _check_types(found, there.directory, Kind.DIRECTORY)
        return Placement(there.directory, b"")
    if target.has_trailing_slash and found.kind is not Kind.DIRECTORY:
        raise DestinationRefused(
            f"{target} is not a directory",
            advice="leave the trailing slash out to give the copy that name",
        )
    return _place_as(found, there.name, there.directory, there.kind)


def _place_as(found: SourceFacts, name: bytes, directory: bytes, existing: Kind) -> Placement:
    target = join(directory, name)
    _check_types(found, target, existing)
    return Placement(target, b"") if existing is Kind.DIRECTORY else Placement(directory, name)


def _check_types(found: SourceFacts, target: bytes, existing: Kind) -> None:
    if existing is Kind.MISSING:
        return
    is_directory = found.kind is Kind.DIRECTORY
    if is_directory == (existing is Kind.DIRECTORY):
        return
    source = printable(join(found.directory, found.top))
    old, new = ("non-directory", "directory") if is_directory else ("directory", "non-directory")
    raise DestinationRefused(
        f"cannot overwrite {old} {printable(target)} with {new} {source}",
        advice="remove or rename the one at the destination first, or copy to another name",
    )
