"""No secret of a kubeconfig is ever shown: not at -v=9, not when everything else goes wrong."""

from __future__ import annotations

import base64
import copy
import json
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml  # type: ignore[import-untyped]

from tests.end_to_end.conftest import ClusterUnderTest, Copied
from tests.end_to_end.pods import TestPod
from tests.loopback.kubeconfig import Authority

PASSWORD = "pa55-Qx7-word"
ENVIRONMENT = "env-s3cr3t-4f1d"
JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzM2NyM3QifQ.c2lnbmF0dXJl"
WRONG = "wr0ng-t0ken-9c2e"
SECRETS = (PASSWORD, ENVIRONMENT, JWT, WRONG)

HIDDEN = ("token", "password", "client-key-data", "client-certificate-data")
"""The fields of a user that hold what must not be shown."""

Change = Callable[[dict[str, Any], dict[str, Any], Path], None]


class Kubeconfig:
    """The kubeconfig of a context of the cluster under test, to be changed."""

    def __init__(self, path: Path, context: str) -> None:
        document = yaml.safe_load(path.read_text("utf-8"))
        named = {each["name"]: each["context"] for each in document["contexts"]}
        if context not in named:
            pytest.skip(f"this cluster has no context {context}")
        self.context = copy.deepcopy(named[context])
        self.cluster = _named(document, "cluster", self.context["cluster"])
        self.user = _named(document, "user", self.context["user"])
        self.given = dict(self.user)

    def write(self, folder: Path) -> Path:
        """Write it, with nothing in it but that context; it is called podcp-v5."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "podcp-v5",
            "clusters": [{"name": self.context["cluster"], "cluster": self.cluster}],
            "users": [{"name": self.context["user"], "user": self.user}],
            "contexts": [{"name": "podcp-v5", "context": self.context}],
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(document))
        path.chmod(0o600)
        return path

    def secrets(self) -> set[str]:
        """Return what must not be shown: as it stands there, and as it travels."""
        found = {*SECRETS, basic(f"jane:{PASSWORD}")}
        for user in (self.given, self.user):
            found |= {str(user[name]) for name in HIDDEN if user.get(name)}
            key = base64.b64decode(user.get("client-key-data", "")).decode()
            found |= {line for line in key.splitlines() if line and line[0] != "-"}
        return found


def _named(document: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    entries = document[f"{kind}s"]
    return copy.deepcopy(next(each[kind] for each in entries if each["name"] == name))


def basic(pair: str) -> str:
    """Return a pair as it stands in a header (RFC 7617)."""
    return base64.b64encode(pair.encode()).decode()


@pytest.fixture
def destination(cluster: ClusterUnderTest) -> TestPod:
    """A destination, and a small file to be copied to it."""
    pod = cluster.pod("gnu-1")
    pod.fresh("/srv")
    cluster.pod("gnu-0").fresh("/data")
    cluster.pod("gnu-0").sh("echo the contents of a file >/data/file")
    return pod


def copied(cluster: ClusterUnderTest, given: Kubeconfig, folder: Path) -> Copied:
    """Copy, and log all there is to log; check that it holds no secret."""
    changed = ClusterUnderTest(given.write(folder), cluster.is_real, command=cluster.command)
    done = changed.copy("v5", "-v=9", "-c", "main", "gnu-0:/data/file", "gnu-1:/srv")
    for text in (done.stdout, done.stderr):
        assert [secret for secret in given.secrets() if secret in text] == []
    assert "the contents of a file" not in done.stderr
    return done


@pytest.mark.usefixtures("destination")
def test_a_good_copy(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """All levels are there, and what they show is not secret."""
    done = copied(cluster, Kubeconfig(cluster.kubeconfig, "podcp-v5"), tmp_path).complete()
    for part in (
        "container main",
        "over v4.channel.k8s.io",
        "tar xpf -",
        "101 Switching Protocols (",
        "User-Agent: kubectl-podcp",
        "< stdout [",
        "< status {",
        "= closed by us",
    ):
        assert part in done.stderr


def wrong_token(_cluster: dict[str, Any], user: dict[str, Any], _folder: Path) -> None:
    user.clear()
    user["token"] = WRONG


def wrong_password(_cluster: dict[str, Any], user: dict[str, Any], _folder: Path) -> None:
    user.clear()
    user |= {"username": "jane", "password": PASSWORD}


def unknown_authority(cluster: dict[str, Any], _user: dict[str, Any], _folder: Path) -> None:
    cluster.pop("certificate-authority-data")


def proxy_that_is_none(cluster: dict[str, Any], _user: dict[str, Any], _folder: Path) -> None:
    """At the other end of the proxy's address, the API server, which speaks TLS."""
    url = urlsplit(cluster["server"])
    cluster["proxy-url"] = f"http://jane:{PASSWORD}@{url.hostname}:{url.port}"


