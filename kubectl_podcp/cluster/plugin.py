"""Exec credential plugins: run the user's program, read its ExecCredential.

In: the user's entry with an ``exec`` section, the cluster's entry. Out: a :class:`Response`.
Raises :class:`~kubectl_podcp.errors.KubeconfigError` whatever the plugin did wrong: there is
no request without the credential that the kubeconfig asks for.

The program runs until it ends: it may wait for a login in a browser. Ctrl-C ends it too, for it
runs in our process group, and whatever interrupts us kills it.

Source: client-go ``plugin/pkg/client/auth/exec/exec.go``. The ``kubernetes`` package has a
runner of its own, which is not used: it hands our stdin to the plugin, which would eat what is
being copied from there, runs it in another folder, and loses the reason of a failure on a
terminal.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import selectors
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

from kubectl_podcp.cluster.credentials import parse_time
from kubectl_podcp.cluster.entries import Entry
from kubectl_podcp.errors import KubeconfigError
from kubectl_podcp.logs import REQUESTS

log = logging.getLogger(__name__)

API_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_EXTENSION = "client.authentication.k8s.io/exec"
_MAX_OUTPUT = 4 << 20
"""Bytes of stdout that are read at most: tokens and certificates are far smaller."""

_SECRET = 8
"""Bytes that a secret has at least: what is shorter is struck out of nothing."""
_WORD = re.compile(rb'[^\s"]+')
_JWT = rb"\beyJ[\w-]+\.[\w-]+\.[\w-]*"  # RFC 7519: a header, which begins with {", in base64url


@dataclass(frozen=True, slots=True)
class Response:
    """What a plugin answered: a token, a certificate with its key (PEM), or all of them.

    :param expires: seconds since the epoch, or ``None`` for never.
    """

    token: str = field(repr=False)
    certificate: bytes = field(repr=False)
    key: bytes = field(repr=False)
    expires: float | None


def run(user: Entry, cluster: Entry) -> Response:
    """Run the plugin in ``user``'s ``exec`` section and return its answer.

    :raises KubeconfigError: it cannot be started, fails, or answers with no credential.
    """
    plugin = user.section("exec")
    version = plugin.text("apiVersion")
    if version not in API_VERSIONS:
        raise plugin.error(
            f'the credential plugin\'s apiVersion "{version}" is not supported',
            advice=f"Supported are {' and '.join(API_VERSIONS)}.",
        )
    interactive = _interactive(plugin)
    document = _request(plugin, cluster, version, interactive)
    environment = {
        **os.environ,
        **_environment(plugin),
        # As text: YAML's dates, which JSON does not have.
        "KUBERNETES_EXEC_INFO": json.dumps(document, default=str),
    }
    return _parse(_output(plugin, environment, interactive), version, plugin)


def _interactive(plugin: Entry) -> bool:
    """Whether the plugin gets our stdin: only a terminal, never data that is being copied."""
    mode = plugin.text("interactiveMode") or "IfAvailable"
    terminal = sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()
    if mode == "Always" and not terminal:
        raise plugin.error(
            "the credential plugin wants to ask questions, and standard input is no terminal",
            advice="Log in beforehand, or run this on a terminal.",
        )
    return terminal and mode != "Never"


def _request(plugin: Entry, cluster: Entry, version: str, interactive: bool) -> dict[str, Any]:
    spec: dict[str, Any] = {"interactive": interactive}
    if plugin.flag("provideClusterInfo"):
        spec["cluster"] = _cluster_info(cluster)
    return {"apiVersion": version, "kind": "ExecCredential", "spec": spec}


def _cluster_info(cluster: Entry) -> dict[str, Any]:
    """Return the cluster as ``pkg/apis/clientauthentication/v1/types.go`` writes it."""
    copied = ("server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url")
    info = {key: cluster.values[key] for key in copied if cluster.has(key)}
    authority = cluster.contents("certificate-authority")
    if authority is not None:
        info["certificate-authority-data"] = base64.b64encode(authority).decode("ascii")
    extensions = cluster.values.get("extensions") or []
    try:
        named = {each.get("name"): each.get("extension") for each in extensions}
    except (TypeError, AttributeError) as cause:
        raise cluster.error("extensions should list names and what they are") from cause
    if _EXTENSION in named:
        info["config"] = named[_EXTENSION]
    return info


def _environment(plugin: Entry) -> dict[str, str]:
    pairs = plugin.values.get("env") or []
    try:
        return {str(pair["name"]): _text(pair.get("value")) for pair in pairs}
    except (KeyError, TypeError, AttributeError) as cause:
        raise plugin.error("the credential plugin's env should list names and values") from cause


def _text(value: object) -> str:
    return "" if value is None else str(value)  # as Go leaves a field that is not there


def _executable(plugin: Entry) -> str:
    """Return the program's path: on PATH, or relative to the kubeconfig if it has a slash."""
    command = plugin.text("command")
    if not command:
        raise plugin.error("the credential plugin has no command")
    if "/" in command:
        return str(plugin.origin.parent / command)
    found = shutil.which(command)
    if found is None:
        raise plugin.error(
            f'the credential plugin "{command}" is not installed',
            advice=plugin.text("installHint").strip() or f"Install {command}, or add it to PATH.",
        )
    return found


