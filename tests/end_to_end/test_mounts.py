"""A target below which something else is mounted: a volume in the middle of a container's tree."""

from __future__ import annotations

import pytest

from tests.end_to_end.conftest import ClusterUnderTest
from tests.end_to_end.pods import TestPod, has_small_disk

OLD = b"old\n"


@pytest.fixture
def ends(cluster: ClusterUnderTest) -> tuple[TestPod, TestPod]:
    """A source, and a target that has a volume of 8 MiB or less at /small, with a file in it."""
    source, target = cluster.pod("gnu-0"), cluster.pod("gnu-1")
    if not has_small_disk(target):
        pytest.skip("this machine lets no Pod have a small file system")
    source.fresh("/data")
    target.sh("rm -rf /small/* /small/.podcp-*; echo old >/small/file")
    return source, target


def test_a_volume_receives_its_part(
    cluster: ClusterUnderTest, version: str, ends: tuple[TestPod, TestPod]
) -> None:
    source, target = ends
    source.sh(
        "mkdir -p /data/root/small/sub /data/root/srv; cd /data/root; echo new >small/file; "
        "ln small/file small/sub/linked; ln -s file small/link; echo srv >srv/podcp-mounts"
    )
    cluster.copy(version, "gnu-0:/data/root/.", "gnu-1:/").complete()
    said = target.sh(
        "cd /small; cat file sub/linked link /srv/podcp-mounts; stat -c %h file; ls -A; "
        "rm /srv/podcp-mounts; ls -A / | grep podcp || :"
    )
    assert said == b"new\nnew\nnew\nsrv\n2\nfile\nlink\nsub\n"


def test_a_volume_that_is_full_keeps_its_file(
    cluster: ClusterUnderTest, version: str, ends: tuple[TestPod, TestPod]
) -> None:
    source, target = ends
    source.sh("mkdir -p /data/root/small; head -c 9000000 /dev/urandom >/data/root/small/file")
    done = cluster.copy(version, "--retries", "0", "gnu-0:/data/root/.", "gnu-1:/")
    done.failed(1, "could not be put in place", "some of the new files; each is whole")
    assert target.sh("cat /small/file; ls -A /small") == OLD + b"file\n"
    assert target.sh("ls -A / | grep podcp || :") == b""


def test_an_owner_that_busybox_cannot_say_is_never_another(cluster: ClusterUnderTest) -> None:
    """It takes files over by its tar; what is renamed has its owner."""
    source, target = cluster.pod("gnu-0"), cluster.pod("busybox-1")
    if not has_small_disk(target):
        pytest.skip("this machine lets no Pod have a small file system")
    source.fresh("/data")
    source.sh(
        "mkdir -p /data/root/small /data/root/srv; cd /data/root; echo a >small/high; "
        "echo b >srv/high; chown 1000650000 small/high srv/high"
    )
    target.sh("rm -rf /small/* /small/.podcp-*")
    done = cluster.copy("v5", "-c", "main", "gnu-0:/data/root/.", "busybox-1:/")
    done.failed(1, "'root/small/high' would belong to 1000650000:0, and", "mounted at /small")
    assert target.sh("ls -A /small") == b""
    for what in ("small", "srv"):
        copied = (f"gnu-0:/data/root/{what}/.", f"busybox-1:/{what}")
        cluster.copy("v5", "-c", "main", *copied).complete()
        assert target.sh(f"stat -c %u /{what}/high; rm /{what}/high") == b"1000650000\n"
