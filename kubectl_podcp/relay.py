"""The relay: one archive from a source's stdout to every destination's stdin, and the proof.

::

    source session                                  sink          destination session
      stdout ──▶ source reader ──▶ filter ──┬──▶ data channel ──▶ stdin
      stdin  ◀── release                    │       listener ◀── stdout: ready, acknowledgement
                                            └──▶ …, for each further destination

A thread for the source, two for each destination, and the caller's. The **source reader** takes
each message through the filter, which checks and rewrites it, into the data channel of each
:class:`~kubectl_podcp.sink.Sink`, a bounded queue: when a destination is slow, its queue fills, the
reader stops reading, and TCP slows the source down. All queues hold the same messages, not copies
of them. The caller's thread waits for the others; a signal or an exception there stops them.

========================  =======================  ====================================
signal                    set by                   waited for by
========================  =======================  ====================================
``stop``                  whoever stops all        (state: nothing goes on)
``source_ended``          source reader            (state: the archive and trailer came)
``source_released``       source reader            (state: the source's shell may end)
========================  =======================  ====================================

Those of each destination are in :mod:`kubectl_podcp.sink`. A copy is complete when that
destination's acknowledgement says so, and nothing else says so: neither ``Success`` on the status
channel, which a dying kubelet sends to both sides, nor a close code.

Where a thread can block, and what wakes it: ``session.receive`` and ``session.send_stdin``
(closing the session, and the session's stall time-out), the data channel's ``put`` and ``get``
(:meth:`DataChannel.open <kubectl_podcp.sink.DataChannel.open>`), the sender's wait for its turn
where the rate has a limit (its ``stop``), waiting for a signal (:meth:`Relay.stop` sets it, and
each has its time limit). Errors: a destination that fails does so alone, unless it is the last one;
a source that fails, fails all of them. The first error of a destination is the one that counts;
what follows from our own stopping is dropped. A source that failed waits until the destinations'
shells have begun, see :meth:`Relay._fail_all`.

A destination holds the others up where its queue is full: at most for the stall time-out each time,
then it is given up. One that holds nobody up may be as slow as it is.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from kubectl_podcp.archive.follower import SIGNALLED, EndOfArchive, Trailer
from kubectl_podcp.errors import (
    ConnectionLost,
    IncompleteArchive,
    NotAcknowledged,
    SourceFailed,
    SourceKilled,
)
from kubectl_podcp.exec.deadline import Deadline
from kubectl_podcp.remote import scripts
from kubectl_podcp.remote.feed import MESSAGE
from kubectl_podcp.sink import (
    ENDING,
    LINGER,
    Said,
    Session,
    Sink,
    Stopped,
    for_ever,
    linger,
    stdout_of,
)

BATCH = 256 * 1024
"""Bytes, or a message more, that one thread hands to the other at once. A hand-over and a system
call cost the same whatever they carry."""

TRAILER_WITHIN = 10.0
"""Seconds in which the trailer must follow the end of the archive: tar has nothing left to do."""

BEGINNING = 2.0
"""Seconds given to the destination's shell to begin, where the source has failed already."""

Filter = Callable[[bytes], Iterable[object]]
"""Sees each stdout message of the source before it goes on, and gives what goes on instead:
pieces of the archive (``bytes``) and events, of which the relay needs :class:`Trailer` alone."""

Hears = Callable[[bytes], bool]
"""Takes the next piece of an answer that the source gives; returns whether it was the last."""


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


@dataclass(slots=True)
class Signals:
    """The relay's explicit signals; the module's table says who sets them."""

    stop: threading.Event = field(default_factory=threading.Event)
    source_ended: threading.Event = field(default_factory=threading.Event)
    source_released: threading.Event = field(default_factory=threading.Event)


def _nobody_waits(_sink: Sink) -> None:
    """All ends are seen when :meth:`Relay.run` returns."""


