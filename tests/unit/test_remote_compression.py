"""What is compressed on its way, in every userland: both scripts, and what the probes say."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import quote

import pytest

from kubectl_podcp.compression import Decoder, Encoder
from kubectl_podcp.paths import Kind, Placement, SourceFacts
from kubectl_podcp.remote import probe, scripts
from kubectl_podcp.remote.feed import CompressedFeed, ExactFeed, PlainFeed
from kubectl_podcp.remote.scripts import Staging
from tests.unit.shell import Shell
from tests.unit.test_remote_scripts import (
    NONCE,
    PATH,
    archive,
    contents,
    roots,
    shell,
    wait_until,
)

__all__ = ["roots", "shell"]  # fixtures

PACKERS = {
    "gnu": ("gzip", "zstd"),
    "bsdtar": ("gzip", "zstd"),
    "busybox": ("gzip",),
    "toybox": (),
}
UNPACKERS = {
    "gnu": {"gzip": "gzip -dc", "zstd": "zstd -dqc"},
    "bsdtar": {"gzip": "gzip -dc", "zstd": "zstd -dqc"},
    "busybox": {"gzip": "gzip -dc"},
    "toybox": {"gzip": "gunzip -c"},
}
TREE = SourceFacts(b"/data", b"tree", Kind.DIRECTORY)
NEW = {"sub": "/", "sub/new": "new", "file": "new", ".hidden": "new"}


def test_the_probes_say_what_compresses(shell: Shell) -> None:
    said = shell.run(scripts.probe_source(b"/data", packers=True))
    assert probe.source(said.stdout, PATH).packers == PACKERS[shell.name]
    there = shell.run(scripts.probe_target(b"/srv", b"x", unpackers=True))
    assert probe.target(there.stdout, PATH).unpackers == UNPACKERS[shell.name]
    assert b"not found" not in said.stderr + there.stderr


def test_nobody_is_asked_for_what_nobody_wants(shell: Shell) -> None:
    assert probe.source(shell.run(scripts.probe_source(b"/data")).stdout, PATH).packers == ()
    assert probe.target(shell.run(scripts.probe_target(b"/srv", b"x")).stdout, PATH).unpackers == {}


def test_no_command_is_run_that_is_not_ours() -> None:
    """Even where a container says that it has one."""
    said = b"kind=directory\0tar=GNU tar\0directory=/a\0unpacks:gzip=rm -rf /\0"
    assert probe.target(said, PATH).unpackers == {}


# --- the source --------------------------------------------------------------------------------


def unpacked(data: bytes, kind: str) -> tuple[bytes, bytes]:
    """Return what ``data`` was before, and what follows it."""
    decoder, whole = Decoder(kind), b""
    while piece := decoder.decode(data, 1 << 16):
        whole, data = whole + piece, b""
    assert decoder.rest is not None
    return whole, decoder.rest


def names(packed: bytes) -> list[str]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as members:
        return sorted(name.removeprefix("./") for name in members.getnames())


def kinds(shell: Shell) -> Iterator[str]:
    """What this userland can compress with."""
    (shell.root / "data/tree").mkdir(exist_ok=True)
    (shell.root / "data/tree/file").write_bytes(b"content" * 9000)
    yield from PACKERS[shell.name]


def test_archive_and_trailer_come_compressed(shell: Shell) -> None:
    for kind in kinds(shell):
        done = shell.run(scripts.send(TREE, NONCE, gnu=shell.name == "gnu", packed=kind), b"\n\n")
        sent, rest = unpacked(done.stdout, kind)
        packed, _, trailer = sent.rpartition(b"\npodcp-")
        assert (trailer, done.returncode) == (f"{NONCE} 0\n".encode(), 0)
        assert (rest == b"") == (shell.name == "gnu")
        assert names(packed) == ["tree", "tree/file"]
        assert len(done.stdout) < 2000


def test_what_changed_is_said_behind_it(shell: Shell) -> None:
    """As it is: the compressed stream has ended."""
    for kind in kinds(shell):
        done = shell.run(scripts.send(TREE, NONCE, packed=kind), b"\n\n")
        sent, rest = unpacked(done.stdout, kind)
        assert sent.endswith(f"\npodcp-{NONCE} 0\n".encode())
        assert rest.endswith(f"{NONCE} end 0\n".encode())


def test_some_of_a_source_comes_compressed(shell: Shell) -> None:
    for kind in kinds(shell):
        (shell.root / "data/tree/in\na list").write_text("odd")
        rest = scripts.Rest(b"tree/file", 62_990, 10)
        some = scripts.Some(rest, 0, (b"./tree/in\na list",))
        gnu = shell.name == "gnu"
        if shell.name == "busybox":  # whose tar takes no list, and which gets none
            some = replace(some, names=None, odd=())
        done = shell.run(scripts.send(TREE, NONCE, some, gnu=gnu, packed=kind), b"\n\n")
        sent, _ = unpacked(done.stdout, kind)
        assert sent[:10] == (b"content" * 9000)[-10:]
        said, _, sent = sent[11:].partition(b"\n")
        time = int((shell.root / "data/tree/file").stat().st_mtime)
        assert said == f"podcp-{NONCE} rest {63_000:>20} {time:>20}".encode()
        packed, _, trailer = sent.rpartition(b"\npodcp-")
        assert trailer == f"{NONCE} 0\n".encode()
        assert "tree/in\na list" in names(packed)
        alone = scripts.send(TREE, NONCE, scripts.Some(rest, 0), gnu=gnu, packed=kind)
        sent, _ = unpacked(shell.run(alone, b"\n\n").stdout, kind)
        assert sent[10:] == b"\n%b\n\npodcp-%b 0\n" % (said, NONCE.encode())


def test_a_tar_that_failed_is_told_in_it(shell: Shell) -> None:
    nowhere = SourceFacts(b"/data", b"nope", Kind.FILE)
    for kind in kinds(shell):
        done = shell.run(
            scripts.send(nowhere, NONCE, gnu=shell.name == "gnu", packed=kind), b"\n\n"
        )
        sent, _ = unpacked(done.stdout, kind)
        assert int(sent.rpartition(f"\npodcp-{NONCE} ".encode())[2]) != 0
        assert b"nope" in done.stderr


@pytest.mark.parametrize("blocked", [True, False])
def test_a_source_ends_when_the_client_is_gone(shell: Shell, blocked: bool) -> None:
    """Its tar, what compresses, and the shells: whether it is blocked in a write or is held."""
    for kind in kinds(shell):
        if blocked:
            (shell.root / "data/tree/file").write_bytes(os.urandom(1 << 20) * 8)
        process = shell.start(scripts.send(TREE, NONCE, packed=kind))
        assert process.stdin and process.stdout
        process.stdout.read(1 << 16 if blocked else 10)
        process.stdin.close()
        process.wait(10)
        process.stdout.close()
        wait_until(lambda: not shell.processes())


def test_a_sample_is_the_beginning_of_the_archive(shell: Shell) -> None:
    list(kinds(shell))
    said = shell.run(scripts.sample(TREE, 40_000)).stdout
    assert len(said) == 40_000
    assert b"content" * 900 in said
    assert b"tree" in said[:100]


def test_noise_is_answered(shell: Shell) -> None:
    """Two lines first, then so many bytes; it does not wait for an end of stdin."""
    process = shell.start(scripts.swallow(100_000))
    assert process.stdin and process.stdout
    for data in (b"\n", b"\n", os.urandom(100_000)):
        process.stdin.write(data)
        process.stdin.flush()
        assert process.stdout.readline() == b"\n"
    assert process.wait(10) == 0
    process.stdin.close()


# --- the destination ---------------------------------------------------------------------------


def fed(shell: Shell, data: bytes, kind: str) -> Iterator[list[bytes]]:
    """Yield what goes to stdin, in each way that this userland knows."""
    feeds: list[PlainFeed | ExactFeed] = [PlainFeed()]
    if shell.name != "toybox":
        feeds.append(ExactFeed(5000))
    for feed in feeds:
        packed = CompressedFeed(feed, Encoder(kind))
        pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]
        yield [packed.first, *packed.data(pieces), *packed.end()]


def received(shell: Shell, messages: list[bytes], unpacker: str) -> tuple[bytes, bytes]:
    """Give ``messages`` to the destination's script; return its last words and its stderr."""
    staging = Staging(Placement(b"/srv", b"tree"), NONCE, b"tree", place=False)
    script = shell.receiving(staging, NONCE, unpacker=unpacker)
    done = shell.run(script, b"".join(messages))
    return done.stdout.splitlines()[-1].removeprefix(f"podcp-{NONCE} ".encode()), done.stderr


