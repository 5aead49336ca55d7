"""The faults, one entry each: a declaration.

In the document they stand in this order. What an entry allows holds for every protocol, unless it
says otherwise, and on every cluster that it names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from tests.cluster import daemons
from tests.end_to_end.faults import causes
from tests.end_to_end.faults.causes import RECEIVES, SENDS
from tests.end_to_end.faults.run import SOME, Cause, Run
from tests.end_to_end.lies import CutConnection
from tests.end_to_end.pods import TestPod
from tests.loopback import faults
from tests.loopback.faults import CutStdout, Ending

EMBEDDED, REAL = "embedded", "real"
EVERYWHERE = (EMBEDDED, REAL)

TARS = {"v5": "gnu", "v4": "busybox"}
"""Whose tar is at both ends, unless an entry says otherwise: the two that fail most differently."""


class Kind(Enum):
    """What a copy that meets a fault must come to."""

    HARMLESS = "complete, at the first try"
    PASSES = "fails, and is complete when it is tried again"
    STAYS = "fails, and fails again each time"
    FINAL = "fails, and is not tried again: that could not help"
    PARTIAL = "what could be read is there, and what could not is named"


@dataclass(frozen=True)
class Entry:
    """One fault.

    :ivar kind: for each protocol, where they differ.
    :ivar code: the exit code where it fails.
    :ivar words: all of which the user must be told where it fails, one of each group.
    :ivar source: the Pod; its userland is that of :data:`TARS` where it is ``{}``.
    :ivar path: what is copied, below the folder of the source.
    :ivar alone: whether nothing else may run beside it.
    :ivar stall: value of ``--stall-timeout``; None leaves the default.
    """

    name: str
    cause: Cause
    kind: Kind | Mapping[str, Kind]
    words: tuple[str, ...] = ()
    code: int = 1
    clusters: tuple[str, ...] = EVERYWHERE
    source: str | Mapping[str, str] = "{}-0"
    destination: str | Mapping[str, str] = "{}-1"
    path: str = "tree"
    alone: bool = False
    stall: int | None = field(default=None)

    def kind_of(self, version: str) -> Kind:
        """Return what it must come to over a protocol."""
        return self.kind if isinstance(self.kind, Kind) else self.kind[version]

    def pods_of(self, version: str) -> tuple[str, str]:
        """Return the names of the source's and the destination's Pod."""
        ends = (self.source, self.destination)
        names = (each if isinstance(each, str) else each[version] for each in ends)
        source, destination = (name.format(TARS[version]) for name in names)
        return source, destination


def _source(run: Run) -> TestPod:
    return run.source


def _destination(run: Run) -> TestPod:
    return run.destination


_OTHER_TARS = [{"v5": f"bsdtar-{n}", "v4": f"toybox-{n}"} for n in (0, 1)]

FAULTS = (
    # Processes.
    Entry("source's tar killed", causes.source_tar_killed, Kind.PASSES, ("exit code 137",)),
    Entry(
        "destination's tar killed", causes.destination_tar_killed, Kind.PASSES, ("exit code 137",)
    ),
    Entry(
        "source's container restarted",
        causes.restarted(_source, down=SOME),
        Kind.STAYS,  # what was to be copied is gone with it
        alone=True,
    ),
    Entry(
        "source's container restarted, its files on a volume",
        causes.source_restarted_with_a_volume,
        Kind.PASSES,
        alone=True,
    ),
    Entry(
        "destination's container restarted",
        causes.restarted(_destination, up=SOME),
        Kind.PASSES,
        alone=True,
    ),
    Entry(
        "source's Pod deleted",
        causes.deleted(_source, again=False, down=SOME),
        Kind.STAYS,
        alone=True,
    ),
    Entry(
        "destination's Pod deleted",
        causes.deleted(_destination, again=False, up=SOME),
        Kind.STAYS,
        alone=True,
    ),
    Entry(
        "destination's Pod deleted, and made again",
        causes.deleted(_destination, again=True, up=SOME),
        Kind.PASSES,
        alone=True,
    ),
    # Daemons.
    Entry(
        "API server gone, and back after 5 s",
        causes.no_server_for_a_while,
        Kind.PASSES,
        ("connection",),
        clusters=(EMBEDDED,),
    ),
    Entry(
        "API server killed (SIGKILL), and started after 5 s",
        causes.killed("api-server", daemons.kill, causes.BACK_AFTER),
        Kind.PASSES,
        clusters=(REAL,),
        alone=True,
    ),
    Entry(
        "API server ended (SIGTERM), and started after 5 s",
        causes.killed("api-server", causes.terminated, causes.BACK_AFTER),
        Kind.PASSES,
        clusters=(REAL,),
        alone=True,
    ),
    Entry(
        "kubelet killed, and started again",
        causes.killed("kubelet", daemons.kill),
        Kind.PASSES,
        clusters=(REAL,),
        alone=True,
    ),
    Entry(
        "containerd killed, and started again",
        causes.killed("containerd", daemons.kill),
        Kind.PASSES,
        clusters=(REAL,),
        alone=True,
    ),
    Entry(
        "kubelet dying: Success on both sides",
        causes.everybody_hears_success,
        Kind.PASSES,
        clusters=(EMBEDDED,),
    ),
    # The network.
    Entry(
        "connection reset (RST)",
        causes.breaking_link(lambda link: link.reset(), up=SOME),
        Kind.PASSES,
        ("connection",),
    ),
    Entry(
        "connection ended (FIN)",
        causes.breaking_link(lambda link: link.finish(), up=SOME),
        Kind.PASSES,
        ("connection",),
    ),
    Entry(
        "source's connection in a black hole",
        causes.breaking_link(lambda link: link.freeze(), down=SOME),
        Kind.PASSES,
        ("gave nothing for 5 s",),
        stall=5,
    ),
    Entry(
        "destination's connection in a black hole",
        causes.breaking_link(lambda link: link.freeze(), up=SOME),
        Kind.PASSES,
        ("took nothing for 5 s",),
        stall=5,
    ),
    Entry(
        "connection half open: ended for the server alone",
        causes.breaking_link(lambda link: link.half_open(), up=SOME),
        Kind.PASSES,
        ("took nothing for 5 s",),
        stall=5,
    ),
    Entry("200 ms of delay each way", causes.slow_network, Kind.HARMLESS),
    Entry("frames cut and merged at random", causes.other_pieces, Kind.HARMLESS),
    Entry("destination reads nothing for 10 s", causes.pausing(10), Kind.HARMLESS),
    Entry(
        "destination reads nothing for 60 s, --stall-timeout 90",
        causes.pausing(60),
        Kind.HARMLESS,
        stall=90,
    ),
    # The files.
    Entry(
        "destination full",
        causes.full,
        Kind.FINAL,
        ("No space left on device",),
        destination="gnu-1",
        alone=True,
    ),
    Entry("destination read-only", causes.read_only, Kind.FINAL),
    Entry("destination not a directory", causes.no_directory, Kind.FINAL, ("does not exist",)),
    Entry(
        "no permission at the destination",
        causes.no_permission,
        Kind.FINAL,
        ("cannot write to /etc",),
        destination="user-0",
    ),
    Entry("source missing", causes.missing, Kind.FINAL, ("does not exist",)),
    Entry(
        "source file shrinks while it is read",
        causes.at_the_source("n=$(stat -c %s big); truncate -s $((n - 500000)) big"),
        {"v5": Kind.PARTIAL, "v4": Kind.PASSES},
        path="tree/big",
    ),
    Entry(
        "source file grows while it is read",
        causes.at_the_source("echo more >>big"),
        Kind.PARTIAL,
        path="tree/big",
    ),
    Entry(
        "source file removed while it is read",
        causes.at_the_source("rm big"),
        {"v5": Kind.PARTIAL, "v4": Kind.HARMLESS},
        path="tree/big",
    ),
    Entry("source file unreadable", causes.unreadable, Kind.PARTIAL, source="user-0"),
    Entry("file name with a newline", causes.nothing, Kind.HARMLESS),
    Entry(
        "source's tar lacks an option",
        causes.lacking_option(_source),
        Kind.FINAL,
        ("exit code 64", "--numeric-owner"),
        source=_OTHER_TARS[0],
    ),
    Entry(
        "destination's tar lacks an option",
        causes.lacking_option(_destination),
        Kind.FINAL,
        ("exit code 64", "--numeric-owner"),
        destination=_OTHER_TARS[1],
    ),
    # What a server says.
    Entry(
        "source: close 1000 without a status",
        causes.said_by(_source, SENDS, lambda: CutStdout(SOME, Ending.CLOSE_ONLY)),
        Kind.PASSES,
        clusters=(EMBEDDED,),
    ),
    Entry(
        "source: a status without a close",
        causes.said_by(_source, SENDS, lambda: CutStdout(SOME, Ending.STATUS_ONLY)),
        Kind.PASSES,
        clusters=(EMBEDDED,),
    ),
    Entry(
        "destination: close 1000 without a status",
        causes.said_by(_destination, RECEIVES, lambda: CutConnection(SOME, Ending.CLOSE_ONLY)),
        Kind.PASSES,
        clusters=(EMBEDDED,),
    ),
    Entry(
        "destination: a status without a close",
        causes.said_by(_destination, RECEIVES, lambda: CutConnection(SOME, Ending.STATUS_ONLY)),
        Kind.PASSES,
        clusters=(EMBEDDED,),
    ),
    Entry(
        "ping flood",
        causes.said_by(_source, SENDS, lambda: faults.PingFlood(500)),
        Kind.HARMLESS,
        clusters=(EMBEDDED,),
    ),
    Entry(
        "message with an unknown channel",
        causes.said_by(_source, SENDS, lambda: faults.Stray(9, b"what?")),
        Kind.HARMLESS,
        clusters=(EMBEDDED,),
    ),
    Entry(
        "oversized message",
        causes.said_by(_source, SENDS, lambda: faults.Stray(1, bytes(80 << 20))),
        Kind.FINAL,
        ("a message of", "is the most"),
        clusters=(EMBEDDED,),
    ),
    Entry(
        "redirect (302)",
        causes.always_said_by(_destination, RECEIVES, causes.redirect),
        Kind.FINAL,
        ("redirect (HTTP 302)", "not followed"),
        clusters=(EMBEDDED,),
    ),
    Entry(
        "forbidden (403)",
        causes.always_said_by(
            _destination, RECEIVES, causes.status(403, "Forbidden", "pods is forbidden")
        ),
        Kind.FINAL,
        ("forbids",),
        code=4,
        clusters=(EMBEDDED,),
    ),
    Entry(
        "server unavailable (503), once",
        causes.said_by(
            _destination, RECEIVES, causes.status(503, "ServiceUnavailable", "not ready")
        ),
        Kind.PASSES,
        ("503",),
        clusters=(EMBEDDED,),
    ),
    Entry(
        "too many requests (429), once",
        causes.said_by(
            _destination, RECEIVES, causes.status(429, "TooManyRequests", "too many requests")
        ),
        Kind.PASSES,
        ("429",),
        clusters=(EMBEDDED,),
    ),
    Entry(
        "token expired in mid-copy (401), exec plugin",
        causes.expired_token,
        Kind.PASSES,
        ("connection",),
        clusters=(EMBEDDED,),
    ),
)
