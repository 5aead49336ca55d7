"""One connection, two threads, and whoever wakes them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

import pytest

from kubectl_podcp.errors import ConnectionLost
from kubectl_podcp.exec import deadline
from kubectl_podcp.exec.deadline import Deadline
from kubectl_podcp.exec.records import Records
from kubectl_podcp.exec.stream import Aborted, Stream
from kubectl_podcp.exec.tls import Endpoint, dial
from tests.unit.peers import (
    SECONDS,
    Background,
    Peer,
    authority,
    client_context,
    for_two_threads,
    noise,
    server_context,
    stream_pair,
    tcp_pair,
    until,
)

MIB = int(os.environ.get("PODCP_TEST_STREAM_MIB", "24"))
"""Size of the two-way test in each direction."""

PIECE = noise(32768)

Pair = tuple[Stream, socket.socket]


@pytest.fixture(params=["plain", "TLS 1.2", "TLS 1.3"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Give a stream and the blocking socket at its other end."""
    versions = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}
    stream, theirs = stream_pair(versions.get(request.param))
    yield stream, theirs
    stream.close()
    theirs.close()


def fill(stream: Stream) -> int:
    """Send until nothing more goes; return how often :data:`PIECE` was taken."""
    count = 0
    while stream.try_send(PIECE):
        count += 1
    return count


def test_both_directions_at_once(pair: Pair) -> None:
    """Every byte arrives, in order, while both threads are busy and in each other's way."""
    stream, peer = pair
    block = noise(1 << 20)
    other = Stream(for_two_threads(peer))
    other.settimeout(SECONDS * 10)
    stream.settimeout(SECONDS * 10)

    def send(through: Stream) -> None:
        for _ in range(MIB):
            for start in range(0, len(block), 32771):
                through.send(block[start : start + 32771])

    def receive(through: Stream) -> int:
        position = 0
        while position < MIB << 20:
            data = through.recv(16384)
            assert data, "end of file"
            start = position % len(block)
            expected = block[start : start + len(data)]
            expected += block[: len(data) - len(expected)]
            assert data == expected
            position += len(data)
        return position

    jobs = [Background(partial(job, end)) for end in (stream, other) for job in (send, receive)]
    for job in jobs:
        job.result(SECONDS * 10)
    other.close()


def test_what_one_thread_sends_is_never_torn_by_the_other(pair: Pair) -> None:
    """The reader answers as it receives; each answer stands between two of the sender's pieces."""
    stream, peer = pair
    pieces = [lettered(b"S", size) for size in (1, 100, 16384, 70000)] * 300
    answer = lettered(b"A", 125)

    def receive() -> int:
        sent = 0
        while stream.recv(1) == b"?":
            sent += stream.try_send(answer)
        return sent

    def take(other: socket.socket) -> int:
        end, kinds = Peer(other), {b"S": 0, b"A": 0, b"E": 0}

        def count() -> None:
            head = end.read(7)
            assert end.read(int(head[1:])) == head[:1].lower() * int(head[1:])
            kinds[head[:1]] += 1

        while kinds[b"S"] < len(pieces):
            if kinds[b"S"] % 7 == 0:  # not always, or the two would take turns
                other.sendall(b"?" * 50)
            count()
        other.sendall(b"!")
        while not kinds[b"E"]:
            count()
        return kinds[b"A"]

    with for_two_threads(peer) as other:
        other.settimeout(SECONDS)
        taking, receiving = Background(lambda: take(other)), Background(receive)
        for piece in pieces:
            stream.send(piece)
        answered = receiving.result()
        stream.send(lettered(b"E", 1))  # behind the last answer, which may wait for room yet
        assert taking.result() == answered > 0


def lettered(letter: bytes, size: int) -> bytes:
    """Return a piece that says what it is, how long it is, and whose each of its bytes is."""
    return letter + b"%6d" % size + letter.lower() * size


def test_a_record_read_in_small_pieces(pair: Pair) -> None:
    """What TLS has decrypted already is not waited for."""
    stream, peer = pair
    data = noise(16384)
    peer.sendall(data)
    assert b"".join(stream.recv(100) for _ in range(164)) == data


def test_end_of_file(pair: Pair) -> None:
    """Without close_notify too, as a dying API server ends; again and again."""
    stream, peer = pair
    peer.sendall(b"last")
    peer.close()
    assert stream.recv(100) == b"last"
    assert stream.recv(100) == b""
    assert stream.recv(100) == b""


