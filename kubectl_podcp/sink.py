"""One destination of a relay: its queue, the thread that empties it, and the one that listens.

::

    relay ──▶ data channel ──▶ sender ──▶ stdin                          destination session
                               marker, end of archive
                        listener ◀── stdout: ready, acknowledgement

In: batches of an archive, a session in which ``scripts.receive`` (or what speaks like it) runs.
Out: an :class:`Acknowledgement`, or the first error. A relay has a sink for each of its
destinations; no sink knows of another, and whatever happens to one happens to it alone.

========================  =======================  ====================================
signal                    set by                   waited for by
========================  =======================  ====================================
``stop``                  :meth:`Sink.stop`        sender, relay: wherever they block
``writable``              listener                 sender, before its first message
``ended``                 listener                 sender, after its last message
========================  =======================  ====================================
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn
from typing import Protocol as Interface

from kubectl_podcp.archive.follower import SIGNALLED
from kubectl_podcp.archive.headers import end_of_archive, marker
from kubectl_podcp.bandwidth import Bucket
from kubectl_podcp.errors import (
    ConnectionLost,
    DestinationFailed,
    DestinationKilled,
    NotAcknowledged,
    PodcpError,
)
from kubectl_podcp.exec.channels import Closed, Event, Protocol, Status, Stderr, Stdout
from kubectl_podcp.exec.deadline import Deadline
from kubectl_podcp.remote.feed import Feed

MESSAGES_AT_ONCE = 16
"""Messages in one system call: each is held several times over while it is masked and encrypted."""

QUEUE_BATCHES = 8
"""Bound of the data channel: 2 MiB and a little on their way at the most."""

PLACED, NOT_PLACED, PARTLY_PLACED = range(3)
"""What the destination's shell says of putting the copy in its place: a merge may stop half-way."""

ASKED_FOR = 2.0
"""Seconds for which a copy that has ended waits for an answer that nobody needs any more."""

LINGER = 0.5
"""Seconds given to stderr after a failure: it comes on a channel of its own, maybe later."""

READY_WITHIN = 20.0
"""Seconds in which the destination's shell must have made its staging folder."""

ACKNOWLEDGED_WITHIN = 600.0
"""Seconds in which the acknowledgement must follow the last byte, or the last progress that was
seen. The destination may still be writing what is buffered on the way, and merges a tree of any
size then."""

PLACING = b"placing"
"""What :class:`Sink`'s ``progress`` says where there is none to be seen, for all is unpacked."""

PING_AFTER = 30.0
"""Seconds for which nothing is taken from the source, after which its session gets a ping: a load
balancer on the way must not take it for idle while the destination is slow."""

ENDING = 2.0
"""Seconds given to a session to end by itself after all that counts was said."""


class Session(Interface):
    """What the relay asks of an exec session (:class:`kubectl_podcp.exec.session.ExecSession`)."""

    protocol: Protocol

    @property
    def buffered(self) -> bool: ...
    def receive(self, timeout: float | None = None) -> Event | Closed: ...
    def send_stdin(self, *messages: bytes) -> None: ...
    def end_stdin(self) -> None: ...
    def ping(self) -> None: ...
    def close(self) -> None: ...


Ending = Callable[[int], bytes]
"""Gives what follows the last byte of the source's, of which so many were sent."""


class Stopped(Exception):
    """The relay was stopped while this thread was blocked; never leaves the relay."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What the destination's shell says at its end.

    :ivar tar: exit code of its tar.
    :ivar marked: whether the archive's last member was found: all before it was delivered.
    :ivar placed: how putting the result in place ended: 0 done, 1 nothing was changed,
        2 a merge stopped half-way.
    """

    tar: int
    marked: bool
    placed: int

    @property
    def proves_delivery(self) -> bool:
        """Whether every byte arrived and stands in its place."""
        return self.tar == 0 and self.marked and self.placed == 0


def for_ever() -> None:
    """Any wait is fine: somebody stops us."""


