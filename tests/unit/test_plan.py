"""What a plan says that no end-to-end test can arrange everywhere."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from kubectl_podcp.attempt import Attempt
from kubectl_podcp.errors import SourceError
from kubectl_podcp.fidelity import KEPT, TIMESTAMPS
from kubectl_podcp.paths import Kind, Placement, SourceFacts
from kubectl_podcp.plan import Plan, check_made
from kubectl_podcp.remote import probe
from kubectl_podcp.remote.scripts import Staging
from kubectl_podcp.report import Tally
from kubectl_podcp.request import CopyRequest, Options

HOST = probe.Source(
    SourceFacts(b"/", b"host", Kind.DIRECTORY), probe.Tar.GNU, made=(b"/host/proc", b"/host/sys/fs")
)


def asked(**options: object) -> CopyRequest:
    return CopyRequest.of("web-0:/host", "./copy", Options(**options))  # type: ignore[arg-type]


def test_a_tree_with_something_that_the_kernel_makes_is_refused() -> None:
    with pytest.raises(SourceError, match=r"^/host/proc is in it") as caught:
        check_made(asked(), HOST)
    assert caught.value.advice == "leave it out: --exclude '/proc'"
    with pytest.raises(SourceError, match=r"^/host/sys/fs is in it"):
        check_made(asked(exclude=("/proc",)), HOST)
    with pytest.raises(SourceError, match=r"^/host/proc is in it"):
        check_made(asked(files_from=("etc", "proc/version")), HOST)


def test_what_is_left_out_does_not_matter() -> None:
    check_made(asked(exclude=("/proc", "/sys")), HOST)
    check_made(asked(files_from=("etc", "sys/class")), HOST)


def test_a_copy_has_one_time_however_often_it_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written to stdout begins with it, and cannot be taken back."""
    clock = itertools.count(1000)
    monkeypatch.setattr("time.time", lambda: next(clock))
    end: Any = SimpleNamespace(notices=[])
    for preserve, mtime in ((KEPT, None), (KEPT - {TIMESTAMPS}, 1001)):
        there: Any = SimpleNamespace(umask=0o022)
        request = asked(preserve=preserve)
        plan = Plan((None, None), request, end, end, HOST, there, Placement(b"/", b"host"))  # type: ignore[arg-type]
        staging = Staging(plan.placement, "0" * 32, b"host")
        tries = [Attempt(each, staging, Tally()) for each in (plan, plan, replace(plan))]
        assert [each._rewriting.mtime for each in tries] == [mtime] * 3
