"""GET from the API server, as raw JSON.

In: a :class:`~kubectl_podcp.cluster.access.Cluster`, a path, a query. Out: the decoded
document. Raises what :mod:`kubectl_podcp.exec.tls` raises for the connection, and
:func:`kubectl_podcp.exec.refusals.refusal`'s errors for the answer. Any thread may call it; each
call has a connection of its own.

The connection is that of the exec sessions, so there is one way of TLS, proxies and time limits.
Redirects are not followed: they would take the token along. One deadline holds for a request
and its answer, however slowly that arrives.
"""

from __future__ import annotations

import http.client
import io
import json
import logging
import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from kubectl_podcp.cluster.access import Cluster
from kubectl_podcp.errors import AccessError, Forbidden, PodcpError, ServerError, Unreachable
from kubectl_podcp.exec.deadline import Deadline
from kubectl_podcp.exec.handshake import without_secrets
from kubectl_podcp.exec.refusals import refusal
from kubectl_podcp.exec.tls import Endpoint, connect, refused_certificate
from kubectl_podcp.logs import Request

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

log = logging.getLogger(__name__)

MAX_BODY = 64 << 20
"""Bytes of an answer at most. A Pod has at most 1.5 MiB (etcd's limit); lists of Pods are long."""

_NO_QUERY: Mapping[str, str] = MappingProxyType({})


def get(
    cluster: Cluster, path: str, query: Mapping[str, str] = _NO_QUERY, timeout: float | None = None
) -> dict[str, Any]:
    """Return the JSON object at ``path``.

    :param path: from ``/api`` on, percent-encoded; the server's base path is put before it.
    :param timeout: seconds for everything, from the name look-up to the last byte; None is the
        cluster's.
    :raises AccessError: no connection, no verified one, or 401 or 403.
    :raises ServerError: any other answer than 200 with a JSON object.
    """
    status, body = fetch(cluster, path, query, timeout)
    if status != http.client.OK:
        raise refused(status, body, f"GET {path}")
    return decode(body, path)


def fetch(
    cluster: Cluster, path: str, query: Mapping[str, str] = _NO_QUERY, timeout: float | None = None
) -> tuple[int, bytes]:
    """Return status and body of any answer; for callers to whom a 404 is an answer too."""
    headers = {**cluster.headers(), "Accept": "application/json", "Connection": "close"}
    endpoint = cluster.endpoint
    target = f"{endpoint.base_path}{path}{'?' if query else ''}{urlencode(query)}"
    scheme = "https" if endpoint.context else "http"
    timeout = cluster.timeout if timeout is None else timeout
    asked = Request(log, f"GET {scheme}://{endpoint.authority}{target}", headers)
    try:
        status, body = _ask(endpoint, path, target, headers, timeout)
    except PodcpError as error:
        asked.failed(error)
        raise
    asked.answered(status)
    # A refusal is quoted in errors, should the server repeat the request in it.
    return status, body if status == http.client.OK else without_secrets(body, headers)


def _ask(
    endpoint: Endpoint, path: str, target: str, headers: Mapping[str, str], timeout: float
) -> tuple[int, bytes]:
    deadline = Deadline(timeout)  # from here on: a plugin may have asked the user to log in
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port)
    with connect(endpoint, timeout) as sock:
        connection.sock = _Timed(sock, deadline)
        try:
            connection.request("GET", target, headers=headers)
            response = connection.getresponse()
            body = response.read(MAX_BODY + 1)
        except (OSError, http.client.HTTPException) as cause:
            raise _unanswered(cause, endpoint, timeout) from cause
    if len(body) > MAX_BODY:
        raise ServerError(f"the answer to GET {path} is longer than {MAX_BODY >> 20} MiB")
    if response.length:  # what Content-Length promised beyond what came
        raise _unanswered(ConnectionError("the answer was cut off"), endpoint, timeout)
    return response.status, body


def refused(status: int, body: bytes, what: str) -> PodcpError:
    """Return the error for an answer that is not the one hoped for.

    :param what: what was asked for, as for :func:`~kubectl_podcp.exec.refusals.refusal`.
    """
    if status == http.client.FORBIDDEN and not body.strip():
        # For an exec session this would mean that no protocol is shared; here no such thing is.
        return Forbidden(f"HTTP 403 for {what}, without a reason")
    return refusal(status, body, what)


def decode(body: bytes, path: str) -> dict[str, Any]:
    """Return the JSON object in the body of an answer to ``GET path``.

    :raises ServerError: it is something else.
    """
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise ServerError(
            f"the answer to GET {path} is not a JSON object",
            advice="Check the cluster's server in the kubeconfig: is it a Kubernetes API server?",
        )
    return document


def _unanswered(cause: Exception, endpoint: Endpoint, timeout: float) -> AccessError:
    if isinstance(cause, OSError) and (refused := refused_certificate(cause)):
        return refused  # in TLS 1.3 the verdict comes after the handshake
    if isinstance(cause, TimeoutError):
        reason = f"did not answer within {timeout:g} s"
    else:
        reason = f"ended the connection before its answer: {cause}"
    return Unreachable(
        f"the API server at {endpoint.authority} {reason}",
        advice="Check the network, a VPN, and the server's address and port in the kubeconfig.",
    )


class _Timed:
    """What ``http.client`` asks of a socket, each operation within what the deadline has left."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(self._deadline.remaining())
        self._sock.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self._sock, self._deadline))

    def close(self) -> None:
        """Do nothing: ``http.client`` closes before it has read the body; :func:`fetch` closes."""


class _Incoming(io.RawIOBase):
    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        super().__init__()
        self._sock = sock
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._sock.settimeout(self._deadline.remaining())
        return self._sock.recv_into(buffer)
