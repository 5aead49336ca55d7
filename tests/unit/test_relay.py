"""The relay between two scripted sessions: what proves a copy, and what must never pass for it."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_podcp import relay as module
from kubectl_podcp import sink
from kubectl_podcp.archive.follower import CutArchive, EndOfArchive, Follower, Trailer
from kubectl_podcp.archive.headers import Member, encode, end_of_archive, marker
from kubectl_podcp.bandwidth import Bucket
from kubectl_podcp.errors import (
    ConnectionLost,
    DestinationFailed,
    DestinationKilled,
    DestinationRefused,
    IncompleteArchive,
    Interrupted,
    NotAcknowledged,
    PodcpError,
    ServerError,
    SourceError,
    SourceFailed,
    SourceKilled,
    UnsafeMember,
)
from kubectl_podcp.exec.channels import (
    Closed,
    Ignored,
    Protocol,
    Status,
    Stderr,
    Stdout,
    StreamClosed,
)
from kubectl_podcp.exec.stream import Aborted
from kubectl_podcp.relay import BATCH, Batch, Filter, Hears, Outcome, Relay
from kubectl_podcp.remote.feed import MESSAGE, ChunkedFeed, PlainFeed
from kubectl_podcp.remote.scripts import CHUNK_BLOCK
from kubectl_podcp.sink import (
    QUEUE_BATCHES,
    Acknowledgement,
    DataChannel,
    Ending,
    Said,
    Sink,
    Stopped,
)
from tests.unit.peers import Background, until
from tests.unit.sessions import END, SECONDS, ScriptedSession

NONCE = "0123456789abcdef" * 2
SUCCESS = Status(True, "", "", 0)
KILLED = Status(False, "NonZeroExitCode", "command terminated with exit code 137", 137)
READY = Stdout(b"\npodcp-%s ready\n" % NONCE.encode())
PIECE = Stdout(b"x" * 512)


def trailer(code: int) -> Stdout:
    """What the source's shell says at its end."""
    return Stdout(b"\npodcp-%s %d\n" % (NONCE.encode(), code))


def ack(tar: int = 0, marked: int = 1, placed: int = 0) -> Stdout:
    """What the destination's shell says at its end; by default that all is well."""
    return Stdout(b"\npodcp-%s %d %d %d\n" % (NONCE.encode(), tar, marked, placed))


def passed_on(data: bytes) -> Iterator[object]:
    """A filter that lets all pass but the trailer."""
    if data.startswith(b"\npodcp-"):
        yield EndOfArchive()
        yield Trailer(int(data.split()[1]))
    else:
        yield data


def cut() -> None:
    """What the follower does when the session ended without a trailer."""
    raise IncompleteArchive("the source's archive stops after 512 bytes")


class Copy:
    """A relay between two scripted sessions."""

    def __init__(
        self,
        version: Protocol = Protocol.V5,
        filter_stdout: Filter = passed_on,
        end_of_source: Callable[[], None] = cut,
        stall_timeout: float | None = None,
        owners: Hears | None = None,
        epilogue: Hears | None = None,
        ending: Ending | None = None,
        bucket: Bucket | None = None,
        on_ready: Callable[[tuple[int, int] | None, bool], None] = lambda *_: None,
        patience: float | None = None,
        progress: Callable[[], bytes] | None = None,
        hears_out: bool = False,
        reserve: int = 1,
        raw: bool = False,
    ) -> None:
        self.source = ScriptedSession(version)
        self.destination = ScriptedSession(version)
        self.sink = Sink(
            self.destination,
            nonce=NONCE,
            feed=PlainFeed() if version is Protocol.V5 else ChunkedFeed(),
            bucket=bucket,
            ending=ending,
            waiting=self.source.ping,
            on_ready=on_ready,
            patience=patience,
            progress=progress,
            hears_out=hears_out,
            raw=raw,
        )
        self.relay = Relay(
            self.source,
            [self.sink],
            filter_stdout=filter_stdout,
            end_of_source=end_of_source,
            stall_timeout=stall_timeout,
            reserve=reserve,
            owners=lambda: owners,
            epilogue=epilogue,
        )

    def run(self) -> Outcome:
        """Run it in this thread, which stands for the caller's."""
        self.relay.run()
        return self.relay.outcome(self.sink)

    def start(self) -> Background:
        """Run it in a thread, which stands for the caller's."""
        return Background(self.run)

    def fail(self) -> BaseException:
        """Run it to the end that the script leads to; return the error."""
        error = self.start().failure()
        assert error is not None, "this was no proof, and yet the relay took it for one"
        assert self.source.closed
        assert self.destination.closed
        return error

    def wait_for_the_marker(self) -> None:
        """Return when all of the archive was sent."""
        last = b"0\n" if self.destination.protocol is Protocol.V4 else None
        self.destination.wait_for(lambda it: it.stdin_ended or it.sent[-1:] == [last])

    def succeed(self, *source: Stdout | Stderr) -> Outcome:
        """Play a copy in which the source says ``source`` and all goes well."""
        running = self.start()
        self.destination.say(READY)
        self.source.say(*source, trailer(0))
        self.wait_for_the_marker()
        self.source.wait_for(lambda it: it.sent == [b"\n"])
        self.source.say(SUCCESS, END)
        self.destination.say(ack(), SUCCESS, END)
        outcome = running.result()
        assert isinstance(outcome, Outcome)
        return outcome


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """Check that no thread outlives its copy."""
    before = set(threading.enumerate())
    yield
    assert [thread.name for thread in threading.enumerate() if thread not in before] == []


@pytest.fixture(params=Protocol, ids=lambda version: version.name.lower())
def version(request: pytest.FixtureRequest) -> Protocol:
    """Either protocol."""
    version = request.param
    assert isinstance(version, Protocol)
    return version


# --- a copy that is proved --------------------------------------------------------------------


def test_on_v5_the_archive_goes_as_it_is_and_stdin_is_ended() -> None:
    copy = Copy()
    outcome = copy.succeed(Stdout(b"a" * 512), Stderr(b"tar: a: socket ignored\n"), PIECE)
    archive = b"a" * 512 + PIECE.data
    last = marker(NONCE)
    assert outcome == Outcome(0, 1024, b"tar: a: socket ignored\n", b"")
    assert copy.destination.input == (
        b"plain\n" + archive + last + end_of_archive(len(archive) + len(last))
    )
    assert copy.destination.stdin_ended
    assert copy.sink.sent == 1024


def test_what_is_no_archive_has_an_end_of_its_own() -> None:
    copy = Copy(ending=lambda sent: b"after %d" % sent)
    copy.succeed(PIECE)
    assert copy.destination.input == b"plain\n" + PIECE.data + b"after 512"
    assert copy.sink.marker_sent