@pytest.mark.parametrize("send", [Stream.send, Stream.try_send])
def test_sending_to_a_peer_that_has_ended(
    pair: Pair, send: Callable[[Stream, bytes], None]
) -> None:
    """The connection is lost, whatever TLS calls it; reading still says that it ended."""
    stream, peer = pair
    peer.close()
    assert stream.recv() == b""
    for _ in range(2):
        with pytest.raises(ConnectionLost, match="while sending"):
            for _ in range(1000):
                send(stream, b"anybody?")
    assert stream.recv() == b""


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_is_sent_after_the_peer_s_last_word(version: ssl.TLSVersion) -> None:
    """close_notify ends one direction; the other goes on."""
    stream, peer = stream_pair(version)
    assert isinstance(peer, ssl.SSLSocket)
    peer.settimeout(0)
    with suppress(ssl.SSLWantReadError):  # it would wait for our close_notify
        peer.unwrap()
    for _ in range(2):
        assert stream.recv() == b""
    stream.send(b"more")
    peer.settimeout(SECONDS)
    assert peer.recv(100) == b"more"
    stream.close()
    peer.close()


def test_a_reset_is_a_lost_connection(pair: Pair) -> None:
    """The system's error is the cause."""
    stream, peer = pair
    Peer(peer).reset()
    with pytest.raises(ConnectionLost, match="while receiving") as caught:
        stream.recv(1)
    assert isinstance(caught.value.__cause__, ConnectionResetError)


def test_what_came_before_a_reset_can_be_read_after_a_send_error(pair: Pair) -> None:
    """The status may be queued while sending fails."""
    stream, peer = pair
    fill(stream)
    peer.sendall(b"status")
    peer.close()  # with our bytes unread: that is a reset
    with pytest.raises(ConnectionLost, match="while sending"):
        for _ in range(1000):
            stream.send(PIECE)
    assert stream.recv(100) == b"status"


def test_a_failure_that_the_reader_meets_is_the_sender_s_too() -> None:
    """What TLS answers may be the first to hear of it, and a half-sent frame is not sent."""
    stream, peer = stream_pair()
    sending = Background(lambda: stream.send(PIECE * 1000))
    until(lambda: stream._polling == 1)
    with stream._lock:  # in the reader's place, which keeps it to itself
        Peer(peer).reset()
        with pytest.raises(ConnectionLost):
            for _ in range(1000):
                stream._flush()
                threading.Event().wait(0.001)
    assert isinstance(sending.failure(), ConnectionLost)
    stream.close()


# The handshake


@contextmanager
def unsecured() -> Iterator[Pair]:
    """Give a stream before its handshake, and the socket at the other end."""
    stream, peer = stream_pair()
    yield stream, peer
    stream.close()
    peer.close()


def test_a_handshake_with_nobody() -> None:
    """It ends with the deadline for reading."""
    with unsecured() as (stream, _):
        stream.read_deadline = Deadline(0.05)
        with pytest.raises(TimeoutError):
            stream.secure(client_context(), "localhost")


@pytest.mark.parametrize("wake", [Stream.abort, Stream.close])
def test_a_handshake_can_be_aborted(wake: Callable[[Stream], None]) -> None:
    """It waits as all the rest does."""
    with unsecured() as (stream, _):
        securing = Background(lambda: stream.secure(client_context(), "localhost"))
        until(lambda: stream._polling == 1)
        wake(stream)
        assert isinstance(securing.failure(), Aborted)


def test_a_handshake_that_the_peer_ends() -> None:
    """The errors are the system's and TLS's own: the caller knows whom it asked."""
    with unsecured() as (stream, peer):
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(ssl.SSLError):
            stream.secure(client_context(), "localhost")
    with unsecured() as (stream, peer):
        securing = Background(lambda: stream.secure(client_context(), "localhost"))
        peer.recv(1)  # it has said hello
        Peer(peer).reset()
        assert isinstance(securing.failure(), ConnectionResetError)
    with unsecured() as (stream, peer):
        Peer(peer).reset()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            stream.secure(client_context(), "localhost")


def test_the_peer_hears_why_it_is_not_trusted() -> None:
    """An administrator looks for it in the server's log."""
    with unsecured() as (stream, peer):
        accepting = Background(lambda: server_context().wrap_socket(peer, server_side=True).recv(1))
        with pytest.raises(ssl.SSLCertVerificationError):
            stream.secure(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), "localhost")
        heard = accepting.failure()
    assert isinstance(heard, ssl.SSLError)
    assert "unknown ca" in str(heard)


