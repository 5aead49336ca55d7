"""Files that are there already: kept, asked about, backed up; or an error that names both."""

from __future__ import annotations

import dataclasses
import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end import trees
from tests.end_to_end.breaker import breaking
from tests.end_to_end.conftest import TARS, ClusterUnderTest, Copied
from tests.end_to_end.lies import NoLastWord
from tests.end_to_end.pods import TestPod, ThisMachine
from tests.end_to_end.test_left import COMMITS
from tests.end_to_end.test_resume import Cuts
from tests.loopback.server import Server

SOURCE = """
mkdir -p tree/sub/deep tree/new; cd tree
echo new >file; echo new >sub/file; echo new >sub/deep/file; echo new >new/file; echo new >.hidden
echo new >two; ln two names; ln -s elsewhere link; ln -s file over-file; echo new >over-link
echo new >'-rf'; echo new >"new
line"
"""
TARGET = """
mkdir -p tree/sub/deep; cd tree
echo old >file; echo old >sub/deep/file; echo old >two; echo old >over-file; ln -s nowhere link
echo old >/tmp/led-to; ln -s /tmp/led-to over-link; echo old >sub/other
chmod 640 file; echo old >"new
line"
""".strip()
THERE = ("file", "sub/deep/file", "two", "over-file", "link", "over-link", "new\nline")
"""What is no directory in both trees."""


def counts(result: Copied) -> tuple[int, int, int]:
    """Return how many files were copied, kept, and backed up."""
    said = result.complete().stderr
    match = re.search(r"^complete: ([\d,]+) files?, .*?(, [\d,]+ kept)?(, [\d,]+ backed up)?(, sha256 verified)?\)$", said, re.M)  # fmt: skip # noqa: E501
    assert match, said
    return tuple(int(re.sub(r"\D", "", each or "0")) for each in match.groups()[:3])  # type: ignore[return-value]


def look(pod: TestPod, directory: str = "/srv/tree") -> dict[str, str]:
    """Return what stands in a directory: the text of each file, and where each link leads."""
    script = (
        f"cd {directory}; find . ! -type d -exec sh -c '"
        'for f; do printf "%s\\0" "${f#./}"; if [ -L "$f" ]; then printf "> "; '
        'readlink "$f"; else cat "$f"; fi; printf "\\0"; done\' - {} +'
    )
    told = pod.sh(script).decode().split("\0")[:-1]
    return {name: text.rstrip("\n") for name, text in zip(told[::2], told[1::2], strict=True)}


NEW = {
    **dict.fromkeys(("file", "sub/file", "sub/deep/file", "new/file", ".hidden", "two"), "new"),
    **dict.fromkeys(("names", "over-link", "-rf", "new\nline"), "new"),
    "link": "> elsewhere",
    "over-file": "> file",
}
OLD = {
    **dict.fromkeys(("file", "sub/deep/file", "two", "over-file", "sub/other", "new\nline"), "old"),
    "link": "> nowhere",
    "over-link": "> /tmp/led-to",
}


class Ends:
    """Two Pods with trees that have some names in common."""

    def __init__(self, cluster: ClusterUnderTest, version: str, source: str, target: str) -> None:
        self.cluster, self.version = cluster, version
        self.source, self.target = cluster.pod(f"{source}-0"), cluster.pod(f"{target}-1")
        self.source.fresh("/data")
        self.target.fresh("/srv")
        self.source.sh(f"cd /data; {SOURCE}")
        self.target.sh(f"cd /srv; {TARGET}")

    def copy(self, *options: str, what: str = "tree", where: str = "/srv") -> Copied:
        """Copy /data/tree, or something else there, into /srv."""
        words = (f"{self.source.name}:/data/{what}", f"{self.target.name}:{where}", *options)
        return self.cluster.copy(self.version, *words)


@pytest.fixture
def ends(crosswise: tuple[str, str, str], cluster: ClusterUnderTest) -> Iterator[Ends]:
    """Each tar at either end; nothing of ours is left in any case."""
    made = Ends(cluster, *crosswise)
    yield made
    assert not [name for name in made.target.names("/srv") if name.startswith(".podcp")]


