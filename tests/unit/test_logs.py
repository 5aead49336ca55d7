"""What is logged, from which -v on; and that no secret is, of whatever kind, whatever fails."""

from __future__ import annotations

import base64
import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from kubectl_podcp import logs
from kubectl_podcp.cluster import api, kubeconfig
from kubectl_podcp.errors import PodcpError, Unauthorized, Unreachable
from kubectl_podcp.exec.tls import connect
from tests.unit.api_server import ApiServer, config, running, status, write
from tests.unit.peers import Peer, serving

SECRET = "s3cr3t-Qx7-4f1d"
"""What none may ever see."""
JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzM2NyM3QifQ.c2lnbmF0dXJl"
PATH = "/api/v1/namespaces/shop/pods/web-0"


@pytest.fixture(autouse=True)
def listening(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> pytest.LogCaptureFixture:
    """Somebody who listens to everything; no proxy of this machine's own."""
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    caplog.set_level(logging.DEBUG, "kubectl_podcp")
    return caplog


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with running() as made:
        yield made


# --- levels -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verbosity", "shown"),
    [
        (0, set()),
        (1, {"CHOICES"}),
        (3, {"CHOICES"}),
        (4, {"CHOICES", "SCRIPTS"}),
        (5, {"CHOICES", "SCRIPTS"}),
        (6, {"CHOICES", "SCRIPTS", "REQUESTS"}),
        (7, {"CHOICES", "SCRIPTS", "REQUESTS", "HEADERS"}),
        (8, {"CHOICES", "SCRIPTS", "REQUESTS", "HEADERS", "FRAMES"}),
        (9, {"CHOICES", "SCRIPTS", "REQUESTS", "HEADERS", "FRAMES"}),
        (99, {"CHOICES", "SCRIPTS", "REQUESTS", "HEADERS", "FRAMES"}),
    ],
)
def test_each_verbosity_shows_what_users_of_kubectl_expect(verbosity: int, shown: set[str]) -> None:
    kinds = {name for name, level in vars(logs).items() if name.isupper() and name[0] != "_"}
    assert kinds == {"CHOICES", "SCRIPTS", "REQUESTS", "HEADERS", "FRAMES"}
    assert {name for name in kinds if vars(logs)[name] >= logs.threshold(verbosity)} == shown


def test_nothing_is_said_where_nobody_listens(tmp_path: Path) -> None:
    """A library prints nothing; not even Python's handler of last resort may speak up for it."""
    here = write(tmp_path / "config", config({"server": "http://127.0.0.1:9"}))
    program = (
        "from kubectl_podcp import Options, PodcpError, copy\n"
        f"try: copy('a:/x', 'b:/y', Options(kubeconfig={here!r}))\n"
        "except PodcpError as error: print(error.code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("unreachable\n", "")


# --- headers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("User-Agent", "kubectl-podcp/1", "kubectl-podcp/1"),
        ("Impersonate-User", "jane\x1b", "jane\\x1b"),
        ("iMpersonate-gROUP", "dev", "dev"),
        ("Authorization", f"Bearer {SECRET}", "Bearer <masked>"),
        ("authorization", f"Basic {SECRET}", "Basic <masked>"),
        ("Proxy-Authorization", f"Basic {SECRET}", "Basic <masked>"),
        ("Authorization", SECRET, "<masked>"),
        ("Authorization", f"{SECRET} {SECRET}", "<masked>"),
        ("X-Anything-New", SECRET, "<masked>"),
        ("Cookie", SECRET, "<masked>"),
    ],
)
def test_a_header_is_shown_or_masked_by_its_name(
    name: str, value: str, shown: str, listening: pytest.LogCaptureFixture
) -> None:
    logs.Request(logging.getLogger("kubectl_podcp.x"), "GET /", {name: value})
    assert listening.messages == [f"GET /\n{name}: {shown}"]


def test_a_request_says_how_it_ended_and_when(listening: pytest.LogCaptureFixture) -> None:
    listening.set_level(logs.REQUESTS, "kubectl_podcp")
    log = logging.getLogger("kubectl_podcp.x")
    logs.Request(log, "GET /a", {"Authorization": SECRET}).answered(403)
    logs.Request(log, "GET /b", {}).answered(799)
    logs.Request(log, "GET /c", {}).answered(None)
    logs.Request(log, "GET /d", {}).failed(Unreachable("no\x1bway", advice="try again"))
    said = [message.rpartition(" (")[0] for message in listening.messages]
    assert said == [
        "GET /a: 403 Forbidden",
        "GET /b: 799",
        "GET /c: no answer",
        "GET /d: no\\x1bway",
    ]
    assert all(message.endswith(" ms)") for message in listening.messages)


