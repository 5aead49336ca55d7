"""What is at the destination already is not sent, and what is not, is: trees end as ever."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from tests.end_to_end import fidelity, trees
from tests.end_to_end.breaker import Breaker, Link, breaking
from tests.end_to_end.conftest import TARS, ClusterUnderTest, Copied
from tests.end_to_end.pods import TestPod

FILES = 200


def sent(result: Copied) -> int:
    """Return how many files were sent."""
    match = re.search(r"^complete: ([\d,]+) file", result.complete().stderr, re.M)
    assert match
    return int(match[1].replace(",", ""))


def up_to_date(result: Copied) -> int:
    """Return how many files were not sent because they are there."""
    match = re.search(r", ([\d,]+) up to date\)$", result.complete().stderr, re.M)
    return int(match[1].replace(",", "")) if match else 0


class Ends:
    """Two Pods, one of which is to become what the other is."""

    def __init__(self, cluster: ClusterUnderTest, version: str, source: str, target: str) -> None:
        self.cluster, self.version = cluster, version
        self.source, self.target = cluster.pod(f"{source}-0"), cluster.pod(f"{target}-1")
        self.userland = target
        self.source.fresh("/data")
        self.target.fresh("/srv")

    def copy(self, *options: str, what: str = "tree", into: str = "") -> Copied:
        """Copy /data/tree, or something else there, into /srv."""
        words = (f"{self.source.name}:/data/{what}", f"{self.target.name}:/srv/{into}", *options)
        return self.cluster.copy(self.version, *words)

    def check(self, *more: str) -> None:
        """Compare the trees; ``more`` are names that only the target has."""
        wanted = fidelity.comparable(trees.look(self.source, "/data", "tree"), self.userland)
        found = fidelity.comparable(trees.look(self.target, "/srv", "tree"), self.userland)
        extra = {name.encode() for name in more}
        assert found.entries.keys() == wanted.entries.keys() | extra
        # A directory that exists keeps its mode and owner; the top has the time of its change.
        top = {b"": found.entries[b""]}
        assert {**wanted.entries, **top} == {
            name: entry for name, entry in found.entries.items() if name not in extra
        }
        assert found.links == wanted.links
        assert self.target.names("/srv") == ["tree"]


@pytest.fixture
def ends(crosswise: tuple[str, str, str], cluster: ClusterUnderTest) -> Ends:
    """Two Pods that hold the same tree; what is odd in it, too."""
    made = Ends(cluster, *crosswise)
    trees.put_big_tree(made.source, "/data", "tree", FILES)
    made.copy().complete()
    made.check()
    return made


def lone_files(pod: TestPod) -> int:
    """Return how many regular files the tree has that have one name."""
    each = "-exec sh -c 'for f; do printf x; done' - {} +"
    return len(pod.sh(f"cd /data; find tree -type f -links 1 {each}"))


@pytest.mark.parametrize("option", ["--update", "--checksum"])
def test_a_second_run_sends_nothing(ends: Ends, option: str, tmp_path: Path) -> None:
    """But links of either kind, and directories, which cost nothing."""
    there = lone_files(ends.source)
    context = f"podcp-{ends.version}"
    with breaking(ends.cluster.kubeconfig, context, tmp_path) as (breaker, kubeconfig):
        ends.cluster = dataclasses.replace(ends.cluster, kubeconfig=kubeconfig)
        result = ends.copy(option)
    assert up_to_date(result) == there > FILES
    assert sent(result) < 20
    # Of names of up to 700 bytes there are lists: in both commands, and for both digests.
    assert breaker.up < FILES * trees.FILE_SIZE * 3 // 4
    ends.check()


CHANGES = """
    cd /data/tree/d00
    echo longer >>f0000; touch -d @1600000000 f0000
    touch -d @1500000000 f0050
    chmod 611 f0100
    echo new >new; chmod 640 new; touch -d @1600000000 new
    rm f0150
    cd ../odd
    for n in '-rf' '@at' "$(printf 'new\\nline')" "quote'\\"\\`\\$(id)\\\\"; do
      s=$(stat -c %s "./$n"); head -c "$s" /dev/urandom >"./$n"; touch -d @1500000000 "./$n"
    done
    touch -d '2021-02-03 04:05:06' . ../d00
"""
UNSEEN = "cd /data/tree/d01; printf '%02048d' 0 >f0001; touch -d @1599999999 f0001"
"""Another content; the size and the time are as before."""


def test_what_changed_is_sent(ends: Ends) -> None:
    there = lone_files(ends.source)
    before = sent(ends.copy("--update"))
    ends.source.sh(CHANGES)
    result = ends.copy("--update")
    # f0000 has further names: it was sent before, too. One file is new, one is gone.
    assert sent(result) == before + 7
    assert up_to_date(result) == there - 7
    ends.check("d00/f0150")


def test_only_a_checksum_tells_some_changes(ends: Ends) -> None:
    there = lone_files(ends.source)
    ends.source.sh(UNSEEN)
    ends.source.sh("cd /data/tree/d02; touch -d @1234567890 f0052")
    name = "d01/f0051"
    ends.source.sh(UNSEEN.replace("f0001", "f0051").replace("1599999999", "1599999949"))
    assert up_to_date(ends.copy("--checksum")) == there - 1
    wanted = trees.look(ends.source, "/data", "tree").entries
    found = trees.look(ends.target, "/srv", "tree").entries
    assert found[name.encode()] == wanted[name.encode()]
    assert found[b"d02/f0052"].without_time() == wanted[b"d02/f0052"].without_time()
    assert found[b"d02/f0052"].mtime == trees.MTIME - 52
    ends.source.sh(UNSEEN.replace("f0001", "f0151").replace("1599999999", "1599999849"))
    assert up_to_date(ends.copy("--update")) == there - 1  # the other time alone is seen
    found = trees.look(ends.target, "/srv", "tree").entries
    assert found[b"d01/f0151"] != trees.look(ends.source, "/data", "tree").entries[b"d01/f0151"]
    assert found[b"d02/f0052"] == wanted[b"d02/f0052"]
    ends.copy("--checksum").complete()
    ends.check()


def test_a_directory_in_place_of_a_file_is_refused(ends: Ends) -> None:
    ends.source.sh("cd /data/tree/d03; rm f0003; mkdir f0003")
    before = trees.look(ends.target, "/srv", "tree").entries
    result = ends.copy("--update")
    refusal = "cannot overwrite non-directory /srv/tree/d03/f0003 with directory tree/d03/f0003"
    result.failed(1, refusal, "was not changed")
    after = trees.look(ends.target, "/srv", "tree").entries
    after[b""] = before[b""]  # the staging folder came and went in it
    assert after == before
    assert ends.target.names("/srv") == ["tree"]


@pytest.fixture
def empty(crosswise: tuple[str, str, str], cluster: ClusterUnderTest) -> Ends:
    """Two Pods with nothing in them."""
    return Ends(cluster, *crosswise)


@pytest.mark.parametrize("name", ["file", "-dash", "@at"])
def test_a_file_alone(empty: Ends, name: str) -> None:
    empty.source.sh(f"cd /data; echo one >./{name}; touch -d @{trees.MTIME} ./{name}")
    stat = f"cat ./{name}; stat -c '%a %u:%g %Y' ./{name}"
    assert sent(empty.copy("--update", what=name)) == 1
    for option in ("--update", "--checksum"):
        result = empty.copy(option, what=name)
        assert (sent(result), up_to_date(result)) == (0, 1)
    empty.source.sh(f"cd /data; echo two >./{name}; touch -d @{trees.MTIME} ./{name}")
    assert sent(empty.copy("--update", what=name)) == 0
    result = empty.copy("--checksum", what=name)
    assert (sent(result), up_to_date(result)) == (1, 0)
    assert empty.target.sh(f"cd /srv; {stat}") == empty.source.sh(f"cd /data; {stat}")
    assert empty.target.names("/srv") == [name]


def test_the_contents_of_a_directory(empty: Ends) -> None:
    """Here the target is called otherwise than the source, and holds more."""
    empty.source.sh("mkdir -p /data/tree/sub; cd /data/tree; echo a >a; echo b >sub/b; chmod 604 a")
    empty.target.sh("echo other >/srv/other")
    where = (f"{empty.source.name}:/data/tree/.", f"{empty.target.name}:/srv")
    assert sent(empty.cluster.copy(empty.version, *where)) == 2
    for option in ("--update", "--checksum"):
        result = empty.cluster.copy(empty.version, *where, option)
        assert (sent(result), up_to_date(result)) == (0, 2)
    empty.source.sh("echo c >>/data/tree/sub/b")
    assert sent(empty.cluster.copy(empty.version, *where, "--update")) == 1
    assert empty.target.sh("cd /srv; cat a sub/b other; stat -c %a a") == b"a\nb\nc\nother\n604\n"
    assert empty.target.names("/srv") == ["a", "other", "sub"]


@pytest.mark.parametrize(
    "options", [["--retries", "2"], ["--partial", "--retries", "0"]], ids=["retries", "partial"]
)
def test_what_was_up_to_date_stays_so_after_a_failure(
    empty: Ends, options: list[str], tmp_path: Path
) -> None:
    """The attempt goes on from its staging folder, or the next command does.

    Of what went up before the cut as much as 16 MiB may be lost on its way; see test_resume.py.
    """
    empty.source.sh(
        "mkdir -p /data/tree/sub; cd /data/tree; for n in 1 2 3 4; do "
        "dd if=/dev/urandom of=old$n bs=1M count=10 2>/dev/null; "
        "dd if=/dev/urandom of=sub/new$n bs=1M count=16 2>/dev/null; done; "
        f"touch -d @{trees.MTIME} old* sub/*; mv sub ..; touch -d @{trees.MTIME} ."
    )
    empty.copy().complete()
    empty.source.sh(f"cd /data; mv sub tree; touch -d @{trees.MTIME} tree tree/sub")

    def cut(breaker: Breaker, link: Link) -> None:
        if breaker.up > 28 << 20:
            breaker.on_passing = lambda _breaker, _link: None
            link.reset()

    whole = empty.cluster
    context = f"podcp-{empty.version}"
    with breaking(whole.kubeconfig, context, tmp_path) as (breaker, kubeconfig):
        breaker.on_passing = cut
        empty.cluster = dataclasses.replace(whole, kubeconfig=kubeconfig)
        result = empty.copy("--update", *options)
        if "--partial" in options:
            result.failed(1, "the same command goes on from there")
            result = empty.copy("--update", *options)
    assert breaker.on_passing is not cut, "nothing was broken"
    assert "begins anew" not in result.stderr
    assert (sent(result), up_to_date(result)) == (4, 4)
    filling = (4 << 20) if empty.version == "v4" else 0  # of the last chunk, at the most
    assert breaker.up < (94 << 20) + filling, "what was up to date was sent"
    empty.check()


def test_what_has_a_time_since_the_copy_began_has_not_changed(empty: Ends) -> None:
    """A file may have been written in the second in which it is looked at; or a clock be wrong."""
    empty.source.sh(
        "mkdir -p /data/tree/sub; cd /data/tree; echo a >a; echo b >sub/b; "
        "touch -d @$(($(date +%s) + 3600)) a sub/b"
    )
    assert sent(empty.copy()) == 2
    for option in ("--update", "--checksum"):
        result = empty.copy(option)
        assert (sent(result), up_to_date(result)) == (0, 2)


def test_a_tree_that_is_too_large_to_compare_is_copied_whole(empty: Ends) -> None:
    """Names fill the listing here: 1,500 of 2,900 bytes."""
    directory = "/".join(["d" * 255] * 11)
    empty.source.sh(
        f"mkdir -p /data/tree/{directory}; cd /data/tree/{directory}; "
        "for n in $(seq 1500); do echo $n >$n; done"
    )
    empty.copy().complete()
    for option in ("--update", "--checksum"):
        result = empty.copy(option)
        assert "everything is copied" in result.stderr
        assert (sent(result), up_to_date(result)) == (1500, 0)
    assert len(trees.look(empty.target, "/srv", "tree").entries) == 1512


@pytest.mark.parametrize("side", ["gnu-0", "gnu-1"])
def test_a_container_without_sha256sum(cluster: ClusterUnderTest, version: str, side: str) -> None:
    source, target = cluster.pod("gnu-0"), cluster.pod("gnu-1")
    source.fresh("/data")
    target.fresh("/srv")
    source.sh("echo new >/data/file")
    cluster.pod(side).sh("mv /usr/bin/sha256sum /usr/bin/away")
    try:
        done = cluster.copy(version, "--checksum", "gnu-0:/data/file", "gnu-1:/srv")
        done.failed(1, f"no sha256sum in {side}", "was not changed")
        assert target.names("/srv") == []
        assert sent(cluster.copy(version, "--update", "gnu-0:/data/file", "gnu-1:/srv")) == 1
    finally:
        cluster.pod(side).sh("mv /usr/bin/away /usr/bin/sha256sum")


@pytest.mark.parametrize("tar", TARS)
def test_names_that_a_list_may_not_hold_are_sent(
    cluster: ClusterUnderTest, version: str, tar: str
) -> None:
    """To bsdtar a carriage return ends a line of a list, too; macOS makes such names."""
    ends = Ends(cluster, version, tar, "gnu")
    ends.source.sh(
        r"mkdir /data/tree; cd /data/tree; cr=$(printf '\r.'); cr=Icon${cr%.}; "
        r'echo 1 >Icon; echo 22 >"$cr"; echo 333 >"$cr'
        "\n"
        r'"; echo x >there; touch -d @1600000000 *'
    )
    ends.target.sh("mkdir /srv/tree")
    ends.copy(what="tree/there", into="tree/").complete()
    assert sent(ends.copy("--update")) == 3
    assert up_to_date(ends.copy("--update")) == 4
    ends.check()
