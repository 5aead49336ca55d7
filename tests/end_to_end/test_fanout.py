"""Several destinations of one source: it is read once, and each is proved by itself."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end import fidelity, trees
from tests.end_to_end.conftest import TARS, ClusterUnderTest, Copied
from tests.end_to_end.pods import CommandFailed, TestPod, wait_until
from tests.loopback.faults import Control, CutStdout, Ending, Fault, runs
from tests.loopback.pods import NAMESPACE, Container, Pod
from tests.loopback.server import Server

SENDS, RECEIVES = runs("tar cf - --numeric-owner"), runs("tar xpf -")
MIB = 1 << 20
BIG = 24
"""MiB of the tree: more than all that can be on its way to one destination."""

STALL = ("--stall-timeout", "4")
ONCE = ("--retries", "0")


class Count(Fault):
    """How often something was run; nothing happens to it."""

    def __init__(self) -> None:
        self.begun = 0

    def begin(self, session: Control) -> None:  # noqa: ARG002
        self.begun += 1


class StopsReading(Fault):
    """Nothing is read any more after so many bytes, and nothing said."""

    def __init__(self, after: int) -> None:
        self._left = after

    def stdin(self, session: Control, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            session.end(Ending.STALL)
            return b""
        return data


class Deletes(Fault):
    """A Pod is deleted after so many bytes."""

    def __init__(self, server: Server, pod: str, after: int) -> None:
        self._server = server
        self._pod = pod
        self._left = after

    def stdin(self, session: Control, data: bytes) -> bytes:  # noqa: ARG002
        self._left -= len(data)
        if self._left < 0:
            self._left = 1 << 60
            self._server.delete(self._server.pod(self._pod))
        return data


@dataclass(frozen=True)
class Fleet:
    """Ten Pods with one label, of all userlands.

    :ivar source: where the tree is, which is ``sent``.
    """

    cluster: ClusterUnderTest
    server: Server
    source: TestPod
    sent: trees.Tree
    pods: Sequence[TestPod]

    def copy(self, version: str, *words: str) -> Copied:
        """Copy the tree to all."""
        return self.cluster.copy(version, *words, "gnu-0:/data/tree", "-l", "app=fleet", ":/srv")

    def have_it(self, *but: int) -> None:
        """Check that each Pod has the tree, and nothing else, but for some of them."""
        for number, pod in enumerate(self.pods):
            if number not in but:
                has_it(pod, TARS[number % len(TARS)], self.sent)

    def rests(self, *but: int) -> None:
        """Wait until nothing of a copy runs any more."""
        here = [self.source, *(pod for number, pod in enumerate(self.pods) if number not in but)]
        wait_until(lambda: not any(pod.ours() for pod in here), 10, "a copy still runs")


@pytest.fixture(scope="module")
def sent(cluster: ClusterUnderTest) -> trees.Tree:
    """The tree in gnu-0:/data/tree."""
    return make_tree(cluster.pod("gnu-0"))


def make_tree(pod: TestPod, big: int = BIG) -> trees.Tree:
    """Make a tree in /data, with a file of ``big`` MiB."""
    pod.fresh("/data")
    trees.put_big_tree(pod, "/data", "tree", 60)
    pod.sh(
        f"cd /data/tree; dd if=/dev/urandom of=big bs=1M count={big} 2>/dev/null; "
        "touch -d 2021-02-03 big ."
    )
    return trees.look(pod, "/data", "tree")


@pytest.fixture
def fleet(
    cluster: ClusterUnderTest, server: Server, sent: trees.Tree, tmp_path: Path
) -> Iterator[Fleet]:
    """Ten Pods of all userlands, with an empty /srv each."""
    made = []
    for number in range(10):
        name, userland = f"fleet-{number}", TARS[number % len(TARS)]
        container = Container(name, "main", userland, tmp_path / name)
        made.append(Pod(NAMESPACE, name, (container,)))
        server.create(made[-1])
    pods = [cluster.pod(pod.name) for pod in made]
    for pod in pods:
        pod.fresh("/srv")
    yield Fleet(cluster, server, cluster.pod("gnu-0"), sent, pods)
    for each in made:
        with suppress(ValueError):  # deleted
            server.delete(each)
        for container in each.containers:
            container.stop()


def has_it(pod: TestPod, userland: str, sent: trees.Tree) -> None:
    """Check that a Pod has the tree, as its tar can have it, and nothing else."""
    wanted = fidelity.comparable(sent, userland)
    came = fidelity.comparable(trees.look(pod, "/srv", "tree"), userland)
    assert came.links == wanted.links, pod.name
    assert came.entries.keys() == wanted.entries.keys(), pod.name
    differing = [name for name in wanted.entries if came.entries[name] != wanted.entries[name]]
    assert differing == [], pod.name
    assert pod.names("/srv") == ["tree"]


def errors(done: Copied) -> list[str]:
    """Return the first line of each error."""
    return [line for line in done.stderr.splitlines() if line.startswith("error: ")]


def summaries(done: Copied) -> list[str]:
    """Return where each copy stands that is said to be complete."""
    return re.findall(r"^complete: .* at (\S+)[,)]", done.stderr, re.M)


# --- any cluster ---------------------------------------------------------------------------------


@pytest.fixture
def three(cluster: ClusterUnderTest) -> list[TestPod]:
    """Three Pods of any cluster, with an empty /srv each."""
    pods = [cluster.pod(name) for name in ("gnu-1", "busybox-1", "bsdtar-1")]
    for pod in pods:
        pod.fresh("/srv")
    return pods


def to(pods: Sequence[TestPod], path: str = "/srv") -> list[str]:
    """Return the options for some destinations."""
    return [word for pod in pods for word in ("--to", f"{pod.name}:{path}")]


@pytest.mark.parametrize("options", [(), ("--verify",)], ids=["plain", "verified"])
def test_three_pods_get_it_at_once(
    cluster: ClusterUnderTest,
    version: str,
    sent: trees.Tree,
    three: list[TestPod],
    options: tuple[str, ...],
) -> None:
    done = cluster.copy(version, "gnu-0:/data/tree", *to(three), *options)
    assert done.code == 0, done
    assert sorted(summaries(done)) == sorted(f"{pod.name}:/srv/tree" for pod in three)
    assert done.stderr.count("sha256 verified") == (3 if options else 0)
    assert re.match(r"complete: 3 copies, [\d,]+ files, ", done.stderr.splitlines()[-1])
    for pod in three:
        has_it(pod, pod.name.partition("-")[0], sent)
        assert pod.ours() == []


def test_one_of_three_that_refuses_hurts_no_other(
    cluster: ClusterUnderTest, version: str, sent: trees.Tree, three: list[TestPod]
) -> None:
    three[1].sh("echo old >/srv/tree")
    words = ("gnu-0:/data/tree", *to(three), "--to", "no-such-pod:/srv", "-o", "json")
    done = cluster.copy(version, *words)
    assert done.code == 3, done
    document = json.loads(done.stdout)
    assert document["status"] == "partial"
    copies = {each["destination"]: each for each in document["copies"]}
    assert {name: each["status"] for name, each in copies.items()} == {
        "gnu-1:/srv": "complete",
        "busybox-1:/srv": "failed",
        "bsdtar-1:/srv": "complete",
        "no-such-pod:/srv": "failed",
    }
    assert copies["busybox-1:/srv"]["error"]["code"] == "destination-refused"
    assert copies["no-such-pod:/srv"]["error"]["code"] == "pod-not-found"
    assert done.stderr.splitlines()[-1].startswith("partial: 2 of 4 copies complete, ")
    assert done.stderr.rstrip().endswith("; failed: busybox-1:/srv, no-such-pod:/srv")
    assert three[1].sh("cat /srv/tree") == b"old\n"
    for pod in (three[0], three[2]):
        has_it(pod, pod.name.partition("-")[0], sent)


def test_several_sources_go_to_each(
    cluster: ClusterUnderTest, version: str, sent: trees.Tree, three: list[TestPod], tmp_path: Path
) -> None:
    """Wildcards among them; where one source or one destination fails, all else is there."""
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    sources = ("gnu-0:/data/tr*", str(tmp_path / "file"))
    done = cluster.copy(version, *sources, *to(three))
    assert done.code == 0, done
    assert len(summaries(done)) == 6
    for pod in three:
        assert pod.sh("cat /srv/file") == b"x" * 100_000
        assert sorted(pod.names("/srv")) == ["file", "tree"]
        pod.sh("rm /srv/file")
        has_it(pod, pod.name.partition("-")[0], sent)
        pod.fresh("/srv")
    three[1].sh("echo old >/srv/tree")
    done = cluster.copy(version, *sources, "gnu-0:/none", *to(three))
    assert done.code == 3, done
    assert len(summaries(done)) == 5
    ends = [("gnu-0:/data/tree", three[1]), *(("gnu-0:/none", pod) for pod in three)]
    failed = ", ".join(f"{source} to {pod.name}:/srv" for source, pod in ends)
    assert done.stderr.rstrip().endswith(f"; failed: {failed}")
    assert three[1].sh("cat /srv/tree") == b"old\n"
    assert all(pod.sh("cat /srv/file") == b"x" * 100_000 for pod in three)
    assert all(pod.ours() == [] for pod in three)


@pytest.mark.parametrize("option", ["--no-clobber", "--backup"])
def test_each_has_files_of_its_own_already(
    cluster: ClusterUnderTest, version: str, sent: trees.Tree, three: list[TestPod], option: str
) -> None:
    """What is there at one of them is kept, or has another name, there alone."""
    three[1].sh("mkdir /srv/tree; echo old >/srv/tree/big")
    done = cluster.copy(version, "gnu-0:/data/tree", *to(three), option)
    assert done.code == 0, done
    for pod in (three[0], three[2]):
        has_it(pod, pod.name.partition("-")[0], sent)
    there = trees.look(three[1], "/srv", "tree")
    kept = option == "--no-clobber"
    assert there.entries.keys() - sent.entries.keys() == (set() if kept else {b"big~"})
    assert three[1].sh(f"cat /srv/tree/big{'' if kept else '~'}") == b"old\n"
    what = "1 kept" if kept else "1 backed up"
    told = [line for line in done.stderr.splitlines() if what in line]
    assert len(told) == 2, done
    assert f"{three[1].name}:/srv/tree" in told[0]
    assert told[1].startswith("complete: 3 copies, ")
    assert all(pod.ours() == [] for pod in three)


def test_who_cannot_keep_owners_is_named_alone(
    cluster: ClusterUnderTest, version: str, sent: trees.Tree, three: list[TestPod]
) -> None:
    assert {(entry.uid, entry.gid) for entry in sent.entries.values()} != {(1000, 1000)}
    cluster.pod("user-0").sh(
        "[ ! -e /tmp/copy ] || chmod -R u+rwX /tmp/copy; rm -rf /tmp/copy; mkdir /tmp/copy"
    )
    words = ("--to", "user-0:/tmp/copy", *to(three), "-o", "json")
    done = cluster.copy(version, "gnu-0:/data/tree", *words)
    assert done.code == 0, done
    told = {
        each["destination"]: any("owners are not kept" in notice for notice in each["notices"])
        for each in json.loads(done.stdout)["copies"]
    }
    assert told == {"user-0:/tmp/copy": True, **{f"{pod.name}:/srv": False for pod in three}}
    assert done.stderr.count("owners are not kept: the user in user-0, 1000:1000") == 1


def test_where_all_fail_nothing_is_partial(
    cluster: ClusterUnderTest, sent: trees.Tree, three: list[TestPod]
) -> None:
    assert sent.entries
    for pod in three:
        pod.sh("echo old >/srv/tree")
    done = cluster.copy("v5", "gnu-0:/data/tree", *to(three))
    assert done.code == 1, done
    assert len(errors(done)) == 3
    assert done.stderr.splitlines()[-1].startswith("failed: 0 of 3 copies complete, ")
    cluster.copy("v5", "gnu-0:/none", *to(three)).failed(1, "gnu-0:/none does not exist")


def test_a_file_from_this_machine_and_a_copy_on_it(
    cluster: ClusterUnderTest, sent: trees.Tree, three: list[TestPod], tmp_path: Path
) -> None:
    """The container's own paths are what counts; some of a source is, too."""
    (tmp_path / "file").write_bytes(b"x" * 100_000)
    done = cluster.copy("v5", str(tmp_path / "file"), *to(three, "/srv/other"))
    assert done.code == 0, done
    for pod in three:
        assert pod.sh("cat /srv/other") == b"x" * 100_000
    (tmp_path / "here").mkdir()
    words = ("gnu-0:/data/tree", "--to", str(tmp_path / "here"), *to(three[:1]))
    done = cluster.copy("v5", *words, "--exclude", "/big")
    assert done.code == 0, done
    kept = {name for name in sent.entries if name != b"big"}
    assert trees.look(three[0], "/srv", "tree").entries.keys() == kept
    assert not (tmp_path / "here/tree/big").exists()
    assert (tmp_path / "here/tree/d00").is_dir()


