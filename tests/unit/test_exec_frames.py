"""Frames as a server may send them, whole, cut anywhere, and as none may."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_podcp.exec.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MAX_CONTROL,
    MAX_MESSAGE,
    PING,
    PONG,
    Message,
    MessageReader,
    Violation,
)
from tests.unit.peers import frame, noise


def read(reader: MessageReader, chunks: Iterable[bytes]) -> tuple[list[Message], str | None]:
    """Return the messages in ``chunks``, and what is wrong after the last of them, if anything."""
    messages = []
    try:
        for chunk in chunks:
            for message in reader.feed(chunk):
                messages.append(message)
    except Violation as violation:
        return messages, str(violation)
    return messages, None


def messages_of(*chunks: bytes) -> list[Message]:
    """Return the messages in ``chunks``, all of which are right."""
    reader = MessageReader()
    messages, violation = read(reader, chunks)
    assert violation is None
    assert not reader._buffer, "something is kept"
    return messages


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Return ``data`` cut at ``places``, each taken from its start or, if negative, its end."""
    ends = sorted({min(place, len(data)) if place >= 0 else place % len(data) for place in places})
    return [data[start:end] for start, end in itertools.pairwise([0, *ends, len(data)])]


def bytewise(data: bytes) -> list[bytes]:
    """Return ``data`` byte by byte."""
    return [bytes((byte,)) for byte in data]


# What is right


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65535, 65536, 65537])
def test_each_form_of_the_length(size: int) -> None:
    """7, 16 and 64 bits; whole, byte by byte, and with the next one behind it."""
    payload = noise(size)
    whole, next_one = frame(payload), frame(b"next")
    expected = [Message(BINARY, payload), Message(BINARY, b"next")]
    assert messages_of(whole + next_one) == expected
    assert messages_of(whole, next_one) == expected
    assert messages_of(*bytewise(whole + next_one)) == expected


def test_a_message_is_given_as_soon_as_it_is_whole() -> None:
    """Not a byte earlier, and nothing waits for the next frame."""
    reader = MessageReader()
    whole = frame(b"abc")
    for byte in bytewise(whole[:-1]):
        assert list(reader.feed(byte)) == []
    assert list(reader.feed(whole[-1:])) == [Message(BINARY, b"abc")]
    assert list(reader.feed(b"")) == []


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"\x03\xe8" + b"x" * (MAX_CONTROL - 2)])
def test_control_frames(opcode: int, payload: bytes) -> None:
    """They are what they are; what it means is somebody else's question."""
    assert messages_of(frame(payload, opcode)) == [Message(opcode, payload)]


def test_fragments_with_control_frames_between() -> None:
    """The message comes when its last fragment does; empty ones count too."""
    frames = [
        frame(b"", BINARY, final=False),
        frame(b"ab", CONTINUATION, final=False),
        frame(b"?", PING),
        frame(b"cd", CONTINUATION, final=False),
        frame(b"", PONG),
        frame(b"", CONTINUATION),
        frame(b"whole"),
        frame(b"e", BINARY, final=False),
        frame(b"f", CONTINUATION),
        frame(b"\x03\xe8", CLOSE),
    ]
    expected = [
        Message(PING, b"?"),
        Message(PONG, b""),
        Message(BINARY, b"abcd"),
        Message(BINARY, b"whole"),
        Message(BINARY, b"ef"),
        Message(CLOSE, b"\x03\xe8"),
    ]
    assert messages_of(b"".join(frames)) == expected
    assert messages_of(*bytewise(b"".join(frames))) == expected


def test_the_longest_message() -> None:
    """Whole, and in fragments; byte by byte where its length is told."""
    payload = noise(MAX_MESSAGE)
    whole = frame(payload)
    fragments = frame(payload[:9], BINARY, False) + frame(payload[9:], CONTINUATION)
    expected = [Message(BINARY, payload)] * 2
    assert messages_of(whole + fragments) == expected
    assert messages_of(*bytewise(whole[:12]), whole[12:-1], whole[-1:] + fragments) == expected


def test_a_message_keeps_nothing_of_what_came_with_it() -> None:
    """It is bytes of its own, whatever the reader does with its buffer afterwards."""
    reader = MessageReader()
    (first,) = reader.feed(frame(b"first") + b"\x82")
    (second,) = reader.feed(b"\x06second")
    assert (first.data, second.data) == (b"first", b"second")
    assert type(first.data) is type(second.data) is bytes


PAYLOADS = st.binary(max_size=300) | st.sampled_from([125, 126, 65535, 65536]).map(bytes)
CONTROLS = st.builds(
    Message,
    st.sampled_from([PING, PONG]) | st.just(CLOSE),
    st.binary(max_size=MAX_CONTROL - 2).map(b"\x03\xe8".__add__),
)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[list[bytes], list[Message]]:
    """Give what a server may send, frame by frame, and the messages in it."""
    frames, messages = [], []
    for fragments in draw(st.lists(st.lists(PAYLOADS, min_size=1, max_size=4), max_size=5)):
        for number, payload in enumerate(fragments):
            for control in draw(st.lists(CONTROLS, max_size=2)):
                frames.append(frame(control.data, control.opcode))
                messages.append(control)
            is_last = number == len(fragments) - 1
            frames.append(frame(payload, CONTINUATION if number else BINARY, is_last))
        messages.append(Message(BINARY, b"".join(fragments)))
    return frames, messages


