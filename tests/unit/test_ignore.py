"""Patterns: what gitignore(5) says, and what git does."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_podcp import ignore
from kubectl_podcp.ignore import Patterns, Prune


def out(*patterns: bytes, path: bytes, is_directory: bool = False) -> bool:
    """Whether a path is left out."""
    return Patterns(patterns).leave_out(path, is_directory=is_directory)


@pytest.mark.parametrize(
    ("pattern", "left_out", "kept"),
    [
        (b"a", b"a x/a a/x x/a/y", b"b ab x/b"),
        (b"*.log", b"x.log d/x.log .log", b"x.logs xlog"),
        (b"/a", b"a a/b", b"x/a"),
        (b"a/b", b"a/b a/b/c", b"x/a/b b"),
        (b"a/*.c", b"a/x.c", b"a/b/x.c x.c"),
        (b"**/a", b"a x/a x/y/a", b"xa"),
        (b"**/a/b", b"a/b x/a/b", b"x/ab a/x/b"),
        (b"a/**", b"a/b a/b/c", b"a b"),
        (b"a/**/b", b"a/b a/x/b a/x/y/b", b"ab a/xb"),
        (b"a**b", b"ab axb", b"a/b"),
        (b"*a*b", b"ab aab xaabab", b"ba aba"),
        (b"a*/b*c/d", b"a/bc/d ax/bcc/d", b"a/b/c/d ax/bc/x"),
        (b"**/a*/**/b", b"a/b x/ax/y/z/b", b"a/bx b"),
        (b"?", b"a d/a", b"ab"),
        (b"[a-c]x", b"ax cx", b"dx"),
        (b"[!a]x", b"bx", b"ax"),
        (b"[^a]x", b"bx", b"ax"),
        (b"[]-]x", b"]x -x", b"ax"),
        (b"[[:digit:]]", b"1", b"a"),
        (b"\\!a", b"!a", b"a"),
        (b"\\*", b"*", b"a"),
        (b"a\nb", b"a\nb", b"a b"),
        (b"\xff*", b"\xff\xfe", b"\xfe"),
        (b"\xc3?", "é".encode(), b"e"),
        (b".*", b".a d/.b", b"a."),
        (b"/", b"", b"a"),
        (b"a\\", b"", b"a a\\"),
        (b"[a", b"", b"a [a"),
        (b"[[:none:]]", b"", b"n"),
    ],
)
def test_what_a_pattern_matches(pattern: bytes, left_out: bytes, kept: bytes) -> None:
    for path in left_out.split(b" ") if left_out else ():
        assert out(pattern, path=path), path
    for path in kept.split(b" "):
        assert not out(pattern, path=path), path


def test_a_name_has_a_newline_and_a_pattern_ends_before_it() -> None:
    assert not out(b"a", path=b"a\n")
    assert out(b"*", path=b"a\nb")
    assert out(b"**/b", path=b"a\na/b")


def test_a_slash_at_the_end_means_directories() -> None:
    assert out(b"a/", path=b"x/a", is_directory=True)
    assert out(b"a/", path=b"x/a/file")
    assert not out(b"a/", path=b"x/a")


def test_the_last_pattern_counts_but_not_in_what_is_left_out() -> None:
    patterns = (b"*.log", b"!keep.log", b"d/", b"!d/keep.log")
    assert not out(*patterns, path=b"keep.log")
    assert out(*patterns, path=b"d/keep.log")
    assert out(b"!a", b"a", path=b"a")


def test_what_is_remembered_is_bounded_and_right() -> None:
    patterns = Patterns([b"d1*/"])
    for number in range(10_000):
        path = b"d%d/x" % number
        assert patterns.leave_out(path, is_directory=False) == path.startswith(b"d1")
        assert len(patterns._known) <= ignore._MOST_CACHED


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (b"*-*-*-*-*.log", b"-" * 500),
        (b"*?*?*?*?*x", b"-" * 500),
        (b"x/*-*-*-*-*/y", b"x/" + b"-" * 500),
        (b"**/-/**/-/**/-/**/-/**/-/x", b"-/" * 500),
        (b"**/*-*-*/*-*-*/**/*-*-*/x/**", (b"-" * 50 + b"/") * 50),
    ],
)
def test_no_name_takes_long(pattern: bytes, name: bytes) -> None:
    """Whoever chooses it: while a name is looked at, nothing else is heard."""
    began = time.process_time()
    assert not out(pattern, path=name)
    assert time.process_time() - began < 1


def test_the_lines_of_a_file() -> None:
    text = b"\xef\xbb\xbfa  \n\n# no\nb\\ \nc \\  \n\\#x\nd\r\n   \n!e\nx y \nlast"
    found = [b"a", b"b\\ ", b"c \\ ", b"\\#x", b"d", b"!e", b"x y", b"last"]
    assert ignore.lines(text) == found


def test_find_is_told_what_it_can_be_told() -> None:
    lines = [b"*.log", b"/top", b"a/b/", b"**/x*", b"a/*", b"[ab]", b"x?", b"\\*", b"a/**"]
    assert Patterns(lines).prunes == [
        Prune("-name", b"*.log", False),
        Prune("-path", b"top", False),
        Prune("-path", b"a/b", True),
        Prune("-name", b"x*", False),
    ]
    assert Patterns([b"a", b"!a", b"b"]).prunes == [Prune("-name", b"b", False)]


# --- beside git --------------------------------------------------------------------------------

PIECES = ["a", "b", "*", "?", "/", "**", "***", "[ab]", "[!a]", "\\", "!", ".", "-", "]", "[", " "]
PIECES += ["[a-c]", "#", "[[:alpha:]]", "[]a]", "[\\]b]", "[a-", "[[:x:]]"]
NAMES = ["a", "b", "ab", "a.b", ".a", "c", "a b", "-a", "[", "]", "a\nb", "\\", "!a", "#a", "a "]

patterns = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)
paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)


@pytest.fixture(scope="module")
def repository() -> Iterator[Path]:
    """An empty repository of git's."""
    if shutil.which("git") is None:
        pytest.skip("there is no git to compare with")
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(["git", "init", "-q", name], check=True)
        yield Path(name)


@given(st.lists(patterns, min_size=1, max_size=4), st.lists(paths, min_size=1, max_size=8))
def test_git_says_the_same(repository: Path, lines: list[str], paths: list[str]) -> None:
    text = "\n".join(lines).encode()
    for each in repository.iterdir():
        if each.name != ".git":
            shutil.rmtree(each)
    for path in paths:
        (repository / path).mkdir(parents=True, exist_ok=True)
    found = {
        str(Path(root).relative_to(repository) / name).encode()
        for root, directories, _ in os.walk(repository)
        for name in directories
        if ".git" not in (name, *Path(root).parts)
    }
    (repository / ".git/info/exclude").write_bytes(text)
    said = subprocess.run(
        ["git", "check-ignore", "-z", "--stdin", "-v", "-n", "--no-index"],
        cwd=repository,
        input=b"".join(path + b"\0" for path in found),
        capture_output=True,
        check=False,
    ).stdout.split(b"\0")
    gits = {
        path
        for source, pattern, path in zip(said[::4], said[2::4], said[3::4], strict=False)
        if source and not pattern.startswith(b"!")
    }
    ours = Patterns(ignore.lines(text))
    assert {path for path in found if ours.leave_out(path, is_directory=True)} == gits