def test_on_v4_the_archive_goes_in_chunks_and_zero_ends_it() -> None:
    copy = Copy(Protocol.V4)
    outcome = copy.succeed(PIECE)
    last = marker(NONCE)
    last += end_of_archive(512 + len(last))
    assert copy.destination.sent[:4] == [b"chunked\n", b"1\n", PIECE.data, last]
    filling = bytes(CHUNK_BLOCK - 512 - len(last))
    assert b"".join(copy.destination.sent[4:]) == filling + b"0\n"
    assert outcome.sent == 512
    assert not copy.destination.stdin_ended


def test_a_long_chunk_is_not_filled_up_at_once() -> None:
    copy = Copy(Protocol.V4)
    outcome = copy.succeed(*[Stdout(b"x" * MESSAGE)] * 64)
    assert outcome.sent == 2 << 20
    assert len(b"".join(copy.destination.sent)) > 3 << 20


def test_the_whole_archive_is_a_multiple_of_ten_kibibytes() -> None:
    """So that each tar ends properly; the line in front of it is not the archive's."""
    copy = Copy()
    copy.succeed(*[PIECE] * 7)
    assert len(copy.destination.input.removeprefix(b"plain\n")) % 10240 == 0


def test_a_source_that_has_more_to_say_is_asked_and_then_released() -> None:
    """The destination need not wait for it."""
    heard: list[bytes] = []

    def epilogue(data: bytes) -> bool:
        heard.append(data)
        return data == b"end"

    copy = Copy(epilogue=epilogue)
    running = copy.start()
    copy.destination.say(READY)
    copy.source.say(PIECE, trailer(0))
    copy.wait_for_the_marker()
    copy.destination.say(ack(), SUCCESS, END)
    copy.source.wait_for(lambda it: it.sent == [b"\n"])
    assert not copy.relay.signals.source_released.is_set()
    copy.source.say(Stdout(b"more"), Stdout(b"end"))
    copy.source.wait_for(lambda it: it.sent == [b"\n", b"\n"])
    copy.source.say(SUCCESS, END)
    assert isinstance(running.result(), Outcome)
    assert heard == [b"more", b"end"]


def test_who_owns_what_came_is_known_before_it_counts() -> None:
    """No destination has its marker before; what else the source has to say comes after."""
    heard: list[bytes] = []

    def owners(data: bytes) -> bool:
        heard.append(data)
        assert not copy.sink.marker_sent
        return data == b"end"

    copy = Copy(owners=owners, epilogue=lambda data: data == b"changed")
    running = copy.start()
    copy.destination.say(READY)
    copy.source.say(PIECE, trailer(0))
    copy.source.wait_for(lambda it: it.sent == [b"owners\n"])
    copy.source.say(Stdout(b"more"))
    copy.destination.wait_for(lambda it: len(it.input) == len(b"plain\n") + 512)
    copy.source.say(Stdout(b"end"))
    copy.wait_for_the_marker()
    copy.source.wait_for(lambda it: it.sent == [b"owners\n", b"\n"])
    copy.source.say(Stdout(b"changed"))
    copy.source.wait_for(lambda it: it.sent == [b"owners\n", b"\n", b"\n"])
    copy.source.say(SUCCESS, END)
    copy.destination.say(ack(), SUCCESS, END)
    assert isinstance(running.result(), Outcome)
    assert heard == [b"more", b"end"]


@pytest.mark.parametrize("last", [[SUCCESS, END], []], ids=["ends", "stalls"])
def test_without_knowing_who_owns_what_came_nothing_counts(last: list[Status | Closed]) -> None:
    copy = Copy(owners=lambda _: False, stall_timeout=60)
    copy.source.say(PIECE, trailer(0), Stdout(b"more"), *last)  # then it is silent for so long
    copy.destination.say(READY)
    error = copy.fail()
    assert isinstance(error, IncompleteArchive)
    assert "who owns what is in it" in error.happened
    assert not copy.sink.marker_sent


def test_a_destination_that_must_not_have_an_owner_gets_no_marker() -> None:
    """It is given up as soon as that is known."""
    refused = SourceError("'data/file' belongs to 1000650000:0")

    def owners(data: bytes) -> bool:
        copy.sink.fail(refused)
        return data == b"end"

    copy = Copy(owners=owners)
    copy.source.say(PIECE, trailer(0), Stdout(b"end"))
    copy.destination.say(READY)
    assert copy.fail() is refused
    assert not copy.sink.marker_sent


@pytest.mark.parametrize("last", [[SUCCESS, END], []], ids=["ends", "stalls"])
def test_a_source_that_does_not_say_more_is_not_waited_for(last: list[Status | Closed]) -> None:
    """The copy is proved all the same."""
    copy = Copy(epilogue=lambda _: False, stall_timeout=60)
    copy.source.say(PIECE, trailer(0), Stdout(b"more"), *last)  # then it is silent for so long
    copy.destination.say(READY)
    running = copy.start()
    copy.wait_for_the_marker()
    copy.destination.say(ack(), SUCCESS, END)
    assert isinstance(running.result(), Outcome)


def test_both_sessions_are_closed_and_all_signals_set(version: Protocol) -> None:
    copy = Copy(version)
    copy.succeed(PIECE)
    assert copy.source.closed
    assert copy.destination.closed
    signals = copy.relay.signals
    assert signals.source_ended.is_set()
    assert signals.source_released.is_set()
    assert copy.sink.signals.writable.is_set()
    assert copy.sink.signals.ended.is_set()


def test_a_real_archive_passes_through_the_follower(version: Protocol) -> None:
    """Nothing of the source's own end goes on: the relay writes the marker, then an end."""
    follower = Follower(NONCE, b"a")
    header = encode(Member(b"a", b"0", 3, 0o644, 0, 0, 0))
    archive = header + b"abc".ljust(512, b"\0")
    copy = Copy(version, follower.feed, follower.end_of_input)
    outcome = copy.succeed(Stdout(archive[:700]), Stdout(archive[700:] + bytes(1024)))
    assert outcome.sent == 1024
    assert archive + marker(NONCE) in copy.destination.input.replace(b"10240\n", b"")


@pytest.mark.parametrize("code", [1, 2])
def test_a_source_that_could_not_read_everything_is_told_apart(code: int) -> None:
    copy = Copy()
    running = copy.start()
    copy.destination.say(READY)
    copy.source.say(PIECE, Stderr(b"tar: b: Permission denied\n"), trailer(code), END)
    copy.wait_for_the_marker()
    copy.destination.say(ack(), SUCCESS, END)
    outcome = running.result()
    assert outcome.source_code == code
    assert outcome.source_stderr == b"tar: b: Permission denied\n"