@pytest.fixture
def gnus(cluster: ClusterUnderTest, version: str) -> Ends:
    """GNU at both ends."""
    return Ends(cluster, version, "gnu", "gnu")


# --- kept --------------------------------------------------------------------------------------


def test_what_is_missing_is_filled_in(ends: Ends, tmp_path: Path) -> None:
    context = f"podcp-{ends.version}"
    assert counts(ends.copy("--no-clobber")) == (5, len(THERE), 0)
    assert look(ends.target) == {**NEW, **OLD}
    assert ends.target.sh("stat -c %a /srv/tree/file") == b"640\n"
    assert ends.target.names("/srv") == ["tree"]
    ends.source.sh("cd /data/tree; dd if=/dev/urandom of=sub/file bs=1k count=4000 2>/dev/null")
    with breaking(ends.cluster.kubeconfig, context, tmp_path) as (breaker, kubeconfig):
        ends.cluster = dataclasses.replace(ends.cluster, kubeconfig=kubeconfig)
        assert counts(ends.copy("--no-clobber")) == (0, len(NEW), 0)
    assert look(ends.target) == {**NEW, **OLD}
    assert breaker.up < 1_000_000, "what was kept was sent"


def test_where_nothing_is_there_all_comes(ends: Ends) -> None:
    ends.target.sh("rm -rf /srv/tree")
    assert counts(ends.copy("--no-clobber")) == (len(NEW), 0, 0)
    assert look(ends.target) == NEW


def test_a_file_alone_is_kept(ends: Ends) -> None:
    where = ("--no-clobber", "-T")
    assert counts(ends.copy(*where, what="tree/file", where="/srv/tree/file")) == (0, 1, 0)
    assert counts(ends.copy(*where, what="tree/link", where="/srv/tree/file")) == (0, 1, 0)
    assert counts(ends.copy(*where, what="tree/file", where="/srv/tree/link")) == (0, 1, 0)
    assert look(ends.target) == OLD
    assert counts(ends.copy(*where, what="tree/file", where="/srv/tree/free")) == (1, 0, 0)
    assert look(ends.target) == {**OLD, "free": "new"}


def test_what_cannot_be_listed_is_kept_when_it_is_placed(gnus: Ends) -> None:
    """Names fill the listing here: 1,500 of 2,900 bytes."""
    directory = "/".join(["d" * 255] * 11)
    gnus.source.sh(
        f"mkdir -p /data/tree/{directory}; cd /data/tree/{directory}; "
        "for n in $(seq 1500); do echo $n >$n; done"
    )
    for each in ("file", "sub"):
        gnus.source.sh(f"rm -rf /data/tree/{each}")
    assert counts(gnus.copy("--no-clobber"))[:2] == (1504, 5)
    assert counts(gnus.copy("--no-clobber"))[:2] == (0, 1509)


# --- backed up ---------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["-b", "--backup=simple", "--backup=numbered", "--suffix=.o"])
def test_what_is_replaced_is_backed_up(ends: Ends, option: str) -> None:
    options = ["-b", option] if option.startswith("--suffix") else [option]
    suffix = {"--backup=numbered": ".~1~", "--suffix=.o": ".o"}.get(option, "~")
    inode = ends.target.sh("stat -c '%i %a %Y' /srv/tree/file")
    assert counts(ends.copy(*options)) == (len(NEW), 0, len(THERE))
    backups = {name + suffix: OLD[name] for name in THERE}
    assert look(ends.target) == {**OLD, **NEW, **backups}
    assert ends.target.sh(f"stat -c '%i %a %Y' /srv/tree/file{suffix}") == inode
    assert ends.target.sh("cat /tmp/led-to") == b"old\n", "nothing is written through a link"
    ends.source.sh("cd /data/tree; echo newer >file")
    assert counts(ends.copy(*options))[2] == len(NEW)
    found = look(ends.target)
    assert found["file"] == "newer"
    assert found["file.~2~" if option == "--backup=numbered" else f"file{suffix}"] == "new"
    assert found[f"file{suffix}"] == ("old" if option == "--backup=numbered" else "new")


