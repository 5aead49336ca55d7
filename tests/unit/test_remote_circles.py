"""Links that are followed: what each userland's tools say of them, and what is made of that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kubectl_podcp.paths import Kind, SourceFacts
from kubectl_podcp.remote import circles, listing, scripts
from tests.unit.shell import Shell

NONCE = "0123456789abcdef" * 2
SOURCE = SourceFacts(b"/data", b"tree", Kind.DIRECTORY)
TARS = ("gnu", "busybox", "bsdtar", "toybox")


@pytest.fixture(scope="module", params=TARS)
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A root file system of each userland."""
    return Shell.in_userland(request.param, tmp_path_factory.mktemp("roots") / request.param)


@pytest.fixture
def shell(root: Shell) -> Iterator[Shell]:
    """A userland with some directories in /data/tree."""
    tree = root.fresh("data") / "tree"
    (tree / "a/deep").mkdir(parents=True)
    (tree / "b\nline").mkdir()
    (root.root / "data/outside").mkdir()
    (tree / "link").symlink_to("a")
    (tree / "out").symlink_to("../outside")
    (tree / "gone").symlink_to("nowhere")
    yield root


def asked(shell: Shell, target: bytes = b"") -> bytes:
    return shell.run(scripts.list_followed(SOURCE, NONCE, target)).stdout


def test_what_leads_elsewhere_is_no_circle(shell: Shell) -> None:
    said = asked(shell)
    assert circles.circle(said, NONCE) is None
    assert circles.holds_target(said, NONCE) is None


@pytest.mark.parametrize(
    ("name", "to"),
    [("a/deep/up", ".."), ("a/deep/top", "/data/tree"), ("self", "."), ("b\nline/x", "..")],
)
def test_a_link_to_a_directory_above_is_one(shell: Shell, name: str, to: str) -> None:
    (shell.root / "data/tree" / name).symlink_to(to)
    assert circles.circle(asked(shell), NONCE) is not None


def test_two_links_make_a_circle_together(shell: Shell) -> None:
    (shell.root / "data/tree/a/b").symlink_to("../b\nline")
    (shell.root / "data/tree/b\nline/a").symlink_to("../a")
    assert circles.circle(asked(shell), NONCE) is not None


def test_many_ways_round_are_not_all_gone(shell: Shell) -> None:
    """Of some 2^40 ways, those that fit into the answer are looked at."""
    for number in range(4):
        (shell.root / f"data/tree/up{number}").symlink_to(".")
    said = asked(shell)
    assert circles.circle(said, NONCE) is not None
    assert len(said) <= listing.LIMIT
    assert shell.processes() == []


def test_the_target_is_known_by_whatever_name(shell: Shell) -> None:
    assert circles.holds_target(asked(shell, b"/data/outside"), NONCE) == b"tree/out"
    assert circles.holds_target(asked(shell, b"/data/tree/a/../a"), NONCE) in (
        b"tree/a",
        b"tree/link",
    )
    assert circles.holds_target(asked(shell, b"/data"), NONCE) is None


def test_what_is_not_said_is_not_known() -> None:
    for said in (b"", b"garbage", f"{NONCE} 1:2".encode(), f"{NONCE} x ./a\n".encode()):
        assert circles.circle(said, NONCE) is None
        assert circles.holds_target(said, NONCE) is None


def test_a_circle_without_a_name_is_one_too() -> None:
    said = b"find: File system loop detected; it is somewhere\n"
    assert circles.circle(said, NONCE) == said[:-1]


@pytest.mark.parametrize("apart", [False, True])
def test_links_are_archived_as_what_they_lead_to(shell: Shell, apart: bool) -> None:
    """And listed so, whether or not patterns are about names that look like commands."""
    tree = shell.root / "data/tree"
    (tree / "gone").unlink()
    (tree / "a/file").write_text("contents")
    (tree / "find ").symlink_to("a/file")
    gnu = shell.name == "gnu"
    script = scripts.send(SOURCE, NONCE, gnu=gnu, follow=True, apart=apart and gnu)
    packed = shell.run(script, b"\n" if gnu else b"\n\n")
    archive, trailer, _ = packed.stdout.partition(f"\npodcp-{NONCE} 0\n".encode())
    assert trailer, packed
    there = shell.fresh("srv")
    assert shell.run("tar xf - -C /srv", archive).returncode == 0
    assert not any(path.is_symlink() for path in there.rglob("*"))
    assert (there / "tree/link/file").read_text() == (there / "tree/find ").read_text()
    same = (there / "tree/link/file").samefile(there / "tree/find ")
    assert same == (gnu and not apart)
    listed = shell.run(scripts.list_source(SOURCE, NONCE, follow=True)).stdout
    found = listing.parse(listed, NONCE)
    assert found is not None
    assert found[b"tree/find "].is_lone_file
    assert found[b"tree/link/file"].size == 8


def test_times_are_archived_with_their_fractions(shell: Shell) -> None:
    """Of GNU tar and bsdtar: the others are not asked to."""
    gnu = shell.name == "gnu"
    fractions = shell.name in ("gnu", "bsdtar")
    script = scripts.send(SOURCE, NONCE, gnu=gnu, fractions=fractions)
    packed = shell.run(script, b"\n" if gnu else b"\n\n")
    assert f"\npodcp-{NONCE} 0\n".encode() in packed.stdout, packed
    assert (b" mtime=" in packed.stdout) == fractions
    assert b"atime=" not in packed.stdout or not gnu


@pytest.mark.parametrize("deep", [False, True])
def test_named_links_are_listed_as_what_they_lead_to(shell: Shell, deep: bool) -> None:
    words = scripts.words([b"tree/link"])
    script = scripts.list_named(SOURCE, NONCE, len(words), deep=deep, follow=True)
    found = listing.parse(shell.run(script, words).stdout, NONCE)
    assert found is not None
    assert found.names == [b"tree/link", *([b"tree/link/deep"] if deep else [])]


def test_a_probe_sees_what_a_link_leads_to(shell: Shell) -> None:
    (shell.root / "data/file").write_text("12345")
    (shell.root / "data/one").symlink_to("file")
    for name, kind, size in (("one", "file", 5), ("tree/link", "directory", None)):
        said = shell.run(scripts.probe_source(b"/data/" + name.encode(), follow=True)).stdout
        facts = dict(each.split(b"=", 1) for each in said.split(b"\0") if b"=" in each)
        assert facts[b"kind"] == kind.encode()
        assert facts.get(b"size") == (None if size is None else b"%d" % size)
        assert facts[b"top"] == Path(name).name.encode()
