"""Extended attributes: kept where both tars know them, and never lost without a word."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.end_to_end import trees
from tests.end_to_end.conftest import ClusterUnderTest
from tests.end_to_end.pods import CommandFailed, TestPod, has_small_disk
from tests.end_to_end.test_resume import Cuts, passed

GIVEN = {
    "tree": {"user.top": "of the directory"},
    "tree/file": {"user.one": "a=b\nc", "user.empty": "", "user.long": "x" * 3000},
    "tree/plain": {},
    "tree/" + "n" * 150: {"user.of a long name": "é"},
}
PAIRS = [("v5", "gnu", "gnu"), ("v4", "gnu", "bsdtar"), ("v5", "bsdtar", "gnu")]
GROW = (
    "cd /data/tree; for f in *; do dd if=/dev/urandom bs=1M count=6 2>/dev/null >>$f; done; "
    "touch -d @1600000000 * ."
)
"""Makes the files so long that a copy of them can be broken."""
MASK = "--xattrs --xattrs-include='*'"


def made() -> bytes:
    """An archive of files that have attributes."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, attributes in GIVEN.items():
            member = tarfile.TarInfo(name)
            member.mtime = trees.MTIME
            member.mode = 0o644
            if name == "tree":
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            member.pax_headers = {f"SCHILY.xattr.{key}": said for key, said in attributes.items()}
            data = b"" if name == "tree" else name.encode()
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def attributes(pod: TestPod, directory: str) -> dict[str, dict[str, str]]:
    """Return the attributes of what is in a directory, as its tar says them."""
    mask = MASK if pod.name.startswith("gnu") else ""
    packed = pod.sh(f"cd {directory}; /usr/bin/tar cf - --format=pax {mask} tree")
    found = {}
    with tarfile.open(fileobj=io.BytesIO(packed), errors="surrogateescape") as tar:
        for member in tar:
            said = member.pax_headers.items()
            known = {key: value for key, value in said if key.startswith("SCHILY.xattr.")}
            found[member.name] = {
                (key if mask else unquote(key)).removeprefix("SCHILY.xattr."): value
                for key, value in known.items()
            }
    return found


def ends(cluster: ClusterUnderTest, source: str, target: str) -> tuple[TestPod, TestPod]:
    """Two Pods, of which one has files with attributes."""
    pods = cluster.pod(f"{source}-0"), cluster.pod(f"{target}-1")
    pods[0].fresh("/data")
    pods[1].fresh("/srv")
    mask = MASK if source == "gnu" else ""
    pods[0].sh(f"cd /data; /usr/bin/tar xpf - {mask}", stdin=made())
    assert attributes(pods[0], "/data") == GIVEN
    return pods


@pytest.mark.parametrize(("version", "here", "there"), PAIRS)
@pytest.mark.parametrize("option", ["--preserve=xattr", "--preserve=all"])
def test_they_are_kept(
    cluster: ClusterUnderTest, version: str, here: str, there: str, option: str
) -> None:
    source, target = ends(cluster, here, there)
    words = (f"{source.name}:/data/tree", f"{target.name}:/srv", option)
    assert "attributes" not in cluster.copy(version, *words).complete().stderr
    assert attributes(target, "/srv") == GIVEN
    assert trees.look(target, "/srv", "tree") == trees.look(source, "/data", "tree")
    assert target.names("/srv") == ["tree"]


@pytest.mark.parametrize(("version", "here", "there"), PAIRS)
def test_nobody_gets_them_unasked(
    cluster: ClusterUnderTest, version: str, here: str, there: str
) -> None:
    source, target = ends(cluster, here, there)
    words = (f"{source.name}:/data/tree", f"{target.name}:/srv")
    cluster.copy(version, *words).complete()
    assert attributes(target, "/srv") == {name: {} for name in GIVEN}


