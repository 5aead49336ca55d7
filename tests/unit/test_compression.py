"""What compresses on this side, what a session with it gives, and which is worth its time."""

from __future__ import annotations

import gzip
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_podcp import compression
from kubectl_podcp.compression import Decoder, Encoder, best, check_known, known
from kubectl_podcp.errors import IncompleteArchive, UsageError
from kubectl_podcp.exec.channels import Closed, Protocol, Status, Stderr, Stdout
from kubectl_podcp.exec.inflating import PIECE, Inflating
from kubectl_podcp.remote.feed import MESSAGE, CompressedFeed, ExactFeed, PlainFeed
from tests.unit.sessions import END, ScriptedSession

KINDS = ("gzip", "zstd")
DONE = Status(True, "", "", 0)


def packed(kind: str, data: bytes) -> bytes:
    encoder = Encoder(kind)
    return encoder.encode(data) + encoder.end()


def inflating(kind: str, *events: object) -> tuple[Inflating, ScriptedSession]:
    session = ScriptedSession()
    session.say(*events)  # type: ignore[arg-type]
    return Inflating(session, Decoder(kind)), session  # type: ignore[arg-type]


def all_of(session: Inflating) -> list[object]:
    """Return all events but the last one, stdout joined."""
    events: list[object] = []
    while not isinstance(event := session.receive(), Closed):
        if events and isinstance(event, Stdout) and isinstance(events[-1], Stdout):
            event = Stdout(events.pop().data + event.data)  # type: ignore[attr-defined]
        events.append(event)
    return events


@pytest.mark.parametrize("kind", KINDS)
@given(st.binary(max_size=3000), st.integers(1, 50), st.binary(max_size=9), st.randoms())
def test_what_comes_is_what_was_compressed_however_it_is_cut(
    kind: str, data: bytes, times: int, behind: bytes, chance: random.Random
) -> None:
    whole = packed(kind, data * times) + behind
    cuts = sorted(chance.randrange(len(whole) + 1) for _ in range(4))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    session, _ = inflating(kind, *map(Stdout, pieces), DONE, END)
    events = all_of(session)
    said = b"".join(event.data for event in events if isinstance(event, Stdout))
    assert said == data * times + behind
    assert events[-1] == DONE


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_byte_waits_for_the_checksum(kind: str) -> None:
    """Else the trailer of an archive would count before it is known to be whole."""
    whole = packed(kind, b"archive and trailer\n")
    session, inner = inflating(kind, Stdout(whole[:-1]))
    came = b""
    with pytest.raises(TimeoutError):
        while True:
            event = session.receive(0.01)
            assert isinstance(event, Stdout)
            came += event.data
    assert came in (b"", b"archive and trailer")
    inner.say(Stdout(whole[-1:]))
    assert session.receive(1) == Stdout(b"archive and trailer\n".removeprefix(came))


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_stream_is_an_error(kind: str) -> None:
    whole = bytearray(packed(kind, bytes(range(256)) * 40))
    whole[-2 if kind == "gzip" else 1] ^= 0xFF
    session, _ = inflating(kind, Stdout(bytes(whole)), DONE, END)
    with pytest.raises(IncompleteArchive, match="damaged"):
        all_of(session)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_without_an_end_gives_no_last_byte(kind: str) -> None:
    """What reads it finds that there is no trailer, as it does without compression."""
    session, _ = inflating(kind, Stdout(packed(kind, b"x" * 5000)[:-1]), DONE, END)
    said = b"".join(each.data for each in all_of(session) if isinstance(each, Stdout))
    assert said in (b"", b"x" * 4999)


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_message_becomes_many(kind: str) -> None:
    """A mebibyte of zeros must not be a mebibyte in memory for each message."""
    session, inner = inflating(kind, Stdout(packed(kind, bytes(1 << 20))))
    sizes = list[int]()
    while sum(sizes) < 1 << 20:
        event = session.receive(1)
        assert isinstance(event, Stdout)
        sizes.append(len(event.data))
        assert session.buffered == (sum(sizes) < 1 << 20)  # nothing waits that is not there
    inner.say(DONE, END)
    assert session.receive(1) == DONE
    assert max(sizes) <= PIECE + 1
    assert sum(sizes) == 1 << 20


def test_all_else_is_the_sessions_own() -> None:
    session, inner = inflating("gzip", Stderr(b"says"), DONE)
    assert session.protocol is Protocol.V5
    assert [session.receive(), session.receive()] == [Stderr(b"says"), DONE]
    session.stall_timeout = 5.0
    assert session.stall_timeout == 5.0 == inner.stall_timeout  # type: ignore[attr-defined]
    session.send_stdin(b"a", b"b")
    session.end_stdin()
    session.ping()
    session.close()
    assert (inner.sent, inner.stdin_ended, inner.pings, inner.closed) == (
        [b"a", b"b"],
        True,
        1,
        True,
    )


# --- the feed ----------------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=1, max_size=900).map(lambda piece: piece * 36)))
def test_a_compressed_feed_holds_every_byte_and_no_other(pieces: list[bytes]) -> None:
    feed = CompressedFeed(PlainFeed(), Encoder("gzip"))
    messages = [*feed.data(pieces), *feed.end()]
    assert gzip.decompress(b"".join(messages)) == b"".join(pieces)
    assert all(0 < len(message) <= MESSAGE for message in messages)


def test_its_chunks_are_those_of_what_is_compressed() -> None:
    feed = CompressedFeed(ExactFeed(MESSAGE), Encoder("gzip"))
    assert feed.first == b"chunked\n"
    data = random.Random(1).randbytes(MESSAGE)
    line, *chunk, end = [*feed.data([data, data]), *feed.end()][-4:]
    assert end == b"0\n"
    assert int(line) == sum(map(len, chunk))


# --- the choice --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "share", "chosen"),
    [
        (1e6, 0.3, "zstd"),
        (1e6, 0.95, ""),  # it does not shrink
        (60e6, 0.3, "zstd"),
        (300e6, 0.1, ""),  # the way is faster than what compresses
    ],
)
def test_what_is_quickest_is_chosen(rate: float, share: float, chosen: str) -> None:
    assert best(("gzip", "zstd"), rate, share) == chosen


def test_a_container_has_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert best(("gzip",), 1e6, 0.3) == "gzip"
    assert best(("gzip",), 60e6, 0.3) == ""
    assert best((), 1e6, 0.3) == ""
    monkeypatch.setattr(compression, "_zstd", lambda: None)
    assert best(("gzip", "zstd"), 1e6, 0.3) == "gzip"


def test_a_python_without_zstd_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert known() == ("zstd", "gzip")
    check_known("zstd")
    monkeypatch.setattr(compression, "_zstd", lambda: None)
    assert known() == ("gzip",)
    with pytest.raises(UsageError, match="a Python that knows zstd"):
        check_known("zstd")
    check_known("gzip")