# --- ten Pods with a label -----------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--verify",)], ids=["plain", "verified"])
def test_the_source_is_read_once(
    fleet: Fleet, version: str, server: Server, options: tuple[str, ...]
) -> None:
    count = Count()
    server.inject("gnu-0", count, command=SENDS)
    done = fleet.copy(version, *options)
    assert done.code == 0, done
    assert count.begun == 1
    pods = ", ".join(pod.name for pod in fleet.pods)
    assert f"-l app=fleet: taking 10 Pods {pods}\n" in done.stderr
    assert sorted(summaries(done)) == [f"{pod.name}:/srv/tree" for pod in fleet.pods]
    fleet.have_it()
    fleet.rests()


def test_three_of_ten_that_fail_hurt_no_other(fleet: Fleet, version: str, server: Server) -> None:
    """One stops reading, one is deleted, one is full."""
    try:
        fleet.pods[4].sh("mount -t tmpfs -o size=4m small /srv")
    except CommandFailed:
        pytest.skip("no file system can be mounted here")
    count = Count()
    server.inject("gnu-0", count, command=SENDS)
    server.inject("fleet-2", StopsReading(3 * MIB), command=RECEIVES)
    server.inject("fleet-3", Deletes(server, "fleet-3", 3 * MIB), command=RECEIVES)
    began = time.monotonic()
    done = fleet.copy(version, *STALL, *ONCE)
    assert time.monotonic() - began < 40
    assert done.code == 3, done
    assert count.begun == 1
    fleet.have_it(2, 3, 4)
    assert len(summaries(done)) == 7
    last = done.stderr.splitlines()[-1]
    assert last.startswith("partial: 7 of 10 copies complete, ")
    assert last.endswith("; failed: fleet-2:/srv, fleet-3:/srv, fleet-4:/srv")
    said = {line.split(":")[1].strip(): line for line in errors(done)}
    assert "took nothing for 4 s" in said["fleet-2"] or "took less than" in said["fleet-2"]
    assert "fleet-3" in said
    assert "fleet-4:/srv was not changed" in done.stderr
    for number in (2, 4):
        assert fleet.pods[number].names("/srv") == []
    fleet.rests(2, 3)  # the API server of the one does not see that we are gone
    fleet.pods[4].sh("umount /srv")