def test_a_file_alone_is_backed_up(ends: Ends) -> None:
    where = {"where": "/srv/tree/file", "what": "tree/file"}
    assert counts(ends.copy("-b", "-T", **where)) == (1, 0, 1)
    assert counts(ends.copy("--backup=numbered", "-T", **where)) == (1, 0, 1)
    assert counts(ends.copy("-b", "-T", **where)) == (1, 0, 1)
    backups = {"file": "new", "file~": "old", "file.~1~": "new", "file.~2~": "new"}
    assert look(ends.target) == {**OLD, **backups}


def test_where_it_is_not_known_whether_it_was_placed_no_other_try_is_made(
    gnus: Ends, server: Server
) -> None:
    """It would back up what this one placed, and the old file would have no name any more."""
    lie = NoLastWord()
    target = gnus.target.name
    server.inject(target, lie, command=lambda words: COMMITS(words) and lie.meant(words), session=0)
    gnus.copy("--backup=simple", "--retries", "3").failed(1, "is not known")
    backups = {f"{name}~": OLD[name] for name in THERE}
    assert look(gnus.target) == {**OLD, **NEW, **backups}
    lie = NoLastWord()
    server.inject(target, lie, command=lambda words: COMMITS(words) and lie.meant(words), session=0)
    gnus.source.sh("echo newer >/data/tree/newer")
    done = gnus.copy("--no-clobber", "--retries", "3")
    assert counts(done)[0] == 0, "the first try placed it"
    assert look(gnus.target)["newer"] == "newer"


# --- a directory over a file, or the other way round ---------------------------------------------

RULES = [[], ["--no-clobber"], ["--backup=simple"], ["--backup=numbered"]]


@pytest.mark.parametrize("options", RULES, ids=" ".join)
@pytest.mark.parametrize(
    ("source", "target", "old", "new"),
    [
        ("mkdir tree/file", "echo old >tree/file", "non-directory", "directory"),
        ("mkdir tree/file", "ln -s sub tree/file", "non-directory", "directory"),
        ("echo new >tree/file", "mkdir tree/file", "directory", "non-directory"),
        ("ln -s sub tree/file", "mkdir tree/file", "directory", "non-directory"),
    ],
    ids=["directory-file", "directory-link", "file-directory", "link-directory"],
)
def test_in_a_tree_it_is_an_error_that_names_both(
    ends: Ends, options: list[str], source: str, target: str, old: str, new: str
) -> None:
    ends.source.sh(f"cd /data; rm tree/file tree/over-file; {source}")
    ends.target.sh(f"cd /srv; rm tree/file; {target}")
    before = look(ends.target)
    words = f"cannot overwrite {old} /srv/tree/file with {new} tree/file"
    ends.copy(*options).failed(1, words, "was not changed")
    assert look(ends.target) == before


@pytest.mark.parametrize("options", [*RULES, ["--update"], ["--verify"]], ids=" ".join)
def test_alone_it_is_an_error_that_names_both(
    cluster: ClusterUnderTest, options: list[str], tmp_path: Path
) -> None:
    """From one Pod to another, from this machine, to it, and from stdin."""
    source, target = cluster.pod("gnu-0"), cluster.pod("gnu-1")
    for pod in (source, target):
        pod.fresh("/srv")
        pod.sh("mkdir -p /srv/dir/file /srv/into; echo old >/srv/file; echo old >/srv/into/dir")
    here = ThisMachine()
    here.sh(f"cd {tmp_path}; mkdir -p dir/file into; echo old >file; echo old >into/dir")
    for near, far in ((f"{tmp_path}", "gnu-1:/srv"), ("gnu-0:/srv", f"{tmp_path}")):
        for where, at in ((near, far), ("gnu-0:/srv", "gnu-1:/srv")):
            path = at.partition(":")[2] or at
            for name, to, old, new in (
                ("dir", "file", "non-directory", "directory"),
                ("dir", "into", "non-directory", "directory"),
                ("file", "dir", "directory", "non-directory"),
            ):
                existing = {"file": "file", "into": "into/dir", "dir": "dir/file"}[to]
                words = (
                    f"cannot overwrite {old} {path}/{existing} with {new}",
                    f"{where.partition(':')[2] or where}/{name}",
                )
                cluster.copy("v5", *options, f"{where}/{name}", f"{at}/{to}").failed(1, *words)
    assert look(target, "/srv") == look(source, "/srv") == {"file": "old", "into/dir": "old"}
    assert (tmp_path / "file").read_text() == (tmp_path / "into/dir").read_text() == "old\n"


