"""What decides how a copy runs and how it is told: its rate, its time, and what is printed."""

from __future__ import annotations

import json
import re
import signal
import time
from functools import partial
from typing import Any

import pytest

from kubectl_podcp.errors import printable
from tests.end_to_end import trees
from tests.end_to_end.conftest import TARS, ClusterUnderTest, Copied
from tests.end_to_end.pods import TestPod, wait_until
from tests.loopback.faults import EndEarly, runs
from tests.loopback.server import Server
from tests.unit.test_document import VALIDATOR

MAIN = ("-c", "main")


@pytest.fixture
def source(cluster: ClusterUnderTest) -> TestPod:
    """A Pod with a file of 8 MiB and a small tree."""
    pod = cluster.pod("gnu-0")
    pod.fresh("/data")
    pod.sh("dd if=/dev/urandom of=/data/big bs=1M count=8 2>/dev/null")
    trees.put_big_tree(pod, "/data", "tree", 20)
    return pod


@pytest.fixture
def destination(cluster: ClusterUnderTest) -> TestPod:
    """A Pod with an empty directory."""
    pod = cluster.pod("gnu-1")
    pod.fresh("/srv")
    return pod


def test_no_more_is_sent_than_the_limit_allows(
    cluster: ClusterUnderTest, version: str, source: TestPod, destination: TestPod
) -> None:
    began = time.monotonic()
    done = cluster.copy(version, *MAIN, "--bwlimit", "4M", "gnu-0:/data/big", "gnu-1:/srv")
    assert time.monotonic() - began >= 1.5
    done.complete()
    assert destination.sha256("/srv/big") == source.sha256("/data/big")


@pytest.mark.usefixtures("source")
def test_a_copy_that_takes_too_long_ends_and_leaves_nothing(
    cluster: ClusterUnderTest, destination: TestPod
) -> None:
    """It would take more than a minute."""
    began = time.monotonic()
    limits = ("--bwlimit", "100K", "--timeout", "3s")
    done = cluster.copy("v5", *MAIN, *limits, "gnu-0:/data/big", "gnu-1:/srv")
    assert time.monotonic() - began < 30
    done.failed(1, "not done within 3 s", "gnu-1:/srv was not changed", "--timeout")
    assert destination.names("/srv") == []
    wait_until(partial(_is_quiet, destination), 10, "something of the copy runs")


def _is_quiet(pod: TestPod) -> bool:
    return not pod.ours()


# --- what is printed --------------------------------------------------------------------------


def test_a_dry_run_says_what_would_be_and_does_nothing(
    cluster: ClusterUnderTest, source: TestPod, destination: TestPod
) -> None:
    destination.sh("mkdir /srv/tree; echo old >/srv/tree/old")
    words = (*MAIN, "--dry-run", "gnu-0:/data/tree", "gnu-1:/srv")
    done = cluster.copy("v5", *words)
    assert (done.code, done.stderr) == (0, "")
    assert "would copy gnu-0:/data/tree to gnu-1:/srv\n" in done.stdout
    assert "source: /data/tree (directory) on Pod " in done.stdout
    assert "destination: /srv/tree (a directory, merged into) on Pod " in done.stdout
    assert "/gnu-1, container main, GNU tar, v5.channel.k8s.io or v4.channel.k8s.io" in done.stdout
    assert "tar cf - --numeric-owner" in done.stdout
    assert "tar xpf -" in done.stdout
    assert destination.names("/srv") == ["tree"]
    assert destination.names("/srv/tree") == ["old"]
    assert source.ours() == destination.ours() == []


@pytest.mark.parametrize(
    ("path", "target", "stands"),
    [("/srv/new", "/srv/new", "new"), ("/srv", "/srv/big", "a file, replaced")],
)
@pytest.mark.usefixtures("source")
def test_a_dry_run_for_a_program(
    cluster: ClusterUnderTest, destination: TestPod, path: str, target: str, stands: str
) -> None:
    destination.sh("echo old >/srv/big")
    words = (*MAIN, "--dry-run", "-o", "json", "gnu-0:/data/big", f"gnu-1:{path}")
    (copy,) = document_of(cluster.copy("v5", *words), 0, "planned")
    assert (copy["status"], copy["target"]) == ("planned", target)
    assert copy["plan"]["destination"]["stands"] == stands
    assert copy["plan"]["merges"] is False
    assert destination.sh("cat /srv/big") == b"old\n"


@pytest.mark.usefixtures("source", "destination")
def test_a_dry_run_fails_as_the_copy_would(cluster: ClusterUnderTest) -> None:
    words = (*MAIN, "--dry-run", "gnu-0:/data/tree", "gnu-1:/srv/no/such")
    done = cluster.copy("v5", *words).failed(1, "does not exist")
    assert done.stdout == ""


@pytest.mark.parametrize("compress", ["none", "gzip"])
def test_what_a_dry_run_says_is_what_is_run(
    cluster: ClusterUnderTest, source: TestPod, destination: TestPod, compress: str
) -> None:
    """But for the random numbers."""
    del source, destination
    words = (*MAIN, f"--compress={compress}", "gnu-0:/data/tree", "gnu-1:/srv")
    said = cluster.copy("v5", "--dry-run", *words).stdout
    done = cluster.copy("v5", "-v", "4", *words).complete().stderr
    scripts = re.findall(r"^  sh is given:\n((?:    .*\n)+)", said, re.M)
    assert len(scripts) == 2
    for script in scripts:
        assert without_numbers(script) in without_numbers(done)


