"""An HTTPS server on 127.0.0.1 that answers GET from a table, and kubeconfigs that lead to it."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme


@dataclass
class ApiServer:
    """What the server answers, and what it was asked.

    :ivar answers: path with query, to status and body; anything else is a 404 Status.
    :ivar asked: the requests so far: path with query, and headers.
    """

    port: int
    authority: trustme.CA
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, Message]] = field(default_factory=list)

    def serve(self, path: str, document: Mapping[str, Any], status: int = 200) -> None:
        """Answer ``path`` with a JSON document."""
        self.answers[path] = (status, json.dumps(document).encode())

    def kubeconfig(self, folder: Path, **user: str) -> str:
        """Write a kubeconfig for this server and return its path."""
        authority = folder / "ca.pem"
        authority.write_bytes(self.authority.cert_pem.bytes())
        return write(
            folder / "kubeconfig",
            config(
                {"server": f"https://127.0.0.1:{self.port}", "certificate-authority": "ca.pem"},
                user or {"token": "let-me-in"},
                namespace="shop",
            ),
        )


def status(code: int, reason: str, message: str) -> dict[str, Any]:
    """Return a ``metav1.Status`` of a failure."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "message": message,
        "code": code,
    }


def config(
    cluster: Mapping[str, Any], user: Mapping[str, Any] | None = None, **context: str
) -> dict[str, Any]:
    """Return a kubeconfig of one context, ``here``."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": dict(cluster)}],
        "users": [{"name": "u", "user": dict(user or {})}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", **context}}],
    }


def write(path: Path, document: Any) -> str:
    """Write a document as JSON, which is YAML, and return the path."""
    path.write_text(json.dumps(document, indent=1))
    return str(path)


@contextmanager
def running(*, client_authority: trustme.CA | None = None) -> Iterator[ApiServer]:
    """Run a server until the block is left; with ``client_authority`` it demands a certificate."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "api.test").configure_cert(context)
    if client_authority is not None:
        client_authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    server = _Server(("127.0.0.1", 0), _Handler)
    server.state = ApiServer(server.server_port, authority)
    server.tls = context
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    state: ApiServer
    tls: ssl.SSLContext
    daemon_threads = True

    def finish_request(self, request: Any, client_address: Any) -> None:
        # In the request's own thread, so that a client that says nothing blocks nobody.
        spare = request.dup()
        try:
            secured = self.tls.wrap_socket(request, server_side=True)
        except OSError:
            _leave_in_peace(spare)
            return
        finally:
            spare.close()
        with secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that leave early are part of the tests."""


def _leave_in_peace(sock: socket.socket) -> None:
    """Read what the client still sends: closing before would reset the connection and the alert."""
    with suppress(OSError):
        sock.settimeout(5)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(4096):
            pass


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        state = self.server.state
        state.asked.append((self.path, self.headers))
        missing = json.dumps(status(404, "NotFound", "not found")).encode()
        code, body = state.answers.get(self.path, (404, missing))
        self.send_response(code)
        if 300 <= code < 400:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep the tests' output to the tests."""
