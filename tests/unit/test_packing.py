"""Whether what passes is compressed, by what was asked for, found, and measured."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import pytest

from kubectl_podcp import gauge, packing
from kubectl_podcp.ends import LocalEnd, PodEnd
from kubectl_podcp.errors import ConnectionLost, DestinationRefused, Interrupted, SourceError
from kubectl_podcp.exec.channels import Closed, Status, Stdout
from kubectl_podcp.packing import PLAIN, Packing, of_source, of_target
from kubectl_podcp.paths import Kind, PodPath, SourceFacts, TargetFacts
from kubectl_podcp.remote import probe
from kubectl_podcp.request import CopyRequest, Options
from tests.unit.sessions import ScriptedSession

HERE, THERE = PodPath(None, "web-0", b"/a"), PodPath(None, "web-1", b"/b")
FACTS = SourceFacts(b"/", b"a", Kind.DIRECTORY)
FOUND = probe.Source(FACTS, probe.Tar.GNU, packers=("gzip",))
TARGET = probe.Target(
    TargetFacts(b"/", b"b", Kind.MISSING, Kind.MISSING, writable=True),
    probe.Tar.GNU,
    fullblock=True,
    unpackers={"gzip": "gzip -dc"},
)
END = Closed(1000, "")
DONE = Status(True, "", "", 0)


@dataclass(frozen=True, slots=True)
class Named(PodEnd):
    """A container that is only spoken of, or one whose session is written down."""

    cluster: Any = None
    pod: Any = None
    name: str = "web-0"
    session: Any = None

    def __str__(self) -> str:
        return self.name

    def open(self, *_: object) -> Any:
        if isinstance(self.session, BaseException):
            raise self.session
        return self.session


def asked(kind: str) -> CopyRequest:
    return CopyRequest.of("web-0:/a", "web-1:/b", Options(compress=kind))


def test_nothing_is_compressed_unless_somebody_asks() -> None:
    assert of_source(Named(), HERE, asked("none"), FOUND) is PLAIN
    assert of_target(Named(), THERE, asked("none"), TARGET, PLAIN) is PLAIN


def test_what_is_asked_for_by_name_is_done() -> None:
    assert of_source(Named(), HERE, asked("gzip"), FOUND) == Packing("gzip")
    assert of_target(Named(), THERE, asked("gzip"), TARGET, PLAIN) == Packing("gzip")


def test_between_this_machine_and_itself_nothing_is() -> None:
    assert of_source(LocalEnd(), HERE, asked("gzip"), replace(FOUND, packers=())) == PLAIN
    assert of_target(LocalEnd(), THERE, asked("gzip"), TARGET, PLAIN) == PLAIN


def test_an_end_that_cannot_is_named() -> None:
    with pytest.raises(SourceError, match=r"there is no zstd in web-0"):
        of_source(Named(), HERE, asked("zstd"), FOUND)
    with pytest.raises(DestinationRefused, match=r"nothing that undoes zstd in web-1"):
        of_target(Named(), THERE, asked("zstd"), TARGET, PLAIN)


def measured(monkeypatch: pytest.MonkeyPatch, share: float | None, rate: float | None) -> None:
    """Say what is measured; None: that could not be."""
    sample = None if share is None else (share, rate)
    monkeypatch.setattr(gauge, "sample", lambda *_, **__: sample)
    monkeypatch.setattr(gauge, "rate_to", lambda _: rate)


def test_what_is_measured_decides_and_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, 0.25, 1 << 20)
    source = of_source(Named(), HERE, asked("auto"), FOUND)
    said = "web-0 sends gzip: 1.0 MiB/s go, and of a sample 25% are left"
    assert source == Packing("gzip", said, 0.25)
    target = of_target(Named(name="web-1"), THERE, asked("auto"), TARGET, source)
    said = "web-1 is sent gzip: 1.0 MiB/s go, and of a sample 25% are left"
    assert target == Packing("gzip", said)
    measured(monkeypatch, 0.25, 1 << 30)
    assert of_source(Named(), HERE, asked("auto"), FOUND).kind == ""
    assert of_target(Named(), THERE, asked("auto"), TARGET, source).kind == ""


def test_what_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, 0.25, 1 << 20)
    source = of_source(Named(), HERE, asked("auto"), replace(FOUND, packers=()))
    assert (source.kind, source.share) == ("", 0.25)
    assert source.remark.endswith("; there is nothing to compress it with")
    for there in (replace(TARGET, unpackers={}), replace(TARGET, fullblock=False)):
        target = of_target(Named(), THERE, asked("auto"), there, source)
        assert target.kind == ""
        assert target.remark.endswith("; there is nothing to compress it with")


def test_what_cannot_be_measured_goes_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    measured(monkeypatch, None, None)
    source = of_source(Named(), HERE, asked("auto"), FOUND)
    assert source.kind == ""
    assert "too little" in source.remark
    assert of_source(LocalEnd(), HERE, asked("auto"), FOUND) == PLAIN
    assert "not known" in of_target(Named(), THERE, asked("auto"), TARGET, source).remark
    known = Packing("", "", 0.5)
    assert "not be measured" in of_target(Named(), THERE, asked("auto"), TARGET, known).remark


# --- measuring ---------------------------------------------------------------------------------


def saying(*events: Any) -> tuple[Named, ScriptedSession]:
    session = ScriptedSession()
    session.say(*events)
    return Named(session=session), session


def test_a_sample_says_how_far_it_shrinks_and_how_fast_it_came() -> None:
    piece = Stdout(b"y\n" * (gauge.SAMPLE // 16))
    end, session = saying(*[piece] * 8, DONE, END)
    found = gauge.sample(end, FACTS, follow=False)
    assert found is not None
    share, rate = found
    assert share < 0.01
    assert rate
    assert session.closed


def test_a_sample_that_does_not_end_is_none() -> None:
    """It would be held whole."""
    end, session = saying(Stdout(b"y\n"))
    session.repeat = Stdout(b"y" * 32768)
    assert gauge.sample(end, FACTS, follow=False) is None
    assert session.taken < 20
    assert session.closed


def test_too_small_a_sample_is_none() -> None:
    for data in (b"", b"x" * (gauge.LEAST - 1), b"x" * (gauge.SAMPLE // 4)):
        end, session = saying(Stdout(data), DONE, END)
        assert gauge.sample(end, FACTS, follow=False) is None
        assert session.closed


def test_noise_is_sent_and_its_answer_waited_for() -> None:
    end, session = saying(*[Stdout(b"\n")] * 3, DONE, END)
    assert gauge.rate_to(end)
    assert len(session.input) == gauge.SAMPLE + 2
    assert session.closed


class SlowToStart(ScriptedSession):
    """Its first answer takes a while."""

    def receive(self, timeout: float | None = None) -> Any:
        if len(self.input) == 1:
            time.sleep(0.5)
        return super().receive(timeout)


def test_how_long_a_shell_takes_to_start_says_nothing_of_the_way() -> None:
    session = SlowToStart()
    session.say(*[Stdout(b"\n")] * 3)
    rate = gauge.rate_to(Named(session=session))
    assert rate is not None
    assert rate > gauge.SAMPLE / 0.5


def test_a_measurement_that_fails_is_none_and_a_signal_is_a_signal() -> None:
    for events in ([DONE, END], [ConnectionLost("gone")], []):
        end, session = saying(*events)
        assert gauge.rate_to(end) is None
        assert session.closed
        end, session = saying(*events)
        assert gauge.sample(end, FACTS, follow=False) is None
        assert session.closed
    end = Named(session=ConnectionLost("none was opened"))
    assert gauge.rate_to(end) is None
    assert gauge.sample(end, FACTS, follow=False) is None
    with pytest.raises(Interrupted):
        gauge.rate_to(Named(session=Interrupted(2)))


def test_on_this_machine_there_is_no_way_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalEnd, "run", lambda *_: b"y\n" * gauge.LEAST)
    found = gauge.sample(LocalEnd(), FACTS, follow=False)
    assert found is not None
    assert found[1] is None
    assert packing.of_source(LocalEnd(), HERE, asked("auto"), FOUND) == Packing("", "", found[0])
