"""The relay: one archive from a source's stdout to a destination's stdin, and the proof.

::

    source session                                                   destination session
      stdout ──▶ source reader ──▶ filter ──▶ data channel ──▶ sender ──▶ stdin
      stdin  ◀── release                                       marker, end of archive
                                        destination reader ◀── stdout: ready, acknowledgement

Three threads and the caller's. The **source reader** takes each message through the filter, which
checks and rewrites it, into the data channel, a bounded queue: when the destination is slow, the
queue fills, the reader stops reading, and TCP slows the source down. The **sender** empties it.
The **destination reader** listens for what the destination's shell says. The caller's thread
waits for the three; a signal or an exception there stops them.

========================  =======================  ====================================
signal                    set by                   waited for by
========================  =======================  ====================================
``stop``                  whoever fails first      all, at each place where they block
``source_ended``          source reader            (state: the archive and trailer came)
``source_released``       source reader            (state: the source's shell may end)
``destination_writable``  destination reader       sender, before its first message
``destination_ended``     destination reader       sender, after its last message
========================  =======================  ====================================

A copy is complete when the acknowledgement says so, and nothing else says so: neither
``Success`` on the status channel, which a dying kubelet sends to both sides, nor a close code.

Where a thread can block, and what wakes it: ``session.receive`` and ``session.send_stdin``
(closing the session, and the session's stall time-out), the data channel's ``put`` and ``get``
(:meth:`DataChannel.open`), the sender's wait for its turn where the rate has a limit (``stop``),
waiting for a signal (:meth:`Relay.stop` sets it, and each has its time limit below). Errors: the
first one wins and reaches the caller of :meth:`Relay.run`; what follows from our own stopping is
dropped. A source that failed waits until the destination's shell has begun, see
:meth:`Relay._fail`.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn
from typing import Protocol as Interface

from kubectl_podcp.archive.follower import SIGNALLED, EndOfArchive, Trailer
from kubectl_podcp.archive.headers import end_of_archive, marker
from kubectl_podcp.bandwidth import Bucket
from kubectl_podcp.errors import (
    ConnectionLost,
    DestinationFailed,
    DestinationKilled,
    IncompleteArchive,
    NotAcknowledged,
    PodcpError,
    SourceFailed,
    SourceKilled,
)
from kubectl_podcp.exec.channels import Closed, Event, Protocol, Status, Stderr, Stdout
from kubectl_podcp.exec.deadline import Deadline
from kubectl_podcp.remote.feed import MESSAGE, Feed

BATCH = 256 * 1024
"""Bytes, or a message more, that one thread hands to the other at once. A hand-over and a system
call cost the same whatever they carry."""

MESSAGES_AT_ONCE = 16
"""Messages in one system call: each is held several times over while it is masked and encrypted."""

QUEUE_BATCHES = 8
"""Bound of the data channel: 2 MiB and a little on their way at the most."""

PLACED, NOT_PLACED, PARTLY_PLACED = range(3)
"""What the destination's shell says of putting the copy in its place: a merge may stop half-way."""

LINGER = 0.5
"""Seconds given to stderr after a failure: it comes on a channel of its own, maybe later."""

READY_WITHIN = 20.0
"""Seconds in which the destination's shell must have made its staging folder."""

TRAILER_WITHIN = 10.0
"""Seconds in which the trailer must follow the end of the archive: tar has nothing left to do."""

ACKNOWLEDGED_WITHIN = 600.0
"""Seconds in which the acknowledgement must follow the last byte. The destination may still be
writing what is buffered on the way, and merges a tree of any size then."""

PING_AFTER = 30.0
"""Seconds for which nothing is taken from the source, after which its session gets a ping: a load
balancer on the way must not take it for idle while the destination is slow."""

BEGINNING = 2.0
"""Seconds given to the destination's shell to begin, where the source has failed already."""

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


Filter = Callable[[bytes], Iterable[object]]
"""Sees each stdout message of the source before it goes on, and gives what goes on instead:
pieces of the archive (``bytes``) and events, of which the relay needs :class:`Trailer` alone."""


Ending = Callable[[int], bytes]
"""Gives what follows the last byte of the source's, of which so many were sent."""


class Stopped(Exception):
    """The relay was stopped while this thread was blocked; never leaves this module."""


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


@dataclass(frozen=True, slots=True)
class Outcome:
    """A copy that was acknowledged.

    :ivar source_code: exit code of the source's tar; not 0 where it could not read everything.
    :ivar sent: bytes of the archive.
    :ivar changed: how many names changed while they were read, of which tar said nothing.
    """

    source_code: int
    sent: int
    source_stderr: bytes
    destination_stderr: bytes
    changed: int = 0