def without_numbers(text: str) -> str:
    """Return the text without what is another in each run."""
    return re.sub(r"\b[0-9a-f]{32}\b", "N", text)


def test_the_document_says_what_was_copied(
    cluster: ClusterUnderTest, version: str, source: TestPod, destination: TestPod
) -> None:
    words = (*MAIN, "-q", "--verify", "--itemize", "-o", "json", "gnu-0:/data/tree", "gnu-1:/srv")
    done = cluster.copy(version, *words)
    assert done.stderr == ""
    (copy,) = document_of(done, 0, "complete")
    there = trees.look(destination, "/srv", "tree")
    assert there == trees.look(source, "/data", "tree")
    assert copy["target"] == "/srv/tree"
    assert copy["verified"] is True
    assert copy["protocols"] == ["v4.channel.k8s.io", f"{version}.channel.k8s.io"]
    names = [printable(b"tree/" + name if name else b"tree") for name in there.entries]
    assert sorted(item["name"] for item in copy["items"]) == sorted(names)
    kinds = [item["type"] for item in copy["items"]]
    assert copy["directories"] == kinds.count("directory")
    assert copy["files"] == len(kinds) - kinds.count("directory")
    assert copy["bytes"] == sum(item["size"] for item in copy["items"])


@pytest.mark.usefixtures("source", "destination")
def test_the_document_says_what_went_wrong(cluster: ClusterUnderTest) -> None:
    words = (*MAIN, "-o", "json", "gnu-0:/data/none", "gnu-1:/srv")
    done = cluster.copy("v5", *words)
    (copy,) = document_of(done, 1, "failed")
    assert copy["error"]["code"] == "source-not-found"
    assert copy["error"]["message"] in done.stderr


def test_after_a_signal_there_is_a_document(
    cluster: ClusterUnderTest, source: TestPod, destination: TestPod
) -> None:
    del source
    words = (*MAIN, "-o", "json", "--bwlimit", "100K", "gnu-0:/data/big", "gnu-1:/srv")
    with cluster.start("v5", *words) as process:
        wait_until(lambda: bool(destination.names("/srv")), 20, "nothing arrives")
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
    done = Copied(process.returncode, stdout, stderr)
    (copy,) = document_of(done, 130, "failed")
    assert copy["error"]["code"] == "interrupted"
    assert copy["error"]["left"] == "gnu-1:/srv was not changed"
    assert destination.names("/srv") == []


def document_of(done: Copied, code: int, status: str) -> list[dict[str, Any]]:
    """Return the copies of the document that a run printed."""
    told = json.loads(done.stdout)
    VALIDATOR.validate(told)
    assert (done.code, told["exit_code"], told["status"]) == (code, code, status), done
    assert told["error"] is None
    copies = told["copies"]
    assert isinstance(copies, list)
    return copies


@pytest.mark.parametrize("tar", TARS)
def test_items_are_what_is_there(cluster: ClusterUnderTest, tar: str, destination: TestPod) -> None:
    origin = cluster.pod(f"{tar}-0")
    origin.fresh("/data")
    trees.put_big_tree(origin, "/data", "tree", 20)
    done = cluster.copy("v5", "-q", *MAIN, "--itemize", f"{tar}-0:/data/tree", "gnu-1:/srv")
    assert (done.code, done.stderr) == (0, "")
    there = trees.look(destination, "/srv", "tree").entries
    lines = done.stdout.splitlines()
    names = [printable(b"tree/" + name if name else b"tree") for name in there]
    told = [re.sub(r" (->|link to) .*", "", line.split(None, 3)[3]) for line in lines]
    assert sorted(told) == sorted(names)
    assert {line[0] for line in lines} >= set("-dlh")


def test_after_a_lost_connection_nothing_is_told_twice(
    cluster: ClusterUnderTest, server: Server, source: TestPod, destination: TestPod
) -> None:
    source.sh("mkdir /data/more; cd /data/more; for n in 1 2 3 4 5 6 7 8; do cp /data/big $n; done")
    server.inject("gnu-1", EndEarly(after=20 << 20), command=runs("tar xpf"), session=0)
    done = cluster.copy("v5", *MAIN, "--itemize", "gnu-0:/data/more", "gnu-1:/srv")
    assert "after 1 retry" in done.stderr
    assert trees.look(destination, "/srv", "more") == trees.look(source, "/data", "more")
    told = [line.split()[-1] for line in done.stdout.splitlines()]
    assert sorted(told) == ["more", *(f"more/{number}" for number in range(1, 9))]


@pytest.mark.usefixtures("source", "destination")
def test_progress_for_machines(cluster: ClusterUnderTest) -> None:
    words = (*MAIN, "-q", "--progress", "json", "--bwlimit", "4M", "gnu-0:/data/big", "gnu-1:/srv")
    done = cluster.copy("v5", *words)
    assert (done.code, done.stdout) == (0, "")
    first, *_, last = map(json.loads, done.stderr.splitlines())
    assert first["bytes"] < last["bytes"] == last["total"] == 8 << 20
    assert last["files"] == 1