def test_a_tar_that_knows_none_is_named(cluster: ClusterUnderTest, version: str) -> None:
    """Asked for by name they are all that counts; of everything, they are what cannot be kept."""
    source, target = ends(cluster, "gnu", "busybox")
    words = (f"{source.name}:/data/tree", f"{target.name}:/srv")
    done = cluster.copy(version, *words, "--preserve=xattr")
    done.failed(1, "the tar in busybox-1 knows no extended attributes")
    assert target.names("/srv") == []
    done = cluster.copy(version, *words, "--preserve=all").complete()
    assert "extended attributes are not kept: the tar of busybox knows none" in done.stderr
    back = (f"{target.name}:/srv/tree", f"{source.name}:/data/back", "--preserve=xattr")
    cluster.copy(version, *back).failed(1, "the tar in busybox-1", "leave xattr out")


def test_a_broken_copy_has_them_in_the_end(
    cluster: ClusterUnderTest, version: str, tmp_path: Path
) -> None:
    """Of the file in which it broke, too."""
    source, target = ends(cluster, "gnu", "gnu")
    source.sh(GROW)
    assert attributes(source, "/data") == GIVEN
    words = ("gnu-0:/data/tree", "gnu-1:/srv", "--preserve=xattr")
    done, _ = passed(cluster, version, tmp_path, *words, cuts=Cuts(15 << 20))
    assert "after 1 retry" in done.complete().stderr
    assert attributes(target, "/srv") == GIVEN
    assert trees.look(target, "/srv", "tree") == trees.look(source, "/data", "tree")


def test_what_was_left_without_them_is_not_used(
    cluster: ClusterUnderTest, version: str, tmp_path: Path
) -> None:
    """Nothing says of a file that is there whether its attributes are."""
    source, target = ends(cluster, "gnu", "gnu")
    source.sh(GROW)
    words = ("gnu-0:/data/tree", "gnu-1:/srv", "--partial")
    once = (*words, "--retries", "0")
    done, _ = passed(cluster, version, tmp_path, *once, cuts=Cuts(9 << 20))
    done.failed(1, "is kept in")
    done = cluster.copy(version, *words, "--preserve=xattr").complete()
    assert "begins anew" in done.stderr
    assert attributes(target, "/srv") == GIVEN


def test_they_cross_to_a_volume_below_the_target(cluster: ClusterUnderTest, version: str) -> None:
    """With the fractions of times: tar carries what belongs there over to it."""
    source, target = ends(cluster, "gnu", "gnu")
    if not has_small_disk(target):
        pytest.skip("this machine lets no Pod have a small file system")
    target.sh("rm -rf /small/* /small/.podcp-*")
    source.sh(
        "mkdir /data/small; mv /data/tree /data/small; cd /data/small; "
        "/usr/bin/touch -d '2020-01-02 03:04:05.123456789' tree/plain"
    )
    words = ("gnu-0:/data/.", "gnu-1:/", "--preserve=xattr,timestamps")
    cluster.copy(version, *words).complete()
    found = attributes(target, "/small")
    said = target.sh("/usr/bin/stat -c %y /small/tree/plain; rm -rf /small/tree")
    assert found == GIVEN
    assert b".123456789 " in said


def test_a_file_system_without_them_is_named(cluster: ClusterUnderTest, version: str) -> None:
    """GNU tar ends with 0 where it could not set one."""
    _, target = ends(cluster, "gnu", "gnu")
    try:
        target.sh("mkdir -p /plain; grep -q ' /plain ' /proc/mounts || mount -t ramfs it /plain")
    except CommandFailed:
        pytest.skip("this machine lets no Pod mount a file system")
    target.sh("rm -rf /plain/*")
    words = ("gnu-0:/data/tree", "gnu-1:/plain")
    said = "extended attributes are not all kept: tar: "
    cluster.copy(version, *words, "--preserve=xattr").failed(1, said, "gnu-1:/plain was not")
    assert target.names("/plain") == []
    assert said in cluster.copy(version, *words, "--preserve=all").complete().stderr
    assert attributes(target, "/plain") == {name: {} for name in GIVEN}
    target.sh("umount /plain")
