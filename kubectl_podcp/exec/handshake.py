"""The request that opens an exec session, and the answer where it is a refusal.

In: an endpoint, a target, a command; a stream. Out: the request's path and header lines, and the
body of a refusal, which websocket-client gives only where its length was announced. Raises
:class:`~kubectl_podcp.errors.KubeconfigError` for a header that is none, and
:class:`~kubectl_podcp.errors.ServerError` for an answer without end. Called by the thread that
opens the session.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import quote

from kubectl_podcp.errors import ConnectionLost, KubeconfigError, ServerError
from kubectl_podcp.exec.deadline import Deadline
from kubectl_podcp.exec.stream import Stream

MAX_ANSWER = 128 * 1024
"""Most bytes of an answer to the opening handshake, head and body."""

REFUSAL_TIMEOUT = 2.0
"""Seconds for the body of a refusal whose length was not announced: it only explains."""


@dataclass(frozen=True, slots=True)
class ExecTarget:
    """The container in which a command is run."""

    namespace: str
    pod: str
    container: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.pod} (container {self.container})"


def exec_path(base_path: str, target: ExecTarget, command: Sequence[str]) -> str:
    """Return path and query of the request (``PodExecOptions`` in k8s.io/api/core/v1).

    stdin is always asked for: without it, some container runtimes end the session with the first
    output. A terminal never is: it would change the bytes. What is not UTF-8 in an argument
    (``surrogateescape``) goes as the bytes it stands for.
    """
    pod = f"/api/v1/namespaces/{_quoted(target.namespace)}/pods/{_quoted(target.pod)}/exec"
    options = [
        *(("command", argument) for argument in command),
        ("container", target.container),
        *((stream, "true") for stream in ("stdin", "stdout", "stderr")),
    ]
    query = "&".join(f"{name}={_quoted(value)}" for name, value in options)
    return f"{quote(base_path, safe='/%')}{pod}?{query}"


def header_lines(headers: Mapping[str, str]) -> list[str]:
    """Return ``Name: value`` for each header.

    :raises KubeconfigError: a value with a line break would smuggle in another header.
    """
    for name, value in headers.items():
        if "\r" in value or "\n" in value:
            raise KubeconfigError(
                f"the value for the header {name} contains a line break",
                advice="Check the user's token and impersonation in the kubeconfig.",
            )
    return [f"{name}: {value}" for name, value in headers.items()]


class HandshakeSocket:
    """The stream as websocket-client sees it until the session is open.

    It sends a request whole (the library ignores how much went), it limits what the server may
    answer, and it stays open when the library closes it, so that a refusal can be read to its end.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._received = 0

    def recv(self, size: int) -> bytes:
        """Receive like :meth:`Stream.recv`.

        :raises ServerError: the answer is longer than :data:`MAX_ANSWER`.
        """
        data = self._stream.recv(size)
        self._received += len(data)
        if self._received > MAX_ANSWER:
            raise ServerError("the API server's answer to exec does not end")
        return data

    def send(self, data: bytes) -> int:
        """Send all of ``data``."""
        self._stream.send(data)
        return len(data)

    def gettimeout(self) -> float | None:
        """Return what the library looks at to tell a non-blocking socket (0)."""
        return self._stream.gettimeout()

    def close(self) -> None:
        """Do nothing: the session's opener closes the stream."""

    def body(self, headers: Mapping[str, str]) -> bytes:
        """Return the body that follows ``headers`` (names in lower case), as far as it comes.

        Without ``Content-Length`` it is chunked (RFC 9112, section 7.1), or it lasts until the
        server closes, which one that found no common protocol does at once.
        """
        body = bytearray()
        with suppress(TimeoutError, ConnectionLost, ServerError, ValueError, EOFError):
            left = self._stream.gettimeout()
            limit = REFUSAL_TIMEOUT if left is None else min(left, REFUSAL_TIMEOUT)
            self._stream.read_deadline = Deadline(limit)
            if headers.get("transfer-encoding", "").lower() == "chunked":
                self._chunks(body.extend)
            else:
                while data := self.recv(16384):
                    body += data
        return bytes(body)

    def _chunks(self, add: Callable[[bytes], None]) -> None:
        while size := int(self._line().partition(b";")[0], 16):
            add(self._exactly(size))
            self._line()

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            line += self._exactly(1)
        return line

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data


def without_secrets(body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return ``body`` with our credentials struck out, should the server repeat the request."""
    value = headers.get("Authorization", "")
    for secret in (value, value.rpartition(" ")[2]):
        if secret:
            body = body.replace(secret.encode(), b"...")
    return body


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="surrogateescape")
