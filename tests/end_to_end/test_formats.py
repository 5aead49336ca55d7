"""Archives in other formats than GNU's arrive right in every userland."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator

import pytest

from tests.end_to_end import fidelity, trees
from tests.end_to_end.conftest import TARS, ClusterUnderTest
from tests.end_to_end.pods import BUSYBOX, TestPod

HUGE = 9 << 30

WRAPPER = """#!/bin/sh
TAR_OPTIONS='{options}' exec "$(PATH=/usr/bin:/bin command -v tar)" "$@"
"""


@pytest.fixture(params=TARS)
def destination(request: pytest.FixtureRequest, cluster: ClusterUnderTest) -> TestPod:
    """A Pod of each userland, its /srv empty."""
    pod = cluster.pod(f"{request.param}-1")
    pod.fresh("/srv")
    return pod


def test_the_wrapper_is_what_the_product_runs(cluster: ClusterUnderTest) -> None:
    """The tests below stand on a ``tar`` in front of the real one in PATH."""
    with wrapped(cluster.pod("gnu-0"), WRAPPER.format(options="--no-such-option")):
        done = cluster.copy("v5", "gnu-0:/etc/passwd", "gnu-1:/srv/passwd")
    done.failed(1, "--no-such-option")


def test_pax_from_gnu_tar(cluster: ClusterUnderTest, version: str, destination: TestPod) -> None:
    """Names, times, a uid over 2^21 and a sparse file, all in pax records."""
    source = cluster.pod("gnu-0")
    put_difficult_tree(source)
    with wrapped(source, WRAPPER.format(options="--format=pax --sparse")):
        cluster.copy(version, "gnu-0:/data/difficult", f"{destination.name}:/srv").complete()
    check_difficult_tree(source, destination)


def test_sparse_from_bsdtar(cluster: ClusterUnderTest, version: str, destination: TestPod) -> None:
    """bsdtar writes a sparse file as pax records, unless it is told not to."""
    source = cluster.pod("bsdtar-0")
    put_difficult_tree(source)
    cluster.copy(version, "bsdtar-0:/data/difficult", f"{destination.name}:/srv").complete()
    check_difficult_tree(source, destination)


def test_nine_gibibytes(cluster: ClusterUnderTest) -> None:
    """A size that ustar's twelve octal digits cannot hold; its header alone for other pairs."""
    if not cluster.is_real:
        pytest.skip("18 GiB of disk: on the real cluster; tests/unit has the headers")
    source, destination = cluster.pod("gnu-0"), cluster.pod("busybox-1")
    source.fresh("/data/nine")
    destination.fresh("/srv")
    source.sh(
        "cd /data/nine; truncate -s 9663676416 huge; echo end >>huge; "
        "printf middle | dd of=huge bs=1 seek=5000000000 conv=notrunc 2>/dev/null"
    )
    done = cluster.copy("v5", "gnu-0:/data/nine/huge", "busybox-1:/srv", timeout=900)
    done.complete()
    size = HUGE + len("end\n")
    assert int(destination.sh("stat -c %s /srv/huge")) == size
    assert destination.sha256("/srv/huge") == nine_gibibytes_digest()
    source.fresh("/data/nine")
    destination.fresh("/srv")


test_nine_gibibytes = pytest.mark.timeout(1200)(test_nine_gibibytes)


def nine_gibibytes_digest() -> str:
    """Return the digest of what the file holds; hashed here, which is quicker than in the Pod."""
    total = hashlib.sha256()
    middle = 5_000_000_000
    for content in (_zeros(middle), [b"middle"], _zeros(HUGE - middle - 6), [b"end\n"]):
        for piece in content:
            total.update(piece)
    return total.hexdigest()


def _zeros(size: int) -> Iterator[bytes]:
    block = bytes(1 << 20)
    for _ in range(size // len(block)):
        yield block
    yield bytes(size % len(block))


class wrapped:  # noqa: N801 - a context manager that reads as a word
    """A script called ``tar`` in front of the real one, for a while."""

    def __init__(self, pod: TestPod, script: str) -> None:
        self._pod = pod
        self._script = script

    def __enter__(self) -> None:
        self._pod.sh(
            "mkdir -p /usr/local/bin; cat >/usr/local/bin/tar; chmod 755 /usr/local/bin/tar",
            self._script.encode(),
        )

    def __exit__(self, *_: object) -> None:
        self._pod.sh("rm /usr/local/bin/tar")


def put_difficult_tree(pod: TestPod) -> None:
    """Make /data/difficult: what needs pax records, and files with holes."""
    top = b"difficult"
    members = [
        (trees.member(top, tarfile.DIRTYPE), b""),
        (trees.member(top + b"/" + "ü".encode() * 60 + b"x" * 90, size=3), b"abc"),
        (trees.member(top + b"/" + b"n" * 200, size=3), b"abc"),
        (trees.member(top + b"/big-uid", size=3, uid=3_000_000, gid=3_000_001), b"abc"),
        (trees.member(top + b"/link", tarfile.SYMTYPE, linkname="t" * 300), b""),
        (trees.member(top + b"/\xff\xfe", size=3), b"abc"),
    ]
    pod.fresh("/data")
    pod.unpack(trees.archive(members), "/data")
    pod.sh(
        "cd /data/difficult; truncate -s 8M all-hole\n"
        "truncate -s 4M holes; printf start | dd of=holes conv=notrunc 2>/dev/null\n"
        "printf middle | dd of=holes bs=1 seek=2000000 conv=notrunc 2>/dev/null\n"
        "truncate -s 12345678 at-end; printf x >>at-end\n"
        "touch -d '2021-02-03 04:05:06' all-hole holes at-end ."
    )


def check_difficult_tree(source: TestPod, destination: TestPod) -> None:
    """Compare both ends."""
    userland = destination.name.partition("-")[0]
    sent = fidelity.comparable(trees.look(source, "/data", "difficult"), userland)
    came = fidelity.comparable(trees.look(destination, "/srv", "difficult"), userland)
    assert came == sent
    assert len(sent.entries) == 9


def test_the_difficult_tree_is_difficult(cluster: ClusterUnderTest) -> None:
    """With the wrapper the source's archive really is pax, and sparse."""
    source = cluster.pod("gnu-0")
    put_difficult_tree(source)
    script = WRAPPER.format(options="--format=pax --sparse")
    with wrapped(source, script):
        packed = source.held(["sh", "-c"], "cd /data && tar cf - difficult")
    assert packed.count(b"GNU.sparse.major=1") == 3
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert any("uid" in member.pax_headers for member in tar)
    assert BUSYBOX.encode() not in packed
