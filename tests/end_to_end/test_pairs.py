"""From every tar to every tar, over both protocols: trees and big files arrive as they are."""

from __future__ import annotations

import pytest

from tests.end_to_end import fidelity, trees
from tests.end_to_end.conftest import TARS, ClusterUnderTest
from tests.end_to_end.pods import TestPod

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(params=TARS)
def destination(request: pytest.FixtureRequest, cluster: ClusterUnderTest) -> TestPod:
    """A Pod of each userland, its /srv empty."""
    pod = cluster.pod(f"{request.param}-1")
    pod.fresh("/srv")
    return pod


@pytest.fixture(scope="module", params=TARS)
def source(request: pytest.FixtureRequest, cluster: ClusterUnderTest) -> TestPod:
    """A Pod of each userland that holds the tree and the big file."""
    pod = cluster.pod(f"{request.param}-0")
    pod.fresh("/data")
    trees.put_big_tree(pod, "/data", "tree")
    mebibytes = 512 if cluster.is_real else 48
    pod.sh(f"dd if=/dev/urandom of=/data/big bs=1M count={mebibytes} 2>/dev/null")
    return pod


@pytest.fixture(scope="module")
def sent(source: TestPod) -> trees.Tree:
    """The tree that a Pod holds."""
    return trees.look(source, "/data", "tree")


def userland(pod: TestPod) -> str:
    """Return whose tar a Pod has."""
    return pod.name.partition("-")[0]


@pytest.fixture(scope="module")
def digest(source: TestPod) -> str:
    """The digest of a Pod's big file."""
    return source.sha256("/data/big")


def test_a_tree_arrives_as_it_is(
    cluster: ClusterUnderTest,
    version: str,
    source: TestPod,
    destination: TestPod,
    sent: trees.Tree,
) -> None:
    done = cluster.copy(version, f"{source.name}:/data/tree", f"{destination.name}:/srv")
    done.complete()
    sent = fidelity.comparable(sent, userland(destination))
    came = fidelity.comparable(trees.look(destination, "/srv", "tree"), userland(destination))
    assert len(sent.entries) > 5_500
    assert came.links == sent.links
    assert came.entries.keys() == sent.entries.keys()
    assert [name for name in sent.entries if came.entries[name] != sent.entries[name]] == []
    assert destination.names("/srv") == ["tree"]


def test_a_big_file_arrives_as_it_is(
    cluster: ClusterUnderTest, version: str, source: TestPod, destination: TestPod, digest: str
) -> None:
    done = cluster.copy(version, f"{source.name}:/data/big", f"{destination.name}:/srv/other")
    done.complete()
    assert destination.sha256("/srv/other") == digest
    assert destination.names("/srv") == ["other"]
