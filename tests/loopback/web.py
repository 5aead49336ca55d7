"""Just enough of HTTP/1.1 for an API server: requests in, responses out.

What goes in: a connection. What comes out: a :class:`Request`, or None at its end; and the bytes
of a :class:`Response`. Raises :class:`BadRequest` for what is not HTTP. Used by the thread of
the connection alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from email.parser import Parser
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from websockets.utils import accept_key

from tests.loopback.connection import Connection

_LONGEST_HEAD = 1024 * 1024
"""Bytes of a request line and its headers: a command of `exec` stands in the request line."""


class BadRequest(Exception):
    """The client does not speak HTTP/1.1."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request without its body, which no request that we answer has."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Message

    def flag(self, name: str) -> bool:
        """Return whether a query parameter is set to true, as Go's strconv reads it."""
        return self.query.get(name, [""])[-1] in ("1", "t", "T", "true", "TRUE", "True")

    def last(self, name: str) -> str:
        """Return the value of a query parameter, or the empty string."""
        return self.query.get(name, [""])[-1]


@dataclass(frozen=True, slots=True)
class Response:
    """A response with a body and its length, or with neither."""

    status: int
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def serialize(self) -> bytes:
        """Return the bytes that go to the client."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.body is not None:
            lines.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join([*lines, "", ""]).encode() + (self.body or b"")


def json_response(document: Mapping[str, Any], status: int = 200) -> Response:
    """Return a response that carries a JSON document."""
    body = json.dumps(document).encode() + b"\n"
    return Response(status, body, {"Content-Type": "application/json"})


def text_response(text: str, status: int) -> Response:
    """Return a response in plain text, as Go's http.Error makes it."""
    return Response(status, text.encode() + b"\n", {"Content-Type": "text/plain; charset=utf-8"})


def no_common_protocol() -> Response:
    """Return the 403 of a server that speaks none of the offered subprotocols: it is bare."""
    return Response(403, headers={"Connection": "close"})


def switching_protocols(request: Request, subprotocol: str) -> Response:
    """Return the 101 that makes the connection a WebSocket (RFC 6455, section 4.2.2)."""
    return Response(
        101,
        headers={
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Accept": accept_key(request.headers["Sec-WebSocket-Key"]),
            "Sec-WebSocket-Protocol": subprotocol,
        },
    )


def switching_to_spdy(subprotocol: str) -> Response:
    """Return the 101 that makes the connection one of SPDY/3.1."""
    return Response(
        101,
        headers={
            "Upgrade": "SPDY/3.1",
            "Connection": "Upgrade",
            "X-Stream-Protocol-Version": subprotocol,
        },
    )


def is_spdy(request: Request) -> bool:
    """Return whether the client asks for SPDY."""
    return request.headers.get("Upgrade", "") == "SPDY/3.1"


def offered_protocols(request: Request) -> list[str]:
    """Return the exec protocols that the client offers, its favourite first.

    For a WebSocket only the first header line counts: servers read no other.
    """
    if is_spdy(request):
        return request.headers.get_all("X-Stream-Protocol-Version", [])
    offered: str = request.headers.get("Sec-WebSocket-Protocol", "")
    return [word.strip() for word in offered.split(",")]


def is_websocket(request: Request) -> bool:
    """Return whether the client asks for a WebSocket."""
    return (
        request.headers.get("Upgrade", "").lower() == "websocket"
        and "Sec-WebSocket-Key" in request.headers
    )


def read_request(connection: Connection) -> Request | None:
    """Return the next request of a connection, or None when the client has left.

    Clients wait for the answer before they go on, so nothing is read ahead.
    """
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv()
        if not data:
            return None
        head += data
        if len(head) > _LONGEST_HEAD:
            raise BadRequest("the request's head does not end")
    head, _, body = head.partition(b"\r\n\r\n")
    request = _parse(head.decode("latin-1"))
    _skip_body(connection, request, len(body))
    return request


def _parse(head: str) -> Request:
    request_line, _, headers = head.partition("\r\n")
    words = request_line.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest(f"not a request of HTTP/1.1: {request_line[:80]!r}")
    target = urlsplit(words[1])
    query = parse_qs(target.query, keep_blank_values=True)
    return Request(words[0], unquote(target.path), query, Parser().parsestr(headers))


def _skip_body(connection: Connection, request: Request, read: int) -> None:
    missing = int(request.headers.get("Content-Length", "0")) - read
    while missing > 0 and (data := connection.recv()):
        missing -= len(data)
