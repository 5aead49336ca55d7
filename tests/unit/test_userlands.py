"""The root file systems of the test Pods: what is in them, and that the programs start."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests import userlands

_ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


@pytest.fixture(scope="module", params=userlands.available())
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root file system of each userland that this machine can build; its name is the name."""
    root = tmp_path_factory.mktemp("userlands") / str(request.param)
    userlands.build(root.name, root)
    return root


def _run(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the root; as another user than root through a user namespace."""
    enter = ["chroot", str(root)]
    if os.geteuid() != 0:
        enter = ["unshare", "--user", "--map-root-user", *enter]
    return subprocess.run([*enter, *command], capture_output=True, text=True, env=_ENV)


def test_the_gnu_userland_can_be_built_on_every_linux() -> None:
    assert "gnu" in userlands.available()


def test_what_is_not_available_names_its_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(userlands, "_SEARCH", str(tmp_path))
    assert userlands.available() == []
    assert {"busybox-static", "libarchive-tools", "toybox"} <= set(userlands.missing())
    with pytest.raises(userlands.MissingPrograms, match=r"apt-get install .*toybox"):
        userlands.build("toybox", tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no userland 'alpine'; there are gnu, busybox"):
        userlands.build("alpine", tmp_path)


def test_a_directory_in_use_is_not_built_into(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    with pytest.raises(ValueError, match="is not empty"):
        userlands.build("gnu", tmp_path)


def test_the_usual_directories_are_there(built: Path) -> None:
    for name in ("proc", "dev", "data", "srv", "root", "etc"):
        assert (built / name).is_dir()
    assert stat.S_IMODE((built / "tmp").stat().st_mode) == 0o1777
    assert "root:x:0:0:" in (built / "etc/passwd").read_text()
    assert "root:x:0:" in (built / "etc/group").read_text()


def test_no_file_is_an_alias_of_the_machines_own(built: Path) -> None:
    for path in built.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert path.stat().st_nlink == 1
        elif path.is_symlink():
            assert not path.readlink().is_absolute()


def test_the_programs_start(built: Path) -> None:
    tars = {"gnu": "GNU tar", "busybox": "busybox", "bsdtar": "bsdtar", "toybox": "toybox"}
    if built.name == "noshell":
        assert _run(built, "/bin/sleep", "0").returncode == 0
        assert [path.name for path in (built / "usr/bin").iterdir()] == ["sleep"]
        return
    assert _run(built, "/bin/sh", "-c", "cat /etc/passwd | sort | head -c 3").stdout == "nob"
    version = _run(built, "/bin/sh", "-c", "tar --version 2>&1 | head -n1")
    assert tars.get(built.name, "tar: not found") in version.stdout


@pytest.mark.skipif("busybox" not in userlands.available(), reason="busybox-static is missing")
def test_the_witness_is_called_by_its_absolute_path_alone(built: Path) -> None:
    witness = built / "opt/witness/busybox"
    assert witness.exists() == (built.name != "noshell")
    if witness.exists():
        found = _run(built, "/opt/witness/busybox", "echo", "seen")
        assert found.stdout == "seen\n"


def test_two_builds_give_the_same_tree(built: Path, tmp_path: Path) -> None:
    userlands.build(built.name, tmp_path / "again")
    assert _describe(tmp_path / "again") == _describe(built)


def _describe(root: Path) -> list[tuple[str, int, int, float, bytes]]:
    tree = []
    for path in sorted([root, *root.rglob("*")]):
        status = path.lstat()
        content = b""
        if path.is_symlink():
            content = os.fsencode(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        size = len(content)
        tree.append((str(path.relative_to(root)), status.st_mode, size, status.st_mtime, content))
    return tree
