"""A session whose stdout comes compressed, seen as if it did not.

In: an :class:`~kubectl_podcp.exec.session.ExecSession`, and what undoes the compression. Out: the
same events, stdout as it was before. What follows the end of the compressed stream is passed on as
it is. The reader's alone; raises what the session does, and
:class:`~kubectl_podcp.errors.IncompleteArchive` for a stream that is damaged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import Protocol as Interface

from kubectl_podcp.errors import IncompleteArchive
from kubectl_podcp.exec.channels import Closed, Event, Stdout
from kubectl_podcp.exec.deadline import Deadline

if TYPE_CHECKING:
    from kubectl_podcp.exec.session import ExecSession

PIECE = 64 * 1024
"""Most bytes in one event: a small message may stand for any number of them."""


class Decoder(Interface):
    """What undoes a compression.

    :ivar damage: what it raises where the stream is damaged.
    """

    damage: type[Exception]

    def decode(self, data: bytes, most: int) -> bytes:
        """Take ``data``, and return up to ``most`` bytes; none where it needs more data."""

    @property
    def rest(self) -> bytes | None:
        """What came behind the end, which is reached, and the checksum right; None before."""


class Inflating:
    """See the module.

    The last byte is held back until the stream's checksum was seen: so the trailer of an archive,
    which is in the stream, never counts before.

    :ivar protocol: the version that the server chose.
    """

    def __init__(self, session: ExecSession, decoder: Decoder) -> None:
        self.protocol = session.protocol
        self._session = session
        self._decoder: Decoder | None = decoder
        self._came: bytes | None = None  # what the decoder may still have something of
        self._ready = b""
        self._held = b""

    @property
    def stall_timeout(self) -> float | None:
        """As the session's."""
        return self._session.stall_timeout

    @stall_timeout.setter
    def stall_timeout(self, seconds: float | None) -> None:
        self._session.stall_timeout = seconds

    @property
    def buffered(self) -> bool:
        """Whether :meth:`receive` would give an event soon. The reader's; raises like it."""
        if not self._ready:
            self._ready = self._next()
        return bool(self._ready) or self._session.buffered

    def receive(self, timeout: float | None = None) -> Event | Closed:
        """Return the next event, as :meth:`ExecSession.receive`.

        :raises IncompleteArchive: the stream is damaged.
        """
        deadline = Deadline(timeout)
        while True:
            data, self._ready = self._ready or self._next(), b""
            if data:
                return Stdout(data)
            event = self._session.receive(deadline.remaining())
            if self._decoder is None or not isinstance(event, Stdout):
                return event
            self._came = event.data

    def send_stdin(self, *messages: bytes) -> None:
        """As the session's."""
        self._session.send_stdin(*messages)

    def end_stdin(self) -> None:
        """As the session's."""
        self._session.end_stdin()

    def ping(self) -> None:
        """As the session's."""
        self._session.ping()

    def close(self) -> None:
        """As the session's."""
        self._session.close()

    def _next(self) -> bytes:
        """Return the next piece of what came; empty where there is none."""
        data = b""
        while not data and self._decoder is not None and self._came is not None:
            data = self._decoded(self._decoder, self._came)
        return data

    def _decoded(self, decoder: Decoder, came: bytes) -> bytes:
        """Return what is made of what came, which may be nothing yet."""
        try:
            piece = decoder.decode(came, PIECE)
        except decoder.damage as error:
            raise IncompleteArchive(
                f"what the source compressed came damaged: {error}",
                advice="leave out --compress to see whether that is the reason",
            ) from error
        data, rest = self._held + piece, decoder.rest
        if rest is not None:
            self._decoder, self._came = None, None
            return data + rest
        self._came = b"" if piece else None
        self._held = data[-1:]
        return data[:-1]