# --- with other options ------------------------------------------------------------------------


def test_this_machine_is_the_destination(ends: Ends, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "file").write_text("old\n")
    (tree / "over-link").symlink_to("file")
    words = (f"{ends.source.name}:/data/tree", str(tmp_path))
    assert counts(ends.cluster.copy(ends.version, "--no-clobber", *words))[1] == 2
    assert (tree / "file").read_text() == "old\n"
    assert (tree / "over-link").is_symlink()
    assert (tree / "sub/file").read_text() == "new\n"
    assert counts(ends.cluster.copy(ends.version, "-b", *words)) == (len(NEW), 0, len(NEW))
    assert (tree / "file~").read_text() == "old\n"
    assert (tree / "over-link~").is_symlink()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["tree"]


def test_from_this_machine(cluster: ClusterUnderTest, version: str, tmp_path: Path) -> None:
    ThisMachine().sh(f"cd {tmp_path}; {SOURCE}")
    target = cluster.pod("busybox-1")
    target.fresh("/srv")
    target.sh(f"cd /srv; {TARGET}")
    words = (f"{tmp_path}/tree/.", "busybox-1:/srv/tree")
    assert counts(cluster.copy(version, "--no-clobber", *words)) == (5, len(THERE), 0)
    assert look(target) == {**NEW, **OLD}


@pytest.mark.parametrize("tar", TARS)
@pytest.mark.parametrize("option", ["--no-clobber", "--backup"])
def test_from_stdin(cluster: ClusterUnderTest, version: str, tar: str, option: str) -> None:
    """A file, and an archive: what stands there is found out when it is placed."""
    target = cluster.pod(f"{tar}-1")
    target.fresh("/srv")
    target.sh(f"cd /srv; {TARGET}; echo old >../alone")
    kept = option == "--no-clobber"

    def piped(data: bytes, path: str) -> Copied:
        words = cluster.argv(version, option, "-", f"{tar}-1:{path}")
        done = subprocess.run(words, input=data, capture_output=True, timeout=60, check=False)
        return Copied(done.returncode, done.stdout.decode(), done.stderr.decode())

    if tar != "toybox" or version != "v4":  # its dd cannot tell where a file ends there
        assert counts(piped(b"new\n", "/srv/alone")) == ((0, 1, 0) if kept else (1, 0, 1))
        assert counts(piped(b"new\n", "/srv/free")) == (1, 0, 0)
        found = look(target, "/srv")
        assert (found["alone"], found.get("alone~")) == (("old", None) if kept else ("new", "old"))
    source = cluster.pod("gnu-0")
    source.fresh("/data")
    source.sh(f"cd /data; {SOURCE}")
    archive = source.sh("cd /data/tree; tar cf - .")
    done = piped(archive, "/srv/tree")
    assert counts(done)[1:] == ((len(THERE), 0) if kept else (0, len(THERE)))
    backups = {f"{name}~": OLD[name] for name in THERE}
    assert look(target) == ({**NEW, **OLD} if kept else {**OLD, **NEW, **backups})