def test_the_words_of_another_copy_prove_nothing(version: Protocol) -> None:
    copy = Copy(version)
    copy.destination.say(READY, Stdout(b"podcp-%s 0 1 0\n" % NONCE[::-1].encode()))
    error = copy.fail()
    assert isinstance(error, NotAcknowledged)
    assert "another copy" in error.happened


def test_an_archive_that_came_whole_waits_for_its_trailer_for_a_time() -> None:
    """Its shell waits for our release, so without a limit both would wait for ever."""

    def ending(data: bytes) -> Iterator[object]:
        yield data
        yield EndOfArchive()

    copy = Copy(filter_stdout=ending)
    copy.destination.say(READY)
    copy.source.say(PIECE)
    error = copy.fail()
    assert isinstance(error, IncompleteArchive)
    assert "no trailer" in error.happened


def test_a_silent_source_is_waited_for_for_a_time() -> None:
    copy = Copy(stall_timeout=7)
    copy.destination.say(READY)
    copy.source.say(PIECE)
    error = copy.fail()
    assert isinstance(error, IncompleteArchive)
    assert error.happened == "the source gave nothing for 7 s"


def test_a_destination_has_a_time_to_get_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "READY_WITHIN", 0.01)
    copy = Copy()
    error = copy.fail()
    assert isinstance(error, NotAcknowledged)
    assert "did not get ready" in error.happened


def test_a_destination_has_a_time_to_acknowledge(
    monkeypatch: pytest.MonkeyPatch, version: Protocol
) -> None:
    monkeypatch.setattr(sink, "ACKNOWLEDGED_WITHIN", 0.01)
    copy = Copy(version)
    copy.destination.say(READY)
    copy.source.say(PIECE, trailer(0), END)
    error = copy.fail()
    assert isinstance(error, NotAcknowledged)
    assert "did not acknowledge" in error.happened


def test_nothing_is_sent_before_the_destination_is_ready() -> None:
    copy = Copy()
    running = copy.start()
    copy.source.say(PIECE, trailer(0), END)
    copy.source.wait_for(lambda it: it.sent == [b"\n"])
    assert copy.destination.sent == []
    copy.destination.say(READY)
    copy.wait_for_the_marker()
    copy.destination.say(ack(), END)
    running.result()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"", (None, True)),
        (b" 1000:0", ((1000, 0), True)),
        (b" folds", (None, False)),
        (b" 1000:0 folds", ((1000, 0), False)),
    ],
)
def test_the_destination_says_who_will_own_all_of_it_and_whether_it_knows_case(
    said: bytes, expected: tuple[tuple[int, int] | None, bool]
) -> None:
    heard = []
    copy = Copy(on_ready=lambda user, has_case: heard.append((user, has_case)))
    running = copy.start()
    copy.destination.say(Stdout(b"\npodcp-%s ready%s\n" % (NONCE.encode(), said)))
    copy.source.say(PIECE, trailer(0), END)
    copy.wait_for_the_marker()
    copy.destination.say(ack(), END)
    running.result()
    assert heard == [expected]


def test_a_source_that_compresses_may_give_nothing_for_longer() -> None:
    copy = Copy(stall_timeout=0.01, reserve=20)
    copy.source.patient = False
    copy.destination.say(READY)
    error = copy.fail()
    assert isinstance(error, IncompleteArchive)
    assert "gave nothing for 0.2 s" in error.happened


# --- when all was sent -------------------------------------------------------------------------


def sent(**options: Any) -> tuple[Copy, Background]:
    """Start a copy and let all of it be sent."""
    copy = Copy(**options)
    running = copy.start()
    copy.destination.say(READY)
    copy.source.say(PIECE, trailer(0), END)
    copy.wait_for_the_marker()
    return copy, running


def test_a_destination_that_took_all_and_unpacks_none_of_it_is_lost() -> None:
    """Servers have taken it for a tar that has stopped: no write of ours tells."""
    _, running = sent(patience=0.1, progress=lambda: b"3\n12 .podcp-x\n")
    with pytest.raises(
        ConnectionLost, match=r"^lost the destination: .* took none of it for 0.1 s"
    ):
        running.result()


@pytest.mark.parametrize("said", ["more", "placing", "nothing", "an error"])
def test_one_that_is_at_work_may_take_as_long_as_it_needs(said: str) -> None:
    """Or of which nobody knows."""
    asked = list[str]()

    def progress() -> bytes:
        asked.append(said)
        if said == "an error":
            raise ConnectionLost("nobody answers")
        return {"more": b"%d" % len(asked), "placing": b"placing\n7\n", "nothing": b""}[said]

    copy, running = sent(patience=0.02, progress=progress)
    until(lambda: len(asked) > 10)
    assert running.runs
    copy.destination.say(ack(), END)
    running.result()


def test_it_is_asked_once_at_a_time() -> None:
    asked, answer = list[int](), threading.Event()

    def progress() -> bytes:
        asked.append(1)
        answer.wait(SECONDS)
        return b"x"

    copy, running = sent(patience=0.02, progress=progress)
    until(lambda: bool(asked))
    time.sleep(0.2)
    assert len(asked) == 1
    copy.destination.say(ack(), END)
    running.result()
    answer.set()
    until(lambda: not any("_ask" in thread.name for thread in threading.enumerate()))


def test_who_asks_does_not_outlive_the_copy() -> None:
    asking = threading.Event()

    def progress() -> bytes:
        asking.set()
        time.sleep(0.3)  # as long as a session takes on a busy node
        return b"x"

    copy, running = sent(patience=0.02, progress=progress)
    assert asking.wait(SECONDS)
    copy.destination.say(ack(), END)
    running.result()
    assert not any("_ask" in thread.name for thread in threading.enumerate())


def test_without_progress_to_be_seen_there_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "ACKNOWLEDGED_WITHIN", 0.1)
    for options in (dict[str, Any](), {"patience": 0.02, "progress": lambda: b"placing"}):
        _, running = sent(**options)
        with pytest.raises(NotAcknowledged, match=r"did not acknowledge it within 0.1 s"):
            running.result()


def test_what_its_tar_said_is_heard_behind_the_acknowledgement() -> None:
    """Where that counts; on v4 the session does not end by itself."""
    copy, running = sent(version=Protocol.V4, hears_out=True)
    copy.destination.say(ack(), Stderr(b"tar: no attribute"), END)
    assert running.result().destination_stderr == b"tar: no attribute"


def test_where_somebody_else_is_to_own_it_nothing_is_sent() -> None:
    def refuse(user: tuple[int, int] | None, _: bool) -> None:
        raise DestinationRefused(f"not {user}", advice="be root")

    copy = Copy(on_ready=refuse)
    copy.source.say(PIECE)
    copy.destination.say(Stdout(b"\npodcp-%s ready 5:5\n" % NONCE.encode()))
    error = copy.fail()
    assert isinstance(error, DestinationRefused)
    assert copy.destination.sent == []


