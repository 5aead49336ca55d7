"""What of a file is kept is what was asked for: with every tar, over both protocols."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.end_to_end import fidelity, trees
from tests.end_to_end.breaker import breaking
from tests.end_to_end.conftest import ClusterUnderTest, Copied
from tests.end_to_end.pods import Place, TestPod, ThisMachine
from tests.end_to_end.test_resume import Cuts
from tests.end_to_end.trees import MTIME, Entry, Tree

SOURCE = f"""
    mkdir -p /data/tree/sub /data/out/deep; cd /data/tree
    echo plain >plain; chmod 640 plain
    echo key >key; chmod 600 key
    echo run >run; chmod 775 run
    echo su >su; chown 5:6 su; chmod 4755 su
    echo s >sub/s; chown 7:8 sub sub/s; chmod 2770 sub; chmod 444 sub/s
    ln -s plain link
    mkfifo -m 620 pipe
    touch -h -d @{MTIME} plain key run su sub/s link pipe
    touch -d @{MTIME} sub .
"""
HARD = "cd /data/tree; ln plain sub/hard; touch -d @1600000000 sub ."
ROOT = (0, 0)


class Ends:
    """Two Pods of one userland: /data/tree in the one, an empty /srv in the other."""

    def __init__(self, cluster: ClusterUnderTest, version: str, tar: str) -> None:
        self.cluster, self.version, self.tar = cluster, version, tar
        self.source, self.target = cluster.pod(f"{tar}-0"), cluster.pod(f"{tar}-1")
        self.source.fresh("/data")
        self.target.fresh("/srv")
        self.source.sh(SOURCE)

    def copy(self, *options: str, what: str = "tree", into: str = "") -> Copied:
        """Copy /data/tree, or something else there, into /srv."""
        words = (f"{self.source.name}:/data/{what}", f"{into or self.target.name}:/srv")
        return self.cluster.copy(self.version, *options, *words)

    def sent(self, what: str = "tree") -> Tree:
        """Return what was to be copied."""
        return self.comparable(trees.look(self.source, "/data", what))

    def came(self, what: str = "tree") -> Tree:
        """Return what was."""
        assert self.target.names("/srv") == [what]
        return self.comparable(trees.look(self.target, "/srv", what))

    def comparable(self, tree: Tree) -> Tree:
        """Return the tree without what the destination's tar never restores."""
        return fidelity.comparable(tree, self.tar)

    def expect(self, become: Callable[[Entry], Entry]) -> None:
        """Check that each entry came as what ``become`` makes of it."""
        sent, came = self.sent(), self.came()
        expected = Tree({name: become(entry) for name, entry in sent.entries.items()}, sent.links)
        assert came.links == expected.links
        assert came.entries == self.comparable(expected).entries


@pytest.fixture
def ends(crosswise: tuple[str, str, str], cluster: ClusterUnderTest) -> Ends:
    """Two Pods of each userland."""
    version, tar, _ = crosswise
    return Ends(cluster, version, tar)


def is_directory(entry: Entry) -> bool:
    return entry.kind == tarfile.DIRTYPE


def is_link(entry: Entry) -> bool:
    return entry.kind == tarfile.SYMTYPE


def with_mode(entry: Entry, mode: int) -> Entry:
    """Return the entry with another mode, which a symbolic link has not."""
    return entry if is_link(entry) else replace(entry, mode=mode)


def as_ever(entry: Entry) -> Entry:
    """Without setuid, and with a directory's setgid."""
    return entry if is_directory(entry) else with_mode(entry, entry.mode & 0o1777)


def test_no_preserve_alone_means_what_it_means_to_kubectl_cp(ends: Ends) -> None:
    """The umask counts, and the user there owns it all: so ``key`` stays a secret."""
    ends.source.sh(HARD)
    ends.copy("--no-preserve").complete()
    ends.expect(lambda entry: replace(with_mode(entry, entry.mode & 0o1755), uid=0, gid=0))


