"""kubectl's flags over a kubeconfig: what comes of both."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from kubectl_podcp.cluster import kubeconfig, overriding
from kubectl_podcp.cluster.entries import Entry
from kubectl_podcp.cluster.kubeconfig import load
from kubectl_podcp.errors import KubeconfigError, Unreachable
from kubectl_podcp.overrides import Overrides
from tests.unit.api_server import config, running, write

HERE = Path("/conf/config")
Apply = Callable[[Entry, Overrides], Entry]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's own: no kubeconfig, no proxy, no Pod around us."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("KUBE", "POD_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", tmp_path / "serviceaccount")


CA = "certificate-authority"
CERTIFICATE = {"client-certificate": "old", "client-certificate-data": "b2xk"}
KEY = {"client-key": "old", "client-key-data": "b2xk"}


@pytest.mark.parametrize(
    ("apply", "before", "flags", "after"),
    [
        (overriding.context, {"cluster": "c", "user": "u"}, {}, {"cluster": "c", "user": "u"}),
        (overriding.context, {"cluster": "c", "user": "u"}, {"cluster": "d"}, {"cluster": "d"}),
        (overriding.context, {"cluster": "c", "user": "u"}, {"user": "v"}, {"user": "v"}),
        # the server
        (overriding.cluster, {"server": "a", CA: "x"}, {"server": "b"}, {"server": "b", CA: "x"}),
        (
            overriding.cluster,
            {"server": "a", "tls-server-name": "n"},
            {"server": "b"},
            {"server": "b", "tls-server-name": None},
        ),
        (
            overriding.cluster,
            {"server": "a", "tls-server-name": "n"},
            {"server": "b", "tls_server_name": "m"},
            {"server": "b", "tls-server-name": "m"},
        ),
        (overriding.cluster, {"tls-server-name": "n"}, {"tls_server_name": "m"}, {"server": None}),
        # whom to trust
        (
            overriding.cluster,
            {f"{CA}-data": "eA==", "insecure-skip-tls-verify": True},
            {"certificate_authority": "/ca"},
            {CA: "/ca", f"{CA}-data": None, "insecure-skip-tls-verify": None},
        ),
        (
            overriding.cluster,
            {f"{CA}-data": "eA==", CA: "x"},
            {"insecure_skip_tls_verify": True},
            {CA: None, f"{CA}-data": None, "insecure-skip-tls-verify": True},
        ),
        (
            overriding.cluster,
            {},
            {"insecure_skip_tls_verify": True, "certificate_authority": "/ca"},
            {CA: "/ca", "insecure-skip-tls-verify": True},  # refused when it is used
        ),
        # who we are
        (
            overriding.user,
            {"token": "a", "tokenFile": "f"},
            {"token": "b"},
            {"token": "b", "tokenFile": None},
        ),
        (
            overriding.user,
            {**CERTIFICATE, **KEY},
            {"client_certificate": "/crt"},
            {"client-certificate": "/crt", "client-certificate-data": None, **KEY},
        ),
        (
            overriding.user,
            {**CERTIFICATE, **KEY},
            {"client_key": "/key"},
            {"client-key": "/key", "client-key-data": None, **CERTIFICATE},
        ),
        (
            overriding.user,
            {"as": "a", "as-groups": ["g"], "as-uid": "1"},
            {"as_user": "b"},
            {"as": "b", "as-groups": ["g"], "as-uid": "1"},
        ),
        (
            overriding.user,
            {"as": "a", "as-groups": ["g"], "as-uid": "1"},
            {"as_groups": ("h", "i"), "as_uid": "2"},
            {"as": "a", "as-groups": ["h", "i"], "as-uid": "2"},
        ),
    ],
)
def test_a_flag_replaces_its_field_and_what_would_win_over_it(
    apply: Apply, before: dict[str, Any], flags: dict[str, Any], after: dict[str, Any]
) -> None:
    """``after`` has what to look at; None is what must be gone."""
    entry = apply(Entry("any", "x", HERE, before), Overrides(**flags))
    assert {key: entry.values.get(key) for key in after} == after
    touched = {*after, *(name.replace("_", "-") for name in flags)}
    left = {key: value for key, value in before.items() if key not in touched}
    assert {key: entry.values.get(key) for key in left} == left
    assert (entry.kind, entry.name, entry.origin) == ("any", "x", HERE)


def test_a_file_is_relative_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    empty = Entry("any", "x", HERE, {})
    authority = overriding.cluster(empty, Overrides(certificate_authority="ca.pem"))
    assert authority.path(CA) == tmp_path / "ca.pem"
    user = overriding.user(empty, Overrides(client_certificate="../crt", client_key="key"))
    assert user.path("client-certificate") == tmp_path / "../crt"
    assert user.path("client-key") == tmp_path / "key"


# --- as a whole -----------------------------------------------------------------------------


def two_of_each(tmp_path: Path, **current: str) -> str:
    document = config({"server": "https://127.0.0.1:1"}, {"token": "one"}, namespace="shop")
    document["clusters"].append({"name": "d", "cluster": {"server": "https://127.0.0.2:1"}})
    document["users"].append({"name": "v", "user": {"token": "two"}})
    if current:
        document["current-context"] = current["context"]
    return write(tmp_path / "config", document)


CHOICES: list[tuple[dict[str, str], str, str]] = [
    ({}, "127.0.0.1", "one"),
    ({"cluster": "d"}, "127.0.0.2", "one"),
    ({"user": "v"}, "127.0.0.1", "two"),
    ({"cluster": "d", "user": "v"}, "127.0.0.2", "two"),
    ({"server": "https://127.0.0.3:1"}, "127.0.0.3", "one"),
    ({"cluster": "d", "server": "https://127.0.0.3:1"}, "127.0.0.3", "one"),
    ({"token": "three"}, "127.0.0.1", "three"),
]


@pytest.mark.parametrize(("flags", "host", "token"), CHOICES)
def test_cluster_user_server_and_token(
    tmp_path: Path, flags: dict[str, str], host: str, token: str
) -> None:
    cluster = load(two_of_each(tmp_path), None, Overrides(**flags))  # type: ignore[arg-type]
    assert (cluster.endpoint.host, cluster.namespace) == (host, "shop")
    assert cluster.headers()["Authorization"] == f"Bearer {token}"


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is the witness")
@pytest.mark.parametrize(("flags", "host"), [choice[:2] for choice in CHOICES])
def test_kubectl_would_go_there_too(tmp_path: Path, flags: dict[str, str], host: str) -> None:
    """Nobody listens there, but kubectl says where it wanted to go."""
    kubectl = ["kubectl", f"--kubeconfig={two_of_each(tmp_path)}"]
    kubectl += [f"--{key}={value}" for key, value in flags.items()]
    said = subprocess.run(
        [*kubectl, "get", "--raw", "/version", "--request-timeout=5", "-v=8"],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        check=False,
        timeout=60,
    ).stderr
    assert f"https://{host}:1/version" in said


def test_a_name_that_is_not_there_is_said(tmp_path: Path) -> None:
    file = two_of_each(tmp_path)
    for kind in ("cluster", "user"):
        with pytest.raises(KubeconfigError) as caught:
            load(file, None, Overrides(**{kind: "nope"}))  # type: ignore[arg-type]
        assert caught.value.happened == f'no {kind} "nope" in {file}'


def test_without_a_current_context_the_flags_may_name_all(tmp_path: Path) -> None:
    file = two_of_each(tmp_path, context="")
    cluster = load(file, None, Overrides(cluster="d", user="v"))
    assert (cluster.endpoint.host, cluster.namespace) == ("127.0.0.2", "default")
    assert cluster.headers()["Authorization"] == "Bearer two"
    cluster = load(file, None, Overrides(server="https://127.0.0.3:1"))
    assert cluster.endpoint.host == "127.0.0.3"
    assert "Authorization" not in cluster.headers()
    with pytest.raises(KubeconfigError, match="no current context"):
        load(file, None, Overrides(user="v"))


def test_without_a_kubeconfig_a_server_is_enough() -> None:
    cluster = load(None, None, Overrides(server="https://127.0.0.3:1", token="t"))
    assert (cluster.endpoint.host, cluster.namespace) == ("127.0.0.3", "default")
    assert cluster.headers()["Authorization"] == "Bearer t"
    with pytest.raises(KubeconfigError, match="there is no kubeconfig"):
        load(None, None, Overrides(token="t"))
    with pytest.raises(KubeconfigError, match='there is no kubeconfig with the context "x"'):
        load(None, "x", Overrides(server="https://127.0.0.3:1"))
    with pytest.raises(KubeconfigError, match='no user "u" in the kubeconfig, which does not'):
        load(None, None, Overrides(server="https://127.0.0.3:1", user="u"))


@pytest.fixture
def in_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "token").write_text("of-the-pod")
    (folder / "namespace").write_text("pods-own")
    (folder / "ca.crt").write_bytes(trustme.CA().cert_pem.bytes())
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")


@pytest.mark.usefixtures("in_a_pod")
def test_in_a_pod_the_flags_hold_too() -> None:
    cluster = load(None, None, Overrides(as_user="jane", request_timeout=3.0))
    headers = cluster.headers()
    assert (headers["Authorization"], headers["Impersonate-User"]) == ("Bearer of-the-pod", "jane")
    assert (cluster.endpoint.host, cluster.timeout) == ("10.0.0.1", 3.0)
    assert load(None, None, Overrides(token="t")).headers()["Authorization"] == "Bearer t"


@pytest.mark.usefixtures("in_a_pod")
def test_in_a_pod_another_server_is_not_shown_the_pods_token() -> None:
    cluster = load(None, None, Overrides(server="https://127.0.0.3:1"))
    assert cluster.endpoint.host == "127.0.0.3"
    assert "Authorization" not in cluster.headers()


def test_a_token_goes_before_a_plugin_which_is_not_told_of_it(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin"
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential"}
    answer["status"] = {"token": "of-the-plugin"}  # type: ignore[assignment]
    plugin.write_text(
        f"#!/bin/sh\ntr '\\0' '\\n' </proc/self/environ >{tmp_path}/seen\n"
        f"echo '{json.dumps(answer)}'\n"
    )
    plugin.chmod(0o755)
    user = {"exec": {"apiVersion": answer["apiVersion"], "command": str(plugin)}}
    file = write(tmp_path / "config", config({"server": "https://127.0.0.1:1"}, user))
    cluster = load(file, None, Overrides(token="secret"))
    assert cluster.headers()["Authorization"] == "Bearer secret"
    assert not (tmp_path / "seen").exists()
    assert "secret" not in repr(cluster)
    load(file, None, Overrides(server="https://127.0.0.2:1"))
    assert "secret" not in (tmp_path / "seen").read_text()


def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    """In place of the one in the kubeconfig, to a server that demands one."""
    authority = trustme.CA()
    issued = authority.issue_cert("jane@example.test")
    (tmp_path / "crt").write_bytes(issued.cert_chain_pems[0].bytes())
    (tmp_path / "key").write_bytes(issued.private_key_pem.bytes())
    stranger = trustme.CA().issue_cert("x@example.test")
    old = {
        "client-certificate-data": stranger.cert_chain_pems[0].bytes(),
        "client-key-data": stranger.private_key_pem.bytes(),
    }
    inline = {key: base64.b64encode(value).decode() for key, value in old.items()}
    with running(client_authority=authority) as server:
        file = server.kubeconfig(tmp_path, **inline)
        flags = Overrides(
            client_certificate=str(tmp_path / "crt"), client_key=str(tmp_path / "key")
        )
        endpoint = load(file, None, flags).endpoint
        assert endpoint.context is not None
        with (
            socket.create_connection((endpoint.host, endpoint.port)) as plain,
            endpoint.context.wrap_socket(plain, server_hostname=endpoint.host) as secured,
        ):
            secured.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert secured.recv(100).startswith(b"HTTP/1.")
        endpoint = load(file).endpoint
        assert endpoint.context is not None
        with (
            socket.create_connection((endpoint.host, endpoint.port)) as plain,
            endpoint.context.wrap_socket(plain, server_hostname=endpoint.host) as secured,
            pytest.raises(ssl.SSLError),
        ):
            secured.sendall(b"GET / HTTP/1.0\r\n\r\n")
            secured.recv(100)


def test_a_request_is_given_up_after_its_timeout() -> None:
    from kubectl_podcp.cluster import api

    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"http://127.0.0.1:{silent.getsockname()[1]}"
        cluster = load(None, None, Overrides(server=server, request_timeout=0.2))
        with pytest.raises(Unreachable, match=r"did not answer within 0\.2 s"):
            api.get(cluster, "/version")
    assert load(None, None, Overrides(server=server)).timeout == 8.0
