"""What is compressed on its way arrives as it is, with the same proof; and automatic choice."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from pathlib import Path

import pytest

from tests import one_file
from tests.end_to_end import fidelity, trees
from tests.end_to_end.breaker import breaking
from tests.end_to_end.conftest import ClusterUnderTest
from tests.end_to_end.pods import TestPod
from tests.end_to_end.test_resume import Cuts, copied, passed

PACKS = {"gzip": {"gnu", "busybox", "bsdtar"}, "zstd": {"gnu", "bsdtar"}}
UNPACKS = {"gzip": {"gnu", "busybox", "bsdtar", "toybox"}, "zstd": {"gnu", "bsdtar"}}
"""What the userlands have: Debian's toybox can undo gzip, and does not compress."""

FILES = 200


def pods(cluster: ClusterUnderTest, source: str, target: str) -> tuple[TestPod, TestPod]:
    """Return two Pods with nothing in their directories."""
    made = cluster.pod(f"{source}-0"), cluster.pod(f"{target}-1")
    made[0].fresh("/data")
    made[1].fresh("/srv")
    return made


def check(source: TestPod, target: TestPod, tar: str) -> None:
    """Compare the trees."""
    sent = fidelity.comparable(trees.look(source, "/data", "tree"), tar)
    assert fidelity.comparable(trees.look(target, "/srv", "tree"), tar) == sent
    assert target.names("/srv") == ["tree"]
    assert target.ours() == source.ours() == []


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_tree_arrives_as_it_is(
    cluster: ClusterUnderTest, crosswise: tuple[str, str, str], kind: str, tmp_path: Path
) -> None:
    """Or an end that cannot do what was asked for is named."""
    version, here, there = crosswise
    source, target = pods(cluster, here, there)
    trees.put_big_tree(source, "/data", "tree", FILES)
    source.sh("cd /data/tree; yes | head -c 9000000 >long; touch -d @1600000000 long .")
    words = (f"{source.name}:/data/tree", f"{target.name}:/srv", f"--compress={kind}")
    if kind == "zstd":
        cluster = dataclasses.replace(cluster, command=one_file.INSTALLED)
    result, breaker = passed(cluster, version, tmp_path, *words)
    if here not in PACKS[kind]:
        result.failed(1, f"there is no {kind} in {source.name}", "--compress=auto")
    elif (version, there) == ("v4", "toybox"):  # its dd cannot say where a stream ends
        result.failed(1, "leave out --compress")
    elif there not in UNPACKS[kind]:
        result.failed(1, f"there is nothing that undoes {kind} in {target.name}")
    else:
        result.complete()
        check(source, target, there)
        assert breaker.up < 3_000_000
        assert breaker.down < 3_000_000
        return
    assert target.names("/srv") == []


@pytest.mark.parametrize("tar", ["gnu", "busybox", "bsdtar"])
def test_a_copy_that_is_broken_goes_on(
    cluster: ClusterUnderTest, version: str, tar: str, tmp_path: Path
) -> None:
    """With all of what had arrived."""
    source, target = pods(cluster, "gnu", tar)
    source.sh(
        "mkdir /data/tree; cd /data/tree; for n in 1 2 3 4; do "
        "dd if=/dev/urandom of=big$n bs=1M count=8 2>/dev/null; done; "
        f"touch -d @{trees.MTIME} big* ."
    )
    words = (f"{source.name}:/data/tree", f"{target.name}:/srv", "--compress=gzip")
    breaker = copied(cluster, version, tmp_path, Cuts(9 << 20, 21 << 20), *words)
    check(source, target, tar)
    assert breaker.down < 80 << 20


def test_all_options_together(cluster: ClusterUnderTest, crosswise: tuple[str, str, str]) -> None:
    """What is sent is listed, hashed, read again, put in place by rules, and all of it packed."""
    version, here, there = crosswise
    here = "gnu" if here == "toybox" else here
    there = "gnu" if there == "toybox" else there
    source, target = pods(cluster, here, there)
    trees.put_big_tree(source, "/data", "tree", FILES)
    target.sh("mkdir -p /srv/tree/d00; echo old >/srv/tree/d00/f0000")
    options = ("--verify", "--backup=simple", "--update", "--exclude", "f0003", "--compress=gzip")
    words = (f"{source.name}:/data/tree", f"{target.name}:/srv", *options)
    cluster.copy(version, *words).complete()
    wanted = fidelity.comparable(trees.look(source, "/data", "tree"), there).entries
    found = fidelity.comparable(trees.look(target, "/srv", "tree"), there).entries
    assert target.sh("cat /srv/tree/d00/f0000~; rm /srv/tree/d00/f0000~") == b"old\n"
    existed = {b"", b"d00"}  # they keep their own mode, and have the time of this
    (left_out,) = (name for name in wanted if name.endswith(b"/f0003"))
    assert found.keys() - {b"d00/f0000~"} == wanted.keys() - {left_out}
    for name in wanted.keys() - {left_out, *existed}:
        assert found[name] == wanted[name]