def test_what_else_the_destination_prints_is_no_answer(version: Protocol) -> None:
    """Its words may come in parts, and between others'."""
    copy = Copy(version)
    running = copy.start()
    copy.destination.say(Stdout(b"motd\npodcp-"), Stdout(NONCE.encode() + b" ready"), Stdout(b"\n"))
    copy.source.say(PIECE, trailer(0), END)
    copy.wait_for_the_marker()
    copy.destination.say(
        Stdout(b"podcp-%s 2 0 1 and more\n" % NONCE.encode()),
        Stdout(b"x podcp-%s 2 0 1\n" % NONCE.encode()),
        Stdout(b"podcp-%s %b 0 1\n" % (NONCE.encode(), b"2" * 5000)),
        Stdout(b"podcp-%s ready %b:1\n" % (NONCE.encode(), b"2" * 5000)),
        *(Stdout(bytes([byte])) for byte in ack().data),
        END,
    )
    assert running.result().sent == 512


def test_messages_on_other_channels_change_nothing() -> None:
    copy = Copy()
    running = copy.start()
    copy.destination.say(Ignored(4), READY, StreamClosed(0))
    copy.source.say(Ignored(4), PIECE, StreamClosed(0), trailer(0), Ignored(4), PIECE, END)
    copy.wait_for_the_marker()
    copy.destination.say(ack(), Ignored(4), Stderr(b"late"), END)
    assert running.result() == Outcome(0, 512, b"", b"late")


@pytest.mark.parametrize("release", ["refused", "broken", "never answered"])
def test_a_source_that_cannot_be_released_costs_nothing(release: str) -> None:
    """Its archive and its trailer are here, so nothing can be lost any more."""
    copy = Copy()
    if release == "refused":
        copy.source.refuse()
    running = copy.start()
    copy.destination.say(READY)
    copy.source.say(PIECE, trailer(0))
    if release == "broken":
        copy.source.say(ConnectionLost("the connection ended"))
    copy.wait_for_the_marker()
    copy.destination.say(ack())  # and its session does not end either
    assert running.result().sent == 512


# --- back-pressure ----------------------------------------------------------------------------


def test_a_slow_destination_bounds_what_is_read() -> None:
    """The queue, one batch in the reader's hand and one in the sender's; no more."""
    copy = Copy()
    limit = QUEUE_BATCHES + 2
    copy.destination.allow(0)
    running = copy.start()
    copy.destination.say(READY)
    copy.source.say(*[PIECE] * 1000, trailer(0), END)
    copy.source.wait_for(lambda it: it.taken >= QUEUE_BATCHES + 1)
    assert not copy.source.comes(lambda it: it.taken > limit, 0.2)
    copy.destination.allow(100)
    copy.destination.wait_for(lambda it: it.sending and len(it.sent) == 100)
    assert not copy.source.comes(lambda it: it.taken > limit + 100, 0.2)
    copy.destination.allow(None)
    copy.wait_for_the_marker()
    copy.destination.say(ack(), END)
    assert running.result().sent == 512_000


# --- false endings: the source ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ([SUCCESS, END], IncompleteArchive),
        ([KILLED, END], IncompleteArchive),
        ([END], IncompleteArchive),
        ([Closed(1006, "")], IncompleteArchive),
        ([ConnectionLost("the connection ended")], ConnectionLost),
        ([ServerError("no WebSocket")], ServerError),
        ([trailer(3)], SourceFailed),
        ([trailer(137)], SourceKilled),
        ([trailer(137), ConnectionLost("the connection ended")], SourceKilled),
        ([trailer(137), SUCCESS, END], SourceKilled),
    ],
)
def test_a_source_that_ends_otherwise_fails_the_copy(
    version: Protocol,
    said: list[Status | Closed | Stdout | BaseException],
    kind: type[PodcpError],
) -> None:
    """And the archive at the destination is never ended: tar would take it for complete."""
    copy = Copy(version)
    copy.destination.say(READY)
    copy.source.say(PIECE, *said)
    error = copy.fail()
    assert type(error) is kind
    assert not copy.destination.stdin_ended
    assert marker(NONCE) not in copy.destination.input
    assert b"0\n" not in copy.destination.sent
    assert copy.source.sent == [], "the source was released"


@pytest.mark.parametrize("said", [[END], [trailer(137)]], ids=["closed", "killed"])
def test_what_the_source_said_on_stderr_is_in_the_error(said: list[Stdout | Closed]) -> None:
    """Also what comes after the news: stderr is a channel of its own."""
    copy = Copy()
    early, late = Stderr(b"tar: short read\n"), Stderr(b"Killed\n")
    copy.source.say(PIECE, early, *said[:-1])
    copy.source.say(*said[-1:] if said == [END] else (*said, late, END))
    error = copy.fail()
    assert isinstance(error, SourceFailed | IncompleteArchive)
    assert error.stderr == early.data + (b"" if said == [END] else late.data)


def test_the_exit_code_of_a_killed_tar_is_told() -> None:
    copy = Copy()
    copy.source.say(PIECE, trailer(137))
    assert str(copy.fail()) == "the source's tar ended with exit code 137"


def test_a_cut_archive_is_told_by_the_follower() -> None:
    follower = Follower(NONCE, b"a")
    copy = Copy(filter_stdout=follower.feed, end_of_source=follower.end_of_input)
    header = encode(Member(b"a", b"0", 3000, 0o644, 0, 0, 0))
    copy.source.say(Stdout(header + b"abc"), Stderr(b"short read\n"), trailer(1), END)
    error = copy.fail()
    assert isinstance(error, CutArchive)
    assert (error.received, error.expected, error.stderr) == (3, 3000, b"short read\n")


def test_a_refused_member_ends_the_copy() -> None:
    def refuse(_data: bytes) -> Iterable[object]:
        raise UnsafeMember("../x leaves the directory")

    copy = Copy(filter_stdout=refuse)
    copy.destination.say(READY)
    copy.source.say(PIECE)
    assert type(copy.fail()) is UnsafeMember