def _output(plugin: Entry, environment: Mapping[str, str], interactive: bool) -> bytes:
    """Run the program; return its stdout, show its stderr."""
    command = plugin.text("command")
    arguments = [_executable(plugin), *plugin.texts("args")]
    try:
        process = subprocess.Popen(
            arguments,
            env=environment,
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
    except (OSError, ValueError) as cause:
        reason = getattr(cause, "strerror", None) or cause
        raise plugin.error(
            f'the credential plugin "{command}" cannot be started: {reason}',
            advice=plugin.text("installHint").strip() or f"Check that {command} can be run.",
        ) from cause
    complaint = _Complaint(_environment(plugin).values())
    with process:
        try:
            output = _communicate(process, complaint)
            if len(output) > _MAX_OUTPUT:
                raise plugin.error(
                    f'the credential plugin "{command}" writes more than any credential has',
                    advice=_BY_HAND,
                )
            status = process.wait()
        except BaseException:
            process.kill()
            raise
    log.log(REQUESTS, 'the credential plugin "%s" ended with %d', command, status)
    if status:
        raise _failed(plugin, command, status, complaint.end)
    return output


class _Complaint:
    """A plugin's stderr, shown as it comes, for it may hold a prompt; without secrets.

    Struck out are the values of the plugin's ``env``, what it wrote to stdout before, and whatever
    has the form of a JSON web token. So that none is cut in two, a word waits for its end, or for
    a pause.

    :ivar end: the last 4 KiB that were shown.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        self.end = b""
        self._secrets = [secret.encode("utf-8", "replace") for secret in secrets]
        self._held = b""

    def add(self, data: bytes, answer: bytes) -> None:
        """Show ``data``, but for a word that may go on; ``answer`` is what came on stdout."""
        self._held += data
        at = max(self._held.rfind(space) for space in (b" ", b"\n", b"\r", b"\t")) + 1
        whole, rest = self._held[:at], self._held[at:]
        self._held = whole
        self.flush(answer)
        self._held = rest

    def flush(self, answer: bytes) -> None:
        """Show what is held back."""
        words = [*self._secrets, *_WORD.findall(answer)]
        known = [re.escape(word) for word in words if len(word) >= _SECRET]
        data = re.sub(b"|".join([*sorted(known, key=len, reverse=True), _JWT]), b"...", self._held)
        self._held = b""
        self.end = (self.end + data)[-4096:]
        _show(data, sys.stderr)


def _communicate(process: subprocess.Popen[bytes], complaint: _Complaint) -> bytes:
    """Return stdout; hand on stderr."""
    assert process.stdout is not None
    assert process.stderr is not None
    output = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        while selector.get_map() and len(output) <= _MAX_OUTPUT:
            # The timeout is for plugins that leave a daemon behind, which holds the pipes open.
            ready = selector.select(timeout=0.2)
            if not ready:
                complaint.flush(output)
                if process.poll() is not None:
                    break
            for key, _ in ready:
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    output += data
                else:
                    complaint.add(data, output)
    complaint.flush(output)
    return output


def _show(data: bytes, stream: IO[str] | None) -> None:
    with suppress(OSError, ValueError):  # closed, or full: no reason to fail
        if stream is not None:
            stream.write(data.decode("utf-8", "replace"))
            stream.flush()


_BY_HAND = "Log in again, or run the plugin by hand to see more."


def _failed(plugin: Entry, command: str, status: int, complaint: bytes) -> KubeconfigError:
    lines = [line.strip() for line in complaint.decode("utf-8", "surrogateescape").splitlines()]
    said = [line for line in lines if line]
    how = f"exit status {status}" if status > 0 else f"signal {-status}"
    happened = f'the credential plugin "{command}" failed with {how}'
    return plugin.error(
        f"{happened}: {said[-1]}" if said else happened,
        advice=_BY_HAND,
    )


def _parse(output: bytes, version: str, plugin: Entry) -> Response:
    """Read the ExecCredential; no error quotes it, for it is secret."""
    try:
        document = json.loads(output)
        status = document["status"]
        if document["apiVersion"] != version or document["kind"] != "ExecCredential":
            raise plugin.error(
                f"the credential plugin's answer is no ExecCredential of {version}",
                advice="Its apiVersion in the kubeconfig and the plugin's own have to agree.",
            )
        expires = status.get("expirationTimestamp")
        response = Response(
            token=status.get("token") or "",
            certificate=(status.get("clientCertificateData") or "").encode(),
            key=(status.get("clientKeyData") or "").encode(),
            expires=parse_time(expires) if expires else None,
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        # "from None": the cause would quote the answer.
        happened = "the credential plugin's answer is no ExecCredential"
        raise plugin.error(happened, advice=_BY_HAND) from None
    if bool(response.certificate) != bool(response.key):
        happened = "the credential plugin answered with half of a certificate and its key"
        raise plugin.error(happened, advice=_BY_HAND)
    if not (response.token or response.certificate):
        happened = "the credential plugin answered with neither token nor certificate"
        raise plugin.error(happened, advice=_BY_HAND)
    return response
