"""Several sources, wildcards, and some of a source: what is asked for comes, and nothing else."""

from __future__ import annotations

import dataclasses
import io
import os
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end import trees
from tests.end_to_end.breaker import Breaker, Link, breaking
from tests.end_to_end.conftest import TARS, ClusterUnderTest, Copied
from tests.end_to_end.pods import TestPod
from tests.end_to_end.trees import Tree

ODD = (b"new\nline", b"-rf", b"quote'\"`$(id)\\", b"\xff\xfe\x80", b"[x]", b" ")
READS_ALL = "cannot be told what to read"
TAKES_NO_LIST = ("busybox",)
"""Debian's, at least: its tar has no -T."""


@pytest.fixture
def target(cluster: ClusterUnderTest) -> TestPod:
    """Where things are copied to: /srv, which is empty."""
    pod = cluster.pod("gnu-1")
    pod.fresh("/srv")
    return pod


@pytest.fixture(params=TARS)
def source(request: pytest.FixtureRequest, cluster: ClusterUnderTest) -> TestPod:
    """A Pod of each userland, with nothing in /data."""
    pod = cluster.pod(f"{request.param}-0")
    pod.fresh("/data")
    return pod


@pytest.fixture
def gnu(cluster: ClusterUnderTest) -> TestPod:
    """The Pod with GNU tar, with nothing in /data."""
    pod = cluster.pod("gnu-0")
    pod.fresh("/data")
    return pod


def put(pod: TestPod, *names: bytes) -> None:
    """Make files in /data, whose contents are their names."""
    members = [(trees.member(name, size=len(name)), name) for name in names]
    pod.unpack(trees.archive(members), "/data")


def part(tree: Tree, keeps: Callable[[bytes], bool]) -> Tree:
    """Return what of a tree is kept."""
    entries = {name: entry for name, entry in tree.entries.items() if keeps(name)}
    groups = (frozenset(filter(keeps, names)) for names in tree.links)
    return Tree(entries, frozenset(names for names in groups if len(names) > 1))


def contents(pod: TestPod, directory: str = "/srv") -> dict[bytes, bytes]:
    """Return the files in a directory, and what is in each."""
    packed = io.BytesIO(pod.sh(f"cd {directory}; tar cf - ."))
    with tarfile.open(fileobj=packed, encoding="utf-8", errors="surrogateescape") as tar:
        found = {each.name: tar.extractfile(each) for each in tar if each.isreg()}
        return {os.fsencode(name)[2:]: file.read() for name, file in found.items() if file}


# --- several sources -----------------------------------------------------------------------------


def test_several_sources_go_into_a_directory(
    cluster: ClusterUnderTest, version: str, gnu: TestPod, target: TestPod, tmp_path: Path
) -> None:
    """From two Pods and this machine, each with a line of its own, options anywhere."""
    trees.put_big_tree(gnu, "/data", "tree", 50)
    other = cluster.pod("bsdtar-0")
    other.fresh("/data")
    put(other, b"file")
    (tmp_path / "local").write_text("local")
    words = ("gnu-0:/data/tree", "--verify", "bsdtar-0:/data/file", f"{tmp_path}/local")
    done = cluster.copy(version, *words, "gnu-1:/srv")
    assert done.code == 0, done
    notice, *lines = done.stderr.splitlines()
    assert notice.startswith("Defaulted container")  # of gnu-1, and said once
    assert [re.findall(r"at (\S+), sha256 verified\)$", line) for line in lines[:3]] == [
        ["/srv/tree"],
        ["/srv/file"],
        ["/srv/local"],
    ]
    assert re.fullmatch(r"complete: 3 copies, \d+ files, [\d.]+ \w+ in [\d.]+ s \(.*/s\)", lines[3])
    assert trees.look(target, "/srv", "tree") == trees.look(gnu, "/data", "tree")
    assert target.sh("cd /srv; cat file local") == b"filelocal"
    assert target.names("/srv") == ["file", "local", "tree"]


def test_one_that_fails_hurts_no_other(
    cluster: ClusterUnderTest, gnu: TestPod, target: TestPod
) -> None:
    put(gnu, b"one", b"dir/file", b"two")
    target.sh("mkdir -p /srv/two")
    words = ("gnu-0:/none", "gnu-0:/data/one", "no-pod:/x", "gnu-0:/data/two", "gnu-0:/*.none")
    done = cluster.copy("v5", *words, "gnu-1:/srv")
    assert done.code == 3, done
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == [
        "error: gnu-0:/none does not exist",
        *[line for line in lines if "error: no-pod:/x: " in line],
        "error: gnu-0:/data/two: cannot overwrite directory /srv/two with non-directory /data/two",
        "error: gnu-0:/*.none does not exist, and no file there is called like it",
    ]
    assert lines[-1].startswith("partial: 1 of 5 copies complete, 1 file, ")
    assert contents(target) == {b"one": b"one"}
    done = cluster.copy("v5", "gnu-0:/none", "gnu-0:/nor/this", "gnu-1:/srv")
    assert (done.code, done.stderr.splitlines()[-1][:29]) == (
        1,
        "failed: 0 of 2 copies complete"[:29],
    )
    (cluster.copy("v5", "-q", "no-pod:/x", "gnu-0:/none", "gnu-1:/srv")).failed(1, "no-pod")


