"""What is to be done: the command line, or a library call, after validation and before any I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from kubectl_podcp.errors import UsageError, printable
from kubectl_podcp.fidelity import KEPT, OWNERSHIP, TIMESTAMPS, XATTR_OR_NOTHING, Owner, Preserved
from kubectl_podcp.modes import Modes
from kubectl_podcp.overrides import NOTHING, Overrides
from kubectl_podcp.paths import GRAMMAR, LocalPath, Path, PodPath, StreamPath, parse
from kubectl_podcp.selection import Selection, Words, selection

STALL_TIMEOUT = 60.0
"""Seconds for which nothing may move where something should, unless the user says otherwise."""


RETRIES = 3
"""How often a copy is tried again, unless the user says otherwise."""

SUFFIX = b"~"
"""What a simple backup adds to a file's name, unless the user says otherwise."""

BACKUPS = ("simple", "numbered", "existing")
"""Kinds of backups, as GNU cp has them."""

AUTO, NONE = "auto", "none"
COMPRESSIONS = (AUTO, "gzip", "zstd", NONE)
"""How what passes between a Pod and us may be compressed."""

FROM_STDIN = {
    "partial": "it cannot be read a second time",
    "update": "it cannot be looked at before it is read",
    "checksum": "it cannot be looked at before it is read",
    "no_target_directory": "it has no name of its own",
    "exclude": "all of it is meant",
    "files_from": "all of it is meant",
    "dereference": "it has no links that lead anywhere",
    "interactive": "answers would come from there",
}
"""Options that make no sense where the source is stdin, and why."""

TO_STDOUT = {
    "partial": "what was written there is not ours any more",
    "update": "nothing is there that could be up to date",
    "checksum": "nothing is there that could be up to date",
    "verify": "what was written there cannot be read again",
    "no_target_directory": "it is no directory",
    "no_clobber": "nothing is replaced there",
    "interactive": "nothing is replaced there",
    "backup": "nothing is replaced there",
}
"""Options that make no sense where the destination is stdout, and why."""