# --- false endings: the destination -----------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        ([SUCCESS, END], NotAcknowledged, "ended before it acknowledged"),
        ([KILLED, END], NotAcknowledged, "ended before it acknowledged"),
        ([END], NotAcknowledged, "ended before it acknowledged"),
        ([Stdout(ack().data.rstrip()), END], NotAcknowledged, "ended before it acknowledged"),
        ([ConnectionLost("the connection ended")], ConnectionLost, "the connection ended"),
        ([ack(2, 0, 1), END], DestinationFailed, "tar ended with exit code 2"),
        ([ack(2, 1, 1), END], DestinationFailed, "tar ended with exit code 2"),
        ([ack(137, 0, 1)], DestinationKilled, "tar ended with exit code 137"),
        ([ack(0, 0, 1), END], NotAcknowledged, "before the end of the archive"),
        ([ack(0, 0, 0), END], NotAcknowledged, "before the end of the archive"),
        ([ack(0, 1, 1), END], DestinationFailed, "could not be put in place"),
    ],
)
@pytest.mark.parametrize("when", ["in mid-copy", "after the marker"])
def test_a_destination_that_ends_otherwise_fails_the_copy(
    when: str,
    said: list[Status | Closed | Stdout | BaseException],
    kind: type[PodcpError],
    words: str,
) -> None:
    copy = Copy()
    running = copy.start()
    copy.destination.say(READY)
    copy.source.say(PIECE)
    copy.destination.wait_for(lambda it: PIECE.data in it.sent)
    if when == "after the marker":
        copy.source.say(trailer(0), END)
        copy.wait_for_the_marker()
    copy.destination.say(*said)
    error = running.failure()
    assert type(error) is kind
    assert words in str(error)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (ack(1, 0, 1), "the destination's shell ended with exit code 1"),
        (ack(0, 0, 1), "the destination's shell ended before the end of the file"),
    ],
)
def test_where_no_tar_runs_none_is_said_to_have_ended(said: Stdout, words: str) -> None:
    copy = Copy(raw=True)
    copy.destination.say(READY, said, END)
    copy.source.say(PIECE)
    assert str(copy.fail()) == words


@pytest.mark.parametrize("said", [SUCCESS, KILLED, END, ConnectionLost("the connection ended")])
def test_a_destination_that_was_never_ready_gets_nothing(
    version: Protocol, said: Status | Closed | BaseException
) -> None:
    copy = Copy(version)
    running = copy.start()
    copy.source.say(PIECE, trailer(0), END)
    copy.source.wait_for(lambda it: it.sent == [b"\n"])
    copy.destination.say(said)
    assert isinstance(running.failure(), NotAcknowledged | ConnectionLost)
    assert marker(NONCE) not in copy.destination.input
    assert not copy.destination.stdin_ended


@pytest.mark.parametrize("when", ["before ready", "in mid-copy"])
def test_an_acknowledgement_of_what_was_not_sent_is_none(when: str, version: Protocol) -> None:
    """Not even one that looks perfect."""
    copy = Copy(version)
    running = copy.start()
    if when == "in mid-copy":
        copy.destination.say(READY)
        copy.destination.wait_for(lambda it: len(it.sent) == 1)
        copy.source.say(PIECE)
    copy.destination.say(ack(), SUCCESS, END)
    error = running.failure()
    assert isinstance(error, NotAcknowledged)
    assert str(error) == "the destination acknowledged what was not sent yet"


def test_success_on_both_sides_in_mid_copy_is_none(version: Protocol) -> None:
    """A kubelet that dies says so to both (found on Kubernetes 1.34)."""
    copy = Copy(version)
    running = copy.start()
    copy.destination.say(READY)
    copy.source.say(*[PIECE] * 10)
    copy.source.wait_for(lambda it: it.taken == 10)
    copy.source.say(SUCCESS, END)
    copy.destination.say(SUCCESS, END)
    assert isinstance(running.failure(), IncompleteArchive | NotAcknowledged)


@pytest.mark.parametrize("said", [ack(2, 0, 1), ack(0, 0, 1), ack(0, 1, 1)])
def test_what_the_destination_said_on_stderr_is_in_the_error(said: Stdout) -> None:
    copy = Copy()
    early, late = Stderr(b"tar: a: Cannot open\n"), Stderr(b"No space left on device\n")
    copy.destination.say(READY, early, said, late, END)
    error = copy.fail()
    assert isinstance(error, PodcpError)
    assert error.stderr == early.data + late.data


def test_what_the_destination_said_before_it_ended_is_in_the_error() -> None:
    copy = Copy()
    copy.destination.say(READY, Stderr(b"Terminated\n"), KILLED, END)
    error = copy.fail()
    assert isinstance(error, NotAcknowledged)
    assert error.stderr == b"Terminated\n"


# --- send errors ------------------------------------------------------------------------------


def test_a_send_error_leaves_the_word_to_an_acknowledgement_under_way() -> None:
    """The send fails first; why it failed is already in the queue, and is what the user reads."""
    copy = Copy()

    def answer() -> None:
        copy.destination.say(ack(2, 0, 1), Stderr(b"No space left on device\n"), END)

    copy.destination.on_send = answer
    copy.destination.refuse()
    copy.destination.say(READY)
    error = copy.fail()
    assert isinstance(error, DestinationFailed)
    assert error.stderr == b"No space left on device\n"


def test_a_send_error_after_a_good_acknowledgement_is_none() -> None:
    """All was delivered and put in place; only the end of stdin could not be told any more."""
    copy = Copy()

    def break_at_the_end() -> None:
        if len(copy.destination.sent) == 3:  # the first line, the piece, the marker with the end
            copy.destination.say(ack(), END)
            copy.destination.refuse()

    copy.destination.on_send = break_at_the_end
    running = copy.start()
    copy.destination.say(READY)
    copy.source.say(PIECE)
    copy.destination.wait_for(lambda it: PIECE.data in it.sent)
    copy.source.say(trailer(0), END)
    assert running.result().sent == 512
    assert not copy.destination.stdin_ended


@pytest.mark.parametrize("is_told", [False, True], ids=["not told", "told"])
def test_nothing_is_staged_before_the_shell_was_told_how_the_archive_comes(is_told: bool) -> None:
    """It removes a folder that is new where that never came."""
    copy = Copy()
    if not is_told:
        copy.destination.refuse(ConnectionLost("broken while sending"))
    copy.destination.say(READY)
    running = copy.start()
    if is_told:
        copy.destination.wait_for(lambda it: bool(it.sent))
    copy.source.say(ConnectionLost("the connection ended"))
    assert isinstance(running.failure(), ConnectionLost)
    assert copy.sink.has_staged is is_told


def test_a_send_error_of_which_nobody_knows_the_reason_is_the_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sink, "ENDING", 0.05)
    copy = Copy()
    copy.destination.refuse(ConnectionLost("broken while sending"))
    copy.destination.say(READY)
    assert str(copy.fail()) == "lost the destination: broken while sending"


def test_a_session_that_ends_without_a_word_explains_a_send_error_no_better() -> None:
    copy = Copy()
    copy.destination.on_send = lambda: copy.destination.say(END)
    copy.destination.refuse()
    copy.destination.say(READY)
    assert isinstance(copy.fail(), NotAcknowledged)


# --- the first error wins ---------------------------------------------------------------------

LATER = [
    Aborted("closed by this side"),
    ConnectionLost("late"),
    ServerError("late"),
    ValueError("late"),
]