def test_several_need_a_directory_that_exists(
    cluster: ClusterUnderTest, gnu: TestPod, target: TestPod
) -> None:
    put(gnu, b"one", b"two")
    target.sh("echo old >/srv/file")
    for name in ("file", "none", "none/"):
        done = cluster.copy("v5", "gnu-0:/data/one", "gnu-0:/data/two", f"gnu-1:/srv/{name}")
        done.failed(1, f"error: target gnu-1:/srv/{name} is not a directory")
        cluster.copy("v5", "gnu-0:/data/*", f"gnu-1:/srv/{name}").failed(1, "is not a directory")
    assert contents(target) == {b"file": b"old\n"}
    put(gnu, b"dir/one")
    for words in (("gnu-0:/data/one", "gnu-0:/data/dir/one"), ("gnu-0:/data/o*", "bsdtar-0:/one")):
        done = cluster.copy("v5", *words, "gnu-1:/srv")
        done.failed(2, "would both become 'one' in gnu-1:/srv")
    cluster.copy("v5", "-T", "gnu-0:/data/*", "gnu-1:/srv").failed(2, "with several sources")
    assert contents(target) == {b"file": b"old\n"}


# --- wildcards -----------------------------------------------------------------------------------


def test_wildcards_bring_odd_names(
    cluster: ClusterUnderTest, source: TestPod, target: TestPod
) -> None:
    put(source, *ODD, b".hidden")
    done = cluster.copy("v5", f"{source.name}:/data/*", "gnu-1:/srv")
    assert done.code == 0, done
    assert f"complete: {len(ODD)} copies, {len(ODD)} files" in done.stderr
    assert contents(target) == {name: name for name in ODD}


