"""What a copy does where no end-to-end test can be quick enough to see it."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Iterable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

from kubectl_podcp import fidelity
from kubectl_podcp.archive.follower import Hashed
from kubectl_podcp.archive.headers import REGULAR, Member
from kubectl_podcp.errors import (
    DestinationRefused,
    ExecFailed,
    Interrupted,
    NotAcknowledged,
    TimedOut,
)
from kubectl_podcp.paths import Kind, Placement, SourceFacts, TargetFacts
from kubectl_podcp.plan import Plan
from kubectl_podcp.remainder import Remainder, remainder
from kubectl_podcp.remote import listing, probe
from kubectl_podcp.remote.probe import Tar
from kubectl_podcp.remote.scripts import Staging
from kubectl_podcp.report import Tally
from kubectl_podcp.request import CopyRequest, Options
from kubectl_podcp.tries import Tries
from kubectl_podcp.verify import Ledger


class Slow(Tries):
    """Cleans up when its time is just over, or a signal comes."""

    def __init__(self, error: Interrupted) -> None:
        self.times = 0
        self.error = error

    def _clean_up(self, *, kept: bool = True) -> list[str]:
        self.times += 1
        if self.times == 1:
            raise self.error
        return [f"cleaned, kept: {kept}"]


@pytest.mark.parametrize("error", [TimedOut(5.0), Interrupted(signal.SIGTERM)], ids=str)
def test_what_comes_while_it_cleans_up_does_not_end_that(error: Interrupted) -> None:
    """Another error came before it, and counts."""
    tries = Slow(error)
    assert tries._clean_up_at_the_end(kept=False) == ["cleaned, kept: False"]
    assert tries.times == 2


class Restarted(Tries):
    """Was made for ``plan``, and has read a file to its end."""

    def __init__(self, plan: Any) -> None:
        self._plan = plan
        self._ledger = Ledger()
        self._ledger.note(Hashed(Member(b"file", REGULAR, 5, 0o644, 0, 0, 0), bytes(32)))
        self._on_notice = lambda _: None

    def _new_staging(self, *, kept: bool) -> Any:
        return kept


@pytest.mark.parametrize(("source", "known"), [("first", 1), ("second", 0)])
@pytest.mark.parametrize("target", ["first", "second"])
def test_what_another_source_had_is_forgotten(
    monkeypatch: pytest.MonkeyPatch, source: str, target: str, known: int
) -> None:
    """Whatever became of the destination: on a volume it may have what the first source sent."""
    request = SimpleNamespace(partial=True, checksum=False)
    before = SimpleNamespace(source="first", target="first", key="key", request=request)
    after = SimpleNamespace(source=source, target=target, key="key", request=request)
    monkeypatch.setattr("kubectl_podcp.plan.renewed", lambda _: after)
    tries = Restarted(before)
    tries._ask_again()
    assert tries._ledger is not None
    assert len(tries._ledger) == known


class Blocked(Tries):
    """Cannot remove what has the staging folder's name."""

    def __init__(self) -> None:
        placement = Placement(b"/tmp", b"file")
        self._staging = Staging(placement, "0" * 32, b"file")
        self._plan: Any = SimpleNamespace(placement=placement, target=self)

    def ask(self, _script: str, _timeout: float) -> bytes:
        raise ExecFailed("sh ended with exit code 1", stderr=b"rm: not permitted")


def test_whose_folder_is_in_the_way_is_said() -> None:
    said = f"/tmp/.podcp-{'0' * 32} is where what arrives would be kept, but somebody else has"
    with pytest.raises(DestinationRefused, match=re.escape(said)) as caught:
        Blocked()._make_room(is_foreign=True)
    assert caught.value.stderr == b"rm: not permitted"
    assert "leave out --partial" in caught.value.advice
    with pytest.raises(ExecFailed):
        Blocked()._make_room(is_foreign=False)


class Patient(Tries):
    """Notes how long the destination is given, which says nothing."""

    def __init__(self, *, size: int | None, received: int) -> None:
        self.limits = list[float]()
        end = SimpleNamespace(ask=self._said, run=self._said)
        facts = SourceFacts(b"/data", b"big", Kind.FILE, size)
        found: Any = SimpleNamespace(target=end, found=SimpleNamespace(facts=facts))
        self._plan = found
        self._staging = Staging(Placement(b"/srv", b"big"), "0" * 32, b"big", place=False)
        self._tally = Tally()
        self._tally.received = received
        self._overwriting: Any = SimpleNamespace(rules=lambda: None)
        self._lock = threading.Lock()
        self._look_first = self._given_up = False

    def _said(self, _script: str, timeout: float, *_: object, **__: object) -> bytes:
        self.limits.append(timeout)
        return b""