# --- secrets ----------------------------------------------------------------------------------

User = Callable[[Path], dict[str, Any]]


def token(_folder: Path) -> dict[str, Any]:
    return {"token": SECRET}


def token_file(folder: Path) -> dict[str, Any]:
    (folder / "token").write_text(SECRET)
    return {"tokenFile": "token"}


def password(_folder: Path) -> dict[str, Any]:
    return {"username": "jane", "password": SECRET}


def impersonating(_folder: Path) -> dict[str, Any]:
    return {"token": SECRET, "as": "jane", "as-groups": ["dev", "ops"]}


def auth_provider(_folder: Path) -> dict[str, Any]:
    settings = {"access-token": SECRET, "expiry": "2999-01-01T00:00:00Z"}
    return {"auth-provider": {"name": "gcp", "config": settings}}


def plugin(folder: Path) -> dict[str, Any]:
    """A plugin that gets a secret, hands one out, and is talkative."""
    status = {"token": SECRET}
    document = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": status,
    }
    script = folder / "plugin"
    script.write_text(f"#!/bin/sh\necho '{json.dumps(document)}'\n")
    script.chmod(0o755)
    return {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": "./plugin",
            "args": [f"--client-secret={SECRET}"],
            "env": [{"name": "CLIENT_SECRET", "value": SECRET}],
        }
    }


def failing_plugin(folder: Path) -> dict[str, Any]:
    """One that tells all it knows, to whoever listens, and fails."""
    user = plugin(folder)
    with (folder / "plugin").open("a") as script:
        script.write(f'sleep 0.3; echo "$CLIENT_SECRET {SECRET} {JWT} denied" >&2; exit 3\n')
    return user


def certificate(folder: Path) -> dict[str, Any]:
    """A client certificate and its key, whose text is the secret."""
    issued = trustme.CA().issue_cert("jane@test")
    key = issued.private_key_pem.bytes()
    (folder / "key").write_bytes(key)
    encoded = (part.bytes() for part in issued.cert_chain_pems)
    return {
        "client-certificate-data": base64.b64encode(b"".join(encoded)).decode(),
        "client-key-data": base64.b64encode(key).decode(),
    }


def broken_certificate(_folder: Path) -> dict[str, Any]:
    broken = base64.b64encode(f"-----BEGIN PRIVATE KEY-----\n{SECRET}".encode()).decode()
    return {"client-certificate-data": broken, "client-key-data": broken}


USERS = [
    *(token, token_file, password, impersonating, auth_provider, plugin, failing_plugin),
    *(certificate, broken_certificate),
]


