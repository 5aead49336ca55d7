"""What the API server's refusals become; bodies as real clusters sent them."""

from __future__ import annotations

import json

import pytest

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
from kubectl_podcp.exec.channels import INTERNAL_ERROR, Status
from kubectl_podcp.exec.refusals import refusal, start_failure

WHAT = "exec in default/web (container app)"


def document(message: object, kind: str = "Status") -> bytes:
    return json.dumps({"kind": kind, "status": "Failure", "message": message}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (401, document("Unauthorized"), Unauthorized, "Unauthorized"),
        (401, b"", Unauthorized, WHAT),
        (403, document('pods "web" is forbidden: no'), Forbidden, 'pods "web" is forbidden: no'),
        (403, document(None), Forbidden, '"message": null'),
        (403, document(""), Forbidden, "no reason given"),
        (403, b"", ProtocolRefused, WHAT),
        (403, b" \r\n", ProtocolRefused, WHAT),
        (403, b"<html>blocked</html>", Forbidden, "<html>blocked</html>"),
        (404, document('pods "x" not found'), PodNotFound, 'pods "x" not found'),
        (404, b"404 page not found\n", ServerError, "HTTP 404: 404 page not found"),
        (400, document("container zz is not valid for pod x"), ContainerNotFound, "container zz"),
        (
            400,
            document("a container name must be specified for pod x, choose one of: [a b]"),
            ContainerNotFound,
            "[a b]",
        ),
        (400, document("pod x does not have a host assigned"), PodNotRunning, "host assigned"),
        (500, b'container not found ("c")\n', PodNotRunning, 'container not found ("c")'),
        (500, document('unable to upgrade: container not found ("c")'), PodNotRunning, WHAT),
        (302, b"to https://elsewhere/", ServerError, "redirect (HTTP 302): to https://elsewhere/"),
        (502, b"Bad Gateway", ServerUnavailable, "HTTP 502: Bad Gateway"),
        (500, b"", ServerUnavailable, "HTTP 500"),
        (429, document("too many requests"), ServerUnavailable, "HTTP 429: too many requests"),
        (500, b"\xff\xfe", ServerUnavailable, "\\xff\\xfe"),
        (500, document("odd", kind="Pod"), ServerUnavailable, '"kind": "Pod"'),
        (500, b"[" * 100_000, ServerUnavailable, "[[["),
    ],
)
def test_refusal(status: int, body: bytes, kind: type[PodcpError], said: str) -> None:
    """Exactly the error that names the case, with the server's words."""
    error = refusal(status, body, WHAT)
    assert type(error) is kind
    assert said in error.happened
    assert len(error.happened) < 500


@pytest.mark.parametrize("error", [refusal(s, b"x", WHAT) for s in (301, 401, 403)])
def test_advice(error: PodcpError) -> None:
    """Where the user can do something, it says what."""
    assert error.advice.endswith(".")


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ('exec: "sh": executable file not found in $PATH: unknown', ExecFailed),
        ('exec: "/bin/sh": stat /bin/sh: no such file or directory', ExecFailed),
        ('exec: "/x": permission denied', ExecFailed),
        ('unable to upgrade connection: container not found ("c")', PodNotRunning),
        ("error dialing backend: EOF", ServerUnavailable),
        ("", ServerUnavailable),
    ],
)
def test_start_failure(message: str, kind: type[PodcpError]) -> None:
    """The node's refusal comes on channel 3, after the 101."""
    error = start_failure(Status(False, INTERNAL_ERROR, message, None), WHAT)
    assert type(error) is kind
    assert (message or INTERNAL_ERROR) in error.happened