def no_proxy_url(cluster: dict[str, Any], _user: dict[str, Any], _folder: Path) -> None:
    cluster["proxy-url"] = f"socks5://jane:{PASSWORD}@127.0.0.1:1"


def failing_plugin(_cluster: dict[str, Any], user: dict[str, Any], folder: Path) -> None:
    """A credential plugin that prints a token, and others into its complaint, and fails."""
    user |= plugin(folder, {"token": WRONG})
    with (folder / "plugin").open("a") as script:
        script.write(f'echo "$CLIENT_SECRET: {WRONG} and {JWT} are denied" >&2\nexit 1\n')


def empty_plugin(_cluster: dict[str, Any], user: dict[str, Any], folder: Path) -> None:
    """A credential plugin whose answer has the token in the wrong place."""
    user |= plugin(folder, {"tokens": [WRONG]})


def plugin(folder: Path, status: dict[str, Any]) -> dict[str, Any]:
    """Return, to be put into a user's entry, a credential plugin that hands ``status`` out."""
    version = "client.authentication.k8s.io/v1"
    answer = {"apiVersion": version, "kind": "ExecCredential", "status": status}
    (folder / "answer").write_text(json.dumps(answer))
    script = folder / "plugin"
    script.write_text(f"#!/bin/sh\ncat {folder}/answer\n")
    script.chmod(0o755)
    return {
        "token": "",
        "exec": {
            "apiVersion": version,
            "command": "./plugin",
            "args": [f"--password={PASSWORD}"],
            "env": [{"name": "CLIENT_SECRET", "value": ENVIRONMENT}],
        },
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (wrong_token, "does not accept our credentials"),
        (wrong_password, "does not accept our credentials"),
        (unknown_authority, "certificate"),
        (proxy_that_is_none, "the proxy"),
        (no_proxy_url, "socks5"),
        (failing_plugin, "failed with exit status 1: ...: ... and ... are denied"),
        (empty_plugin, "neither token nor certificate"),
    ],
    ids=lambda it: it.__name__ if callable(it) else "",
)
def test_a_copy_without_access(
    cluster: ClusterUnderTest, destination: TestPod, change: Change, words: str, tmp_path: Path
) -> None:
    given = Kubeconfig(cluster.kubeconfig, "podcp-v5")
    if "client-key-data" in given.user and change in (failing_plugin, empty_plugin):
        del given.user["client-key-data"], given.user["client-certificate-data"]
    if cluster.is_real and change is wrong_password:
        words = "Copying needs the verb get"  # passwords are unknown there: we are anonymous
    change(given.cluster, given.user, tmp_path)
    copied(cluster, given, tmp_path).failed(4, words)
    assert destination.names("/srv") == []


def test_a_copy_that_is_forbidden(
    cluster: ClusterUnderTest, destination: TestPod, tmp_path: Path
) -> None:
    given = Kubeconfig(cluster.kubeconfig, "podcp-viewer-v5")
    done = copied(cluster, given, tmp_path).failed(4, "forbids exec")
    assert "403 Forbidden (" in done.stderr
    assert destination.names("/srv") == []


