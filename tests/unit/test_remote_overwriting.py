"""What becomes of files that stand where a copy puts its own, in every userland."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path
from urllib.parse import quote

import pytest

from kubectl_podcp.paths import Placement
from kubectl_podcp.remote import scripts
from kubectl_podcp.remote.feed import PlainFeed
from kubectl_podcp.remote.scripts import Rules, Staging
from tests.unit.shell import Shell
from tests.unit.test_remote_scripts import (
    NONCE,
    ODD,
    STAGE,
    archive,
    contents,
    mounted,
    roots,
    shell,
    tree_of,
)

__all__ = ["roots", "shell"]  # fixtures

KEEP = Rules(only=())
SIMPLE, NUMBERED, EXISTING = (Rules(backup=kind) for kind in ("simple", "numbered", "existing"))
NEW = {"sub": "/", "sub/new": "new", "file": "new", ".hidden": "new"}
TREE = Placement(b"/srv/tree", b"")


def files(*names: bytes, top: bytes = b"tree") -> bytes:
    """An archive of a directory and files in it, each with its own name in it, or of a file."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        if names:
            member = tarfile.TarInfo(os.fsdecode(top))
            member.type, member.mode, member.mtime = tarfile.DIRTYPE, 0o755, 1_000_000
            tar.addfile(member)
        for name in names or (b"",):
            path = top + b"/" * bool(name) + name
            member = tarfile.TarInfo(os.fsdecode(path))
            member.size = 3
            tar.addfile(member, io.BytesIO(b"new"))
        tar.addfile(tarfile.TarInfo(STAGE))
    return packed.getvalue()


def place(
    shell: Shell,
    placement: Placement,
    data: bytes,
    rules: Rules,
    *,
    uid: int = 0,
    mounts: tuple[bytes, ...] = (),
    before: str = "",
) -> tuple[bytes, bytes]:
    """Unpack ``data`` and put it in place by ``rules``; return the last words, and what was said.

    :param before: is run in front of the rules' own ``mv`` and ``ln``.
    """
    staging = Staging(placement, NONCE, b"tree", place=False, mounts=mounts)
    script = shell.receiving(staging, NONCE)
    done = shell.run(script, PlainFeed().first + data, uid=uid)
    assert done.stdout.endswith(f"podcp-{NONCE} 0 1 0\n".encode()), done
    told = scripts.rules(staging, rules) + before.encode()
    done = shell.run(scripts.commit(staging, NONCE, len(told)), told + b"and more", uid=uid)
    assert done.returncode == 0, done
    said, _, answer = done.stdout.removesuffix(b"\n").rpartition(f"\npodcp-{NONCE} ".encode())
    assert not list(shell.root.glob("srv/**/.podcp-*"))
    return answer, said


@pytest.fixture
def tree(shell: Shell) -> Path:
    """A tree at the destination that has some of what comes, and more."""
    tree = shell.root / "srv/tree"
    (tree / "sub").mkdir(parents=True)
    for name in ("file", "sub/new", "sub/other"):
        (tree / name).write_text("old")
    return tree


def test_what_is_there_is_kept_and_what_is_missing_comes(shell: Shell, tree: Path) -> None:
    assert place(shell, TREE, archive(), KEEP) == (b"0 1 0 2 0", b"")
    assert contents(tree) == {**NEW, "file": "old", "sub/new": "old", "sub/other": "old"}
    assert place(shell, TREE, archive(), KEEP) == (b"0 1 0 3 0", b"")


def test_what_may_be_replaced_is_and_nothing_else(shell: Shell, tree: Path) -> None:
    only = Rules(only=(b"tree/sub/new", b"tree/.hidden"))
    assert place(shell, TREE, archive(), only) == (b"0 1 0 1 0", b"")
    assert contents(tree) == {**NEW, "file": "old", "sub/other": "old"}


