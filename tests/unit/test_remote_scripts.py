"""Every script in every userland: real shells, real tars, real files."""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kubectl_podcp import paths
from kubectl_podcp.archive.headers import end_of_archive, marker
from kubectl_podcp.errors import DestinationRefused, ExecFailed, SourceError, SourceNotFound
from kubectl_podcp.paths import Kind, Placement, PodPath, SourceFacts, TargetFacts
from kubectl_podcp.remote import listing, probe, scripts
from kubectl_podcp.remote.feed import ChunkedFeed, ExactFeed, Feed, PlainFeed
from kubectl_podcp.remote.scripts import Staging
from tests import mapped
from tests.unit.shell import Shell
from tests.unit.tar_blocks import header, long_name

NONCE = "0123456789abcdef" * 2
STAGE = f".podcp-{NONCE}"
PATH = PodPath(None, "pod", b"/x")
TARS = ("gnu", "busybox", "bsdtar", "toybox")
ENVIRONMENT = "export TAR_OPTIONS='--exclude=*' TAR_READER_OPTIONS=no TAR_WRITER_OPTIONS=no\n"
ODD = [
    b"newline\nin it",
    b"-dash",
    b"quote'\"`$(x)",
    b"*",
    b"\xff\xfe not UTF-8",
    b"@at",
    b" ",
    b" --checkpoint=1",
    b"back\\n\\101",
]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shell]:
    """A root file system of each userland; /data and /srv are made anew for each test."""
    return Shell.in_userlands((*TARS, "notar"), tmp_path_factory.mktemp("roots"))


@pytest.fixture(params=TARS)
def shell(request: pytest.FixtureRequest, roots: dict[str, Shell]) -> Shell:
    """A shell in each userland."""
    chosen = roots[request.param]
    for name in ("data", "srv"):
        chosen.fresh(name)
    return chosen


# --- quoting -----------------------------------------------------------------------------------


@given(st.binary(min_size=1).filter(lambda word: b"\0" not in word))
@example(b"'")
@example(b"a\n")
@example(b"\xff'\n\xc3")
def test_a_quoted_word_is_exactly_these_bytes(word: bytes) -> None:
    script = f"printf %s {scripts.quote(word)}"
    script.encode("utf-8")  # what travels is UTF-8
    assert subprocess.run(["sh", "-c", script], capture_output=True).stdout == word


@pytest.mark.parametrize("word", ODD)
def test_quoting_holds_in_every_shell(shell: Shell, word: bytes) -> None:
    assert shell.run(f"printf %s {scripts.quote(word)}").stdout == word


def test_an_answer_ends_with_a_word_of_its_own(shell: Shell) -> None:
    for script, code in (
        ("printf 'x\\n'", 0),
        ("cat; printf 'x\n'; exit 3\n", 3),
        ("kill -9 $$", -9),
    ):
        done = shell.run(scripts.answer(script, NONCE))
        assert done.returncode == code
        end = f"\npodcp-{NONCE} answered {code}".encode()
        assert len(end) <= scripts.ANSWERED
        assert done.stdout == (b"" if code < 0 else b"x\n" + end)


# --- probes ------------------------------------------------------------------------------------


def test_the_source_probe_tells_kinds(shell: Shell) -> None:
    (shell.root / "data/file").write_bytes(b"12345")
    (shell.root / "data/link").symlink_to("file")
    os.mkfifo(shell.root / "data/fifo")
    for name, kind, size in [
        (b"file", Kind.FILE, 5),
        (b"link", Kind.LINK, None),
        (b"fifo", Kind.OTHER, None),
        (b"", Kind.DIRECTORY, None),
    ]:
        path = PodPath(None, "pod", b"/data/" + name)
        found = probe.source(shell.run(scripts.probe_source(path.path)).stdout, path)
        assert (found.facts.kind, found.facts.size) == (kind, size)


def test_a_device_or_a_socket_is_no_source(shell: Shell) -> None:
    """Alone: in a tree it is left out with a notice."""
    directory = shell.fresh("data")
    os.mkfifo(directory / "fifo")
    (directory / "link").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(directory / "socket"))
    for path in (b"/dev/null", b"/data/socket"):
        with pytest.raises(SourceError, match="is a device or a socket"):
            probe.source(shell.run(scripts.probe_source(path)).stdout, PATH)
    for path in (b"/data/fifo", b"/data/link"):
        probe.source(shell.run(scripts.probe_source(path)).stdout, PATH)


def test_the_probe_tells_whose_tar_it_is(shell: Shell) -> None:
    tar = probe.source(shell.run(scripts.probe_source(b"/data")).stdout, PATH).tar
    assert (
        tar
        is {
            "gnu": probe.Tar.GNU,
            "busybox": probe.Tar.BUSYBOX,
            "bsdtar": probe.Tar.BSDTAR,
            "toybox": probe.Tar.TOYBOX,
        }[shell.name]
    )


@pytest.mark.parametrize("name", ODD)
def test_the_source_probe_finds_odd_names(shell: Shell, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(shell.root) + b"/data/" + name)).write_bytes(b"")
    found = probe.source(shell.run(scripts.probe_source(b"/data/" + name)).stdout, PATH)
    assert found.facts == SourceFacts(b"/data", name, Kind.FILE, 0)


@pytest.mark.parametrize(
    ("path", "directory", "top"),
    [
        (b"data/tree", b"/data", b"tree"),
        (b"/data/tree/", b"/data", b"tree"),
        (b"/data/tree/.", b"/data", b"tree"),
        (b"/data/tree/sub/..", b"/data", b"tree"),
        (b"/data/to-tree/", b"/data", b"tree"),
        (b"/data/to-tree", b"/data", b"to-tree"),
        (b"/data", b"/", b"data"),
    ],
)
def test_the_source_probe_resolves(shell: Shell, path: bytes, directory: bytes, top: bytes) -> None:
    (shell.root / "data/tree/sub").mkdir(parents=True)
    (shell.root / "data/to-tree").symlink_to("tree")
    found = probe.source(shell.run(scripts.probe_source(path)).stdout, PATH).facts
    assert (found.directory, found.top) == (directory, top)


HOME = [
    # path, $HOME, physical directory, top
    (b"~", "/data/home", b"/data", b"home"),
    (b"~/", "/data/home", b"/data", b"home"),
    (b"~//sub", "/data/home/", b"/data/home", b"sub"),
    (b"~/.", "/data/to-home", b"/data", b"home"),
    (b"~", "/data/to-home", b"/data", b"home"),
    (b"~/sub/..", "/data/home", b"/data", b"home"),
    (b"~/~", "/data/home", b"/data/home", b"~"),
    (b"~/data", "/", b"/", b"data"),
    (b"./~", "/data/home", b"/", b"~"),
    (b"~user", "/data/home", b"/", b"~user"),
    (b"/data/~", "/data/home", b"/data", b"~"),
    (b"~", "", b"/data", b"passwd home"),
    (b"~/sub", "", b"/data/passwd home", b"sub"),
]


@pytest.fixture
def at_home(shell: Shell) -> Iterator[Shell]:
    """A shell whose user has a home, and files called as if they were one."""
    for home in ("home", "passwd home"):
        (shell.root / "data" / home / "sub").mkdir(parents=True)
    (shell.root / "data/to-home").symlink_to("home")
    odd = [shell.root / name for name in ("~", "~user", "data/~", "data/home/~")]
    for path in odd:
        path.write_bytes(b"")
    passwd = shell.root / "etc/passwd"
    passwd.parent.mkdir(exist_ok=True)
    before = passwd.read_bytes() if passwd.exists() else None
    passwd.write_text("other:x:10:10::/nope:/bin/sh\nroot:x:0:0:root:/data/passwd home:/bin/sh\n")
    yield shell
    for path in odd:
        path.unlink()
    if before is None:
        passwd.unlink()
    else:
        passwd.write_bytes(before)


def test_a_tilde_is_the_users_home(at_home: Shell) -> None:
    """Of the container's user, and only where the path begins with it."""
    for path, home, directory, top in HOME:
        script = f"HOME={scripts.quote(home.encode())}\n{scripts.probe_source(path)}"
        found = probe.source(at_home.run(script).stdout, PATH).facts
        assert (found.directory, found.top) == (directory, top), (path, home)
        if found.kind is Kind.DIRECTORY:
            script = f"HOME={scripts.quote(home.encode())}\n{scripts.probe_target(path, b'sub')}"
            there = probe.target(at_home.run(script).stdout, PATH).facts
            assert (there.kind, there.directory) == (
                Kind.DIRECTORY,
                directory.rstrip(b"/") + b"/" + top,
            )


def test_a_new_name_at_home(at_home: Shell) -> None:
    def ask(path: bytes, home: str) -> TargetFacts:
        said = at_home.run(f"HOME={home}\n" + scripts.probe_target(path, b"x"))
        return probe.target(said.stdout, PATH).facts

    missing = Kind.MISSING
    assert ask(b"~/new", "/data/home") == TargetFacts(b"/data/home", b"new", missing, missing, True)
    assert ask(b"./~new", "/data/home").directory == b"/"
    # A home that does not exist is not made, least of all as a file.
    for home in ("/data/nowhere", "/data/~"):
        assert ask(b"~", home).directory == b""
        with pytest.raises(SourceNotFound):
            said = at_home.run(f"HOME={home}\n" + scripts.probe_source(b"~"))
            probe.source(said.stdout, PATH)


def test_without_a_home_it_is_the_root(at_home: Shell) -> None:
    """As container runtimes have it for a user who is not in /etc/passwd."""
    script = "HOME=\n" + scripts.probe_source(b"~/data")
    for remove in (False, True):
        if remove:
            (at_home.root / "etc/passwd").rename(at_home.root / "etc/passwd-")
        try:
            said = at_home.run(script, uid=1000).stdout
        finally:
            if remove:
                (at_home.root / "etc/passwd-").rename(at_home.root / "etc/passwd")
        found = probe.source(said, PATH).facts
        assert (found.directory, found.top) == (b"/", b"data")


