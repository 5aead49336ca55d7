"""``--verify``: what was unpacked is read again, and only what passed takes its place."""

from __future__ import annotations

import hashlib
import random
from functools import partial
from pathlib import Path

import pytest

from tests.end_to_end import fidelity, trees
from tests.end_to_end.breaker import breaking
from tests.end_to_end.conftest import TARS, ClusterUnderTest
from tests.end_to_end.doctor import after_unpacking, doctored
from tests.end_to_end.pods import BUSYBOX, TestPod, wait_until
from tests.end_to_end.test_resume import Cuts

VERIFIED = ", sha256 verified)"

FLIP = f"""
f=tree/odd/victim
[ -f "$f" ] || exit 0
export PATH=
alias b={BUSYBOX}
b touch -r "$f" /tmp/time
printf '\\377' | b dd of="$f" bs=1 seek=700 conv=notrunc 2>/dev/null
b touch -r /tmp/time "$f"
"""
"""Change one byte, and leave the size and the time as they were."""


@pytest.fixture(params=TARS)
def destination(request: pytest.FixtureRequest, cluster: ClusterUnderTest) -> TestPod:
    """A Pod of each userland, its /srv empty."""
    pod = cluster.pod(f"{request.param}-1")
    pod.fresh("/srv")
    return pod


@pytest.fixture(scope="module")
def source(cluster: ClusterUnderTest) -> TestPod:
    """A Pod with the tree that has everything that is odd, and a file to be altered."""
    pod = cluster.pod("gnu-0")
    pod.fresh("/data")
    trees.put_big_tree(pod, "/data", "tree", 300)
    pod.sh("cd /data/tree/odd; dd if=/dev/zero of=victim bs=1000 count=1 2>/dev/null")
    return pod


def nothing_of_ours(pod: TestPod) -> bool:
    """Return whether nothing of a copy runs in a Pod."""
    return not [line for line in pod.processes() if "podcp-" in line or "sha256" in line]


def test_a_good_copy_is_verified(
    cluster: ClusterUnderTest, version: str, destination: TestPod
) -> None:
    """From each tar to the one after it."""
    tar = TARS[TARS.index(destination.name.removesuffix("-1")) - 1]
    origin = cluster.pod(f"{tar}-0")
    origin.fresh("/data")
    trees.put_big_tree(origin, "/data", "tree", 300)
    userland = destination.name.partition("-")[0]
    done = cluster.copy(version, "--verify", f"{tar}-0:/data/tree", f"{destination.name}:/srv")
    assert VERIFIED in done.complete().stderr
    sent = fidelity.comparable(trees.look(origin, "/data", "tree"), userland)
    assert fidelity.comparable(trees.look(destination, "/srv", "tree"), userland) == sent
    assert destination.names("/srv") == ["tree"]
    wait_until(partial(nothing_of_ours, destination), 10, "something of the copy runs")


def test_a_sparse_file_is_verified(cluster: ClusterUnderTest, version: str) -> None:
    """bsdtar says where its holes are; what passed is the whole file."""
    origin, destination = cluster.pod("bsdtar-0"), cluster.pod("busybox-1")
    origin.fresh("/data")
    destination.fresh("/srv")
    origin.sh("cd /data; truncate -s 50000000 sparse; echo end >>sparse")
    done = cluster.copy(version, "--verify", "bsdtar-0:/data/sparse", "busybox-1:/srv/copy")
    assert VERIFIED in done.complete().stderr
    assert destination.sha256("/srv/copy") == origin.sha256("/data/sparse")


def there(pod: TestPod) -> trees.Tree:
    """Return what stands in /srv/tree, but for the time of the directory where we staged."""
    tree = trees.look(pod, "/srv", "tree")
    return trees.Tree({**tree.entries, b"": tree.entries[b""].without_time()}, tree.links)


