"""Digests of files: what the scripts say in every userland, and how that is read."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from kubectl_podcp.paths import Kind, Placement, PodPath, SourceFacts
from kubectl_podcp.remote import probe, scripts
from kubectl_podcp.remote.digests import Digests
from kubectl_podcp.remote.scripts import Staging
from tests.unit.peers import until
from tests.unit.shell import Shell

NONCE = "0123456789abcdef" * 2
STAGING = Staging(Placement(b"/srv", b"tree"), NONCE, b"tree", place=False)
STAGE = f".podcp-{NONCE}"
PATH = PodPath(None, "pod", b"/x")
ODD = [
    b"newline\nin it",
    b"\n",
    b"back\\slash",
    b"-dash",
    b"--help",
    b"cr\r",
    b"quote'\"`$(x)",
    b"*",
]
ODD += [b"\xff\xfe not UTF-8", b" lead", b"trail ", b"two  blanks", b"@at", b"n" * 255]
TARS = ("gnu", "busybox", "bsdtar", "toybox")


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shell]:
    """A root file system of each userland, and one that has openssl alone."""
    place = tmp_path_factory.mktemp("roots")
    made = Shell.in_userlands(TARS, place)
    made["openssl"] = Shell.in_userland("gnu", place / "openssl")
    (made["openssl"].root / "usr/bin/sha256sum").unlink()
    put(made["openssl"].root, "openssl")
    return made


def put(root: Path, program: str) -> Path:
    """Add one of this machine's programs, and the libraries that it needs; return it."""
    found = shutil.which(program)
    assert found is not None, f"install {program}"
    shutil.copy(found, root / "usr/bin" / program)
    listing = subprocess.run(["ldd", found], capture_output=True, check=False).stdout.decode()
    for library in (word for word in listing.split() if word.startswith("/")):
        (root / library.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, root / library.lstrip("/"))
    return root / "usr/bin" / program


@pytest.fixture(params=[*TARS, "openssl"])
def shell(request: pytest.FixtureRequest, roots: dict[str, Shell]) -> Shell:
    """A shell in each of them, with nothing in /data and /srv."""
    chosen = roots[request.param]
    for name in ("data", "srv"):
        chosen.fresh(name)
    return chosen


def command(shell: Shell) -> str:
    """Return the command that the probe finds."""
    said = shell.run(scripts.probe_target(b"/srv", b"x")).stdout
    found = probe.target(said, PATH).sha256
    assert found == probe.source(shell.run(scripts.probe_source(b"/data")).stdout, PATH).sha256
    return found


def read(output: bytes, *, step: int = 1 << 20) -> tuple[dict[bytes, bytes], int | None]:
    """Return what a script said, taken in pieces of ``step`` bytes, and the code at its end."""
    digests = Digests(NONCE)
    pieces = [output[at : at + step] for at in range(0, len(output), step)]
    return dict(each for piece in pieces for each in digests.feed(piece)), digests.code


