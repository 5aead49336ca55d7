"""The kubeconfig, read from real files; plugins are real programs; kubectl is the witness."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from kubectl_podcp.cluster import certificates, kubeconfig
from kubectl_podcp.cluster.entries import Entry
from kubectl_podcp.cluster.kubeconfig import Cluster, load
from kubectl_podcp.cluster.proxies import bypassed
from kubectl_podcp.errors import KubeconfigError
from kubectl_podcp.exec.tls import Proxy
from tests.unit.api_server import config, write

SERVER = {"server": "https://api.test:6443"}


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's own: no kubeconfig, no proxy, no Pod around us."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith(("KUBE", "POD_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(kubeconfig, "SERVICE_ACCOUNT", tmp_path / "serviceaccount")


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


Load = Callable[..., Cluster]


@pytest.fixture
def load_with(tmp_path: Path) -> Load:
    """Load a kubeconfig of one context, made of these fields."""

    def load_it(
        cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **context: str
    ) -> Cluster:
        fields = SERVER if cluster is None else cluster
        return load(write(tmp_path / "config", config(fields, user, **context)))

    return load_it


def refused(call: Callable[[], object]) -> str:
    """Return the text of the KubeconfigError that the call ends in."""
    with pytest.raises(KubeconfigError) as caught:
        call()
    return str(caught.value)


# --- which files, which context -------------------------------------------------------------


def two_files(tmp_path: Path) -> tuple[str, str]:
    """Two files that define the same names, and one each of their own; the second is current."""
    first = config({"server": "https://first.test:1"}, {"token": "first"}, namespace="one")
    del first["current-context"]
    first["contexts"].append({"name": "anonymous", "context": {"cluster": "c"}})
    second = config({"server": "https://second.test"}, {"token": "second"}, namespace="two")
    second["clusters"].append({"name": "d", "cluster": {"server": "https://third.test/"}})
    second["contexts"].append({"name": "there", "context": {"cluster": "d", "user": "u"}})
    second["current-context"] = "there"
    return write(tmp_path / "first", first), write(tmp_path / "second", second)


def test_the_first_definition_of_a_name_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two_files(tmp_path)
    monkeypatch.setenv("KUBECONFIG", f"{first}:{second}")
    cluster = load(None, "here")
    assert (cluster.endpoint.host, cluster.endpoint.port) == ("first.test", 1)
    assert cluster.namespace == "one"
    assert cluster.headers()["Authorization"] == "Bearer first"


def test_the_first_current_context_wins_and_missing_and_empty_files_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two_files(tmp_path)
    empty = tmp_path / "empty"
    empty.write_text("# nothing yet\n")
    other = write(tmp_path / "other", {"current-context": "here"})
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/missing:{empty}:{first}:{second}:{other}")
    cluster = load()
    assert cluster.context == "there"
    assert cluster.endpoint.host == "third.test"
    assert cluster.headers()["Authorization"] == "Bearer first"


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is the witness")
@pytest.mark.parametrize("order", ["first:second", "second:first", "missing:first:empty:second"])
@pytest.mark.parametrize("context", [None, "here", "there", "anonymous"])
def test_merging_agrees_with_kubectl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str, context: str | None
) -> None:
    two_files(tmp_path)
    (tmp_path / "empty").touch()
    monkeypatch.setenv("KUBECONFIG", ":".join(f"{tmp_path}/{name}" for name in order.split(":")))
    command = ["kubectl", "config", "view", "--raw", "--minify", "-o", "json"]
    command += [f"--context={context}"] if context else []
    said = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    chosen = said["contexts"][0]
    users = said["users"] or [{"user": {}}]

    cluster = load(None, context)

    assert cluster.context == chosen["name"]
    assert cluster.namespace == chosen["context"].get("namespace", "default")
    assert said["clusters"][0]["cluster"]["server"].startswith(f"https://{cluster.endpoint.host}")
    token = users[0]["user"].get("token")
    assert cluster.headers().get("Authorization") == (token and f"Bearer {token}")


def test_the_default_file_stands_in_the_home_folder(tmp_path: Path) -> None:
    folder = tmp_path / "home" / ".kube"
    folder.mkdir(parents=True)
    write(folder / "config", config(SERVER, namespace="mine"))
    assert load().namespace == "mine"


def test_a_home_that_nobody_has_is_a_name_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~nobody-here").mkdir()
    name = write(tmp_path / "~nobody-here" / "config", config(SERVER, namespace="mine"))
    assert load(name.removeprefix(f"{tmp_path}/")).namespace == "mine"


def test_the_flag_names_one_file_even_with_a_colon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", write(tmp_path / "other", config(SERVER, namespace="no")))
    assert load(write(tmp_path / "a:b", config(SERVER, namespace="yes"))).namespace == "yes"


def test_a_number_as_a_name_is_taken_as_it_is_written(tmp_path: Path) -> None:
    document = config(SERVER, {"token": 12345}, namespace="default")
    document["clusters"][0]["name"] = 1234567890
    document["contexts"][0]["context"]["cluster"] = 1234567890
    cluster = load(write(tmp_path / "config", document))
    assert cluster.headers()["Authorization"] == "Bearer 12345"


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    advice = "\nName another one with --kubeconfig or $KUBECONFIG."
    assert refused(lambda: load(str(tmp_path / "nope"))) == (
        f"cannot read the kubeconfig {tmp_path}/nope: No such file or directory{advice}"
    )
    assert refused(lambda: load(str(tmp_path))) == (
        f"cannot read the kubeconfig {tmp_path}: Is a directory{advice}"
    )


def test_a_file_that_may_not_be_read_is_an_error_and_not_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = tmp_path / "loop"  # unreadable even to root
    loop.symlink_to(loop)
    monkeypatch.setenv("KUBECONFIG", f"{loop}:{write(tmp_path / 'good', config(SERVER))}")
    assert f"cannot read the kubeconfig {loop}: Too many levels" in refused(load)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("users:\n- token: secret\n  x: [", "is not YAML in line"),
        ("token: secret\nb: @secret", "is not YAML in line 2"),
        ("- secret", "has not the form of one"),
        ("clusters: secret", "has not the form of one"),
        ("clusters: [{name: , cluster: {token: secret}}, {name: }]", "has not the form of one"),
        ("clusters: [{cluster: {}}]", "has not the form of one"),
        ("\x01secret", "is not text"),
    ],
)
def test_a_file_that_is_no_kubeconfig_is_named_and_not_quoted(
    tmp_path: Path, text: str, told: str
) -> None:
    file = tmp_path / "config"
    file.write_text(text)
    message = refused(lambda: load(str(file)))
    assert f"the kubeconfig {file} {told}" in message
    assert "secret" not in message


def test_a_missing_context_cluster_user_or_server_is_named(tmp_path: Path) -> None:
    document = config(SERVER)
    document["contexts"] += [
        {"name": "lost", "context": {"cluster": "atlantis", "user": "u"}},
        {"name": "ghost", "context": {"cluster": "c", "user": "nobody"}},
        {"name": "empty", "context": {}},
    ]
    document["clusters"].append({"name": "bare", "cluster": {}})
    document["contexts"].append({"name": "bare", "context": {"cluster": "bare"}})
    file = write(tmp_path / "config", document)
    get_contexts = "`kubectl config get-contexts`"

    def told(context: str) -> str:
        return refused(lambda: load(file, context))

    assert f'no context "nope" in {file}' in told("nope")
    assert get_contexts in told("nope")
    assert f'there is no cluster "atlantis" (context "lost" in {file})' in told("lost")
    assert f'there is no user "nobody" (context "ghost" in {file})' in told("ghost")
    assert get_contexts in told("ghost")
    assert f'no cluster is named (context "empty" in {file})' in told("empty")
    assert f'the cluster has no server (cluster "bare" in {file})' in told("bare")


def test_no_current_context_and_no_kubeconfig_say_what_to_do(tmp_path: Path) -> None:
    document = config(SERVER)
    del document["current-context"]
    file = write(tmp_path / "config", document)
    assert f"no current context in {file}" in refused(lambda: load(file))
    assert "--context" in refused(lambda: load(file))
    assert "~/.kube/config does not exist" in refused(load)
    assert 'with the context "x"' in refused(lambda: load(None, "x"))


# --- the cluster that we run in -------------------------------------------------------------


@pytest.fixture
def in_a_pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, authority: trustme.CA) -> Path:
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "token").write_text("of-the-pod\n")
    (folder / "namespace").write_text("pods-own")
    (folder / "ca.crt").write_bytes(authority.cert_pem.bytes())
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    return folder


def test_in_a_pod_without_kubeconfig_the_service_account_is_used(in_a_pod: Path) -> None:
    cluster = load()
    assert (cluster.endpoint.host, cluster.endpoint.port) == ("fd00::1", 443)
    assert (cluster.namespace, cluster.context) == ("pods-own", "")
    assert cluster.headers()["Authorization"] == "Bearer of-the-pod"
    (in_a_pod / "token").write_text("rotated")
    assert cluster.headers()["Authorization"] == "Bearer rotated"
    (in_a_pod / "token").unlink()
    assert cluster.headers()["Authorization"] == "Bearer rotated"


@pytest.mark.usefixtures("in_a_pod")
def test_in_a_pod_a_kubeconfig_wins_and_only_its_namespace_is_the_pods(
    load_with: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load_with().endpoint.host == "api.test"
    assert load_with().namespace == "pods-own"
    assert load_with(namespace="named").namespace == "named"
    monkeypatch.setenv("POD_NAMESPACE", "told")
    assert load_with().namespace == "told"


# --- the server -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "host", "port", "base_path", "tls"),
    [
        ("https://api.test", "api.test", 443, "", True),
        ("https://api.test:6443/k8s/clusters/c-1/", "api.test", 6443, "/k8s/clusters/c-1", True),
        ("https://[fd00::1]:6443", "fd00::1", 6443, "", True),
        ("http://127.0.0.1:8001", "127.0.0.1", 8001, "", False),
        ("http://localhost", "localhost", 80, "", False),
        ("localhost:8080", "localhost", 8080, "", False),
    ],
)
def test_the_server_is_taken_apart(
    load_with: Load, server: str, host: str, port: int, base_path: str, tls: bool
) -> None:
    endpoint = load_with({"server": server}).endpoint
    assert (endpoint.host, endpoint.port, endpoint.base_path) == (host, port, base_path)
    assert (endpoint.context is not None) == tls
    assert endpoint.server_name == host


def test_a_server_without_scheme_is_https_where_tls_is_configured(load_with: Load) -> None:
    cluster = {"server": "api.test", "insecure-skip-tls-verify": True}
    assert load_with(cluster).endpoint.port == 443


@pytest.mark.parametrize(
    "server",
    ["ftp://x", "ftp://x:1", "htps://x:6443", "https://", "https://x:port", "https://x:99999"],
)
def test_a_server_that_is_no_url_is_refused(load_with: Load, server: str) -> None:
    assert f"not an http or https URL: {server}" in refused(lambda: load_with({"server": server}))


def test_nothing_secret_goes_over_plain_http(load_with: Load) -> None:
    """As in kubectl, which reads a user only for https (client-go, ClientConfig)."""
    user = {"exec": {"command": "/does/not/exist"}, "as": "jane"}
    headers = load_with({"server": "http://127.0.0.1:8001"}, user).headers()
    assert "Authorization" not in headers
    assert headers["Impersonate-User"] == "jane"


# --- TLS ------------------------------------------------------------------------------------


def pem(data: bytes) -> str:
    return base64.b64encode(data).decode()


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> dict[str, Any] | None:
    """Shake hands over a socketpair; return the certificate that the client showed."""
    ours, theirs = socket.socketpair()
    shown: list[dict[str, Any] | None] = []

    def accept() -> None:
        with theirs:
            try:
                with server.wrap_socket(theirs, server_side=True) as secured:
                    shown.append(secured.getpeercert())
                    secured.sendall(b"x")
            except OSError:
                shown.append(None)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        with ours, client.wrap_socket(ours, server_hostname=name) as secured:
            secured.recv(1)
    finally:
        thread.join()
    return shown[0]


def server_context(authority: trustme.CA, name: str = "api.test") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def context_of(cluster: Cluster) -> ssl.SSLContext:
    assert cluster.endpoint.context is not None
    return cluster.endpoint.context


@pytest.mark.parametrize("inline", [True, False])
def test_the_named_authority_is_trusted_and_no_other(
    tmp_path: Path, load_with: Load, authority: trustme.CA, inline: bool
) -> None:
    bundle = "# für alle Fälle\n".encode() + authority.cert_pem.bytes()
    (tmp_path / "ca.pem").write_bytes(bundle)
    named = (
        {"certificate-authority-data": pem(bundle), "certificate-authority": "not-there"}
        if inline
        else {"certificate-authority": "ca.pem"}
    )
    context = context_of(load_with({**SERVER, **named}))
    handshake(context, server_context(authority), "api.test")
    with pytest.raises(ssl.SSLCertVerificationError, match="ostname mismatch"):
        handshake(context, server_context(authority), "other.test")
    with pytest.raises(ssl.SSLCertVerificationError, match="verify failed"):
        handshake(context, server_context(trustme.CA()), "api.test")


def test_without_an_authority_the_systems_are_trusted_and_verification_is_on(
    load_with: Load, authority: trustme.CA
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(context_of(load_with()), server_context(authority), "api.test")


def test_insecure_skip_tls_verify_is_obeyed(load_with: Load, authority: trustme.CA) -> None:
    context = context_of(load_with({**SERVER, "insecure-skip-tls-verify": True}))
    handshake(context, server_context(authority), "whatever")


def test_insecure_beside_an_authority_is_refused(load_with: Load, authority: trustme.CA) -> None:
    data = pem(authority.cert_pem.bytes())
    fields = {**SERVER, "insecure-skip-tls-verify": True, "certificate-authority-data": data}
    assert "exclude each other" in refused(lambda: load_with(fields))


def test_tls_server_name_is_the_name_to_verify(load_with: Load) -> None:
    endpoint = load_with({**SERVER, "tls-server-name": "kubernetes"}).endpoint
    assert (endpoint.host, endpoint.server_name) == ("api.test", "kubernetes")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"certificate-authority": "gone.pem"}, "cannot read"),
        ({"certificate-authority": "empty.pem"}, "holds no PEM certificate"),
        ({"certificate-authority-data": "eA="}, "is not base64"),
        ({"certificate-authority-data": "eHl6"}, "holds no PEM certificate"),
        ({"certificate-authority-data": "\u00e9"}, "is not base64"),
        ({"certificate-authority": "a\0b"}, "should name a file"),
        ({"insecure-skip-tls-verify": "yes"}, "should be true or false"),
        ({"server": {}, "tls-server-name": []}, "should be text"),
    ],
)
def test_a_bad_cluster_entry_is_named(
    tmp_path: Path, load_with: Load, fields: dict[str, Any], told: str
) -> None:
    (tmp_path / "empty.pem").touch()
    message = refused(lambda: load_with({**SERVER, **fields}))
    assert told in message
    assert f'(cluster "c" in {tmp_path}/config)' in message


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("memory", [True, False])
def test_a_client_certificate_is_shown_and_no_file_stays(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    load_with: Load,
    authority: trustme.CA,
    inline: bool,
    memory: bool,
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    if not memory:
        monkeypatch.setattr(certificates, "_memory_file", lambda: None)
    issued = authority.issue_cert("jane@example.test")
    certificate, key = issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes()
    (tmp_path / "tls.crt").write_bytes(certificate)
    (tmp_path / "tls.key").write_bytes(key)
    named = (
        {"client-certificate-data": pem(certificate), "client-key-data": pem(key)}
        if inline
        else {"client-certificate": "tls.crt", "client-key": "tls.key"}
    )
    trusted = {**SERVER, "certificate-authority-data": pem(authority.cert_pem.bytes())}
    context = context_of(load_with(trusted, named))
    shown = handshake(context, server_context(authority), "api.test")
    assert shown is not None
    assert ("email", "jane@example.test") in shown["subjectAltName"]
    assert list(scratch.iterdir()) == []


def test_an_inline_certificate_needs_a_folder_only_where_memory_cannot_hold_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load_with: Load, authority: trustme.CA
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not-there"))
    issued = authority.issue_cert("jane@example.test")
    user = {
        "client-certificate-data": pem(issued.cert_chain_pems[0].bytes()),
        "client-key-data": pem(issued.private_key_pem.bytes()),
    }
    trusted = {**SERVER, "certificate-authority-data": pem(authority.cert_pem.bytes())}
    if sys.platform == "linux":
        load_with(trusted, user)
    monkeypatch.setattr(certificates, "_memory_file", lambda: None)
    load_with(trusted, {"token": "t"})
    message = refused(lambda: load_with(trusted, user))
    assert "cannot be handed to TLS: No such file" in message
    assert "TMPDIR" in message


def test_a_bad_client_certificate_is_named(
    tmp_path: Path, load_with: Load, authority: trustme.CA
) -> None:
    issued, other = authority.issue_cert("a@b.test"), authority.issue_cert("c@d.test")
    certificate = {"client-certificate-data": pem(issued.cert_chain_pems[0].bytes())}
    wrong_key = {"client-key-data": pem(other.private_key_pem.bytes())}
    assert "which need each other" in refused(lambda: load_with(user=certificate))
    assert "VALUES_MISMATCH" in refused(lambda: load_with(user={**certificate, **wrong_key}))
    gone = {**certificate, "client-key": "gone.key"}
    assert f"{tmp_path}/gone.key cannot be used: No such file" in refused(
        lambda: load_with(user=gone)
    )


# --- who we are -----------------------------------------------------------------------------


def test_token_password_and_token_file(tmp_path: Path, load_with: Load) -> None:
    (tmp_path / "token").write_text(" from-file\n")

    def authorization(**user: str) -> str:
        return load_with(user=user).headers()["Authorization"]

    assert authorization(token="abc") == "Bearer abc"
    assert authorization(username="jo", password="pä:ss") == "Basic " + pem("jo:pä:ss".encode())
    assert authorization(tokenFile="token") == "Bearer from-file"
    assert authorization(tokenFile="token", token="inline") == "Bearer from-file"
    assert authorization(tokenFile="gone", token="inline") == "Bearer inline"
    assert f"from {tmp_path}/gone: No such file" in refused(lambda: authorization(tokenFile="gone"))
    both = {"token": "a", "username": "b", "password": "c"}
    assert "only one is allowed" in refused(lambda: authorization(**both))


def test_a_token_file_is_read_again(tmp_path: Path, load_with: Load) -> None:
    file = tmp_path / "token"
    file.write_text("one")
    cluster = load_with(user={"tokenFile": "token"})
    file.write_text("two")
    assert cluster.headers()["Authorization"] == "Bearer two"


def test_no_secret_is_shown(load_with: Load) -> None:
    """In no repr, and not where the token cannot be sent."""
    proxied = {**SERVER, "proxy-url": "http://me:secret@proxy.test"}
    assert "secret" not in repr(load_with(proxied, {"token": "secret"}))
    cluster = load_with(user={"token": "secret\nX-Evil: 1"})
    message = refused(cluster.headers)
    assert "Authorization" in message
    assert "secret" not in message


def test_impersonation_repeats_its_headers(load_with: Load) -> None:
    user = {
        "as": "jane",
        "as-uid": "42",
        "as-groups": ["one", "two", "three", "four"],
        "as-user-extra": {"example.test/why": ["a", "b"]},
    }
    headers = load_with(user=user).headers()
    del headers["User-Agent"]
    assert sorted((name.lower(), value) for name, value in headers.items()) == [
        ("impersonate-extra-example.test%2fwhy", "a"),
        ("impersonate-extra-example.test%2fwhy", "b"),
        ("impersonate-group", "four"),
        ("impersonate-group", "one"),
        ("impersonate-group", "three"),
        ("impersonate-group", "two"),
        ("impersonate-uid", "42"),
        ("impersonate-user", "jane"),
    ]


def test_groups_without_a_user_to_be_are_refused(load_with: Load) -> None:
    assert "need an as" in refused(lambda: load_with(user={"as-groups": ["admins"]}))
    assert "should be a list" in refused(lambda: load_with(user={"as-groups": "admins"}))


# --- credential plugins ---------------------------------------------------------------------

V1 = "client.authentication.k8s.io/v1"


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Write a shell script as a plugin and return the user that names it."""

    def make(script: str, **fields: Any) -> dict[str, Any]:
        path = tmp_path / "plugin"
        path.write_text(f"#!/bin/sh\n{textwrap.dedent(script)}")
        path.chmod(0o755)
        return {"exec": {"apiVersion": V1, "command": "./plugin", **fields}}

    return make


