"""TLS between memory buffers, against Python's own server side, without a network."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubectl_podcp.exec.records import Records
from tests.unit.peers import authority, client_context, noise, server_context

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

CONTEXTS = {version: server_context() for version in (V12, V13)}
CONTEXTS[V12].maximum_version = V12

GARBAGE = b"\x17\x03\x03\x00\x20" + b"x" * 32
"""An encrypted record that nobody can have encrypted."""


class Server:
    """The other end: ciphertext in and out as bytes."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    def take(self, ciphertext: bytes) -> None:
        """Take in what the client sent."""
        self.incoming.write(ciphertext)

    def send(self, *pieces: bytes) -> bytes:
        """Return the ciphertext of ``pieces``, each in records of its own."""
        for piece in pieces:
            assert self.tls.write(piece) == len(piece)
        return self.outgoing.read()

    def close(self) -> bytes:
        """Return the ciphertext of close_notify."""
        with suppress(ssl.SSLWantReadError):  # it waits for the client's
            self.tls.unwrap()
        return self.outgoing.read()

    def read(self, size: int) -> bytes:
        """Return what the client sent, exactly ``size`` bytes of it."""
        data = b""
        while len(data) < size:
            data += self.tls.read(size - len(data))
        return data


def shake_hands(client: Records, server: Server, step: int = 1 << 16) -> None:
    """Make the handshake, the server's part in pieces of ``step`` bytes."""
    is_done = False
    while not client.shake_hands():
        server.take(client.due())
        if not is_done:
            with suppress(ssl.SSLWantReadError):
                server.tls.do_handshake()
                is_done = True
        assert server.outgoing.pending, "both wait"
        answer = server.outgoing.read()
        for at in range(0, len(answer), step):
            assert not client.due()
            client.take(answer[at : at + step])
            if at + step < len(answer):
                assert not client.shake_hands()
    server.take(client.due())
    if not is_done:
        server.tls.do_handshake()
    if tickets := server.outgoing.read():  # TLS 1.3 sends them afterwards
        client.take(tickets)


def connected(version: ssl.TLSVersion = V13, step: int = 1 << 16) -> tuple[Records, Server]:
    """Return both ends after the handshake."""
    client, server = Records(client_context(), "localhost"), Server(CONTEXTS[version])
    shake_hands(client, server, step)
    assert server.tls.version() == version.name.replace("_", ".")
    return client, server


def rest_of(client: Records) -> bytes:
    """Return all plaintext up to the peer's end."""
    received = b""
    while data := client.decrypt():
        received += data
    assert data == b"", "no end"
    return received


both_versions = pytest.mark.parametrize("version", [V12, V13], ids=["TLS 1.2", "TLS 1.3"])


# The handshake


@both_versions
@pytest.mark.parametrize("step", [1, 100, 1 << 16])
def test_the_handshake_in_pieces(version: ssl.TLSVersion, step: int) -> None:
    """Then nothing is due, nothing has come, and both directions work."""
    client, server = connected(version, step)
    assert client.due() == b""
    assert client.decrypt() is None
    assert client.encrypt(b"ping")
    server.take(client.due())
    assert server.read(4) == b"ping"
    client.take(server.send(b"pong"))
    assert client.decrypt() == b"pong"


def test_a_certificate_that_is_not_accepted() -> None:
    """What the server must be told about it is due."""
    client, server = Records(client_context(), "elsewhere"), Server(CONTEXTS[V13])
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(client, server)
    server.take(client.due())
    with pytest.raises(ssl.SSLError, match="alert"):
        server.tls.do_handshake()


@pytest.mark.parametrize("name", ["", ".example.com", "a" * 64 + ".example", "\ud800"])
def test_a_name_that_no_certificate_can_hold(name: str) -> None:
    """tls-server-name is the user's."""
    with pytest.raises(ValueError):
        Records(client_context(), name)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
def test_a_handshake_with_no_tls(answer: bytes) -> None:
    """An end, or another protocol."""
    client = Records(client_context(), "localhost")
    assert not client.shake_hands()
    client.take(answer)
    with pytest.raises(ssl.SSLError):
        client.shake_hands()


# Receiving


@both_versions
def test_all_that_is_there_comes_at_once(version: ssl.TLSVersion) -> None:
    """Many records, among them longer pieces than one holds."""
    client, server = connected(version)
    pieces = [noise(size) for size in (1, 16384, 16385, 100_000, 5)]
    client.take(server.send(*pieces))
    assert client.decrypt() == b"".join(pieces)
    assert client.decrypt() is None


@given(
    st.sampled_from([V12, V13]),
    st.lists(st.sampled_from([1, 100, 16384, 20_000]), max_size=5),
    st.lists(st.integers(0, 60_000), max_size=10),
    st.booleans(),
)
@settings(max_examples=50, deadline=None)
def test_the_same_plaintext_in_any_cut(
    version: ssl.TLSVersion, sizes: list[int], places: list[int], closes: bool
) -> None:
    """And the end stands behind the last byte, never before."""
    client, server = connected(version)
    pieces = [noise(size) for size in sizes]
    ciphertext = server.send(*pieces) + (server.close() if closes else b"")
    ends = sorted({0, *(min(place, len(ciphertext)) for place in places), len(ciphertext)})
    received = b""
    for start, end in itertools.pairwise(ends):
        client.take(ciphertext[start:end])
        data = client.decrypt()
        assert data != b"" or (closes and end == len(ciphertext))
        received += data or b""
    client.take(b"")
    assert received + rest_of(client) == b"".join(pieces)


