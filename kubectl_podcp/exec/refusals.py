"""What a refusal means: an HTTP answer, or a status on channel 3, as an error of ours.

In: the answer's status code and body, or a :class:`~kubectl_podcp.exec.channels.Status`, and
what was asked for in the user's words. Out: a :class:`~kubectl_podcp.errors.PodcpError` to raise;
nothing is raised here. No I/O; any thread.

Bodies seen: a ``metav1.Status`` in JSON (the API server), plain text (the kubelet, passed through),
HTML (a proxy on the way), nothing at all (no common subprotocol).
"""

from __future__ import annotations

import json
import re

from kubectl_podcp.errors import (
    ContainerNotFound,
    ExecFailed,
    Forbidden,
    PodcpError,
    PodNotFound,
    PodNotRunning,
    ProtocolRefused,
    ServerError,
    ServerUnavailable,
    Unauthorized,
)
from kubectl_podcp.exec.channels import Status

_QUOTED = 300
"""How many characters of an answer that is not a Status are quoted."""

_TOO_MANY_REQUESTS = 429
"""From an API server that is busy, or has just begun; it passes."""

_NO_SUCH_CONTAINER = re.compile(r"container \S+ is not valid for pod|container name must be spec")
_NOT_RUNNING = re.compile(
    r"container not found|does not have a host assigned|is not running|in a completed pod|"
    r"pod does not exist|container .* (is )?terminated"
)
_NOT_STARTED = re.compile(r"executable file not found|no such file or directory|permission denied")


def refusal(status: int, body: bytes, what: str) -> PodcpError:
    """Return the error for an HTTP answer that is not the one hoped for.

    :param status: the HTTP status code, not 101 and not 200.
    :param body: the body, as far as it could be read.
    :param what: what was asked for, to stand after "the API server refused": ``exec in
        default/web (container app)``.
    """
    document = _status_document(body)
    message = _message(document, body)
    said = f": {message}" if message else ""
    if status == 401:
        return Unauthorized(
            f"the API server does not accept our credentials for {what}{said}",
            advice="Log in again, or check the user in the kubeconfig: kubectl auth whoami.",
        )
    if status == 403:
        return _forbidden(document, message, what)
    if 300 <= status < 400:
        return ServerError(
            f"the API server answered {what} with a redirect (HTTP {status}){said}",
            advice="It was not followed: the credentials are for the server in the kubeconfig.",
        )
    known = _by_words(status, document, message, what)
    kind = ServerUnavailable if status >= 500 or status == _TOO_MANY_REQUESTS else ServerError
    return known or kind(f"the API server failed {what}: HTTP {status}{said}")


def start_failure(status: Status, what: str) -> PodcpError:
    """Return the error for a command that was accepted (101) and did not start.

    For a status that is neither success nor an exit code of the command: the API server answers
    before it reaches the node, so the node's refusal comes on channel 3.

    :param what: as for :func:`refusal`.
    """
    if _NOT_RUNNING.search(status.message):
        return _not_running(what, status.message)
    if _NOT_STARTED.search(status.message):
        return ExecFailed(
            f"{what} could not be started: {status.message}",
            advice="The container needs a shell (sh) and tar; a distroless image has neither.",
        )
    return ServerUnavailable(
        f"{what} failed: {status.message or status.reason or 'no reason given'}"
    )


def _forbidden(document: dict[str, object] | None, message: str, what: str) -> PodcpError:
    if document is not None:
        return Forbidden(
            f"the API server forbids {what}: {message or 'no reason given'}",
            advice="Copying needs the verb get on pods and the verbs get and create on pods/exec.",
        )
    if message:
        return Forbidden(
            f"HTTP 403 for {what}: {message}",
            advice="This is not the API server's form: a proxy on the way may have refused.",
        )
    return ProtocolRefused(
        f"the API server refused {what} with HTTP 403 and no explanation",
        advice="It, or a proxy before it, seems to speak none of the exec protocols offered.",
    )


def _by_words(
    status: int, document: dict[str, object] | None, message: str, what: str
) -> PodcpError | None:
    """Return the error that the message names; the status code alone says too little."""
    if _NO_SUCH_CONTAINER.search(message):
        return ContainerNotFound(
            message, advice="Name one of the Pod's containers: kubectl get pod NAME -o yaml."
        )
    if _NOT_RUNNING.search(message):
        return _not_running(what, message)
    if status == 404 and document is not None:
        return PodNotFound(message, advice="Check the Pod's name, the namespace and the context.")
    return None


def _not_running(what: str, message: str) -> PodNotRunning:
    return PodNotRunning(
        f"no {what}: {message}",
        advice="Nothing can be run there now; see kubectl get pod.",
    )


def _status_document(body: bytes) -> dict[str, object] | None:
    """Return the ``metav1.Status`` that ``body`` is, or ``None``."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(document, dict) and document.get("kind") == "Status":
        return document
    return None


def _message(document: dict[str, object] | None, body: bytes) -> str:
    """Return the server's words: the Status's message, else the body's beginning."""
    message = document.get("message") if document else None
    if isinstance(message, str):
        return message
    text = body.decode("utf-8", "backslashreplace").strip()
    return text if len(text) <= _QUOTED else text[:_QUOTED] + "…"