@pytest.mark.parametrize(("size", "received"), [(1 << 40, 0), (None, 1 << 40)])
def test_joining_a_big_file_may_take_as_long_as_reading_it(size: int | None, received: int) -> None:
    """Also before a third try, which would otherwise fail though it could go on."""
    tries = Patient(size=size, received=received)
    assert tries._look() is None
    with pytest.raises(NotAcknowledged):
        tries._commit()
    listed, _, committed = tries.limits
    assert min(listed, committed) > (1 << 40) / 100e6


def test_removing_what_is_of_no_use_may_take_long() -> None:
    """The next try waits for it, and nobody else does."""
    tries = Patient(size=None, received=0)
    assert tries._look() is None
    assert tries.limits[1] >= 600


class Items:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.members = list[Member]()

    def restart(self) -> None:
        """Nothing was told yet."""

    def begin(self, staged: Iterable[Member]) -> None:
        """Keep what is there."""
        self.members += staged

    def add(self, member: Member) -> None:
        """Keep what passes."""
        self.members.append(member)


WHOLE_SECONDS = fidelity.KEPT
FRACTIONS = fidelity.preserved([(True, "timestamps")])


def partial_tries(preserve: fidelity.Preserved, leftovers: tuple[bytes, ...], tar: Tar) -> Tries:
    """Return the tries of a run with ``--partial`` that finds ``leftovers``."""
    options = Options(partial=True, preserve=preserve)
    request = CopyRequest.of("web-0:/tree", "./srv/", options)

    def refuse(*_: object) -> NoReturn:
        raise ExecFailed("no sh")

    end: Any = SimpleNamespace(identity=b"here", notices=[], open=refuse)
    found = probe.Source(SourceFacts(b"/", b"tree", Kind.DIRECTORY), Tar.GNU)
    facts = TargetFacts(b"/srv", b"", Kind.DIRECTORY, Kind.MISSING, writable=True)
    there = replace(probe.Target(facts, tar, fullblock=True), leftovers=leftovers)
    clusters: Any = (None, None)
    plan = Plan(clusters, request, end, end, found, there, Placement(b"/srv", b"tree"))
    return Tries(plan, Tally(), lambda _: None)


@pytest.mark.parametrize(
    ("before", "now", "tar", "goes_on"),
    [
        (WHOLE_SECONDS, WHOLE_SECONDS, Tar.GNU, True),
        (FRACTIONS, FRACTIONS, Tar.GNU, True),
        (WHOLE_SECONDS, FRACTIONS, Tar.GNU, False),
        (FRACTIONS, WHOLE_SECONDS, Tar.GNU, False),
        (WHOLE_SECONDS, FRACTIONS, Tar.BUSYBOX, True),
    ],
)
def test_a_run_goes_on_from_another_one_that_kept_as_much_of_times(
    before: fidelity.Preserved, now: fidelity.Preserved, tar: Tar, goes_on: bool
) -> None:
    """A listing has whole seconds: by it, a file without its fraction would be taken as whole."""
    left = partial_tries(before, (), tar)._staging.name
    assert partial_tries(now, (left,), tar)._look_first == goes_on


def staged() -> Remainder:
    """Return what is left where a file with setuid is there, and one without is not."""
    nonce, time = "ab" * 16, "2020-01-01 00:00:00.0 +0000"
    entries = (("41ed", 0, "t"), ("89ed", 9, "t/su"), ("81a4", 9, "t/f"))
    lines = (
        f"{nonce} {mode} {size} 8 1000 0:0 1 {time} ./{name}\n" for mode, size, name in entries
    )
    source = listing.parse(f"{''.join(lines)}\npodcp-{nonce} listed 0 names\n".encode(), nonce)
    assert source is not None
    return remainder(source, whole=frozenset({b"t/su"}))


@pytest.mark.parametrize(
    ("words", "mode", "said"),
    [
        ("", 0o755, "t/su: copied without setuid and setgid"),
        ("mode", 0o4755, "setuid and setgid, where the tar there keeps them, are those of 5:5"),
    ],
)
def test_what_was_said_of_a_file_is_said_though_a_retry_does_not_send_it(
    words: str, mode: int, said: str
) -> None:
    tries = partial_tries(fidelity.preserved([(True, words)] if words else []), (), Tar.GNU)
    items = Items()
    tries._tally.watcher = items
    attempt = tries._begin(staged(), resumed=True)
    assert attempt is not None
    assert [each.mode for each in items.members] == [mode]
    with pytest.raises(ExecFailed):
        attempt.run()
    attempt._on_ready((5, 5), True)
    attempt._note_owner(attempt._owners, has_setid=attempt._has_setid)
    about = [each for each in tries._tally.all_notices() if "setuid" in each]
    assert len(about) == 1
    assert about[0].startswith(said)
