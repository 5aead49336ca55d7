"""Wildcards, and listings of a part, in every userland: real shells, real files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from types import SimpleNamespace

import pytest

from kubectl_podcp import globs
from kubectl_podcp.errors import SourceError, SourceNotFound
from kubectl_podcp.ignore import Patterns, Prune
from kubectl_podcp.paths import Kind, PodPath, SourceFacts
from kubectl_podcp.remote import listing, scripts
from tests.unit.shell import Shell

NONCE = "0123456789abcdef" * 2
TARS = ("gnu", "busybox", "bsdtar", "toybox")
ODD = [b"newline\nin it", b"-dash", b"quote'\"`$(x)\\", b"[x]", b"\xff\xfe", b"@at", b" ", b"{a,b}"]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shell]:
    """A root file system of each userland."""
    return Shell.in_userlands(TARS, tmp_path_factory.mktemp("roots"))


@pytest.fixture(params=TARS)
def shell(request: pytest.FixtureRequest, roots: dict[str, Shell]) -> Shell:
    """A shell in each userland; /data is empty."""
    chosen = roots[request.param]
    chosen.fresh("data")
    return chosen


def put(shell: Shell, *names: bytes) -> None:
    """Make files in /data."""
    for name in names:
        path = shell.root / "data" / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name)


# --- wildcards ---------------------------------------------------------------------------------


class Here:
    """Stands for a container: scripts run in a userland."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        self.pod = SimpleNamespace(name="web-0")

    def ask(self, script: str, _timeout: float, _most: int) -> bytes:
        """Run a script."""
        return self.shell.run(f"cd /data\n{script}").stdout


def expanded(shell: Shell, path: bytes) -> list[bytes]:
    """What a path stands for."""
    found = globs.expand(Here(shell), PodPath("ns", "web", path, "deploy"))  # type: ignore[arg-type]
    assert {(each.namespace, each.pod, each.kind) for each in found} == {("ns", "web-0", "")}  # type: ignore[union-attr]
    return [each.path for each in found]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        (b"/data/*.gz", [b"/data/a b.gz", b"/data/a.gz"]),
        (b"*.gz", [b"a b.gz", b"a.gz"]),
        (b"d?/x", [b"d1/x", b"d2/x"]),
        (b"/data/d[12]/*", [b"/data/d1/x", b"/data/d2/x"]),
        (b"/data/d[!1]/x", [b"/data/d2/x"]),
        (b"a b*", [b"a b.gz"]),
        (b"/data/.h*", [b"/data/.hidden"]),
        (b".*", [b".hidden", b".other"]),
        (b"/data/.*", [b"/data/.hidden", b"/data/.other"]),
        (b"*/.*", [b"d1/.in"]),
        (b".*/x", [b".other/x"]),
        (b".*/", [b".other/"]),
        (b".?*", [b".hidden", b".other"]),
        (b"*", [b"a b.gz", b"a.gz", b"d1", b"d2"]),
        (b"d*/.", [b"d1/.", b"d2/."]),
        (b"/data/d*/", [b"/data/d1/", b"/data/d2/"]),
    ],
)
def test_wildcards_stand_for_what_is_there(
    shell: Shell, pattern: bytes, names: list[bytes]
) -> None:
    put(shell, b"a.gz", b"a b.gz", b"d1/x", b"d2/x", b"d1/.in", b".hidden", b".other/x")
    assert expanded(shell, pattern) == names


def test_in_the_home_folder_too(shell: Shell) -> None:
    home = shell.fresh("root")
    (home / "x1").touch()
    assert expanded(shell, b"~/x*") == [b"~/x1"]


@pytest.mark.parametrize(
    ("pattern", "path"), [(b"?", b"./~"), (b"[~]", b"./~"), (b"*/x", b"./~/x"), (b"~*", b"./~")]
)
def test_a_file_that_is_called_like_the_home_folder_is_not_it(
    shell: Shell, pattern: bytes, path: bytes
) -> None:
    (shell.fresh("root") / "x").touch()
    put(shell, b"~/x")
    assert expanded(shell, pattern) == [path]
    found = shell.run(f"cd /data\n{scripts.probe_source(path)}").stdout
    assert f"directory=/data{'/~' * path.endswith(b'x')}\0".encode() in found