class Relay:
    """One source, and its destinations; see the module's theory. Use it once: :meth:`run`.

    :param sinks: one for each destination.
    :param filter_stdout: see :data:`Filter`; called by the source reader alone. A
        :class:`PodcpError` that it raises ends the copy.
    :param end_of_source: called when the source's session ended without a trailer; raises.
    :param stall_timeout: seconds for which the source may give nothing while we wait for it, and
        for which one of several destinations may hold up the others.
    :param reserve: so many times as long the source may give nothing: what compresses there keeps
        back what it has read.
    :param owners: called when the trailer came, and before any destination hears that all came:
        gives what takes the source's answer to :data:`scripts.OWNERS`; None where that is not to be
        asked.
    :param epilogue: takes what the source says after that, once it is asked to. None where it says
        nothing.
    """

    def __init__(
        self,
        source: Session,
        sinks: Sequence[Sink],
        *,
        filter_stdout: Filter,
        end_of_source: Callable[[], None],
        stall_timeout: float | None = None,
        reserve: int = 1,
        owners: Callable[[], Hears | None] = lambda: None,
        epilogue: Hears | None = None,
    ) -> None:
        # Set once.
        self._source = source
        self._sinks = tuple(sinks)
        self._filter = filter_stdout
        self._end_of_source = end_of_source
        self._stall_timeout = stall_timeout
        self._source_stall = None if stall_timeout is None else stall_timeout * reserve
        self._owners = owners
        self._epilogue = epilogue
        self.signals = Signals()
        # The source reader's.
        self._batch = Batch()
        self._archive_ended = False
        # One for each thread's end; None is the source reader.
        self._ended: queue.SimpleQueue[Sink | None] = queue.SimpleQueue()
        # Each written by the source reader, read by the caller's after that thread ended.
        self._source_code = 0
        self._source_stderr = Said()
        self.source_error: BaseException | None = None

    def run(self, on_end: Callable[[Sink], None] = _nobody_waits) -> None:
        """Relay until each destination has acknowledged or failed; all sessions are closed then.

        :param on_end: is told each destination whose :meth:`outcome` is known, in this thread.
        """
        threads = [threading.Thread(target=self._guard_source)]
        for sink in self._sinks:
            threads += [
                threading.Thread(target=self._guard, args=(work, sink))
                for work in (sink.send, sink.listen)
            ]
        try:
            for thread in threads:
                thread.start()
            # Not join(): up to Python 3.12 it takes a thread for ended when a signal's exception
            # leaves it (python/cpython#90882), and could then not wait for it below.
            self._wait(len(threads), on_end)
        finally:
            self.stop()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()

    def _wait(self, threads: int, on_end: Callable[[Sink], None]) -> None:
        """Wait for each thread's end."""
        running, reading = dict.fromkeys(self._sinks, 2), True
        for _ in range(threads):
            ended = self._ended.get()
            if ended is None:
                reading = False
            else:
                running[ended] -= 1
            # What the source says at its very end belongs to the outcome of a copy, if not of a
            # failure.
            over = [each for each, left in running.items() if not left]
            for sink in over:
                if not reading or sink.error is not None:
                    del running[sink]
                    sink.stop()
                    on_end(sink)

    def outcome(self, sink: Sink) -> Outcome:
        """Return how the copy to a destination ended, after :meth:`run`.

        :raises PodcpError: the first thing that went wrong.
        """
        if sink.error is not None:
            raise sink.error
        if not sink.is_proved:
            raise NotAcknowledged("the copy was stopped before the destination acknowledged it")
        return Outcome(self._source_code, sink.sent, bytes(self._source_stderr), sink.stderr)

    def stop(self) -> None:
        """Wake every thread at every place where it can block; any thread may call it, often."""
        self.signals.stop.set()
        for sink in self._sinks:
            sink.stop()
        self._source.close()

    def _guard_source(self) -> None:
        try:
            self._read_source()
        except Stopped:
            pass
        except ConnectionLost as lost:
            lost.happened = f"lost the source: {lost.happened}"
            self._fail_all(lost)
        except BaseException as error:  # whatever it is, it must reach the caller
            self._fail_all(error)
        finally:
            self._ended.put(None)

    def _guard(self, work: Callable[[], None], sink: Sink) -> None:
        try:
            work()
        except Stopped:
            pass
        except ConnectionLost as lost:
            lost.happened = f"lost the destination: {lost.happened}"
            self._fail(sink, lost)
        except BaseException as error:  # whatever it is, it must reach the caller
            self._fail(sink, error)
        finally:
            self._ended.put(sink)

    def _fail(self, sink: Sink, error: BaseException) -> None:
        """One destination failed; without any, nothing is left to do."""
        sink.fail(error)
        if not any(each.lives for each in self._sinks):
            self.stop()

    def _fail_all(self, error: BaseException) -> None:
        """The source failed.

        But let the destinations' shells begin: they would make their folders behind the back of
        whoever looks for what is to be removed.
        """
        if not self.signals.stop.is_set():
            self.source_error = error
        self._note(error)
        with suppress(TimeoutError):
            deadline = Deadline(BEGINNING)
            for sink in self._sinks:
                sink.signals.writable.wait(deadline.remaining())
        self.stop()

    def _note(self, error: BaseException) -> None:
        for sink in self._sinks:
            sink.note(error)

    # --- source reader -----------------------------------------------------------------------

    def _read_source(self) -> None:
        try:
            for data in stdout_of(self._source, self._source_stderr, self._source_limit):
                if self._pass_on(data):
                    return
            self._end_of_source()
        except TimeoutError:
            raise IncompleteArchive(self._source_stalled()) from None
        except (SourceFailed, IncompleteArchive) as error:
            self._note(error)
            linger(self._source, self._source_stderr, LINGER)
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
            self._share(self._batch.take())

    def _share(self, batch: list[bytes] | None) -> None:
        """Give ``batch`` to each destination that lives; None is the end.

        :raises Stopped: none does.
        """
        given = False
        for sink in self._sinks:
            try:
                sink.put(batch, self._patience(sink))
                given = True
            except Stopped:
                continue
            except TimeoutError:
                self._fail(sink, self._too_slow())
        if not given:
            raise Stopped

    def _patience(self, sink: Sink) -> Callable[[], float | None]:
        """Return what says how long to wait for room in the queue of ``sink``.

        Only where another one waits for it, too; and what the limit of the rate takes is not its
        own slowness.
        """
        if self._stall_timeout is None or len(self._sinks) == 1:
            return for_ever
        limit, began, throttled = self._stall_timeout, time.monotonic(), sink.throttled

        def left() -> float | None:
            if sum(each.lives for each in self._sinks) == 1:
                return None
            return limit + began + sink.throttled - throttled - time.monotonic()

        return left

    def _too_slow(self) -> ConnectionLost:
        return ConnectionLost(
            f"the destination took less than {BATCH >> 10} KiB in {self._stall_timeout:g} s, and "
            "was given up, since others waited for it",
            advice="Copy to it alone, or let it take longer with --stall-timeout.",
        )

    def _source_limit(self) -> float | None:
        return TRAILER_WITHIN if self._archive_ended else self._source_stall

    def _source_stalled(self) -> str:
        if self._archive_ended:
            return "the source's archive came whole, but no trailer: how its tar ended is not known"
        return f"the source gave nothing for {self._source_stall:g} s"

    def _release(self, code: int) -> None:
        """The archive and its trailer came: let the sender finish, and the source's shell end."""
        if code not in (0, 1, 2):
            failure = SourceKilled if code > SIGNALLED else SourceFailed
            raise failure(f"the source's tar ended with exit code {code}")
        self._source_code = code
        self._ask_owners()
        self.signals.source_ended.set()
        self._share(None)
        # Nothing of the archive is on its way any more, so a failure here costs nothing.
        with suppress(ConnectionLost, OSError):
            if self._epilogue is not None:
                self._ask(b"\n", self._epilogue)
            self._source.send_stdin(b"\n")
            self.signals.source_released.set()
            linger(self._source, self._source_stderr, ENDING)

    def _ask_owners(self) -> None:
        """Ask who owns what has come, where that must be known before it counts.

        :raises IncompleteArchive: the source does not say it.
        """
        hears = self._owners()
        if hears is None:
            return
        with suppress(TimeoutError):
            if self._ask(scripts.OWNERS, hears):
                return
        raise IncompleteArchive(
            "the source's archive came whole, but not who owns what is in it, which its tar does "
            "not say for sure"
        )

    def _ask(self, line: bytes, hears: Hears) -> bool:
        """Send the source a line; return whether its answer came to an end."""
        self._source.send_stdin(line)
        answer = stdout_of(self._source, self._source_stderr, lambda: self._stall_timeout)
        return any(map(hears, answer))
