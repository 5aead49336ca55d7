"""What a copy says it has left behind, after several tries, is what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.breaker import Breaker, Link, breaking
from tests.end_to_end.conftest import ClusterUnderTest
from tests.end_to_end.lies import NoLastWord
from tests.end_to_end.pods import TestPod
from tests.loopback.faults import Control, EndEarly, Ending, Fault, runs
from tests.loopback.server import Server

MIB = 1 << 20
SENDS, RECEIVES, COMMITS = (
    runs("tar cf - --numeric-owner"),
    runs("tar xpf -"),
    runs("join && place"),
)
SWEEPS = runs("end_workers\nclean")


class Gone(Fault):
    """A session whose connection ends as soon as its process runs, and its process with it."""

    def begin(self, session: Control) -> None:
        session.end(Ending.RESET)
        session.kill()


class KilledAtTheEnd(Fault):
    """A process that is killed when its input has ended."""

    def end_of_stdin(self, session: Control) -> bytes:
        session.kill()
        return b""


@pytest.fixture
def pods(cluster: ClusterUnderTest) -> tuple[TestPod, TestPod]:
    """A source with a tree, and an empty destination."""
    source, destination = cluster.pod("gnu-0"), cluster.pod("gnu-1")
    source.fresh("/data")
    destination.fresh("/srv")
    source.sh("mkdir /data/tree; cd /data/tree; dd if=/dev/urandom of=a bs=1M count=4 2>/dev/null")
    source.sh("cp /data/tree/a /data/tree/b; touch -d @1600000000 /data/tree/a /data/tree/b")
    return source, destination


def argv(*options: str) -> tuple[str, ...]:
    """Return what copies the tree, options in front."""
    return ("-c", "main", *options, "gnu-0:/data/tree", "gnu-1:/srv/new")


def test_nothing_is_said_to_be_kept_where_nothing_arrived(
    cluster: ClusterUnderTest, pods: tuple[TestPod, TestPod], tmp_path: Path
) -> None:
    """The connection that is to receive breaks before the staging folder is made."""

    def on_passing(breaker: Breaker, link: Link) -> None:
        before = 5  # two for the Pods, two for the probes, and the source's
        if link in breaker.links[before : before + 1]:
            link.reset()

    with breaking(cluster.kubeconfig, "podcp-v5", tmp_path) as (breaker, kubeconfig):
        breaker.on_passing = on_passing
        through = ClusterUnderTest(kubeconfig, cluster.is_real, command=cluster.command)
        done = through.copy("v5", *argv("--partial", "--retries", "0"))
    # It is not connected yet, or has been: what is in between takes the server's time.
    done.failed(done.code if done.code in (1, 4) else 4, "was not changed")
    assert "kept" not in done.stderr
    assert pods[1].names("/srv") == []


def test_a_lost_acknowledgement_is_not_forgotten_by_the_next_try(
    cluster: ClusterUnderTest, server: Server, pods: tuple[TestPod, TestPod]
) -> None:
    lie = NoLastWord()
    server.inject("gnu-1", lie, command=lie.meant, session=0)
    server.inject("gnu-0", Gone(), command=SENDS, session=1)
    done = cluster.copy("v5", *argv("--retries", "1")).failed(1, "is not known")
    assert "was not changed" not in done.stderr
    assert pods[1].names("/srv") == ["new"]


def test_a_tree_whose_acknowledgement_was_lost_is_copied_again(
    cluster: ClusterUnderTest, server: Server, pods: tuple[TestPod, TestPod]
) -> None:
    lie = NoLastWord()
    server.inject("gnu-1", lie, command=lie.meant, session=0)
    cluster.copy("v5", *argv("--retries", "1")).complete()
    assert pods[1].names("/srv") == ["new"]
    assert pods[1].names("/srv/new") == ["a", "b"]


def test_what_could_not_be_removed_is_removed_at_the_end(
    cluster: ClusterUnderTest, server: Server, pods: tuple[TestPod, TestPod]
) -> None:
    """The shell of the first try is killed before it can, and so is who comes to do it."""
    server.inject("gnu-1", KilledAtTheEnd(), command=RECEIVES, session=0)
    server.inject("gnu-1", Gone(), command=SWEEPS, session=0)
    cluster.copy("v5", *argv("--retries", "1")).complete()
    assert pods[1].names("/srv") == ["new"]


def test_a_commit_that_is_lost_is_not_taken_for_done(
    cluster: ClusterUnderTest, server: Server, pods: tuple[TestPod, TestPod]
) -> None:
    # More than the buffers on the way hold: the marker must not have been sent by then.
    pods[0].sh("fallocate -l 96M /data/tree/b; touch -d @1600000000 /data/tree/b")
    server.inject("gnu-1", EndEarly(5 * MIB), command=RECEIVES, session=0)
    server.inject("gnu-1", Gone(), command=COMMITS, session=0)
    done = cluster.copy("v5", *argv("--retries", "1")).failed(1, "is not known")
    assert "is complete" not in done.stderr
    assert pods[1].names("/srv") == []