@both_versions
def test_a_record_byte_by_byte(version: ssl.TLSVersion) -> None:
    """It comes with its last byte, not earlier: TLS gives nothing that it has not checked."""
    client, server = connected(version)
    ciphertext = server.send(b"checked")
    for at in range(len(ciphertext) - 1):
        client.take(ciphertext[at : at + 1])
        assert client.decrypt() is None
    client.take(ciphertext[-1:])
    assert client.decrypt() == b"checked"


# The end


@both_versions
@pytest.mark.parametrize("says_so", [True, False])
@pytest.mark.parametrize("is_together", [True, False])
def test_the_end(version: ssl.TLSVersion, says_so: bool, is_together: bool) -> None:
    """With close_notify or without: first what came before it, then the end, again and again."""
    client, server = connected(version)
    client.take(server.send(b"last"))
    if not is_together:
        assert client.decrypt() == b"last"
        assert client.decrypt() is None
    if says_so:
        client.take(server.close())
    else:
        client.take(b"")
    if is_together:
        assert client.decrypt() == b"last"
    for _ in range(3):
        assert client.decrypt() == b""


@both_versions
def test_an_end_in_the_middle_of_a_record(version: ssl.TLSVersion) -> None:
    """It looks like any other end, and nothing of the record is given."""
    client, server = connected(version)
    client.take(server.send(b"whole") + server.send(b"half")[:-1])
    client.take(b"")
    assert client.decrypt() == b"whole"
    assert client.decrypt() == b""


def alerted(version: ssl.TLSVersion, before: Sequence[bytes]) -> tuple[Records, bytes]:
    """Return a client, and ``before`` and a fatal alert to it, encrypted."""
    client, server = connected(version)
    ciphertext = server.send(*before)
    server.take(GARBAGE)
    with pytest.raises(ssl.SSLError):
        server.tls.read()
    return client, ciphertext + server.outgoing.read()


@both_versions
@pytest.mark.parametrize("is_together", [True, False])
def test_what_came_before_an_alert_counts(version: ssl.TLSVersion, is_together: bool) -> None:
    """The alert is raised next, again and again; nothing can be sent any more."""
    client, ciphertext = alerted(version, [b"x" * 20_000, b"last"])
    if is_together:
        client.take(ciphertext)
        assert client.decrypt() == b"x" * 20_000 + b"last"
    else:
        received = b""
        with pytest.raises(ssl.SSLError, match="alert"):
            for at in range(len(ciphertext)):
                client.take(ciphertext[at : at + 1])
                received += client.decrypt() or b""
        assert received == b"x" * 20_000 + b"last"
    client.take(b"")
    for _ in range(3):
        with pytest.raises(ssl.SSLError, match="alert bad record mac"):
            client.decrypt()
    with pytest.raises(ssl.SSLError):
        client.encrypt(b"more")


def test_our_certificate_is_refused_after_the_handshake() -> None:
    """In TLS 1.3 the client takes the handshake for done before the server looks at that."""
    context = server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    authority().configure_trust(context)
    client, server = Records(client_context(), "localhost"), Server(context)
    with pytest.raises(ssl.SSLError, match="peer did not return a certificate"):
        shake_hands(client, server)
    client.take(server.outgoing.read())
    with pytest.raises(ssl.SSLError) as caught:
        client.decrypt()
    assert caught.value.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED"


@both_versions
def test_what_the_peer_cannot_have_sent(version: ssl.TLSVersion) -> None:
    """What came before it counts, and the peer is told."""
    client, server = connected(version)
    client.take(server.send(b"good") + GARBAGE)
    assert client.decrypt() == b"good"
    with pytest.raises(ssl.SSLError, match=r"(?i)bad record mac|decryption failed"):
        client.decrypt()
    server.take(client.due())
    with pytest.raises(ssl.SSLError, match="alert bad record mac"):
        server.tls.read()


# Sending


@both_versions
@pytest.mark.parametrize("size", [1, 16384, 16385, 1 << 20])
def test_what_is_encrypted_is_due_in_order(version: ssl.TLSVersion, size: int) -> None:
    """All of it, however many records that takes; and it is given once."""
    client, server = connected(version)
    pieces = [noise(size), b"more", noise(7)]
    for piece in pieces:
        assert client.encrypt(piece)
    server.take(client.due())
    assert client.due() == b""
    assert server.read(size + 11) == b"".join(pieces)


def test_nothing_is_encrypted_while_tls_waits_for_the_peer() -> None:
    """As in a renegotiation; here it is the first handshake that is not done."""
    client, server = Records(client_context(), "localhost"), Server(CONTEXTS[V13])
    for _ in range(2):
        assert not client.encrypt(b"secret")
    shake_hands(client, server)
    assert client.encrypt(b"secret")
    server.take(client.due())
    assert server.read(6) == b"secret"
    with pytest.raises(ssl.SSLWantReadError):
        server.tls.read()


@both_versions
def test_sending_after_the_peer_s_end(version: ssl.TLSVersion) -> None:
    """close_notify ends the peer's direction alone; an end without it ends both."""
    client, server = connected(version)
    client.take(server.close())
    assert client.decrypt() == b""
    assert client.encrypt(b"still there?")
    server.take(client.due())
    client, server = connected(version)
    client.take(b"")
    assert client.decrypt() == b""
    if client_context().options & ssl.OP_IGNORE_UNEXPECTED_EOF:  # as Python 3.10 and Debian 12 do
        assert client.encrypt(b"still there?")  # to them, both ends are the same
        return
    with pytest.raises(ssl.SSLError):
        client.encrypt(b"still there?")
