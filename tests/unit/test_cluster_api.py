"""GET from a real HTTPS server, and what is said when it does not go well."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from kubectl_podcp._version import __version__
from kubectl_podcp.cluster import api
from kubectl_podcp.cluster.kubeconfig import Cluster, load
from kubectl_podcp.errors import (
    CertificateError,
    Forbidden,
    PodcpError,
    ServerError,
    ServerUnavailable,
    Unauthorized,
    Unreachable,
)
from tests.unit.api_server import ApiServer, config, running, status, write

PATH = "/api/v1/namespaces/shop/pods/web-0"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with running() as started:
        yield started


@pytest.fixture
def cluster(server: ApiServer, tmp_path: Path) -> Cluster:
    return load(server.kubeconfig(tmp_path))


def test_a_document_is_returned_and_the_request_is_ours(
    server: ApiServer, cluster: Cluster
) -> None:
    server.serve(f"{PATH}?limit=1&labelSelector=a%3Db%26c", {"kind": "Pod"})
    assert api.get(cluster, PATH, {"limit": "1", "labelSelector": "a=b&c"}) == {"kind": "Pod"}
    [(_, headers)] = server.asked
    assert headers["Host"] == f"127.0.0.1:{server.port}"
    assert headers["Authorization"] == "Bearer let-me-in"
    assert headers["User-Agent"] == f"kubectl-podcp/{__version__}"
    assert headers["Accept"] == "application/json"


def test_the_servers_base_path_comes_first(server: ApiServer, tmp_path: Path) -> None:
    server.serve(f"/k8s/clusters/c-1{PATH}", {"kind": "Pod"})
    file = Path(server.kubeconfig(tmp_path))
    file.write_text(file.read_text().replace(f":{server.port}", f":{server.port}/k8s/clusters/c-1"))
    assert api.get(load(str(file)), PATH) == {"kind": "Pod"}


def test_impersonated_groups_arrive_one_by_one(server: ApiServer, tmp_path: Path) -> None:
    file = server.kubeconfig(tmp_path)
    document = config({}, {"as": "jane", "as-groups": ["a", "b", "c"]})
    added = write(tmp_path / "added", document["users"][0]["user"])
    text = Path(file).read_text().replace('"token": "let-me-in"', Path(added).read_text()[1:-1])
    Path(file).write_text(text)
    server.serve(PATH, {})
    api.get(load(file), PATH)
    [(_, headers)] = server.asked
    assert headers.get_all("Impersonate-Group") == ["a", "b", "c"]
    assert headers.get_all("Impersonate-User") == ["jane"]


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (401, "Unauthorized", Unauthorized),
        (403, "Forbidden", Forbidden),
        (500, "InternalError", ServerUnavailable),
        (503, "ServiceUnavailable", ServerUnavailable),
    ],
)
def test_a_refusal_is_told_in_the_servers_words_with_advice(
    server: ApiServer, cluster: Cluster, code: int, reason: str, expected: type[PodcpError]
) -> None:
    server.serve(PATH, status(code, reason, "because of the moon"), code)
    with pytest.raises(expected) as caught:
        api.get(cluster, PATH)
    assert type(caught.value) is expected
    assert "because of the moon" in caught.value.happened
    assert caught.value.advice or code >= 500
    assert "let-me-in" not in str(caught.value)


def test_a_403_without_a_body_is_no_matter_of_exec_protocols(
    server: ApiServer, cluster: Cluster
) -> None:
    server.answers[PATH] = (403, b"")
    with pytest.raises(Forbidden, match="HTTP 403"):
        api.get(cluster, PATH)


def test_a_redirect_is_not_followed(server: ApiServer, cluster: Cluster) -> None:
    server.answers[PATH] = (302, b"")
    with pytest.raises(ServerError, match="redirect"):
        api.get(cluster, PATH)
    assert len(server.asked) == 1


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"[]", b"", b"\xff"])
def test_an_answer_that_is_no_json_object_is_an_error(
    server: ApiServer, cluster: Cluster, body: bytes
) -> None:
    server.answers[PATH] = (200, body)
    with pytest.raises(ServerError, match="not a JSON object"):
        api.get(cluster, PATH)


def test_the_body_is_bounded(
    server: ApiServer, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "MAX_BODY", 10)
    server.answers[PATH] = (200, b'{"a": "12345"}')
    with pytest.raises(ServerError, match="longer than"):
        api.get(cluster, PATH)


def test_an_unknown_authority_is_refused_before_the_token_is_sent(
    server: ApiServer, tmp_path: Path
) -> None:
    file = server.kubeconfig(tmp_path)
    (tmp_path / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
    with pytest.raises(CertificateError):
        api.get(load(file), PATH)
    assert server.asked == []


def test_a_server_that_wants_a_certificate_of_ours_says_so(tmp_path: Path) -> None:
    with (
        running(client_authority=trustme.CA()) as server,
        pytest.raises(CertificateError, match="refused our client certificate"),
    ):
        api.get(load(server.kubeconfig(tmp_path)), PATH)


def test_a_client_certificate_opens_the_door(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("jane@example.test")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "me.pem"))
    with running(client_authority=authority) as server:
        server.serve(PATH, {"kind": "Pod"})
        user = {"client-certificate": "me.pem", "client-key": "me.pem"}
        assert api.get(load(server.kubeconfig(tmp_path, **user)), PATH) == {"kind": "Pod"}


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Callable[[Callable[[socket.socket], None]], Cluster]]:
    """Serve one plain connection with a function; the server goes when the client has gone."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def start(answer: Callable[[socket.socket], None]) -> Cluster:
            def serve() -> None:
                accepted, _ = listener.accept()
                with accepted, contextlib.suppress(OSError):
                    accepted.recv(4096)
                    answer(accepted)

            thread = threading.Thread(target=serve)
            thread.start()
            stack.callback(thread.join, 10)
            port = listener.getsockname()[1]
            return load(write(tmp_path / "plain", config({"server": f"http://127.0.0.1:{port}"})))

        yield start


