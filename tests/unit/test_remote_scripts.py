"""Every script in every userland: real shells, real tars, real files."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kubectl_podcp.errors import DestinationRefused, ExecFailed, SourceError, SourceNotFound
from kubectl_podcp.paths import Kind, Placement, PodPath, SourceFacts, TargetFacts
from kubectl_podcp.remote import probe, scripts
from kubectl_podcp.remote.feed import ChunkedFeed, Feed, PlainFeed
from kubectl_podcp.remote.scripts import Staging
from tests import userlands
from tests.unit.shell import Shell

NONCE = "0123456789abcdef" * 2
STAGE = f".podcp-{NONCE}"
PATH = PodPath(None, "pod", b"/x")
TARS = ("gnu", "busybox", "bsdtar", "toybox")
ODD = [b"newline\nin it", b"-dash", b"quote'\"`$(x)", b"*", b"\xff\xfe not UTF-8", b"@at", b" "]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shell]:
    """A root file system of each userland; /data and /srv are made anew for each test."""
    if userlands.missing():
        pytest.fail(f"install {' '.join(userlands.missing())}")
    place = tmp_path_factory.mktemp("roots")
    return {name: Shell.in_userland(name, place / name) for name in (*TARS, "notar")}


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


def test_the_target_probe(shell: Shell) -> None:
    (shell.root / "srv/tree/inner").mkdir(parents=True)
    (shell.root / "srv/to-tree").symlink_to("tree")
    (shell.root / "srv/file").write_bytes(b"")

    def ask(path: bytes, uid: int = 0) -> TargetFacts:
        said = shell.run(scripts.probe_target(path, b"inner"), uid=uid)
        return probe.target(said.stdout, PATH).facts

    directory, missing, file, link = Kind.DIRECTORY, Kind.MISSING, Kind.FILE, Kind.LINK
    assert ask(b"/srv/tree") == TargetFacts(b"/srv/tree", b"", directory, directory, True)
    assert ask(b"/srv/to-tree/") == TargetFacts(b"/srv/tree", b"", directory, directory, True)
    assert ask(b"srv/file") == TargetFacts(b"/srv", b"file", file, missing, True)
    assert ask(b"/srv/new//") == TargetFacts(b"/srv", b"new", missing, missing, True)
    assert ask(b"/srv/no/new") == TargetFacts(b"", b"new", missing, missing, False)
    assert ask(b"/srv/new", uid=1000) == TargetFacts(b"/srv", b"new", missing, missing, False)
    (shell.root / "srv/dangling").symlink_to("nowhere")
    assert ask(b"/srv/dangling") == TargetFacts(b"/srv", b"dangling", link, missing, True)
    (shell.root / "srv/locked").mkdir(mode=0o700)
    with pytest.raises(DestinationRefused, match="cannot be entered"):
        ask(b"/srv/locked", uid=1000)


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
    done = shell.run(scripts.send(facts, NONCE), b"\n")
    archive, _, trailer = done.stdout.rpartition(b"\npodcp-")
    assert (trailer, done.returncode) == (f"{NONCE} 0\n".encode(), 0)
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        names = sorted(os.fsencode(name).removeprefix(b"./") for name in members.getnames())
    assert names == [top, top + b"/file"]


def test_the_trailer_tells_that_tar_failed(shell: Shell) -> None:
    done = shell.run(scripts.send(SourceFacts(b"/data", b"nope", Kind.FILE), NONCE), b"\n")
    code = done.stdout.rpartition(f"\npodcp-{NONCE} ".encode())[2]
    assert int(code) == done.returncode != 0
    assert b"nope" in done.stderr


def test_the_source_is_held_until_it_is_released(shell: Shell) -> None:
    """The session must not end while bytes may still be on their way."""
    (shell.root / "data/file").write_bytes(b"x")
    process = shell.start(scripts.send(SourceFacts(b"/data", b"file", Kind.FILE), NONCE))
    assert process.stdin and process.stdout
    until(process.stdout, f"{NONCE} 0\n".encode())
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.stdin.write(b"\n")
    process.stdin.flush()
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


def test_a_held_source_ends_when_the_client_is_gone(shell: Shell) -> None:
    (shell.root / "data/file").write_bytes(b"x")
    process = shell.start(scripts.send(SourceFacts(b"/data", b"file", Kind.FILE), NONCE))
    assert process.stdin and process.stdout
    until(process.stdout, f"{NONCE} 0\n".encode())
    process.stdin.close()
    process.wait(10)
    wait_until(lambda: not shell.processes())


# --- the destination ---------------------------------------------------------------------------


def archive(top: str = "tree", *, mark: bool = True, directory_mode: int = 0o755) -> bytes:
    """A tree with a file and a subdirectory, the marker, and the end."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in (top, f"{top}/sub"):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.mtime = tarfile.DIRTYPE, directory_mode, 1_000_000
            tar.addfile(member)
        for name in (f"{top}/sub/new", f"{top}/file", f"{top}/.hidden"):
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = 3, 0o640, 2_000_000
            tar.addfile(member, io.BytesIO(b"new"))
        if mark:
            tar.addfile(tarfile.TarInfo(STAGE))
    return packed.getvalue()