def test_a_handshake_that_comes_byte_by_byte() -> None:
    """And with the first data right behind it."""
    with unsecured() as (stream, near):
        far, theirs = tcp_pair()

        def drip() -> None:
            while data := far.recv(1 << 16):
                for at in range(len(data)):
                    near.sendall(data[at : at + 1])

        def serve() -> None:
            with server_context().wrap_socket(theirs, server_side=True) as secure:
                secure.sendall(b"hello")

        def carry() -> None:
            while data := near.recv(1 << 16):
                far.sendall(data)

        near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        jobs = [Background(job) for job in (drip, serve, carry)]
        stream.secure(client_context(), "localhost")
        received = b""
        while len(received) < 5:
            received += stream.recv()
        assert received == b"hello"
        stream.close()
        for job in jobs:
            job.failure()
        far.close()


# Deadlines


@pytest.mark.parametrize("seconds", [3e6, 1e9, 1e300])
def test_a_deadline_that_is_further_away_than_poll_can_wait(seconds: float) -> None:
    deadline = Deadline(seconds)
    milliseconds = deadline.milliseconds()
    assert milliseconds is not None
    assert 1e9 < milliseconds < 2**31
    with socket.socket() as sock:
        sock.settimeout(deadline.remaining())


def test_recv_ends_at_its_deadline(pair: Pair) -> None:
    """And goes on afterwards."""
    stream, peer = pair
    stream.read_deadline = Deadline(0.01)
    with pytest.raises(TimeoutError):
        stream.recv(1)
    with pytest.raises(TimeoutError):
        stream.recv(1)  # it has passed; nothing waits any more
    stream.read_deadline = Deadline(SECONDS)
    peer.sendall(b"x")
    assert stream.recv(1) == b"x"


def send_until_timeout(stream: Stream) -> int:
    """Send until that takes too long; return how many pieces are on their way, the last in part."""
    count = 0
    with pytest.raises(TimeoutError):
        while True:
            count += 1
            stream.send(PIECE)
    return count


def by_deadline(stream: Stream) -> None:
    stream.write_deadline = Deadline(0.05)


def by_stall(stream: Stream) -> None:
    stream.stall_timeout = 0.05


@pytest.mark.parametrize("limit", [by_deadline, by_stall])
def test_send_ends_at_its_limit(pair: Pair, limit: Callable[[Stream], None]) -> None:
    """Nothing gets into the middle of what was begun, and receiving goes on."""
    stream, peer = pair
    limit(stream)
    count = send_until_timeout(stream)
    end = b"end" * (1 + stream.try_send(b"end"))  # the system may have found room for the rest
    peer.sendall(b"x")
    assert stream.recv(1) == b"x"
    stream.settimeout(SECONDS)
    stream.stall_timeout = None
    reading = Background(lambda: Peer(peer).read(count * len(PIECE) + len(end)))
    stream.send(b"end")
    assert reading.result() == PIECE * count + end


class Clock:
    """Time as the test tells it."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_a_stall_is_counted_from_the_last_progress(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that takes a little every now and then is slow; the whole may take as long as it may.

    The test turns the clock, and the peer takes more each time than the system can hold.
    """
    stream, peer = pair
    step, steps = 4 << 20, 6
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    stream._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    clock = Clock()
    monkeypatch.setattr(deadline, "time", clock)
    stream.settimeout(None)
    stream.stall_timeout = SECONDS
    sending = Background(lambda: stream.send(bytes(step * steps)))
    taking = Peer(peer)
    for _ in range(steps):
        clock.now += 0.7 * SECONDS
        taking.read(step)
    sending.result()
    assert clock.now > 4 * SECONDS


def test_try_send_takes_all_or_nothing(pair: Pair) -> None:
    """It never waits, and receiving goes on meanwhile."""
    stream, peer = pair
    count = fill(stream) + fill(stream)  # a second time only where the system found room
    peer.sendall(b"x")
    assert stream.recv(1) == b"x"
    reading = Background(lambda: Peer(peer).read(count * len(PIECE) + 3))
    stream.send(b"end")
    assert reading.result() == PIECE * count + b"end"


def test_what_try_send_took_goes_while_only_the_reader_is_there(pair: Pair) -> None:
    """There may be no next send to take the rest along."""
    stream, peer = pair
    count = fill(stream)
    receiving = Background(lambda: stream.recv(1))
    until(lambda: stream._polling == 1)
    peer.settimeout(2)
    assert Peer(peer).read(count * len(PIECE)) == PIECE * count
    peer.sendall(b"x")
    assert receiving.result() == b"x"


def test_settimeout_sets_both(pair: Pair) -> None:
    """As websocket-client expects of a socket."""
    stream, _ = pair
    stream.settimeout(SECONDS)
    left = stream.gettimeout()
    assert left is not None
    assert SECONDS - 1 < left <= SECONDS
    stream.settimeout(None)
    assert stream.gettimeout() is None
    assert stream.fileno() >= 0


