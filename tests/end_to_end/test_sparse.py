"""The holes of sparse files stay holes where both tars know them, and zeros come where not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end import trees
from tests.end_to_end.conftest import ClusterUnderTest
from tests.end_to_end.pods import TestPod
from tests.end_to_end.test_resume import Cuts, passed

SIZE = 40_000_000
MAKE = f"""
    mkdir /data/tree; cd /data/tree
    echo begin >begin; truncate -s {SIZE} begin
    truncate -s {SIZE - 4} end; echo end >>end
    for n in 1 2 3 4 5 6 7 8 9; do
      truncate -s $((n * 4000000)) many; head -c 10000 /dev/urandom >>many
    done
    head -c 30000 /dev/urandom >plain
    touch -d @{trees.MTIME} * .
"""
HOLES = [("v5", "gnu", "gnu"), ("v4", "gnu", "bsdtar"), ("v5", "bsdtar", "gnu")]


def ends(cluster: ClusterUnderTest, source: str, target: str) -> tuple[TestPod, TestPod]:
    """Two Pods, of which one has sparse files."""
    pods = cluster.pod(f"{source}-0"), cluster.pod(f"{target}-1")
    pods[0].fresh("/data")
    pods[1].fresh("/srv")
    pods[0].sh(MAKE)
    assert taken(pods[0], "/data") < 2_000_000
    return pods


def taken(pod: TestPod, directory: str) -> int:
    """Return the bytes that a tree takes on the disk."""
    return int(pod.sh(f"du -sk {directory}").split()[0]) * 1024


@pytest.mark.parametrize(("version", "here", "there"), HOLES)
@pytest.mark.parametrize("option", ["-T", "--verify", "--preserve=all", "--compress=gzip"])
def test_holes_are_kept_and_not_sent(
    cluster: ClusterUnderTest, version: str, here: str, there: str, option: str, tmp_path: Path
) -> None:
    source, target = ends(cluster, here, there)
    words = (f"{source.name}:/data/tree", f"{target.name}:/srv/tree", option)
    result, breaker = passed(cluster, version, tmp_path, *words)
    result.complete()
    assert trees.look(target, "/srv", "tree") == trees.look(source, "/data", "tree")
    assert taken(target, "/srv") < 2_000_000
    assert max(breaker.up, breaker.down) < 2_000_000
    assert target.names("/srv") == ["tree"]


@pytest.mark.parametrize(("version", "here", "there"), HOLES)
def test_a_file_that_takes_no_place_is_read(
    cluster: ClusterUnderTest, version: str, here: str, there: str
) -> None:
    """GNU tar takes it for a hole without a look, and on some file systems it is none."""
    source, target = ends(cluster, here, there)
    source.sh(f"cd /data/tree; truncate -s {SIZE} nothing; touch -d @{trees.MTIME} nothing .")
    words = (f"{source.name}:/data/tree", f"{target.name}:/srv", "-v", "1", "--retries", "0")
    done = cluster.copy(version, *words).complete()
    assert ("nothing' takes no place on the disk" in done.stderr) == (here == "gnu")
    assert "retr" not in done.stderr.splitlines()[-1]
    assert trees.look(target, "/srv", "tree") == trees.look(source, "/data", "tree")
    assert target.names("/srv") == ["tree"]


@pytest.mark.parametrize(("here", "there"), [("gnu", "busybox"), ("gnu", "toybox")])
def test_a_tar_that_knows_no_holes_gets_zeros(
    cluster: ClusterUnderTest, version: str, here: str, there: str
) -> None:
    source, target = ends(cluster, here, there)
    cluster.copy(version, f"{source.name}:/data/tree", f"{target.name}:/srv").complete()
    look = "cd {}/tree; sha256sum *; stat -c '%s %n' *"
    assert target.sh(look.format("/srv")) == source.sh(look.format("/data"))
    other = cluster.pod("gnu-1")
    other.fresh("/srv")
    target.fresh("/srv")
    to = ("--to", f"{target.name}:/srv", "--to", f"{other.name}:/srv")
    assert cluster.copy(version, f"{source.name}:/data/tree", *to).code == 0
    for pod in (target, other):
        assert pod.sh(look.format("/srv")) == source.sh(look.format("/data"))


@pytest.mark.parametrize(("version", "here", "there"), HOLES)
def test_a_broken_copy_of_sparse_files_ends_with_the_same_bytes(
    cluster: ClusterUnderTest, version: str, here: str, there: str, tmp_path: Path
) -> None:
    """Broken in a file that has holes in front of where it broke, and behind."""
    source, target = ends(cluster, here, there)
    source.sh(
        "cd /data/tree; for f in begin end many; do head -c 8000000 /dev/urandom >>$f; "
        f"truncate -s 90000000 $f; echo end >>$f; done; touch -d @{trees.MTIME} * ."
    )
    words = (f"{source.name}:/data/tree", f"{target.name}:/srv")
    cuts = Cuts(7 << 20, 17 << 20)
    result, _ = passed(cluster, version, tmp_path, *words, cuts=cuts)
    assert "after 2 retries" in result.complete().stderr
    assert trees.look(target, "/srv", "tree") == trees.look(source, "/data", "tree")
    assert target.names("/srv") == ["tree"]