def test_nothing_is_kept_that_was_not_to_be(ends: Ends) -> None:
    """Modes are those of what is new; times are those of the copy."""
    began = int(time.time())
    ends.copy("--no-preserve=mode,ownership,timestamps").complete()
    sent, came = ends.sent(), ends.came()
    assert came.entries.keys() == sent.entries.keys()
    for name, entry in came.entries.items():
        assert (entry.uid, entry.gid) == ROOT
        if not is_link(entry):
            assert entry.mode == (0o755 if is_directory(entry) else 0o644), name
        if ends.tar != "busybox" or not (is_link(entry) or is_directory(entry)):
            assert began <= entry.mtime <= time.time() + 1, name
        assert entry.content == sent.entries[name].content


def test_all_is_setuid_and_devices_too(ends: Ends) -> None:
    ends.source.sh(f"cd /data/tree; mknod null c 1 3; touch -d @{MTIME} null .")
    ends.source.sh(HARD)
    ends.copy("--preserve=all").complete()
    ends.expect(lambda entry: entry)
    assert ends.came().entries[b"su"].mode == 0o4755
    assert ends.came().entries[b"null"].kind == tarfile.CHRTYPE


def test_a_mode_that_is_asked_for_has_its_setuid(ends: Ends) -> None:
    result = ends.copy("--preserve=mode").complete()
    assert "setuid" not in result.stderr
    ends.expect(lambda entry: entry)


def test_owners_and_modes_are_set(ends: Ends) -> None:
    """Both run again over what they have made: nothing is sent a second time."""
    ends.source.sh(HARD)
    options = ("--chown", "21:22", "--chmod", "u=rwX,g=u-w,o=")

    def become(entry: Entry) -> Entry:
        executable = is_directory(entry) or entry.mode & 0o111
        mode = (0o750 if executable else 0o640) | (
            entry.mode & 0o2000 if is_directory(entry) else 0
        )
        return replace(with_mode(entry, mode), uid=21, gid=22)

    ends.copy(*options).complete()
    ends.expect(become)
    again = ends.copy("--update", *options).complete()
    assert re.search(r", 4 up to date\)$", again.stderr, re.M), again  # "plain" has two names
    ends.expect(lambda entry: top_as_it_is(ends, become(entry), entry))
    other = ends.copy("--update", "--chmod", "u=rwX,g=u-w,o=").complete()
    assert "up to date" not in other.stderr, other


def top_as_it_is(ends: Ends, entry: Entry, sent: Entry) -> Entry:
    """Return the entry, but the top's time is that of its change."""
    top = ends.sent().entries[b""]
    return (
        replace(entry, mtime=ends.came().entries[b""].mtime)
        if sent is top or sent == top
        else entry
    )


def test_an_octal_mode_and_one_half_of_an_owner(ends: Ends) -> None:
    ends.copy("--chown=:22", "--chmod=750").complete()
    ends.expect(
        lambda entry: replace(
            with_mode(entry, 0o750 | (entry.mode & 0o2000 if is_directory(entry) else 0)), gid=22
        )
    )


def test_what_a_mode_gives_back_is_not_said_to_be_gone(ends: Ends) -> None:
    assert "su: copied without setuid and setgid" in ends.copy().complete().stderr
    again = ends.copy("--chmod", "u+s").complete()
    assert "setuid" not in again.stderr
    assert ends.came().entries[b"su"].mode & 0o7777 == 0o4755


def test_contents_are_compared_where_times_are_not_kept(ends: Ends) -> None:
    options = ("--no-preserve=timestamps,mode", "--checksum")
    ends.copy(*options).complete()
    again = ends.copy(*options).complete()
    assert ", 5 up to date)" in again.stderr, again
    ends.copy("--no-preserve=timestamps", "--update").failed(2, "--checksum needs no times")


def test_names_of_one_file_become_files(ends: Ends) -> None:
    """Only GNU tar can send contents twice; others say what it is that they cannot send."""
    ends.source.sh(HARD)
    result = ends.copy("--no-preserve=links")
    if ends.tar != "gnu":
        result.failed(1, "is one file with", "or use GNU tar", f"{ends.target.name}:/srv was not")
        assert ends.target.names("/srv") == []
        return
    result.complete()
    sent, came = ends.sent(), ends.came()
    assert (len(sent.links), came.links) == (1, frozenset())
    assert came.entries == {name: as_ever(entry) for name, entry in sent.entries.items()}


