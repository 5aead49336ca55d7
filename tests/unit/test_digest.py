"""Files are read afresh at an end, in sessions that can be asked for so much at once."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from kubectl_podcp import digest
from kubectl_podcp.ends import LocalEnd
from kubectl_podcp.errors import ConnectionLost, Interrupted, ServerError
from kubectl_podcp.exec.channels import Protocol
from kubectl_podcp.exec.process import ProcessSession
from kubectl_podcp.paths import Kind, Placement, SourceFacts
from kubectl_podcp.remainder import Part
from kubectl_podcp.remote import scripts
from kubectl_podcp.remote.scripts import MOST_WORDS, Staging
from kubectl_podcp.sink import Said

if TYPE_CHECKING:
    from kubectl_podcp.ends import Session

NONCE = "0123456789abcdef" * 2
COMMAND = "sha256sum"


def test_no_more_is_asked_for_than_fits() -> None:
    """But one name at the least, however long its words are."""
    long = b"\xff'" * 30_000
    names = [long, *(b"%0200d" % number for number in range(1000))]
    portions = list(digest.portions(names))
    assert [name for portion in portions for name in portion] == names
    assert portions[0] == [long]
    sizes = [len(scripts.words(portion)) for portion in portions[1:]]
    assert all(MOST_WORDS - 300 < size <= MOST_WORDS for size in sizes[:-1])


def test_files_are_read_by_name_and_what_cannot_be_read_has_no_digest(tmp_path: Path) -> None:
    names = [b"-dash", b"new\nline", *(b"%0100d" % number for number in range(800))]
    for name in names:
        (tmp_path / name.decode()).write_bytes(name)
    sizes = dict.fromkeys([*names, b"missing"], 1)
    told = dict(digest.of_named(LocalEnd(), bytes(tmp_path), sizes, COMMAND))
    assert told == {name: hashlib.sha256(name).digest() for name in names}


def test_without_the_directory_it_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="did not read its files to the end"):
        list(digest.of_named(LocalEnd(), bytes(tmp_path / "none"), {b"a": 1}, COMMAND))


def test_all_that_is_staged_is_read(tmp_path: Path) -> None:
    staging = Staging(Placement(bytes(tmp_path), b"tree"), NONCE, b"tree", place=False)
    tree = tmp_path / staging.name.decode() / "tree"
    tree.mkdir(parents=True)
    (tree / "file").write_bytes(b"text")
    told = dict(digest.of_staged(LocalEnd(), staging, 4, COMMAND))
    assert told == {b"tree/file": hashlib.sha256(b"text").digest()}


def test_a_command_that_fails_on_what_is_staged_is_an_error(tmp_path: Path) -> None:
    staging = Staging(Placement(bytes(tmp_path), b"tree"), NONCE, b"tree", place=False)
    (tmp_path / staging.name.decode() / "tree").mkdir(parents=True)
    (tmp_path / staging.name.decode() / "tree/file").touch()
    with pytest.raises(ServerError, match="did not read all of its files"):
        list(digest.of_staged(LocalEnd(), staging, 4, "false"))


def test_the_beginnings_of_a_file_are_compared(tmp_path: Path) -> None:
    """At the source it stays as it is; at the destination so much of it is set aside."""
    part = Part(b"tree/a\\file", 5)
    staging = Staging(Placement(bytes(tmp_path), b"tree"), NONCE, b"tree", place=False)
    here, there = tmp_path / part.name.decode(), tmp_path / staging.name.decode()
    for directory in (tmp_path, there):
        (directory / "tree").mkdir(parents=True)
        (directory / part.name.decode()).write_bytes(b"12345 and more")
    facts = SourceFacts(bytes(tmp_path), b"tree", Kind.DIRECTORY)
    wanted = hashlib.sha256(b"12345").digest()
    assert digest.of_prefix(LocalEnd(), facts, part, COMMAND) == wanted
    assert digest.of_set_aside(LocalEnd(), staging, part, COMMAND) == wanted
    assert here.read_bytes() == b"12345 and more"
    assert (there / f"{there.name}-part").read_bytes() == b"12345"
    assert not (there / "tree/a\\file").exists()
    gone = Part(b"tree/none", 5)
    assert digest.of_prefix(LocalEnd(), facts, gone, COMMAND) != wanted
    assert digest.of_set_aside(LocalEnd(), staging, gone, COMMAND) != wanted


def test_a_signal_while_a_session_ends_is_heard() -> None:
    """Whatever else comes there is of no account: what counts was said."""

    class Ending:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        def send_stdin(self, *_: bytes) -> None:
            raise self.error

    digest._release(cast("Session", Ending(ConnectionLost("gone"))), Said())
    with pytest.raises(Interrupted):
        digest._release(cast("Session", Ending(Interrupted(2))), Said())


@dataclass(frozen=True)
class Answering(LocalEnd):
    """A container whose shell does what another script asks for."""

    script: str

    def __str__(self) -> str:
        return "web-0"

    def open(self, script: str, *protocols: Protocol) -> ProcessSession:
        nonce = script.partition("nonce=")[2][:32]
        return super().open(f"nonce={nonce}\n{self.script}\nread -r release", *protocols)


def test_what_says_no_digests_is_not_heard_out() -> None:
    end = Answering("head -c 100000000 /dev/zero")
    with pytest.raises(ServerError, match="web-0 was asked for digests") as caught:
        list(digest.of_named(end, b"/data", {b"a": 1}, COMMAND))
    assert "mistrust that container" in str(caught.value)


def test_files_that_nobody_asked_for_are_not_told() -> None:
    line = f"{'0' * 64}  ./"
    end = Answering(f"printf '%s {line}%s\\n' $nonce other $nonce a; printf '%s end 0\\n' $nonce")
    assert dict(digest.of_named(end, b"/data", {b"a": 1}, COMMAND)) == {b"a": bytes(32)}