def test_a_source_that_cannot_be_copied_says_why(shell: Shell) -> None:
    def ask(path: bytes) -> probe.Source:
        return probe.source(shell.run(scripts.probe_source(path)).stdout, PATH)

    with pytest.raises(SourceNotFound):
        ask(b"/data/nope")
    with pytest.raises(SourceError, match="root of the container"):
        ask(b"/")
    (shell.root / "data/locked").mkdir(mode=0o700)
    with pytest.raises(SourceError, match="cannot be entered"):
        probe.source(shell.run(scripts.probe_source(b"/data/locked/"), uid=1000).stdout, PATH)


def test_a_source_that_the_kernel_makes_is_refused() -> None:
    """In this machine's own root, for the userlands have no /proc."""
    mounts = Path("/proc/self/mountinfo").read_bytes().splitlines()
    cgroups = [line.split()[4] + b"/cgroup.procs" for line in mounts if b" - cgroup" in line]
    for path in (b"/proc/cpuinfo", b"/proc/self", b"/proc", b"/sys/kernel", *cgroups[:1]):
        said = subprocess.run(
            ["sh", "-c", scripts.probe_source(path)], capture_output=True, check=True
        ).stdout
        with pytest.raises(SourceError, match="where the kernel makes files"):
            probe.source(said, PATH)
    said = subprocess.run(["sh", "-c", scripts.probe_source(b"/etc")], capture_output=True).stdout
    assert abs(probe.source(said, PATH).now - time.time()) < 100


def test_without_a_stat_nothing_is_taken_for_the_kernels(tmp_path: Path) -> None:
    (tmp_path / "stat").symlink_to("/bin/false")
    (tmp_path / "date").symlink_to(shutil.which("date") or "")
    said = subprocess.run(
        ["/bin/sh", "-c", scripts.probe_source(b"/etc", follow=True)],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        check=True,
    ).stdout
    assert b"special" not in said
    assert b"made=" not in said


def test_what_the_kernel_makes_is_seen_in_a_tree(tmp_path: Path) -> None:
    """Where it is mounted last, and as it is called."""
    tree = tmp_path / "a tree"
    for name in ("pro c", "cpuinfo", "plain", "hidden"):
        (tree / name).mkdir(parents=True)
    script = f"""cd {scripts.quote(bytes(tree))} && mount -t proc proc 'pro c' &&
        mount -t tmpfs tmpfs plain && mount -t proc proc hidden && mount -t tmpfs tmpfs hidden &&
        exec sh -c "$1" """
    argv = ["unshare", "-rmpf", "sh", "-c", script, "sh", scripts.probe_source(bytes(tree))]
    said = subprocess.run(argv, capture_output=True, check=True).stdout
    assert probe.source(said, PATH).made == (bytes(tree / "pro c"),)


def test_the_target_says_who_is_nobody_there(shell: Shell) -> None:
    """As root of a user namespace, which a Pod with ``hostUsers: false`` has."""
    script = scripts.probe_target(b"/srv", b"x")
    with shell.proc():
        argv = [*mapped.COMMAND, *shell.command(script)]
        said = subprocess.run(argv, capture_output=True, check=True).stdout
        there = probe.target(said, PATH)
        assert (there.uids, there.gids) == ((range(mapped.IDS),), (range(mapped.IDS),))
        assert there.has_owner(mapped.IDS - 1, mapped.IDS - 1)
        assert not there.has_owner(mapped.IDS, 0)
        assert not there.has_owner(0, mapped.IDS)
        outside = probe.target(shell.run(script).stdout, PATH)
        assert outside.has_owner(2**32 - 2, 2**32 - 2)


def test_without_a_map_everybody_may_be_somebody(shell: Shell) -> None:
    said = shell.run(scripts.probe_target(b"/srv", b"x"))
    assert b"_map" not in said.stderr
    there = probe.target(said.stdout, PATH)
    assert (there.uids, there.gids) == ((), ())
    assert there.has_owner(2**32 - 2, 2**32 - 2)


@pytest.mark.parametrize(
    ("said", "ids"),
    [
        (b"         0     100000      65536\n", (range(65536),)),
        (b"0 1000 1\n1 100000 65535", (range(1), range(1, 65536))),
        (b"", ()),
        (b"0 0", ()),
        (b"0 0 65536\nsomething else", ()),
        (b"0 0 " + b"9" * 5000, ()),
        (b"0 0 -1", ()),
    ],
)
def test_what_is_no_map_says_nothing(said: bytes, ids: tuple[range, ...]) -> None:
    there = probe.target(b"tar=tar (GNU tar) 1.34\0kind=missing\0uids=%b\0" % said, PATH)
    assert (there.uids, there.gids) == (ids, ())


def test_the_target_probe(shell: Shell) -> None:
    (shell.root / "srv/tree/inner").mkdir(parents=True)
    (shell.root / "srv/to-tree").symlink_to("tree")
    (shell.root / "srv/file").write_bytes(b"")

    def ask(path: bytes, uid: int = 0) -> TargetFacts:
        said = shell.run(scripts.probe_target(path, b"inner"), uid=uid)
        return probe.target(said.stdout, PATH).facts

    directory, missing, file, link = Kind.DIRECTORY, Kind.MISSING, Kind.FILE, Kind.LINK
    assert ask(b"/srv/tree") == TargetFacts(b"/srv/tree", b"", directory, directory, True, True)
    assert ask(b"/srv/to-tree/") == TargetFacts(b"/srv/tree", b"", directory, directory, True, True)
    assert ask(b"srv/file") == TargetFacts(b"/srv", b"file", file, missing, True)
    assert ask(b"/srv/new//") == TargetFacts(b"/srv", b"new", missing, missing, True)
    assert ask(b"/srv/no/new") == TargetFacts(b"", b"new", missing, missing, False)
    assert ask(b"/srv/new", uid=1000) == TargetFacts(b"/srv", b"new", missing, missing, False)
    (shell.root / "srv/dangling").symlink_to("nowhere")
    assert ask(b"/srv/dangling") == TargetFacts(b"/srv", b"dangling", link, missing, True)
    (shell.root / "srv/locked").mkdir(mode=0o700)
    with pytest.raises(DestinationRefused, match="cannot be entered"):
        ask(b"/srv/locked", uid=1000)
    (shell.root / "srv/locked").chmod(0)  # which does not keep root out
    assert ask(b"/srv/locked").writable
    os.chown(shell.root / "srv/tree/inner", 1000, 1000)
    for inner, writable in [(0o755, True), (0o555, False), (0o644, False)]:
        (shell.root / "srv/tree/inner").chmod(inner)
        facts = ask(b"/srv/tree", uid=1000)
        assert (facts.writable, facts.inner_writable) == (False, writable)


def test_the_target_probe_knows_dd(shell: Shell) -> None:
    said = shell.run(scripts.probe_target(b"/srv", b"x")).stdout
    assert probe.target(said, PATH).fullblock == (shell.name != "toybox")


def test_a_container_without_tar_is_refused(roots: dict[str, Shell]) -> None:
    shell = roots["notar"]
    with pytest.raises(ExecFailed, match="no tar"):
        probe.source(shell.run(scripts.probe_source(b"/data")).stdout, PATH)
    with pytest.raises(ExecFailed, match="no tar"):
        probe.target(shell.run(scripts.probe_target(b"/data", b"x")).stdout, PATH)


def test_noise_in_front_of_the_facts_does_no_harm() -> None:
    said = b"welcome\nkind=directory\0tar=what is this\0directory=/a\0top=b\0"
    found = probe.source(said, PATH)
    assert (found.tar, found.facts.directory) == (probe.Tar.UNKNOWN, b"/a")


# --- the source --------------------------------------------------------------------------------


@pytest.mark.parametrize("top", [b"tree", *ODD])
def test_the_source_sends_its_archive_and_a_trailer(shell: Shell, top: bytes) -> None:
    tree = Path(os.fsdecode(os.fsencode(shell.root / "data") + b"/" + top))
    tree.mkdir()
    (tree / "file").write_bytes(b"content")
    facts = SourceFacts(b"/data", top, Kind.DIRECTORY)
    done = shell.run(scripts.send(facts, NONCE, gnu=shell.name == "gnu"), b"\n\n")
    archive, code = sent(done.stdout)
    assert (code, done.returncode) == (0, 0)
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        names = sorted(os.fsencode(name).removeprefix(b"./") for name in members.getnames())
    assert names == [top, top + b"/file"]


def test_what_an_image_tells_every_tar_leaves_nothing_out_of_an_archive(shell: Shell) -> None:
    (shell.fresh("data") / "file").write_text("content")
    facts = SourceFacts(b"/data", b"file", Kind.FILE)
    done = shell.run(ENVIRONMENT + scripts.send(facts, NONCE, gnu=shell.name == "gnu"), b"\n\n")
    packed, code = sent(done.stdout)
    with tarfile.open(fileobj=io.BytesIO(packed)) as members:
        assert (members.getnames(), code) == (["file"], 0)
    assert b"content" in shell.run(ENVIRONMENT + scripts.sample(facts, 1024)).stdout


@pytest.mark.parametrize("listed", [[b"tree", b"tree/-x"], []], ids=["and a list", "alone"])
def test_the_source_sends_names_that_no_list_can_hold(shell: Shell, listed: list[bytes]) -> None:
    if listed and shell.name == "busybox":
        pytest.skip("Debian's busybox takes no list of names")
    tree = shell.root / "data/tree"
    tree.mkdir()
    for name in ("-x", "in\na list", "other"):
        (tree / name).write_text(name)
    names = b"".join(name + b"\n" for name in listed)
    some = scripts.Some(None, len(names), (b"./tree/in\na list",))
    facts = SourceFacts(b"/data", b"tree", Kind.DIRECTORY)
    assert sorted(read(shell, facts, some, names)) == sorted([*listed, b"tree/in\na list"])


@pytest.mark.parametrize("top", [b"-x", b" --checkpoint=1", b"\t-x", b"@x", b" x"])
def test_a_name_in_a_list_is_no_option(shell: Shell, top: bytes) -> None:
    """GNU tar looks for options behind the white space with which a line begins."""
    if shell.name == "busybox":
        pytest.skip("Debian's busybox takes no list of names")
    (shell.root / os.fsdecode(b"data/" + top)).write_text("x")
    names = scripts.operand(top) + b"\n"
    facts = SourceFacts(b"/data", top, Kind.FILE)
    some = scripts.Some(None, len(names))
    assert read(shell, facts, some, names) == [top]