def test_several_destinations(cluster: ClusterUnderTest, version: str) -> None:
    source, target = pods(cluster, "busybox", "gnu")
    other = cluster.pod("bsdtar-1")
    other.fresh("/srv")
    trees.put_big_tree(source, "/data", "tree", FILES)
    to = [word for pod in (target, other) for word in ("--to", f"{pod.name}:/srv")]
    result = cluster.copy(version, f"{source.name}:/data/tree", *to, "--compress=gzip")
    assert result.code == 0, result
    check(source, target, "gnu")
    check(source, other, "bsdtar")


@pytest.mark.parametrize("tar", ["gnu", "busybox"])
def test_standard_streams(cluster: ClusterUnderTest, version: str, tar: str) -> None:
    """A file and an archive, out and back."""
    source, target = pods(cluster, "gnu", tar)
    trees.put_big_tree(source, "/data", "tree", FILES)
    source.sh("cd /data; yes | head -c 5000000 >long")
    for what, to in (("tree", "/srv"), ("long", "/srv/long")):
        out = cluster.argv(version, f"{source.name}:/data/{what}", "-", "--compress=gzip")
        back = cluster.argv(version, "-", f"{target.name}:{to}", "--compress=gzip")
        with subprocess.Popen(out, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as reading:
            done = subprocess.run(back, stdin=reading.stdout, capture_output=True, check=False)
            assert reading.stdout is not None
            reading.stdout.close()
            assert reading.stderr is not None
            assert b"complete: " in reading.stderr.read()
        assert (reading.returncode, done.returncode) == (0, 0), done.stderr
    assert target.sha256("/srv/long") == source.sha256("/data/long")
    target.sh("rm /srv/long")
    check(source, target, tar)


@pytest.mark.parametrize(("what", "chosen"), [("yes", "gzip|zstd"), ("cat /dev/urandom", "all")])
@pytest.mark.parametrize("slow", [True, False])
def test_automatic_choice(
    cluster: ClusterUnderTest, version: str, what: str, chosen: str, slow: bool, tmp_path: Path
) -> None:
    """It goes by the way and by what is copied, and says so of either end."""
    source, target = pods(cluster, "gnu", "busybox")
    source.sh(f"mkdir /data/tree; {what} | head -c 3000000 >/data/tree/long")
    words = (f"{source.name}:/data/tree", f"{target.name}:/srv", "-z")
    with breaking(cluster.kubeconfig, f"podcp-{version}", tmp_path, 32768) as (breaker, through):
        breaker.delay = 0.005 if slow else 0
        result = dataclasses.replace(cluster, kubeconfig=through).copy(version, *words)
    result.complete()
    check(source, target, "busybox")
    said = re.findall(r"^(\S+ (?:is sent|sends) (?:gzip|zstd|all)\b)", result.stderr, re.M)
    assert len(said) == 2, result.stderr
    if slow:
        assert re.fullmatch(f"gnu-0 sends ({chosen})", said[0]), result.stderr
        assert re.fullmatch(f"busybox-1 is sent ({chosen})", said[1]), result.stderr


def test_this_machine_needs_nothing(
    cluster: ClusterUnderTest, version: str, tmp_path: Path
) -> None:
    """Between it and us nothing is compressed, and the way to the Pod is."""
    _, target = pods(cluster, "gnu", "busybox")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/long").write_bytes(b"y\n" * 4_000_000)
    words = (str(tmp_path / "tree"), f"{target.name}:/srv", "--compress=gzip")
    result, breaker = passed(cluster, version, tmp_path, *words)
    result.complete()
    assert breaker.up < 1_000_000
    assert target.sh("wc -c </srv/tree/long").strip() == b"8000000"
    words = (f"{target.name}:/srv/tree", str(tmp_path / "back"), "--compress=gzip")
    result, breaker = passed(cluster, version, tmp_path, *words)
    result.complete()
    assert breaker.down < 1_000_000
    assert (tmp_path / "back/long").read_bytes() == (tmp_path / "tree/long").read_bytes()
