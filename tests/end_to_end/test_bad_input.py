"""Bad input: a clear error at once, with the right exit code, and nothing done anywhere.

Where it can be known without looking into a container, no session is opened; and no session that
copies, where looking was enough. Only the embedded cluster can be asked for that. All happens
below /bad, where no other test looks.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml  # type: ignore[import-untyped]

from tests.end_to_end import trees
from tests.end_to_end.conftest import ClusterUnderTest, Copied
from tests.end_to_end.pods import TestPod
from tests.end_to_end.watch import watching
from tests.loopback.server import Server

PROMPT = 10.0
"""Seconds within which an error must be said, where the fault is not that something is slow."""

STARTING = 3.0
"""Seconds that a busy machine may take to start the program."""


@dataclass(frozen=True)
class Client:
    """Runs copies that must be refused."""

    cluster: ClusterUnderTest

    def refused(self, code: int, *words: str, of: tuple[str, ...], server: str = "v5") -> Copied:
        """Check that a copy is refused, and that no session was opened for that.

        :param of: the arguments of the copy.
        :param server: the context's name without what all names begin with.
        """
        return self._run(code, words, of, server, looks=False)

    def refused_at_a_look(
        self, code: int, *words: str, of: tuple[str, ...], server: str = "v5"
    ) -> Copied:
        """Check that a copy is refused, and that no session was opened that copies."""
        return self._run(code, words, of, server, looks=True)

    def using(self, kubeconfig: Path) -> Client:
        """Return a client that reads another kubeconfig."""
        return Client(replace(self.cluster, kubeconfig=kubeconfig))

    def _run(
        self, code: int, words: tuple[str, ...], of: tuple[str, ...], server: str, *, looks: bool
    ) -> Copied:
        with watching(self.cluster.server) as watch:
            done = self.cluster.copy(server, *of, timeout=60).failed(code, *words)
        assert watch.copies == []
        assert looks or watch.commands == []
        assert done.stdout == ""
        return done


@pytest.fixture
def client(cluster: ClusterUnderTest) -> Client:
    """A client of the cluster under test."""
    return Client(cluster)


@pytest.fixture(scope="module")
def source(cluster: ClusterUnderTest) -> TestPod:
    """A Pod with a small tree and a file in /bad/data."""
    pod = cluster.pod("gnu-0")
    pod.fresh("/bad/data", "/bad/srv")
    pod.sh("mkdir -p /bad/data/tree/sub; echo one >/bad/data/tree/one; echo text >/bad/data/file")
    return pod


@pytest.fixture
def destination(cluster: ClusterUnderTest) -> Iterator[TestPod]:
    """A Pod with something old in /bad/srv, which must still be there when the test is over."""
    pod = cluster.pod("gnu-1")
    pod.fresh("/bad/srv")
    pod.sh("cd /bad/srv; mkdir -p directory/file tree-file; echo old >old; echo old >tree")
    before = trees.look(pod, "/bad", "srv")
    yield pod
    assert trees.look(pod, "/bad", "srv") == before


GOOD = ("gnu-0:/bad/data/file", "gnu-1:/bad/srv")


# --- the command line ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(("/data", "/srv"), ("neither /data nor /srv is in a Pod",), id="no colon"),
        pytest.param(("gnu-0:/bad/data",), ("DESTINATION", "--help"), id="one side missing"),
        pytest.param((), ("SOURCE", "DESTINATION", "--help"), id="both sides missing"),
        pytest.param(("gnu-0:", "gnu-1:/bad/srv"), ("'gnu-0:'", "empty path"), id="empty path"),
        pytest.param(("gnu-0:/bad/data", "gnu-1:"), ("'gnu-1:'", "empty path"), id="empty target"),
        pytest.param(("", "gnu-1:/bad/srv"), ("empty path",), id="empty word"),
        pytest.param(
            (":/bad/data", "gnu-1:/bad/srv"), ("':/bad/data'", "[namespace/]pod:"), id="no Pod"
        ),
        pytest.param(("a/b/c:/d", "gnu-1:/bad/srv"), ("'a/b/c:/d'",), id="two slashes"),
        pytest.param(("--nonsense", *GOOD), ("--nonsense", "--help"), id="an unknown option"),
        pytest.param(("-r", *GOOD), ("-r", "leave out -r"), id="an option of cp"),
        pytest.param(
            ("gnu-0", "/srv"), ("if gnu-0 is a Pod, write gnu-0:/path",), id="a forgotten colon"
        ),
    ],
)
def test_a_malformed_command_line(
    client: Client, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    client.refused(2, *words, of=arguments)


# --- Pods and containers -------------------------------------------------------------------


@pytest.mark.parametrize("at_the_source", [True, False], ids=["source", "destination"])
def test_a_pod_that_does_not_exist(client: Client, source: TestPod, at_the_source: bool) -> None:
    missing, there = "nobody-9:/bad/data/file", GOOD[0 if not at_the_source else 1]
    of = (missing, there) if at_the_source else (there, missing)
    client.refused(1, 'no Pod "nobody-9"', f'"{source.namespace}"', "kubectl get pods", of=of)


def test_a_namespace_that_does_not_exist(client: Client) -> None:
    client.refused(1, 'no namespace "nowhere"', of=("nowhere/gnu-0:/bad/data/file", GOOD[1]))
    client.refused(1, 'no namespace "nowhere"', of=("-n", "nowhere", *GOOD))


def test_a_pod_that_has_ended(client: Client, version: str) -> None:
    words = ('"done-0"', "completed", "Succeeded")
    client.refused(1, *words, of=("done-0:/bad/data/file", GOOD[1]), server=version)
    client.refused(1, *words, of=(GOOD[0], "done-0:/bad/srv"), server=version)


def test_a_pod_that_has_not_begun(client: Client, version: str, server: Server) -> None:
    assert server.pod("pending-0").phase == "Pending"
    words = ('"pending-0"', "not running", "Pending", "ContainerCreating")
    client.refused(1, *words, of=("pending-0:/bad/data/file", GOOD[1]), server=version)


def test_a_container_that_does_not_exist(client: Client) -> None:
    words = ('Pod "gnu-0" has no container "third"', "main, side")
    client.refused(1, *words, of=("-c", "third", "gnu-0:/bad/data/file", "gnu-0:/bad/srv"))


def test_a_container_that_only_one_of_the_pods_has(client: Client) -> None:
    client.refused(1, 'Pod "gnu-1" has no container "side"', "main", of=("-c", "side", *GOOD))


@pytest.mark.usefixtures("source")
def test_the_default_container_is_said(cluster: ClusterUnderTest, version: str) -> None:
    cluster.pod("busybox-1").fresh("/bad/srv")
    done = cluster.copy(version, "gnu-0:/bad/data/file", "busybox-1:/bad/srv/").complete()
    assert done.stderr.splitlines()[0] == 'Defaulted container "main" out of: main, side'
    quiet = cluster.copy(version, "-q", "-c", "main", "gnu-0:/bad/data/file", "busybox-1:/bad/srv")
    assert quiet == Copied(0, "", "")


def test_a_container_can_be_chosen(
    cluster: ClusterUnderTest, source: TestPod, version: str
) -> None:
    side = replace(source, container="side")
    side.fresh("/bad/data", "/bad/srv")
    side.sh("echo side >/bad/data/where")
    done = cluster.copy(
        version, "-c", "side", "gnu-0:/bad/data/where", "gnu-0:/bad/srv/here"
    ).complete()
    assert "Defaulted" not in done.stderr
    assert side.sh("cat /bad/srv/here") == b"side\n"
    assert source.names("/bad/srv") == []


# --- paths ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("source", "destination")
def test_a_source_that_does_not_exist(client: Client, version: str) -> None:
    of = ("gnu-0:/bad/data/nothing", "gnu-1:/bad/srv/new")
    client.refused_at_a_look(1, "gnu-0:/bad/data/nothing does not exist", of=of, server=version)
    of = ("gnu-0:/bad/data/file/below", "gnu-1:/bad/srv")
    client.refused_at_a_look(1, "gnu-0:/bad/data/file/below does not exist", of=of, server=version)


@pytest.mark.parametrize(
    ("of", "words"),
    [
        pytest.param(
            ("gnu-0:/bad/data/file", "gnu-1:/bad/srv/no/where/file"),
            ("gnu-1:/bad/srv/no/where/file", "does not exist", "create it first"),
            id="nothing that would hold it",
        ),
        pytest.param(
            ("gnu-0:/bad/data/file", "gnu-1:/bad/srv/old/file"),
            ("gnu-1:/bad/srv/old/file", "does not exist"),
            id="below a file",
        ),
        pytest.param(
            ("gnu-0:/bad/data/file", "gnu-1:/bad/srv/new/"),
            ("gnu-1:/bad/srv/new/", "is not a directory"),
            id="a slash at the end",
        ),
        pytest.param(
            ("gnu-0:/bad/data/tree", "gnu-1:/bad/srv/old"),
            ("directory", "/bad/data/tree", "/bad/srv/old"),
            id="directory over file",
        ),
        pytest.param(
            ("gnu-0:/bad/data/tree", "gnu-1:/bad/srv"),
            ("directory", "/bad/data/tree", "/bad/srv/tree"),
            id="directory over a file inside",
        ),
        pytest.param(
            ("gnu-0:/bad/data/file", "gnu-1:/bad/srv/directory"),
            ("directory", "/bad/data/file", "/bad/srv/directory/file"),
            id="file over directory",
        ),
        pytest.param(
            ("-T", "gnu-0:/bad/data/file", "gnu-1:/bad/srv/directory"),
            ("directory", "/bad/data/file", "/bad/srv/directory"),
            id="file as a directory that is there",
        ),
        pytest.param(
            ("gnu-0:/", "gnu-1:/bad/srv"), ("gnu-0:/", "root of the container"), id="the root"
        ),
        pytest.param(
            ("gnu-0:/etc/..", "gnu-1:/bad/srv"), ("gnu-0:/etc/..", "root"), id="the root, hidden"
        ),
    ],
)
@pytest.mark.usefixtures("source", "destination")
def test_a_target_that_cannot_take_the_source(
    client: Client, of: tuple[str, ...], words: tuple[str, ...]
) -> None:
    client.refused_at_a_look(1, *words, of=of)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/bad/data/tree/sub", "cannot copy /bad/data/tree into itself, /bad/data/tree/sub/tree"),
        ("/bad/data/tree/new", "cannot copy /bad/data/tree into itself, /bad/data/tree/new"),
        ("/bad/data/tree", "cannot copy /bad/data/tree into itself, /bad/data/tree/tree"),
        ("/bad/data", "/bad/data/tree is already there"),
    ],
)
def test_a_copy_into_itself(client: Client, source: TestPod, target: str, words: str) -> None:
    before = trees.look(source, "/bad", "data")
    client.refused_at_a_look(1, words, of=("gnu-0:/bad/data/tree", f"gnu-0:{target}"))
    assert trees.look(source, "/bad", "data") == before


@pytest.mark.usefixtures("source")
def test_a_directory_that_may_not_be_written(client: Client) -> None:
    of = ("gnu-0:/bad/data/file", "user-0:/etc/new")
    client.refused_at_a_look(1, "cannot write to /etc in user-0", of=of)


def test_a_source_that_may_not_be_read_is_no_complete_copy(
    cluster: ClusterUnderTest, version: str
) -> None:
    """Some of it can be read: that is copied, and what is missing is named."""
    user, there = cluster.pod("user-0"), cluster.pod("busybox-1")
    there.fresh("/bad/srv")
    user.fresh("/tmp/partial")
    user.sh("cd /tmp/partial; echo yes >readable; echo no >secret; chmod 0 secret")
    done = cluster.copy(version, "user-0:/tmp/partial", "busybox-1:/bad/srv")
    assert (done.code, done.stdout) == (3, "")
    assert "complete" not in done.stderr
    assert "partial/secret: Cannot open: Permission denied" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("partial: 1 file, ")
    assert there.names("/bad/srv/partial") == ["readable"]


@pytest.mark.parametrize("what", ["secret", "closed"])
def test_a_source_that_may_not_be_read_at_all(
    cluster: ClusterUnderTest, version: str, what: str
) -> None:
    """It is the source's fault, and nothing that the destination has done."""
    user, there = cluster.pod("user-0"), cluster.pod("gnu-1")
    there.fresh("/bad/srv")
    user.fresh("/tmp/partial")
    user.sh("cd /tmp/partial; echo no >secret; mkdir closed; chmod 0 secret closed")
    for target in ("gnu-1:/bad/srv", "-"):
        done = cluster.copy(version, f"user-0:/tmp/partial/{what}", target)
        done.failed(1, f"nothing of user-0:/tmp/partial/{what} could be read")
        done.failed(1, "Permission denied", "see that the user there may read it")
    assert there.names("/bad/srv") == []


