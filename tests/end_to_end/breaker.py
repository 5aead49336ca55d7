"""A TCP proxy in front of an API server that breaks connections: the network's part in a failure.

It works in front of the embedded cluster and of a real one, and counts what passes. Bytes are
passed on as they come; TLS is the two ends' own matter.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import yaml  # type: ignore[import-untyped]

PIECE = 256 * 1024


class Link:
    """One connection through the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.up = self.down = 0
        self.frozen = threading.Event()

    def reset(self) -> None:
        """End it with a TCP reset on both sides, which throws away what is on its way."""
        for sock in (self.client, self.server):
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.shutdown(socket.SHUT_RD)
            with suppress(OSError):
                sock.close()

    def finish(self) -> None:
        """End it as a process does that is killed: what was passed on arrives, then the end."""
        for sock in (self.client, self.server):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def freeze(self) -> None:
        """Pass nothing on any more, and say nothing: a black hole."""
        self.frozen.set()

    def half_open(self) -> None:
        """End it for the server; the client is told nothing, and nobody hears it."""
        self.freeze()
        with suppress(OSError):
            self.server.shutdown(socket.SHUT_RDWR)


Passing = Callable[["Breaker", Link], None]


class Breaker:
    """The proxy.

    :ivar up: bytes that went from clients to the server, over all connections.
    :ivar down: bytes that went the other way.
    :ivar on_passing: called after each piece, by the thread that passes it on; it may break links.
    :ivar refuses: set while no connection shall be made, as where nothing listens.
    :ivar delay: seconds that each piece is held back.
    :ivar pieces: where frames and records are to be cut anew: the longest piece, in bytes; each
        is of a random length up to it.
    """

    def __init__(self, host: str, port: int, buffer: int | None = None) -> None:
        self.up = self.down = 0
        self.on_passing: Passing = lambda _breaker, _link: None
        self.delay = 0.0
        self.pieces: random.Random | None = None
        self.links: list[Link] = []
        self.lock = threading.Lock()
        self.refuses = threading.Event()
        self._to = (host, port)
        self._buffer = buffer
        self._listener = self._small(socket.socket())
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _small(self, sock: socket.socket) -> socket.socket:
        if self._buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._buffer)
        return sock

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        """End everything, and wait for its threads."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self.lock:
            links = list(self.links)
        for link in links:
            link.frozen.clear()
            link.finish()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "the proxy's thread hangs"

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = self._small(socket.socket())
            try:
                if self.refuses.is_set():
                    raise OSError
                server.settimeout(5)
                server.connect(self._to)
            except OSError:
                server.close()
                client.close()  # as a machine does on which nothing listens
                continue
            server.settimeout(None)
            link = Link(client, server)
            with self.lock:
                self.links.append(link)
            for up in (True, False):
                thread = threading.Thread(target=self._pass, args=(link, up))
                thread.start()
                self._threads.append(thread)

    def _pass(self, link: Link, up: bool) -> None:
        source, sink = (link.client, link.server) if up else (link.server, link.client)
        with suppress(OSError):
            while data := source.recv(PIECE):
                while link.frozen.is_set():
                    time.sleep(0.05)
                self._hand_on(sink, data)
                with self.lock:
                    if up:
                        self.up += len(data)
                        link.up += len(data)
                    else:
                        self.down += len(data)
                        link.down += len(data)
                    self.on_passing(self, link)
        if not link.frozen.is_set():
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)

    def _hand_on(self, sink: socket.socket, data: bytes) -> None:
        if self.delay:
            time.sleep(self.delay)
        if self.pieces is None:
            sink.sendall(data)
            return
        while data:
            size = self.pieces.randint(1, 1 << self.pieces.randint(0, 17))
            sink.sendall(data[:size])
            data = data[size:]


@contextmanager
def breaking(
    kubeconfig: Path, context: str, place: Path, buffer: int | None = None
) -> Iterator[tuple[Breaker, Path]]:
    """Give a proxy in front of a context's API server, and a kubeconfig that goes through it.

    :param buffer: bytes that each socket of the proxy may hold; None leaves it to the system.
    """
    document = yaml.safe_load(kubeconfig.read_text("utf-8"))
    named = next(each for each in document["contexts"] if each["name"] == context)
    wanted = named["context"]["cluster"]
    cluster = next(each for each in document["clusters"] if each["name"] == wanted)["cluster"]
    url = urlsplit(cluster["server"])
    assert url.hostname and url.port
    breaker = Breaker(url.hostname, url.port, buffer)
    try:
        cluster["server"] = f"https://127.0.0.1:{breaker.port}{url.path}"
        cluster.setdefault("tls-server-name", url.hostname)
        through = place / "kubeconfig-through-the-proxy"
        through.write_text(yaml.safe_dump(document), "utf-8")
        through.chmod(0o600)
        yield breaker, through
    finally:
        breaker.close()