@pytest.mark.parametrize("later", LATER, ids=lambda error: type(error).__name__)
def test_what_follows_from_our_own_stopping_is_dropped(later: BaseException) -> None:
    """Each thread is blocked in a session when the copy fails, and each fails then."""
    copy = Copy()
    copy.source.after_close = copy.destination.after_close = later
    copy.destination.allow(1)
    running = copy.start()
    copy.destination.say(READY)
    copy.source.say(PIECE)
    copy.source.wait_for(lambda it: it.receiving)
    copy.destination.wait_for(lambda it: it.sending)
    copy.destination.say(ack(2, 0, 1), END)
    error = running.failure()
    assert isinstance(error, DestinationFailed)
    assert error.__context__ is None


def test_an_error_that_waits_for_its_stderr_is_still_the_first() -> None:
    """The source's tar was killed; while we wait for its stderr, the destination ends too."""
    copy = Copy()
    copy.source.patient = True
    running = copy.start()
    copy.source.say(trailer(137))
    copy.source.wait_for(lambda it: it.taken == 1 and it.receiving)
    copy.destination.say(SUCCESS, END)
    assert isinstance(running.failure(), SourceFailed)


def test_a_source_that_never_falls_silent_cannot_hold_back_an_error() -> None:
    """Whose archive is malformed at its first byte, for example, and goes on for a terabyte."""

    def malformed(_data: bytes) -> Iterable[object]:
        raise SourceFailed("the source did not write a tar archive")

    copy = Copy(filter_stdout=malformed)
    copy.source.repeat = PIECE
    running = copy.start()
    try:
        with pytest.raises(SourceFailed):
            running.result(timeout=4 * sink.LINGER + module.BEGINNING)
    finally:
        copy.relay.stop()
        running.failure()


def test_a_source_that_fails_at_once_waits_until_the_destinations_shell_began() -> None:
    """Else its folder would be made after everything was swept."""

    def refused(_data: bytes) -> Iterable[object]:
        raise SourceFailed("refused")

    copy = Copy(filter_stdout=refused)
    copy.source.say(PIECE)
    running = copy.start()
    try:
        until(lambda: copy.sink.error is not None)
        assert running.runs
        assert not copy.destination.closed
        copy.destination.say(READY)
        with pytest.raises(SourceFailed):
            running.result(timeout=1.0)
    finally:
        copy.relay.stop()
        running.failure()


def test_a_staging_folder_that_cannot_be_made() -> None:
    """The destination's shell acknowledges its failure before it was ready."""
    copy = Copy()
    copy.destination.say(Stderr(b"mkdir: Read-only file system\n"), ack(1, 0, 1), END)
    error = copy.fail()
    assert isinstance(error, DestinationFailed)
    assert error.stderr == b"mkdir: Read-only file system\n"
    assert "tar" not in error.happened


# --- bugs -------------------------------------------------------------------------------------


def test_a_bug_in_the_filter_reaches_the_caller() -> None:
    def broken(_data: bytes) -> Iterable[object]:
        raise ValueError("a bug")

    copy = Copy(filter_stdout=broken)
    copy.source.say(PIECE)
    error = copy.fail()
    assert type(error) is ValueError
    assert str(error) == "a bug"


@pytest.mark.parametrize("side", ["source", "destination"])
def test_a_bug_in_a_session_reaches_the_caller(side: str) -> None:
    copy = Copy()
    (copy.source if side == "source" else copy.destination).say(ZeroDivisionError("a bug"))
    assert type(copy.fail()) is ZeroDivisionError


def test_a_bug_in_the_sender_reaches_the_caller() -> None:
    copy = Copy()
    copy.destination.refuse(AttributeError("a bug"))
    copy.destination.say(READY)
    assert type(copy.fail()) is AttributeError