def test_one_that_is_slow_for_a_time_is_copied_to_by_itself(
    fleet: Fleet, version: str, server: Server
) -> None:
    """It goes on from where it was; the source is read again for that."""
    count, stops = Count(), StopsReading(14 * MIB)
    server.inject("gnu-0", count, command=SENDS)
    server.inject("fleet-5", stops, command=RECEIVES, session=0)
    done = fleet.copy(version, *STALL)
    assert done.code == 0, done
    assert count.begun == 2
    assert re.search(r"^fleet-5:/srv: .* took .* 4 s.*; trying again in", done.stderr, re.M)
    lines = summaries(done)
    assert lines[-1] == "fleet-5:/srv/tree"
    assert len(lines) == 10
    assert "after 1 retry" in done.stderr.splitlines()[-2]
    fleet.have_it()
    fleet.rests(5)  # the API server of its first session does not see that we are gone


def test_a_source_that_fails_fails_all(fleet: Fleet, version: str, server: Server) -> None:
    server.inject("gnu-0", CutStdout(2 * MIB, Ending.SUCCESS, kill=True), command=SENDS)
    done = fleet.copy(version, *ONCE)
    assert done.code == 1, done
    assert len(errors(done)) == 10
    assert done.stderr.count("was not changed") == 10
    assert done.stderr.splitlines()[-1].startswith("failed: 0 of 10 copies complete, ")
    for pod in fleet.pods:
        assert pod.names("/srv") == []
    fleet.rests()


def test_a_signal_leaves_nothing_anywhere(fleet: Fleet, version: str) -> None:
    words = ("gnu-0:/data/tree", "-l", "app=fleet", ":/srv", "--bwlimit", "8M")
    with fleet.cluster.start(version, *words, stderr=subprocess.PIPE) as process:
        wait_until(lambda: bool(fleet.pods[0].names("/srv")), 20, "nothing is staged")
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert time.monotonic() - began < 10
    assert "error: interrupted" in said
    assert said.count("was not changed") == 10
    for pod in fleet.pods:
        assert pod.names("/srv") == []
    fleet.rests()
