"""Real archives of an odd tree, as each tar writes it in each format, through the follower.

What goes on is read alike by GNU tar and tarfile, and has what both find in the original.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from kubectl_podcp.archive.headers import Member
from kubectl_podcp.archive.safety import Policy
from tests.end_to_end import trees
from tests.fuzz.test_follower import follow
from tests.fuzz.witnesses import listed, read_by_gnu_tar, read_by_tarfile, whole
from tests.unit.tar_blocks import in_steps, trailer

GNU = ("tar", "-S", "--numeric-owner", "-cf", "-")
TARS = {
    **{f"gnu {form}": (*GNU, f"--format={form}") for form in ("gnu", "oldgnu", "pax")},
    "gnu ustar": ("tar", "--format=ustar", "-cf", "-"),
    "gnu plain": ("tar", "-cf", "-"),
    "gnu pax 0.0": (*GNU, "--format=pax", "--sparse-version=0.0"),
    "gnu pax 0.1": (*GNU, "--format=pax", "--sparse-version=0.1"),
    "gnu pax with all": (*GNU, "--format=pax", "--xattrs", "--acls", "--pax-option=comment=x"),
    "busybox": ("busybox", "tar", "cf", "-"),
    "bsdtar": ("bsdtar", "-cf", "-"),
    "bsdtar pax": ("bsdtar", "--format=pax", "-cf", "-"),
    "bsdtar gnutar": ("bsdtar", "--format=gnutar", "-cf", "-"),
    "bsdtar ustar": ("bsdtar", "--format=ustar", "-cf", "-"),
    "toybox": ("toybox", "tar", "cf", "-"),
    "toybox sparse": ("toybox", "tar", "-c", "-S", "-f", "-"),
}
SHORT = ("gnu ustar", "bsdtar ustar")
"""They have no room for long names, and no sparse files."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The big tree of the end-to-end suite, with few files, and files with holes."""
    base = tmp_path_factory.mktemp("tree")
    unpack(base, trees.big_tree(b"top", files=60, size=704))
    for name, holes in (("hole", ((0, b""),)), ("sparse", ((70_000, b"a" * 5000), (1, b"b")))):
        with (base / "top" / name).open("wb") as file:
            for hole, data in holes:
                file.seek(hole, os.SEEK_CUR)
                file.write(data)
            file.truncate(200_000)
    return base


@pytest.fixture(scope="module")
def short_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that fits in the oldest formats."""
    base = tmp_path_factory.mktemp("short")
    (base / "top" / "directory").mkdir(parents=True)
    for name, size in (("empty", 0), ("one", 1), ("directory/block", 512), ("\x1b[2J", 513)):
        (base / "top" / name).write_bytes(b"x" * size)
    (base / "top" / "link").symlink_to("one")
    (base / "top" / "hard").hardlink_to(base / "top" / "one")
    return base


def unpack(base: Path, archive: bytes) -> None:
    """Unpack what Python packed."""
    subprocess.run(["tar", "-xpf", "-", "-C", base], input=archive, check=True)


@pytest.mark.parametrize("form", TARS)
def test_a_real_archive_is_read_alike(tree: Path, short_tree: Path, form: str) -> None:
    if shutil.which(TARS[form][0]) is None:
        pytest.skip(f"{TARS[form][0]} is not installed")
    base = short_tree if form in SHORT else tree
    run = subprocess.run([*TARS[form], "top"], cwd=base, capture_output=True, check=True)
    outcome = follow(in_steps(run.stdout + trailer(), 32 * 1024), Policy(setuid=True))
    assert outcome.error is None
    members, contents = read_by_tarfile(whole(outcome.archive))
    assert len(members) > 5
    assert members == outcome.members()
    assert read_by_gnu_tar(whole(outcome.archive)) == (listed(members), contents)
    found, in_original = read_by_tarfile(run.stdout)
    assert [settled(each) for each in found] == members
    assert contents == in_original


def settled(member: Member) -> Member:
    """Return what goes on of a member that tarfile found in the original."""
    return replace(member, name=member.name.removeprefix(b"./"))


def test_the_oldest_format_is_refused(short_tree: Path) -> None:
    """Version 7 has no magic: anything could be such a header."""
    command = ["tar", "--format=v7", "-cf", "-", "top"]
    run = subprocess.run(command, cwd=short_tree, capture_output=True, check=True)
    outcome = follow([run.stdout + trailer()])
    assert "it has no magic of a known tar" in str(outcome.error)
    assert outcome.archive == b""
