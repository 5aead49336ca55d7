"""SPDY/3.1 as far as `kubectl exec` speaks it: to servers without v5, and to all before 1.31.

What goes in: a connection that was upgraded. What comes out: the same messages as on a
WebSocket, a channel number and then data, so that a session need not know the difference. The
client opens a stream for each channel and says in a header which it is; the end of its stdin
stream becomes ``FF 00``. Raises :class:`ConnectionError` for a client that is gone, or that
breaks the protocol. The threads are those of :class:`tests.loopback.connection.WebSocket`.

SPDY draft 3.1, section 2; k8s.io/apimachinery/pkg/util/httpstream/spdy. Flow control is left
out, as in moby/spdystream.
"""

from __future__ import annotations

import struct
import zlib
from collections import deque
from collections.abc import Iterator

from tests.loopback.connection import Connection

_SYN_STREAM, _SYN_REPLY, _PING = 1, 2, 6
_CONTROL = 0x80030000
"""The control bit and the version, in front of the type of a frame."""
_FIN = 0x01
_CHANNELS = {b"stdin": 0, b"stdout": 1, b"stderr": 2, b"error": 3}
_STATUS = 3
_END_OF_STDIN = b"\xff\x00"

_WORDS = """
options head post put delete trace accept accept-charset accept-encoding accept-language
accept-ranges age allow authorization cache-control connection content-base content-encoding
content-language content-length content-location content-md5 content-range content-type date etag
expect expires from host if-match if-modified-since if-none-match if-range if-unmodified-since
last-modified location max-forwards pragma proxy-authenticate proxy-authorization range referer
retry-after server te trailer transfer-encoding upgrade user-agent vary via warning
www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin
"""
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request"
    "401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
    "503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 "
    "Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
    "application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age="
    "gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _dictionary() -> bytes:
    """Return the dictionary with which headers are compressed (draft 3.1, section 2.6.10.1)."""
    words = [word.replace("_", " ").encode() for word in _WORDS.split()]
    return b"".join(struct.pack(">I", len(word)) + word for word in words) + _TEXT.encode()


class SpdyStreams:
    """The streams of one exec session."""

    def __init__(self, connection: Connection, channels: frozenset[int]) -> None:
        """Wait until the client has opened its streams.

        :param channels: the channels that it has to open.
        :raises ConnectionError: it left before.
        """
        self.connection = connection
        self._streams: dict[int, int] = {}  # channel to stream
        self._inflate = zlib.decompressobj(zdict=_dictionary())
        self._deflate = zlib.compressobj(zdict=_dictionary())
        self._early: deque[bytes] = deque()  # messages that came before the last stream
        self._messages = self._read_messages()
        while not channels <= self._streams.keys():
            message = next(self._messages, None)
            if message is None:
                raise ConnectionError("the client left before it had opened its streams")
            self._early.append(message)

    def messages(self) -> Iterator[bytes]:
        """Yield what the client sends, until it is gone."""
        while self._early:
            yield self._early.popleft()
        yield from self._messages

    def send(self, message: bytes) -> None:
        """Send one message; the first one without data, known on WebSockets, has no meaning.

        :raises ConnectionError: the connection has ended.
        """
        channel, data = message[0], message[1:]
        if data:
            self._send_data(channel, data, _FIN if channel == _STATUS else 0)

    def send_ping(self, payload: bytes) -> None:
        """Send nothing: no test needs SPDY's own pings."""

    def send_close(self) -> None:
        """End the output streams.

        :raises ConnectionError: the connection has ended.
        """
        for channel in (1, 2):
            if channel in self._streams:
                self._send_data(channel, b"", _FIN)

    def _send_data(self, channel: int, data: bytes, flags: int) -> None:
        head = struct.pack(">II", self._streams[channel], flags << 24 | len(data))
        self.connection.sendall(head + data)

    def _send_control(self, kind: int, payload: bytes) -> None:
        self.connection.sendall(struct.pack(">II", _CONTROL | kind, len(payload)) + payload)

    def _read_messages(self) -> Iterator[bytes]:
        """Yield messages; an empty one each time that the client opens a stream."""
        for head, flags, payload in self._frames():
            if head == _CONTROL | _SYN_STREAM:
                self._open(payload)
                yield b""
            elif head == _CONTROL | _PING:
                self._send_control(_PING, payload)
            elif head == self._streams.get(0):
                if payload:
                    yield b"\0" + payload
                if flags & _FIN:
                    yield _END_OF_STDIN

    def _frames(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield frames: the first word, the flags, and what follows."""
        buffer = bytearray()
        while data := self.connection.recv():
            buffer += data
            while len(buffer) >= 8:
                head, length = struct.unpack_from(">II", buffer)
                end = 8 + (length & 0xFFFFFF)
                if len(buffer) < end:
                    break
                yield head, length >> 24, bytes(buffer[8:end])
                del buffer[:end]

    def _open(self, payload: bytes) -> None:
        """Note and acknowledge a stream that the client opens."""
        stream = int.from_bytes(payload[:4], "big")
        channel = _CHANNELS.get(self._headers(payload[10:]).get(b"streamtype", b""))
        if channel is not None:
            self._streams[channel] = stream
        no_headers = self._deflate.compress(bytes(4)) + self._deflate.flush(zlib.Z_SYNC_FLUSH)
        self._send_control(_SYN_REPLY, struct.pack(">I", stream) + no_headers)

    def _headers(self, block: bytes) -> dict[bytes, bytes]:
        """Return the headers of a compressed block; their names are in lower case."""
        try:
            plain = self._inflate.decompress(block)
        except zlib.error as error:
            raise ConnectionError(f"headers that cannot be read: {error}") from error
        words = []
        position = 4
        while position < len(plain):
            (size,) = struct.unpack_from(">I", plain, position)
            words.append(plain[position + 4 : position + 4 + size])
            position += 4 + size
        return dict(zip(words[::2], words[1::2], strict=True))