@pytest.mark.parametrize("option", ["--update", "--checksum"])
def test_what_is_up_to_date_needs_no_rule(ends: Ends, option: str) -> None:
    ends.source.sh(f"cd /data/tree; touch -d @{trees.MTIME} file sub/file")
    ends.copy().complete()
    ends.source.sh("cd /data/tree; echo longer >sub/file; echo newest >newest")
    done = ends.copy(option, "--no-clobber").complete().stderr
    assert re.search(r"complete: 1 file, .*, \d+ up to date, \d+ kept\)$", done, re.M), done
    found = look(ends.target)
    assert (found["sub/file"], found["newest"]) == ("new", "newest")
    done = ends.copy(option, "--backup").complete().stderr
    assert re.search(r", \d+ up to date, \d+ backed up\)$", done, re.M), done
    found = look(ends.target)
    assert (found["sub/file"], found["sub/file~"]) == ("longer", "new")
    assert "file~" not in found, "it was not replaced"


def test_what_is_placed_is_verified_before(ends: Ends) -> None:
    assert counts(ends.copy("--verify", "--no-clobber")) == (5, len(THERE), 0)
    assert look(ends.target) == {**NEW, **OLD}
    done = ends.copy("--verify", "-b")
    assert counts(done)[2] == len(NEW)
    assert ", sha256 verified)" in done.stderr


@pytest.mark.parametrize("rule", ["--no-clobber", "--backup"])
@pytest.mark.parametrize(
    "options", [["--retries", "2"], ["--partial", "--retries", "0"]], ids=["retries", "partial"]
)
def test_a_copy_that_goes_on_is_under_the_same_rules(
    ends: Ends, options: list[str], rule: str, tmp_path: Path
) -> None:
    ends.source.sh(
        "cd /data/tree; for n in 1 2 3 4; do "
        "dd if=/dev/urandom of=sub/big$n bs=1M count=16 2>/dev/null; done; "
        f"echo new >big; find . -type f -exec touch -d @{trees.MTIME} {{}} +"
    )
    ends.target.sh("cd /srv/tree; echo old >sub/big1; echo old >sub/big4")

    cuts = Cuts(28 << 20)
    whole, context = ends.cluster, f"podcp-{ends.version}"
    with breaking(whole.kubeconfig, context, tmp_path) as (breaker, kubeconfig):
        breaker.on_passing = cuts
        ends.cluster = dataclasses.replace(whole, kubeconfig=kubeconfig)
        done = ends.copy(rule, *options)
        if "--partial" in options:
            done.failed(1, "the same command goes on from there")
            done = ends.copy(rule, *options)
    assert cuts.made == 1, "nothing was broken"
    assert "begins anew" not in done.stderr
    there = len(THERE) + 2
    kept = rule == "--no-clobber"
    assert counts(done)[1:] == ((there, 0) if kept else (0, there))
    for number in (1, 2, 3, 4):
        path = f"tree/sub/big{number}"
        if kept and number in (1, 4):
            assert ends.target.sh(f"cat /srv/{path}") == b"old\n"
        else:
            assert ends.target.sha256(f"/srv/{path}") == ends.source.sha256(f"/data/{path}")
    assert ("big4~" in ends.target.names("/srv/tree/sub")) is not kept


def test_the_document_and_the_rehearsal_tell_it(gnus: Ends) -> None:
    done = gnus.copy("-o", "json", "--no-clobber")
    (copy,) = json.loads(done.stdout)["copies"]
    assert (copy["files"], copy["kept"], copy["backed_up"]) == (5, len(THERE), 0)
    done = gnus.copy("-o", "json", "-b")
    (copy,) = json.loads(done.stdout)["copies"]
    assert (copy["files"], copy["kept"], copy["backed_up"]) == (len(NEW), 0, len(NEW))
    before = look(gnus.target)
    done = gnus.copy("--dry-run", "--no-clobber", "-T", what="tree/file", where="/srv/tree/file")
    assert "(a file, kept)" in done.stdout
    assert "Files that are there already are kept." in done.stdout
    assert "are kept under another name" in gnus.copy("--dry-run", "-b").stdout
    assert look(gnus.target) == before