# Waking


def blocked(stream: Stream) -> list[Background]:
    """Return a blocked receiver and a blocked sender."""
    stream.settimeout(None)

    def send() -> None:
        while True:  # the system may still find room
            stream.send(PIECE)

    jobs = [Background(lambda: stream.recv(1)), Background(send)]
    until(lambda: stream._polling == 2)
    return jobs


@pytest.mark.parametrize("wake", [Stream.abort, Stream.close])
def test_abort_and_close_wake_both(pair: Pair, wake: Callable[[Stream], None]) -> None:
    """And whatever is called later does not block either; twice is as good as once."""
    stream, _ = pair
    jobs = blocked(stream)
    wake(stream)
    for job in jobs:
        assert isinstance(job.failure(), Aborted)
    wake(stream)
    for call in (lambda: stream.recv(1), lambda: stream.send(b"x"), lambda: stream.try_send(b"x")):
        with pytest.raises(Aborted):
            call()


def test_nothing_is_received_after_an_abort(pair: Pair) -> None:
    """Not even what was decrypted already."""
    stream, peer = pair
    peer.sendall(b"xy")
    assert stream.recv(1) == b"x"
    stream.abort()
    with pytest.raises(Aborted):
        stream.recv(1)


def test_the_socket_is_closed_when_nobody_waits_for_it(pair: Pair) -> None:
    """Not earlier: the descriptor's number could become another file's."""
    stream, peer = pair
    jobs = blocked(stream)
    with stream._lock:  # the two cannot leave
        stream.abort()
        stream._closing = True
        stream._close_if_unused()
        assert stream.fileno() >= 0
    for job in jobs:
        job.failure()
    assert stream.fileno() == -1
    Peer(peer).wait_for_end()


def test_close_closes_at_once_what_is_not_used(pair: Pair) -> None:
    """The peer sees the end."""
    stream, peer = pair
    stream.close()
    assert stream.fileno() == -1
    Peer(peer).wait_for_end()


def test_many_may_close(pair: Pair) -> None:
    """From any thread, at the same time."""
    stream, _ = pair
    jobs = blocked(stream)
    closers = [Background(stream.close) for _ in range(8)]
    for closer in closers:
        closer.result()
    for job in jobs:
        assert isinstance(job.failure(), Aborted)
    assert stream.fileno() == -1