def read(shell: Shell, facts: SourceFacts, some: scripts.Some, names: bytes) -> list[bytes]:
    """Give a source's shell its list of names; return those in the archive, tar having ended."""
    process = shell.start(scripts.send(facts, NONCE, some, gnu=shell.name == "gnu"))
    assert process.stdin and process.stdout
    process.stdin.write(names)
    process.stdin.flush()
    packed = until(process.stdout, f"\npodcp-{NONCE} 0\n".encode())
    process.stdin.close()
    process.wait(10)
    with tarfile.open(fileobj=io.BytesIO(packed)) as members:
        return [os.fsencode(name).removeprefix(b"./") for name in members.getnames()]


def test_the_trailer_tells_that_tar_failed(shell: Shell) -> None:
    done = shell.run(
        scripts.send(SourceFacts(b"/data", b"nope", Kind.FILE), NONCE, gnu=shell.name == "gnu"),
        b"\n\n",
    )
    assert sent(done.stdout)[1] == done.returncode != 0
    assert b"nope" in done.stderr


def test_only_names_that_no_list_can_hold_are_left(shell: Shell) -> None:
    """With a top that has a newline in it, all names are such."""
    if shell.name == "busybox":
        pytest.skip("Debian's takes no list of names, and is never given one")
    (shell.root / "data/new\nline").mkdir()
    (shell.root / "data/new\nline/file").write_bytes(b"12345")
    facts = SourceFacts(b"/data", b"new\nline", Kind.DIRECTORY, None)
    some = scripts.Some(None, 0, (b"./new\nline", b"./new\nline/file"))
    done = shell.run(scripts.send(facts, NONCE, some, gnu=shell.name == "gnu"), b"\n")
    sent, _, trailer = done.stdout.rpartition(b"\npodcp-")
    assert trailer == NONCE.encode() + b" 0\n", done.stderr
    with tarfile.open(fileobj=io.BytesIO(sent)) as tar:
        assert [name.strip("./") for name in tar.getnames()] == ["new\nline", "new\nline/file"]


@pytest.mark.parametrize("alone", [True, False])
def test_what_became_of_a_file_is_said_behind_its_rest(shell: Shell, alone: bool) -> None:
    """Where it begins is known by the size that the rest was to have, so it has one length."""
    file = shell.root / "data/file"
    file.write_bytes(b"beginning, and rest")
    os.utime(file, (1_600_000_000, 1_600_000_000))
    for size, gone in ((8, False), (100, False), (8, True)):
        if gone:
            file.unlink()
        some = scripts.Some(scripts.Rest(b"file", 11, size), 0 if alone else None)
        gnu = shell.name == "gnu"
        send = scripts.send(SourceFacts(b"/data", b"file", Kind.FILE), NONCE, some, gnu=gnu)
        done = shell.run(send, b"\n\n")
        rest, _, behind = done.stdout.partition(b"\n")
        line, _, archive = behind.partition(b"\n")
        assert rest == (b"" if gone else b"and rest")
        told = ("", "") if gone else (19, 1_600_000_000)
        assert line.decode() == f"podcp-{NONCE} rest {told[0]:>20} {told[1]:>20}"
        archive, code = sent(archive)
        assert (code == 0) == (alone or not gone)
        assert (archive == b"") == alone


@pytest.mark.parametrize("start", [(1 << 20) - 1, 1 << 20, (3 << 20) + 7, (5 << 30) + 12_345])
def test_the_rest_of_a_file_begins_where_it_should(shell: Shell, start: int) -> None:
    """Numbers above 4 GiB mean nothing to busybox' tail."""
    if shell.name == "toybox" and start > 1 << 30:
        pytest.skip("without dd, all that comes before is read")
    with (shell.root / "data/-file").open("wb") as file:
        file.truncate(start - 10)  # which takes no place
        file.seek(start - 10)
        file.write(b"beginning,and rest")
    some = scripts.Some(scripts.Rest(b"-file", start, 8), 0)
    done = shell.run(scripts.send(SourceFacts(b"/data", b"-file", Kind.FILE), NONCE, some), b"\n")
    assert done.stdout.startswith(b"and rest\npodcp-")


@pytest.mark.parametrize("top", [b"a/b", b".", b"..", None])
def test_a_probe_that_says_what_none_says(top: bytes | None) -> None:
    """It is the container's fault, and no bug of ours."""
    said = b"kind=bogus\0size=abc\0directory=/data\0tar=GNU tar\0"
    with pytest.raises(SourceError, match="is called"):
        probe.source(said + (b"" if top is None else b"top=%b\0" % top), PATH)
    found = probe.source(said + b"top=x\0", PATH)
    assert (found.facts.kind, found.facts.size) == (Kind.OTHER, None)
    long = b"1" * 5000
    found = probe.source(said + b"top=x\0size=%b\0now=%b\0" % (long, long), PATH)
    assert (found.facts.size, found.now) == (None, 0)
    assert probe.target(said + b"inner=\xff\0", PATH).facts.inner is Kind.OTHER


def waits_for_a_line(process: subprocess.Popen[bytes], words: str, seconds: float) -> None:
    """Check that nothing ends a script, which has said ``words``, for so long; send it a line."""
    assert process.stdin and process.stdout
    until(process.stdout, f"{NONCE} {words}".encode())
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.stdin.write(b"\n")
    process.stdin.flush()


def test_the_source_is_held_until_it_is_released(shell: Shell) -> None:
    """The session must not end while bytes may still be on their way."""
    (shell.root / "data/file").write_bytes(b"x")
    facts = SourceFacts(b"/data", b"file", Kind.FILE)
    for gnu, last_words in ((True, ["0\n"]), (False, ["0\n", "end 0\n"])):
        if gnu and shell.name != "gnu":
            continue
        process = shell.start(scripts.send(facts, NONCE, gnu=gnu))
        for words in last_words:
            waits_for_a_line(process, words, 0.3)
        assert process.wait(10) == 0


def test_what_an_image_tells_its_shell_of_waiting_ends_no_source(tmp_path: Path) -> None:
    """bash, which is the sh of many images, would read for as many seconds as TMOUT has."""
    (tmp_path / "file").write_bytes(b"x")
    facts = SourceFacts(os.fsencode(tmp_path), b"file", Kind.FILE)
    with subprocess.Popen(
        ["bash", "--posix", "-c", scripts.send(facts, NONCE, gnu=True)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "TMOUT": "1"},
    ) as process:
        waits_for_a_line(process, "0\n", 1.5)
        assert process.wait(10) == 0


def test_a_blocked_source_ends_when_the_client_is_gone(shell: Shell) -> None:
    """tar is blocked in a pipe write that nobody will ever read; only stdin tells."""
    (shell.root / "data/big").write_bytes(os.urandom(1 << 20) * 8)
    process = shell.start(scripts.send(SourceFacts(b"/data", b"big", Kind.FILE), NONCE))
    assert process.stdin and process.stdout
    process.stdout.read(1 << 16)
    process.stdin.close()
    process.wait(10)
    wait_until(lambda: not shell.processes())


def test_a_source_ends_whose_client_was_gone_before_it_began(shell: Shell) -> None:
    """The shell is told in the moment in which its tar runs and it does not know its id yet."""
    (shell.root / "data/big").write_bytes(os.urandom(1 << 20) * 8)
    script = scripts.send(SourceFacts(b"/data", b"big", Kind.FILE), NONCE)
    moment = '&\nwait "$!"\nrc=$?\n'
    assert script.count(moment) == 1
    process = shell.start(script.replace(moment, "&\nwhile :; do :; done\n"))
    assert process.stdin
    process.stdin.close()
    process.wait(10)
    wait_until(lambda: not shell.processes())


def test_a_held_source_ends_when_the_client_is_gone(shell: Shell) -> None:
    (shell.root / "data/file").write_bytes(b"x")
    process = shell.start(scripts.send(SourceFacts(b"/data", b"file", Kind.FILE), NONCE))
    assert process.stdin and process.stdout
    until(process.stdout, f"{NONCE} 0\n".encode())
    process.stdin.close()
    process.wait(10)
    wait_until(lambda: not shell.processes())


# --- the destination ---------------------------------------------------------------------------


def archive(
    top: str = "tree", *, mark: bool = True, directory_mode: int = 0o755, file_mode: int = 0o640
) -> bytes:
    """A tree with a file and a subdirectory, the marker, and the end."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in (top, f"{top}/sub"):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.mtime = tarfile.DIRTYPE, directory_mode, 1_000_000
            tar.addfile(member)
        for name in (f"{top}/sub/new", f"{top}/file", f"{top}/.hidden"):
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = 3, file_mode, 2_000_000
            tar.addfile(member, io.BytesIO(b"new"))
        if mark:
            tar.addfile(tarfile.TarInfo(STAGE))
    return packed.getvalue()


def feeds(shell: Shell) -> Iterator[Feed]:
    """The ways in which this userland's stdin can be fed; toybox has no dd."""
    yield PlainFeed()
    if shell.name != "toybox":
        yield ChunkedFeed()


def receive(
    shell: Shell,
    placement: Placement,
    data: bytes,
    feed: Feed,
    *,
    uid: int = 0,
    mounts: tuple[bytes, ...] = (),
) -> tuple[bytes, bytes]:
    """Give ``data`` to the destination's script; return its last words and its stderr."""
    messages = [feed.first]
    for at in range(0, len(data), 1000):
        messages += feed.data([data[at : at + 1000]])
    messages += feed.end()
    staging = Staging(placement, NONCE, b"tree", mounts=mounts)
    script = shell.receiving(staging, NONCE)
    done = shell.run(script, b"".join(messages), uid=uid)
    return done.stdout.splitlines()[-1].removeprefix(f"podcp-{NONCE} ".encode()), done.stderr


def receive_file(
    shell: Shell, name: bytes, data: bytes, *, exact: bool = False, uid: int = 0, end: bytes = b""
) -> bytes:
    """Give ``data``, as a file, to the destination's script; return its last words."""
    feed: Feed = ExactFeed(100_000) if exact else PlainFeed()
    messages = [feed.first]
    data += end or scripts.file_end(NONCE, len(data))
    for at in range(0, len(data), 32_000):
        messages += feed.data([data[at : at + 32_000]])
    messages += feed.end()
    script = scripts.receive_file(Staging(Placement(b"/srv", name), NONCE, b"-"), NONCE)
    done = shell.run(script, b"".join(messages), uid=uid)
    assert done.stderr == b""
    return done.stdout.splitlines()[-1].removeprefix(f"podcp-{NONCE} ".encode())