Access = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What may be said of a copy beside its paths; each has the name of its flag.

    :ivar namespace: for a path that names none; None is the context's.
    :ivar container: in both Pods; None is each Pod's default container.
    :ivar source_container: in the source's Pod, instead.
    :ivar dest_container: in the destination's Pod, instead.
    :ivar source_context: of the source's kubeconfig, instead of ``context``.
    :ivar dest_context: of the destination's.
    :ivar source_kubeconfig: where the source's context is, instead of ``kubeconfig``.
    :ivar dest_kubeconfig: where the destination's is.
    :ivar overrides: what else is said over the kubeconfig.
    :ivar context: of the kubeconfig; None is its current context.
    :ivar kubeconfig: a file; None is what kubectl would read.
    :ivar no_target_directory: the destination is the source, even where a directory exists.
    :ivar stall_timeout: seconds for which the source may give, or the destination take, nothing;
        0 is for ever.
    :ivar retries: how often to try again after a failure that may pass; a negative number is
        without end, as in ``kubectl cp``.
    :ivar partial: keep what arrived when the copy fails all the same, and go on from there.
    :ivar update: leave out files that have the same size, time, mode and owner there already.
    :ivar checksum: leave out files that have the same contents there, whatever their time.
    :ivar exclude: patterns of what is left out, as in a ``.gitignore`` at the top of the source.
    :ivar files_from: names in the source that alone are copied; None: all that there is.
    :ivar preserve: what is kept of each file, as :func:`kubectl_podcp.fidelity.preserved` has it.
    :ivar dereference: copy what symbolic links lead to.
    :ivar chown: user and group of all that is copied; None for what is kept.
    :ivar chmod: what becomes of modes.
    :ivar into: the destination is a directory, which must exist.
    :ivar verify: read every file again at the destination, and compare it with what passed.
    :ivar bwlimit: bytes per second that may go to the destination, or to all of them together;
        None is as many as can.
    :ivar selector: labels of the Pods that a destination without a name means.
    :ivar all_pods: a destination that names what has Pods means all that are ready, not one.
    :ivar no_clobber: keep every file that is there already.
    :ivar interactive: is asked, for each file that is there already, whether it may be replaced;
        given its path, on the thread that copies. None: they are.
    :ivar backup: keep each file that is replaced under another name, in one of the ways of
        :data:`BACKUPS`; empty: it is gone.
    :ivar compress: how what passes between a Pod and us is compressed, one of
        :data:`COMPRESSIONS`.
    :ivar suffix: which a simple backup adds to the name; None is :data:`SUFFIX`.
    """

    namespace: str | None = None
    container: str | None = None
    context: str | None = None
    kubeconfig: str | None = None
    no_target_directory: bool = False
    stall_timeout: float = STALL_TIMEOUT
    retries: int = RETRIES
    partial: bool = False
    update: bool = False
    checksum: bool = False
    exclude: Words = ()
    files_from: Words | None = None
    into: bool = False
    verify: bool = False
    no_clobber: bool = False
    interactive: Callable[[str], bool] | None = None
    backup: str = ""
    suffix: bytes | None = None
    bwlimit: float | None = None
    compress: str = NONE
    preserve: Preserved = KEPT
    dereference: bool = False
    chown: Owner | None = None
    chmod: Modes | None = None
    selector: str | None = None
    all_pods: bool = False
    source_container: str | None = None
    dest_container: str | None = None
    source_context: str | None = None
    dest_context: str | None = None
    source_kubeconfig: str | None = None
    dest_kubeconfig: str | None = None
    overrides: Overrides = NOTHING

    @property
    def selection(self) -> Selection:
        """What of the source is wanted."""
        return selection(self.exclude, self.files_from)

    @property
    def compares(self) -> bool:
        """Whether what is there is looked at before anything is sent."""
        return self.update or self.checksum

    @property
    def keeps(self) -> bool:
        """Whether some of what is there may have to stay."""
        return self.no_clobber or self.interactive is not None

    @property
    def spares(self) -> bool:
        """Whether there are rules for what is there, and it is not simply replaced."""
        return self.keeps or bool(self.backup)

    def tries_again(self, failed: int) -> bool:
        """Whether there is another try after ``failed`` ones that may pass."""
        return self.retries < 0 or failed < self.retries


DEFAULTS = Options()
"""Nothing was said."""


@dataclass(frozen=True, slots=True)
class CopyRequest(Options):
    """One copy; at least one of its ends is in a Pod.

    :raises UsageError: a number is none that can be meant, something is said of one end that it
        cannot have, or of both clusters that is meant for one.
    """

    source: Path
    destination: Path

    @classmethod
    def of(cls, source: str | bytes, destination: str | bytes, options: Options) -> CopyRequest:
        """Return what two words of the command line and its options ask for.

        :raises UsageError: as :func:`parse_paths`, and as a request does.
        """
        said = {each.name: getattr(options, each.name) for each in fields(options)}
        return cls(*parse_paths(source, destination, options.selector or ""), **said)

    def __post_init__(self) -> None:
        """Check what cannot be, and what cannot stand together."""
        if self.bwlimit is not None and not 0 < self.bwlimit < float("inf"):
            raise UsageError(
                f"{self.bwlimit:g} is no number of bytes per second for --bwlimit",
                advice="leave it out where there is to be no limit",
            )
        if not 0 <= self.stall_timeout < float("inf"):
            raise UsageError(
                f"{self.stall_timeout:g} is no number of seconds for --stall-timeout",
                advice="0 is for ever",
            )
        for end, path in (("source", self.source), ("dest", self.destination)):
            for what in ("container", "context", "kubeconfig"):
                if isinstance(path, LocalPath) and getattr(self, f"{end}_{what}"):
                    raise UsageError(
                        f"--{end}-{what} is for a Pod, and {path} is on this machine",
                        advice=f"leave it out, or write {GRAMMAR}",
                    )
        if self.compress not in COMPRESSIONS:
            raise UsageError(
                f"'{printable(self.compress)}' is no kind of compression",
                advice=f"they are {', '.join(COMPRESSIONS)}",
            )
        self._check_streams()
        self._check_fidelity()
        self._check_overwriting()
        selection(self.exclude, self.files_from)
        if self.access[0] != self.access[1]:
            self.overrides.check_for_two_clusters()

    def _check_streams(self) -> None:
        """What is written cannot be taken back, and what is read cannot be read twice."""
        for path, stream, without in (
            (self.source, "standard input", FROM_STDIN),
            (self.destination, "standard output", TO_STDOUT),
        ):
            for name, why in without.items():
                if isinstance(path, StreamPath) and getattr(self, name):
                    raise UsageError(
                        f"--{name.replace('_', '-')} means nothing for {stream}: {why}",
                        advice="leave it out",
                    )

    def _check_fidelity(self) -> None:
        if self.is_stream and XATTR_OR_NOTHING in self.preserve:
            raise UsageError(
                "--preserve=xattr is for files, and standard streams have no attributes",
                advice="leave it out; --preserve=all keeps those that an archive on stdin has",
            )
        if self.chown is not None and OWNERSHIP not in self.preserve:
            raise UsageError(
                "--chown says who owns the copy, and --no-preserve that whoever unpacks it does",
                advice="leave out one of them; --no-preserve=mode is about modes alone",
            )
        if TIMESTAMPS in self.preserve:
            return
        for name, instead in (("partial", "leave it out"), ("update", "--checksum needs no times")):
            if getattr(self, name):
                raise UsageError(
                    f"--{name} goes by times, which are not kept with --no-preserve=timestamps",
                    advice=instead,
                )

    def _check_overwriting(self) -> None:
        """What is kept is neither asked about nor backed up."""
        for name in ("interactive", "backup"):
            if self.no_clobber and getattr(self, name):
                raise UsageError(
                    f"--no-clobber replaces nothing, and --{name} is about what is replaced",
                    advice="leave one of them out",
                )
        if self.backup and self.backup not in BACKUPS:
            raise UsageError(
                f"'{printable(self.backup)}' is no way to make backups",
                advice=f"they are {', '.join(BACKUPS)}",
            )
        if self.suffix is None:
            return
        if not self.backup:
            raise UsageError(
                "--suffix says how backups are called, and none are made",
                advice="add --backup, or leave it out",
            )
        if not self.suffix or b"/" in self.suffix or b"\0" in self.suffix:
            raise UsageError(
                f"'{printable(self.suffix)}' cannot be the end of a file's name",
                advice="a suffix has a character at least, and no slash",
            )

    @property
    def is_stream(self) -> bool:
        """Whether an end is this process's stdin or stdout."""
        return any(isinstance(path, StreamPath) for path in (self.source, self.destination))

    @property
    def access(self) -> tuple[Access, Access]:
        """Kubeconfig and context of both ends: this machine is in the other one's cluster."""
        source = self.source_kubeconfig or self.kubeconfig, self.source_context or self.context
        dest = self.dest_kubeconfig or self.kubeconfig, self.dest_context or self.context
        if isinstance(self.source, LocalPath):
            return dest, dest
        return source, source if isinstance(self.destination, LocalPath) else dest


def parse_paths(
    source: str | bytes, destination: str | bytes, selector: str = ""
) -> tuple[Path, Path]:
    """Parse both words.

    :param selector: labels of the Pods that a destination without a name means.
    :raises UsageError: one of them is malformed, or neither is a path in a Pod.
    """
    paths = parse(source), parse(destination, selector)
    if all(isinstance(path, LocalPath) for path in paths):
        raise UsageError(
            f"neither {paths[0]} nor {paths[1]} is in a Pod",
            advice=f"{_colon_forgotten(*paths)}"
            f"a path in a Pod is written {GRAMMAR}, for example shop/web-0:/data/photos",
        )
    return paths


def _colon_forgotten(*paths: Path) -> str:
    for path in paths:
        try:
            meant = parse(path.path + b":/path")
        except UsageError:
            continue
        if isinstance(meant, PodPath):
            return f"if {meant.owner} is a Pod, write {meant}; "
    return ""