def test_what_wildcards_stand_for(
    cluster: ClusterUnderTest, gnu: TestPod, target: TestPod, tmp_path: Path
) -> None:
    put(gnu, b"[x]", b"x", b"a.gz", b"b.gz", b"d/c.gz")
    cluster.copy("v5", "gnu-0:/data/[x]", "gnu-1:/srv").complete()
    done = cluster.copy("v5", "gnu-0:/data/*/c.*", "gnu-1:/srv/name").complete()  # it is one
    assert "1 file" in done.stderr
    done = cluster.copy("v5", "gnu-0:/data/[ab].g?", str(tmp_path))
    assert done.code == 0, done
    assert contents(target) == {b"[x]": b"[x]", b"name": b"d/c.gz"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gz", "b.gz"]
    done = cluster.copy("v5", "gnu-0:/data/*.zip", "gnu-1:/srv")
    done.failed(1, "gnu-0:/data/*.zip does not exist")


# --- some of a source ----------------------------------------------------------------------------

PATTERNS = ("*9", "/d01", "odd/dir *", "**/-rf", "\\*", "new\nline", "link-*", "!link-up", "deep/")


def is_kept(name: bytes) -> bool:
    """What these patterns leave, said otherwise."""
    first, *_ = name.split(b"/")
    last = name.rpartition(b"/")[2]
    gone = (b"d01", b"deep")
    if first in gone or name.startswith(b"odd/dir "):
        return False
    if any(each.endswith(b"9") for each in name.split(b"/")) or last in (
        b"-rf",
        b"*",
        b"new\nline",
    ):
        return False
    return not last.startswith(b"link-") or last == b"link-up"


def excluding(patterns: tuple[str, ...]) -> list[str]:
    """The options for these patterns."""
    return [word for pattern in patterns for word in ("--exclude", pattern)]


def test_what_is_left_out_is_the_same_for_each_tar(
    cluster: ClusterUnderTest, source: TestPod, target: TestPod, tmp_path: Path
) -> None:
    """And it is not read, where its tar takes a list: 32 MiB here."""
    trees.put_big_tree(source, "/data", "tree", 100)
    source.sh(
        "mkdir /data/tree/cache; dd if=/dev/urandom of=/data/tree/cache/big bs=1M count=32; "
        "touch -d 2037-01-01 /data/tree/cache/big /data/tree/cache; "
        "touch -d 2021-02-03 /data/tree"
    )
    rules = tmp_path / "rules"
    rules.write_bytes(b"# those that are made anew\n/cache/*\n!nothing\nhard-0  \n")
    takes_no_list = source.name.partition("-")[0] in TAKES_NO_LIST
    if takes_no_list:  # the contents may be with any of a file's names: see the next test
        source.sh("cd /data/tree; rm hard-* odd/hard-*; touch -d 2021-02-03 odd .")
    words = (f"{source.name}:/data/tree", "gnu-1:/srv", *excluding(PATTERNS))
    with breaking(cluster.kubeconfig, "podcp-v5", tmp_path) as (breaker, kubeconfig):
        through = dataclasses.replace(cluster, kubeconfig=kubeconfig)
        done = through.copy("v5", *words, "--exclude-from", str(rules)).complete()
    assert (READS_ALL in done.stderr) == takes_no_list
    assert (breaker.down > 32 << 20) == takes_no_list

    def keeps(name: bytes) -> bool:
        return is_kept(name) and not name.startswith(b"cache/") and not name.endswith(b"hard-0")

    wanted = part(trees.look(source, "/data", "tree"), keeps)
    found = trees.look(target, "/srv", "tree")
    assert found.entries.keys() == wanted.entries.keys()
    assert found == wanted
    assert len(wanted.links) == (0 if takes_no_list else 2)
    assert target.names("/srv") == ["tree"]


def test_a_file_whose_first_name_is_left_out(
    cluster: ClusterUnderTest, source: TestPod, target: TestPod
) -> None:
    """It comes with the next one, or it is an error."""
    source.sh("mkdir /data/t; cd /data/t; echo one >a; ln a b; ln a c; touch -d @1600000000 .")
    first, *_, last = [
        n for n in source.sh("cd /data; tar cf - t | tar tf -").split() if not n.endswith(b"/")
    ]
    words = (f"{source.name}:/data/t", "gnu-1:/srv")
    done = cluster.copy("v5", *words, "--exclude", first.decode().removeprefix("t/"))
    if source.name.partition("-")[0] in TAKES_NO_LIST:
        done.failed(1, "is one file with", "was not changed", "take both, or neither")
        assert target.names("/srv") == []
        return
    done.complete()
    found = trees.look(target, "/srv", "t")
    assert found.links == {frozenset({b"a", b"b", b"c"} - {first.removeprefix(b"t/")})}
    assert target.sh(f"cat /srv/{last.decode()}") == b"one\n"


def test_a_listing_that_is_too_long_changes_nothing_but_what_is_read(
    cluster: ClusterUnderTest, gnu: TestPod, target: TestPod
) -> None:
    directory = "/".join(["d" * 255] * 11)
    gnu.sh(
        f"mkdir -p /data/tree/{directory}; cd /data/tree/{directory}; "
        "for n in $(seq 1500); do echo $n >$n.x; done; touch yes"
    )
    done = cluster.copy("v5", "gnu-0:/data/tree", "gnu-1:/srv", "--exclude", "[0-9]*.x").complete()
    assert READS_ALL in done.stderr
    assert "1 file, " in done.stderr
    assert len(trees.look(target, "/srv", "tree").entries) == 13
    # find need not look at what is left out: then all of the rest can be listed
    done = cluster.copy("v5", "gnu-0:/data/tree", "gnu-1:/srv", "--exclude", "*.x").complete()
    assert READS_ALL not in done.stderr


def test_with_update_both_hold(cluster: ClusterUnderTest, gnu: TestPod, target: TestPod) -> None:
    trees.put_big_tree(gnu, "/data", "tree", 100)
    words = ("gnu-0:/data/tree", "gnu-1:/srv", *excluding(PATTERNS))
    cluster.copy("v5", *words).complete()
    gnu.sh("cd /data/tree/d00; echo new >f0000; echo new >f0009; touch -d 2021-02-03 .")
    for option in ("--update", "--checksum"):
        done = cluster.copy("v5", *words, option).complete()
        assert re.search(r", \d\d+ up to date\)$", done.stderr.strip()), done
    wanted = part(trees.look(gnu, "/data", "tree"), is_kept)
    found = trees.look(target, "/srv", "tree")
    assert found.entries.keys() == wanted.entries.keys()
    assert found == dataclasses.replace(wanted, entries={**wanted.entries, b"": found.entries[b""]})


@pytest.mark.parametrize("userland", ["gnu", "busybox"])
def test_after_a_failure_it_goes_on_with_what_is_wanted(
    cluster: ClusterUnderTest, target: TestPod, userland: str, tmp_path: Path
) -> None:
    pod = cluster.pod(f"{userland}-0")
    pod.fresh("/data")
    pod.sh(
        "mkdir -p /data/tree/no; cd /data/tree; for n in 1 2 3 4; do "
        "dd if=/dev/urandom of=f$n bs=1M count=16; "
        "dd if=/dev/urandom of=no/$n bs=1M count=4; done; "
        "touch -d @1600000000 no/* no * ."
    )

    def cut(breaker: Breaker, link: Link) -> None:
        if breaker.up > 44 << 20:
            breaker.on_passing = lambda _breaker, _link: None
            link.reset()

    with breaking(cluster.kubeconfig, "podcp-v5", tmp_path) as (breaker, kubeconfig):
        breaker.on_passing = cut
        through = dataclasses.replace(cluster, kubeconfig=kubeconfig)
        # So fast that on a busy node, too, it is tar that has most of it, and not the servers.
        options = ("--exclude", "no/", "--bwlimit", "32M")
        done = through.copy("v5", f"{pod.name}:/data/tree", "gnu-1:/srv", *options)
    assert breaker.on_passing is not cut, "nothing was broken"
    assert "after 1 retry" in done.complete().stderr
    assert "begins anew" not in done.stderr
    assert breaker.up < 90 << 20
    wanted = part(trees.look(pod, "/data", "tree"), lambda name: not name.startswith(b"no"))
    assert trees.look(target, "/srv", "tree") == wanted


# --- names from a list ---------------------------------------------------------------------------


def test_only_what_is_named_comes(
    cluster: ClusterUnderTest, source: TestPod, target: TestPod, tmp_path: Path
) -> None:
    null = source.name != "gnu-0"  # elsewhere a newline ends a name
    trees.put_big_tree(source, "/data", "tree", 100)
    source.sh("cd /data/tree; ln -s odd to-odd; touch -d 2021-02-03 .")
    odd = [b"odd/" + name for name in trees.ODD_NAMES if null or b"\n" not in name]
    behind = "  to-" + odd[0].decode().replace("\n", "\\x0a")
    names = [*odd, b"./d01//f0001", b"deep", b"link-up", b"hard-0", b"odd/hard-0", b"d02/f0052"]
    (tmp_path / "list").write_bytes(b"".join(name + (b"\0" if null else b"\n") for name in names))
    options = ("--files-from", str(tmp_path / "list"), *(("-0",) if null else ()))
    words = (f"{source.name}:/data/tree", "gnu-1:/srv", *options)
    cluster.copy("v5", *words, "--exclude", "f0052").complete()

    def keeps(name: bytes) -> bool:
        named = name in (*odd, b"d01/f0001", b"link-up", b"hard-0", b"odd/hard-0", b"deep", b"")
        return named or name in (b"odd", b"d01", b"d02") or name.startswith(b"deep/")

    wanted = part(trees.look(source, "/data", "tree"), keeps)
    found = trees.look(target, "/srv", "tree")
    assert found.entries.keys() == wanted.entries.keys()
    assert found == wanted
    with (tmp_path / "list").open("ab") as file:
        file.write(b"none" + (b"\0" if null else b"\n") + b"to-" + odd[0])
    done = cluster.copy("v5", *words)
    assert done.code == 3, done
    assert "  none: there is no such name in the source\n" in done.stderr
    assert f"{behind}: there is no such name" in done.stderr
    assert trees.look(target, "/srv", "tree").entries.keys() == {*wanted.entries, b"d02/f0052"}


def refused(cluster: ClusterUnderTest, file: Path, *words: str) -> Copied:
    """Copy what a file names, which cannot be."""
    return cluster.copy("v5", "--files-from", str(file), *words)


def test_names_that_cannot_be(
    cluster: ClusterUnderTest, gnu: TestPod, target: TestPod, tmp_path: Path
) -> None:
    put(gnu, b"file")
    for text, said in ((b"ok\n/etc/passwd", "'/etc/passwd'"), (b"a/../../x\n", "'a/../../x'")):
        (tmp_path / "list").write_bytes(text)
        done = refused(cluster, tmp_path / "list", "gnu-0:/data", "gnu-1:/srv")
        done.failed(2, f"{said} in --files-from does not stand in the source")
    (tmp_path / "list").write_bytes(b"file\n")
    done = refused(cluster, tmp_path / "list", "gnu-0:/data/file", "gnu-1:/srv")
    done.failed(1, "gnu-0:/data/file is not a directory")
    done = refused(cluster, tmp_path / "list", "gnu-0:/data", "gnu-0:/etc", "gnu-1:/srv")
    done.failed(2, "--files-from names what is in one source")
    assert target.names("/srv") == []
