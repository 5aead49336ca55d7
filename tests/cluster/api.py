"""The few requests that the launcher makes to the API server and the kubelet; kubectl is not used.

Any thread may call; each request has a connection of its own, and no proxy is asked.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any

from .configuration import Settings
from .layout import STATE, ClusterError

TIMEOUT = 10.0
"""Seconds for one request."""


class ApiError(ClusterError):
    """The request had no success.

    :param status: the HTTP status, or 0 where there was no answer.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}: {text}" if status else f"no answer: {text}")
        self.status = status


def request(method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Make a request to the API server as admin and return the answer's document.

    :raises ApiError: no answer, or one that is not a 2xx.
    """
    settings = Settings.load()
    context = ssl.create_default_context(cafile=str(STATE / "etc/ca.crt"))
    headers = {"Authorization": f"Bearer {settings.tokens['admin']}"}
    answer = _send("api-server", context, method, path, headers, body)
    document: dict[str, Any] = json.loads(answer)
    return document


def ready(server: str) -> bool:
    """Return whether an API server says that it is ready."""
    context = ssl.create_default_context(cafile=str(STATE / "etc/ca.crt"))
    try:
        return _send(server, context, "GET", "/readyz") == b"ok"
    except ApiError:
        return False


def kubelet_pods() -> set[str]:
    """Return the names of the Pods that the kubelet knows of.

    Its certificate is one that it made itself: this connection is not for secrets.

    :raises ApiError: no answer, or one that is not a 2xx.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    items = json.loads(_send("kubelet", context, "GET", "/pods"))["items"] or []
    return {item["metadata"]["name"] for item in items}


def _send(
    server: str,
    context: ssl.SSLContext,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
) -> bytes:
    port = Settings.load().ports[server]
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT, context=context)
    try:
        content = None if body is None else json.dumps(body)
        types = {"Content-Type": "application/json", "Accept": "application/json"}
        connection.request(method, path, content, {**types, **(headers or {})})
        answer = connection.getresponse()
        data = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise ApiError(0, f"{server}: {error}") from error
    finally:
        connection.close()
    if answer.status // 100 != 2:
        raise ApiError(answer.status, data.decode(errors="replace")[:500])
    return data