@pytest.mark.parametrize("answer", ["good", "echo", "redirect"])
@pytest.mark.parametrize("user", USERS, ids=lambda user: user.__name__)
def test_no_secret_is_logged_or_told(
    user: User,
    answer: str,
    server: ApiServer,
    tmp_path: Path,
    listening: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Also where the server repeats in its refusal what we sent."""
    fields = user(tmp_path)
    sent = basic(f"jane:{SECRET}") if user is password else SECRET
    if user is certificate:
        sent = "nothing"  # a key is never sent
    message = f"who is Bearer {sent}, Authorization: Basic {sent}, {sent}?"
    code = {"good": 200, "echo": 401, "redirect": 302}[answer]
    server.serve(PATH, status(code, "Unauthorized", message) if code != 200 else {}, code)
    told = ""
    try:
        cluster = kubeconfig.load(server.kubeconfig(tmp_path, **fields))
        told += repr(cluster)
        api.get(cluster, PATH)
    except PodcpError as error:
        told += f"{error} {error!r}"
    secrets = {SECRET, basic(f"jane:{SECRET}"), basic(SECRET), JWT}
    if "client-key-data" in fields:
        secrets |= {fields["client-key-data"], *key_lines(tmp_path)}
    for text in (listening.text, told, *capfd.readouterr()):
        assert not [secret for secret in secrets if secret in text], text
    assert listening.records


def key_lines(folder: Path) -> list[str]:
    key = folder / "key"
    return [line for line in key.read_text().splitlines() if line[0] != "-"] if key.exists() else []


def basic(pair: str) -> str:
    return base64.b64encode(pair.encode()).decode()


def test_a_plugin_may_still_ask_and_complain(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Words that are no secrets come through, at once, though their line has no end."""
    user = failing_plugin(tmp_path)
    (tmp_path / "plugin").write_text(
        "#!/bin/sh\nprintf 'open https://login.test/?code=ABCD-1234 , then press' >&2; sleep 0.5\n"
        f"echo ' Enter: {JWT}' >&2; exit 1\n"
    )
    with pytest.raises(PodcpError) as caught:
        kubeconfig.load(write(tmp_path / "config", config({"server": "https://x.test"}, user)))
    said = "open https://login.test/?code=ABCD-1234 , then press Enter: ..."
    assert capfd.readouterr().err == f"{said}\n"
    assert said in str(caught.value)


def test_a_plugins_question_is_shown_before_it_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A word that may go on is held back for a moment, but not until it does."""
    answered = tmp_path / "answered"

    class Asked(io.StringIO):
        def write(self, text: str) -> int:
            if text:
                answered.touch()
            return super().write(text)

    user = plugin(tmp_path)
    script = tmp_path / "plugin"
    wait = "n=0; while [ ! -e answered ]; do sleep 0.1; n=$((n+1)); [ $n -lt 300 ] || exit 1; done"
    question = f"cd {tmp_path}; printf Code: >&2; {wait}"
    script.write_text(script.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{question}\n"))
    stderr = Asked()
    monkeypatch.setattr(sys, "stderr", stderr)
    kubeconfig.load(write(tmp_path / "config", config({"server": "https://x.test"}, user)))
    assert stderr.getvalue() == "Code:"


def test_a_secret_that_comes_in_pieces_is_struck_out_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    user = failing_plugin(tmp_path)
    half = len(SECRET) // 2
    (tmp_path / "plugin").write_text(
        f"#!/bin/sh\nprintf 'bad {SECRET[:half]}' >&2; sleep 0.05; "
        f"echo '{SECRET[half:]} and {SECRET}' >&2; exit 1\n"
    )
    with pytest.raises(PodcpError):
        kubeconfig.load(write(tmp_path / "config", config({"server": "https://x.test"}, user)))
    assert capfd.readouterr().err == "bad ... and ...\n"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 407 Who?\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b""])
def test_a_proxys_password_is_not_logged_or_told(
    answer: bytes, tmp_path: Path, listening: pytest.LogCaptureFixture
) -> None:
    def proxy(peer: Peer) -> None:
        assert f"Proxy-Authorization: Basic {basic(f'jane:{SECRET}')}" in peer.read_head()
        peer.write(answer)

    with serving(proxy) as endpoint:
        url = f"http://jane:{SECRET}@{endpoint.host}:{endpoint.port}"
        fields = {"server": "https://api.test", "proxy-url": url}
        cluster = kubeconfig.load(write(tmp_path / "config", config(fields)))
        with pytest.raises(Unreachable) as caught:
            connect(cluster.endpoint, 20)
    text = f"{listening.text} {caught.value} {cluster!r}"
    assert SECRET not in text
    assert basic(f"jane:{SECRET}") not in text
    assert "Proxy-Authorization: Basic <masked>" in listening.text


def test_a_server_with_a_password_is_not_quoted_with_it(tmp_path: Path) -> None:
    fields = {"server": f"ftp://jane:{SECRET}@api.test"}
    with pytest.raises(PodcpError) as caught:
        kubeconfig.load(write(tmp_path / "config", config(fields)))
    assert SECRET not in str(caught.value)
    assert "api.test" in str(caught.value)


def test_a_token_that_no_header_can_carry_is_not_quoted(tmp_path: Path) -> None:
    fields = {"server": "https://api.test"}
    loaded = write(tmp_path / "config", config(fields, {"token": f"{SECRET}\n\u2026"}))
    with pytest.raises(PodcpError) as caught:
        api.get(kubeconfig.load(loaded), PATH)
    assert not isinstance(caught.value, Unauthorized)
    assert SECRET not in f"{caught.value!r} {caught.value}"
