"""The Pods of the embedded cluster: what is in them, and that nothing of them stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import userlands
from tests.loopback import demo, isolation
from tests.loopback.client import open_session, run
from tests.loopback.isolation import Isolation, Sandbox
from tests.loopback.process import Process
from tests.loopback.server import Server

REPOSITORY = Path(__file__).parents[2]


def traces(directory: Path) -> list[str]:
    """Return the processes and mounts of this machine that have to do with a directory."""
    found = [
        line for line in Path("/proc/mounts").read_text().splitlines() if str(directory) in line
    ]
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal():
                root = str((entry / "root").readlink())
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
                if root.startswith(str(directory)) or str(directory) in command:
                    found.append(f"{entry.name} {command}")
        except OSError:
            continue  # it has ended, or is somebody else's
    return found


def gone(directory: Path, seconds: float = 10.0) -> bool:
    """Wait until nothing more has to do with a directory."""
    deadline = time.monotonic() + seconds
    while traces(directory):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.skipif(bool(userlands.missing()), reason="not all userlands are installed")
def test_each_userland_has_the_tar_that_its_name_says() -> None:
    words = {"gnu": "(GNU tar)", "busybox": "(busybox)", "bsdtar": "bsdtar", "toybox": "toybox"}
    with Server() as server:
        for name, word in words.items():
            for number in (0, 1):
                tar = run(server, f"{name}-{number}", "tar", "--version", streams=["stdout"])
                assert word in tar.stdout.decode()
        assert run(server, "notar-0", "sh", "-c", "command -v tar").stdout == b""


def test_the_first_use_of_a_pod_is_what_makes_it(tmp_path: Path) -> None:
    with Server(tmp_path / "cluster") as server:
        assert not (server.directory / "pods").exists()
        assert run(server, "gnu-1", "true").status is not None
        assert [path.name for path in (server.directory / "pods").iterdir()] == ["gnu-1.main"]


def test_a_pod_of_another_user_runs_as_that_user() -> None:
    with Server() as server:
        uid = run(server, "user-0", "id", "-u").stdout
        assert uid == (b"1000\n" if os.geteuid() == 0 else b"0\n")
        made = run(server, "user-0", "sh", "-c", "touch /data/file 2>&1; touch /tmp/file").stdout
        assert (b"Permission denied" in made) == (os.geteuid() == 0)


def test_a_pod_without_its_userland_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(userlands, "available", lambda: ["gnu"])
    with Server() as server:
        assert server.pod("gnu-0").phase == "Running"
        with pytest.raises(KeyError, match="is its userland installed"):
            server.pod("toybox-0")


def test_the_demonstrations_tree_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one", "two"):
        demo.populate(tmp_path / name)
    sizes = []
    for path in sorted((tmp_path / "one").rglob("*")):
        twin = tmp_path / "two" / path.relative_to(tmp_path / "one")
        if path.is_file():
            assert path.read_bytes() == twin.read_bytes()
            sizes.append(path.stat().st_size)
    assert len(sizes) > 3000
    assert 25e6 < sum(sizes) < 35e6


def test_the_demonstration_has_its_pods() -> None:
    with Server() as server:
        source = server.pod("web-0", "shop").containers[0].root
        assert (source / "data/photos/coast/panorama.raw").stat().st_size == 12 << 20
        assert (server.pod("store-0", "backup").containers[0].root / "srv").is_dir()


# --- nothing stays -------------------------------------------------------------------------


def test_stopping_leaves_no_process_no_mount_and_no_directory() -> None:
    with Server() as server:
        session = open_session(server, "gnu-1", "sh", "-c", "sleep 1000 & mkdir -m 0 /tmp/x; wait")
        directory = server.directory
        while len(traces(directory)) < 3:  # the first process, sh, and sleep
            time.sleep(0.01)
        session.socket.close()
    assert traces(directory) == []
    assert not directory.exists()


def test_a_given_directory_keeps_the_kubeconfig_alone(tmp_path: Path) -> None:
    with Server(tmp_path) as server:
        run(server, "gnu-1", "true")
    assert [path.name for path in tmp_path.iterdir()] == ["kubeconfig"]


def test_a_directory_in_which_a_server_was_killed_is_used_again(tmp_path: Path) -> None:
    (tmp_path / "pods/gnu-1.main/tmp").mkdir(parents=True)
    with Server(tmp_path) as server:
        assert run(server, "gnu-1", "echo", "works").stdout == b"works\n"


@pytest.fixture
def program(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """The embedded cluster as its own process, with a Pod that runs something."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.loopback", "--demo", "--directory", str(tmp_path)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    said = b""
    while b"shop/web-0" not in said:
        line = process.stdout.readline()
        assert line
        said += line
    assert f"export KUBECONFIG={tmp_path / 'kubeconfig'}".encode() in said
    yield process, tmp_path
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_program_and_all_that_it_made(
    program: tuple[subprocess.Popen[bytes], Path], number: signal.Signals
) -> None:
    process, directory = program
    process.send_signal(number)
    assert process.wait(20) == 0
    assert [path.name for path in directory.iterdir()] == ["kubeconfig"]
    assert traces(directory) == []