@pytest.mark.parametrize("options", [[], ["--partial"], ["--retries", "2"]])
def test_one_altered_byte_is_found_before_anything_is_replaced(
    cluster: ClusterUnderTest,
    version: str,
    source: TestPod,
    destination: TestPod,
    options: list[str],
) -> None:
    destination.sh("mkdir -p /srv/tree/odd; echo old >/srv/tree/odd/victim")
    before = there(destination)
    altered = hashlib.sha256(bytes(700) + b"\xff" + bytes(299)).hexdigest()
    with after_unpacking(destination, FLIP):
        words = ("-c", "main", "gnu-0:/data/tree", f"{destination.name}:/srv")
        done = cluster.copy(version, "--verify", *options, *words)
    done.failed(
        1,
        "'tree/odd/victim' is not what passed",
        altered[:12],
        source.sha256("/data/tree/odd/victim")[:12],
        f"{destination.name}:/srv was not changed",
    )
    assert "kept" not in done.stderr
    assert there(destination) == before
    assert destination.names("/srv") == ["tree"]
    wait_until(partial(nothing_of_ours, destination), 10, "something of the copy runs")


@pytest.mark.parametrize(
    ("then", "words"),
    [
        ("rm tree/odd/victim", "of 3"),
        ("[ ! -d tree ] || echo more >tree/odd/more", "'tree/odd/more' was unpacked, but never"),
        (FLIP + "printf x >>tree/d00/f0000", "; 4 files differ"),
    ],
    ids=["less", "more", "several"],
)
@pytest.mark.usefixtures("source")
def test_files_that_are_missing_or_too_many_are_told(
    cluster: ClusterUnderTest, then: str, words: str
) -> None:
    destination = cluster.pod("gnu-1")
    destination.fresh("/srv")
    with after_unpacking(destination, then.replace("rm ", f"{BUSYBOX} rm ")):
        done = cluster.copy("v5", "--verify", "-c", "main", "gnu-0:/data/tree", "gnu-1:/srv")
    done.failed(1, words, "was not changed")
    assert destination.names("/srv") == []


@pytest.mark.usefixtures("source")
def test_without_a_tool_it_is_refused_before_the_copy(
    cluster: ClusterUnderTest, version: str, destination: TestPod
) -> None:
    words = ("-c", "main", "gnu-0:/data/tree", f"{destination.name}:/srv")
    with doctored(destination, "s/sha256sum/no-such-tool/g;s/openssl dgst/no-such-tool/g"):
        done = cluster.copy(version, "--verify", *words)
        done.failed(1, "there is no sha256sum", "without --verify")
        assert destination.names("/srv") == []
        cluster.copy(version, *words).complete()


@pytest.mark.parametrize("tar", ["gnu", "busybox"])
def test_a_copy_that_is_broken_is_verified_all_the_same(
    cluster: ClusterUnderTest, version: str, tar: str, tmp_path: Path
) -> None:
    """What passed in an attempt keeps its digest; of a file that came in parts the source tells.

    Debian's busybox takes no list of names, and archives all again.
    """
    origin, destination = cluster.pod(f"{tar}-0"), cluster.pod("gnu-1")
    put_files(origin)
    destination.fresh("/srv")
    chance = random.Random(f"{tar} {version}")
    cuts = Cuts(*(chance.randrange(4 << 20, 40 << 20) for _ in range(2)))
    with breaking(cluster.kubeconfig, f"podcp-{version}", tmp_path) as (breaker, kubeconfig):
        breaker.on_passing = cuts
        through = ClusterUnderTest(kubeconfig, cluster.is_real, command=cluster.command)
        options = ("--verify", "--retries", "3")
        done = through.copy(version, *options, f"{tar}-0:/data/tree", "gnu-1:/srv")
    assert cuts.made
    assert VERIFIED in done.complete().stderr
    assert f"after {cuts.made} retr" in done.stderr
    assert "begins anew" not in done.stderr
    arrived(origin, destination)