@pytest.mark.parametrize(
    ("rules", "there", "after"),
    [
        (SIMPLE, {}, {"file~": "old", "sub/new~": "old"}),
        (SIMPLE, {"file~": "older"}, {"file~": "old", "sub/new~": "old"}),
        (Rules("simple", b".orig"), {}, {"file.orig": "old", "sub/new.orig": "old"}),
        (NUMBERED, {}, {"file.~1~": "old", "sub/new.~1~": "old"}),
        (NUMBERED, {"file.~9~": "9", "file.~10~": "10", "file.~01~": "0", "file.~x~": "x"},
         {"file.~11~": "old", "sub/new.~1~": "old"}),
        (EXISTING, {"file.~2~": "2", "file~": "older"},
         {"file.~3~": "old", "sub/new~": "old"}),
    ],
    ids=["simple", "again", "suffix", "numbered", "more", "existing"],
)  # fmt: skip
def test_what_is_replaced_has_a_name(
    shell: Shell, tree: Path, rules: Rules, there: dict[str, str], after: dict[str, str]
) -> None:
    for name, text in there.items():
        (tree / name).write_text(text)
    inode = (tree / "file").stat().st_ino
    assert place(shell, TREE, archive(), rules) == (b"0 1 0 0 2", b"")
    assert contents(tree) == {**NEW, "sub/other": "old", **there, **after}
    backup = next(name for name in after if name.startswith("file"))
    assert (tree / backup).stat().st_ino == inode, "with all that it had"


def test_only_what_is_replaced_is_backed_up(shell: Shell, tree: Path) -> None:
    rules = Rules("simple", only=(b"tree/file",))
    assert place(shell, TREE, archive(), rules) == (b"0 1 0 1 1", b"")
    assert contents(tree) == {
        **NEW, "file~": "old", "sub/new": "old", "sub/other": "old"
    }  # fmt: skip


@pytest.mark.parametrize("name", [b"tree", b"other", b"-rf"])
def test_a_file_alone(shell: Shell, name: bytes) -> None:
    srv = shell.root / "srv"
    file = srv / os.fsdecode(name)
    placement = Placement(b"/srv", name)
    assert place(shell, placement, files(), KEEP) == (b"0 1 0 0 0", b"")
    file.write_text("old")
    assert place(shell, placement, files(), KEEP) == (b"0 1 0 1 0", b"")
    assert contents(srv) == {file.name: "old"}
    assert place(shell, placement, files(), Rules(only=(b"tree",))) == (b"0 1 0 0 0", b"")
    assert contents(srv) == {file.name: "new"}
    file.write_text("old")
    assert place(shell, placement, files(), SIMPLE) == (b"0 1 0 0 1", b"")
    assert contents(srv) == {file.name: "new", f"{file.name}~": "old"}


def test_symlinks_count_as_files_wherever_they_lead(shell: Shell) -> None:
    srv = shell.root / "srv"
    names = ("to-nothing", "to-file", "to-directory")

    def put() -> None:
        shell.fresh("srv")
        (srv / "tree").mkdir()
        (srv / "directory").mkdir()
        (srv / "file").write_text("led to")
        for name in names:
            (srv / "tree" / name).symlink_to(f"../{name.removeprefix('to-')}")

    data = files(*(name.encode() for name in names))
    put()
    assert place(shell, TREE, data, KEEP) == (b"0 1 0 3 0", b"")
    assert all((srv / "tree" / name).is_symlink() for name in names)
    put()
    assert place(shell, TREE, data, SIMPLE) == (b"0 1 0 0 3", b"")
    assert all((srv / "tree" / f"{name}~").is_symlink() for name in names)
    assert all((srv / "tree" / name).read_text() == "new" for name in names)
    assert (srv / "file").read_text() == "led to"
    assert list((srv / "directory").iterdir()) == []
    for name in names:  # a backup that is in the way is one of these, too
        (srv / "tree" / name).unlink()
        (srv / "tree" / name).write_text("old")
    assert place(shell, TREE, data, SIMPLE) == (b"0 1 0 0 3", b"")
    assert all((srv / "tree" / f"{name}~").read_text() == "old" for name in names)