@dataclass(slots=True)
class Signals:
    """The relay's explicit signals; the module's table says who sets and who waits."""

    stop: threading.Event = field(default_factory=threading.Event)
    source_ended: threading.Event = field(default_factory=threading.Event)
    source_released: threading.Event = field(default_factory=threading.Event)
    destination_writable: threading.Event = field(default_factory=threading.Event)
    destination_ended: threading.Event = field(default_factory=threading.Event)


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

    def put(self, batch: list[bytes] | None) -> None:
        """Wait for room and put ``batch``; None is the end. Raises :class:`Stopped`."""
        while not self._stop.is_set():
            try:
                self._queue.put(batch, timeout=PING_AFTER)
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


class Batch:
    """Messages that go on together, made of pieces of the archive.

    Small pieces are joined and large ones cut: a message costs the same whatever it carries.
    """

    def __init__(self) -> None:
        self.size = 0
        self._messages: list[bytes] = []
        self._pieces: list[bytes] = []  # of the message that is not full yet
        self._room = MESSAGE

    def add(self, piece: bytes) -> None:
        """Put ``piece`` behind those before it."""
        self.size += len(piece)
        if len(piece) > self._room:
            self._end_message()
        while len(piece) > MESSAGE:
            self._messages.append(piece[:MESSAGE])
            piece = piece[MESSAGE:]
        self._pieces.append(piece)
        self._room -= len(piece)

    def take(self) -> list[bytes]:
        """Return the messages, each at most :data:`MESSAGE` bytes; the batch is empty then."""
        self._end_message()
        messages, self._messages, self.size = self._messages, [], 0
        return messages

    def _end_message(self) -> None:
        pieces = self._pieces
        if pieces:
            self._messages.append(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            self._pieces, self._room = [], MESSAGE


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


class Relay:
    """One source, one destination; see the module's theory. Use it once: :meth:`run`.

    :param filter_stdout: see :data:`Filter`; called by the source reader alone. A
        :class:`PodcpError` that it raises ends the copy.
    :param end_of_source: called when the source's session ended without a trailer; raises.
    :param feed: how the destination's stdin wants the archive.
    :param stall_timeout: seconds for which the source may give nothing while we wait for it.
    :param bucket: says how fast the archive may go; None: as fast as it can.
    :param epilogue: takes what the source says after its trailer, once it is asked to; returns
        whether that was all. None where it says nothing.
    :param on_ready: called when the destination is ready, and before anything goes there, with the
        user and group that will own all that is unpacked; None where owners are kept. May raise.
    :param ending: by which the destination knows that nothing is missing; None: the marker, and
        the end of an archive.
    """

    def __init__(
        self,
        source: Session,
        destination: Session,
        *,
        nonce: str,
        filter_stdout: Filter,
        end_of_source: Callable[[], None],
        feed: Feed,
        stall_timeout: float | None = None,
        bucket: Bucket | None = None,
        epilogue: Callable[[bytes], bool] | None = None,
        on_ready: Callable[[tuple[int, int] | None], None] = lambda _: None,
        ending: Ending | None = None,
    ) -> None:
        # Set once.
        self._source = source
        self._destination = destination
        self._nonce = nonce
        self._filter = filter_stdout
        self._end_of_source = end_of_source
        self._feed = feed
        self._stall_timeout = stall_timeout
        self._bucket = bucket
        self._epilogue = epilogue
        self._on_ready = on_ready
        self._ending = ending or self._marked_end
        self._said = re.compile(rb"^podcp-([0-9a-f]{32}) (ready(?: (\d+):(\d+))?|\d+ \d+ \d+)$")
        self.signals = Signals()
        self._channel = DataChannel(self.signals.stop, waiting=source.ping)
        # The source reader's.
        self._batch = Batch()
        self._archive_ended = False
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()  # one for each thread's end
        # Each written by one thread, read by the caller's after that thread ended.
        self._source_code = 0
        self._source_stderr = Said()
        self._destination_stderr = Said()
        self._sent = 0
        self.marker_sent = False  # written by the sender, before the marker goes
        # By the sender: the staging folder is there. A shell that was never told how the archive
        # comes removes one that is new.
        self.has_staged = False
        self.acknowledgement: Acknowledgement | None = None  # by the destination reader
        # Guarded by _lock.
        self._lock = threading.Lock()
        self._error: BaseException | None = None

    @property
    def sent(self) -> int:
        """Bytes of the archive sent so far; any thread may ask."""
        return self._sent

    def run(self) -> Outcome:
        """Relay until the destination acknowledged; both sessions are closed at the end.

        :raises PodcpError: the first thing that went wrong.
        """
        work = {
            self._read_source: "source",
            self._send: "destination",
            self._read_destination: "destination",
        }
        threads = [threading.Thread(target=self._guard, args=each) for each in work.items()]
        try:
            for thread in threads:
                thread.start()
            # Not join(): up to Python 3.12 it takes a thread for ended when a signal's exception
            # leaves it (python/cpython#90882), and could then not wait for it below.
            for _ in threads:
                self._ended.get()
        finally:
            self.stop()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        if self._error is not None:
            raise self._error
        if self.acknowledgement is None:
            raise NotAcknowledged("the copy was stopped before the destination acknowledged it")
        return Outcome(
            self._source_code,
            self._sent,
            bytes(self._source_stderr),
            bytes(self._destination_stderr),
        )

    def stop(self) -> None:
        """Wake every thread at every place where it can block; any thread may call it, often."""
        self.signals.stop.set()
        self.signals.destination_writable.set()
        self.signals.destination_ended.set()
        self._channel.open()
        self._source.close()
        self._destination.close()

    def _guard(self, work: Callable[[], None], side: str) -> None:
        try:
            work()
        except Stopped:
            pass
        except ConnectionLost as lost:
            lost.happened = f"lost the {side}: {lost.happened}"
            self._fail(lost, side)
        except BaseException as error:  # whatever it is, it must reach the caller
            self._fail(error, side)
        finally:
            self._ended.put(None)

    def _fail(self, error: BaseException, side: str) -> None:
        """Stop because of ``error``.

        But let the destination's shell begin: it would make its folder behind the back of whoever
        looks for what is to be removed.
        """
        self._note(error)
        if side == "source":
            self.signals.destination_writable.wait(BEGINNING)
        self.stop()

    def _note(self, error: BaseException) -> None:
        """Take ``error`` for the caller's, unless another came first or we stopped by ourselves."""
        with self._lock:
            if self._error is None and not self.signals.stop.is_set():
                self._error = error

    # --- source reader -----------------------------------------------------------------------

    def _read_source(self) -> None:
        try:
            for data in _stdout(self._source, self._source_stderr, self._source_limit):
                if self._pass_on(data):
                    return
            self._end_of_source()
        except TimeoutError:
            raise IncompleteArchive(self._source_stalled()) from None
        except (SourceFailed, IncompleteArchive) as error:
            self._note(error)
            _linger(self._source, self._source_stderr, LINGER)
            error.stderr = bytes(self._source_stderr)
            raise

    def _pass_on(self, data: bytes) -> bool:
        """Hand on what the filter makes of a message; return whether it was the last one.

        More is gathered while more is at hand, but nothing waits here for what is still to come.
        The hole of a sparse file makes any number of bytes of one message.
        """
        batch = self._batch
        for item in self._filter(data):
            if isinstance(item, bytes):
                batch.add(item)
                if batch.size >= BATCH:
                    self._hand_over()
            elif isinstance(item, EndOfArchive):
                self._archive_ended = True
            elif isinstance(item, Trailer):
                self._hand_over()
                self._release(item.code)
                return True
        if not self._source.buffered:
            self._hand_over()
        return False

    def _hand_over(self) -> None:
        if self._batch.size:
            self._channel.put(self._batch.take())

    def _source_limit(self) -> float | None:
        return TRAILER_WITHIN if self._archive_ended else self._stall_timeout

    def _source_stalled(self) -> str:
        if self._archive_ended:
            return "the source's archive came whole, but no trailer: how its tar ended is not known"
        return f"the source gave nothing for {self._stall_timeout:g} s"

    def _release(self, code: int) -> None:
        """The archive and its trailer came: let the sender finish, and the source's shell end."""
        if code not in (0, 1, 2):
            failure = SourceKilled if code > SIGNALLED else SourceFailed
            raise failure(f"the source's tar ended with exit code {code}")
        self._source_code = code
        self.signals.source_ended.set()
        self._channel.put(None)
        # Nothing of the archive is on its way any more, so a failure here costs nothing.
        with suppress(ConnectionLost, OSError):
            if self._epilogue is not None:
                self._hear_out(self._epilogue)
            self._source.send_stdin(b"\n")
            self.signals.source_released.set()
            _linger(self._source, self._source_stderr, ENDING)

    def _hear_out(self, epilogue: Callable[[bytes], bool]) -> None:
        self._source.send_stdin(b"\n")
        for data in _stdout(self._source, self._source_stderr, lambda: self._stall_timeout):
            if epilogue(data):
                return

    # --- sender ------------------------------------------------------------------------------

    def _send(self) -> None:
        if not self.signals.destination_writable.wait(READY_WITHIN):
            raise NotAcknowledged(
                f"the destination's shell did not get ready within {READY_WITHIN:g} s"
            )
        try:
            self._destination.send_stdin(self._feed.first)
            self.has_staged = True
            while (batch := self._channel.get()) is not None:
                self._send_all(self._feed.data(batch))
                self._sent += sum(map(len, batch))
            self.marker_sent = True
            self._send_all(self._feed.data([self._ending(self._sent)]))
            self._send_all(self._feed.end())
            if self._destination.protocol is Protocol.V5:
                self._destination.end_stdin()
        except ConnectionLost:
            # Why it was lost may have been said already, and is then worth more than this.
            if not self.signals.destination_ended.wait(ENDING):
                raise
        if not self.signals.destination_ended.wait(ACKNOWLEDGED_WITHIN):
            raise NotAcknowledged(
                "everything was sent, but the destination did not acknowledge it within "
                f"{ACKNOWLEDGED_WITHIN:g} s"
            )

    def _marked_end(self, sent: int) -> bytes:
        last = marker(self._nonce)
        return last + end_of_archive(sent + len(last))

    def _send_all(self, messages: Sequence[bytes]) -> None:
        at_once = 1 if self._bucket else MESSAGES_AT_ONCE
        for at in range(0, len(messages), at_once):
            some = messages[at : at + at_once]
            if self._bucket is not None:
                self._wait(self._bucket.take(sum(map(len, some))))
            self._destination.send_stdin(*some)

    def _wait(self, seconds: float) -> None:
        if self.signals.stop.wait(seconds):
            raise Stopped

    # --- destination reader ------------------------------------------------------------------

    def _read_destination(self) -> None:
        line = b""
        for data in _stdout(self._destination, self._destination_stderr):
            *lines, line = (line + data).split(b"\n")
            line = line[-Said.LIMIT :]
            for each in lines:
                if self._hear(each):
                    return
        _raise_not_acknowledged(self._destination_stderr)

    def _hear(self, line: bytes) -> bool:
        """Act on a line of the destination's shell; return whether it was its last."""
        match = self._said.match(line)
        if not match:
            return False
        if match[1] != self._nonce.encode("ascii"):
            raise NotAcknowledged("the destination's shell acknowledged another copy than this one")
        if match[2].startswith(b"ready"):
            self._on_ready((int(match[3]), int(match[4])) if match[3] else None)
            self.signals.destination_writable.set()
            return False
        self.signals.destination_ended.set()
        tar, marked, placed = map(int, match[2].split())
        acknowledgement = self.acknowledgement = Acknowledgement(tar, marked == 1, placed)
        if not acknowledgement.proves_delivery or not self.marker_sent:
            error = self._refusal(acknowledgement)
            self._note(error)
            _linger(self._destination, self._destination_stderr, LINGER)
            error.stderr = bytes(self._destination_stderr)
            raise error
        if self._destination.protocol is Protocol.V5:  # on v4 it ends when we close it
            _linger(self._destination, self._destination_stderr, ENDING)
        return True

    def _refusal(self, acknowledgement: Acknowledgement) -> PodcpError:
        """Return what an acknowledgement that proves nothing says instead."""
        if acknowledgement.tar and not self.signals.destination_writable.is_set():
            return DestinationFailed("the destination could not make a folder to unpack in")
        if acknowledgement.tar:
            failure = DestinationKilled if acknowledgement.tar > SIGNALLED else DestinationFailed
            return failure(f"the destination's tar ended with exit code {acknowledgement.tar}")
        if not acknowledgement.marked:
            return NotAcknowledged("the destination's tar ended before the end of the archive")
        if acknowledgement.placed:
            return DestinationFailed("the copy could not be put in place")
        return NotAcknowledged("the destination acknowledged what was not sent yet")


def _unlimited() -> None:
    """Any wait is fine: the acknowledgement comes when it comes, or somebody stops us."""


def _stdout(
    session: Session, said: Said, limit: Callable[[], float | None] = _unlimited
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


def _linger(session: Session, said: Said, seconds: float) -> None:
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