CUTS = st.lists(st.integers(0, 300) | st.integers(-300, -1) | st.integers(0, 1 << 17), max_size=20)


@given(conversations(), CUTS)
def test_the_same_messages_in_any_cut(
    conversation: tuple[list[bytes], list[Message]], places: list[int]
) -> None:
    """Frames, chunks and messages have nothing to do with each other."""
    frames, messages = conversation
    data = b"".join(frames)
    assert messages_of(*(cut(data, places) if data else [])) == messages
    assert messages_of(*frames) == messages


# What is wrong

VIOLATIONS: list[tuple[bytes, str]] = [
    (b"\x82\x81", "masked"),
    (b"\x81\xff", "masked"),
    (b"\x01\x00", "text"),
    (b"\x81\x00", "text"),
    *((bytes((0x82 | bit, 0)), "reserved bit (rsv)") for bit in (0x10, 0x20, 0x40, 0x70)),
    (b"\xc9\x00", "reserved bit (rsv)"),
    *((bytes((0x80 | code, 0)), f"opcode that does not exist, {code}") for code in (3, 7, 11, 15)),
    *((bytes((0x80 | code, 126, 0, 126)), "control frame that is too long") for code in (8, 9, 10)),
    *((bytes((code, 0)), "control frame that is too long or in fragments") for code in (8, 9, 10)),
    (b"\x88\x01", "half a code"),
    (b"\x82\x7f" + (MAX_MESSAGE + 1).to_bytes(8, "big"), f"{MAX_MESSAGE + 1} bytes; {MAX_MESSAGE}"),
    (b"\x82\x7f" + b"\xff" * 8, f"{2**64 - 1} bytes"),
    (b"\x02\x7f" + (MAX_MESSAGE + 1).to_bytes(8, "big"), f"{MAX_MESSAGE + 1} bytes"),
    (frame(b"x", CONTINUATION), "fragment out of place"),
    (frame(b"", CONTINUATION, final=False), "fragment out of place"),
    (frame(b"x", final=False) + frame(b"y"), "fragment out of place"),
    (frame(b"x", final=False) + frame(b"y", final=False), "fragment out of place"),
    (
        frame(b"x", final=False) + frame(b"y", CONTINUATION) + frame(b"z", CONTINUATION),
        "fragment out of place",
    ),
]
"""The shortest start of each breach: nothing of what is announced behind it may be waited for."""


@pytest.mark.parametrize(("start", "said"), VIOLATIONS)
def test_a_violation_comes_after_the_messages_before_it(start: bytes, said: str) -> None:
    """At once, not after what it announces, and whatever comes with it."""
    good = frame(b"good") + frame(b"?", PING)
    for chunks in ([good + start], [good, start], bytewise(good + start), [good + start + good]):
        messages, violation = read(MessageReader(), chunks)
        assert messages[:2] == [Message(BINARY, b"good"), Message(PING, b"?")]
        assert messages[2:] in ([], [Message(BINARY, b"xy")])
        assert said in str(violation)


@pytest.mark.parametrize("code", [0, 1, 999, 1004, 1005, 1006, 1015, 5000, 65535])
def test_a_close_code_that_no_frame_may_carry(code: int) -> None:
    """RFC 6455, section 7.4: out of range, or kept for what was never sent."""
    messages, violation = read(MessageReader(), [frame(code.to_bytes(2, "big") + b"why", CLOSE)])
    assert messages == []
    assert "close" in str(violation)


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999])
def test_a_close_code(code: int) -> None:
    """Those of the RFC, those registered since, and those that are free for all."""
    payload = code.to_bytes(2, "big")
    assert messages_of(frame(payload, CLOSE)) == [Message(CLOSE, payload)]


def test_fragments_have_one_limit_together() -> None:
    """The last byte is one too many, however small the fragments are."""
    reader = MessageReader()
    first = frame(bytes(MAX_MESSAGE - 2), final=False)
    good = [first, frame(b"?", PING), frame(b"xx", CONTINUATION, final=False)]
    assert read(reader, good) == ([Message(PING, b"?")], None)
    messages, violation = read(reader, [frame(b"x", CONTINUATION)])
    assert messages == []
    assert violation == f"a message of more than {MAX_MESSAGE} bytes"


def test_empty_fragments_are_no_way_around_the_limit() -> None:
    """They take no room, and the message that they never end is never given."""
    endless: Sequence[bytes] = [
        frame(b"", final=False),
        *[frame(b"", CONTINUATION, False)] * 10_000,
    ]
    assert messages_of(*endless) == []
    assert messages_of(b"".join(endless)) == []


@given(conversations(), st.sampled_from(VIOLATIONS), CUTS)
def test_the_same_violation_in_any_cut(
    conversation: tuple[list[bytes], list[Message]], wrong: tuple[bytes, str], places: list[int]
) -> None:
    """And the same messages before it."""
    frames, messages = conversation
    data = b"".join(frames) + wrong[0]
    found, violation = read(MessageReader(), cut(data, places))
    assert found[: len(messages)] == messages
    assert wrong[1] in str(violation)


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_nothing_but_a_violation_comes_of_nonsense(chunks: list[bytes]) -> None:
    """And the same nonsense in one piece means the same."""
    cut_up = read(MessageReader(), chunks)
    assert read(MessageReader(), [b"".join(chunks)]) == cut_up