def test_odd_names(shell: Shell) -> None:
    tree = shell.root / "srv/tree"
    names = [*ODD, b"[a-z]*", b"a\\b", b"~", b"x~", b"-n", b".~1~"]
    others = [b"a", b"ab", b"new"]

    def put() -> None:
        shell.fresh("srv")
        tree.mkdir()
        for name in names:
            Path(os.fsdecode(os.fsencode(tree) + b"/" + name)).write_text("old")

    def texts(suffix: bytes = b"") -> list[str]:
        where = os.fsencode(tree) + b"/"
        return [Path(os.fsdecode(where + name + suffix)).read_text() for name in names]

    data = files(*names, *others)
    put()
    assert place(shell, TREE, data, KEEP) == (b"0 1 0 %d 0" % len(names), b"")
    assert texts() == ["old"] * len(names)
    for name in names:
        put()
        only = Rules(only=(b"tree/" + name,))
        assert place(shell, TREE, data, only) == (b"0 1 0 %d 0" % (len(names) - 1), b"")
        assert texts() == ["new" if each == name else "old" for each in names]
    put()
    assert place(shell, TREE, data, NUMBERED) == (b"0 1 0 0 %d" % len(names), b"")
    assert (texts(), texts(b".~1~")) == (["new"] * len(names), ["old"] * len(names))


def test_many_files_take_few_processes(shell: Shell) -> None:
    """1,000 files are moved, and what is not needed is removed, some hundred at a time."""
    tree = shell.root / "srv/tree"
    tree.mkdir()
    for number in range(0, 1000, 2):
        (tree / f"{number}").write_text("old")
    data = files(*(b"%d" % number for number in range(1000)))
    counted = 'mv() { echo mv >>/srv/count; command mv "$@"; }\n'
    counted += 'rm() { echo rm >>/srv/count; command rm "$@"; }\n'
    assert place(shell, TREE, data, KEEP, before=counted) == (b"0 1 0 500 0", b"")
    assert len((shell.root / "srv/count").read_text().splitlines()) < 20
    assert [(tree / f"{n}").read_text() for n in range(1000)] == ["old", "new"] * 500
    assert place(shell, TREE, data, SIMPLE) == (b"0 1 0 0 1000", b"")
    assert [(tree / f"{n}~").read_text() for n in range(1000)] == ["old", "new"] * 500


def test_hard_links_come_even_where_the_first_of_them_stays(shell: Shell, tree: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        member = tarfile.TarInfo("tree")
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(member)
        member = tarfile.TarInfo("tree/file")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"new"))
        for name in ("tree/link", "tree/other"):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.LNKTYPE, "tree/file"
            tar.addfile(member)
        tar.addfile(tarfile.TarInfo(STAGE))
    assert place(shell, TREE, packed.getvalue(), KEEP) == (b"0 1 0 1 0", b"")
    assert (tree / "file").read_text() == "old"
    assert (tree / "link").read_text() == "new"
    assert (tree / "link").stat().st_ino == (tree / "other").stat().st_ino


# --- what does not fit -------------------------------------------------------------------------


@pytest.mark.parametrize("rules", [KEEP, SIMPLE, EXISTING, Rules(only=(b"tree/file",))])
@pytest.mark.parametrize("conflict", ["sub", "file"])
def test_a_directory_never_replaces_a_file_nor_a_file_a_directory(
    shell: Shell, rules: Rules, conflict: str
) -> None:
    """Whatever the rules; both are named, and nothing was changed."""
    tree = shell.root / "srv/tree"
    tree.mkdir()
    if conflict == "sub":
        (tree / "sub").write_text("a file")
    else:
        (tree / "file/within").mkdir(parents=True)
    (tree / ".hidden").write_text("old")
    before = contents(tree)
    words = ["non-directory", "directory"] if conflict == "sub" else ["directory", "non-directory"]
    assert place(shell, TREE, archive(), rules) == (
        b"0 1 1 0 0",
        f"cannot overwrite {words[0]} /srv/tree/{conflict} "
        f"with {words[1]} tree/{conflict}\n".encode(),
    )
    assert contents(tree) == before


@pytest.mark.parametrize("where", ["there", "here"])
def test_a_directory_in_the_place_of_a_backup(shell: Shell, tree: Path, where: str) -> None:
    data = archive() if where == "there" else tree_with_directory(b"tree/file~")
    if where == "there":
        (tree / "file~").mkdir()
    before = contents(tree)
    answer, said = place(shell, TREE, data, SIMPLE)
    assert answer == b"0 1 1 0 0"
    assert said == b"cannot back up /srv/tree/file: /srv/tree/file~ is a directory\n"
    assert contents(tree) == before
    assert place(shell, TREE, data, NUMBERED)[0].startswith(b"0 1 0 0 ")


