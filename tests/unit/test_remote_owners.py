"""Who owns what a real tar has read, as the source's shell says it behind the archive."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from kubectl_podcp.changes import Changes
from kubectl_podcp.owners import HIGHEST, Owned, Owners
from kubectl_podcp.paths import Kind, SourceFacts
from kubectl_podcp.remote import scripts
from tests.unit.peers import until
from tests.unit.shell import Shell

NONCE = "0123456789abcdef" * 2
HIGH = 1_000_650_000
"""As OpenShift gives them."""
FACTS = SourceFacts(b"/data", b"t", Kind.DIRECTORY)
TARS = ("gnu", "busybox", "bsdtar", "toybox")


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Shell]:
    """A root file system of each userland."""
    return Shell.in_userlands(TARS, tmp_path_factory.mktemp("roots"))


@pytest.fixture(params=TARS)
def shell(request: pytest.FixtureRequest, roots: dict[str, Shell]) -> Shell:
    """A shell in each userland: busybox' tar may stand among any other tools."""
    return roots[request.param]


def tree(shell: Shell) -> Path:
    """Make a directory, and return it."""
    top = shell.fresh("data") / "t"
    top.mkdir()
    return top


def owned(path: Path, uid: int, gid: int = 0) -> Path:
    """Make an empty file that somebody owns."""
    path.touch()
    os.chown(path, uid, gid)
    return path


class Heard:
    """What a source has said in answer to ``lines``, behind its archive.

    :ivar archive: up to the trailer.
    """

    def __init__(self, shell: Shell, *lines: bytes, follow: bool = False, packed: str = "") -> None:
        script = scripts.send(FACTS, NONCE, follow=follow, packed=packed, owners=True)
        done = shell.run(script, b"".join(lines))
        assert done.returncode == 0, done
        trailer = f"\npodcp-{NONCE} 0\n".encode()
        if packed:
            unpacked = subprocess.run(["gzip", "-dcq"], input=done.stdout, capture_output=True)
            self.archive = unpacked.stdout.removesuffix(trailer)
            self.said = done.stdout[done.stdout.index(NONCE.encode() + b" ") :]
        else:
            self.archive, _, self.said = done.stdout.partition(trailer)
        self.owners = Owners(NONCE, (None, None), lambda _name, _mode: True)
        self.changes = Changes(NONCE, 0)

    def ends(self) -> int:
        """Return how many answers there were."""
        return self.said.count(f"{NONCE} end 0\n".encode())

    def lost(self) -> Owned | None:
        """Return whose owner was lost; what follows is about what changed."""
        end = f"{NONCE} end 0\n".encode()
        assert self.owners.hear(self.said.partition(end)[0] + end)
        assert self.owners.known
        assert self.changes.hear(self.said.partition(end)[2])
        assert self.changes.known
        return self.owners.lost


def test_busybox_alone_says_another_owner_and_no_word(roots: dict[str, Shell]) -> None:
    """That is why it is asked; where this fails for busybox, nobody needs to ask any more."""
    for name, shell in roots.items():
        owned(tree(shell) / "openshift", HIGH)
        owned(shell.root / "data/t/root", HIGHEST + 1)
        owned(shell.root / "data/t/fits", HIGHEST)
        done = shell.run("export LC_ALL=C; cd /data; tar cf - --numeric-owner t")
        assert (done.returncode, done.stderr) == (0, b"")
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
            came = {member.name: member.uid for member in tar if member.isreg()}
        lost = name == "busybox"
        expected = {"openshift": HIGH, "root": HIGHEST + 1, "fits": HIGHEST}
        if lost:
            expected |= {"openshift": HIGH % (HIGHEST + 1), "root": 0}
        assert {each.removeprefix("t/"): uid for each, uid in came.items()} == expected


@pytest.mark.parametrize("follow", [False, True], ids=["", "follow"])
def test_a_high_owner_is_named(shell: Shell, follow: bool) -> None:
    """Behind many that have none, and by any name."""
    top = tree(shell)
    for number in range(3000):
        (top / str(number)).touch()
    assert Heard(shell, b"owners\n", b"\n", b"\n", follow=follow).lost() is None
    name = "\n81a4 0:0 x\n-\u00e4 "
    (top / "d").mkdir()
    owned(top / "d" / name, 5, HIGH)
    heard = Heard(shell, b"owners\n", b"\n", b"\n", follow=follow)
    assert heard.lost() == Owned(b"t/d/" + name.encode(), 5, HIGH)