def test_where_there_are_none_links_need_not_be_kept(ends: Ends) -> None:
    ends.copy("--no-preserve=links").complete()
    ends.expect(as_ever)


def test_a_symbolic_link_of_two_names_harms_nothing(ends: Ends) -> None:
    """toybox would give what it leads to its mode: they become two there, and that is said."""
    ends.source.sh(
        "cd /data/tree; ln -s key sub/s1; touch -h -d @1600000000 sub/s1; ln sub/s1 sub/s2;"
        "touch -d @1600000000 sub ."
    )
    result = ends.copy("--preserve=mode").complete()
    are_two = ": copied as a symbolic link of its own" in result.stderr
    assert are_two == (ends.tar == "toybox"), result
    came = ends.came().entries
    assert came == ends.sent().entries
    ends.copy("--preserve=mode", "--update", "--verify").complete()
    again = ends.came().entries
    again.pop(b"")  # whose time is that of the merge
    assert again == {name: entry for name, entry in came.items() if name}


# --- what symbolic links lead to ---------------------------------------------------------------

LINKS = f"""
    cd /data; echo far >out/deep/far; chmod 640 out/deep/far; chown 9:9 out/deep/far
    touch -d @{MTIME} out/deep/far; touch -d @{MTIME} out/deep out
    cd tree; ln -s ../out out; ln -s sub/s up; ln -s /data/out/deep/far far; touch -d @{MTIME} .
"""
FOLLOWED = "cp -pRL /data/tree /data/expected"
"""With the witness's cp."""


def follow(ends: Ends, *more: str) -> Tree:
    """Copy with links followed; return what was to come."""
    ends.source.sh(LINKS)
    ends.source.sh(f"{FOLLOWED}; touch -d @{MTIME} /data/expected/sub /data/expected")
    ends.copy("-L", *more).complete()
    tree = ends.sent("expected")
    entries = {name: as_ever(entry) for name, entry in tree.entries.items()}
    return Tree(entries, tree.links)


def without_directory_times(tree: Tree) -> dict[bytes, Entry]:
    return {
        name: entry.without_time() if is_directory(entry) else entry
        for name, entry in tree.entries.items()
    }


def test_links_become_what_they_lead_to(ends: Ends) -> None:
    expected = follow(ends)
    came = ends.came()
    assert expected.entries[b"out/deep/far"].uid == 9
    assert not any(map(is_link, expected.entries.values()))
    assert without_directory_times(came) == without_directory_times(expected)
    again = ends.copy("--dereference", "--update").complete()
    # To GNU tar, and to cp -aL, names that lead to one file are names of one file.
    linked = {name for names in came.links for name in names}
    assert bool(linked) == (ends.tar == "gnu")
    files = sum(
        entry.kind == tarfile.REGTYPE and name not in linked for name, entry in came.entries.items()
    )
    assert f", {files} up to date)" in again.stderr, again
    again = ends.copy("--dereference", "--checksum").complete()
    assert f", {files} up to date)" in again.stderr, again


def test_patterns_and_names_see_what_links_lead_to(ends: Ends, tmp_path: Path) -> None:
    follow(ends, "--exclude", "far", "--verify")
    names = [name for name in ends.came().entries if b"far" in name or name.startswith(b"out")]
    assert sorted(names) == [b"out", b"out/deep"]
    ends.target.fresh("/srv")
    listed = tmp_path / "names"
    listed.write_text("out/deep\nup\n")
    ends.copy("-L", "--files-from", str(listed)).complete()
    assert sorted(ends.came().entries) == [b"", b"out", b"out/deep", b"out/deep/far", b"up"]


