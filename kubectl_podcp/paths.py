"""What is copied where: the grammar of ``[[namespace/]pod:]path`` and the directory rule.

In go the words of the command line and the facts that a probe found; out come
:class:`LocalPath`, :class:`StreamPath`, :class:`PodPath` and :class:`Placement`. No I/O. Raises
:class:`UsageError` for a word that is no path and :class:`DestinationRefused` for a target that
cannot take the source. Paths in containers are POSIX paths and therefore ``bytes``: a name need not
be UTF-8.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum

from kubectl_podcp.errors import DestinationRefused, NoDirectory, UsageError, printable

GRAMMAR = "[[namespace/]pod:]path"

DRIVES = os.name == "nt"
"""Whether a letter, a colon and a slash of either kind begin a path on this machine. Where there
are no drives, ``c:/x`` is in the Pod ``c``, as in ``kubectl cp``."""

_DRIVE = re.compile(rb"[A-Za-z]:[/\\]")

_OPEN_FILE = re.compile(
    rb"/+dev/+(stdin|stdout|stderr|fd/.*)|/+proc/+(self|thread-self)/+fd/.*", re.S
)
"""What leads each process to a file that it has open itself."""

_NAME = re.compile(rb"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
"""A DNS subdomain (RFC 1123), which names of Pods and namespaces are."""

_SHORT = {
    # As the API and RBAC name them, to kubectl's other names for them.
    "pods": "po pod",
    "deployments.apps": "deploy deployment",
    "statefulsets.apps": "sts statefulset",
    "daemonsets.apps": "ds daemonset",
    "replicasets.apps": "rs replicaset",
    "jobs.batch": "job",
    "replicationcontrollers": "rc replicationcontroller",
    "services": "svc service",
}


def _kinds() -> Iterator[tuple[str, str]]:
    for resource, short in _SHORT.items():
        plural, dot, group = resource.partition(".")
        for name in (*short.split(), plural):
            yield name, resource
            yield f"{name}{dot}{group}", resource  # as `kubectl get -o name` prints it


KINDS = dict(_kinds())
"""What may stand in front of a name, to the resource that is meant: ``deploy`` is
``deployments.apps``."""


class _Path:
    """What both kinds of path have; POSIX's rules hold at both ends."""

    __slots__ = ()
    path: bytes

    @property
    def name(self) -> bytes:
        """The last component, under which an existing directory receives the source."""
        return self.path.rstrip(b"/").rpartition(b"/")[2]

    @property
    def is_contents(self) -> bool:
        """Whether the contents of a directory are meant: ``.``, ``..``, ``src/.``, ``~``.

        What the home folder is called is not known beforehand, as little as with ``.``.
        """
        return self.name in (b".", b"..", b"") or self.path.rstrip(b"/") == b"~"

    @property
    def has_trailing_slash(self) -> bool:
        """Whether the word insists on a directory."""
        return self.path.endswith(b"/")


@dataclass(frozen=True, slots=True)
class LocalPath(_Path):
    """A path on this machine."""

    path: bytes

    def __str__(self) -> str:
        return printable(self.path)

    @property
    def where(self) -> str:
        """Where it is, as part of a sentence."""
        return "on this machine"


@dataclass(frozen=True, slots=True)
class StreamPath(LocalPath):
    """``-``: this process's stdin, or its stdout."""

    path: bytes = b"-"

    @property
    def is_contents(self) -> bool:
        """What comes on stdin has no name of its own."""
        return True


@dataclass(frozen=True, slots=True)
class PodPath(_Path):
    """A path in a container.

    :ivar namespace: None where the word names none.
    :ivar pod: the Pod's name, or that of what has Pods.
    :ivar kind: of what has Pods, one of :data:`KINDS`; empty for a Pod.
    :ivar selector: labels that say which Pods, instead of a name; else empty.
    """

    namespace: str | None
    pod: str
    path: bytes
    kind: str = ""
    selector: str = ""

    def __str__(self) -> str:
        return f"{self.owner}:{printable(self.path)}"

    @property
    def owner(self) -> str:
        """What stands in front of the colon."""
        if self.selector:
            return f"{self.namespace}/" if self.namespace else ""
        # A namespace that is called like a kind would be taken for one.
        kind = self.kind or ("pod" if self.namespace in KINDS else "")
        # Which Pod a workload has, a server says.
        return printable("/".join(filter(None, (self.namespace, kind, self.pod))))

    @property
    def resource(self) -> str:
        """The kind as the API and RBAC name it: ``deployments.apps``."""
        return KINDS[self.kind or "pod"]

    def in_pod(self, pod: str) -> PodPath:
        """Return the same path in one Pod, where the word named what has several."""
        return replace(self, pod=pod, kind="", selector="")

    @property
    def where(self) -> str:
        """Where it is, as part of a sentence."""
        return f"in {printable(self.pod)}"


Path = LocalPath | PodPath