def credential(version: str = V1, **status: str) -> str:
    """Return the shell line that prints an ExecCredential."""
    answer = {"apiVersion": version, "kind": "ExecCredential", "status": status}
    return f"cat <<'END'\n{json.dumps(answer)}\nEND\n"


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_a_plugins_token_is_used(
    load_with: Load, plugin: Callable[..., dict[str, Any]], version: str
) -> None:
    version = f"client.authentication.k8s.io/{version}"
    user = plugin(credential(version, token="minted"), apiVersion=version)
    assert load_with(user=user).headers()["Authorization"] == "Bearer minted"


def test_a_plugin_gets_its_arguments_environment_and_the_cluster(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    load_with: Load,
    authority: trustme.CA,
    plugin: Callable[..., dict[str, Any]],
) -> None:
    monkeypatch.chdir("/")
    script = f"""
        printf '%s\\n' "$PWD" "$1" "$2" "$STAGE" > {tmp_path}/seen
        printf '%s' "$KUBERNETES_EXEC_INFO" > {tmp_path}/info
        cat > {tmp_path}/stdin
        """
    user = plugin(
        textwrap.dedent(script) + credential(token="t"),
        args=["one two", "$HOME"],
        env=[{"name": "STAGE", "value": "test"}],
        provideClusterInfo=True,
    )
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    extensions = [
        {"name": "other", "extension": 1},
        {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}},
    ]
    load_with({**SERVER, "certificate-authority": "ca.pem", "extensions": extensions}, user)

    assert (tmp_path / "seen").read_text().splitlines() == ["/", "one two", "$HOME", "test"]
    assert (tmp_path / "stdin").read_text() == ""
    assert json.loads((tmp_path / "info").read_text()) == {
        "apiVersion": V1,
        "kind": "ExecCredential",
        "spec": {
            "interactive": False,
            "cluster": {
                "server": "https://api.test:6443",
                "certificate-authority-data": pem(authority.cert_pem.bytes()),
                "config": {"audience": "x"},
            },
        },
    }