def fill(directory: Path) -> dict[bytes, bytes]:
    """Make a tree in ``directory``; return the digest of each file."""
    made = {b"tree/" + name: name * 1000 for name in [*ODD, b"sub/file", b"sub/empty\n/file"]}
    made |= {b"tree/plain/%d" % number: b"%d" % number for number in range(300)}
    for name, content in made.items():
        path = Path(os.fsdecode(os.fsencode(directory) + b"/" + name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (directory / "tree/link").symlink_to("sub/file")
    os.mkfifo(directory / "tree/fifo")
    return {name: hashlib.sha256(content).digest() for name, content in made.items()}


# --- the probe -----------------------------------------------------------------------------------


def test_the_probe_says_which_command_there_is(shell: Shell) -> None:
    is_openssl = shell.root.name == "openssl"
    assert command(shell) == ("openssl dgst -sha256 -r" if is_openssl else "sha256sum")


def test_a_command_that_is_wrong_is_none(roots: dict[str, Shell]) -> None:
    shell = roots["openssl"]
    liar = shell.root / "usr/bin/sha256sum"
    liar.write_text("#!/bin/sh\necho 0123  -\n")
    liar.chmod(0o755)
    try:
        assert command(shell) == "openssl dgst -sha256 -r"
    finally:
        liar.unlink()


@pytest.mark.parametrize("name", ["busybox", "toybox"])
def test_a_command_without_a_name_of_its_own(roots: dict[str, Shell], name: str) -> None:
    shell = roots["openssl"]
    target = put(shell.root, name)
    try:
        assert command(shell) == f"{name} sha256sum"
    finally:
        target.unlink()


def test_none_is_none(roots: dict[str, Shell]) -> None:
    shell = roots["openssl"]
    openssl = shell.root / "usr/bin/openssl"
    openssl.rename(shell.root / "opt/openssl")
    try:
        assert command(shell) == ""
    finally:
        (shell.root / "opt/openssl").rename(openssl)


def test_what_is_not_one_of_ours_is_not_run() -> None:
    said = b"kind=directory\0tar=x\0directory=/a\0sha256=rm -rf /\0"
    assert probe.target(said, PATH).sha256 == ""


# --- the scripts ---------------------------------------------------------------------------------


def staged(shell: Shell, uid: int = 0) -> subprocess.CompletedProcess[bytes]:
    """Run the script that reads what is staged."""
    script = scripts.digests_of_staged(STAGING, NONCE, command(shell))
    return shell.run(script, b"\n", uid)


def test_every_plain_file_that_is_staged_is_read(shell: Shell) -> None:
    stage = shell.root / "srv" / STAGE
    stage.mkdir()
    expected = fill(stage)
    done = staged(shell)
    assert (done.returncode, done.stderr) == (0, b"")
    assert read(done.stdout) == read(done.stdout, step=1) == (expected, 0)


def test_a_file_alone(shell: Shell) -> None:
    (shell.root / "srv" / STAGE).mkdir()
    (shell.root / "srv" / STAGE / "tree").write_bytes(b"alone")
    assert read(staged(shell).stdout) == ({b"tree": hashlib.sha256(b"alone").digest()}, 0)


def test_a_file_that_its_owner_may_not_read_is_read_and_stays_so(shell: Shell) -> None:
    stage = shell.root / "srv" / STAGE
    (stage / "tree").mkdir(parents=True)
    (stage / "tree/locked\n").write_bytes(b"x")
    (stage / "tree/locked\n").chmod(0o240)
    for path in (stage, stage / "tree", stage / "tree/locked\n"):
        os.chown(path, 1000, 1000)
    assert read(staged(shell, 1000).stdout)[0] == {b"tree/locked\n": hashlib.sha256(b"x").digest()}
    assert (stage / "tree/locked\n").stat().st_mode & 0o7777 == 0o240


def test_a_directory_that_may_not_be_entered_is_told(shell: Shell) -> None:
    stage = shell.root / "srv" / STAGE
    (stage / "tree/locked").mkdir(parents=True)
    (stage / "tree/locked").chmod(0)
    for path in (stage, stage / "tree", stage / "tree/locked"):
        os.chown(path, 1000, 1000)
    done = staged(shell, 1000)
    assert read(done.stdout)[1] not in (0, None)
    assert b"locked" in done.stderr


def test_a_part_and_its_rest_are_read_as_one(shell: Shell) -> None:
    stage = shell.root / "srv" / STAGE
    (stage / "tree").mkdir(parents=True)
    (stage / "tree/big").write_bytes(b"rest")
    (stage / f"{STAGE}-part").write_bytes(b"part, ")
    (stage / f"{STAGE}-name").write_bytes(b"./tree/big")
    assert read(staged(shell).stdout)[0] == {b"tree/big": hashlib.sha256(b"part, rest").digest()}


def named(shell: Shell, names: Iterable[bytes]) -> tuple[dict[bytes, bytes], int, bytes]:
    """Let the source's script read files by name; return digests, the code and its stderr."""
    words = scripts.words(names)
    script = scripts.digests_of_named(b"/data", NONCE, command(shell), len(words))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(shell.command(script), **pipes) as process:  # type: ignore[call-overload]
        process.stdin.write(words)
        process.stdin.flush()
        digests = Digests(NONCE)
        found: dict[bytes, bytes] = {}
        while digests.code is None:
            found.update(digests.feed(process.stdout.read1()))
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.wait(10) == 0
        return found, digests.code, process.stderr.read()


def test_files_of_the_source_are_read_by_name(shell: Shell) -> None:
    expected = fill(shell.root / "data")
    assert named(shell, expected) == (expected, 0, b"")


def test_a_file_of_the_source_that_is_gone_is_missed(shell: Shell) -> None:
    (shell.root / "data/there").write_bytes(b"x")
    found, code, stderr = named(shell, [b"tree", b"there"])
    assert found == {b"there": hashlib.sha256(b"x").digest()}
    assert code != 0
    assert b"tree" in stderr


def test_a_reader_ends_when_the_client_is_gone(shell: Shell) -> None:
    """It is blocked: nobody takes what it says."""
    stage = shell.root / "srv" / STAGE / "tree"
    stage.mkdir(parents=True)
    for number in range(3000):
        (stage / f"{number:0200}").write_bytes(b"")
    process = shell.start(scripts.digests_of_staged(STAGING, NONCE, command(shell)))
    assert process.stdin and process.stdout
    process.stdout.read(1000)
    process.stdin.close()
    process.wait(10)
    process.stdout.close()
    until(lambda: not shell.processes())


# --- reading -------------------------------------------------------------------------------------


DIGEST = hashlib.sha256(b"x").digest()
LINE = DIGEST.hex().encode() + b"  ./tree/file\n"


@pytest.fixture(params=[1, 7, 1 << 20])
def step(request: pytest.FixtureRequest) -> Iterator[int]:
    """How many bytes come at once."""
    yield request.param


def test_noise_in_front_is_none_of_it(step: int) -> None:
    said = b"welcome\n" + NONCE.encode() + b" " + LINE + NONCE.encode() + b" end 0\n"
    assert read(said, step=step) == ({b"tree/file": DIGEST}, 0)


@pytest.mark.parametrize(
    "record", [LINE[1:], LINE[:64], b"\\" + LINE, LINE.replace(b"./", b"/"), b"many\n" + LINE[3:]]
)
def test_a_record_that_is_not_whole_says_nothing(record: bytes, step: int) -> None:
    said = NONCE.encode() + b" " + record + NONCE.encode() + b" end 0\n"
    assert read(said, step=step) == ({}, 0)


def test_of_many_files_only_a_line_is_held() -> None:
    digests = Digests(NONCE)
    pieces = [f"{NONCE} many\n".encode(), *[LINE * 1000] * 100, LINE[:-9], LINE[-9:]]
    told = list[tuple[bytes, bytes]]()
    for piece in pieces:
        told += digests.feed(piece)
        assert len(digests._rest) < 200
    assert told == [(b"tree/file", DIGEST)] * 100_001


@pytest.mark.parametrize("begins", [b"", NONCE.encode() + b" ", NONCE.encode() + b" many\n"])
def test_what_has_no_end_is_none_of_it(begins: bytes) -> None:
    """A container could send it for ever, and all of it would be held and looked through."""
    digests = Digests(NONCE)
    assert list(digests.feed(begins)) == []
    for _ in range(2):
        assert list(digests.feed(b"x" * 32_000)) == []
        assert not digests.is_none
    assert list(digests.feed(b"x" * 32_000)) == []
    assert digests.is_none


def test_without_its_end_it_has_no_code(step: int) -> None:
    """And what came last may not be whole."""
    assert read(NONCE.encode() + b" " + LINE, step=step) == ({}, None)
    assert read(NONCE.encode() + b" end 0", step=step) == ({}, None)
    assert read(NONCE.encode() + b" end " + b"1" * 5000 + b"\n", step=step) == ({}, None)


# --- the end of the client -----------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
def test_what_reads_a_file_ends_when_the_client_is_gone(shell: Shell, named: bool) -> None:
    """It writes nothing for as long as that takes, so that no pipe tells it."""
    (shell.root / "data/tree").mkdir()
    os.mkfifo(shell.root / "data/tree/slow")
    words = scripts.words([b"tree/slow"]) if named else b""
    if named:
        script = scripts.digests_of_named(b"/data", NONCE, command(shell), len(words))
    else:
        facts = SourceFacts(b"/data", b"tree", Kind.DIRECTORY)
        script = scripts.digest_of_prefix(facts, b"tree/slow", 9, NONCE, command(shell))
    with shell.proc(), shell.start(script) as process:
        assert process.stdin
        process.stdin.write(words)
        process.stdin.flush()
        slow = os.open(shell.root / "data/tree/slow", os.O_WRONLY)  # when somebody reads it
        process.stdin.close()
        process.wait(10)
        until(lambda: not shell.processes())
        os.close(slow)
