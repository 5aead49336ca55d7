"""Connecting: what is tried, what is checked, and what a failure says."""

from __future__ import annotations

import dataclasses
import datetime
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubectl_podcp.errors import CertificateError, ConnectionLost, PodcpError, Unreachable
from kubectl_podcp.exec import tls
from kubectl_podcp.exec.deadline import Deadline
from kubectl_podcp.exec.stream import Aborted, Stream
from kubectl_podcp.exec.tls import Endpoint, Proxy, connect, dial, handshake_errors
from tests.unit.peers import (
    SECONDS,
    Background,
    Peer,
    authority,
    client_context,
    for_two_threads,
    noise,
    server_context,
    serving,
    until,
)

SECRET = "Basic dXNlcjpwYXNz"


def greet(peer: Peer) -> None:
    peer.write(b"hello")
    peer.wait_for_end()


def streamed(endpoint: Endpoint, timeout: float = SECONDS) -> Stream:
    """Connect as a session does: the stream makes the handshake."""
    deadline = Deadline(timeout)
    stream = Stream(dial(endpoint, deadline))
    try:
        stream.settimeout(deadline.remaining())
        if endpoint.context is not None:
            with handshake_errors(endpoint.authority, endpoint.server_name):
                stream.secure(endpoint.context, endpoint.server_name)
    except BaseException:
        stream.close()
        raise
    return stream


Connect = Callable[[Endpoint, float], object]

both_ways = pytest.mark.parametrize("way", [connect, streamed], ids=["socket", "stream"])
"""Whoever makes the handshake, the errors are the same."""


def failing(way: Connect, endpoint: Endpoint, timeout: float = SECONDS) -> PodcpError:
    """Return the error that connecting raises."""
    with pytest.raises(PodcpError) as caught:
        way(endpoint, timeout)
    assert caught.value.advice.endswith(".")
    return caught.value


def closed_port() -> int:
    """Return a port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_connection_is_tls_and_blocking_and_kept_alive() -> None:
    """The caller sets time-outs of its own; keep-alive finds a peer that is gone."""
    with (
        serving(greet, context=server_context()) as endpoint,
        connect(endpoint, SECONDS) as sock,
    ):
        assert isinstance(sock, ssl.SSLSocket)
        assert sock.recv(5) == b"hello"
        assert sock.gettimeout() is None
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


def test_no_context_is_plain_http() -> None:
    """As kubectl proxy speaks it."""
    with serving(greet) as endpoint, connect(endpoint, SECONDS) as sock:
        assert not isinstance(sock, ssl.SSLSocket)
        assert sock.recv(5) == b"hello"


def test_another_server_name() -> None:
    """tls-server-name is what the certificate is checked against."""
    with serving(greet, context=server_context("kubernetes")) as endpoint:
        named = dataclasses.replace(endpoint, server_name="kubernetes")
        with connect(named, SECONDS) as sock:
            assert sock.recv(5) == b"hello"


# Unreachable


@both_ways
def test_refused(way: Connect) -> None:
    """The error names host and port."""
    port = closed_port()
    error = failing(way, Endpoint("127.0.0.1", port, "", None, ""))
    assert isinstance(error, Unreachable)
    assert error.happened == f"cannot connect to 127.0.0.1:{port}: Connection refused"
    assert isinstance(error.__cause__, ConnectionRefusedError)


@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 64 + ".invalid", "\ud800"])
@both_ways
def test_unknown_host(way: Connect, host: str) -> None:
    """Also where the name could not even be asked for."""
    error = failing(way, Endpoint(host, 6443, "", None, ""))
    assert isinstance(error, Unreachable)
    assert "name" in error.advice


def test_every_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPv6 first, as the resolver says, and IPv4 after it."""
    asked: list[object] = []

    def resolve(_host: str, port: int, **kind: Any) -> list[Any]:
        asked.append(kind)
        stream, tcp = socket.SOCK_STREAM, socket.IPPROTO_TCP
        return [
            (socket.AF_INET6, stream, tcp, "", ("::1", closed_port(), 0, 0)),
            (socket.AF_INET, stream, tcp, "", ("127.0.0.1", port)),
        ]

    with serving(greet) as endpoint:
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        with connect(endpoint, SECONDS) as sock:
            assert sock.recv(5) == b"hello"
        monkeypatch.undo()
    assert asked == [{"type": socket.SOCK_STREAM}]


