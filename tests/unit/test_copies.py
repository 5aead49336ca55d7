"""Several copies in one run: what is asked before anything is copied, and how they end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from kubectl_podcp import cli, copies
from kubectl_podcp import plan as plans
from kubectl_podcp.errors import (
    AccessError,
    Interrupted,
    NoDirectory,
    PodcpError,
    SourceNotFound,
    Unreachable,
    UsageError,
)
from kubectl_podcp.paths import parse
from kubectl_podcp.plan import Plan
from kubectl_podcp.report import Failure, Result, Tally
from kubectl_podcp.request import CopyRequest, Options
from tests.unit.test_report import report

A, B, C, TO = "web-0:/a", "web-1:/b", "./c", "deploy/store:/srv"


class Cluster:
    """Stands for all that is asked of a cluster.

    :ivar done: what was done, in order.
    :ivar fails: sources to the error of their plan, or of their copy.
    """

    def __init__(self) -> None:
        self.done: list[str] = []
        self.plans: dict[str, PodcpError] = {}
        self.copies: dict[str, PodcpError] = {}
        self.statuses: dict[str, str] = {}

    def plan(self, _clusters: object, request: CopyRequest) -> Plan:
        """Stand for :func:`plan.make`: the destination's Pod is chosen."""
        source, target = str(request.source), str(request.destination)
        self.done.append(f"plan {source} {target} {'into' if request.into else ''}")
        if source in self.plans:
            raise self.plans[source]
        end = SimpleNamespace(notices=["taking Pod store-0"])
        chosen = replace(request, destination=parse("store-0:/srv"))
        return Plan(None, chosen, end, end, None, None, None)  # type: ignore[arg-type]

    def perform(
        self, plan: Plan, tally: Tally, notice: Callable[[str], None], _began: float
    ) -> Result:
        """Stand for :func:`copy.perform`."""
        source = str(plan.request.source)
        self.done.append(f"copy {source}")
        assert (tally.received, tally.files, tally.total) == (0, 0, None)
        tally.received, tally.files, tally.total = 3, 1, 5
        for said in (*plan.source.notices, "again"):
            notice(said)
        if source in self.copies:
            raise self.copies[source]
        return report(source=source, status=self.statuses.get(source, "complete"))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster in whose place somebody answers."""
    made = Cluster()
    monkeypatch.setattr(copies, "clusters", lambda _request, _known: (None, None))
    monkeypatch.setattr(copies, "perform", made.perform)
    monkeypatch.setattr(plans, "make", made.plan)
    return made


def test_all_plans_are_made_before_anything_is_copied(cluster: Cluster) -> None:
    notices, told, tally = list[str](), list[Result](), Tally()
    words = [A, B, C]
    results = copies.copy_all(
        words, TO, tally=tally, on_notice=notices.append, on_result=told.append
    )
    assert cluster.done == [
        f"plan {A} {TO} into",
        f"plan {B} store-0:/srv into",  # all go to the Pod that was chosen first
        f"plan {C} store-0:/srv into",
        *(f"copy {word}" for word in words),
    ]
    assert told == results == [report(source=word) for word in words]
    assert notices == ["taking Pod store-0", "again", "again", "again"]


def test_what_fails_is_named_and_the_others_are_copied(cluster: Cluster) -> None:
    cluster.plans[A] = SourceNotFound("gone")
    cluster.copies[B] = Unreachable("no answer")
    results = copies.copy_all([A, B, C], TO)
    assert cluster.done[-2:] == [f"copy {B}", f"copy {C}"]
    failures = [each for each in results if isinstance(each, Failure)]
    assert [each.message() for each in failures] == [f"{A}: gone", f"{B}: no answer"]
    assert results[2] == report(source=C)


def test_a_destination_that_is_no_directory_is_said_once(cluster: Cluster) -> None:
    cluster.plans[B] = NoDirectory("target is not a directory")
    with pytest.raises(NoDirectory):
        copies.copy_all([A, B, C], TO)
    assert not any(each.startswith("copy") for each in cluster.done)


@pytest.mark.parametrize("when", ["plans", "copies"])
def test_a_signal_ends_all(cluster: Cluster, when: str) -> None:
    getattr(cluster, when)[A] = Interrupted(signal.SIGINT)
    with pytest.raises(Interrupted):
        copies.copy_all([A, B], TO)
    assert f"copy {B}" not in cluster.done


@pytest.mark.parametrize(
    ("sources", "options", "said"),
    [
        ([A, B], Options(no_target_directory=True), "with several sources"),
        ([A, B], Options(files_from=("x",)), "--files-from names what is in one source"),
        ([A, "web-1:/x/a/"], Options(), "web-0:/a and web-1:/x/a/ would both become 'a'"),
        ([A, "a/b/:x"], Options(), "'a/b/:x' does not match"),
        ([], Options(), "no source"),
    ],
)
def test_what_the_words_tell_is_said_before_anything_is_asked(
    cluster: Cluster, sources: list[str], options: Options, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        copies.copy_all(sources, TO, options)
    assert cluster.done == []


@pytest.mark.usefixtures("cluster")
def test_contents_have_no_name_to_collide() -> None:
    assert len(copies.copy_all(["web-0:/a/.", "web-1:/b/."], TO)) == 2


@pytest.mark.parametrize(
    ("errors", "partly", "code", "last"),
    [
        ({}, (), 0, "complete: 2 copies, 2 files, 27.0 MiB"),
        ({A: SourceNotFound("gone")}, (), 3, "partial: 1 of 2 copies complete, 1 file,"),
        ({}, (A,), 3, "partial: 1 of 2 copies complete, 2 files,"),
        ({A: AccessError("no"), B: SourceNotFound("x")}, (), 4, "failed: 0 of 2 copies complete"),
        ({A: SourceNotFound("x"), B: AccessError("no")}, (), 1, "failed: 0 of 2 copies complete"),
    ],
)
def test_how_a_run_ends(
    cluster: Cluster,
    capsys: pytest.CaptureFixture[str],
    errors: dict[str, PodcpError],
    partly: tuple[str, ...],
    code: int,
    last: str,
) -> None:
    cluster.copies = errors
    cluster.statuses = dict.fromkeys(partly, "partial")
    assert cli.main(["kubectl-podcp", A, B, TO]) == code
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(last)
    assert len([line for line in lines if line.startswith("error: ")]) == len(errors)
    assert cli.main(["kubectl-podcp", "-q", A, B, TO]) == code
    assert len(capsys.readouterr().err.splitlines()) == (
        0 if not code else 1 + len(errors or partly)
    )