@pytest.mark.usefixtures("destination")
def test_a_plugin_that_answers(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    given = Kubeconfig(cluster.kubeconfig, "podcp-v5")
    if "token" not in given.user:
        pytest.skip("this cluster's users have no token that a plugin could hand out")
    given.user |= plugin(tmp_path, {"token": given.given["token"]})
    done = copied(cluster, given, tmp_path).complete()
    assert 'the credential plugin "./plugin" ended with 0' in done.stderr


class Proxy(socketserver.ThreadingTCPServer):
    """An HTTP proxy that connects, or answers otherwise.

    :ivar answer: what it answers; by default it connects.
    :ivar asked: the heads of the requests that it got.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Connect)
        self.answer = b""
        self.asked: list[str] = []


class Connect(socketserver.StreamRequestHandler):
    """One request of a proxy."""

    server: Proxy

    def handle(self) -> None:
        """Answer it."""
        lines = [self.rfile.readline()]
        while lines[-1] not in (b"\r\n", b""):
            lines.append(self.rfile.readline())
        self.server.asked.append(b"".join(lines).decode())
        if self.server.answer:
            self.wfile.write(self.server.answer)
            return
        host, port = lines[0].split()[1].decode().rsplit(":", 1)
        with socket.create_connection((host, int(port))) as there:
            self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=carry, args=(there, self.connection), daemon=True)
            back.start()
            carry(self.connection, there)
            back.join()


def carry(source: socket.socket, sink: socket.socket) -> None:
    """Carry all that comes, and its end."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def proxying() -> Iterator[Proxy]:
    """Run a proxy until the block is left."""
    with Proxy() as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (b"", 0, ""),
        (b"HTTP/1.1 407 Who are you?\r\n\r\n", 4, "the proxy refused to connect"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 302 Elsewhere\r\n\r\n", 4, "TLS"),
    ],
    ids=["it connects", "it wants another password", "it is no proxy"],
)
@pytest.mark.usefixtures("destination")
def test_a_proxy_with_a_password(
    cluster: ClusterUnderTest, answer: bytes, code: int, words: str, tmp_path: Path
) -> None:
    given = Kubeconfig(cluster.kubeconfig, "podcp-v5")
    with proxying() as proxy:
        proxy.answer = answer
        host, port = proxy.server_address[:2]
        given.cluster["proxy-url"] = f"http://jane:{PASSWORD}@{host!s}:{port}"
        done = copied(cluster, given, tmp_path)
    assert f"Proxy-Authorization: Basic {basic(f'jane:{PASSWORD}')}" in proxy.asked[0]
    assert "Proxy-Authorization: Basic <masked>" in done.stderr
    if code:
        done.failed(code, words)
    else:
        done.complete()


@pytest.mark.parametrize("what", ["redirects", "repeats"])
def test_a_server_that_sends_us_elsewhere_or_repeats_what_it_got(
    cluster: ClusterUnderTest, what: str, tmp_path: Path
) -> None:
    """The token goes to it: it is the server in the kubeconfig. It does not come back from it."""
    answering = Answering(redirects=what == "redirects")
    with answering.running() as port:
        given = Kubeconfig(cluster.kubeconfig, "podcp-v5")
        given.user.clear()
        given.user["token"] = WRONG
        given.cluster["server"] = f"https://127.0.0.1:{port}"
        given.cluster.pop("certificate-authority-data", None)
        given.cluster["insecure-skip-tls-verify"] = True
        done = copied(cluster, given, tmp_path)
    assert answering.asked, "nobody came"
    assert all(WRONG in head for head in answering.asked)
    done.failed(1, "redirect" if what == "redirects" else "...")


class Answering:
    """An HTTPS server that has but one answer.

    :ivar asked: the heads of the requests that it got.
    """

    def __init__(self, *, redirects: bool) -> None:
        self.asked: list[str] = []
        self._redirects = redirects

    @contextmanager
    def running(self) -> Iterator[int]:
        """Answer until the block is left; give the port."""
        context = Authority().server_context()
        listener = socket.create_server(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        with context.wrap_socket(listener, server_side=True) as secured:
            thread = threading.Thread(target=self._serve, args=(secured,))
            thread.start()
            try:
                yield port
            finally:
                secured.shutdown(socket.SHUT_RDWR)
                thread.join()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(1 << 16)
                self.asked.append(head.decode())
                connection.sendall(self._answer(head))

    def _answer(self, head: bytes) -> bytes:
        line = b"302 Found\r\nLocation: /?" + WRONG.encode() if self._redirects else b"500 Oh"
        return b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (line, len(head), head)