@both_ways
def test_a_silent_address_leaves_time_for_the_next(
    way: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each address gets its share of what is left of the deadline."""
    shares: list[float] = []

    def refuse(sock: socket.socket, _address: object, timeout: float) -> socket.socket:
        sock.close()
        shares.append(timeout)
        raise TimeoutError("timed out")

    address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kind: [address] * 2)
    monkeypatch.setattr(tls, "_tcp", refuse)
    error = failing(way, Endpoint("127.0.0.1", 1, "", None, ""), 8.0)
    assert error.happened == "cannot connect to 127.0.0.1:1: timed out"
    assert [round(share) for share in shares] == [4, 8]


@both_ways
def test_a_silent_server_is_left_at_the_deadline(way: Connect) -> None:
    """TCP connects, TLS never answers."""
    with serving(Peer.wait_for_end) as endpoint:
        silent = dataclasses.replace(endpoint, context=client_context())
        began = time.monotonic()
        error = failing(way, silent, 0.2)
        assert time.monotonic() - began < SECONDS / 2
    assert isinstance(error, Unreachable)
    assert error.happened == f"cannot connect to {endpoint}: timed out"


@both_ways
def test_the_deadline_may_have_passed_before_tls(
    way: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow name look-up cannot be interrupted, but nothing is tried after it."""
    resolve = socket.getaddrinfo

    def slowly(*args: Any, **kind: Any) -> Any:
        time.sleep(0.05)
        return resolve(*args, **kind)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    error = failing(way, Endpoint("127.0.0.1", closed_port(), "", None, ""), 0.01)
    assert "timed out" in error.happened


@both_ways
def test_a_port_that_speaks_no_tls(way: Connect) -> None:
    """Another service, or http where https is configured."""
    with serving(lambda peer: peer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")) as endpoint:
        error = failing(way, dataclasses.replace(endpoint, context=client_context()))
    assert isinstance(error, Unreachable)
    assert error.happened.startswith(f"no TLS connection with {endpoint}: ")


@both_ways
def test_a_server_that_resets_in_the_handshake(way: Connect) -> None:
    """A load balancer without API servers does that."""
    with serving(Peer.reset) as endpoint:
        error = failing(way, dataclasses.replace(endpoint, context=client_context()))
    assert isinstance(error, Unreachable)


# Certificates


@both_ways
def test_an_unknown_authority(way: Connect) -> None:
    """The kubeconfig's certificate-authority is another cluster's."""
    with serving(greet, context=server_context()) as endpoint:
        stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        error = refused(way, dataclasses.replace(endpoint, context=stranger))
    assert "unable to get local issuer certificate" in error.happened
    assert f"{endpoint.host}:{endpoint.port}" in error.happened
    assert "certificate-authority-data" in error.advice


@both_ways
def test_a_wrong_name(way: Connect) -> None:
    """An IP address or a tunnel's name that the certificate lacks."""
    with serving(greet, context=server_context("kubernetes")) as endpoint:
        error = refused(way, endpoint)
    assert "Hostname mismatch" in error.happened
    assert "tls-server-name" in error.advice
    with serving(greet, context=server_context("kubernetes")) as endpoint:
        error = refused(way, dataclasses.replace(endpoint, server_name="127.0.0.1"))
    assert "IP address mismatch" in error.happened


@both_ways
def test_an_expired_certificate(way: Connect) -> None:
    """It may also be this machine's clock."""
    yesterday = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    with serving(greet, context=server_context(not_after=yesterday)) as endpoint:
        error = refused(way, endpoint)
    assert "certificate has expired" in error.happened
    assert "clock" in error.advice


@both_ways
def test_our_certificate_is_missing_tls_1_2(way: Connect) -> None:
    """The server says so within the handshake."""
    context = demanding()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(greet, context=context) as endpoint:
        error = failing(way, endpoint)
    assert isinstance(error, Unreachable | CertificateError)
    assert "handshake failure" in error.happened


@both_ways
def test_our_certificate_is_not_trusted_tls_1_2(way: Connect) -> None:
    """A certificate of another authority."""
    context = demanding()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(greet, context=context) as endpoint:
        error = failing(way, with_foreign_certificate(endpoint))
    assert isinstance(error, CertificateError)
    assert "our client certificate" in error.happened


@pytest.mark.parametrize("shown", [False, True])
def test_our_certificate_is_refused_tls_1_3(shown: bool) -> None:
    """The server says so after the handshake, to the first read; then nothing can be sent."""
    with serving(greet, context=demanding()) as endpoint:
        if shown:
            endpoint = with_foreign_certificate(endpoint)
        stream = streamed(endpoint)
        for _ in range(2):
            with pytest.raises(CertificateError, match="refused our client certificate"):
                stream.recv(5)
        with pytest.raises(ConnectionLost, match="while sending"):
            stream.send(b"then take this")
        stream.close()


@pytest.mark.parametrize("name", ["", ".example.com"])
@both_ways
def test_a_server_name_that_cannot_be(way: Connect, name: str) -> None:
    """tls-server-name is the user's."""
    with serving(greet, context=server_context()) as endpoint:
        error = failing(way, dataclasses.replace(endpoint, server_name=name))
    assert isinstance(error, CertificateError)


def refused(way: Connect, endpoint: Endpoint) -> CertificateError:
    error = failing(way, endpoint)
    assert isinstance(error, CertificateError)
    return error


def demanding() -> ssl.SSLContext:
    """Return a server's context that wants a client certificate of the tests' authority."""
    context = server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    authority().configure_trust(context)
    return context


def with_foreign_certificate(endpoint: Endpoint) -> Endpoint:
    import trustme

    context = client_context()
    trustme.CA().issue_cert("user").configure_cert(context)
    return dataclasses.replace(endpoint, context=context)


# Proxies


def proxy_that(answers: bytes, heads: list[list[str]], to: Endpoint | None = None) -> Any:
    """Return the script of a proxy: it answers CONNECT, then carries bytes to ``to``."""

    def script(peer: Peer) -> None:
        heads.append(peer.read_head())
        peer.write(answers)
        if to is None:
            return
        with socket.create_connection(("127.0.0.1", to.port)) as onward:
            carry(peer.sock, onward)

    return script


def carry(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until both ends are gone."""
    streams = (Stream(for_two_threads(one)), Stream(for_two_threads(other)))
    up = Background(lambda: copy(*streams))
    copy(*reversed(streams))
    up.result()


def copy(source: Stream, sink: Stream) -> None:
    """Carry bytes one way until either end is gone, then close both."""
    try:
        while data := source.recv(1 << 14):
            sink.send(data)
    except (PodcpError, Aborted):
        pass
    source.close()
    sink.close()


def by_way_of(proxy: Endpoint, to: Endpoint, **more: Any) -> Endpoint:
    is_tls = proxy.context is not None
    way = Proxy("localhost" if is_tls else "127.0.0.1", proxy.port, is_tls, SECRET)
    return dataclasses.replace(to, proxy=way, **more)


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Make the tests' authority one of the system's, which decide on an https:// proxy."""
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority().cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))


OPEN = b"HTTP/1.1 200 Connection established\r\nVia: us\r\n\r\n"


def test_through_a_proxy() -> None:
    """CONNECT with the API server's name, TLS with the API server itself."""
    heads: list[list[str]] = []
    with (
        serving(greet, context=server_context()) as server,
        serving(proxy_that(OPEN, heads, server)) as proxy,
        connect(by_way_of(proxy, server), SECONDS) as sock,
    ):
        assert sock.recv(5) == b"hello"
    where = f"localhost:{server.port}"
    expected = [f"CONNECT {where} HTTP/1.1", f"Host: {where}", f"Proxy-Authorization: {SECRET}"]
    assert heads == [expected]


def test_through_a_proxy_that_knows_everybody() -> None:
    """No credentials, no header."""
    heads: list[list[str]] = []
    with serving(greet) as server, serving(proxy_that(OPEN, heads, server)) as proxy:
        way = Proxy("127.0.0.1", proxy.port, False, None)
        with connect(dataclasses.replace(server, proxy=way), SECONDS) as sock:
            assert sock.recv(5) == b"hello"
    assert len(heads[0]) == 2


@pytest.mark.usefixtures("trusted")
def test_plain_http_through_an_https_proxy() -> None:
    """Then the proxy's TLS is all there is."""
    heads: list[list[str]] = []
    with (
        serving(greet) as server,
        serving(proxy_that(OPEN, heads, server), context=server_context()) as proxy,
        connect(by_way_of(proxy, server), SECONDS) as sock,
    ):
        assert sock.recv(5) == b"hello"


@pytest.mark.usefixtures("trusted")
def test_a_stream_of_plain_http_through_an_https_proxy() -> None:
    """It never blocks, and the proxy's TLS must not be seen in it."""

    def answer(peer: Peer) -> None:
        peer.write(peer.read(5))
        peer.wait_for_end()

    with (
        serving(answer) as server,
        serving(proxy_that(OPEN, [], server), context=server_context()) as proxy,
    ):
        stream = streamed(by_way_of(proxy, server))
        receiving = Background(lambda: receive_all(stream, 5))
        until(lambda: stream._polling == 1)
        stream.send(b"hello")
        assert receiving.result() == b"hello"
        stream.close()


@pytest.mark.usefixtures("trusted")
def test_tls_within_tls() -> None:
    """Both directions at once through a stream, and the carrier's thread ends with it."""
    size = 4 << 20
    there, back = noise(size), noise(size)
    received: list[bytes] = []

    def talk(peer: Peer) -> None:
        # The server's end has one thread, so it does not read and write at once.
        for start in range(0, size, 1 << 16):
            peer.write(back[start : start + (1 << 16)])
            received.append(peer.read(1 << 16))
        peer.wait_for_end()

    heads: list[list[str]] = []
    with (
        serving(talk, context=server_context()) as server,
        serving(proxy_that(OPEN, heads, server), context=server_context()) as proxy,
    ):
        others = carriers()
        stream = streamed(by_way_of(proxy, server))
        sending = Background(lambda: send_all(stream, there))
        assert receive_all(stream, size) == back
        sending.result()
        begun = carriers() - others
        stream.close()
        for carrier in begun:
            carrier.join(SECONDS)
            assert not carrier.is_alive()
    assert len(begun) == 2, "ours, and that of the test's proxy"
    assert b"".join(received) == there


def carriers() -> set[threading.Thread]:
    """Return the threads that carry TLS within TLS."""
    return {thread for thread in threading.enumerate() if thread.name == "tls-in-tls"}


def send_all(stream: Stream, data: bytes) -> None:
    for start in range(0, len(data), 32768):
        stream.send(data[start : start + 32768])


def receive_all(stream: Stream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += stream.recv(16384)
    return bytes(data)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 Proxy Authentication"),
        (b"HTTP/1.1 403 No\x1b[2J\r\n\r\n", r"403 No\x1b[2J"),
        (b"SSH-2.0-OpenSSH\r\n", "does not answer in HTTP: SSH-2.0-OpenSSH"),
        (b"HTTP/1.1 ok\r\n\r\n", "does not answer in HTTP"),
        (b"", "does not answer in HTTP"),
        (b"x" * 20_000, "does not answer in HTTP"),
    ],
)
@both_ways
def test_a_proxy_that_refuses(way: Connect, answer: bytes, said: str) -> None:
    """Its words are quoted, ours to it never are."""
    with serving(proxy_that(answer, [])) as proxy:
        target = Endpoint("kubernetes", 6443, "", client_context(), "kubernetes")
        error = failing(way, by_way_of(proxy, target))
    assert isinstance(error, Unreachable)
    assert said in error.happened
    assert SECRET.split()[1] not in str(error)