def test_what_does_not_fit_is_told(cluster: ClusterUnderTest) -> None:
    """The reason does not get lost between unpacking and placing."""
    source, destination = cluster.pod("gnu-0"), cluster.pod("gnu-1")
    source.fresh("/data")
    destination.fresh("/srv")
    source.sh("mkdir -p /data/tree/a; echo new >/data/tree/a/file")
    destination.sh("mkdir /srv/tree; echo old >/srv/tree/a")
    done = cluster.copy("v5", "--verify", "gnu-0:/data/tree", "gnu-1:/srv")
    done.failed(1, "cannot overwrite non-directory /srv/tree/a with directory", "was not changed")
    assert destination.sh("cat /srv/tree/a") == b"old\n"
    assert destination.names("/srv") == ["tree"]


@pytest.mark.parametrize("tool", [True, False], ids=["sha256", "none"])
def test_a_later_run_verifies_what_an_earlier_one_left(
    cluster: ClusterUnderTest, version: str, tmp_path: Path, tool: bool
) -> None:
    """Of what did not pass the source tells the digest; where it cannot, all is sent again."""
    origin, destination = cluster.pod("toybox-0"), cluster.pod("gnu-1")
    put_files(origin)
    destination.fresh("/srv")
    words = ("--partial", "--retries", "0", "toybox-0:/data/tree", "gnu-1:/srv")
    with breaking(cluster.kubeconfig, f"podcp-{version}", tmp_path) as (breaker, kubeconfig):
        breaker.on_passing = Cuts(12 << 20)
        through = ClusterUnderTest(kubeconfig, cluster.is_real, command=cluster.command)
        through.copy(version, *words).failed(1, "is kept in")
    edit = "" if tool else "s/sha256sum/no-such-tool/g;s/openssl dgst/no-such-tool/g"
    with doctored(origin, edit):
        done = cluster.copy(version, "--verify", *words)
    assert VERIFIED in done.complete().stderr
    assert ("begins anew" in done.stderr) == (not tool)
    arrived(origin, destination)


def put_files(pod: TestPod) -> None:
    """Make a tree of 48 MiB, small files and big ones."""
    pod.fresh("/data")
    pod.sh(
        "mkdir /data/tree; cd /data/tree; for n in $(seq 40); do echo $n >small$n; "
        "dd if=/dev/urandom of=middle$n bs=1k count=512 2>/dev/null; done; "
        "for n in $(seq 4); do dd if=/dev/urandom of=big$n bs=1M count=7 2>/dev/null; done; "
        f"find . -type f -exec touch -d @{trees.MTIME} {{}} +"
    )


def arrived(origin: TestPod, destination: TestPod) -> None:
    """Check that the tree stands there as it is here, and nothing else does."""
    sent = fidelity.comparable(trees.look(origin, "/data", "tree"), "gnu")
    came = fidelity.comparable(trees.look(destination, "/srv", "tree"), "gnu")
    assert came == sent
    assert destination.names("/srv") == ["tree"]
    wait_until(partial(nothing_of_ours, origin), 10, "something of the copy runs")
    wait_until(partial(nothing_of_ours, destination), 10, "something of the copy runs")


def test_a_signal_while_it_is_read_again_leaves_nothing(cluster: ClusterUnderTest) -> None:
    """Neither a process nor a file, though a reader was at work."""
    destination = cluster.pod("gnu-1")
    destination.fresh("/srv")
    cluster.pod("gnu-0").sh("mkdir -p /data/one; echo x >/data/one/file")
    held = "s,^export nonce sha256,export nonce sha256; echo >/tmp/reading; sleep 60,"
    with doctored(destination, held):
        destination.sh("rm -f /tmp/reading")
        process = cluster.start("v5", "--verify", "-c", "main", "gnu-0:/data/one", "gnu-1:/srv")
        with process:
            wait_until(lambda: "reading" in destination.names("/tmp"), 20, "it is never read again")
            process.terminate()
            _, stderr = process.communicate(timeout=20)
    assert process.returncode == 143
    assert "gnu-1:/srv was not changed" in stderr
    assert destination.names("/srv") == []