@pytest.mark.usefixtures("source")
def test_a_file_with_a_slash_at_its_end(client: Client, tmp_path: Path) -> None:
    """As with GNU cp: it is there, and it is no directory."""
    (tmp_path / "here").touch()
    for path in ("gnu-0:/bad/data/file/", f"{tmp_path}/here/"):
        of = (path, "gnu-1:/tmp")
        client.refused_at_a_look(1, f"{path} is not a directory", "leave the slash out", of=of)


# --- containers that cannot ----------------------------------------------------------------


@pytest.mark.usefixtures("destination")
@pytest.mark.parametrize("pod", ["noshell-0", "notar-0"])
@pytest.mark.parametrize("at_the_source", [True, False], ids=["source", "destination"])
def test_a_container_without_what_a_copy_needs(
    client: Client, version: str, pod: str, at_the_source: bool
) -> None:
    of = (f"{pod}:/etc", "gnu-1:/bad/srv") if at_the_source else ("gnu-1:/bad/srv", f"{pod}:/tmp")
    lacks = "no tar in notar-0" if pod == "notar-0" else "sh"
    client.refused_at_a_look(1, pod, lacks, "sh", "tar", of=of, server=version)


# --- kubeconfig, credentials, rights -------------------------------------------------------


def document(cluster: ClusterUnderTest) -> dict[str, Any]:
    """Return the kubeconfig as a document."""
    loaded: dict[str, Any] = yaml.safe_load(cluster.kubeconfig.read_text())
    return loaded


