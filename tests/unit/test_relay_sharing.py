"""The relay between one scripted source and several destinations: each one for itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from kubectl_podcp import relay as module
from kubectl_podcp.archive.headers import marker
from kubectl_podcp.bandwidth import Bucket
from kubectl_podcp.errors import (
    ConnectionLost,
    DestinationFailed,
    IncompleteArchive,
    NotAcknowledged,
    PodcpError,
)
from kubectl_podcp.exec.channels import Protocol, Stdout
from kubectl_podcp.relay import Relay
from kubectl_podcp.remote.feed import ChunkedFeed, PlainFeed
from kubectl_podcp.sink import QUEUE_BATCHES, Sink
from tests.unit.peers import Background, until
from tests.unit.sessions import END, ScriptedSession
from tests.unit.test_relay import PIECE, SUCCESS, cut, passed_on, trailer


class Fan:
    """A relay from one scripted session to several.

    :ivar ended: sinks, in the order in which their ends were told.
    """

    def __init__(
        self,
        count: int = 3,
        stall_timeout: float | None = None,
        bucket: Bucket | None = None,
        epilogue: Callable[[bytes], bool] | None = None,
    ) -> None:
        self.source = ScriptedSession()
        versions = [list(Protocol)[number % 2] for number in range(count)]
        self.sessions = [ScriptedSession(version) for version in versions]
        self.nonces = [f"{number:032x}" for number in range(count)]
        self.sinks = [
            Sink(
                session,
                nonce=nonce,
                feed=PlainFeed() if session.protocol is Protocol.V5 else ChunkedFeed(),
                bucket=bucket,
                waiting=self.source.ping,
            )
            for session, nonce in zip(self.sessions, self.nonces, strict=True)
        ]
        self.ended: list[Sink] = []
        self.relay = Relay(
            self.source,
            self.sinks,
            filter_stdout=passed_on,
            end_of_source=cut,
            stall_timeout=stall_timeout,
            epilogue=epilogue,
        )

    def start(self, *ready: int) -> Background:
        """Run it in a thread, with the destinations of these numbers ready."""
        for number in ready:
            self.say(number, b"ready")
        return Background(lambda: self.relay.run(self.ended.append))

    def say(self, number: int, words: bytes) -> None:
        """Let a destination's shell say something with its own nonce."""
        said = Stdout(b"\npodcp-%s %s\n" % (self.nonces[number].encode(), words))
        self.sessions[number].say(said)

    def acknowledge(self, number: int) -> None:
        """Wait until a destination has got all, and acknowledge it."""
        session = self.sessions[number]
        session.wait_for(lambda it: it.stdin_ended or it.sent[-1:] == [b"0\n"])
        self.say(number, b"0 1 0")
        session.say(SUCCESS, END)

    def error(self, number: int) -> PodcpError:
        """Return how the copy to a destination failed."""
        with pytest.raises(PodcpError) as caught:
            self.relay.outcome(self.sinks[number])
        return caught.value

    def is_proved(self, number: int, size: int) -> None:
        """Check that a destination has got so many bytes, and its own marker alone."""
        assert self.relay.outcome(self.sinks[number]).sent == size
        for each, nonce in enumerate(self.nonces):
            sent = self.sessions[number].input
            assert (marker(nonce) in sent) == (each == number)


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Check that no thread outlives its copy."""
    before = set(threading.enumerate())
    yield
    assert [thread.name for thread in threading.enumerate() if thread not in before] == []


def test_each_destination_is_proved_by_its_own_words() -> None:
    fan = Fan()
    running = fan.start(0, 1, 2)
    fan.source.say(PIECE, PIECE, trailer(0), SUCCESS, END)
    for number in (2, 0, 1):
        fan.acknowledge(number)
    running.result()
    for number in range(3):
        fan.is_proved(number, 1024)
    assert set(fan.ended) == set(fan.sinks)
    assert fan.source.sent == [b"\n"]
    assert all(session.closed for session in (fan.source, *fan.sessions))


def test_the_acknowledgement_of_another_destination_proves_nothing() -> None:
    fan = Fan(2)
    running = fan.start(0, 1)
    fan.source.say(PIECE, trailer(0), END)
    fan.acknowledge(1)
    fan.sessions[0].wait_for(lambda it: bool(it.sent[-1:] == [b"0\n"] or it.stdin_ended))
    fan.sessions[0].say(Stdout(b"\npodcp-%s 0 1 0\n" % fan.nonces[1].encode()), END)
    running.result()
    assert "another copy" in fan.error(0).happened
    fan.is_proved(1, 512)


@pytest.mark.parametrize("when", ["before", "in mid-copy"])
def test_one_that_fails_is_told_at_once_and_hurts_no_other(when: str) -> None:
    fan = Fan()
    running = fan.start(0, 2)
    if when == "in mid-copy":
        fan.say(1, b"ready")
        fan.source.say(PIECE)
        fan.sessions[1].wait_for(lambda it: PIECE.data in it.sent)
    fan.say(1, b"2 0 1")
    fan.sessions[1].say(END)
    until(lambda: fan.sinks[1] in fan.ended)
    fan.source.say(PIECE, trailer(0), END)
    fan.acknowledge(0)
    fan.acknowledge(2)
    running.result()
    assert fan.ended[0] is fan.sinks[1]
    assert isinstance(fan.error(1), DestinationFailed)
    size = 1024 if when == "in mid-copy" else 512
    fan.is_proved(0, size)
    fan.is_proved(2, size)
    assert marker(fan.nonces[1]) not in fan.sessions[1].input
    assert not fan.sessions[1].stdin_ended


def test_a_source_that_fails_fails_all() -> None:
    fan = Fan()
    running = fan.start(0, 1, 2)
    fan.source.say(PIECE, SUCCESS, END)
    running.result()
    errors = [fan.error(number) for number in range(3)]
    assert all(isinstance(error, IncompleteArchive) for error in errors)
    assert all(error is fan.relay.source_error for error in errors)
    assert not any(session.stdin_ended or b"0\n" in session.sent for session in fan.sessions)


def test_without_any_destination_the_source_is_let_go() -> None:
    fan = Fan(2)
    running = fan.start(0, 1)
    for session in fan.sessions:
        session.say(ConnectionLost("gone"))
    running.result()
    assert fan.source.closed
    assert [fan.error(number).happened for number in (0, 1)] == ["lost the destination: gone"] * 2
    assert fan.relay.source_error is None


def test_what_is_on_its_way_is_bounded_and_not_copied() -> None:
    """As much as for one destination: the others hold the same messages."""
    fan = Fan(3)
    fan.sessions[1].allow(0)
    running = fan.start(0, 1, 2)
    fan.source.say(*[PIECE] * 1000, trailer(0), END)
    limit = QUEUE_BATCHES + 2
    fan.source.wait_for(lambda it: it.taken >= QUEUE_BATCHES + 1)
    assert not fan.source.comes(lambda it: it.taken > limit, 0.2)
    assert all(message is PIECE.data for message in fan.sessions[0].sent[1:] if len(message) == 512)
    fan.sessions[1].allow(None)
    for number in range(3):
        fan.acknowledge(number)
    running.result()
    for number in range(3):
        fan.is_proved(number, 512_000)


def test_one_that_takes_nothing_is_given_up() -> None:
    fan = Fan(3, stall_timeout=0.3)
    fan.sessions[1].allow(0)
    fan.source.patient = True
    running = fan.start(0, 1, 2)
    fan.source.say(*[PIECE] * 100, trailer(0), END)
    fan.acknowledge(0)
    fan.acknowledge(2)
    running.result()
    error = fan.error(1)
    assert isinstance(error, ConnectionLost)
    assert error.happened == (
        "the destination took less than 256 KiB in 0.3 s, and was given up, since others waited "
        "for it"
    )
    assert error.advice
    fan.is_proved(0, 51_200)
    fan.is_proved(2, 51_200)


def test_the_last_one_may_be_as_slow_as_it_is() -> None:
    """Nobody waits for it any more."""
    fan = Fan(2, stall_timeout=0.3)
    fan.sessions[1].allow(0)
    fan.source.patient = True
    running = fan.start(0, 1)
    fan.source.say(*[PIECE] * 100, trailer(0), END)
    fan.sessions[1].wait_for(lambda it: it.sending)
    fan.sessions[0].say(ConnectionLost("gone"))
    fan.sessions[0].wait_for(lambda it: it.closed)
    assert not fan.sessions[1].comes(lambda it: it.closed, 0.6)
    fan.sessions[1].allow(None)
    fan.acknowledge(1)
    running.result()
    fan.is_proved(1, 51_200)
    assert isinstance(fan.error(0), ConnectionLost)


class Slow(Bucket):
    """Makes each message wait a little."""

    def take(self, size: int) -> float:  # noqa: ARG002
        return 0.5


def test_who_waits_for_its_turn_is_not_slow() -> None:
    """The rate has a limit: what that takes does not count."""
    fan = Fan(2, stall_timeout=0.3, bucket=Slow(1))
    fan.source.patient = True
    running = fan.start(0, 1)
    fan.source.say(*[PIECE] * 12, trailer(0), END)
    fan.acknowledge(0)
    fan.acknowledge(1)
    running.result()
    for number in (0, 1):
        assert fan.sinks[number].throttled >= 5.0
        fan.is_proved(number, 12 * 512)


def test_what_the_source_says_at_its_end_is_waited_for() -> None:
    """It belongs to each outcome; a destination that has failed is told before."""
    fan = Fan(2, epilogue=lambda data: data == b"end")
    fan.source.patient = True
    running = fan.start(0, 1)
    fan.source.say(PIECE, trailer(0))
    fan.say(1, b"1 0 1")
    fan.sessions[1].say(END)
    fan.acknowledge(0)
    fan.source.wait_for(lambda it: it.sent == [b"\n"] and it.receiving)
    until(lambda: fan.sinks[1] in fan.ended)
    assert fan.sinks[0] not in fan.ended
    fan.source.say(Stdout(b"end"))
    fan.source.wait_for(lambda it: it.sent == [b"\n", b"\n"])
    fan.source.say(END)
    running.result()
    assert fan.ended[-1] is fan.sinks[0]
    fan.is_proved(0, 512)


def test_a_source_that_fails_does_not_wait_long_for_shells_that_do_not_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BEGINNING", 0.05)
    fan = Fan(3)
    running = fan.start()
    fan.source.say(END)
    running.result()
    assert all(isinstance(fan.error(number), IncompleteArchive) for number in range(3))


def test_one_that_was_stopped_without_an_error_is_not_complete() -> None:
    fan = Fan(2)
    running = fan.start(0, 1)
    fan.sessions[0].wait_for(lambda it: bool(it.sent))
    fan.relay.stop()
    running.result()
    assert all(isinstance(fan.error(number), NotAcknowledged) for number in (0, 1))