@pytest.mark.parametrize("name", ODD)
def test_odd_names_come_out_as_they_are(shell: Shell, name: bytes) -> None:
    """All but the wildcards is quoted, and a name that has some is meant itself."""
    put(shell, name, b"other", b"x", b"a")
    pattern = name.replace(b"[", b"?") + b"*"
    assert expanded(shell, b"/data/" + pattern) == [b"/data/" + name]
    if b"[" in name:
        assert expanded(shell, name) == [name]


def test_a_link_to_nowhere_is_there(shell: Shell) -> None:
    (shell.root / "data/link").symlink_to("nowhere")
    assert expanded(shell, b"l*") == [b"link"]


@pytest.mark.parametrize("path", [b"/data/*.none", b"/none/*", b"n[o]ne/x", b"/data/.*", b".?"])
def test_nothing_is_an_error_that_names_the_pattern(shell: Shell, path: bytes) -> None:
    with pytest.raises(SourceNotFound) as caught:
        expanded(shell, path)
    assert path.decode() in caught.value.happened


def test_too_much_is_an_error(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    put(shell, *(b"f%03d" % number for number in range(100)))
    script = scripts._EXPAND.replace(str(scripts.LISTING), "300")
    monkeypatch.setattr(scripts, "_EXPAND", script)
    with pytest.raises(SourceError, match="more names than can be listed"):
        expanded(shell, b"f*")


class Liar:
    """Stands for a container whose shell says what it likes."""

    def __init__(self, *names: bytes) -> None:
        self.names = names
        self.pod = SimpleNamespace(name="web-0")

    def ask(self, script: str, _timeout: float, _most: int) -> bytes:
        """Say the names, and that they are all."""
        nonce = script.partition("nonce=")[2][:32].encode()
        return b"".join(name + b"\0" for name in self.names) + b"podcp-%b end" % nonce


def told(pattern: bytes, *names: bytes) -> int:
    """Return for how many files a pattern stands where a shell says these names."""
    end = Liar(*names)
    return len(globs.expand(end, PodPath("ns", "web", b"/data/" + pattern)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (b"*.log", b".bashrc"),
        (b"*.log", b".x.log"),
        (b"*.log", b"x.txt"),
        (b"*", b".ssh"),
        (b"*", b".."),
        (b"*", b"."),
        (b"*", b""),
        (b"*/x", b"../x"),
        (b"*.log", b"../evil/.log"),
        (b"*.log", b"/etc/x.log"),
        (b"*.log", b"d/x.log"),
        (b"d*/x", b"d1/../x"),
        (b"d*/x", b"d1/y"),
        (b"d*/..", b"d1/x"),
        (b"[ab].log", b"c.log"),
        (b"[!a]?", b"ab"),
        (b"?.log", b"\xc3\xa4.txt"),
        (b"[[:digit:]]*", b".bashrc"),
        (b"[[:digit:]].log", b"1.txt"),
        (b"?.log", b"bashrc\xc3\xa4.log"),
        (b"?.log", b"bashrc[^.log"),
        (b"[ab].log", b"bashrc\xff.log"),
        (b"[ab].log", b"\xc3\xa4.log"),
        (b"\xc3\xa4?", b"\xc3\xa4bc"),
    ],
)
def test_what_no_pattern_stands_for_is_refused(pattern: bytes, name: bytes) -> None:
    """A source that may choose names chooses what is replaced at the destination."""
    with pytest.raises(SourceError, match="does not stand for"):
        told(pattern, name)


def test_no_shell_may_say_more_names_than_can_be_held() -> None:
    assert told(b"*", *[b"a"] * globs.MOST) == globs.MOST
    with pytest.raises(SourceError, match="more names than can be listed, the shell there says"):
        told(b"*", *[b"a"] * (globs.MOST + 1))


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (b"?.log", b"\xc3\xa4.log"),
        (b"??.log", b"\xc3\xa4.log"),
        (b"?.log", b"\xff.log"),
        (b"[!a]?", b"\xc3\xa4\xff"),
        (b"[\xc3\xa4]x", b"\xc3\xa4x"),
        (b"[\xc3\xa4]x", b"\xa4x"),
        (b"[[:alpha:]]x", b"ax"),
        (b"[^a]x", b"bx"),
        (b"a[b*", b"a[bc"),
        (b"d*//x", b"d1/x"),
        (b".*", b".bashrc"),
        (b"[x]", b"[x]"),
        (b"[]a]*", b"]b"),
        (b"*/.x", b"d/.x"),
    ],
)
def test_what_some_shell_takes_a_pattern_for_is_not(pattern: bytes, name: bytes) -> None:
    assert told(pattern, name) == 1


