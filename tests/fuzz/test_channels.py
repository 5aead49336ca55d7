"""What a server sends, right, damaged or made up: frames, then messages, then a status."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from kubectl_podcp.exec.channels import UNPARSABLE, Event, Protocol, Status, decode, parse_status
from kubectl_podcp.exec.frames import BINARY, CLOSE, MAX_MESSAGE, MessageReader, Violation
from tests.fuzz import examples
from tests.unit.peers import frame
from tests.unit.tar_blocks import cuts, in_steps

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
WORDS = st.sampled_from(("Success", "Failure", "ExitCode", "NonZeroExitCode", "0", "7", "256"))
CAUSES = st.lists(st.fixed_dictionaries({"reason": WORDS | JSON, "message": WORDS | JSON}) | JSON)
STATUSES = st.fixed_dictionaries(
    {},
    optional={
        "status": WORDS | JSON,
        "reason": WORDS | JSON,
        "message": st.text(max_size=20) | JSON,
        "details": st.fixed_dictionaries({"causes": CAUSES | JSON}) | JSON,
    },
).map(lambda document: json.dumps(document).encode())

MESSAGES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from((125, 126, 300, 65536)).map(lambda size: b"\1" + bytes(size)),
    STATUSES.map(b"\3".__add__),
)
OPCODES = st.sampled_from((2,) * 12 + (0, 1, 8, 9, 10, 3, 11, 15))
PLACES = st.lists(st.integers(0, 1 << 20), max_size=12)


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """Draw what a server sends: frames in any order, and now and then other bytes."""
    sent = b""
    for payload in draw(st.lists(MESSAGES, max_size=8)):
        made = frame(payload, draw(OPCODES), draw(st.integers(0, 4)) > 0)
        if draw(st.integers(0, 15)) == 0:
            place = draw(st.integers(0, len(made) - 1))
            made = made[:place] + draw(st.binary(max_size=4)) + made[place + 1 :]
        sent += made
    return sent


def heard(chunks: list[bytes], protocol: Protocol) -> tuple[list[object], str | None]:
    """Return the events in ``chunks``, and how they break the protocol in the end."""
    reader = MessageReader()
    events: list[object] = []
    try:
        for chunk in chunks:
            for message in reader.feed(chunk):
                assert len(message.data) <= MAX_MESSAGE
                is_data = message.opcode == BINARY
                events.append(decode(protocol, message.data) if is_data else message)
                assert is_data or message.opcode >= CLOSE
            assert len(reader._buffer) <= MAX_MESSAGE + 10 + len(chunk)
    except Violation as violation:
        return events, str(violation)
    return events, None


@examples(200)
@given(conversations(), PLACES, st.sampled_from(Protocol))
def test_any_cut_gives_the_same_events(sent: bytes, places: list[int], protocol: Protocol) -> None:
    """And the same violation after them."""
    whole = heard([sent], protocol)
    assert heard(cuts(sent, {place % (len(sent) + 1) for place in places}), protocol) == whole
    if len(sent) < 2000:
        assert heard(in_steps(sent, 1), protocol) == whole


@examples(300)
@given(STATUSES | st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_only_a_status_that_says_so_is_a_success(document: bytes) -> None:
    """Whatever it is, it is read; an exit code is one that a process can have."""
    status = parse_status(document)
    said: Event | None = decode(Protocol.V5, b"\3" + document)
    assert said == (status if document else None)
    assert isinstance(status, Status)
    if status.success:
        assert json.loads(document)["status"] == "Success"
        assert status.exit_code == 0
    elif status.reason != UNPARSABLE:
        assert json.loads(document)["status"] == "Failure"
        assert status.exit_code is None or 0 <= status.exit_code <= 255