class DataChannel:
    """A bounded queue between one producer and one consumer that a stop opens at once.

    What passes is batches: messages in order, each at most 32 KiB.

    :param size: its bound in batches, 2 or more: see :meth:`open`.
    :param waiting: called by the producer, each :data:`PING_AFTER` seconds that it waits for room.
    """

    def __init__(
        self,
        stop: threading.Event,
        size: int = QUEUE_BATCHES,
        waiting: Callable[[], None] = lambda: None,
    ) -> None:
        self._stop = stop
        self._waiting = waiting
        self._queue: queue.Queue[list[bytes] | None] = queue.Queue(size)

    def put(
        self, batch: list[bytes] | None, patience: Callable[[], float | None] = for_ever
    ) -> None:
        """Wait for room and put ``batch``; None is the end. Raises :class:`Stopped`.

        :param patience: returns the seconds that may still be waited; None is for ever.
        :raises TimeoutError: they are over.
        """
        while not self._stop.is_set():
            seconds = patience()
            if seconds is not None and seconds <= 0:
                raise TimeoutError
            try:
                self._queue.put(batch, timeout=min(PING_AFTER, seconds or PING_AFTER))
                break
            except queue.Full:
                self._waiting()
        if self._stop.is_set():
            raise Stopped

    def get(self) -> list[bytes] | None:
        """Wait for the next batch; None is the end. Raises :class:`Stopped`."""
        batch = self._queue.get()
        if self._stop.is_set():
            raise Stopped
        return batch

    def open(self) -> None:
        """Wake both sides; ``stop`` must be set, so that nobody blocks again.

        The queue is emptied whole: a producer that was blocked needs room for its one pending
        batch, beside the None that wakes a consumer. Nobody wakes it a second time.
        """
        with suppress(queue.Empty):
            while True:
                self._queue.get_nowait()
        with suppress(queue.Full):  # then a consumer finds something to wake up by
            self._queue.put_nowait(None)


class Said:
    """What a process said on stderr: its beginning and its end, 4 KiB each, as it came."""

    LIMIT = 4096

    def __init__(self) -> None:
        self._head = b""
        self._tail = b""

    def add(self, data: bytes) -> None:
        """Note ``data``."""
        room = self.LIMIT - len(self._head)
        self._head += data[:room]
        self._tail = (self._tail + data[room:])[-self.LIMIT :]

    def __bytes__(self) -> bytes:
        return self._head + self._tail


@dataclass(slots=True)
class Signals:
    """The sink's explicit signals; the module's table says who sets and who waits."""

    stop: threading.Event = field(default_factory=threading.Event)
    writable: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)


