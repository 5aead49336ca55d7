"""A source that changes while it is read is named, and never passes for complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.breaker import Breaker, Link, breaking
from tests.end_to_end.conftest import TARS, ClusterUnderTest, Copied
from tests.end_to_end.pods import CommandFailed, TestPod

SIZE = 96
"""MiB: more than all buffers between the source's tar and a proxy that does not read."""


class Meanwhile:
    """Do something to the source when its first bytes pass; what passes waits meanwhile."""

    def __init__(self, pod: TestPod, script: str) -> None:
        self.pod, self.script, self.done = pod, script, False

    def __call__(self, _: Breaker, link: Link) -> None:
        if link.down > 1 << 20 and not self.done:
            self.done = True
            self.pod.sh(f"cd /data/t; {self.script}")


def copied(
    cluster: ClusterUnderTest, version: str, tar: str, place: Path, script: str, *options: str
) -> tuple[Copied, TestPod]:
    """Copy a tree while ``script`` runs in it."""
    source, destination = cluster.pod(f"{tar}-0"), cluster.pod("gnu-1")
    source.fresh("/data")
    destination.fresh("/srv")
    source.sh(
        f"mkdir /data/t; cd /data/t; dd if=/dev/urandom of=big bs=1M count={SIZE} 2>/dev/null; "
        "touch -d @1600000000 big; echo x >small; touch -d @1600000000 .; sleep 1"
    )
    meanwhile = Meanwhile(source, script)
    with breaking(cluster.kubeconfig, f"podcp-{version}", place) as (breaker, kubeconfig):
        breaker.on_passing = meanwhile
        through = ClusterUnderTest(kubeconfig, cluster.is_real, command=cluster.command)
        done = through.copy(version, *options, "-c", "main", f"{tar}-0:/data/t", "gnu-1:/srv")
    assert meanwhile.done
    return done, destination


@pytest.mark.parametrize("tar", TARS)
@pytest.mark.parametrize(
    ("script", "busybox"),
    [
        ("echo more >>big", "t/big: it changed while it was read"),
        ("echo x | dd of=big bs=1M seek=95 conv=notrunc 2>/dev/null", "t/big: it changed"),
        ("rm big", "t: names in it came or went while it was read"),
    ],
    ids=["grows", "is rewritten", "vanishes"],
)
def test_a_file_that_changes_is_named(
    cluster: ClusterUnderTest, version: str, tar: str, tmp_path: Path, script: str, busybox: str
) -> None:
    done, destination = copied(cluster, version, tar, tmp_path, script)
    assert done.code == 3, done
    assert (busybox if tar != "gnu" else "t/big: file changed as we read it") in done.stderr
    assert done.stderr.splitlines()[-1].startswith("partial: 2 files")
    assert "small" not in done.stderr
    assert destination.names("/srv/t") == ["big", "small"]


@pytest.mark.parametrize("tar", TARS)
def test_a_file_that_shrinks_is_named(
    cluster: ClusterUnderTest, version: str, tar: str, tmp_path: Path
) -> None:
    """GNU tar and bsdtar fill it up with zeros; the others stop there."""
    done, destination = copied(
        cluster, version, tar, tmp_path, "truncate -s 80M big", "--retries", "0"
    )
    if tar in ("busybox", "toybox"):
        done.failed(1, "'t/big'", "the file shrank while it was read", "was not changed")
        assert destination.names("/srv") == []
        return
    assert done.code == 3, done
    assert ("it changed" if tar == "bsdtar" else "shrank") in done.stderr
    assert "t/big" in done.stderr


@pytest.mark.parametrize("tar", ["busybox", "toybox"])
def test_a_file_that_shrinks_is_copied_anew(
    cluster: ClusterUnderTest, version: str, tar: str, tmp_path: Path
) -> None:
    """It is whole in the second try, of which only its end passed; nothing changes meanwhile."""
    done, destination = copied(cluster, version, tar, tmp_path, "truncate -s 80M big")
    assert "after 1 retry" in done.complete().stderr
    assert destination.sha256("/srv/t/big") == cluster.pod(f"{tar}-0").sha256("/data/t/big")


@pytest.mark.parametrize("tar", TARS)
def test_what_is_new_and_does_not_change_is_complete(
    cluster: ClusterUnderTest, version: str, tar: str
) -> None:
    source, destination = cluster.pod(f"{tar}-0"), cluster.pod("gnu-1")
    source.fresh("/data")
    destination.fresh("/srv")
    source.sh("mkdir -p /data/t/sub; echo new >/data/t/sub/new; ln /data/t/sub/new /data/t/link")
    done = cluster.copy(version, "-c", "main", f"{tar}-0:/data/t", "gnu-1:/srv").complete()
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("tar", TARS)
def test_what_the_kernel_makes_is_refused(cluster: ClusterUnderTest, tar: str) -> None:
    """tar would copy it as an empty file."""
    source, destination = cluster.pod(f"{tar}-0"), cluster.pod("gnu-1")
    destination.fresh("/srv")
    try:
        source.sh("[ -e /proc/self ]")
    except CommandFailed:
        pytest.skip("this machine gives the Pods no /proc")
    done = cluster.copy("v5", "-c", "main", f"{tar}-0:/proc/cpuinfo", "gnu-1:/srv")
    done.failed(1, "stands in /proc", "with cat")
    assert destination.names("/srv") == []