@pytest.mark.parametrize(("size", "exact"), [(0, True), (61, False), (250_000, True)])
def test_a_file_of_a_length_that_nobody_knew(shell: Shell, size: int, exact: bool) -> None:
    if exact and shell.name == "toybox":
        pytest.skip("it has no dd")
    data = os.urandom(size)
    for name in (b"-n", b"new\nline", b"-"):
        assert receive_file(shell, name, data, exact=exact) == b"0 1 0"
        assert (shell.root / "srv" / os.fsdecode(name)).read_bytes() == data
    assert (shell.root / "srv/-n").stat().st_mode & 0o7777 == 0o644
    assert len(list((shell.root / "srv").iterdir())) == 3


def test_a_file_that_did_not_come_whole_is_not_placed(shell: Shell) -> None:
    srv = shell.root / "srv"
    (srv / "file").write_text("old")
    good = scripts.file_end(NONCE, 1000)
    for end in (b"\n", good[:-1], good + b"x", scripts.file_end(NONCE, 1001), good[:10]):
        assert receive_file(shell, b"file", b"x" * 1000, end=end) != b"0 1 0"
        assert contents(srv) == {"file": "old"}


def test_a_file_that_is_being_written_is_left_alone_by_a_sweep(shell: Shell) -> None:
    """Also where its stdin is silent: another copy to the same name begins meanwhile."""
    written = Staging(Placement(b"/srv", b"file"), NONCE, b"-")
    sweep = scripts.sweep(replace(written, keep=True), busy=True)
    with shell.proc(), shell.start(scripts.receive_file(written, NONCE)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        until(process.stdout, b" ready\n")
        stage = shell.root / "srv" / STAGE
        wait_until(
            lambda: stage in {Path(f"/proc/{pid}/cwd").readlink() for pid in shell.processes()}
        )
        assert shell.run(sweep).returncode == 1
        process.stdin.write(b"plain\nnew")
        process.stdin.flush()
        wait_until((stage / "-").exists)
        assert shell.run(sweep).returncode == 1
        process.stdin.write(scripts.file_end(NONCE, 3))
        process.stdin.close()
        assert until(process.stdout, b" 0 1 0\n")
    assert contents(shell.root / "srv") == {"file": "new"}


def test_a_file_that_is_replaced_gives_its_mode_and_owner(shell: Shell) -> None:
    old = shell.root / "srv/file"
    old.write_text("old")
    old.chmod(0o640)
    os.chown(old, 1000, 1001)
    (shell.root / "srv/link").symlink_to("file")
    (shell.root / "srv/directory").mkdir()
    (shell.root / "srv/leads").symlink_to("directory")
    assert receive_file(shell, b"leads", b"new") == b"0 1 0"
    assert (shell.root / "srv/leads").read_text() == "new"
    assert list((shell.root / "srv/directory").iterdir()) == []
    assert receive_file(shell, b"file", b"new") == b"0 1 0"
    assert receive_file(shell, b"link", b"new") == b"0 1 0"
    found = old.stat()
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o640, 1000, 1001)
    assert (shell.root / "srv/link").lstat().st_mode == 0o100644


def test_a_file_never_replaces_a_directory(shell: Shell) -> None:
    """One that was made since the plan was."""
    (shell.root / "srv/file").mkdir()
    script = scripts.receive_file(Staging(Placement(b"/srv", b"file"), NONCE, b"-"), NONCE)
    done = shell.run(script, b"plain\nnew" + scripts.file_end(NONCE, 3))
    assert done.stdout.endswith(b"\npodcp-%b 0 1 1\n" % NONCE.encode())
    assert b"cannot overwrite directory /srv/file" in done.stderr
    assert contents(shell.root / "srv") == {"file": "/"}


def test_a_user_that_is_not_root_receives_a_file(shell: Shell) -> None:
    srv = shell.root / "srv"
    os.chown(srv, 1000, 1000)
    (srv / "file").write_text("old")
    assert receive_file(shell, b"file", b"new", uid=1000) == b"0 1 0"
    assert (srv / "file").stat().st_uid == 1000


def test_what_a_link_leads_to(shell: Shell) -> None:
    (shell.root / "data/file").write_text("x")
    (shell.root / "data/a\n").symlink_to("b")
    (shell.root / "data/b").symlink_to("/data/file")
    assert shell.run(scripts.resolve(b"/data/a\n")).stdout == b"/data/file\n"


def contents(root: Path) -> dict[str, str]:
    """Relative name to text (directories: ``/``) of a tree."""
    return {
        str(path.relative_to(root)): "/" if path.is_dir() else path.read_text()
        for path in sorted(root.rglob("*"))
    }


WHOLE = {".hidden": "new", "file": "new", "sub": "/", "sub/new": "new"}


@pytest.mark.parametrize("name", [b"tree", b"other", *ODD])
def test_a_whole_archive_is_placed_under_its_name(shell: Shell, name: bytes) -> None:
    for feed in feeds(shell):
        srv = shell.fresh("srv")
        answer, stderr = receive(shell, Placement(b"/srv", name), archive(), feed)
        assert (answer, stderr) == (b"0 1 0", b"")
        assert contents(srv / os.fsdecode(name)) == WHOLE
        assert [os.fsencode(path.name) for path in srv.iterdir()] == [name]


def test_modes_and_times_arrive(shell: Shell) -> None:
    for feed in feeds(shell):
        srv = shell.fresh("srv")
        receive(shell, Placement(b"/srv", b"tree"), archive(directory_mode=0o555), feed)
        file, sub = (srv / "tree/file").stat(), (srv / "tree/sub").stat()
        assert (file.st_mode & 0o7777, file.st_mtime) == (0o640, 2_000_000)
        assert sub.st_mode & 0o7777 == 0o555
        if shell.name != "busybox":  # it restores no directory's time
            assert sub.st_mtime == (srv / "tree").stat().st_mtime == 1_000_000


def test_a_user_that_is_not_root_places_directories_it_may_not_write(shell: Shell) -> None:
    for feed in feeds(shell):
        srv = shell.fresh("srv")
        os.chown(srv, 1000, 1000)
        data = archive(directory_mode=0o755)
        placement = Placement(b"/srv", b"other")
        assert receive(shell, placement, data, feed, uid=1000) == (b"0 1 0", b"")
        assert contents(srv / "other") == WHOLE
        assert (srv / "other/file").stat().st_uid == 1000


def test_a_setgid_directory_does_not_change_the_modes_of_what_comes_into_it(shell: Shell) -> None:
    """Whoever can give files away gets them as they were; GNU tar leaves the inherited bit."""
    srv = shell.fresh("srv")
    srv.chmod(0o2755)
    receive(shell, Placement(b"/srv", b"tree"), archive(directory_mode=0o700), PlainFeed())
    assert [path.stat().st_mode & 0o7777 for path in (srv / "tree", srv / "tree/sub")] == [
        0o700
    ] * 2


def test_an_existing_file_is_replaced_at_once(shell: Shell) -> None:
    """The old inode stays whole: whoever has it open, or runs it, keeps it."""
    for feed in feeds(shell):
        srv = shell.fresh("srv")
        (srv / "file").write_text("old")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
            member = tarfile.TarInfo("tree")
            member.size = 3
            tar.addfile(member, io.BytesIO(b"new"))
            tar.addfile(tarfile.TarInfo(STAGE))
        with (srv / "file").open() as old:
            answer, _ = receive(shell, Placement(b"/srv", b"file"), packed.getvalue(), feed)
            assert (answer, old.read()) == (b"0 1 0", "old")
        assert contents(srv) == {"file": "new"}


def test_a_link_to_a_directory_is_replaced_not_followed(shell: Shell) -> None:
    srv = shell.fresh("srv")
    (srv / "elsewhere").mkdir()
    (srv / "link").symlink_to("elsewhere")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("tree"))
        tar.addfile(tarfile.TarInfo(STAGE))
    answer, _ = receive(shell, Placement(b"/srv", b"link"), packed.getvalue(), PlainFeed())
    assert answer == b"0 1 0"
    assert not (srv / "link").is_symlink()
    assert contents(srv) == {"elsewhere": "/", "link": ""}


@pytest.mark.parametrize("name", [b"tree", b"other", b"-rf"])
def test_a_tree_that_was_placed_meanwhile_is_merged_into(shell: Shell, name: bytes) -> None:
    """By a try before this one: its acknowledgement was lost, and the name was free then."""
    for _ in range(2):
        answer, stderr = receive(shell, Placement(b"/srv", name), archive(), PlainFeed())
        assert (answer, stderr) == (b"0 1 0", b"")
    assert contents(shell.root / "srv" / name.decode()) == WHOLE
    assert [os.fsencode(path.name) for path in (shell.root / "srv").iterdir()] == [name]


def test_an_existing_tree_is_merged_into(shell: Shell) -> None:
    """What is in both is replaced, what is only at the destination stays."""
    for feed in feeds(shell):
        srv = shell.fresh("srv")
        (srv / "sub").mkdir(mode=0o711)
        (srv / "sub/old").write_text("old")
        (srv / "file").write_text("old")
        answer, stderr = receive(shell, Placement(b"/srv", b""), archive(), feed)
        assert (answer, stderr) == (b"0 1 0", b"")
        assert contents(srv) == WHOLE | {"sub/old": "old"}
        sub = (srv / "sub").stat()
        assert sub.st_mode & 0o7777 == 0o711
        if shell.name != "busybox":
            assert sub.st_mtime == 1_000_000


def test_a_merge_of_many_files_takes_few_processes(shell: Shell) -> None:
    """1,000 files are moved some hundred at a time."""
    srv = shell.fresh("srv")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        member = tarfile.TarInfo("tree")
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(member)
        for number in range(1000):
            tar.addfile(tarfile.TarInfo(f"tree/{number}"))
        tar.addfile(tarfile.TarInfo(STAGE))
    answer, _ = receive(shell, Placement(b"/srv", b""), packed.getvalue(), PlainFeed())
    assert answer == b"0 1 0"
    assert sorted(int(path.name) for path in srv.iterdir()) == list(range(1000))