def feeds(shell: Shell) -> Iterator[Feed]:
    """The ways in which this userland's stdin can be fed; toybox has no dd."""
    yield PlainFeed()
    if shell.name != "toybox":
        yield ChunkedFeed(chunk=5000)


def receive(
    shell: Shell, placement: Placement, data: bytes, feed: Feed, *, uid: int = 0
) -> tuple[bytes, bytes]:
    """Give ``data`` to the destination's script; return its last words and its stderr."""
    messages = [feed.first]
    for at in range(0, len(data), 1000):
        messages += feed.data([data[at : at + 1000]])
    messages += feed.end()
    script = scripts.receive(Staging(placement, NONCE, b"tree"), NONCE, gnu=shell.name == "gnu")
    done = shell.run(script, b"".join(messages), uid=uid)
    return done.stdout.splitlines()[-1].removeprefix(f"podcp-{NONCE} ".encode()), done.stderr


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
    assert f"/srv/{conflict}" in stderr.decode()
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
        script = scripts.receive(
            Staging(Placement(b"/srv", b"tree"), NONCE, b"tree"), NONCE, gnu=shell.name == "gnu"
        )
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


def test_a_target_directory_that_vanished_is_an_answer(shell: Shell) -> None:
    answer, stderr = receive(shell, Placement(b"/nope", b"tree"), archive(), PlainFeed())
    assert answer == b"1 0 1"
    assert b"nope" in stderr


def test_the_longest_script_fits_in_a_request_line() -> None:
    """It travels in the URL; proxies often take no more than 8 KiB (nginx's own default)."""
    script = scripts.receive(
        Staging(Placement(b"/srv/" * 20, b"n" * 100), NONCE, b"t" * 100), NONCE, gnu=True
    )
    assert len(quote(script, safe="")) < 6.5 * 1024


# --- sweeping ----------------------------------------------------------------------------------


def test_the_sweep_removes_a_staging_folder_and_nothing_else(shell: Shell) -> None:
    srv = shell.fresh("srv")
    (srv / STAGE / "locked").mkdir(parents=True, mode=0o755)
    (srv / "file").write_text("kept")
    assert shell.run(scripts.sweep(staging(b"/srv"))).returncode == 0
    assert contents(srv) == {"file": "kept"}
    assert shell.run(scripts.sweep(staging(b"/srv"))).returncode == 0
    assert shell.run(scripts.sweep(staging(b"/nope"))).returncode == 0


def staging(directory: bytes, **more: Any) -> Staging:
    """A staging folder for a tree."""
    return Staging(Placement(directory, b"tree"), NONCE, b"tree", **more)


# --- helpers -----------------------------------------------------------------------------------


def until(stream: IO[bytes], end: bytes) -> None:
    """Read until ``end`` was seen; the test's own time limit is the deadline."""
    seen = b""
    while not seen.endswith(end):
        byte = stream.read(1)
        assert byte, f"the stream ended after {seen[-100:]!r}"
        seen += byte


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Poll ``condition`` until it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never became true"
        time.sleep(0.02)