def test_a_link_itself_becomes_what_it_leads_to(ends: Ends) -> None:
    ends.source.sh(f"{LINKS} ln -s tree/up /data/one")
    ends.copy("-L", what="one").complete()
    came = ends.came("one").entries[b""]
    assert (came.kind, came.mode) == (tarfile.REGTYPE, 0o444)
    ends.target.fresh("/srv")
    ends.copy("-L", what="tree/out").complete()
    assert sorted(ends.came("out").entries) == [b"", b"deep", b"deep/far"]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        ("ln -s .. sub/up", "tree/sub/up"),
        ("ln -s . self", "tree/self"),
        ("mkdir a b; ln -s ../b a/b; ln -s ../a b/a", "leads back to a directory above it"),
        ("ln -s /data out", "leads back to a directory above it"),
    ],
)
def test_links_that_lead_in_circles_are_an_error(ends: Ends, make: str, name: str) -> None:
    ends.source.sh(f"cd /data/tree; {make}")
    result = ends.copy("-L")
    result.failed(1, name, "would be no end of it", "leave out --dereference")
    assert ends.target.names("/srv") == []
    ends.copy().complete()  # as links they do no harm


def test_a_link_to_nowhere_is_told(ends: Ends) -> None:
    """GNU tar and busybox cannot read it; the other two leave it as it is."""
    ends.source.sh("cd /data/tree; ln -s nowhere gone")
    result = ends.copy("-L")
    assert "gone" in result.stderr
    if ends.tar in ("gnu", "busybox"):
        assert (result.code, "partial" in result.stderr) == (3, True), result
        assert b"gone" not in ends.came().entries
    else:
        result.complete()
        assert "it leads nowhere" in result.stderr
        assert is_link(ends.came().entries[b"gone"])


def test_a_copy_does_not_go_where_its_source_leads(ends: Ends) -> None:
    """In one Pod, the copy would be read while it is written."""
    ends.source.sh("cd /data; mkdir target; ln -s ../target tree/in")
    words = [f"{ends.source.name}:/data/tree", f"{ends.source.name}:/data/target"]
    result = ends.cluster.copy(ends.version, "-L", *words)
    result.failed(1, "'tree/in'", "where the copy would come to stand")


# --- whoever unpacks ---------------------------------------------------------------------------


@pytest.fixture
def user(cluster: ClusterUnderTest) -> TestPod:
    """A Pod whose user is not root."""
    pod = cluster.pod("user-0")
    pod.sh("[ ! -e /tmp/copy ] || chmod -R u+rwX /tmp/copy; rm -rf /tmp/copy; mkdir /tmp/copy")
    return pod


def test_it_is_told_that_owners_are_not_kept(ends: Ends, user: TestPod) -> None:
    words = (f"{ends.source.name}:/data/tree", "user-0:/tmp/copy")
    result = ends.cluster.copy(ends.version, *words).complete()
    assert "owners are not kept: the user in user-0, 1000:1000, may not give" in result.stderr
    assert len(re.findall("owners are not kept", result.stderr)) == 1
    came = trees.look(user, "/tmp/copy", "tree")
    assert {(entry.uid, entry.gid) for entry in came.entries.values()} == {(1000, 1000)}
    for option in ("--no-preserve", "--no-preserve=ownership", "--chown=1000:1000"):
        user.sh("rm -rf /tmp/copy/tree")
        quiet = ends.cluster.copy(ends.version, option, *words).complete()
        assert "owners" not in quiet.stderr
    user.sh("rm -rf /tmp/copy/tree")
    setuid = ends.cluster.copy(ends.version, "--preserve", *words).complete()
    assert "setuid and setgid, where the tar there keeps them, are those of 1000" in setuid.stderr


def test_an_owner_that_cannot_be_given_is_an_error(ends: Ends, user: TestPod) -> None:
    words = (f"{ends.source.name}:/data/tree", "user-0:/tmp/copy")
    result = ends.cluster.copy(ends.version, "--chown=0:1000", *words)
    result.failed(1, "--chown asks for another owner", "1000:1000", "user-0:/tmp/copy was not")
    assert user.names("/tmp/copy") == []


HIGH = """
    mkdir -p /data/high/secret; cd /data/high
    echo a >fits; chown 16777215:16777215 fits
    echo b >secret/root; chown 16777216:0 secret/root
"""
"""What busybox' tar would give to root."""