def committed(shell: Shell) -> dict[str, str]:
    """Let what was held back be placed; return it."""
    staging = Staging(Placement(b"/srv", b"tree"), NONCE, b"tree")
    assert shell.run(scripts.commit(staging, NONCE)).returncode == 0
    (tree,) = (shell.root / "srv").iterdir()
    return contents(tree)


def test_a_compressed_archive_is_unpacked(shell: Shell) -> None:
    for kind, unpacker in UNPACKERS[shell.name].items():
        for messages in fed(shell, archive(), kind):
            shell.fresh("srv")
            answer, stderr = received(shell, messages, unpacker)
            assert answer == b"0 1 0", stderr
            assert committed(shell) == NEW


def test_what_a_tar_does_not_read_of_the_end_harms_nobody(shell: Shell) -> None:
    """toybox' ends at the second zero block, and what undoes the compression writes on."""
    unpacker = UNPACKERS[shell.name]["gzip"]
    packed = Encoder("gzip")
    data = packed.encode(archive() + bytes(10240 * 40)) + packed.end()
    answer, stderr = received(shell, [b"plain\n", data], unpacker)
    assert answer == b"0 1 0", stderr


@pytest.mark.parametrize("at", [-3, -9, 20])
def test_one_that_is_damaged_is_not_acknowledged(shell: Shell, at: int) -> None:
    """Neither in the checksum or the length behind it, nor in the middle; nothing is left."""
    packed = Encoder("gzip")
    data = bytearray(packed.encode(archive()) + packed.end())
    data[at] ^= 0x55
    answer, stderr = received(shell, [b"plain\n", bytes(data)], UNPACKERS[shell.name]["gzip"])
    assert answer.split()[0] != b"0", stderr
    assert list((shell.root / "srv").iterdir()) == []