def test_plain_http_works_as_behind_kubectl_proxy(
    plain: Callable[[Callable[[socket.socket], None]], Cluster],
) -> None:
    cluster = plain(lambda sock: sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"))
    assert api.get(cluster, PATH) == {}


def wait_for_the_end(sock: socket.socket) -> None:
    sock.recv(1)


def trickle(sock: socket.socket) -> None:
    """Send a byte now and then, so that no single read ever takes long."""
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
    sock.settimeout(0.02)
    for _ in range(500):
        sock.sendall(b" ")
        with contextlib.suppress(TimeoutError):
            if not sock.recv(1):
                return


@pytest.mark.parametrize("answer", [wait_for_the_end, trickle])
def test_a_server_that_does_not_come_to_an_end_is_given_up(
    plain: Callable[[Callable[[socket.socket], None]], Cluster],
    answer: Callable[[socket.socket], None],
) -> None:
    cluster = plain(answer)
    began = time.monotonic()
    with pytest.raises(Unreachable, match=r"did not answer within 0\.3 s"):
        api.get(cluster, PATH, timeout=0.3)
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "before its answer"),
        (b"SSH-2.0-OpenSSH\r\n", "before its answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", "cut off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{}", "before its answer"),
    ],
)
def test_a_connection_that_breaks_is_an_error(
    plain: Callable[[Callable[[socket.socket], None]], Cluster], answer: bytes, told: str
) -> None:
    cluster = plain(lambda sock: sock.sendall(answer))
    with pytest.raises(Unreachable, match=told):
        api.get(cluster, PATH)


def test_nobody_listening_is_unreachable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    file = write(tmp_path / "config", config({"server": f"https://127.0.0.1:{port}"}))
    with pytest.raises(Unreachable):
        api.get(load(file), PATH)