@pytest.mark.usefixtures("user")
def test_an_owner_that_busybox_cannot_say_is_never_another(ends: Ends) -> None:
    """The other tars say it; and where nobody is given anything it does not matter."""
    ends.source.sh(HIGH)
    result = ends.copy(what="high")
    if ends.tar == "busybox":
        words = ("'high/secret/root' belongs to 16777216:0", "--no-preserve=ownership")
        result.failed(1, *words, f"{ends.target.name}:/srv was not changed")
        assert ends.target.names("/srv") == []
    else:
        result.complete()
        assert ends.came("high").entries == ends.sent("high").entries
    into = "user-0:/tmp/copy"
    ends.cluster.copy(ends.version, f"{ends.source.name}:/data/high", into).complete()
    for options in (
        ("--no-preserve=ownership",),
        ("--chown=1:2",),
        ("--exclude=secret",),
        ("--exclude=secret", "--update"),
    ):
        ends.copy(*options, what="high").complete()
    ends.copy(what="high/fits").complete()
    assert ends.target.sh("stat -c %u:%g /srv/fits").strip() == b"16777215:16777215"


# --- other directions, and other tries ---------------------------------------------------------


@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_this_machine_is_an_end_like_another(ends: Ends, tmp_path: Path, up: bool) -> None:
    options = ("-L", "--chmod=u+rwX,go=", "--no-preserve=ownership")
    if up:
        here: Place = ThisMachine()
        here.sh(f"cd {tmp_path}; mkdir tree; echo x >tree/x; ln -s x tree/link")
        ends.cluster.copy(ends.version, *options, str(tmp_path / "tree"), f"{ends.tar}-1:/srv")
        came = ends.came()
    else:
        ends.cluster.copy(ends.version, *options, f"{ends.tar}-0:/data/tree", str(tmp_path))
        came = trees.look(ThisMachine(), str(tmp_path), "tree")
    assert not any(map(is_link, came.entries.values()))
    assert {entry.mode & 0o577 for entry in came.entries.values()} <= {0o500, 0o400, 0o700, 0o600}
    owner = ROOT if up else (os.geteuid(), os.getegid())
    assert {(entry.uid, entry.gid) for entry in came.entries.values()} == {owner}


