"""Several destinations: which are meant, what is refused, and how each one ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from kubectl_podcp import arguments, copies, fanout
from kubectl_podcp import plan as plans
from kubectl_podcp.cluster import workloads
from kubectl_podcp.cluster.workloads import Ready
from kubectl_podcp.errors import (
    ConnectionLost,
    DestinationFailed,
    Interrupted,
    PodcpError,
    PodNotFound,
    SourceNotFound,
    UsageError,
)
from kubectl_podcp.paths import parse
from kubectl_podcp.plan import Plan
from kubectl_podcp.report import Failure, Result, Tally, total
from kubectl_podcp.request import CopyRequest, Options
from kubectl_podcp.tries import Again
from tests.unit.test_report import report

FROM = "web-0:/a"


# --- what the words mean -------------------------------------------------------------------------


def test_labels_and_a_path_are_a_destination() -> None:
    for word, namespace in ((":/x", None), ("shop/:/x", "shop")):
        path = parse(word, "app=web")
        assert (path.namespace, path.selector, path.path) == (namespace, "app=web", b"/x")  # type: ignore[union-attr]
        assert str(path) == word
        with pytest.raises(UsageError, match="names no Pod") as caught:
            parse(word)
        assert "-l app=web" in caught.value.advice
    taken = parse("shop/:/x", "app=web").in_pod("web-1")  # type: ignore[union-attr]
    assert str(taken) == "shop/web-1:/x"
    assert str(parse("web-0:/x", "app=web")) == "web-0:/x"


@pytest.mark.parametrize(
    ("words", "sources", "destinations"),
    [
        (["a:/x", "b:/y"], ["a:/x"], ["b:/y"]),
        (["a:/x", "--to", "b:/y", "--to", "c:/z"], ["a:/x"], ["b:/y", "c:/z"]),
        (["-l", "app=web", "a:/x", ":/y"], ["a:/x"], [":/y"]),
    ],
)
def test_the_command_line_names_destinations(
    words: list[str], sources: list[str], destinations: list[str]
) -> None:
    said = arguments.parse("podcp", words)
    assert (said.sources, said.destinations) == (sources, destinations)


def test_with_destinations_there_is_a_source_yet() -> None:
    with pytest.raises(UsageError, match=r"required: SOURCE\n"):
        arguments.parse("podcp", ["--to", "b:/y"])


TO = ("b:/x", "c:/x")


@pytest.mark.parametrize(
    ("sources", "words", "options", "said"),
    [
        ([], TO, Options(), "there is no source"),
        ([FROM, "web-1:/a"], TO, Options(), "would both become 'a'"),
        ([FROM, "web-1:/b"], TO, Options(no_target_directory=True), "cannot be each of them"),
        ([FROM, "-"], TO, Options(), "- stands for one stream"),
        (["-"], TO, Options(), "- stands for one stream"),
        ([FROM], ("b:/x", "-"), Options(), "- stands for one stream"),
        ([FROM], TO, Options(partial=True), "--partial is for one destination"),
        ([FROM], TO, Options(update=True), "--update is for one destination"),
        ([FROM], TO, Options(checksum=True), "--checksum is for one destination"),
        ([FROM], TO, Options(interactive=bool), "--interactive is for one destination"),
        ([FROM], ("b:/x", "b:/x"), Options(), "b:/x is named twice"),
        ([FROM], TO, Options(selector="app=web"), "each destination names its own"),
        ([FROM], (":/x",), Options(selector="app=web", partial=True), "--partial"),
        ([FROM], ("b:/x",), Options(all_pods=True), "no destination names such"),
        ([FROM], (":/x", "b:/x"), Options(), "names no Pod"),
        ([FROM], (), Options(), "there is no destination"),
    ],
)
@pytest.mark.parametrize("rehearsed", [False, True])
def test_what_cannot_be_is_said_before_anything_is_asked(
    sources: list[str], words: Sequence[str], options: Options, said: str, rehearsed: bool
) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        if rehearsed:
            copies.rehearse_all(sources, words, options, print)
        else:
            copies.copy_all(sources, words, options)
    assert caught.value.advice


# --- the copies ----------------------------------------------------------------------------------


class Attempt:
    """Stands for an attempt: the first one's relay gives each its end."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.passed = 7

    def run_for(self, attempts: Sequence[Attempt], on_end: Callable[[Attempt], None]) -> None:
        """Tell that each one has ended."""
        self.world.done.append(f"relay {' '.join(each.name for each in attempts)}")
        for each in attempts:
            if self.world.interrupts == each.name:
                raise Interrupted(signal.SIGINT)
            on_end(each)