def test_a_merge_keeps_times_where_nothing_is_moved_and_goes_deep(shell: Shell) -> None:
    """A directory of which nothing is new, one in which something is, and those around them."""
    packed = io.BytesIO()
    deep = "tree" + "/d" * 200
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for depth in range(201):
            member = tarfile.TarInfo("tree" + "/d" * depth)
            member.type, member.mode, member.mtime = tarfile.DIRTYPE, 0o2755, 1_000_000 + depth
            tar.addfile(member)
        tar.addfile(tarfile.TarInfo(deep + "/file"))
        tar.addfile(tarfile.TarInfo(STAGE))
    srv = shell.fresh("srv")
    bottom = srv / deep.removeprefix("tree/")
    bottom.mkdir(parents=True)
    (bottom / "old").write_text("old")
    answer, stderr = receive(shell, Placement(b"/srv", b""), packed.getvalue(), PlainFeed())
    assert (answer, stderr) == (b"0 1 0", b"")
    assert sorted(path.name for path in bottom.iterdir()) == ["file", "old"]
    if shell.name != "busybox":  # it restores no directory's time
        at = bottom
        for depth in range(200, 0, -1):
            assert (at.stat().st_mtime, at.stat().st_mode & 0o7777) == (1_000_000 + depth, 0o755)
            at = at.parent


@pytest.mark.parametrize("mode", [0o555, 0o311, 0o000])
def test_a_user_that_is_not_root_merges_directories_it_may_not_use(shell: Shell, mode: int) -> None:
    """All that is in them comes to stand in those that exist, which keep their mode."""
    srv = shell.fresh("srv")
    (srv / "sub").mkdir(mode=0o755)
    for path in (srv, srv / "sub"):
        os.chown(path, 1000, 1000)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in ("tree", "tree/sub", "tree/sub/file", "tree/new", "tree/new/file"):
            member = tarfile.TarInfo(name)
            if not name.endswith("file"):
                member.type, member.mode = tarfile.DIRTYPE, 0o755
            if name.endswith(("sub", "new")):
                member.mode = 0o755 if shell.name in ("busybox", "toybox") else mode
            tar.addfile(member)
        tar.addfile(tarfile.TarInfo(STAGE))
    answer, stderr = receive(
        shell, Placement(b"/srv", b""), packed.getvalue(), PlainFeed(), uid=1000
    )
    assert (answer, stderr) == (b"0 1 0", b"")
    assert (srv / "sub/file").exists()
    assert (srv / "new/file").exists()
    assert (srv / "sub").stat().st_mode & 0o7777 == 0o755
    assert [path.name for path in srv.iterdir() if path.name.startswith(".")] == []


def test_a_program_that_runs_is_replaced_and_runs_on(shell: Shell) -> None:
    srv = shell.fresh("srv")
    (srv / "sub").mkdir()
    program = srv / "sub/new"
    shutil.copy(shell.root / "opt/witness/busybox", program)
    with subprocess.Popen(["busybox", "cat"], executable=program, stdin=subprocess.PIPE) as running:
        answer, stderr = receive(shell, Placement(b"/srv", b""), archive(), PlainFeed())
        assert (answer, stderr) == (b"0 1 0", b"")
        assert program.read_text() == "new"
        assert running.poll() is None
        assert Path(f"/proc/{running.pid}/exe").readlink() != program, "it runs from the old one"
        assert running.stdin
        running.stdin.close()
        assert running.wait(10) == 0


@pytest.mark.parametrize("conflict", ["sub", "file"])
def test_a_tree_that_does_not_fit_changes_nothing(shell: Shell, conflict: str) -> None:
    """A directory over a file, or the other way round: found before anything is moved."""
    srv = shell.fresh("srv")
    if conflict == "sub":
        (srv / "sub").write_text("a file")
    else:
        (srv / "file/within").mkdir(parents=True)
    (srv / ".hidden").write_text("old")
    before = contents(srv)
    answer, stderr = receive(shell, Placement(b"/srv", b""), archive(), PlainFeed())
    assert answer == b"0 1 1"
    words = ["non-directory", "directory"] if conflict == "sub" else ["directory", "non-directory"]
    assert stderr.decode() == (
        f"cannot overwrite {words[0]} /srv/{conflict} with {words[1]} tree/{conflict}\n"
    )
    assert contents(srv) == before


@pytest.mark.parametrize("cut", [0, 512, 1024, 1536, 2000, 2560])
def test_a_cut_archive_is_never_placed(shell: Shell, cut: int) -> None:
    """At a member boundary every tar says 0; the marker is what is missing."""
    for feed in feeds(shell):
        srv = shell.fresh("srv")
        (srv / "tree").mkdir()
        (srv / "tree/file").write_text("old")
        answer, _ = receive(shell, Placement(b"/srv/tree", b""), archive()[:cut], feed)
        assert answer != b"0 1 0"
        assert answer.split()[1:] == [b"0", b"1"]
        assert contents(srv) == {"tree": "/", "tree/file": "old"}


def test_an_archive_without_the_marker_is_never_placed(shell: Shell) -> None:
    for feed in feeds(shell):
        srv = shell.fresh("srv")
        answer, _ = receive(shell, Placement(b"/srv", b"tree"), archive(mark=False), feed)
        assert answer == b"0 0 1"
        assert contents(srv) == {}


def test_a_client_that_goes_away_leaves_nothing(shell: Shell) -> None:
    for feed in feeds(shell):
        srv = shell.fresh("srv")
        script = shell.receiving(Staging(Placement(b"/srv", b"tree"), NONCE, b"tree"), NONCE)
        process = shell.start(script)
        assert process.stdin and process.stdout
        until(process.stdout, b" ready\n")
        assert (srv / STAGE).is_dir()
        process.stdin.write(feed.first + b"".join(feed.data([archive()[:3000]])))
        process.stdin.close()
        process.stdout.close()
        process.wait(10)
        assert contents(srv) == {}
        wait_until(lambda: not shell.processes())


def test_a_tar_that_fails_early_is_drained_and_says_nothing_binary(shell: Shell) -> None:
    """A bad header in front of megabytes: all are read, and none of them reaches stderr."""
    for feed in feeds(shell):
        srv = shell.fresh("srv")
        data = b"\xf3not a header" * 500_000
        answer, stderr = receive(shell, Placement(b"/srv", b"tree"), data, feed)
        assert answer.split()[0] != b"0"
        assert answer.split()[1:] == [b"0", b"1"]
        assert b"\xf3" not in stderr
        assert contents(srv) == {}


@contextmanager
def mounted(directory: Path, size: str) -> Iterator[None]:
    """Another file system at ``directory``."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(directory)]
    subprocess.run(mount, check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_what_is_mounted_below_the_target_receives_its_files_at_once(shell: Shell) -> None:
    """Each is written beside its name, and then renamed, as on the target's own file system."""
    srv = shell.fresh("srv")
    (srv / "tree/sub").mkdir(parents=True)
    with mounted(srv / "tree/sub", "1m"):
        (srv / "tree/sub/new").write_text("old")
        (srv / "tree/sub/other").write_text("other")
        (srv / "tree/sub" / STAGE / "of a killed run").mkdir(parents=True)
        with (srv / "tree/sub/new").open() as old:
            placement, mounts = Placement(b"/srv/tree", b""), (b"/srv/tree/sub",)
            answer = receive(shell, placement, archive(), PlainFeed(), mounts=mounts)
            assert (answer, old.read()) == ((b"0 1 0", b""), "old")
        assert contents(srv / "tree") == {**WHOLE, "sub/other": "other"}


def test_what_an_image_tells_every_tar_keeps_nothing_from_what_is_mounted(shell: Shell) -> None:
    srv = shell.fresh("srv")
    (srv / "tree/sub").mkdir(parents=True)
    mounts = (b"/srv/tree/sub",)
    held = Staging(Placement(b"/srv/tree", b""), NONCE, b"tree", place=False, mounts=mounts)
    receive = ENVIRONMENT + shell.receiving(held, NONCE)
    shell.run(receive, PlainFeed().first + archive())
    with mounted(srv / "tree/sub", "1m"):
        done = shell.run(ENVIRONMENT + scripts.commit(held, NONCE))
        assert done.stdout == f"\npodcp-{NONCE} 0 1 0\n".encode()
        assert contents(srv / "tree") == WHOLE


def with_tar(shell: Shell, text: str) -> str:
    """Put a tar in front of the real one; return what a script begins with that is to find it."""
    (shell.fresh("front") / "tar").write_text("#!/bin/sh\nPATH=${PATH#/front:}\n" + text)
    (shell.root / "front/tar").chmod(0o755)
    return "export PATH=/front:$PATH\n"


def tree_of(*names: str, content: bytes = b"") -> bytes:
    """An archive of tree, tree/sub and files in them, all with one content."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for each in ("tree", "tree/sub"):
            member = tarfile.TarInfo(each)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for each in names:
            member = tarfile.TarInfo(each)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        tar.addfile(tarfile.TarInfo(STAGE))
    return packed.getvalue()


MACOS = r"""
export TAR_READER_OPTIONS="mac-ext${TAR_READER_OPTIONS:+,$TAR_READER_OPTIONS}"
exec tar "$@"
"""
"""bsdtar as macOS has it: what its user says counts more than what it does by itself there."""


def test_no_name_makes_a_file_metadata_of_another_one(roots: dict[str, Shell]) -> None:
    """For macOS' tar ``._x`` is that of ``x``, here and where it is taken to another mount."""
    shell = roots["bsdtar"]
    srv = shell.fresh("srv")
    (srv / "tree/sub").mkdir(parents=True)
    macos = with_tar(shell, MACOS)
    packed = tree_of("tree/._x", "tree/x", "tree/sub/._x", "tree/sub/x")
    mounts = (b"/srv/tree/sub",)
    held = Staging(Placement(b"/srv/tree", b""), NONCE, b"tree", place=False, mounts=mounts)
    receive = macos + scripts.receive(held, NONCE, gnu=False)
    shell.run(receive, PlainFeed().first + packed)
    with mounted(srv / "tree/sub", "1m"):
        done = shell.run(macos + scripts.commit(held, NONCE))
        assert done.stdout == f"\npodcp-{NONCE} 0 1 0\n".encode()
        assert set(contents(srv / "tree")) == {"._x", "x", "sub", "sub/._x", "sub/x"}