def parse(word: str | bytes, selector: str = "") -> Path:
    """Return the path that a word of the command line names.

    As in ``kubectl cp`` (k8s.io/kubectl ``pkg/cmd/cp/cp.go``, ``extractFileSpec``) the word is
    split at its first colon; without a colon, or with a path in front of it, it is a path on this
    machine. So is one that begins with a drive, where there are :data:`DRIVES`. ``-`` is stdin or
    stdout; a file of that name is written ``./-``.

    :param selector: labels of the Pods that are meant by ``:path`` and ``namespace/:path``.
    :raises UsageError: an empty path, or a Pod that no Pod can be called; what would be another
        file for whoever copies.
    """
    try:
        raw = os.fsencode(word)
    except UnicodeEncodeError:  # half a surrogate pair, which no command line can hold
        happened = f"'{printable(word)}' is no text that a path could be"
        raise UsageError(happened, advice="give its bytes as they are") from None
    if b"\0" in raw:
        happened = f"'{printable(raw)}' has a NUL byte, which no path can have"
        raise UsageError(happened, advice="leave it out")
    if raw == b"-":
        return StreamPath()
    found = _parsed(raw, selector)
    if _OPEN_FILE.fullmatch(found.path):
        raise UsageError(
            f"'{printable(raw)}' leads each process to what it has open itself, and is no file",
            advice="write - for this command's standard input or output",
        )
    return found


def _parsed(raw: bytes, selector: str) -> Path:
    """Return what :func:`parse` does, whatever stands at the path."""
    head, colon, path = raw.partition(b":")
    if not raw or (colon and not path):
        raise UsageError(
            f"'{printable(raw)}' has an empty path",
            advice=f"a path is written {GRAMMAR}, for example shop/web-0:/data/photos",
        )
    if not colon or head.startswith((b"/", b".")) or (DRIVES and _DRIVE.match(raw)):
        # Here "~" is the shell's affair: what it has left is a file's name.
        return LocalPath(b"./" + raw if raw.startswith(b"~") else raw)
    if not head or (head.endswith(b"/") and _NAME.fullmatch(head[:-1])):
        if not selector:
            raise UsageError(
                f"'{printable(raw)}' names no Pod",
                advice=f"a path is written {GRAMMAR}; for a destination, -l app=web says by their "
                "labels which Pods are meant",
            )
        return PodPath(head[:-1].decode("ascii") or None, "", path, selector=selector)
    namespace, kind, pod = _owner(head, raw)
    return PodPath(namespace, pod, path, kind)


def _owner(head: bytes, word: bytes) -> tuple[str | None, str, str]:
    """Return namespace, kind and name; the kind is empty for a Pod."""
    parts = head.split(b"/")
    if len(parts) > 3 or not all(parts):
        raise _malformed(word)
    if not all(map(_NAME.fullmatch, parts)):
        raise UsageError(
            f"'{printable(head)}' is no name of a Pod",
            advice="names are of small letters, digits, '-' and '.'; "
            "write a path on this machine that has a colon as ./name:with:colon",
        )
    *before, name = [part.decode("ascii") for part in parts]
    kind = before.pop() if before and before[-1] in KINDS else ""
    if len(before) > 1:
        raise _malformed(word)
    namespace = before[0] if before else None
    return namespace, ("" if kind and KINDS[kind] == "pods" else kind), name


def _malformed(word: bytes) -> UsageError:
    return UsageError(
        f"'{printable(word)}' does not match {GRAMMAR}",
        advice="in front of the colon stand a Pod, or a namespace and a Pod; for a Pod may stand "
        "what has Pods, as deploy/web; "
        "write a path on this machine that has a colon as ./name:with:colon",
    )


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
    :ivar inner_writable: whether ``P/name`` is a directory that can be.
    """

    directory: bytes
    name: bytes
    kind: Kind
    inner: Kind
    writable: bool
    inner_writable: bool = False


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
    source: Path,
    found: SourceFacts,
    target: Path,
    there: TargetFacts,
    *,
    no_target_directory: bool = False,
    must_exist: bool = False,
) -> Placement:
    """Apply the directory rule, that of GNU ``cp -r``: an existing directory receives the source
    under its own name; ``src/.`` and ``-T`` make the destination be the source.

    :param must_exist: whether the target must be a directory that exists.
    :raises DestinationRefused: there is no directory to write to, or one of source and target is
        a directory and the other is not.
    """
    if must_exist and there.kind is not Kind.DIRECTORY:
        raise NoDirectory(
            f"target {target} is not a directory",
            advice=f"several sources go into a directory that exists {target.where}: create it",
        )
    if not there.directory or there.name in (b".", b".."):
        raise DestinationRefused(
            f"the directory that would hold {target} does not exist",
            advice=f"create it first, or name a directory that exists {target.where}",
        )
    into = not no_target_directory and not source.is_contents
    placement = _place(source, found, target, there, into=into)
    is_inner = placement.directory != there.directory
    if not (there.inner_writable if is_inner else there.writable):
        raise DestinationRefused(
            f"cannot write to {printable(placement.directory)} {target.where}",
            advice="copy to a directory that the user there may write to",
        )
    return placement


def _place(
    source: Path, found: SourceFacts, target: Path, there: TargetFacts, *, into: bool
) -> Placement:
    """Return what :func:`place` does, whether anything may be written there or not.

    :param into: whether a directory that exists receives the source.
    """
    if into and there.kind is Kind.DIRECTORY:
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
    if existing is Kind.OTHER and found.kind is not Kind.OTHER:
        raise DestinationRefused(
            f"{printable(target)} is a device, a FIFO or a socket, and no file to be replaced",
            advice="copy to another name; - writes to standard output",
        )
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