class Tries:
    """Stands for :class:`kubectl_podcp.tries.Tries`."""

    def __init__(self, plan: Plan, tally: Tally, notice: Callable[[str], None]) -> None:
        self.world: World = plan.clusters  # type: ignore[assignment]
        self.name = str(plan.request.destination)
        self.tally = tally
        self.notice = notice
        self.source_failed = self.name in self.world.blames_source

    def wanted(self) -> None:
        """All of it is."""

    def join(self, left: None) -> Attempt | None:
        """Return the attempt."""
        assert left is None
        return None if self.world.is_nothing else Attempt(self.world, self.name)

    def learn(self, other: Tries) -> None:
        """Nothing was learnt."""

    def conclude(self, attempt: Attempt) -> str:
        """End as told."""
        assert attempt.name == self.name
        error = self.world.first.get(self.name)
        if error is not None:
            raise error
        return self.name

    def go_on(self, error: PodcpError) -> str:
        """Try alone."""
        self.world.done.append(f"again {self.name}")
        if self.name in self.world.later:
            raise self.world.later[self.name]
        assert error is not None
        return self.name

    def fail(self, error: PodcpError) -> str:
        """Do not."""
        self.world.done.append(f"give up {self.name}")
        raise error

    def give_up(self) -> str:
        """Say what is left."""
        return "nothing is there"

    def report(self, delivered: object, _began: float, owner: str) -> Result:
        """Return one."""
        assert delivered == self.name or self.world.is_nothing
        return report(destination=self.name, owner=owner)


class World:
    """A cluster in whose place somebody answers.

    :ivar first: how conclusions fail; :ivar later: how copies to one alone do.
    """

    def __init__(self) -> None:
        self.done: list[str] = []
        self.plans: dict[str, PodcpError] = {}
        self.first: dict[str, Exception] = {}
        self.later: dict[str, PodcpError] = {}
        self.blames_source: set[str] = set()
        self.interrupts = ""
        self.is_nothing = False
        self.keys: dict[str, str] = {}
        self.umasks: dict[str, int] = {}
        self.source: PodcpError | None = None
        self.missing = ""

    def ask(self, _clusters: object, request: CopyRequest) -> str:
        """Stand for :func:`plan.ask`."""
        self.done.append(f"ask {request.source}")
        if self.source is not None:
            raise self.source
        if str(request.source) == self.missing:
            raise SourceNotFound("it is not there")
        return "asked"

    def toward(self, _clusters: object, request: CopyRequest, asked: str) -> Plan:
        """Stand for :func:`plan.toward`."""
        assert asked == "asked"
        name = str(request.destination)
        if name in self.plans:
            raise self.plans[name]
        end: Any = SimpleNamespace(notices=["a notice"], identity=name.encode())
        found: Any = SimpleNamespace(facts=SimpleNamespace(size=5, top=b"a"))
        placement: Any = SimpleNamespace(
            directory=b"/", name=self.keys.get(name, name).encode(), path=b"/x"
        )
        if name in self.keys:
            end.identity = b"same"
        there: Any = SimpleNamespace(umask=self.umasks.get(name, 0o022))
        return Plan(self, request, end, end, found, there, placement)  # type: ignore[arg-type]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A world; no thread outlives it."""
    made = World()
    monkeypatch.setattr(plans, "ask", made.ask)
    monkeypatch.setattr(plans, "toward", made.toward)
    cluster = SimpleNamespace(namespace="default")
    monkeypatch.setattr(fanout, "clusters", lambda _request, _known: (cluster, cluster))
    monkeypatch.setattr(fanout, "Tries", Tries)
    yield made
    for thread in threading.enumerate():
        if thread.daemon and thread is not threading.current_thread():
            thread.join(5)


B, C, D = "b:/x", "c:/x", "d:/x"


def copied(told: list[Result] | None = None, notices: list[str] | None = None) -> list[Result]:
    """Copy to three."""
    return copies.copy_all(
        [FROM],
        [B, C, D],
        on_result=(told if told is not None else []).append,
        on_notice=(notices if notices is not None else []).append,
    )


def words(results: Sequence[Result]) -> list[str]:
    """Return what became of each."""
    return [f"{each.destination} {each.status}" for each in results]