@pytest.mark.parametrize("extensions", [5, "x", ["x"], [{"name": []}]])
def test_extensions_that_are_none_are_named(
    load_with: Load, plugin: Callable[..., dict[str, Any]], extensions: object
) -> None:
    user = plugin(credential(token="t"), provideClusterInfo=True)
    told = refused(lambda: load_with({**SERVER, "extensions": extensions}, user))
    assert told.startswith('extensions should list names and what they are (cluster "c" in ')


def test_what_yaml_takes_for_a_date_reaches_the_plugin_as_text(
    tmp_path: Path, plugin: Callable[..., dict[str, Any]]
) -> None:
    script = f"printf '%s' \"$KUBERNETES_EXEC_INFO\" > {tmp_path}/info\n" + credential(token="t")
    extension = {"name": "client.authentication.k8s.io/exec", "extension": "2026-11-30"}
    document = config(
        {**SERVER, "extensions": [extension]}, plugin(script, provideClusterInfo=True)
    )
    unquoted = json.dumps(document).replace('"2026-11-30"', "2026-11-30")  # which YAML can be
    (tmp_path / "config").write_text(unquoted)
    load(str(tmp_path / "config"))
    told = json.loads((tmp_path / "info").read_text())
    assert told["spec"]["cluster"]["config"] == "2026-11-30"