def test_the_highest_owner_that_fits_is_not_refused(shell: Shell) -> None:
    owned(tree(shell) / "file", HIGHEST, HIGHEST)
    heard = Heard(shell, b"owners\n", b"\n", b"\n")
    assert b" 16777215:16777215 ./t/file\n" in heard.said
    assert heard.lost() is None


def test_directories_and_links_have_owners_too(shell: Shell) -> None:
    for make in (Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")):
        path = tree(shell) / "odd"
        make(path)
        os.chown(path, HIGH, 0, follow_symlinks=False)
        assert Heard(shell, b"owners\n", b"\n", b"\n").lost() == Owned(b"t/odd", HIGH, 0)


def test_what_a_link_leads_to_has_the_owner_that_counts(shell: Shell) -> None:
    top = tree(shell)
    owned(top.parent / "outside", HIGH)
    (top / "link").symlink_to("../outside")
    assert Heard(shell, b"owners\n", b"\n", b"\n").lost() is None
    found = Heard(shell, b"owners\n", b"\n", b"\n", follow=True).lost()
    assert found == Owned(b"t/link", HIGH, 0)


@pytest.mark.parametrize("packed", ["", "gzip"])
def test_who_does_not_ask_is_told_what_changed_alone(shell: Shell, packed: str) -> None:
    owned(tree(shell) / "file", HIGH)
    heard = Heard(shell, b"\n", b"\n", packed=packed)
    assert heard.ends() == 1
    assert str(HIGH).encode() not in heard.said
    heard = Heard(shell, b"owners\n", b"\n", b"\n", packed=packed)
    assert heard.ends() == 2
    assert f" {HIGH}:0 ./t/file\n".encode() in heard.said


def test_a_name_that_vanishes_is_no_error(shell: Shell) -> None:
    """It is what changed, of which the next answer tells."""
    owned(tree(shell) / "file", HIGH)
    (shell.root / "data/t/gone").touch()
    gone = 'stat() { rm -f /data/t/gone; command stat "$@"; }\n'
    script = gone + scripts.send(FACTS, NONCE, owners=True)
    said = shell.run(script, b"owners\n\n\n").stdout
    assert f" {HIGH}:0 ./t/file\n".encode() in said
    assert f"{NONCE} end 0\n".encode() in said


def test_a_source_that_vanishes_is_no_error(shell: Shell) -> None:
    """A file that is removed while tar reads it is copied whole."""
    tree(shell)
    gone = 'find() { rm -rf /data/t; command find "$@"; }\n'
    said = shell.run(gone + scripts.send(FACTS, NONCE, owners=True), b"owners\n\n\n").stdout
    owners = Owners(NONCE, (None, None), lambda _name, _mode: True)
    end = f"{NONCE} end 0\n".encode()
    answer = said.partition(f"podcp-{NONCE} 0\n".encode())[2].partition(end)[0] + end
    assert owners.hear(answer)
    assert owners.error() is None


@pytest.mark.parametrize(("tool", "code"), [("find", 127), ("find", 1), ("stat", 127)])
def test_without_the_tools_it_is_not_known(shell: Shell, tool: str, code: int) -> None:
    tree(shell)
    script = f"{tool}() {{ return {code}; }}\n" + scripts.send(FACTS, NONCE, owners=True)
    said = shell.run(script, b"owners\n\n\n").stdout.partition(f"podcp-{NONCE} 0\n".encode())[2]
    owners = Owners(NONCE, (None, None), lambda _name, _mode: True)
    last = said.partition(b" end ")[2].partition(b"\n")[0]
    assert owners.hear(f"{NONCE} end ".encode() + last + b"\n")
    assert owners.error() is not None


def test_what_looks_for_owners_ends_when_the_client_is_gone(shell: Shell) -> None:
    tree(shell)
    slow = "find() { >/data/begun; sleep 30; }\n"
    script = slow + scripts.send(FACTS, NONCE, owners=True)
    with shell.proc(), shell.start(script) as process:
        assert process.stdin
        process.stdin.write(b"owners\n")
        process.stdin.flush()
        until((shell.root / "data/begun").exists)
        process.stdin.close()
        process.wait(10)
        until(lambda: not shell.processes())
