"""To a Pod from this machine, and back: the same rules, the same proof, the same report."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests import mapped
from tests.end_to_end.conftest import ClusterUnderTest
from tests.end_to_end.pods import ThisMachine, wait_until

HERE = ThisMachine()


def test_a_file_there_and_back(cluster: ClusterUnderTest, version: str, tmp_path: Path) -> None:
    pod = cluster.pod("gnu-1")
    pod.fresh("/srv")
    content = os.urandom(20 << 20)
    (tmp_path / "file").write_bytes(content)
    (tmp_path / "back").write_text("old")
    cluster.copy(version, f"{tmp_path}/file", "gnu-1:/srv/other").complete()
    done = cluster.copy(version, "gnu-1:/srv/other", f"{tmp_path}/back").complete()
    assert "1 file, 20.0 MiB" in done.stderr
    assert (tmp_path / "back").read_bytes() == content
    assert HERE.names(str(tmp_path)) == ["back", "file"]


@pytest.mark.parametrize(
    "name", ["with:colon", "-dash", "@at", "new\nline", "sp ace", "ü☃", "\udcff"]
)
def test_odd_names_on_this_machine(
    cluster: ClusterUnderTest, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A colon makes a Pod's path, so a relative name that has one is written with ./"""
    pod = cluster.pod("gnu-1")
    pod.fresh("/srv")
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("text")
    (tmp_path / "down").mkdir()
    cluster.copy("v5", "--", f"./{name}", "gnu-1:/srv").complete()
    cluster.copy("v5", "--", f"gnu-1:/srv/{name}", "./down").complete()
    assert (tmp_path / "down" / name).read_text() == "text"


def test_the_directory_rule_is_the_same(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    pod = cluster.pod("gnu-1")
    pod.fresh("/data/tree")
    pod.sh("echo new >/data/tree/file")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/old").write_text("old")
    cluster.copy("v5", "gnu-1:/data/tree", str(tmp_path)).complete()
    cluster.copy("v5", "gnu-1:/data/tree", f"{tmp_path}/tree").complete()
    cluster.copy("v5", "gnu-1:/data/tree/.", f"{tmp_path}/tree").complete()
    cluster.copy("v5", "-T", "gnu-1:/data/tree", f"{tmp_path}/name").complete()
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"tree/old", "tree/file", "tree/tree/file", "name/file"}


def test_what_does_not_exist_or_does_not_fit(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    pod = cluster.pod("gnu-1")
    pod.fresh("/data/tree", "/srv")
    (tmp_path / "file").write_text("old")
    for words, said in (
        ((f"{tmp_path}/none", "gnu-1:/srv"), "does not exist on this machine"),
        (("gnu-1", "gnu-1:/srv"), "a path in a Pod is written"),
        (("gnu-1:/data/none", str(tmp_path)), "does not exist"),
        (("gnu-1:/data/tree", f"{tmp_path}/no/such"), "does not exist"),
        (("gnu-1:/data/tree", f"{tmp_path}/file"), "cannot overwrite non-directory"),
    ):
        cluster.copy("v5", *words).failed(1, said)
    assert HERE.names(str(tmp_path)) == ["file"]
    assert (tmp_path / "file").read_text() == "old"
    assert pod.names("/srv") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may map so many users")
@pytest.mark.parametrize("tar", ["tar", "busybox"])
def test_an_owner_who_is_nobody_here_is_never_another(
    cluster: ClusterUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tar: str
) -> None:
    """As root of a user namespace, where busybox' tar gives to root what it cannot give away."""
    tools, here = tmp_path / "tools", tmp_path / "here"
    for directory in (tools, here):
        directory.mkdir()
    (tools / "tar").symlink_to(shutil.which(tar) or "")
    monkeypatch.setenv("PATH", str(tools), prepend=os.pathsep)
    pod = cluster.pod("gnu-0")
    pod.fresh("/data/tree")
    pod.sh("cd /data/tree; echo a >a; chown 65535:65535 a; echo b >b; chown 100000 b")
    inside = replace(cluster, command=(*mapped.COMMAND, *cluster.command))
    done = inside.copy("v5", "gnu-0:/data/tree", str(here))
    done.failed(1, "'tree/b' would belong to 100000:0, who is nobody on this machine")
    assert f"{here} was not changed" in done.stderr
    assert HERE.names(str(here)) == []
    for option, owner in (
        ("--chown=5:6", {(5, 6)}),
        ("--no-preserve=ownership", {(0, 0)}),
        ("--exclude=b", {(65535, 65535)}),
    ):
        inside.copy("v5", option, "gnu-0:/data/tree/", f"{here}/{option}").complete()
        files = [path.stat() for path in (here / option).iterdir()]
        assert {(each.st_uid, each.st_gid) for each in files} == owner


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_client_that_ends_leaves_nothing_on_either_side(
    cluster: ClusterUnderTest, version: str, tmp_path: Path, number: signal.Signals
) -> None:
    pod = cluster.pod("gnu-0")
    pod.fresh("/data")
    pod.sh("fallocate -l 4G /data/long")
    (tmp_path / "long").write_text("old")
    process = cluster.start(version, "gnu-0:/data/long", f"{tmp_path}/long")
    wait_until(partial(some_arrived, tmp_path, process), 60, "nothing arrived")
    process.send_signal(number)
    process.communicate(timeout=10)
    wait_until(lambda: not pod.ours(), 10, "a process is left in the Pod")
    wait_until(lambda: not at_work_in(tmp_path), 10, "a process is left here")
    assert (tmp_path / "long").read_text() == "old"
    if number == signal.SIGKILL:  # what it kept for its next try goes with the next run
        pod.sh("echo new >/data/long")
        cluster.copy(version, "gnu-0:/data/long", f"{tmp_path}/long").complete()
        assert (tmp_path / "long").read_text() == "new\n"
    assert HERE.names(str(tmp_path)) == ["long"]


def some_arrived(directory: Path, process: subprocess.Popen[str]) -> bool:
    """Whether megabytes of the copy stand in its staging folder."""
    assert process.poll() is None, process.communicate()
    return any(path.stat().st_blocks > 4096 for path in directory.glob(".podcp-*/long"))


def at_work_in(directory: Path) -> list[str]:
    """Return the processes whose working directory is in ``directory``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            where = (process / "cwd").readlink()
        except OSError:
            continue
        if where.is_relative_to(directory):
            found.append(process.name)
    return found