ALTERING = r"""
tar "$@" || exit
case $1 in x*) [ ! -f new ] || echo altered >new ;; esac
"""
"""A tar that writes something else than what it reads, and says nothing of it."""


@pytest.mark.parametrize("sha256", scripts.SHA256)
def test_what_was_verified_is_read_once_more_where_it_is_mounted(shell: Shell, sha256: str) -> None:
    if shell.run(f"{sha256} </dev/null").returncode:
        pytest.skip("this userland has it not")
    srv = shell.fresh("srv")
    (srv / "tree/sub").mkdir(parents=True)
    placement, mounts = Placement(b"/srv/tree", b""), (b"/srv/tree/sub",)
    held = Staging(placement, NONCE, b"tree", place=False, mounts=mounts, sha256=sha256)
    receive = shell.receiving(held, NONCE)
    altering = with_tar(shell, ALTERING)
    for altered in (True, False):
        shell.run(receive, PlainFeed().first + archive())
        with mounted(srv / "tree/sub", "1m"):
            (srv / "tree/sub/new").write_text("old")
            done = shell.run((altering if altered else "") + scripts.commit(held, NONCE))
            if altered:
                assert done.stdout.endswith(f"\npodcp-{NONCE} 0 1 2\n".encode())
                assert (
                    b"not all that was verified is the same where it was taken, in " in done.stdout
                )
                assert (srv / "tree/sub/new").read_text() == "old"
            else:
                assert done.stdout == f"\npodcp-{NONCE} 0 1 0\n".encode()
                assert contents(srv / "tree") == WHOLE


@pytest.mark.parametrize("uid", [0, 1000])
def test_what_is_mounted_receives_its_files_with_their_modes(shell: Shell, uid: int) -> None:
    """busybox' tar goes by the umask where its user is not root."""
    srv = shell.fresh("srv")
    (srv / "tree/sub").mkdir(parents=True)
    with mounted(srv / "tree/sub", "1m"):
        for directory in (srv, srv / "tree", srv / "tree/sub"):
            os.chown(directory, uid, uid)
        data = archive(file_mode=0o666)
        placement, mounts = Placement(b"/srv/tree", b""), (b"/srv/tree/sub",)
        answer, _ = receive(shell, placement, data, PlainFeed(), uid=uid, mounts=mounts)
        assert answer == b"0 1 0"
        for name in ("sub/new", "file"):
            found = (srv / "tree" / name).stat()
            assert (found.st_mode & 0o7777, found.st_mtime) == (0o666, 2_000_000)


def receive_in_group(shell: Shell, placement: Placement, data: bytes) -> None:
    """Receive an archive as a user who is in the group 1234, and not root."""
    script = shell.receiving(Staging(placement, NONCE, b"tree"), NONCE)
    command = shell.command(script, uid=1000)
    command.insert(command.index("chroot") + 1, "--groups=1234")
    said = subprocess.run(command, input=PlainFeed().first + data, capture_output=True, check=True)
    assert said.stdout.endswith(b" 0 1 0\n")


@pytest.mark.parametrize("mode", [0o755, 0o700])
def test_new_directories_in_one_with_setgid_are_as_the_document_says(
    shell: Shell, mode: int
) -> None:
    """Each volume with an fsGroup is one; docs/fidelity.md has what each tar makes of that."""
    srv = shell.fresh("srv")
    os.chown(srv, 0, 1234)
    srv.chmod(0o2775)
    receive_in_group(shell, Placement(b"/srv", b"tree"), archive(directory_mode=mode))
    keeps = shell.name == "busybox" or (shell.name, mode) == ("gnu", 0o700)
    for name in ("tree", "tree/sub"):
        found = (srv / name).stat()
        assert found.st_mode & 0o7777 == mode | (0o2000 if keeps else 0)
        is_own = shell.name == "toybox" and name != "tree"
        assert found.st_gid == (1000 if is_own else 1234)
    assert (srv / "tree/sub/new").stat().st_mode & 0o7777 == 0o640


@pytest.mark.parametrize("owner", [0, 1000])
def test_the_time_of_somebody_elses_directory_is_not_set(shell: Shell, owner: int) -> None:
    """As docs/fidelity.md says: only its owner and root may do that. busybox sets none at all."""
    srv = shell.fresh("srv")
    (srv / "tree/sub").mkdir(parents=True)
    for path in (srv, srv / "tree", srv / "tree/sub"):
        os.chown(path, owner, 1234)
        path.chmod(0o2775)
    receive_in_group(shell, Placement(b"/srv/tree", b""), archive())
    assert (srv / "tree/sub/new").stat().st_mtime == 2_000_000
    is_set = owner == 1000 and shell.name != "busybox"
    assert ((srv / "tree/sub").stat().st_mtime == 1_000_000) is is_set


def test_what_is_mounted_and_full_keeps_its_old_files(shell: Shell) -> None:
    srv = shell.fresh("srv")
    (srv / "tree/sub").mkdir(parents=True)
    with mounted(srv / "tree/sub", "64k"):
        (srv / "tree/sub/new").write_text("old")
        full = b"x" * (64 << 10)
        with suppress(OSError):
            (srv / "tree/sub/full").write_bytes(full)
        placement, mounts = Placement(b"/srv/tree", b""), (b"/srv/tree/sub",)
        answer, stderr = receive(shell, placement, archive(), PlainFeed(), mounts=mounts)
        assert (answer, b"o space left" in stderr) == (b"0 1 2", True)
        assert (srv / "tree/sub/new").read_text() == "old"
        assert sorted(path.name for path in (srv / "tree/sub").iterdir()) == ["full", "new"]


def test_what_cannot_be_renamed_where_it_is_mounted_leaves_no_folder_there(shell: Shell) -> None:
    """A file on which another one is mounted, of which nobody knew when the copy began."""
    srv = shell.fresh("srv")
    (srv / "tree/sub").mkdir(parents=True)
    with mounted(srv / "tree/sub", "1m"):
        (srv / "tree/sub/new").write_text("old")
        bind = ["mount", "--bind", str(srv / "tree/sub/new"), str(srv / "tree/sub/new")]
        subprocess.run(bind, check=True)
        try:
            placement, mounts = Placement(b"/srv/tree", b""), (b"/srv/tree/sub",)
            answer, _ = receive(shell, placement, archive(), PlainFeed(), mounts=mounts)
        finally:
            subprocess.run(["umount", bind[-1]], check=True)
        assert answer == b"0 1 2"
        assert contents(srv / "tree/sub") == {"new": "old"}


@pytest.mark.parametrize("directory", [b"/srv", b"/"])
def test_a_file_that_is_mounted_by_itself_is_not_replaced(shell: Shell, directory: bytes) -> None:
    """Nothing is: that is found out before anything is moved."""
    where = shell.fresh("srv") if directory == b"/srv" else shell.root
    (where / "file").write_text("old")
    placement, mounts = Placement(directory, b""), (paths.join(directory, b"file"),)
    answer, stderr = receive(shell, placement, archive(), PlainFeed(), mounts=mounts)
    assert answer == b"0 1 1"
    assert b"/file is mounted there by itself" in stderr
    assert (where / "file").read_text() == "old"
    assert not (where / "sub").exists()
    (where / "file").unlink()


def test_the_probe_tells_what_is_mounted(shell: Shell) -> None:
    """A path with a space is escaped by the kernel; without /proc nothing is told."""
    srv = shell.fresh("srv")
    (srv / "a b").mkdir()
    script = scripts.probe_target(b"/srv", b"x")
    assert probe.target(shell.run(script).stdout, PATH).mounts == ()
    with mounted(srv / "a b", "64k"), shell.proc():
        found = probe.target(shell.run(script).stdout, PATH).mounts
    assert b"/srv/a b" in found


def test_a_directory_that_knows_no_case_is_told_of(shell: Shell) -> None:
    """There is none here; so it is asked for a name that is there."""
    (shell.fresh("srv") / "tree").mkdir()
    for uid, owner in ((0, ""), (1000, " 1000:1000")):
        os.chown(shell.root / "srv", uid, uid)
        script = shell.receiving(staging(b"/srv"), NONCE)
        for asked, told in ((script, ""), (script.replace("PODCP", "podcp"), " folds")):
            said = shell.run(asked, uid=uid).stdout
            assert f"\npodcp-{NONCE} ready{owner}{told}\n".encode() in said


def test_a_target_directory_that_vanished_is_an_answer(shell: Shell) -> None:
    answer, stderr = receive(shell, Placement(b"/nope", b"tree"), archive(), PlainFeed())
    assert answer == b"1 0 1"
    assert b"nope" in stderr


def test_progress_is_seen(shell: Shell) -> None:
    """More names, or more bytes, or that all is being put in place."""
    tree = shell.fresh("srv") / STAGE / "tree"
    script = scripts.progress(staging(b"/srv"))
    assert shell.run(script).stdout == b""
    tree.mkdir(parents=True)
    said = [shell.run(script).stdout, shell.run(script).stdout]
    assert said[0] == said[1] != b""
    (tree / "file").touch()
    said.append(shell.run(script).stdout)
    (tree / "file").write_bytes(b"x" * 100_000)
    said.append(shell.run(script).stdout)
    assert len(set(said)) == 3
    (tree.parent / f"{STAGE}-taken").touch()
    assert shell.run(script).stdout.startswith(b"placing\n")
    assert shell.run(script).stderr == b""


ODD_MEMBERS = {
    "a directory of too long a name": long_name(b"L", b"tree/" + b"n" * 300 + b"/")
    + header(b"tree/" + b"n" * 95, b"5", mode=b"0000755\0"),
    "a directory in one that may not be written": header(b"tree/ro/", b"5", mode=b"0000555\0")
    + header(b"tree/ro/d/", b"5", mode=b"0000755\0"),
}


@pytest.mark.parametrize("member", ODD_MEMBERS.values(), ids=ODD_MEMBERS)
def test_nothing_is_complete_that_tar_could_not_make(shell: Shell, member: bytes) -> None:
    """busybox' says so, and ends with 0."""
    os.chown(shell.root / "srv", 1000, 1000)
    data = header(b"tree/", b"5", mode=b"0000755\0") + member + marker(NONCE)
    data += end_of_archive(len(data))
    said, stderr = receive(shell, Placement(b"/srv", b"tree"), data, PlainFeed(), uid=1000)
    found = contents(shell.root / "srv")
    if said == b"0 1 0":
        assert any(name.endswith("/d") for name in found)
    else:
        assert re.fullmatch(rb"[1-9]\d* [01] 1", said)
        assert stderr != b""
        assert found == {}


