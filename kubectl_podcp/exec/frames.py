"""WebSocket frames as a server sends them (RFC 6455, section 5): bytes in, messages out. No I/O.

In: what the connection gave, in any cut. Out: :class:`Message`, fragments joined, control frames
as they stand between them. Raises :class:`Violation`. One thread at a time.

Kubernetes does not fragment, but a proxy may. No extension is ever offered, so no reserved bit
may be set. What comes is read as it stands: only the lengths decide how much is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

MAX_MESSAGE = 1024 * 1024 + 1
"""Longest message that we take, in bytes. Kubernetes sends 32 KiB and a channel byte."""

MAX_CONTROL = 125
"""Longest control frame (section 5.5)."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

_FINAL, _RESERVED, _OPCODE = 0x80, 0x70, 0x0F
_MASKED, _LENGTH = 0x80, 0x7F
_TWO_BYTES, _EIGHT_BYTES = 126, 127


class Violation(Exception):
    """The server does not keep to the protocol; the text says how."""


@dataclass(frozen=True, slots=True)
class Message:
    """A binary message, or a control frame: :data:`CLOSE`, :data:`PING`, :data:`PONG`."""

    opcode: int
    data: bytes


class MessageReader:
    """Reads one connection."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._fragments: bytearray | None = None

    def feed(self, data: bytes) -> Iterator[Message]:
        """Take in ``data``; yield the messages that are whole now.

        The iterator does the work and must be read to its end before the next call.

        :raises Violation: once all messages before it were given; nothing can be read then.
        """
        buffer = self._buffer
        buffer += data
        at = 0
        try:
            while (head := self._head(at)) is not None:
                first, start, end = head
                if end > len(buffer):
                    break
                payload = bytes(memoryview(buffer)[start:end])
                at = end
                message = self._message(first, payload)
                if message is not None:
                    yield message
        finally:
            del buffer[:at]

    def _head(self, at: int) -> tuple[int, int, int] | None:
        """Return a frame's first byte and where its payload starts and ends; None: not yet."""
        buffer = self._buffer
        left = len(buffer) - at
        if left < 2:
            return None
        first, size = buffer[at], buffer[at + 1]
        start = at + 2
        if size & _MASKED:
            raise Violation("it masked a frame")  # section 5.1
        if size >= _TWO_BYTES:
            start += 2 if size == _TWO_BYTES else 8
            if len(buffer) < start:
                return None
            size = int.from_bytes(buffer[at + 2 : start], "big")
        _check(first, size)
        return first, start, start + size

    def _message(self, first: int, payload: bytes) -> Message | None:
        """Return the message that this frame completes."""
        opcode = first & _OPCODE
        if opcode >= CLOSE:
            if opcode == CLOSE and payload:
                _check_close_code(int.from_bytes(payload[:2], "big"))
            return Message(opcode, payload)
        if (opcode == CONTINUATION) is (self._fragments is None):
            raise Violation("a fragment out of place")
        if self._fragments is None:
            if first & _FINAL:
                return Message(BINARY, payload)
            self._fragments = bytearray()
        self._fragments += payload
        if len(self._fragments) > MAX_MESSAGE:
            raise Violation(f"a message of more than {MAX_MESSAGE} bytes")
        if not first & _FINAL:
            return None
        message = Message(BINARY, bytes(self._fragments))
        self._fragments = None
        return message


def _check_close_code(code: int) -> None:
    """Refuse a code that no frame may carry (section 7.4)."""
    reserved = code in (1004, 1005, 1006)
    if reserved or not (1000 <= code <= 1014 or 3000 <= code <= 4999):
        raise Violation(f"a close frame with the code {code}")


def _check(first: int, size: int) -> None:
    """Refuse what no server may send, before its payload is waited for."""
    opcode = first & _OPCODE
    if first & _RESERVED:
        raise Violation("it set a reserved bit (rsv)")
    if opcode == TEXT:
        raise Violation("it sent text, which belongs to the base64 protocols we did not offer")
    if opcode not in (CONTINUATION, BINARY, CLOSE, PING, PONG):
        raise Violation(f"an opcode that does not exist, {opcode}")
    if opcode >= CLOSE and (size > MAX_CONTROL or not first & _FINAL):
        raise Violation("a control frame that is too long or in fragments")
    if opcode == CLOSE and size == 1:
        raise Violation("a close frame with half a code")
    if size > MAX_MESSAGE:
        raise Violation(f"a message of {size} bytes; {MAX_MESSAGE} is the most")