def test_a_machine_without_threads_to_spare_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads have started when the third cannot."""
    copy = Copy()
    start = threading.Thread.start
    started: list[threading.Thread] = []

    def counted(thread: threading.Thread) -> None:
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        start(thread)
        started.append(thread)

    monkeypatch.setattr(threading.Thread, "start", counted)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        copy.relay.run()
    assert len(started) == 2
    assert not any(thread.is_alive() for thread in started)


# --- stopping ---------------------------------------------------------------------------------


def test_stop_wakes_a_blocked_put() -> None:
    """The destination is not ready, the queue is full, the reader has one message more."""
    copy = Copy()
    running = copy.start()
    copy.source.say(*[PIECE] * 1000)
    copy.source.wait_for(lambda it: it.taken == QUEUE_BATCHES + 1)
    copy.relay.stop()
    running.failure()
    assert copy.source.taken == QUEUE_BATCHES + 1


def test_stop_wakes_a_blocked_get() -> None:
    copy = Copy()
    running = copy.start()
    copy.destination.say(READY)
    copy.destination.wait_for(lambda it: it.sent == [b"plain\n"])
    copy.relay.stop()
    running.failure()
    assert copy.destination.sent == [b"plain\n"]


def test_stop_wakes_the_wait_for_a_writable_destination() -> None:
    copy = Copy()
    running = copy.start()
    copy.destination.wait_for(lambda it: it.receiving)
    copy.relay.stop()
    running.failure()
    assert not copy.destination.stdin_ended


def test_stop_wakes_a_blocked_put_behind_a_blocked_send() -> None:
    """What a slow destination looks like: nobody takes from the full queue any more."""
    copy = Copy()
    copy.destination.allow(1)
    running = copy.start()
    copy.destination.say(READY)
    copy.source.say(*[PIECE] * 1000)
    copy.destination.wait_for(lambda it: it.sending and len(it.sent) == 1)
    copy.source.wait_for(lambda it: it.taken == QUEUE_BATCHES + 2)
    copy.relay.stop()
    running.failure()
    assert copy.destination.sent == [b"plain\n"]


@pytest.mark.parametrize("side", ["source", "destination"])
def test_stop_wakes_a_blocked_receive(side: str) -> None:
    copy = Copy()
    running = copy.start()
    session = copy.source if side == "source" else copy.destination
    session.wait_for(lambda it: it.receiving)
    copy.relay.stop()
    running.failure()
    assert not session.receiving


@pytest.mark.parametrize("messages", [0, 1, 5], ids=["the first", "data", "the marker"])
def test_stop_wakes_a_blocked_send_of(messages: int, version: Protocol) -> None:
    copy = Copy(version)
    copy.destination.allow(messages)
    running = copy.start()
    copy.destination.say(READY)
    copy.source.say(*[PIECE] * 5, trailer(0), END)
    copy.destination.wait_for(lambda it: it.sending)
    copy.relay.stop()
    running.failure()
    assert len(copy.destination.sent) == messages


@pytest.mark.parametrize("side", ["source", "destination"])
def test_stop_wakes_a_wait_for_stderr(side: str) -> None:
    """A failure is known, and its reader waits for what the process said."""
    copy = Copy()
    copy.source.patient = copy.destination.patient = True
    running = copy.start()
    session = copy.source if side == "source" else copy.destination
    session.say(trailer(137) if side == "source" else ack(2, 0, 1))
    session.wait_for(lambda it: it.taken == 1 and it.receiving)
    copy.relay.stop()
    running.failure()


def test_stop_wakes_a_blocked_release() -> None:
    copy = Copy()
    copy.source.allow(0)
    running = copy.start()
    copy.source.say(trailer(0))
    copy.source.wait_for(lambda it: it.sending)
    copy.relay.stop()
    running.failure()
    assert not copy.relay.signals.source_released.is_set()


def test_stop_may_be_called_by_many_and_often() -> None:
    copy = Copy()
    running = copy.start()
    copy.source.say(*[PIECE] * 1000)
    copy.source.wait_for(lambda it: it.taken == QUEUE_BATCHES + 1)
    for stopping in [Background(copy.relay.stop) for _ in range(8)]:
        stopping.result()
    running.failure()
    copy.relay.stop()


def test_a_relay_that_was_stopped_never_reports_a_copy() -> None:
    copy = Copy()
    running = copy.start()
    copy.destination.say(READY)
    copy.source.say(PIECE)
    copy.destination.wait_for(lambda it: PIECE.data in it.sent)
    copy.relay.stop()
    assert running.failure() is not None


# --- a signal in the caller's thread ----------------------------------------------------------


class Interrupter:
    """Sends a signal that raises :class:`Interrupted` in the main thread, once.

    It is sent again until it was heard: a main thread that was just about to wait sleeps over
    the first one, as long as nothing wakes it (a race in CPython's locks).
    """

    NUMBER = signal.SIGUSR1

    def __init__(self) -> None:
        self.heard = False
        self._running: Background | None = None

    def interrupt(self, when: Callable[[], None]) -> None:
        """Send it when ``when`` returns."""
        self._running = Background(lambda: self._send(when))

    def _send(self, when: Callable[[], None]) -> None:
        when()
        main = threading.main_thread().ident
        assert main is not None
        again = threading.Event()
        while not self.heard:
            signal.pthread_kill(main, self.NUMBER)
            again.wait(0.05)

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Raise, the first time."""
        if not self.heard:
            self.heard = True
            raise Interrupted(number)

    def finish(self) -> None:
        """Wait for the sender, and for threads of which :meth:`Thread.join` lost sight."""
        assert self._running is not None
        self._running.result()
        enough = time.monotonic() + SECONDS
        while any("_guard" in thread.name for thread in threading.enumerate()):
            assert time.monotonic() < enough, "a thread of the relay is still blocked"
            threading.Event().wait(0.01)


@pytest.fixture
def interrupter() -> Iterator[Interrupter]:
    """See :class:`Interrupter`."""
    made = Interrupter()
    before = signal.signal(made.NUMBER, made.handle)
    yield made
    made.finish()
    signal.signal(made.NUMBER, before)


def test_a_signal_stops_everything_and_is_raised(interrupter: Interrupter) -> None:
    """In mid-copy, with all threads blocked: receive, send and receive."""
    copy = Copy()
    copy.destination.allow(1)
    copy.destination.say(READY)
    copy.source.say(PIECE)

    def blocked() -> None:
        copy.source.wait_for(lambda it: it.receiving)
        copy.destination.wait_for(lambda it: it.sending and it.receiving)

    interrupter.interrupt(blocked)
    with pytest.raises(Interrupted) as caught:
        copy.relay.run()
    assert caught.value.signum == signal.SIGUSR1
    assert copy.source.closed
    assert copy.destination.closed


def test_a_signal_while_an_error_is_under_way_is_raised(interrupter: Interrupter) -> None:
    """The user wants to hear about the signal, whatever failed meanwhile."""
    copy = Copy()
    copy.source.patient = True
    copy.source.say(trailer(137))

    def failing() -> None:
        copy.source.wait_for(lambda it: it.taken == 1 and it.receiving)
        copy.destination.wait_for(lambda it: it.receiving)

    interrupter.interrupt(failing)
    with pytest.raises(Interrupted):
        copy.run()


def test_after_a_signal_no_thread_outlives_the_run(interrupter: Interrupter) -> None:
    copy = Copy()
    ended = threading.Event()
    never = threading.Event()

    def take_time() -> None:
        never.wait(0.3)
        ended.set()

    copy.source.on_aborted = take_time

    def waiting() -> None:
        copy.destination.wait_for(lambda it: it.receiving)
        while not main_thread_waits():
            never.wait(0.01)

    interrupter.interrupt(waiting)
    with pytest.raises(Interrupted):
        copy.run()
    assert ended.is_set()


def main_thread_waits() -> bool:
    """Whether the main thread has started the relay's threads."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    running = set()
    while frame is not None:
        running.add(frame.f_code)
        frame = frame.f_back
    return Relay.run.__code__ in running and threading.Thread.start.__code__ not in running


# --- a limit of the rate ----------------------------------------------------------------------


class Recorded(Bucket):
    """A bucket that says how long to wait, whatever is taken."""

    def __init__(self, seconds: float) -> None:
        super().__init__(1.0)
        self.taken: list[int] = []
        self.asked = threading.Event()
        self._seconds = seconds

    def take(self, size: int) -> float:
        """Note it."""
        self.taken.append(size)
        self.asked.set()
        return self._seconds


def test_each_message_waits_its_turn(version: Protocol) -> None:
    bucket = Recorded(0.0)
    copy = Copy(version, bucket=bucket)
    outcome = copy.succeed(Stdout(b"a" * MESSAGE * 3))
    assert outcome.sent == MESSAGE * 3
    assert max(bucket.taken) <= MESSAGE + CHUNK_BLOCK
    sent = copy.destination.input.removeprefix(copy.sink._feed.first)
    assert sum(bucket.taken) == len(sent)


def test_a_stop_wakes_a_sender_that_waits_for_its_turn() -> None:
    bucket = Recorded(3600.0)
    copy = Copy(bucket=bucket)
    running = copy.start()
    copy.destination.say(READY)
    copy.source.say(PIECE)
    assert bucket.asked.wait(SECONDS)
    copy.relay.stop()
    assert isinstance(running.failure(), NotAcknowledged)
    assert PIECE.data not in copy.destination.input


# --- the data channel -------------------------------------------------------------------------


def test_the_data_channel_keeps_the_order() -> None:
    channel = DataChannel(threading.Event())
    for batch in ([b"a"], [b"b", b"c"], None):
        channel.put(batch)
    assert [channel.get(), channel.get(), channel.get()] == [[b"a"], [b"b", b"c"], None]


def test_nothing_goes_into_a_stopped_channel() -> None:
    stop = threading.Event()
    channel = DataChannel(stop)
    stop.set()
    with pytest.raises(Stopped):
        channel.put([b"a"])
    channel.open()
    with pytest.raises(Stopped):
        channel.get()


@pytest.mark.parametrize("size", [2, QUEUE_BATCHES])
def test_opening_wakes_both_sides(size: int) -> None:
    """The smallest channel has room for a pending piece and for what wakes the consumer."""
    stop = threading.Event()
    full, empty = DataChannel(stop, size), DataChannel(stop, size)
    for _ in range(size):
        full.put([b"x"])
    blocked = [Background(lambda: full.put([b"y"])), Background(empty.get)]
    stop.set()
    full.open()
    empty.open()
    for each in blocked:
        assert isinstance(each.failure(), Stopped)


def test_the_source_is_pinged_while_the_destination_takes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its session would look idle to a load balancer; the relay itself just goes on waiting."""
    monkeypatch.setattr(sink, "PING_AFTER", 0.01)
    copy = Copy()
    copy.destination.say(READY)
    copy.destination.allow(1)
    copy.source.repeat = Stdout(bytes(MESSAGE))
    running = copy.start()
    copy.source.wait_for(lambda source: source.pings > 2)
    copy.relay.stop()
    assert isinstance(running.failure(), NotAcknowledged)


class Treacherous(threading.Event):
    """An event that is set, and acted upon, just after somebody saw that it was not."""

    def __init__(self) -> None:
        super().__init__()
        self.then: Callable[[], None] | None = None

    def is_set(self) -> bool:
        """Return what held before the trap went off."""
        before = super().is_set()
        if self.then is not None:
            then, self.then = self.then, None
            self.set()
            then()
        return before


def test_a_stop_between_the_look_and_the_put_is_not_missed() -> None:
    """The sender is blocked in its session, so that nobody takes anything out any more."""
    stop = Treacherous()
    channel = DataChannel(stop, 4)
    for _ in range(4):
        channel.put([b"x"])
    stop.then = channel.open
    producer = Background(lambda: channel.put([b"y"]))
    assert isinstance(producer.failure(), Stopped)


def test_opening_again_still_wakes_the_consumer() -> None:
    """The second opening takes out what the first put in to wake it."""
    stop = threading.Event()
    channel = DataChannel(stop)
    consumer = Background(channel.get)
    stop.set()
    channel.open()
    channel.open()
    assert isinstance(consumer.failure(), Stopped)


# --- small parts ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("acknowledgement", "proves"),
    [
        (Acknowledgement(0, True, 0), True),
        (Acknowledgement(1, True, 0), False),
        (Acknowledgement(0, False, 0), False),
        (Acknowledgement(0, True, 1), False),
    ],
)
def test_what_proves_a_delivery(acknowledgement: Acknowledgement, proves: bool) -> None:
    assert acknowledgement.proves_delivery is proves