def test_several_sources(gnus: Ends) -> None:
    sources = [f"gnu-0:/data/tree/{each}" for each in ("file", "sub", "new")]
    gnus.target.sh("cd /srv; mkdir sub; echo old >sub/file")
    done = gnus.cluster.copy(gnus.version, "--no-clobber", *sources, "gnu-1:/srv")
    assert done.code == 0
    found = look(gnus.target, "/srv")
    assert (found["file"], found["sub/file"], found["sub/deep/file"]) == ("new", "old", "new")
    done = gnus.cluster.copy(gnus.version, "-b", *sources, "gnu-1:/srv")
    assert (done.code, look(gnus.target, "/srv")["sub/file~"]) == (0, "old")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--no-clobber", "-b", "a:/x", "b:/y"], "--no-clobber replaces nothing"),
        (["--suffix", ".o", "a:/x", "b:/y"], "none are made"),
        (["--backup=other", "a:/x", "b:/y"], "--backup=simple, --backup=numbered or"),
        (["--no-clobber", "a:/x", "-"], "--no-clobber means nothing for standard output"),
        (["--backup", "a:/x", "-"], "--backup means nothing for standard output"),
        (["-i", "a:/x", "b:/y"], "--interactive asks on a terminal"),
    ],
)
def test_what_cannot_be_meant(cluster: ClusterUnderTest, words: list[str], why: str) -> None:
    cluster.copy("v5", *words).failed(2, why)


# --- asked -------------------------------------------------------------------------------------


class Terminal:
    """A terminal on which a copy runs, and somebody answers."""

    def __init__(self, process: subprocess.Popen[bytes], screen: int) -> None:
        self.process, self.screen, self.seen = process, screen, b""

    def until(self, *words: str, seconds: float = 30) -> bytes:
        """Return what is shown until one of ``words`` stands at its end, or until its end."""
        shown, deadline = b"", time.monotonic() + seconds
        while not any(shown.endswith(word.encode()) for word in words):
            if not select.select([self.screen], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"only {self.seen + shown!r} was shown")
            try:
                more = os.read(self.screen, 1)
            except OSError:  # nobody has it open any more
                break
            shown += more
        self.seen += shown
        return shown

    def type(self, text: str) -> None:
        """Type ``text``."""
        os.write(self.screen, text.encode())

    def end(self) -> Copied:
        """Return how it ended."""
        self.until(seconds=60)
        return Copied(self.process.wait(30), "", self.seen.decode().replace("\r\n", "\n"))


@contextmanager
def on_a_terminal(cluster: ClusterUnderTest, version: str, *words: str) -> Iterator[Terminal]:
    """Run a copy on a terminal of its own."""
    screen, its_end = pty.openpty()
    try:
        with subprocess.Popen(
            cluster.argv(version, *words),
            stdin=its_end,
            stdout=subprocess.DEVNULL,
            stderr=its_end,
            start_new_session=True,
        ) as process:
            os.close(its_end)
            yield Terminal(process, screen)
    finally:
        os.close(screen)


def answered(ends: Ends, answer: Callable[[str], str], *options: str) -> tuple[Copied, list[str]]:
    """Copy the tree with ``-i``; return how it ended, and what was asked about, in order."""
    words = (f"{ends.source.name}:/data/tree", f"{ends.target.name}:/srv")
    asked = []
    with on_a_terminal(ends.cluster, ends.version, "-i", *options, *words) as terminal:
        while question := re.search(rb"overwrite ([^\r\n]*)\? \Z", terminal.until("? ")):
            asked.append(question[1].decode())
            terminal.type(answer(asked[-1]))
        return terminal.end(), asked


def test_the_user_is_asked_about_each(ends: Ends) -> None:
    yes = ("file", "over-link", "link", "new\\x0aline")

    def answer(path: str) -> str:
        return "yes\n" if path.rpartition("/")[2] in yes and "deep" not in path else "n\n"

    done, asked = answered(ends, answer)
    prefix = f"{ends.target.name}:/srv/tree/"
    assert sorted(asked) == sorted(prefix + each.replace("\n", "\\x0a") for each in THERE)
    assert done.code == 0, done
    replaced = {name: NEW[name] for name in ("file", "over-link", "link", "new\nline")}
    assert look(ends.target) == {**NEW, **OLD, **replaced}
    assert ", 3 kept)" in done.stderr
    assert ends.target.sh("cat /tmp/led-to") == b"old\n"


