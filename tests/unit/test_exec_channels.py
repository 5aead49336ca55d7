"""The exec protocol's messages, byte by byte."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_podcp.exec.channels import (
    INTERNAL_ERROR,
    NON_ZERO_EXIT_CODE,
    UNPARSABLE,
    Ignored,
    Protocol,
    Status,
    Stderr,
    Stdout,
    StreamClosed,
    decode,
    end_of_stdin,
    parse_status,
    stdin,
)

BOTH = pytest.mark.parametrize("protocol", Protocol)


@BOTH
@pytest.mark.parametrize(
    ("message", "event"),
    [
        (b"\1abc", Stdout(b"abc")),
        (b"\1\0", Stdout(b"\0")),
        (b"\2tar: no", Stderr(b"tar: no")),
        (b'\3{"status":"Success"}', Status(True, "", "", 0)),
        (b"\0in", Ignored(0)),
        (b'\4{"Width":80}', Ignored(4)),
        (b"\x09x", Ignored(9)),
    ],
)
def test_each_channel_has_its_event(protocol: Protocol, message: bytes, event: object) -> None:
    """The first byte is the channel, the rest its data."""
    assert decode(protocol, message) == event


@BOTH
@pytest.mark.parametrize("message", [b"", b"\0", b"\1", b"\2", b"\3", b"\xff"])
def test_no_data_is_no_event(protocol: Protocol, message: bytes) -> None:
    """An empty message, and the empty first frame of an output, say nothing."""
    assert decode(protocol, message) is None


def test_v5_closes_a_stream_with_two_bytes() -> None:
    """A server's close is tolerated; another length of it is ignored."""
    assert decode(Protocol.V5, b"\xff\1") == StreamClosed(1)
    assert decode(Protocol.V5, b"\xff\1\2") == Ignored(255)
    assert decode(Protocol.V4, b"\xff\1") == Ignored(255)


def test_what_we_send() -> None:
    """Channel 0 for stdin; FF 00 ends it on v5, and nothing can on v4."""
    assert stdin(b"abc") == b"\0abc"
    assert end_of_stdin(Protocol.V5) == b"\xff\0"
    with pytest.raises(ValueError, match=r"v4\.channel\.k8s\.io cannot"):
        end_of_stdin(Protocol.V4)


def failure(reason: str, causes: object, message: str = "said") -> bytes:
    """Return a Failure as Kubernetes writes it."""
    document = {
        "kind": "Status",
        "status": "Failure",
        "reason": reason,
        "message": message,
        "details": {"causes": causes},
    }
    return json.dumps(document).encode()


def test_an_exit_code_stands_among_the_causes() -> None:
    """The first cause with the reason ExitCode has it."""
    causes = [{"reason": "Other", "message": "7"}, {"reason": "ExitCode", "message": "2"}]
    status = parse_status(failure(NON_ZERO_EXIT_CODE, causes))
    assert status == Status(False, NON_ZERO_EXIT_CODE, "said", 2)


@pytest.mark.parametrize(
    "causes",
    [
        None,
        {},
        [],
        ["ExitCode"],
        [{"reason": "ExitCode"}],
        [{"reason": "ExitCode", "message": 2}],
        *([{"reason": "ExitCode", "message": m}] for m in ("", "-1", "256", "1000", "²", "x")),
    ],
)
def test_an_exit_code_that_cannot_be_read_is_none(causes: object) -> None:
    """The failure stays a failure."""
    status = parse_status(failure(NON_ZERO_EXIT_CODE, causes))
    assert status == Status(False, NON_ZERO_EXIT_CODE, "said", None)


def test_a_failure_without_details() -> None:
    """InternalError: the command could not be started."""
    document = b'{"status":"Failure","reason":"InternalError","message":"no sh","code":500}'
    assert parse_status(document) == Status(False, INTERNAL_ERROR, "no sh", None)
    details = b'{"status":"Failure","reason":"InternalError","message":5,"details":[]}'
    assert parse_status(details) == Status(False, INTERNAL_ERROR, "", None)


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"\xff\xfe",
        b"command failed",
        b'{"status":"Suc',
        b"[]",
        b"null",
        b'"Success"',
        b"{}",
        b'{"status":"success"}',
        b'{"status":["Success"]}',
        b"[" * 100_000,
    ],
)
def test_garbage_is_a_failure_that_quotes_it(document: bytes) -> None:
    """Only a status that can be read may say success."""
    status = parse_status(document)
    assert (status.success, status.reason, status.exit_code) == (False, UNPARSABLE, None)
    assert status.message.startswith("not a status: ")
    assert len(status.message) < 1000


@BOTH
@given(message=st.binary(max_size=300))
def test_decode_never_raises(protocol: Protocol, message: bytes) -> None:
    """Any bytes are an event or nothing, and no data byte is lost or made up."""
    event = decode(protocol, message)
    if isinstance(event, Stdout | Stderr):
        assert event.data == message[1:]
    elif event is None:
        assert len(message) < 2


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["status", "reason", "message", "details", "causes"]), inner
            )
        ),
    )
)
def test_any_json_is_a_status(document: object) -> None:
    """Wrong types inside are as harmless as garbage."""
    status = parse_status(json.dumps(document).encode())
    assert isinstance(status.message, str)
    assert isinstance(status.reason, str)