def tree_with_directory(name: bytes) -> bytes:
    """An archive of a file, and of a directory."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for each in ("tree", os.fsdecode(name)):
            member = tarfile.TarInfo(each)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        tar.addfile(tarfile.TarInfo("tree/file"))
        tar.addfile(tarfile.TarInfo(STAGE))
    return packed.getvalue()


def test_backups_that_are_not_called_so_by_us(shell: Shell) -> None:
    """What comes may be called like the backup that was just made: nothing is lost."""
    tree = shell.root / "srv/tree"
    tree.mkdir()
    (tree / "file").write_text("old")
    assert place(shell, TREE, files(b"file", b"file~"), SIMPLE) == (b"0 1 0 0 2", b"")
    assert contents(tree) == {"file": "new", "file~": "new", "file~~": "old"}


# --- what comes meanwhile ----------------------------------------------------------------------

MEANWHILE = """
mv() {
  case $1 in -n) printf meanwhile >./tree/late ;; esac
  command mv "$@"
}
"""
"""A file appears after all was looked at, just before what seems to be new is moved."""


@pytest.mark.parametrize(
    ("rules", "answer", "after"),
    [
        (KEEP, b"0 1 0 1 0", {"late": "meanwhile"}),
        (Rules(only=(b"tree/early",)), b"0 1 0 1 0", {"late": "meanwhile"}),
        (SIMPLE, b"0 1 0 0 1", {"late": "new", "late~": "meanwhile"}),
    ],
    ids=["keep", "ask", "backup"],
)
def test_what_appears_meanwhile_is_under_the_same_rules(
    shell: Shell, rules: Rules, answer: bytes, after: dict[str, str]
) -> None:
    tree = shell.root / "srv/tree"
    tree.mkdir()
    data, placement = files(b"early", b"late"), Placement(b"/srv", b"tree")
    assert place(shell, placement, data, rules, before=MEANWHILE)[0] == answer
    assert contents(tree) == {"early": "new", **after}


@pytest.mark.parametrize("rules", [KEEP, SIMPLE])
def test_where_links_cannot_be_made_files_are_renamed(shell: Shell, rules: Rules) -> None:
    tree = shell.root / "srv/tree"
    tree.mkdir()
    (tree / "file").write_text("old")
    answer, _ = place(shell, TREE, files(b"file", b"new"), rules, before="ln() { return 1; }\n")
    kept = rules is KEEP
    assert answer == (b"0 1 0 1 0" if kept else b"0 1 0 0 1")
    wanted = {"file": "old"} if kept else {"file": "new", "file~": "old"}
    assert contents(tree) == {"new": "new", **wanted}


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_cannot_be_placed_has_its_own_name_again(shell: Shell, links: bool) -> None:
    srv = shell.root / "srv"
    (srv / "name").write_text("old")
    broken = 'mv() { case $3 in */name) return 1 ;; esac; command mv "$@"; }\n'
    broken += "" if links else "ln() { return 1; }\n"
    answer, _ = place(shell, Placement(b"/srv", b"name"), files(), SIMPLE, before=broken)
    assert answer == b"0 1 1 0 0"
    assert contents(srv) == {"name": "old"}


def test_a_merge_that_stops_half_way_says_so(shell: Shell, tree: Path) -> None:
    broken = 'mv() { case $1 in -n) return 1 ;; esac; command mv "$@"; }\n'
    answer, _ = place(shell, TREE, archive(), SIMPLE, before=broken)
    assert answer.startswith(b"0 1 2 ")
    assert (tree / "sub/new~").read_text() == "old"


@pytest.mark.parametrize("cut", [0, 1000, 4000, -1])
def test_rules_that_did_not_come_whole_place_nothing(shell: Shell, tree: Path, cut: int) -> None:
    before = contents(tree)
    staging = Staging(TREE, NONCE, b"tree", place=False)
    receive = shell.receiving(staging, NONCE)
    shell.run(receive, PlainFeed().first + archive())
    told = scripts.rules(staging, SIMPLE)
    last = told.rindex(b"ruled=")
    done = shell.run(scripts.commit(staging, NONCE, len(told)), told[: last if cut < 0 else cut])
    assert done.returncode != 0
    assert b"podcp-" not in done.stdout
    assert {name: text for name, text in contents(tree).items() if ".podcp" not in name} == before


def test_a_container_may_have_variables_of_these_names(shell: Shell, tree: Path) -> None:
    staging = Staging(TREE, NONCE, b"tree", place=False)
    shell.run(
        shell.receiving(staging, NONCE),
        b"plain\n" + archive(),
    )
    done = shell.run("export kept=1 saved=2\n" + scripts.commit(staging, NONCE))
    assert done.stdout.endswith(f"\npodcp-{NONCE} 0 1 0\n".encode())
    assert (tree / "file").read_text() == "new"


# --- rights and mounts -------------------------------------------------------------------------


def test_a_user_that_is_not_root(shell: Shell, tree: Path) -> None:
    for path in (tree.parent, tree, tree / "sub"):
        os.chown(path, 1000, 1000)
    assert place(shell, TREE, archive(), SIMPLE, uid=1000)[0] == b"0 1 0 0 2"
    assert (tree / "file").stat().st_uid == 1000
    assert (tree / "file~").stat().st_uid == 0
    assert place(shell, TREE, archive(), KEEP, uid=1000)[0] == b"0 1 0 3 0"


@pytest.mark.parametrize("rules", [KEEP, SIMPLE])
def test_what_is_mounted_below_the_target(shell: Shell, tree: Path, rules: Rules) -> None:
    with mounted(tree / "sub", "1m"):
        (tree / "sub/new").write_text("old")
        data = tree_of_sub("new", "more")
        answer, said = place(shell, TREE, data, rules, mounts=(b"/srv/tree/sub",))
        kept = rules is KEEP
        assert (answer, said) == (b"0 1 0 1 0" if kept else b"0 1 0 0 1", b"")
        wanted = {"new": "old"} if kept else {"new": "new", "new~": "old"}
        assert contents(tree / "sub") == {"more": "new", **wanted}


def test_what_appears_meanwhile_where_something_is_mounted(shell: Shell, tree: Path) -> None:
    late = 'mv() { case $1 in -n) printf late >./sub/more ;; esac; command mv "$@"; }\n'
    with mounted(tree / "sub", "1m"):
        data = tree_of_sub("new", "more")
        mounts = (b"/srv/tree/sub",)
        answer, _ = place(shell, TREE, data, KEEP, mounts=mounts, before=late)
        assert answer == b"0 1 0 1 0"
        assert contents(tree / "sub") == {"new": "new", "more": "late"}


def tree_of_sub(*names: str) -> bytes:
    """An archive of tree/sub and what is in it."""
    return tree_of(*(f"tree/sub/{each}" for each in names), content=b"new")


def test_a_file_that_is_mounted_by_itself_may_be_kept(shell: Shell, tree: Path) -> None:
    mounts = (b"/srv/tree/file",)
    answer, said = place(shell, TREE, archive(), SIMPLE, mounts=mounts)
    assert (answer, b"is mounted there by itself" in said) == (b"0 1 1 0 0", True)
    assert place(shell, TREE, archive(), KEEP, mounts=mounts) == (b"0 1 0 2 0", b"")
    assert (tree / "file").read_text() == "old"


# --- lengths -----------------------------------------------------------------------------------


def test_the_rules_fit_in_one_message_and_the_script_in_a_request_line() -> None:
    """However many names may be replaced, they are no part of the URL."""
    staging = Staging(Placement(b"/srv/" * 20, b"n" * 100), NONCE, b"t" * 100, place=False)
    most = [b"%05d" % number for number in range(scripts.MOST_WORDS // 10)]
    told = scripts.rules(staging, Rules("existing", only=tuple(most)))
    assert len(told) < 64 * 1024
    script = scripts.commit(staging, NONCE, len(told))
    assert len(quote(script, safe="")) < 4 * 1024
    assert len(quote(scripts.commit(staging, NONCE), safe="")) < 6.75 * 1024


@pytest.mark.parametrize("command", [["sh"], ["bash", "--posix"], ["busybox", "sh"]])
def test_every_shell_reads_the_rules(command: list[str]) -> None:
    staging = Staging(TREE, NONCE, b"tree", place=False, mounts=(b"/srv/tree/a b",))
    for rules in (KEEP, SIMPLE, Rules("existing", b"'", tuple(ODD))):
        told = scripts.rules(staging, rules)
        assert subprocess.run([*command, "-n"], input=told).returncode == 0