def test_what_may_be_replaced_may_be_backed_up(gnus: Ends) -> None:
    done, _ = answered(gnus, lambda path: "y\n" if path.endswith("tree/file") else "\n", "-b")
    assert done.code == 0
    assert ", 6 kept, 1 backed up)" in done.stderr
    assert look(gnus.target) == {**NEW, **OLD, "file": "new", "file~": "old"}


def test_what_appears_later_is_kept_for_nobody_was_asked(gnus: Ends) -> None:
    def answer(_path: str) -> str:
        gnus.target.sh("echo late >/srv/tree/.hidden")
        return "y\n"

    done, asked = answered(gnus, answer)
    assert len(asked) == len(THERE)
    assert (done.code, ", 1 kept)" in done.stderr) == (0, True)
    assert look(gnus.target) == {**OLD, **NEW, ".hidden": "late"}


def test_where_nothing_is_there_nobody_is_asked(gnus: Ends) -> None:
    gnus.target.fresh("/srv")
    done, asked = answered(gnus, lambda _path: "n\n")
    assert (done.code, asked) == (0, [])
    assert look(gnus.target) == NEW


def test_the_end_of_input_is_no(gnus: Ends) -> None:
    done, asked = answered(gnus, lambda _path: "\x04")
    assert (done.code, len(asked)) == (0, len(THERE))
    assert look(gnus.target) == {**NEW, **OLD}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_asking(gnus: Ends, number: signal.Signals) -> None:
    words = ("gnu-0:/data/tree", "gnu-1:/srv")
    with on_a_terminal(gnus.cluster, gnus.version, "-i", *words) as terminal:
        terminal.until("? ")
        terminal.process.send_signal(number)
        done = terminal.end()
    assert done.code == 128 + number
    assert "gnu-1:/srv was not changed" in done.stderr
    assert look(gnus.target) == OLD


def test_no_bar_is_drawn_over_the_question(gnus: Ends) -> None:
    """It is drawn four times a second."""
    words = ("gnu-0:/data/tree", "gnu-1:/srv")
    with on_a_terminal(gnus.cluster, gnus.version, "-i", *words) as terminal:
        terminal.until("? ")
        assert not select.select([terminal.screen], [], [], 1.0)[0], "something was drawn"
        terminal.process.terminate()
        terminal.end()


def test_a_retry_does_not_ask_again(gnus: Ends, tmp_path: Path) -> None:
    gnus.source.sh(
        "cd /data/tree/sub; dd if=/dev/urandom of=big bs=1M count=48 2>/dev/null; "
        f"touch -d @{trees.MTIME} big"
    )

    cuts = Cuts(28 << 20)
    whole, context = gnus.cluster, f"podcp-{gnus.version}"
    with breaking(whole.kubeconfig, context, tmp_path) as (breaker, kubeconfig):
        breaker.on_passing = cuts
        gnus.cluster = dataclasses.replace(whole, kubeconfig=kubeconfig)
        done, asked = answered(gnus, lambda path: "y\n" if path.endswith("tree/file") else "n\n")
    assert cuts.made == 1, "nothing was broken"
    assert (done.code, len(asked)) == (0, len(THERE))
    assert "trying again" in done.stderr
    big = "tree/sub/big"
    assert gnus.target.sha256(f"/srv/{big}") == gnus.source.sha256(f"/data/{big}")
    gnus.target.sh(f"rm /srv/{big}")
    assert look(gnus.target) == {**NEW, **OLD, "file": "new"}


def test_what_cannot_be_listed_cannot_be_asked_about(gnus: Ends) -> None:
    gnus.target.sh("mv /usr/bin/stat /usr/bin/away")
    try:
        done, asked = answered(gnus, lambda _path: "y\n")
    finally:
        gnus.target.sh("mv /usr/bin/away /usr/bin/stat")
    assert (done.code, asked) == (1, [])
    assert "nobody can be asked about it" in done.stderr.replace("\n", " ")
    assert look(gnus.target) == OLD