# --- listings of a part ------------------------------------------------------------------------


def listed(shell: Shell, top: bytes, prunes: Iterable[Prune]) -> list[bytes]:
    """What of a tree is listed."""
    facts = SourceFacts(b"/data", top, Kind.DIRECTORY)
    found = listing.parse(shell.run(scripts.list_source(facts, NONCE, prunes)).stdout, NONCE)
    assert found is not None
    return sorted(found.names)


@pytest.mark.parametrize("top", [b"tree", b"*[x]", b"-t"])
def test_what_is_left_out_is_not_looked_at(shell: Shell, top: bytes) -> None:
    """But the top is, whatever it is called."""
    names = [b"a.log", b"keep", b"sub/x", b"sub/b.log", b"a/b", b"x/a/b", b"build"]
    put(shell, *(top + b"/" + name for name in names))
    lines = [b"*.log", b"/sub/x", b"/a", b"build/", b"tree", b"-t", b"\xff'*"]
    kept = [b"", b"/build", b"/keep", b"/sub", b"/x", b"/x/a", b"/x/a/b"]
    assert listed(shell, top, Patterns(lines).prunes) == [top + name for name in kept]


def test_find_leaves_out_nothing_that_is_wanted(shell: Shell) -> None:
    """A "?" is one byte to us, whatever it is to find: toybox' looks for this locale by itself."""
    locale = shell.root / "usr/lib/locale/en_US.utf8"
    with suppress(FileNotFoundError):  # a machine without it has nothing to be tested with
        shutil.copytree("/usr/lib/locale/C.utf8", locale)
    names = [b"tree/ab", "tree/aé".encode(), b"tree/a\xff", b"tree/\xff.log", b"tree/x"]
    put(shell, *names)
    patterns = Patterns([b"a?", b"*.log", b"**/?"])
    wanted = {each for each in names if not patterns.leave_out(each, is_directory=False)}
    try:
        assert wanted <= set(listed(shell, b"tree", patterns.prunes))
    finally:
        shutil.rmtree(locale, ignore_errors=True)


def test_find_is_told_no_more_than_a_command_line_holds(shell: Shell) -> None:
    put(shell, b"tree/n0000", b"tree/n0999")
    prunes = Patterns([b"n%04d" % number for number in range(1000)]).prunes
    facts = SourceFacts(b"/data", b"tree", Kind.DIRECTORY)
    whole = scripts.list_source(facts, NONCE)
    assert len(scripts.list_source(facts, NONCE, prunes)) < len(whole) + 2 * scripts.MOST_PRUNES
    assert listed(shell, b"tree", prunes) == [b"tree", b"tree/n0999"]


def named(shell: Shell, *names: bytes, deep: bool, prunes: Iterable[Prune] = ()) -> list[bytes]:
    """What is listed of some names."""
    facts, words = SourceFacts(b"/data", b"tree", Kind.DIRECTORY), scripts.words(names)
    script = scripts.list_named(facts, NONCE, len(words), prunes, deep=deep)
    found = listing.parse(shell.run(script, words + b"what follows").stdout, NONCE)
    assert found is not None
    return sorted(found.names)


def test_names_are_listed_with_what_is_in_them(shell: Shell) -> None:
    put(shell, b"tree/sub/x", b"tree/sub/y.o", b"tree/other", b"tree/file")
    (shell.root / "data/tree/link").symlink_to("nowhere")
    names = [b"tree/sub", b"tree/none", b"tree/file", b"tree/link"]
    wanted = [b"tree/file", b"tree/link", b"tree/sub"]
    assert named(shell, *names, deep=False) == wanted
    assert named(shell, *names, deep=True) == [*wanted, b"tree/sub/x", b"tree/sub/y.o"]
    prunes = Patterns([b"*.o"]).prunes
    assert named(shell, *names, deep=True, prunes=prunes) == [*wanted, b"tree/sub/x"]
    assert named(shell, b"tree/none", deep=True) == []


def test_odd_names_are_listed(shell: Shell) -> None:
    names = sorted(b"tree/" + name for name in ODD)
    put(shell, *names)
    assert named(shell, *names, deep=True) == names


def test_many_names_are_listed(shell: Shell) -> None:
    names = [b"tree/%04d" % number for number in range(1500)]
    put(shell, *names)
    assert named(shell, *names, b"tree/none", deep=True) == names