def changed(cluster: ClusterUnderTest, path: Path, kind: str, **fields: object) -> Path:
    """Write a kubeconfig in which each cluster, or user, has these fields; None removes one."""
    loaded = document(cluster)
    for entry in loaded[f"{kind}s"]:
        entry[kind].update(fields)
        for field in [field for field, value in fields.items() if value is None]:
            del entry[kind][field]
    path.write_text(json.dumps(loaded))
    return path


def hyphenated(**fields: object) -> dict[str, object]:
    """Return fields as a kubeconfig spells them."""
    return {field.replace("_", "-"): value for field, value in fields.items()}


def test_a_kubeconfig_that_does_not_exist(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "missing"
    client.using(path).refused(4, str(path), "No such file", of=GOOD)


def test_a_kubeconfig_that_cannot_be_read(client: Client, tmp_path: Path) -> None:
    loop, closed = tmp_path / "loop", tmp_path / "closed"
    loop.symlink_to(loop)
    closed.write_bytes(client.cluster.kubeconfig.read_bytes())
    closed.chmod(0)
    unreadable = [tmp_path, loop] + ([closed] if os.geteuid() else [])  # root reads all
    for path in unreadable:
        client.using(path).refused(4, str(path), of=GOOD)


@pytest.mark.parametrize("text", ["{", "- a\n- b\n", "clusters: 3\n", "\0", "", "a: b: c"])
def test_a_kubeconfig_that_is_none(client: Client, tmp_path: Path, text: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    client.using(path).refused(4, str(path), of=GOOD)


def test_a_context_that_does_not_exist(client: Client) -> None:
    words = ('no context "podcp-nothing"', str(client.cluster.kubeconfig), "get-contexts")
    client.refused(4, *words, of=GOOD, server="nothing")


def test_a_token_that_is_wrong_or_has_expired(client: Client, tmp_path: Path, version: str) -> None:
    token = "wrong-0123456789abcdef"
    path = changed(client.cluster, tmp_path / "kubeconfig", "user", token=token)
    done = client.using(path).refused(4, "credentials", of=GOOD, server=version)
    assert token not in done.stderr


def test_nobody_may_look(client: Client) -> None:
    done = client.refused(4, "forbids", 'cannot get resource "pods"', of=GOOD, server="nobody-v5")
    assert 'reading Pod "gnu-' in done.stderr


def test_a_viewer_may_not_run_anything(client: Client) -> None:
    namespace = client.cluster.pod("gnu-0").namespace
    words = ("forbids", "pods/exec", "Copying needs", f"exec in {namespace}/gnu-")
    client.refused(4, *words, of=GOOD, server="viewer-v5")


def test_no_token_reaches_the_output(client: Client) -> None:
    tokens = [user["user"].get("token", "-") for user in document(client.cluster)["users"]]
    for server in ("v5", "nobody-v5", "viewer-v5"):
        done = client.cluster.copy(server, "gnu-0:/bad/data/nothing", "gnu-1:/bad/srv")
        assert [token for token in tokens if token in done.stderr + done.stdout] == []


# --- servers that are none -----------------------------------------------------------------


def test_an_unknown_authority(client: Client, tmp_path: Path) -> None:
    other = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(other)
    fields = hyphenated(certificate_authority_data=None, certificate_authority=str(other))
    path = changed(client.cluster, tmp_path / "kubeconfig", "cluster", **fields)
    client.using(path).refused(4, "certificate of", "is not accepted", of=GOOD)


def test_a_certificate_of_somebody_else(client: Client, tmp_path: Path) -> None:
    fields = hyphenated(tls_server_name="other.example")
    path = changed(client.cluster, tmp_path / "kubeconfig", "cluster", **fields)
    client.using(path).refused(4, "certificate of", "is not accepted", "other.example", of=GOOD)


def starting(cluster: ClusterUnderTest) -> float:
    """Return the seconds that starting may take, which on a busy machine are more."""
    began = time.monotonic()
    subprocess.run(cluster.argv("v5", "--version"), check=True, stdout=subprocess.DEVNULL)
    return STARTING + 5 * (time.monotonic() - began)


def test_nobody_listens(client: Client, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    path = changed(client.cluster, tmp_path / "config", "cluster", server=f"https://{address}")
    slack, began = starting(client.cluster), time.monotonic()
    client.using(path).refused(4, address, "Connection refused", of=GOOD)
    assert time.monotonic() - began < slack


def test_an_unknown_host(client: Client, tmp_path: Path) -> None:
    server = "https://api.nowhere.invalid:6443"
    path = changed(client.cluster, tmp_path / "config", "cluster", server=server)
    client.using(path).refused(4, "api.nowhere.invalid", of=GOOD)


def test_black_holes(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """Three servers that never answer: to TCP, to TLS, to HTTP. Asked at the same time."""
    with ExitStack() as stack:
        ports = [
            stack.enter_context(hole()) for hole in (full_backlog, silent_listener, silent_http)
        ]
        slack, began = starting(cluster), time.monotonic()
        runs = []
        for port in ports:
            scheme = "http" if port == ports[2] else "https"
            path = changed(
                cluster, tmp_path / str(port), "cluster", server=f"{scheme}://127.0.0.1:{port}"
            )
            runs.append(replace(cluster, kubeconfig=path).start("v5", *GOOD))
        for port, run in zip(ports, runs, strict=True):
            with run:
                stdout, stderr = run.communicate(timeout=60)
            assert time.monotonic() - began < PROMPT + slack
            Copied(run.returncode, stdout, stderr).failed(4, f"127.0.0.1:{port}")
            assert "timed out" in stderr or "did not answer" in stderr


@contextmanager
def full_backlog() -> Iterator[int]:
    """A port whose kernel answers nobody any more, because nobody accepts."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@contextmanager
def silent_listener() -> Iterator[int]:
    """A port that is connected to, and nothing more."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


silent_http = silent_listener
"""The same for a client that has nothing to shake hands about."""


class Answer(BaseHTTPRequestHandler):
    """What a web server says that is no API server."""

    status = 200
    body = b"<html>It works!</html>"
    location: str | None = None

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        self.send_response(self.status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(self.body)))
        if self.location:
            self.send_header("Location", self.location)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class WebServer(HTTPServer):
    """Remembers what it was asked for."""

    asked: list[str]


@contextmanager
def web_server(handler: type[Answer], context: ssl.SSLContext | None = None) -> Iterator[WebServer]:
    """Run a web server on this machine."""
    with WebServer(("127.0.0.1", 0), handler) as server:
        server.asked = []
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("status", [200, 404, 503])
def test_a_web_server_that_is_no_api_server(client: Client, tmp_path: Path, status: int) -> None:
    handler = type("Web", (Answer,), {"status": status})
    with web_server(handler) as web:
        address = f"http://127.0.0.1:{web.server_port}"
        path = changed(client.cluster, tmp_path / "config", "cluster", server=address)
        words = ("not a JSON object", "API server?") if status == 200 else (f"HTTP {status}",)
        client.using(path).refused(1, *words, of=GOOD)


def test_a_plain_http_server_at_an_https_address(client: Client, tmp_path: Path) -> None:
    with web_server(Answer) as web:
        address = f"https://127.0.0.1:{web.server_port}"
        path = changed(client.cluster, tmp_path / "config", "cluster", server=address)
        client.using(path).refused(4, "no TLS connection", "speaks https", of=GOOD)


def test_a_redirect_is_not_followed(client: Client, tmp_path: Path) -> None:
    """The token would go along, to whomever the server names."""
    authority, pem = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with web_server(Answer) as elsewhere:
        location = f"http://127.0.0.1:{elsewhere.server_port}/"
        handler = type("Redirect", (Answer,), {"status": 302, "location": location})
        with web_server(handler, context) as web:
            fields = hyphenated(
                server=f"https://127.0.0.1:{web.server_port}",
                certificate_authority_data=None,
                certificate_authority=str(pem),
            )
            path = changed(client.cluster, tmp_path / "config", "cluster", **fields)
            client.using(path).refused(1, "redirect (HTTP 302)", "not followed", of=GOOD)
        assert web.asked
        assert elsewhere.asked == []


# --- names that a shell, a terminal or UTF-8 would stumble over -----------------------------

ODD = b"new\nline 'quote\" $(id) `id` \\ \xff\xfe * ?x tab\t\x1b[31m -n "


@pytest.mark.parametrize("userland", ["gnu", "busybox", "bsdtar", "toybox"])
def test_odd_names_at_both_ends(cluster: ClusterUnderTest, version: str, userland: str) -> None:
    source, destination = cluster.pod(f"{userland}-0"), cluster.pod(f"{userland}-1")
    source.fresh("/bad/data")
    destination.fresh("/bad/srv")
    names = [ODD, ODD + b"/" + ODD]
    packed = trees.archive(
        [
            (trees.member(names[0], tarfile.DIRTYPE), b""),
            (trees.member(names[1], size=4), b"odd\n"),
        ]
    )
    source.unpack(packed, "/bad/data")
    path, target = os.fsdecode(b"/bad/data/" + names[0]), os.fsdecode(b"/bad/srv/to " + ODD)
    for copied, place in ((path, target), (f"{path}/{os.fsdecode(ODD)}", f"{target}.file")):
        done = cluster.copy(
            version, "-c", "main", f"{source.name}:{copied}", f"{destination.name}:{place}"
        )
        done.complete()
        assert len(done.stderr.splitlines()) == 1
        assert all(character.isprintable() for character in done.stderr.rstrip("\n"))
    there = trees.look(destination, "/bad", "srv").entries
    assert there.keys() == {b"", b"to " + ODD, b"to " + ODD + b"/" + ODD, b"to " + ODD + b".file"}
    assert there[b"to " + ODD + b"/" + ODD].content == there[b"to " + ODD + b".file"].content


@pytest.mark.usefixtures("destination")
def test_an_odd_name_that_does_not_exist_is_named(client: Client) -> None:
    done = client.refused_at_a_look(
        1, "does not exist", r"new\x0aline", r"\xff\xfe", of=(f"gnu-0:/{os.fsdecode(ODD)}", GOOD[1])
    )
    assert "\x1b" not in done.stderr
    assert done.stderr.startswith("error: ") or done.stderr.startswith("Defaulted ")