def test_a_variable_without_a_value_is_empty(
    tmp_path: Path, load_with: Load, plugin: Callable[..., dict[str, Any]]
) -> None:
    """As in kubectl, where a field that is missing has Go's zero value."""
    script = f"printf '%s' \"<$A><${{B-unset}}>\" > {tmp_path}/seen\n" + credential(token="t")
    load_with(user=plugin(script, env=[{"name": "A", "value": None}, {"name": "B"}]))
    assert (tmp_path / "seen").read_text() == "<><>"


def test_a_plugin_on_the_path_runs_once_until_its_token_expires(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    load_with: Load,
    plugin: Callable[..., dict[str, Any]],
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    count = f"echo x >> {tmp_path}/runs\n"
    runs = tmp_path / "runs"
    lasting = credential(token="t", expirationTimestamp="2999-01-01T00:00:00.123456789Z")
    cluster = load_with(user=plugin(count + lasting, command="plugin"))
    cluster.headers()
    assert len(runs.read_text().split()) == 1

    expired = credential(token="t", expirationTimestamp="2020-01-01T00:00:00+00:00")
    cluster = load_with(user=plugin(count + expired, command="plugin"))
    cluster.headers()
    assert len(runs.read_text().split()) == 3


def test_a_plugins_certificate_is_shown(
    load_with: Load, authority: trustme.CA, plugin: Callable[..., dict[str, Any]]
) -> None:
    issued = authority.issue_cert("robot@example.test")
    user = plugin(
        credential(
            clientCertificateData=issued.cert_chain_pems[0].bytes().decode(),
            clientKeyData=issued.private_key_pem.bytes().decode(),
        )
    )
    trusted = {**SERVER, "certificate-authority-data": pem(authority.cert_pem.bytes())}
    cluster = load_with(trusted, user)
    shown = handshake(context_of(cluster), server_context(authority), "api.test")
    assert shown is not None
    assert ("email", "robot@example.test") in shown["subjectAltName"]
    assert "Authorization" not in cluster.headers()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (
            "echo first >&2; echo token expired >&2; echo >&2; exit 3",
            "exit status 3: token expired",
        ),
        ("kill -9 $$", 'the credential plugin "./plugin" failed with signal 9'),
        ("echo secret", "answer is no ExecCredential"),
        ("yes secret", "writes more than any credential has"),
        ("echo '{}'", "answer is no ExecCredential"),
        ("echo '[]'", "answer is no ExecCredential"),
        (credential("client.authentication.k8s.io/v1beta1", token="secret"), f"of {V1}"),
        (credential(), "neither token nor certificate"),
        (credential(clientCertificateData="secret"), "half of a certificate"),
        (credential(token="secret", expirationTimestamp="soon"), "answer is no ExecCredential"),
    ],
)
def test_a_plugin_that_fails_is_an_error_and_no_request_without_credential(
    load_with: Load,
    plugin: Callable[..., dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
    script: str,
    told: str,
) -> None:
    message = refused(lambda: load_with(user=plugin(script)))
    assert told in message
    assert 'user "u"' in message
    assert "secret" not in message
    assert capsys.readouterr().out == ""


def test_a_plugins_stderr_is_shown_as_it_comes(
    load_with: Load, plugin: Callable[..., dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    load_with(user=plugin("echo open https://login.test >&2\n" + credential(token="t")))
    assert capsys.readouterr().err == "open https://login.test\n"


def test_a_plugin_that_leaves_a_daemon_behind_does_not_hang(
    load_with: Load, plugin: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """The daemon holds the plugin's stdout and stderr open; it is ended by its id afterwards."""
    script = f"sleep 60 & echo $! > {tmp_path}/pid\n" + credential(token="t")
    try:
        assert load_with(user=plugin(script)).headers()["Authorization"] == "Bearer t"
    finally:
        os.kill(int((tmp_path / "pid").read_text()), 9)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"command": "no-such-plugin"}, '"no-such-plugin" is not installed'),
        ({"command": "no-such-plugin", "installHint": "brew it"}, "brew it"),
        ({"command": "./gone"}, "cannot be started: No such file"),
        ({"command": ""}, "has no command"),
        ({"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "is not supported"),
        ({"interactiveMode": "Always"}, "standard input is no terminal"),
        ({"env": [{"value": "x"}]}, "should list names and values"),
        ({"env": ["x"]}, "should list names and values"),
    ],
)
def test_a_plugin_that_cannot_run_is_named(
    load_with: Load, plugin: Callable[..., dict[str, Any]], fields: dict[str, Any], told: str
) -> None:
    assert told in refused(lambda: load_with(user=plugin("exit 0", **fields)))


def test_a_static_token_goes_before_a_plugin(
    load_with: Load, plugin: Callable[..., dict[str, Any]]
) -> None:
    user = {**plugin("exit 1"), "token": "static"}
    assert load_with(user=user).headers()["Authorization"] == "Bearer static"


# --- legacy auth-providers ------------------------------------------------------------------


def jwt(expires: int) -> str:
    """Return an unsigned token, as far as the kubernetes package looks at it."""
    parts: tuple[dict[str, Any], ...] = ({"alg": "none"}, {"exp": expires, "pad": "xx"}, {})
    return ".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts
    )


def test_an_oidc_token_that_is_valid_is_used(load_with: Load) -> None:
    token = jwt(32503680000)
    user = {"auth-provider": {"name": "oidc", "config": {"id-token": token}}}
    assert load_with(user=user).headers()["Authorization"] == f"Bearer {token}"


def test_an_auth_provider_that_gives_no_token_is_an_error(load_with: Load) -> None:
    def provider(name: str, **config: str) -> dict[str, Any]:
        return {"auth-provider": {"name": name, "config": config}}

    assert "not supported" in refused(lambda: load_with(user=provider("azure", token="x")))
    text: dict[str, Any] = {"auth-provider": {"name": "oidc", "config": "text"}}
    assert "config should be a mapping" in refused(lambda: load_with(user=text))
    unreachable = {
        "id-token": jwt(1),
        "refresh-token": "r",
        "client-id": "c",
        "client-secret": "s",
        "idp-issuer-url": "ftp://nowhere",
    }
    message = refused(lambda: load_with(user=provider("oidc", **unreachable)))
    assert '"oidc" gave no token' in message


def test_a_renewed_token_is_kept_in_its_file(tmp_path: Path, load_with: Load) -> None:
    renew = tmp_path / "renew"
    answer = {"credential": {"access_token": "new", "token_expiry": "2999-01-01T00:00:00Z"}}
    renew.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    renew.chmod(0o755)
    user = {"auth-provider": {"name": "gcp", "config": {"cmd-path": str(renew)}}}
    assert load_with(user=user).headers()["Authorization"] == "Bearer new"
    assert "access-token: new" in (tmp_path / "config").read_text()


# --- proxies --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy.test:3128", Proxy("proxy.test", 3128, False, None)),
        ("https://proxy.test", Proxy("proxy.test", 443, True, None)),
        ("http://[::1]", Proxy("::1", 80, False, None)),
        (
            "http://me:p%40ss@proxy.test:3128",
            Proxy("proxy.test", 3128, False, "Basic " + pem(b"me:p@ss")),
        ),
    ],
)
def test_proxy_url_wins_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, load_with: Load, url: str, proxy: Proxy
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://other.test")
    monkeypatch.setenv("NO_PROXY", "*")
    assert load_with({**SERVER, "proxy-url": url}).endpoint.proxy == proxy


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("socks5://me:secret@proxy.test", "a socks5:// proxy is not supported"),
        ("http://me:secret@proxy.test:port", "is not a URL"),
        ("http://", "is not a URL"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named(load_with: Load, url: str, told: str) -> None:
    message = refused(lambda: load_with({**SERVER, "proxy-url": url}))
    assert told in message
    assert 'proxy-url of cluster "c"' in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("server", "environment", "host"),
    [
        ("https://api.test", {"HTTPS_PROXY": "http://p.test:1"}, "p.test"),
        ("https://api.test", {"https_proxy": "p.test:1"}, "p.test"),
        ("https://api.test", {"HTTPS_PROXY": "a.test", "https_proxy": "b.test"}, "a.test"),
        ("https://api.test", {"HTTP_PROXY": "http://p.test", "ALL_PROXY": "http://p.test"}, None),
        ("http://api.test", {"HTTP_PROXY": "http://p.test"}, "p.test"),
        ("http://api.test", {"HTTP_PROXY": "http://p.test", "REQUEST_METHOD": "GET"}, None),
        ("https://127.0.0.1:6443", {"HTTPS_PROXY": "http://p.test"}, None),
        ("https://localhost:6443", {"HTTPS_PROXY": "http://p.test"}, None),
        ("https://api.test", {"HTTPS_PROXY": "http://p.test", "no_proxy": "api.test"}, None),
    ],
)
def test_the_environments_proxy_is_gos(
    monkeypatch: pytest.MonkeyPatch,
    load_with: Load,
    server: str,
    environment: dict[str, str],
    host: str | None,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    proxy = load_with({"server": server}).endpoint.proxy
    assert (proxy and proxy.host) == host


@pytest.mark.parametrize(
    ("host", "rules", "bypass"),
    [
        ("a.test", "", False),
        ("a.test", "*", True),
        ("a.test", "b.test, A.test ", True),
        ("x.a.test", "a.test", True),
        ("xa.test", "a.test", False),
        ("a.test", ".a.test", False),
        ("x.a.test", ".a.test", True),
        ("x.a.test", "*.a.test", True),
        ("a.test", "*.a.test", False),
        ("a.test", "a.test:6443", True),
        ("a.test", "a.test:443", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("a.test", "10.0.0.0/8", False),
        ("10.1.2.3", "not/a/cidr", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3", "10.1.2.3:6443", True),
        ("10.1.2.3", "10.1.2.3:443", False),
        ("10.1.2.3", "2.3", False),
        ("fd00::1", "fd00::1", True),
        ("fd00::1", "[fd00::1]:6443", True),
        ("fd00::1", "fd00::/16", True),
        ("fd00::1", "10.0.0.0/8", False),
        ("a.test", "., :6443,", False),
        ("127.9.9.9", "", True),
        ("::1", "", True),
    ],
)
def test_no_proxy(host: str, rules: str, bypass: bool) -> None:
    assert bypassed(host, 6443, rules) == bypass


# --- what it costs --------------------------------------------------------------------------


def test_kubernetes_is_imported_only_for_a_file(tmp_path: Path) -> None:
    script = """
        import sys
        from kubectl_podcp.cluster.kubeconfig import load
        assert "kubernetes" not in sys.modules
        load(sys.argv[1])
        assert "kubernetes" in sys.modules
    """
    file = write(tmp_path / "config", config(SERVER))
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), file], check=True)


def test_an_entry_hides_its_values() -> None:
    assert "secret" not in repr(Entry("user", "u", Path("/x"), {"token": "secret"}))
