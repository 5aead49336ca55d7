"""The exec protocol's messages: bytes in, events out. No I/O; any thread.

A WebSocket message is one byte, the channel, and what was written to it. Both versions of the
protocol that we speak have the channels of k8s.io/apimachinery ``pkg/util/remotecommand/
constants.go``: 0 stdin, 1 stdout, 2 stderr, 3 status ("error"), 4 terminal size. Version 5 adds
255, close: the two bytes ``FF <channel>`` end that channel (KEP-4006).

:func:`decode` never fails: whatever a server sends is an event or nothing. A status that cannot
be read is a failure with the reason :data:`UNPARSABLE`, for a server that garbles its status has
not said that the command succeeded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum

_STDIN, _STDOUT, _STDERR, _STATUS, _CLOSE = 0, 1, 2, 3, 255

UNPARSABLE = "Unparsable"
"""Reason of a :class:`Status` whose document is not one; its message quotes the beginning."""

NON_ZERO_EXIT_CODE = "NonZeroExitCode"
"""Reason of a command that ran and failed (``NonZeroExitCodeReason`` in ``constants.go``)."""

INTERNAL_ERROR = "InternalError"
"""Reason of a command that could not be started, or whose streams failed."""

_QUOTED = 200
"""How many bytes of a document that cannot be read are quoted."""


class Protocol(Enum):
    """A version of the protocol, by its name in ``Sec-WebSocket-Protocol``."""

    V4 = "v4.channel.k8s.io"
    V5 = "v5.channel.k8s.io"


@dataclass(frozen=True, slots=True)
class Stdout:
    """Bytes that the command wrote to its stdout; never empty, at most 32 KiB from Kubernetes."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Stderr:
    """Bytes that the command wrote to its stderr; never empty."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Status:
    """How the command ended; the last message of a session, after all of stdout.

    It proves nothing about a copy: the API server turns a status that is missing into success
    (kubernetes/kubectl#1726), and a dying kubelet sends success to both sides.

    :ivar success: whether the server says so.
    :ivar reason: empty for success; :data:`NON_ZERO_EXIT_CODE`, :data:`INTERNAL_ERROR`,
        :data:`UNPARSABLE` or another reason of the server.
    :ivar message: the server's own words.
    :ivar exit_code: 0 for success, the command's for ``NonZeroExitCode``, else ``None``.
    """

    success: bool
    reason: str
    message: str
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class StreamClosed:
    """The server ended a channel (v5). Kubernetes sends none; tolerated where one comes."""

    channel: int


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message for a channel that no server writes to, or that this version does not know."""

    channel: int


NORMAL_CLOSURE = 1000
"""Code of a session that came to its end (RFC 6455, section 7.4.1)."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The server closed the session (RFC 6455, section 5.5.1); nothing comes after it.

    1000 follows a status, but also a read error and an idle time-out: it proves nothing.
    """

    code: int
    reason: str


Event = Stdout | Stderr | Status | StreamClosed | Ignored


def decode(protocol: Protocol, message: bytes) -> Event | None:
    """Return what one binary message says, or ``None`` where it says nothing.

    Nothing is said by an empty message, and by a channel's byte alone: servers send the byte of
    the lowest requested output once, when the session opens (``pkg/util/httpstream/wsstream`` and
    ``pkg/util/proxy/websocket.go``); it does not mean that the command runs. An empty status says
    nothing either: a session that ends after it ended without a status.
    """
    if len(message) < 2:
        return None
    channel, data = message[0], message[1:]
    if channel == _STDOUT:
        return Stdout(data)
    if channel == _STDERR:
        return Stderr(data)
    if channel == _STATUS:
        return parse_status(data)
    if channel == _CLOSE and protocol is Protocol.V5 and len(data) == 1:
        return StreamClosed(data[0])
    return Ignored(channel)


def stdin(data: bytes) -> bytes:
    """Return the message that writes ``data`` to the command's stdin.

    Servers take up to 32 MiB and cut it into 32 KiB for the node: send no more than that.
    """
    return b"\0" + data


def end_of_stdin(protocol: Protocol) -> bytes:
    """Return the message that ends the command's stdin.

    :raises ValueError: on v4, which has none (kubernetes/kubernetes#89899).
    """
    if protocol is not Protocol.V5:
        raise ValueError(f"{protocol.value} cannot end stdin")
    return bytes((_CLOSE, _STDIN))


def parse_status(document: bytes) -> Status:
    """Return the status that a message on channel 3 holds; never raises.

    The document is a ``metav1.Status``. Its exit code stands in ``details.causes`` under the
    reason ``ExitCode`` (client-go ``tools/remotecommand/v4.go``).
    """
    try:
        status = json.loads(document)
    except (ValueError, RecursionError):
        return _unparsable(document)
    if not isinstance(status, dict) or status.get("status") not in ("Success", "Failure"):
        return _unparsable(document)
    if status["status"] == "Success":
        return Status(True, "", _text(status, "message"), 0)
    return Status(False, _text(status, "reason"), _text(status, "message"), _exit_code(status))


def _unparsable(document: bytes) -> Status:
    quoted = document[:_QUOTED].decode("utf-8", "backslashreplace")
    return Status(False, UNPARSABLE, f"not a status: {quoted}", None)


def _text(fields: dict[str, object], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _exit_code(status: dict[str, object]) -> int | None:
    """Return the first exit code among the causes; ``None`` where none can be read."""
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    for cause in causes if isinstance(causes, list) else ():
        if isinstance(cause, dict) and cause.get("reason") == "ExitCode":
            text = _text(cause, "message")
            # Up to three ASCII digits, as strconv.ParseUint(…, 10, 8) takes them.
            if text.isascii() and text.isdigit() and len(text) <= 3 and int(text) <= 255:
                return int(text)
    return None