@both_ways
def test_a_proxy_that_is_not_there(way: Connect) -> None:
    """The error is about the proxy, not about the API server."""
    proxy = Proxy("127.0.0.1", closed_port(), False, SECRET)
    error = failing(way, Endpoint("kubernetes", 6443, "", client_context(), "kubernetes", proxy))
    assert error.happened == f"cannot connect to {proxy}: Connection refused"
    assert str(proxy) == f"the proxy 127.0.0.1:{proxy.port}"


@both_ways
def test_a_proxy_that_stays_silent(way: Connect) -> None:
    """The deadline holds for its answer too."""
    with serving(Peer.wait_for_end) as proxy:
        target = Endpoint("kubernetes", 6443, "", client_context(), "kubernetes")
        error = failing(way, by_way_of(proxy, target), 0.2)
    assert "the proxy" in error.happened
    assert "timed out" in error.happened


@both_ways
def test_a_proxy_that_is_not_trusted(way: Connect) -> None:
    """Its certificate is the system's affair, not the kubeconfig's."""
    with serving(greet, context=server_context()) as proxy:
        target = Endpoint("kubernetes", 6443, "", client_context(), "kubernetes")
        error = failing(way, by_way_of(proxy, target))
    assert isinstance(error, CertificateError)
    assert "the proxy localhost" in error.happened


def test_what_is_shown_of_an_endpoint() -> None:
    """repr() ends up in logs."""
    proxy = Proxy("proxy", 3128, False, SECRET)
    endpoint = Endpoint("::1", 6443, "", None, "::1", proxy)
    assert SECRET.split()[1] not in repr(endpoint)
    assert str(endpoint) == "[::1]:6443"
    assert str(proxy) == "the proxy proxy:3128"