class _Asked:
    """A question that is asked in a thread of its own, which ends by the question's deadline.

    :ivar answer: the newest one; empty where there is none, or none any more.
    """

    def __init__(self, question: Callable[[], bytes] | None) -> None:
        self.answer = b""
        self._question = question
        self._thread: threading.Thread | None = None

    def again(self) -> None:
        """Ask, unless the last question is not answered yet."""
        if self._question is None or (self._thread is not None and self._thread.is_alive()):
            return
        self.answer = b""
        self._thread = threading.Thread(target=self._ask, args=(self._question,), daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let no thread be left that asks, unless it takes very long."""
        if self._thread is not None:
            self._thread.join(ASKED_FOR)

    def _ask(self, question: Callable[[], bytes]) -> None:
        with suppress(PodcpError, OSError):
            self.answer = question()


class Sink:
    """One destination. The relay runs :meth:`send` and :meth:`listen` in a thread each.

    :param feed: how the destination's stdin wants the archive.
    :param bucket: says how fast the archive may go; None: as fast as it can.
    :param ending: by which the destination knows that nothing is missing; None: the marker, and
        the end of an archive.
    :param waiting: called while there is no room for more, see :class:`DataChannel`.
    :param patience: seconds for which there may be no progress when all was sent; None: no limit
        but :data:`ACKNOWLEDGED_WITHIN`.
    :param progress: says, in a thread of its own and within a deadline, how much is unpacked there,
        or :data:`PLACING`. It may fail.
    :param hears_out: whether what its tar has said on stderr counts when all was acknowledged.
    :param on_ready: called when the destination is ready, and before anything goes there, with the
        user and group that will own all that is unpacked; None where owners are kept; and with
        whether names there differ in more than their case. May raise.
    :param raw: whether its shell itself writes all that comes to one file, and there is no tar.
    :ivar sent: bytes of the archive sent so far; any thread may read it.
    :ivar marker_sent: written by the sender, before the marker goes.
    :ivar has_staged: by the sender: the staging folder is there. A shell that was never told how
        the archive comes removes one that is new.
    :ivar acknowledgement: by the listener.
    :ivar error: the first thing that went wrong.
    """

    def __init__(
        self,
        session: Session,
        *,
        nonce: str,
        feed: Feed,
        bucket: Bucket | None = None,
        ending: Ending | None = None,
        waiting: Callable[[], None] = lambda: None,
        patience: float | None = None,
        progress: Callable[[], bytes] | None = None,
        hears_out: bool = False,
        on_ready: Callable[[tuple[int, int] | None, bool], None] = lambda *_: None,
        raw: bool = False,
    ) -> None:
        # Set once.
        self._session = session
        self._nonce = nonce
        self._feed = feed
        self._bucket = bucket
        self._ending = ending or self._marked_end
        self._patience = patience if progress else None
        self._progress = progress
        self._hears_out = hears_out
        self._on_ready = on_ready
        self._writer, self._written = ("shell", "file") if raw else ("tar", "archive")
        self._said = re.compile(
            rb"^podcp-([0-9a-f]{32}) (ready(?: (\d{1,10}):(\d{1,10}))?( folds)?|\d{1,3} \d \d)$"
        )
        self.signals = Signals()
        self._channel = DataChannel(self.signals.stop, waiting=waiting)
        self.put = self._channel.put
        # Each written by one thread.
        self._stderr = Said()
        self.sent = 0
        self.marker_sent = False
        self.has_staged = False
        self._waits: tuple[float, float | None] = 0.0, None  # in all before; since when now
        self.acknowledgement: Acknowledgement | None = None
        # Guarded by _lock.
        self._lock = threading.Lock()
        self.error: BaseException | None = None

    @property
    def lives(self) -> bool:
        """Whether it may still take something."""
        return not self.signals.stop.is_set()

    @property
    def throttled(self) -> float:
        """Seconds for which the bucket made the sender wait until now; any thread may ask."""
        before, since = self._waits
        return before if since is None else before + time.monotonic() - since

    @property
    def stderr(self) -> bytes:
        """What the destination's shell and tar said there."""
        return bytes(self._stderr)

    @property
    def is_proved(self) -> bool:
        """Whether the destination has acknowledged all that was sent, the marker included."""
        said = self.acknowledgement
        return self.marker_sent and said is not None and said.proves_delivery and not self.error

    def note(self, error: BaseException) -> None:
        """Take ``error`` for the sink's, unless another came first or it was stopped."""
        with self._lock:
            if self.error is None and self.lives:
                self.error = error

    def fail(self, error: BaseException) -> None:
        """Stop because of ``error``."""
        self.note(error)
        self.stop()

    def stop(self) -> None:
        """Wake every thread at every place where it can block; any thread may call it, often."""
        self.signals.stop.set()
        self.signals.writable.set()
        self.signals.ended.set()
        self._channel.open()
        self._session.close()

    # --- sender ------------------------------------------------------------------------------

    def send(self) -> None:
        """Send what comes through the channel, then the ending; wait for the acknowledgement."""
        if not self.signals.writable.wait(READY_WITHIN):
            raise NotAcknowledged(
                f"the destination's shell did not get ready within {READY_WITHIN:g} s"
            )
        try:
            self._session.send_stdin(self._feed.first)
            self.has_staged = True
            while (batch := self._channel.get()) is not None:
                self._send_all(self._feed.data(batch))
                self.sent += sum(map(len, batch))
            self.marker_sent = True
            self._send_all(self._feed.data([self._ending(self.sent)]))
            self._send_all(self._feed.end())
            if self._session.protocol is Protocol.V5:
                self._session.end_stdin()
        except ConnectionLost:
            # Why it was lost may have been said already, and is then worth more than this.
            if not self.signals.ended.wait(ENDING):
                raise
        self._await_acknowledgement()

    def _await_acknowledgement(self) -> None:
        """Wait for it as long as there is progress.

        Servers and sockets take megabytes for a tar that has stopped, which then nobody notices by
        a write that is blocked. So it is asked, by a session of its own, what is unpacked by now.

        :raises ConnectionLost: twice the same, :attr:`patience` seconds apart.
        :raises NotAcknowledged: nothing is known of it for :data:`ACKNOWLEDGED_WITHIN`.
        """
        asked = _Asked(self._progress)
        try:
            self._await(asked)
        finally:
            asked.end()

    def _await(self, asked: _Asked) -> None:
        seen, since = b"", time.monotonic()
        pause = self._patience / 2 if self._patience else ACKNOWLEDGED_WITHIN
        while not self.signals.ended.wait(pause):
            answer = asked.answer
            if self._patience and answer and answer == seen and PLACING not in answer:
                raise ConnectionLost(
                    f"everything was sent, and the destination took none of it for "
                    f"{self._patience:g} s",
                    advice="Try again; see whether the container and its node are healthy.",
                )
            if answer and answer != seen:
                seen, since = answer, time.monotonic()
            if not self._patience or time.monotonic() - since > ACKNOWLEDGED_WITHIN:
                raise NotAcknowledged(
                    "everything was sent, but the destination did not acknowledge it within "
                    f"{ACKNOWLEDGED_WITHIN:g} s"
                )
            asked.again()
            pause = self._patience

    def _marked_end(self, sent: int) -> bytes:
        last = marker(self._nonce)
        return last + end_of_archive(sent + len(last))

    def _send_all(self, messages: Sequence[bytes]) -> None:
        at_once = 1 if self._bucket else MESSAGES_AT_ONCE
        for at in range(0, len(messages), at_once):
            some = messages[at : at + at_once]
            if self._bucket is not None:
                self._wait(self._bucket.take(sum(map(len, some))))
            self._session.send_stdin(*some)

    def _wait(self, seconds: float) -> None:
        self._waits = self._waits[0], time.monotonic()
        stopped = self.signals.stop.wait(seconds)
        self._waits = self.throttled, None
        if stopped:
            raise Stopped

    # --- listener ----------------------------------------------------------------------------

    def listen(self) -> None:
        """Hear what the destination's shell says, to its last word."""
        line = b""
        for data in stdout_of(self._session, self._stderr):
            *lines, line = (line + data).split(b"\n")
            line = line[-Said.LIMIT :]
            for each in lines:
                if self._hear(each):
                    return
        _raise_not_acknowledged(self._stderr)

    def _hear(self, line: bytes) -> bool:
        """Act on a line of the destination's shell; return whether it was its last."""
        match = self._said.match(line)
        if not match:
            return False
        if match[1] != self._nonce.encode("ascii"):
            raise NotAcknowledged("the destination's shell acknowledged another copy than this one")
        if match[2].startswith(b"ready"):
            self._on_ready((int(match[3]), int(match[4])) if match[3] else None, not match[5])
            self.signals.writable.set()
            return False
        self.signals.ended.set()
        tar, marked, placed = map(int, match[2].split())
        acknowledgement = self.acknowledgement = Acknowledgement(tar, marked == 1, placed)
        if not acknowledgement.proves_delivery or not self.marker_sent:
            error = self._refusal(acknowledgement)
            self.note(error)
            linger(self._session, self._stderr, LINGER)
            error.stderr = bytes(self._stderr)
            raise error
        if self._session.protocol is Protocol.V5:  # on v4 it ends when we close it
            linger(self._session, self._stderr, ENDING)
        elif self._hears_out:
            linger(self._session, self._stderr, LINGER)
        return True

    def _refusal(self, acknowledgement: Acknowledgement) -> PodcpError:
        """Return what an acknowledgement that proves nothing says instead."""
        if acknowledgement.tar and not self.signals.writable.is_set():
            return DestinationFailed("the destination could not make a folder to unpack in")
        if acknowledgement.tar:
            failure = DestinationKilled if acknowledgement.tar > SIGNALLED else DestinationFailed
            code = acknowledgement.tar
            return failure(f"the destination's {self._writer} ended with exit code {code}")
        if not acknowledgement.marked:
            return NotAcknowledged(
                f"the destination's {self._writer} ended before the end of the {self._written}"
            )
        if acknowledgement.placed:
            return DestinationFailed("the copy could not be put in place")
        return NotAcknowledged("the destination acknowledged what was not sent yet")


def stdout_of(
    session: Session, said: Said, limit: Callable[[], float | None] = for_ever
) -> Iterator[bytes]:
    """Yield what the process writes to stdout until its session ends; note its stderr.

    :param limit: returns the seconds to wait for the next event.
    :raises TimeoutError: nothing came within that time.
    """
    while True:
        event = session.receive(limit())
        if isinstance(event, Stdout):
            yield event.data
        elif isinstance(event, Stderr):
            said.add(event.data)
        elif isinstance(event, Status | Closed):
            return


def linger(session: Session, said: Said, seconds: float) -> None:
    """Read on for at most ``seconds``, until the session ends."""
    deadline = Deadline(seconds)
    with suppress(TimeoutError, PodcpError, OSError):
        while not isinstance(event := session.receive(deadline.remaining()), Status | Closed):
            if isinstance(event, Stderr):
                said.add(event.data)


def _raise_not_acknowledged(said: Said) -> NoReturn:
    raise NotAcknowledged(
        "the destination's session ended before it acknowledged the copy", stderr=bytes(said)
    )
