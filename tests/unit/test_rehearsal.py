"""What ``--dry-run`` says, in the words of a person."""

from __future__ import annotations

from typing import Any

from kubectl_podcp import rehearsal
from kubectl_podcp.attempt import Attempt
from kubectl_podcp.ends import LocalEnd
from kubectl_podcp.paths import Kind, Placement, SourceFacts, TargetFacts
from kubectl_podcp.plan import Plan
from kubectl_podcp.remote import probe
from kubectl_podcp.remote.scripts import Staging
from kubectl_podcp.report import Tally
from kubectl_podcp.request import CopyRequest, Options


def rehearsed(**options: object) -> rehearsal.Rehearsal:
    """Return what is said of a FIFO that is copied onto another one."""
    request = CopyRequest.of("web-0:/a/pipe", "./b/", Options(**options))  # type: ignore[arg-type]
    found = probe.Source(SourceFacts(b"/a", b"pipe", Kind.OTHER), probe.Tar.GNU)
    facts = TargetFacts(b"/b", b"", Kind.DIRECTORY, Kind.OTHER, writable=True)
    there = probe.Target(facts, probe.Tar.GNU, fullblock=True)
    clusters: Any = (None, None)
    placement = Placement(b"/b", b"pipe")
    plan = Plan(clusters, request, LocalEnd(), LocalEnd(), found, there, placement)
    return rehearsal.of(plan, Attempt(plan, Staging(placement, "0" * 32, b"pipe"), Tally()))


def test_what_is_neither_file_nor_directory_has_a_name() -> None:
    said = rehearsed().text()
    assert "source: /a/pipe (special file) on this machine" in said
    assert "destination: /b/pipe (a special file, replaced) on this machine" in said
    assert rehearsed(no_clobber=True).destination.stands == "a special file, kept"