def test_abort_from_a_signal_handler(pair: Pair) -> None:
    """It takes no lock, so the interrupted thread may be the one that holds it."""
    stream, _ = pair
    before = signal.signal(signal.SIGALRM, lambda *_: stream.abort())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(Aborted):
            stream.recv(1)
        with stream._lock:
            signal.raise_signal(signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_who_waits_needs_no_processor(pair: Pair) -> None:
    """Both directions stand still; then the peer takes all, and only the reader is left."""
    stream, peer = pair
    count = fill(stream)
    jobs = [Background(lambda: stream.recv(1)), Background(lambda: stream.send(b"end"))]
    until(lambda: stream._polling == 2)
    assert used_in(0.1) < 0.05
    Peer(peer).read(count * len(PIECE) + 3)
    jobs[1].result()
    until(lambda: stream._polling == 1)
    assert used_in(0.1) < 0.05
    stream.close()
    jobs[0].failure()


def used_in(seconds: float) -> float:
    """Return the seconds of processor time that this process uses in so many seconds."""
    before = time.process_time()
    threading.Event().wait(seconds)
    return time.process_time() - before


# TLS messages of the peer's own accord


class Waiting(Records):
    """TLS, without secrets, that waits for the peer before it takes anything to be sent.

    :param times: how often, whatever the peer sends.
    :param until: what must have come first.
    :param answer: what TLS has to say to anything that comes.
    """

    def __init__(self, times: int = 0, until: bytes = b"", answer: bytes = b"") -> None:
        self._times = times
        self._until = until
        self._answer = answer
        self._came = b""
        self._plain: list[bytes] = []
        self._out = b""

    def take(self, ciphertext: bytes) -> None:
        self._out += self._answer
        self._came += ciphertext
        if self._came.startswith(self._until):
            self._plain.append(self._came.removeprefix(self._until))
            self._came = self._until = b""

    def decrypt(self) -> bytes | None:
        return self._plain.pop() or None if self._plain else None

    def encrypt(self, data: bytes) -> bool:
        if self._until:
            return False
        if self._times:
            self._times -= 1
            return False
        self._out += data
        return True

    def due(self) -> bytes:
        out, self._out = self._out, b""
        return out


def test_what_tls_waits_for_may_have_been_received_by_the_other_thread() -> None:
    """The sender looks again, and still ends at its deadline."""
    stream, peer = stream_pair()
    for limit in (Deadline(None), Deadline(SECONDS)):
        stream.write_deadline = limit
        stream._records = Waiting(times=3)
        stream.send(b"x")
        assert peer.recv(2) == b"x"
    stream._records = Waiting(times=-1)
    stream.write_deadline = Deadline(0.05)
    with pytest.raises(TimeoutError):
        stream.send(b"y")
    stream.settimeout(None)
    blocked_send = Background(lambda: stream.send(b"y"))
    until(lambda: stream._polling == 1)
    assert not stream.try_send(b"z")
    stream.close()
    assert isinstance(blocked_send.failure(), Aborted)
    assert peer.recv(1) == b"", "nothing of it went"
    peer.close()


def test_the_reader_never_waits_for_tls_to_take_its_answer() -> None:
    """It may be given again, or something else instead."""
    stream, peer = stream_pair()
    stream._records = Waiting(times=1)
    assert not stream.try_send(b"one")
    assert stream.try_send(b"other")
    assert peer.recv(100) == b"other"
    stream.close()
    peer.close()


@pytest.mark.parametrize("is_reading", [True, False])
def test_what_tls_waits_for_is_received_whoever_is_there(is_reading: bool) -> None:
    """By the reader if there is one; what came with it is the reader's all the same."""
    stream, peer = stream_pair()
    for _ in range(20):  # both wake at once; either may be first
        stream._records = Waiting(until=b"go on")
        stream.settimeout(2)
        jobs = [Background(stream.recv)] if is_reading else []
        until(lambda: stream._polling == is_reading)
        jobs.append(Background(lambda: stream.send(b"x")))
        until(lambda: stream._polling == 1 + is_reading)
        peer.sendall(b"go on, more")
        jobs.pop().result()
        assert peer.recv(100) == b"x"
        assert (jobs.pop().result() if jobs else stream.recv()) == b", more"
    stream.close()
    peer.close()


def test_what_tls_answers_waits_for_what_is_due() -> None:
    """A record in the middle of another would be the end of both."""
    stream, peer = stream_pair()
    stream._records = Waiting(answer=b"answer")
    data = PIECE * 400
    sending = Background(lambda: stream.send(data))
    until(lambda: stream._polling == 1)
    peer.sendall(b"x")
    assert stream.recv(1) == b"x"
    assert Peer(peer).read(len(data) + 6) == data + b"answer"
    sending.result()
    stream.close()
    peer.close()


class Server:
    """``openssl s_server``, which does what is typed in."""

    def __init__(self, version: str, tmp_path: Path) -> None:
        pem = tmp_path / "server.pem"
        authority().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = int(listener.getsockname()[1])
        self._process = subprocess.Popen(
            ["openssl", "s_server", "-accept", f"127.0.0.1:{self.port}", "-cert", pem, version],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def expect(self, word: bytes) -> None:
        """Wait for a line with ``word``."""
        while word not in (line := self._pipe(self._process.stdout).readline()):
            assert line, "openssl s_server ended"

    def type_in(self, line: bytes) -> None:
        """Type one line; the next only after its effect: it takes what it reads at once for one."""
        stdin = self._pipe(self._process.stdin)
        stdin.write(line)
        stdin.flush()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl command")
@pytest.mark.parametrize(("version", "command"), [("-tls1_3", b"K\n"), ("-tls1_2", b"r\n")])
def test_key_update_and_renegotiation(version: str, command: bytes, tmp_path: Path) -> None:
    """The peer changes the keys (and asks us to) while a thread receives and another sends."""
    server = Server(version, tmp_path)
    try:
        server.expect(b"ACCEPT")
        endpoint = Endpoint("localhost", server.port, "", client_context(), "localhost")
        stream = Stream(dial(endpoint, Deadline(SECONDS)))
        stream.settimeout(SECONDS)
        stream.secure(client_context(), "localhost")
        for number in (b"1", b"2", b"3"):
            receiving = Background(partial(_until_word, stream, b"theirs " + number))
            until(lambda: stream._polling == 1)
            server.type_in(command)
            line = b"ours " + number + b"\n"
            stream.send(line)
            server.expect(line)  # it looks at what is typed in first, so the command was obeyed
            server.type_in(b"theirs " + number + b"\n")
            receiving.result()
        stream.close()
    finally:
        server.end()


def _until_word(stream: Stream, word: bytes) -> bytes:
    received = b""
    while word not in received:
        data = stream.recv(100)
        assert data, "end of file"
        received += data
    return received