def test_the_kubeconfig_names_its_contexts(
    program: tuple[subprocess.Popen[bytes], Path],
) -> None:
    document = json.loads((program[1] / "kubeconfig").read_text())
    names = {context["name"] for context in document["contexts"]}
    assert {"podcp-v5", "podcp-v4", "podcp-viewer-v5", "podcp-nobody-v5"} <= names
    assert document["current-context"] == "podcp-v5"
    assert {context["context"]["namespace"] for context in document["contexts"]} == {"podcp-test"}


# --- isolation -----------------------------------------------------------------------------


def possible() -> list[Isolation]:
    """Return the ways of isolation that this machine can show."""
    ways = {isolation.best()}
    return sorted(ways | ({Isolation.CHROOT} if os.geteuid() == 0 else set()), key=str)


@pytest.mark.parametrize("way", possible())
def test_each_isolation_finds_and_kills_what_runs_inside(way: Isolation, tmp_path: Path) -> None:
    root = tmp_path / "root"
    userlands.build("gnu", root)
    sandbox = Sandbox(root, way)
    try:
        script = "echo x >/dev/null && head -c 4 /dev/zero | wc -c; sleep 999 & sleep 999"
        command = sandbox.enter("/bin/sh", ["sh", "-c", script], 0)
        process = Process(command, {"PATH": "/usr/bin:/bin"}, stdin=True, stdout=True, stderr=False)
        assert process.stdout is not None
        assert process.stdout.read(2) == b"4\n"
        assert traces(root)
    finally:
        sandbox.stop()
    assert process.wait() == 137
    process.close()
    assert gone(root)
    sandbox.stop()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is missing")
@pytest.mark.skipif(isolation.best() is Isolation.CHROOT, reason="a mere chroot has no namespaces")
def test_the_pods_die_with_a_server_that_is_killed(
    program: tuple[subprocess.Popen[bytes], Path],
) -> None:
    process, directory = program
    environment = os.environ | {"KUBECONFIG": str(directory / "kubeconfig")}
    kubectl = subprocess.Popen(
        ["kubectl", "exec", "gnu-1", "--", "sh", "-c", "echo here; sleep 1000"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert kubectl.stdout is not None
    assert kubectl.stdout.readline() == b"here\n"
    assert len(traces(directory / "pods")) >= 2
    process.kill()
    assert gone(directory / "pods")
    kubectl.wait(20)
    kubectl.stdout.close()


def test_a_machine_without_any_isolation_says_what_would_help(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(isolation, "_works", lambda *_: False)
    isolation.best.cache_clear()
    with pytest.raises(isolation.CannotIsolate, match="user namespaces"):
        isolation.best()
    monkeypatch.undo()
    isolation.best.cache_clear()