def test_streams(ends: Ends) -> None:
    """An archive is rewritten in both directions; the contents of a file are what they are."""
    ends.source.sh(LINKS)

    def run(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        argv = ends.cluster.argv(ends.version, *words)
        return subprocess.run(argv, input=stdin, capture_output=True, timeout=120, check=False)

    pod = f"{ends.tar}-0"
    done = run("-L", "--chown=1:2", "--chmod=700", f"{pod}:/data/tree", "-")
    assert done.returncode == 0, done
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        members = tar.getmembers()
    assert {(each.uid, each.gid, each.mode & 0o777) for each in members} == {(1, 2, 0o700)}
    assert "tree/out/deep/far" in {each.name for each in members}
    done = run("--chown=3:4", "-", f"{ends.tar}-1:/srv/new/", stdin=done.stdout)
    assert done.returncode == 0, done
    came = trees.look(ends.target, "/srv", "new").entries
    assert {(entry.uid, entry.gid) for entry in came.values()} == {(3, 4)}
    assert b"tree/out/deep/far" in came
    refused = (
        ("--chmod=600", f"{pod}:/data/tree/run", "-"),
        ("--chown=1", "-", f"{ends.tar}-1:/srv/file"),
        ("-L", "-", f"{ends.tar}-1:/srv/file"),
    )
    for words in refused:
        assert run(*words).returncode == 2, words


def times(directory: Path) -> dict[str, int]:
    """Return the time of all that is in a tree, in nanoseconds."""
    found = [directory, *directory.rglob("*")]
    return {str(each.relative_to(directory)): each.lstat().st_mtime_ns for each in found}


def with_times(directory: Path) -> dict[str, int]:
    """Give all that is in a tree a time of its own, with a fraction; return those."""
    for number, each in enumerate(sorted(directory.rglob("*"), reverse=True), 1):
        time = MTIME * 10**9 + number * 1_000_000_007
        os.utime(each, ns=(time, time), follow_symlinks=False)
    os.utime(directory, ns=(MTIME * 10**9 + 1, MTIME * 10**9 + 1))
    return times(directory)


@pytest.mark.parametrize("option", ["--preserve=timestamps", "--preserve", "--preserve=all"])
@pytest.mark.parametrize("other", ["gnu", "bsdtar"])
def test_fractions_of_times_are_kept_where_both_tars_can(
    ends: Ends, other: str, option: str, tmp_path: Path
) -> None:
    """From here to a Pod, from that to another one, and back."""
    (tmp_path / "tree/d").mkdir(parents=True)
    (tmp_path / "tree/a").write_bytes(b"a" * 1000)
    (tmp_path / "tree" / ("n" * 120)).write_bytes(b"n")
    (tmp_path / "tree/d/link").symlink_to("../a")
    expected = with_times(tmp_path / "tree")
    can = ends.tar in ("gnu", "bsdtar")
    ends.target.fresh("/data")
    there, last = f"{ends.target.name}:/data", f"{other}-0:/srv"
    ends.cluster.pod(f"{other}-0").fresh("/srv")
    for words in (str(tmp_path / "tree"), there), (f"{there}/tree", last), (f"{last}/tree", "back"):
        to = tmp_path / words[1] if words[1] == "back" else words[1]
        result = ends.cluster.copy(ends.version, option, words[0], str(to)).complete()
        knows = can or words[1] == "back"
        assert ("times are kept in whole seconds" in result.stderr) == (not knows)
    came = times(tmp_path / "back")
    if can:
        assert came == expected
    elif ends.tar == "toybox":  # busybox has lost a directory's and a link's time altogether
        assert came == {name: time // 10**9 * 10**9 for name, time in expected.items()}


def test_a_retry_keeps_the_fractions_of_times(ends: Ends, tmp_path: Path) -> None:
    """Of the file in which the first try was broken, too."""
    (tmp_path / "tree").mkdir()
    for number in range(3):
        (tmp_path / f"tree/f{number}").write_bytes(os.urandom(8 << 20))
    expected = with_times(tmp_path / "tree")
    context = f"podcp-{ends.version}"
    with breaking(ends.cluster.kubeconfig, context, tmp_path) as (breaker, kubeconfig):
        through = replace(ends.cluster, kubeconfig=kubeconfig)
        words = ("--preserve=timestamps", str(tmp_path / "tree"), f"{ends.target.name}:/srv")
        cuts = breaker.on_passing = Cuts(12 << 20)
        through.copy(ends.version, *words).complete()
        assert cuts.made == 1
        words = ("--preserve=timestamps", f"{ends.target.name}:/srv/tree", str(tmp_path / "back"))
        through.copy(ends.version, *words).complete()
    fine = ends.tar in ("gnu", "bsdtar")
    came = times(tmp_path / "back")
    for name in ("f0", "f1", "f2"):
        assert came[name] == (expected[name] if fine else expected[name] // 10**9 * 10**9)


@pytest.mark.parametrize("options", [("--chmod=600", "--chown=5:6"), ("--no-preserve=timestamps",)])
def test_a_copy_that_is_broken_goes_on_with_what_was_asked_for(
    ends: Ends, options: tuple[str, ...], tmp_path: Path
) -> None:
    """Where times are not kept, by which it is known what is whole, it begins anew."""
    ends.source.sh(
        "rm -r /data/tree; mkdir /data/tree; cd /data/tree; for n in 1 2 3 4 5 6; do "
        f"dd if=/dev/urandom of=f$n bs=1M count=8 2>/dev/null; done; touch -d @{MTIME} * ."
    )
    context = f"podcp-{ends.version}"
    with breaking(ends.cluster.kubeconfig, context, tmp_path) as (breaker, kubeconfig):
        cuts = breaker.on_passing = Cuts(12 << 20)
        ends.cluster = replace(ends.cluster, kubeconfig=kubeconfig)
        result = ends.copy("--retries", "3", *options).complete()
    assert cuts.made == 1
    kept = "--no-preserve=timestamps" not in options
    assert ("begins anew" in result.stderr) == (not kept)
    sent, came = ends.sent(), ends.came()
    assert [entry.content for entry in came.entries.values()] == [
        sent.entries[name].content for name in came.entries
    ]
    if kept:
        ends.expect(lambda entry: replace(entry, mode=0o600, uid=5, gid=6))
    else:
        assert {entry.mtime for entry in came.entries.values() if not is_directory(entry)} != {
            MTIME
        }
