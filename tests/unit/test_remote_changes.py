"""Files that change while a real tar reads them, in every userland: who says so, and how."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from kubectl_podcp.archive.follower import CutArchive, Follower, Trailer
from kubectl_podcp.changes import Changes
from kubectl_podcp.paths import Kind, SourceFacts
from kubectl_podcp.remote import scripts
from tests.unit.peers import until
from tests.unit.shell import Shell

NONCE = "0123456789abcdef" * 2
SIZE = 8 << 20
SILENT = ("busybox", "bsdtar", "toybox")


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shell]:
    """A root file system of each userland."""
    return Shell.in_userlands(("gnu", *SILENT), tmp_path_factory.mktemp("roots"))


@pytest.fixture(params=SILENT)
def shell(request: pytest.FixtureRequest, roots: dict[str, Shell]) -> Shell:
    """A shell in each userland whose tar says nothing of what changes."""
    return roots[request.param]


class Read:
    """A tree that is read while ``change`` happens to it.

    :ivar said: what the user is told of it.
    """

    def __init__(self, shell: Shell, change: Callable[[Path], None], *, gnu: bool = False) -> None:
        data = shell.fresh("data")
        (data / "t").mkdir()
        (data / "t/big").write_bytes(os.urandom(SIZE))
        for path in (data / "t/big", data / "t"):
            os.utime(path, (1000, 1000))
        facts = SourceFacts(b"/data", b"t", Kind.DIRECTORY)
        self.changes = Changes(NONCE, 2000)
        self.trailer: Trailer | None = None
        self.said, self.code = "", -1
        self._follower = Follower(NONCE, b"t")
        with shell.start(scripts.send(facts, NONCE, gnu=gnu)) as process:
            assert process.stdin and process.stdout
            self._process = process
            try:
                while self._follower.member is None or self._follower.member.name != b"t/big":
                    self._take(os.read(process.stdout.fileno(), 4096))
                change(data / "t")  # tar is in the middle of the file: it waits for us
                while self.trailer is None:
                    self._take(os.read(process.stdout.fileno(), 65536))
                if not gnu:
                    self._say_on()
                    while not self.changes.hear(os.read(process.stdout.fileno(), 65536)):
                        pass
                self._say_on()
                self.code = process.wait(10)
            finally:
                with suppress(BrokenPipeError):
                    process.stdin.close()
                process.stdout.close()
        until(lambda: not shell.processes())
        self.said = self.changes.lines()

    def _say_on(self) -> None:
        assert self._process.stdin
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def _take(self, data: bytes) -> None:
        assert data
        for item in self._follower.feed(data):
            self.changes.note(item)
            if isinstance(item, Trailer):
                self.trailer = item


def grow(tree: Path) -> None:
    """Append to the file."""
    with (tree / "big").open("ab") as file:
        file.write(b"more")


def rewrite(tree: Path) -> None:
    """Write over a part of the file that was not read yet."""
    with (tree / "big").open("r+b") as file:
        file.seek(SIZE - 4096)
        file.write(bytes(4096))


def replace(tree: Path) -> None:
    """Put another file in its place."""
    (tree / "new").write_bytes(b"new")
    (tree / "new").rename(tree / "big")


def remove(tree: Path) -> None:
    """Take the file away."""
    (tree / "big").unlink()


def nothing(tree: Path) -> None:
    """Do nothing."""


@pytest.mark.parametrize("change", [grow, rewrite, replace])
def test_a_file_that_changes_is_named(shell: Shell, change: Callable[[Path], None]) -> None:
    read = Read(shell, change)
    assert read.trailer == Trailer(0)
    assert "t/big: it changed while it was read" in read.said.splitlines()


def test_a_file_that_vanishes_is_told_by_its_directory(shell: Shell) -> None:
    assert Read(shell, remove).said == "t: names in it came or went while it was read"


def test_what_does_not_change_is_not_named(shell: Shell) -> None:
    read = Read(shell, nothing)
    assert (read.said, read.changes.known, read.code) == ("", True, 0)


def shrink(tree: Path) -> None:
    """Cut the file off."""
    os.truncate(tree / "big", SIZE // 2)


def test_a_file_that_shrinks(shell: Shell) -> None:
    """busybox stops there; bsdtar fills it up with zeros and ends with 0."""
    if shell.name == "bsdtar":
        assert Read(shell, shrink).said == "t/big: it changed while it was read"
        return
    with pytest.raises(CutArchive, match=r"'t/big'.*the file shrank"):
        Read(shell, shrink)


def test_gnu_tar_says_it_by_itself(roots: dict[str, Shell]) -> None:
    for change in (grow, rewrite, shrink):
        assert Read(roots["gnu"], change, gnu=True).trailer == Trailer(1)


SLOW = "find() { >/data/begun; sleep 30; }\n"
"""A find that walks through a large tree, and finds nothing that it could say."""


def test_what_looks_for_changes_ends_when_the_client_is_gone(shell: Shell) -> None:
    """It writes nothing for as long as that takes, so that no pipe tells it."""
    (shell.fresh("data") / "file").write_bytes(b"x")
    script = scripts.send(SourceFacts(b"/data", b"file", Kind.FILE), NONCE)
    with shell.proc(), shell.start(SLOW + script) as process:
        assert process.stdin
        process.stdin.write(b"\n")  # it is asked at once: stdout has room for all that it says
        process.stdin.flush()
        until((shell.root / "data/begun").exists)
        process.stdin.close()
        process.wait(10)
        until(lambda: not shell.processes())