def test_of_a_long_stderr_the_beginning_and_the_end_are_kept() -> None:
    said = Said()
    for number in range(10_000):
        said.add(b"%06d\n" % number)
    kept = bytes(said)
    assert len(kept) == 2 * Said.LIMIT
    assert kept.startswith(b"000000\n000001\n")
    assert kept.endswith(b"009998\n009999\n")


@given(st.lists(st.binary(max_size=200), max_size=30).map(lambda parts: [p for p in parts if p]))
def test_of_a_short_stderr_all_is_kept(parts: list[bytes]) -> None:
    said = Said()
    for part in parts:
        said.add(part)
    assert bytes(said) == b"".join(parts)


def gathered(pieces: Iterable[bytes]) -> list[bytes]:
    """Return the messages of a batch of ``pieces``."""
    batch = Batch()
    for piece in pieces:
        batch.add(piece)
    assert batch.size == sum(map(len, pieces))
    messages = batch.take()
    assert batch.size == 0
    assert batch.take() == []
    return messages


def test_small_pieces_are_joined_and_large_ones_cut() -> None:
    pieces = [b"a", b"b" * (MESSAGE - 1), b"c", b"d" * (2 * MESSAGE + 5), b"e"]
    assert gathered(pieces) == [
        b"a" + b"b" * (MESSAGE - 1),
        b"c",
        b"d" * MESSAGE,
        b"d" * MESSAGE,
        b"d" * 5 + b"e",
    ]


def test_a_piece_that_fits_is_not_copied() -> None:
    piece = b"x" * MESSAGE
    (message,) = gathered([piece])
    assert message is piece


SIZES = st.sampled_from([1, 512, MESSAGE - 512, MESSAGE - 1, MESSAGE, MESSAGE + 1, 3 * MESSAGE])


@given(st.lists(SIZES, max_size=12))
def test_gathering_changes_neither_bytes_nor_order(sizes: list[int]) -> None:
    """The bytes are the same, in messages that stdin takes."""
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
    messages = gathered(pieces)
    assert b"".join(messages) == b"".join(pieces)
    assert all(0 < len(message) <= MESSAGE for message in messages)


def test_what_is_at_hand_goes_on_together() -> None:
    """Two hand-overs: one when a batch is full, one when nothing more is at hand."""
    copy = Copy()
    copy.source.gathers = True
    count = BATCH // MESSAGE + 3
    copy.source.say(*[Stdout(b"x" * MESSAGE)] * count)
    running = copy.start()
    copy.source.wait_for(lambda it: it.receiving and it.taken == count)
    sizes = [len(batch or ()) for batch in list(copy.sink._channel._queue.queue)]
    assert sizes == [BATCH // MESSAGE, 3]
    copy.relay.stop()
    running.failure()


def test_what_one_message_becomes_is_not_gathered_whole() -> None:
    """The hole of a sparse file is any number of bytes: the destination slows it down too."""
    count = 3 * BATCH // MESSAGE + 1
    copy = Copy(filter_stdout=lambda _: [b"x" * MESSAGE] * count)
    copy.source.say(PIECE)
    running = copy.start()
    copy.source.wait_for(lambda it: it.receiving and it.taken == 1)
    sizes = [len(batch or ()) for batch in list(copy.sink._channel._queue.queue)]
    assert sizes == [*[BATCH // MESSAGE] * 3, 1]
    copy.relay.stop()
    running.failure()


def test_what_is_at_hand_does_not_wait_for_what_is_to_come() -> None:
    """A slow source's bytes reach the destination before its next ones are there."""
    copy = Copy()
    copy.source.gathers = True
    copy.destination.say(READY)
    running = copy.start()
    copy.source.say(Stdout(b"first"))
    copy.destination.wait_for(lambda it: it.sent == [b"plain\n", b"first"])
    copy.relay.stop()
    running.failure()


def test_the_deadline_of_these_tests_is_longer_than_what_the_relay_waits() -> None:
    assert SECONDS > 2 * (sink.LINGER + sink.ENDING)
