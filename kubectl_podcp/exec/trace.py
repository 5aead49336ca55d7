"""What passes on an exec session, a log line for each message: direction, channel, size.

In: messages as they come and go. Out: lines in the style of websockets' debug log, ``<`` received,
``>`` sent, ``=`` a state, ``!`` an error. What a command reads and writes never stands in them;
the status document, which is the server's word on how it ended, does. Raises nothing. One thread
may call it for what is received while another does for what is sent.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from kubectl_podcp.errors import printable
from kubectl_podcp.exec.frames import BINARY, CLOSE, PING, PONG, Message
from kubectl_podcp.logs import FRAMES

log = logging.getLogger(__name__)

_CHANNELS = {0: "stdin", 1: "stdout", 2: "stderr", 3: "status", 4: "resize", 255: "close"}
_OPCODES = {CLOSE: "CLOSE", PING: "PING", PONG: "PONG"}
_STATUS, _END = 3, 255

_QUOTED = 300
"""How many bytes of a status document, or of a close frame's reason, are shown."""


def begun(name: str) -> Trace | None:
    """Return the trace of a session; None where nobody listens, which costs nothing from then on.

    :param name: what the session is called in each line.
    """
    return Trace(name) if log.isEnabledFor(FRAMES) else None


class Trace:
    """The lines of one session."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_closed = False

    def received(self, messages: Iterator[Message]) -> Iterator[Message]:
        """Pass ``messages`` on, and log each before it is acted on."""
        for message in messages:
            self._line("<", _told(message))
            yield message

    def sent(self, messages: Sequence[bytes], opcode: int = BINARY) -> None:
        """Log what goes to the server."""
        for data in messages:
            self._line(">", _told(Message(opcode, data)))

    def closed(self) -> None:
        """Log, once, that we closed the connection."""
        if not self._is_closed:
            self._is_closed = True
            self._line("=", "closed by us")

    def failed(self, error: Exception) -> None:
        """Log why it ended before its end."""
        self._line("!", printable(str(error).partition("\n")[0]))

    def _line(self, sign: str, text: str) -> None:
        log.log(FRAMES, "%s %s %s", self._name, sign, text)


def _told(message: Message) -> str:
    """Return a message in words, without what a command read or wrote."""
    data = message.data
    if message.opcode == CLOSE and data:
        code, reason = int.from_bytes(data[:2], "big"), printable(data[2:])
        return f"CLOSE {code} {reason}".rstrip()
    if message.opcode != BINARY:
        return f"{_OPCODES[message.opcode]} [{len(data)} bytes]"
    if not data:
        return "an empty message"
    channel, size = data[0], len(data) - 1
    name = _CHANNELS.get(channel, f"channel {channel}")
    if channel == _STATUS:
        return f"{name} {printable(data[1 : 1 + _QUOTED])} [{size} bytes]"
    if channel == _END and size == 1:
        return f"{name} {_CHANNELS.get(data[1], data[1])}"
    return f"{name} [{size} bytes]"