def test_one_relay_is_for_all(world: World) -> None:
    told, notices = list[Result](), list[str]()
    results = copied(told, notices)
    assert world.done == [f"ask {FROM}", f"relay {B} {C} {D}"]
    assert words(results) == [f"{each} complete" for each in (B, C, D)]
    assert sorted(words(told)) == words(results)
    assert notices == ["a notice"]


def test_what_fails_is_its_own_affair(world: World) -> None:
    world.plans[B] = PodNotFound("gone")
    world.first[D] = DestinationFailed("full")
    results = copied()
    assert world.done[-1] == f"relay {C} {D}"
    assert words(results) == [f"{B} failed", f"{C} complete", f"{D} failed"]
    messages = [each.message() for each in results if isinstance(each, Failure)]
    assert messages == [f"{B}: gone", f"{D}: full"]


@pytest.mark.parametrize(
    "said", ["--no-preserve", "--no-preserve=mode", "--chmod=+x", "--chmod=u+x,-r"]
)
@pytest.mark.parametrize("rehearsed", [False, True])
def test_one_archive_cannot_have_the_modes_that_two_umasks_make(
    world: World, said: str, rehearsed: bool
) -> None:
    """The modes of all were those of the first one's."""
    world.umasks[D] = 0o077
    asked = arguments.options(arguments.parse("podcp", [said, FROM, B]))
    with pytest.raises(UsageError, match=f"is 022 for {B}, and 077 for {D}") as caught:
        if rehearsed:
            copies.rehearse_all([FROM], [B, C, D], asked, print)
        else:
            copies.copy_all([FROM], [B, C, D], asked)
    assert "by itself" in caught.value.advice
    assert world.done == [f"ask {FROM}"]


@pytest.mark.parametrize("said", ["--chmod=a+x", "--chmod=-w", "--chmod=640", "--preserve=mode"])
def test_where_no_mode_goes_by_a_umask_they_may_differ(world: World, said: str) -> None:
    world.umasks[D] = 0o077
    asked = arguments.options(arguments.parse("podcp", [said, FROM, B]))
    results = copies.copy_all([FROM], [B, C, D], asked)
    assert words(results) == [f"{each} complete" for each in (B, C, D)]


def test_without_any_plan_nothing_is_copied(world: World) -> None:
    for each in (B, C, D):
        world.plans[each] = PodNotFound("gone")
    assert words(copied()) == [f"{each} failed" for each in (B, C, D)]
    assert world.done == [f"ask {FROM}"]


def test_a_source_that_is_not_there_is_said_once(world: World) -> None:
    world.source = SourceNotFound("none")
    with pytest.raises(SourceNotFound):
        copied()


def test_what_may_pass_is_tried_again_alone(world: World) -> None:
    world.first = {B: Again(ConnectionLost("reset")), D: Again(ConnectionLost("reset"))}
    world.later[D] = ConnectionLost("reset again")
    told = list[Result]()
    results = copied(told)
    assert world.done[-2:] == [f"again {B}", f"again {D}"]
    assert words(results) == [f"{B} complete", f"{C} complete", f"{D} failed"]
    assert words(told) == [f"{C} complete", f"{B} complete", f"{D} failed"]


def test_a_source_that_is_lost_for_one_is_lost_for_the_others(world: World) -> None:
    world.first = {each: Again(ConnectionLost("lost the source")) for each in (B, C, D)}
    world.later[B] = ConnectionLost("lost the source")
    world.blames_source = {B}
    assert words(copied()) == [f"{each} failed" for each in (B, C, D)]
    assert world.done[-3:] == [f"again {B}", f"give up {C}", f"give up {D}"]


def test_where_nothing_need_be_sent_nothing_is(world: World) -> None:
    world.is_nothing = True
    assert words(copied()) == [f"{each} complete" for each in (B, C, D)]
    assert world.done == [f"ask {FROM}"]


@pytest.mark.parametrize("when", ["together", "alone"])
def test_a_signal_says_what_is_where(world: World, when: str) -> None:
    if when == "together":
        world.interrupts = B
    else:
        world.first = {C: Again(ConnectionLost("reset")), D: Again(ConnectionLost("reset"))}
        world.later[C] = Interrupted(signal.SIGINT, left="nothing here")
    with pytest.raises(Interrupted) as caught:
        copied()
    lines = caught.value.left.splitlines()
    if when == "together":
        assert lines == [f"{each}: nothing is there" for each in (B, C, D)]
    else:
        assert lines == [f"{C}: nothing here", f"{D}: nothing is there"]


