"""The embedded cluster under a real kubectl: over WebSockets (v5), and over SPDY (v4)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loopback.server import Server

pytestmark = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is missing")
BOTH = pytest.mark.parametrize("context", ["podcp-v5", "podcp-v4"])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One cluster for this module."""
    with Server() as server:
        yield server


@pytest.fixture
def environment(server: Server, tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has nothing but this kubeconfig."""
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "KUBECONFIG": str(server.kubeconfig)}


def kubectl(
    environment: dict[str, str], *arguments: str, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["kubectl", *arguments], input=stdin, capture_output=True, env=environment, timeout=60
    )


@BOTH
def test_get_pods_shows_a_table(environment: dict[str, str], context: str) -> None:
    listed = kubectl(environment, "--context", context, "get", "pods").stdout.decode().splitlines()
    assert listed[0].split() == ["NAME", "READY", "STATUS", "AGE"]
    rows = {line.split()[0]: line.split()[1:3] for line in listed[1:]}
    assert rows["gnu-0"] == ["2/2", "Running"]
    assert rows["done-0"] == ["0/1", "Completed"]


def test_the_current_context_and_namespace_are_set(environment: dict[str, str]) -> None:
    assert kubectl(environment, "config", "current-context").stdout == b"podcp-v5\n"
    assert kubectl(environment, "get", "pod", "gnu-0", "-o", "name").stdout == b"pod/gnu-0\n"
    assert b"shop" in kubectl(environment, "get", "ns").stdout


@BOTH
def test_exec_carries_streams_and_exit_code(environment: dict[str, str], context: str) -> None:
    command = ["--context", context, "exec", "-i", "gnu-1", "--", "sh", "-c"]
    ran = kubectl(environment, *command, "cat; echo err >&2; exit 3", stdin=b"from here")
    assert (ran.returncode, ran.stdout) == (3, b"from here")
    assert ran.stderr.startswith(b"err\n")


@BOTH
def test_exec_takes_the_first_container_and_says_so(
    environment: dict[str, str], context: str
) -> None:
    ran = kubectl(environment, "--context", context, "exec", "gnu-0", "--", "echo", "hello")
    assert ran.stdout == b"hello\n"
    assert b'Defaulted container "main" out of: main, side' in ran.stderr


@BOTH
def test_cp_goes_both_ways(environment: dict[str, str], context: str, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "there").write_bytes(data)
    for source, target in (("there", "gnu-1:/tmp/file"), ("gnu-1:/tmp/file", "back")):
        local = [str(tmp_path / path) if ":" not in path else path for path in (source, target)]
        # In a user namespace no tar can give a file back to its owner.
        copied = kubectl(environment, "--context", context, "cp", "--no-preserve", *local)
        assert copied.returncode == 0
    assert (tmp_path / "back").read_bytes() == data


@BOTH
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["exec", "nope", "--", "true"], 'pods "nope" not found'),
        (["exec", "gnu-0", "-c", "zz", "--", "true"], "container zz is not valid for pod gnu-0"),
        (["exec", "pending-0", "--", "true"], "does not have a host assigned"),
        (["exec", "done-0", "--", "true"], "completed pod"),
        (["exec", "gnu-1", "--", "nosuch"], '"nosuch": executable file not found in $PATH'),
    ],
)
def test_errors_reach_the_user(
    environment: dict[str, str], context: str, arguments: list[str], text: str
) -> None:
    ran = kubectl(environment, "--context", context, *arguments)
    assert ran.returncode == 1
    assert text in ran.stderr.decode()


def test_a_viewer_may_look_and_not_touch(environment: dict[str, str]) -> None:
    viewer = ["--context", "podcp-viewer-v5"]
    assert kubectl(environment, *viewer, "get", "pods").returncode == 0
    refused = kubectl(environment, *viewer, "exec", "gnu-1", "--", "true")
    assert b"Forbidden" in refused.stderr
    nobody = kubectl(environment, "--context", "podcp-nobody-v5", "get", "pods")
    assert b"Forbidden" in nobody.stderr