def test_what_tar_says_counts_where_no_file_can_be_written(shell: Shell) -> None:
    """As on a full disk, where an empty file, which the marker is, needs no room."""
    data = header(b"tree/", b"5", mode=b"0000755\0") + ODD_MEMBERS["a directory of too long a name"]
    data += marker(NONCE)
    data += end_of_archive(len(data))
    held = Staging(Placement(b"/srv", b"tree"), NONCE, b"tree", place=False)
    done = shell.run("ulimit -f 0\n" + shell.receiving(held, NONCE), b"plain\n" + data)
    assert re.search(rb" [1-9]\d* [01] [01]\n\Z", done.stdout), done
    assert done.stderr != b""


def test_what_tar_says_counts_below_a_mount_too(shell: Shell) -> None:
    """There it unpacks a second time, what was staged and is then removed."""
    below = shell.root / "srv/tree/sub"
    below.mkdir(parents=True)
    data = b"".join(
        header(b"tree/" + name, b"5", mode=b"0000755\0")
        for name in (b"", b"sub/", b"sub/d/", *(b"sub/d/%d/" % each for each in range(8)))
    )
    data += marker(NONCE)
    data += end_of_archive(len(data))
    few = ("mount", "-t", "tmpfs", "-o", "nr_inodes=7", "few", str(below))
    subprocess.run(few, check=True)
    try:
        mounts = (b"/srv/tree/sub",)
        placement = Placement(b"/srv", b"tree")
        said, stderr = receive(shell, placement, data, PlainFeed(), mounts=mounts)
        assert re.fullmatch(rb"0 1 [12]", said)
        assert b"space" in stderr
        assert list(below.iterdir()) == []
    finally:
        subprocess.run(["umount", str(below)], check=True)


LESS = {
    "": (1, 1),
    "-fowner": (0, 2000),
    "-chown": (0, 2000),
    "-chown,-fowner,-fsetid,-dac_override": (0, 2000),
}


@pytest.mark.parametrize(("less", "owner"), LESS.items())
def test_files_are_given_away_where_all_of_it_can_be_done(
    shell: Shell, less: str, owner: tuple[int, int]
) -> None:
    """Without CAP_FOWNER busybox' tar leaves out the times of what it has given away; and whoever
    gives nothing away leaves to all of it the group of a volume with an fsGroup, but for the two
    tars that take setgid off directories."""
    srv = shell.root / "srv"
    os.chown(srv, 0, 2000)
    srv.chmod(0o2775)
    data = header(b"tree/", b"5", mode=b"0000755\0")
    data += header(b"tree/file", uid=b"0000001\0", gid=b"0000001\0") + marker(NONCE)
    data += end_of_archive(len(data))
    staging = Staging(Placement(b"/srv", b"tree"), NONCE, b"tree")
    command = shell.command(shell.receiving(staging, NONCE))
    if less:
        command = ["setpriv", "--bounding-set", less, "--inh-caps", less, *command]
    done = subprocess.run(command, input=b"plain\n" + data, capture_output=True, check=True)
    owners = b" 0:0" if less else b""
    assert done.stdout.startswith(b"\npodcp-%b ready%b\n" % (NONCE.encode(), owners))
    assert done.stdout.endswith(b" 0 1 0\n")
    there = (srv / "tree/file").stat()
    assert there.st_mtime == 0o14000000000
    loses_group = less and shell.name in ("busybox", "toybox")
    assert (there.st_uid, there.st_gid) == ((0, 0) if loses_group else owner)


def test_the_longest_script_fits_in_a_request_line() -> None:
    """It travels in the URL; proxies often take no more than 8 KiB (nginx's own default). What else
    is in that line has less than 600 bytes, with the longest names that Kubernetes knows."""
    staging = Staging(Placement(b"/srv/" * 20, b"n" * 100), NONCE, b"t" * 100, keep=True)
    facts = SourceFacts(b"/srv/" * 20, b"t" * 100, Kind.DIRECTORY)
    some = scripts.Some(scripts.Rest(b"r" * 200, 1 << 40, 1 << 40), 99999)
    for script in (
        scripts.receive(staging, NONCE, gnu=True),
        scripts.receive(replace(staging, again=True), NONCE, gnu=True),
        scripts.receive(replace(staging, again=True, lax=True), NONCE, gnu=False),
        scripts.receive_file(staging, NONCE),
        scripts.send(facts, NONCE, some, packed="gzip", owners=True),
    ):
        assert len(quote(script, safe="")) < 8 * 1024 - 600


# --- going on ----------------------------------------------------------------------------------


def test_a_listing_that_is_too_long_ends_where_it_is_no_longer_read(shell: Shell) -> None:
    """Nothing stays blocked in a write, and what came is no listing."""
    directory = shell.fresh("data") / "tree" / "/".join(["d" * 250] * 12)
    directory.mkdir(parents=True)
    for number in range(1500):
        (directory / str(number)).touch()
    script = scripts.list_source(SourceFacts(b"/data", b"tree", Kind.DIRECTORY), NONCE)
    done = shell.run(script)
    assert len(done.stdout) == listing.LIMIT + 1
    assert listing.parse(done.stdout, NONCE) is None


def test_what_changed_last_is_seen_however_often_it_is_asked(shell: Shell) -> None:
    """Also where a file was joined from its parts since, until it is known what to make of that."""
    stage = shell.fresh("srv") / STAGE
    (stage / "tree").mkdir(parents=True)
    (stage / f"{STAGE}-since").touch()
    (stage / f"{STAGE}-name").write_text("./tree/big\n")
    (stage / f"{STAGE}-part").write_text("begin")
    (stage / "tree/big\n").write_text("end")
    (stage / "tree/first").touch()
    (stage / "tree/last").write_text("torn?")
    look = scripts.list_staged(staging(b"/srv", keep=True), NONCE, end=False)

    def newest(size: int = 8) -> frozenset[bytes]:
        found = listing.parse(shell.run(look).stdout, NONCE)
        assert found is not None
        assert found[b"tree/big\n"].size == size
        return found.newest - {b"tree/first"}  # a clock of milliseconds may not tell

    assert newest() == {b"tree/last"}
    for _ in range(2):
        assert newest() == {b"tree/last", b"tree/big\n"}
    words = scripts.words([b"tree/last"])
    done = shell.run(scripts.spoil(staging(b"/srv", keep=True), len(words)), words)
    assert done.returncode == 0
    assert newest() == {b"tree/last"}
    (stage / f"{STAGE}-name").write_text("./tree/big\n")
    (stage / "tree/big\n").rename(stage / f"{STAGE}-part")
    (stage / "tree/last").write_text("torn?")
    for _ in range(2):  # nothing of the rest has come
        assert b"tree/last" in newest()
    shell.run(scripts.spoil(staging(b"/srv", keep=True), len(words)), words)
    aside = scripts.set_aside(staging(b"/srv", keep=True), b"tree/big\n", 5, NONCE, "true")
    with shell.start(aside) as process:
        part = stage / f"{STAGE}-part"
        wait_until(lambda: part.exists() and part.stat().st_size == 5)
        process.kill()
    assert part.read_text() == "begin"
    assert newest(5) == {b"tree/last"}


def test_with_another_archive_what_was_joined_is_like_all_else(shell: Shell) -> None:
    held = staging(b"/srv", keep=True, place=False)
    stage = shell.fresh("srv") / STAGE
    gnu = shell.name == "gnu"
    shell.run(scripts.receive(held, NONCE, gnu=gnu), PlainFeed().first + archive())
    (stage / f"{STAGE}-joined").write_text("./tree/file")
    again = scripts.receive(replace(held, again=True), NONCE, gnu=gnu)
    assert b" 0 1 0\n" in shell.run(again, PlainFeed().first + archive()).stdout
    assert not (stage / f"{STAGE}-joined").exists()


def test_no_directory_is_left_setgid_for_the_next_archive(shell: Shell) -> None:
    """They are so by where they were made, and GNU tar would not change that."""
    srv = shell.fresh("srv")
    tree = srv / STAGE / "tree"
    (tree / "one/two").mkdir(parents=True)
    (srv / STAGE / f"{STAGE}-since").touch()
    for directory in (tree, tree / "one", tree / "one/two"):
        directory.chmod(0o2755)
    shell.run(scripts.list_staged(staging(b"/srv", keep=True), NONCE, end=False))
    assert [path.stat().st_mode & 0o7777 for path in (tree, tree / "one/two")] == [0o755, 0o755]


def test_no_symlink_is_left_for_the_next_archive(shell: Shell) -> None:
    """Neither in the tree nor as the tree, and what they lead to stays as it is."""
    outside = shell.fresh("outside")
    (outside / "file").write_text("kept")
    srv = shell.fresh("srv")
    tree = srv / STAGE / "tree"
    (tree / "directory").mkdir(parents=True)
    (srv / STAGE / f"{STAGE}-since").touch()
    (tree / "file").write_text("whole")
    for name in ("out", "new\nline", "-dash", "directory/up"):
        (tree / name).symlink_to("/outside")
    (srv / STAGE / "beside").symlink_to("/outside/file")
    script = scripts.list_staged(staging(b"/srv", keep=True), NONCE, end=False)
    found = listing.parse(shell.run(script).stdout, NONCE)
    assert found is not None
    assert set(found.names) == {b"tree", b"tree/file", b"tree/directory"}
    assert contents(srv / STAGE / "tree") == {"file": "whole", "directory": "/"}
    assert not (srv / STAGE / "beside").is_symlink()
    assert contents(outside) == {"file": "kept"}


