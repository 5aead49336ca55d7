"""One connection, two threads, and whoever wakes them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kubectl_podcp.errors import ConnectionLost
from kubectl_podcp.exec.deadline import Deadline
from kubectl_podcp.exec.stream import Aborted, Stream
from kubectl_podcp.exec.tls import Endpoint, connect
from tests.unit.peers import (
    SECONDS,
    Background,
    Peer,
    authority,
    client_context,
    noise,
    tcp_pair,
    tls_pair,
)

MIB = int(os.environ.get("PODCP_TEST_STREAM_MIB", "24"))
"""Size of the two-way test in each direction."""

Pair = tuple[Stream, socket.socket]


@pytest.fixture(params=["plain", "TLS 1.2", "TLS 1.3"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Give a stream and the blocking socket at its other end."""
    versions = {"TLS 1.2": ssl.TLSVersion.TLSv1_2, "TLS 1.3": ssl.TLSVersion.TLSv1_3}
    version = versions.get(request.param)
    ours, theirs = tls_pair(version) if version else tcp_pair()
    stream = Stream(ours)
    stream.settimeout(SECONDS)
    yield stream, theirs
    stream.close()
    theirs.close()


def fill(stream: Stream) -> bytes:
    """Send until nothing more goes, and return the piece that did not."""
    piece = noise(32768)
    rest = piece
    while sent := stream.try_send(rest):
        rest = rest[sent:] or piece
    return rest


def test_both_directions_at_once(pair: Pair) -> None:
    """Every byte arrives, in order, while both threads are busy and in each other's way."""
    stream, peer = pair
    block = noise(1 << 20)
    other = Stream(peer)
    other.settimeout(SECONDS * 10)
    stream.settimeout(SECONDS * 10)

    def send(through: Stream) -> None:
        for _ in range(MIB):
            for start in range(0, len(block), 32771):
                rest = block[start : start + 32771]
                while rest:
                    rest = rest[through.send(rest) :]

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


def test_a_reset_is_a_lost_connection(pair: Pair) -> None:
    """The system's error is the cause."""
    stream, peer = pair
    is_plain = not isinstance(peer, ssl.SSLSocket)
    Peer(peer).reset()
    try:
        assert stream.recv(1) == b"", "a reset is no data"
        assert not is_plain  # before Python 3.13, TLS takes it for the end of the file
    except ConnectionLost as lost:
        assert "while receiving" in lost.happened
        assert isinstance(lost.__cause__, ConnectionResetError)


def test_what_came_before_a_reset_can_be_read_after_a_send_error(pair: Pair) -> None:
    """The status may be queued while sending fails."""
    stream, peer = pair
    rest = fill(stream)
    peer.sendall(b"status")
    peer.close()  # with our bytes unread: that is a reset
    with pytest.raises(ConnectionLost, match="while sending"):
        for _ in range(1000):
            stream.send(rest)
    assert stream.recv(100) == b"status"


# Deadlines


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


def test_send_ends_at_its_deadline_and_goes_on(pair: Pair) -> None:
    """The same bytes, at another place in memory, continue where it stopped."""
    stream, peer = pair
    piece = noise(32768)
    count = 0
    rest = piece
    stream.write_deadline = Deadline(0.05)
    with pytest.raises(TimeoutError):
        while True:
            rest = rest[stream.send(rest) :]
            if not rest:
                count, rest = count + 1, piece
    stream.write_deadline = Deadline(SECONDS)
    reading = Background(lambda: Peer(peer).read((count + 1) * len(piece)))
    rest = bytes(bytearray(rest))
    while rest:
        rest = rest[stream.send(rest) :]
    assert reading.result() == piece * (count + 1)


def test_try_send_never_waits(pair: Pair) -> None:
    """It says 0, and receiving goes on meanwhile."""
    stream, peer = pair
    fill(stream)  # until it said 0
    peer.sendall(b"x")
    assert stream.recv(1) == b"x"


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
        rest = piece = fill(stream)
        while True:  # the system may still find room
            rest = rest[stream.send(rest) :] or piece

    jobs = [Background(lambda: stream.recv(1)), Background(send)]
    until(lambda: stream._polling == 2)
    return jobs


def until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread does soon."""
    deadline = Deadline(SECONDS)
    while not condition():
        deadline.remaining()
        threading.Event().wait(0.001)


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


# TLS messages of the peer's own accord


class Crossing(socket.socket):
    """A socket that wants the other direction first, as TLS does in a renegotiation.

    What it wants never becomes ready: the other thread has served it already.
    """

    crossed = 0

    def send(self, data: Any, flags: int = 0) -> int:
        self.crossed += 1
        if self.crossed < 3:
            raise ssl.SSLWantReadError
        return super().send(data, flags)


def test_what_tls_waits_for_may_have_been_received_by_the_other_thread() -> None:
    """The sender looks again, and still ends at its deadline."""
    one, other = tcp_pair()
    crossing = Crossing(fileno=one.detach())
    stream = Stream(crossing)
    for deadline in (Deadline(None), Deadline(SECONDS)):
        stream.write_deadline = deadline
        crossing.crossed = 0
        assert stream.send(b"x") == 1
    crossing.crossed = -1000
    stream.write_deadline = Deadline(0.05)
    with pytest.raises(TimeoutError):
        stream.send(b"x")
    stream.close()
    other.close()


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs the openssl command")
@pytest.mark.parametrize(("version", "command"), [("-tls1_3", b"K\n"), ("-tls1_2", b"r\n")])
def test_key_update_and_renegotiation(version: str, command: bytes, tmp_path: Path) -> None:
    """The peer changes the keys (and asks us to) while a thread receives and another sends."""
    leaf = authority().issue_cert("localhost")
    pem = tmp_path / "server.pem"
    leaf.private_key_and_cert_chain_pem.write_to_path(str(pem))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    server = subprocess.Popen(
        ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", pem, version],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert server.stdin is not None
    assert server.stdout is not None

    def expect(word: bytes) -> None:
        assert server.stdout is not None
        while word not in (line := server.stdout.readline()):
            assert line, "openssl s_server ended"

    def type_in(line: bytes) -> None:  # one at a time: it takes what it reads at once for one
        assert server.stdin is not None
        server.stdin.write(line)
        server.stdin.flush()

    try:
        expect(b"ACCEPT")
        stream = Stream(connect(Endpoint("localhost", port, "", client_context(), "localhost"), 5))
        stream.settimeout(SECONDS)
        for number in (b"1", b"2", b"3"):
            receiving = Background(partial(_until_word, stream, b"theirs " + number))
            until(lambda: stream._polling == 1)
            type_in(command)
            line = b"ours " + number + b"\n"
            assert stream.send(line) == len(line)
            expect(line)  # it looks at what is typed in first, so the command has been obeyed
            type_in(b"theirs " + number + b"\n")
            receiving.result()
        stream.close()
    finally:
        server.kill()
        server.communicate()


def _until_word(stream: Stream, word: bytes) -> bytes:
    received = b""
    while word not in received:
        data = stream.recv(100)
        assert data, "end of file"
        received += data
    return received