def test_each_of_several_sources_is_read_once(world: World) -> None:
    world.plans[B] = PodNotFound("gone")
    world.first[D] = DestinationFailed("full")
    told, notices = list[Result](), list[str]()
    results = copies.copy_all(
        [FROM, "web-1:/b"], [B, C, D], on_result=told.append, on_notice=notices.append
    )
    assert world.done == [f"ask {FROM}", "ask web-1:/b", f"relay {C} {D}", f"relay {C} {D}"]
    assert words(results) == [f"{B} failed", f"{C} complete", f"{D} failed"] * 2
    assert sorted(words(told)) == sorted(words(results))
    messages = [each.message() for each in results if isinstance(each, Failure)]
    assert messages == [
        f"{source} to {destination}"
        for source in (FROM, "web-1:/b")
        for destination in (f"{B}: gone", f"{D}: full")
    ]
    assert notices == ["a notice"]
    assert total(results, 1.0).endswith(
        f"; failed: {FROM} to {B}, {FROM} to {D}, web-1:/b to {B}, web-1:/b to {D}"
    )


def test_one_of_several_sources_that_is_not_there_hurts_no_other(world: World) -> None:
    world.missing = FROM
    results = copies.copy_all([FROM, "web-1:/b"], [B, C])
    assert words(results) == [f"{B} failed", f"{C} failed", f"{B} complete", f"{C} complete"]
    assert world.done[-1] == f"relay {B} {C}"


def test_a_source_that_nobody_can_expand_hurts_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def expanded(request: CopyRequest, *_: object) -> list[CopyRequest]:
        if request.source.name == b"*":
            raise SourceNotFound("nothing")
        return [request]

    monkeypatch.setattr(fanout, "expanded", expanded)
    results = copies.copy_all(["web-0:/*", FROM], [B, C])
    assert words(results) == [f"{B} failed", f"{C} failed", f"{B} complete", f"{C} complete"]
    with pytest.raises(SourceNotFound):
        copies.copy_all(["web-0:/*"], [B, C])
    assert world.done[-1] == f"relay {B} {C}"


def test_a_bug_reaches_the_caller(world: World) -> None:
    world.first[C] = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        copied()


def test_two_ways_to_one_place_are_refused(world: World) -> None:
    world.keys = {B: "x", D: "x"}
    with pytest.raises(UsageError, match=f"{B} and {D} are one place, /x"):
        copied()


# --- which Pods ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("world")
def test_labels_and_workloads_stand_for_their_ready_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    def labelled(_cluster: object, namespace: str, selector: str) -> Ready:
        assert (namespace, selector) == ("shop", "app=web")
        return Ready(("web-1", "web-2"), ("web-3 is Pending",))

    def of(_cluster: object, namespace: str, resource: str, name: str) -> Ready:
        assert (namespace, resource, name) == ("default", "deployments.apps", "api")
        return Ready(("api-1",), ())

    monkeypatch.setattr(workloads, "labelled_pods", labelled)
    monkeypatch.setattr(workloads, "ready_pods", of)
    notices = list[str]()
    made = copies.copy_all(
        [FROM],
        ["shop/:/x", "deploy/api:/x"],
        Options(selector="app=web", all_pods=True),
        on_notice=notices.append,
    )
    assert words(made) == ["shop/web-1:/x complete", "shop/web-2:/x complete", "api-1:/x complete"]
    assert notices[:3] == [
        "-l app=web: taking 2 Pods web-1, web-2",
        "-l app=web: not copied to, for web-3 is Pending",
        "deploy/api: taking Pod api-1",
    ]


def test_one_pod_is_copied_to_as_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Ready(("web-1",), ())
    monkeypatch.setattr(workloads, "labelled_pods", lambda *_: found)
    monkeypatch.setattr(
        fanout, "carry_out", lambda request, *_: report(destination=str(request.destination))
    )
    made = copies.copy_all([FROM], ":/x", Options(selector="app=web"))
    assert words(made) == ["web-1:/x complete"]
    assert world.done == []


def test_pods_that_cannot_be_found_are_a_failure_of_their_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> Ready:
        raise PodNotFound("no such Pods")

    monkeypatch.setattr(workloads, "labelled_pods", none)
    options = Options(selector="app=web")
    with pytest.raises(PodNotFound):
        copies.copy_all([FROM], ":/x", options)
    made = copies.copy_all([FROM], [B, ":/x"], options)
    assert words(made) == [f"{B} complete", ":/x failed"]
    assert world.done[0] == f"ask {FROM}"