@pytest.mark.parametrize("what", ["a link", "a link to nowhere", "a directory"])
def test_what_somebody_else_has_put_in_the_folder_s_place(shell: Shell, what: str) -> None:
    """With ``--partial`` its name is known before it is there: nothing is read or written there."""
    victim, srv = shell.fresh("victim"), shell.fresh("srv")
    (victim / "tree").mkdir()
    (victim / "tree/file").write_text("kept")
    (victim / "tree/link").symlink_to("file")
    if what == "a directory":
        victim.rename(srv / STAGE)
        victim = srv / STAGE
        os.chown(victim, 4711, 4711)
    else:
        (srv / STAGE).symlink_to("/victim" if what == "a link" else "/victim/none")
    before = contents(victim)
    looked = shell.run(scripts.list_staged(staging(b"/srv", keep=True), NONCE, end=True))
    assert looked.stdout == b"foreign\n"
    for again in (False, True):
        receive = shell.receiving(staging(b"/srv", keep=True, place=False, again=again), NONCE)
        done = shell.run(receive, b"plain\n" + archive())
        assert b"ready" not in done.stdout
        assert f"podcp-{NONCE} 1 0 1".encode() in done.stdout
        assert (b"not there any more" in done.stderr) == again
    assert contents(victim) == before
    assert shell.run(scripts.sweep(staging(b"/srv", keep=True))).returncode == 0
    assert not (srv / STAGE).exists()
    if what != "a directory":
        assert contents(victim) == before


def test_doubtful_files_get_another_time(shell: Shell) -> None:
    """All at once: of those that it missed, one would look whole next time."""
    tree = shell.fresh("srv") / STAGE / "tree"
    tree.mkdir(parents=True)
    names = [b"tree/" + name for name in (*ODD, *(b"%d" % n for n in range(500)))]
    paths = [
        Path(os.fsdecode(os.fsencode(shell.root) + b"/srv/" + STAGE.encode() + b"/" + each))
        for each in names
    ]
    for path in (*paths, tree / "whole"):
        path.touch()
        os.utime(path, (0, 0))
    words = scripts.words(names)
    done = shell.run(scripts.spoil(staging(b"/srv"), len(words)), words + b" and more")
    assert (done.returncode, done.stderr) == (0, b"")
    assert [path for path in paths if path.stat().st_mtime == 0] == []
    assert (tree / "whole").stat().st_mtime == 0


# --- what is there already ---------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"", b"tree", *ODD])
def test_the_target_is_listed_whatever_it_is_called(shell: Shell, name: bytes) -> None:
    srv = shell.fresh("srv")
    os.chown(srv, 1000, 1000)
    top = Path(os.fsdecode(os.fsencode(srv) + b"/" + name))
    top.mkdir(exist_ok=True)
    for each in ODD:
        Path(os.fsdecode(os.fsencode(top) + b"/" + each)).write_bytes(each)
    for uid, gives in [(0, b"gives"), (1000, b"")]:
        script = scripts.list_target(Staging(Placement(b"/srv", name), NONCE, b"top"), NONCE)
        found = listing.parse(shell.run(script, uid=uid).stdout, NONCE)
        assert found is not None
        assert found.said == gives
        there = found.renamed(name or b".", b"top")
        assert set(there.names) == {b"top", *(b"top/" + each for each in ODD)}
        assert all(there[b"top/" + each].size == len(each) for each in ODD)
    assert not (srv / STAGE).exists()


def test_a_target_that_is_not_there_has_an_empty_listing(shell: Shell) -> None:
    script = scripts.list_target(Staging(Placement(b"/srv", b"nope"), NONCE, b"top"), NONCE)
    found = listing.parse(shell.run(script).stdout, NONCE)
    assert found is not None
    assert found.names == []


def test_a_client_that_went_before_it_sent_anything_leaves_nothing(shell: Shell) -> None:
    """Even where what arrived is to be kept: whoever swept was here before the folder was."""
    srv = shell.fresh("srv")
    kept = Staging(Placement(b"/srv", b"tree"), NONCE, b"tree", keep=True)
    shell.run(shell.receiving(kept, NONCE))
    assert list(srv.iterdir()) == []
    shell.run(
        shell.receiving(kept, NONCE),
        b"plain\n",
    )
    assert [path.name for path in srv.iterdir()] == [STAGE]
    shell.run(shell.receiving(kept, NONCE))
    assert [path.name for path in srv.iterdir()] == [STAGE], "an earlier attempt's"


# --- sweeping ----------------------------------------------------------------------------------


def test_the_sweep_removes_a_staging_folder_and_nothing_else(shell: Shell) -> None:
    srv = shell.fresh("srv")
    (srv / STAGE / "locked").mkdir(parents=True, mode=0o755)
    (srv / STAGE / f"{STAGE}-since").touch()
    (srv / "file").write_text("kept")
    assert shell.run(scripts.sweep(staging(b"/srv"))).returncode == 0
    assert contents(srv) == {"file": "kept"}
    assert shell.run(scripts.sweep(staging(b"/srv"))).returncode == 0
    assert shell.run(scripts.sweep(staging(b"/nope"))).returncode == 0


@pytest.mark.parametrize("what", ["folder", "link"])
def test_what_is_not_ours_is_said_and_removed_where_that_may_be(shell: Shell, what: str) -> None:
    """A link may lead nowhere, and is in the way all the same."""
    srv = shell.fresh("srv")
    kept = staging(b"/srv", keep=True)
    look = scripts.list_staged(kept, NONCE, end=True)
    assert shell.run(look, uid=1000).stdout == b""
    srv.chmod(0o1777)
    if what == "folder":
        (srv / STAGE / "mine").mkdir(parents=True)
    else:
        (srv / STAGE).symlink_to("/nowhere")
    for uid, code in [(1000, 1), (0, 0)]:
        said = shell.run(look, uid=uid).stdout
        assert (said == b"foreign\n") is (uid == 1000 or what == "link")
        assert shell.run(scripts.sweep(kept), uid=uid).returncode == code
    assert list(srv.iterdir()) == []


def test_the_sweep_leaves_alone_what_is_being_put_in_place(shell: Shell) -> None:
    """The shell of a merge says that it is at work, and is believed as long as it lives."""
    srv = shell.root / "srv"
    (srv / "tree").write_text("no directory")
    messages = [PlainFeed().first, archive()]
    kept = Staging(Placement(b"/srv", b"tree"), NONCE, b"tree", keep=True)
    script = shell.receiving(kept, NONCE)
    assert shell.run(script, b"".join(messages)).stdout.endswith(b" 0 1 1\n")
    placing = srv / STAGE / f"{STAGE}-placing"
    assert placing.read_text().strip().isdigit()
    with shell.start("cd /srv; echo; read -r _") as at_work:
        assert at_work.stdout is not None
        until(at_work.stdout, b"\n")
        placing.write_text(f"{at_work.pid}\n")
        assert shell.run(scripts.sweep(kept)).returncode == 1
        looked = shell.run(scripts.list_staged(kept, NONCE, end=False))
        assert looked.stdout == b"busy\n"
        assert (srv / STAGE / "tree").is_dir()
        at_work.kill()
    assert shell.run(scripts.sweep(kept)).returncode == 0
    assert [path.name for path in srv.iterdir()] == ["tree"]


def test_where_no_process_is_seen_only_an_old_folder_is_left_by_a_copy_that_is_gone(
    shell: Shell,
) -> None:
    """As on macOS, which has no /proc: a copy in another terminal may be at work."""
    stage = shell.root / "srv" / STAGE
    sweep = scripts.sweep(staging(b"/srv", keep=True), busy=True)
    stage.mkdir()
    (stage / f"{STAGE}-since").touch()
    assert shell.run(sweep).returncode == 1
    assert stage.is_dir()
    yesterday = time.time() - 2 * 24 * 3600
    os.utime(stage, (yesterday, yesterday))
    assert shell.run(sweep).returncode == 0
    assert not stage.exists()


def test_the_number_of_a_shell_that_is_gone_may_be_another_programs(shell: Shell) -> None:
    """Numbers begin anew in a container that is restarted, and its volumes are there yet."""
    srv = shell.fresh("srv")
    (srv / STAGE).mkdir()
    with shell.start("cd /; echo; read -r _") as other:
        assert other.stdout is not None
        until(other.stdout, b"\n")
        (srv / STAGE / f"{STAGE}-placing").write_text(f"{other.pid}\n")
        cwd = shell.fresh("proc") / str(other.pid) / "cwd"  # as the kernel would show it
        cwd.parent.mkdir()
        for at, code in [("/srv", 1), ("/", 0)]:
            cwd.unlink(missing_ok=True)
            cwd.symlink_to(at)
            assert shell.run(scripts.sweep(staging(b"/srv", keep=True))).returncode == code
        other.kill()
    shutil.rmtree(shell.root / "proc")
    assert list(srv.iterdir()) == []


def test_of_a_sweep_and_a_merge_only_the_first_one_does_anything(shell: Shell) -> None:
    """Between the last byte and the merge there is time for a sweep: then nothing is merged."""
    srv = shell.fresh("srv")
    (srv / "tree").mkdir()
    (srv / "tree" / "old").write_text("old")
    held = Staging(Placement(b"/srv", b"tree"), NONCE, b"tree", place=False)
    receive = shell.receiving(held, NONCE)
    shell.run(receive, PlainFeed().first + archive())
    before = contents(srv / "tree")
    # The sweep has taken the folder, but not removed it yet, when the merge would begin.
    (srv / STAGE / f"{STAGE}-since").rename(srv / STAGE / f"{STAGE}-taken")
    done = shell.run(scripts.commit(held, NONCE))
    assert done.stdout.endswith(f"\npodcp-{NONCE} 0 1 1\n".encode())
    assert contents(srv / "tree") == before
    # A shell that came too late is there yet, and keeps no other from removing the folder.
    assert shell.run(scripts.sweep(replace(held, keep=True))).returncode == 0
    assert not (srv / STAGE).exists()


def staging(directory: bytes, **more: Any) -> Staging:
    """A staging folder for a tree."""
    return Staging(Placement(directory, b"tree"), NONCE, b"tree", **more)


# --- helpers -----------------------------------------------------------------------------------


def sent(stream: bytes) -> tuple[bytes, int]:
    """Return the archive that a source wrote, and the exit code of its tar."""
    archive, code = re.split(rb"\npodcp-%b (\d+)\n" % NONCE.encode(), stream)[:2]
    return archive, int(code)


def until(stream: IO[bytes], end: bytes) -> bytes:
    """Return what comes until ``end`` was seen; the test's own time limit is the deadline."""
    seen = b""
    while not seen.endswith(end):
        byte = stream.read(1)
        assert byte, f"the stream ended after {seen[-100:]!r}"
        seen += byte
    return seen


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Poll ``condition`` until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.02)