@pytest.mark.parametrize("missing", [1, 8, 60])
def test_one_that_is_cut_is_not_acknowledged(shell: Shell, missing: int) -> None:
    packed = Encoder("gzip")
    data = (packed.encode(archive()) + packed.end())[:-missing]
    answer, _ = received(shell, [b"plain\n", data], UNPACKERS[shell.name]["gzip"])
    assert answer.split()[0] != b"0"
    assert list((shell.root / "srv").iterdir()) == []


def test_a_compressed_file_of_a_length_that_nobody_knew(shell: Shell) -> None:
    data = os.urandom(100) * 900
    for kind, unpacker in UNPACKERS[shell.name].items():
        for messages in fed(shell, data + scripts.file_end(NONCE, len(data)), kind):
            staging = Staging(Placement(b"/srv", b"file"), NONCE, b"-")
            script = scripts.receive_file(staging, NONCE, unpacker=unpacker)
            done = shell.run(script, b"".join(messages))
            assert done.stdout.splitlines()[-1] == f"podcp-{NONCE} 0 1 0".encode(), done.stderr
            assert (shell.root / "srv/file").read_bytes() == data


def test_the_longest_scripts_fit_in_a_request_line() -> None:
    staging = Staging(Placement(b"/srv/" * 20, b"n" * 100), NONCE, b"t" * 100, place=False)
    for script in (
        scripts.receive(staging, NONCE, gnu=True, unpacker="gunzip -c"),
        scripts.receive_file(replace(staging, place=True), NONCE, unpacker="gunzip -c"),
    ):
        assert len(quote(script, safe="")) < 6.75 * 1024
