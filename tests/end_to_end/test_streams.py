"""``-``: this machine's stdin and stdout, with the same proof as a copy to a place."""

from __future__ import annotations

import hashlib
import io
import os
import pty
import random
import signal
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.end_to_end import fidelity, trees
from tests.end_to_end.breaker import Breaker, Link, breaking
from tests.end_to_end.conftest import ClusterUnderTest, Copied
from tests.end_to_end.pods import TestPod, wait_until
from tests.unit.hostile import TOP, hostile_members
from tests.unit.tar_blocks import END, header, member

LARGE = 64 << 20
USERLANDS = [
    ("gnu", "v5"),
    ("gnu", "v4"),
    ("busybox", "v5"),
    ("busybox", "v4"),
    ("bsdtar", "v5"),
    ("toybox", "v5"),
]
"""The scripts differ by userland, what carries them by protocol."""


@pytest.fixture(params=USERLANDS, ids="-".join)
def where(request: pytest.FixtureRequest, cluster: ClusterUnderTest) -> tuple[TestPod, str]:
    """A Pod with nothing in /data and /srv, and a protocol."""
    tar, version = request.param
    pod = cluster.pod(f"{tar}-1")
    pod.fresh("/data", "/srv")
    return pod, version


def run(
    cluster: ClusterUnderTest,
    version: str,
    *arguments: str,
    stdin: bytes | None = None,
    stdout: int | IO[bytes] = subprocess.PIPE,
) -> tuple[bytes, Copied]:
    """Run the product; return what it wrote to stdout, and how it ended."""
    argv = cluster.argv(version, *arguments)
    done = subprocess.run(
        argv, input=stdin, stdout=stdout, stderr=subprocess.PIPE, timeout=120, check=False
    )
    stderr = done.stderr.decode("utf-8", "replace")
    return done.stdout or b"", Copied(done.returncode, "", stderr)


def put_file(pod: TestPod, size: int) -> None:
    """Make /data/file of random bytes."""
    pod.sh(f"head -c {size} /dev/urandom >/data/file")


def size_for(pod: TestPod, version: str) -> int:
    """Large where the tar is what most have, else enough for several messages and chunks."""
    return LARGE if (pod.name, version) == ("gnu-1", "v5") else 5_000_001


# --- to stdout --------------------------------------------------------------------------------


def test_a_file_to_stdout(cluster: ClusterUnderTest, where: tuple[TestPod, str]) -> None:
    pod, version = where
    put_file(pod, size_for(pod, version))
    pod.sh("ln -s file /data/link")
    written, done = run(cluster, version, f"{pod.name}:/data/link", "-")
    done.complete()
    assert hashlib.sha256(written).hexdigest() == pod.sha256("/data/file")
    assert pod.ours() == []


def test_a_directory_to_stdout(cluster: ClusterUnderTest, where: tuple[TestPod, str]) -> None:
    pod, version = where
    trees.put_big_tree(pod, "/data", "tree", files=300)
    if size_for(pod, version) == LARGE:
        pod.sh(f"head -c {LARGE} /dev/urandom >/data/tree/large")
    written, done = run(cluster, version, "-q", f"{pod.name}:/data/tree", "-")
    assert (done.code, done.stderr) == (0, "")
    sent, came = trees.look(pod, "/data", "tree"), trees.read(written, "tree")
    assert came == sent
    assert b".podcp-" not in written
    assert len(written) % 10240 == 0
    assert written.endswith(bytes(1024))


@pytest.mark.parametrize("content", ["", "x"])
def test_a_short_file_to_stdout(cluster: ClusterUnderTest, content: str) -> None:
    pod = cluster.pod("gnu-1")
    pod.fresh("/data")
    pod.sh(f"printf %s '{content}' >/data/file")
    written, done = run(cluster, "v5", "gnu-1:/data/file", "-")
    done.complete()
    assert written == content.encode()


def test_nobody_reads_any_more(cluster: ClusterUnderTest) -> None:
    """As psql that stops at an error."""
    pod = cluster.pod("gnu-1")
    pod.fresh("/data")
    put_file(pod, LARGE)
    argv = cluster.argv("v5", "gnu-1:/data/file", "-")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert len(process.stdout.read(100_000)) == 100_000
        process.stdout.close()
        said = process.stderr.read().decode()
    assert process.returncode == 128 + signal.SIGPIPE, said
    assert "bytes were written to standard output, and that is not all" in said
    wait_until(lambda: not pod.ours(), 10, "a process is left in the Pod")


def test_stdout_is_full(cluster: ClusterUnderTest) -> None:
    cluster.pod("gnu-1").sh("mkdir -p /data; echo x >/data/file")
    with Path("/dev/full").open("wb") as full:
        _, done = run(cluster, "v5", "gnu-1:/data/file", "-", stdout=full)
    done.failed(1, "standard output cannot be written: No space left", "nothing was written")


def test_stdout_is_a_terminal(cluster: ClusterUnderTest) -> None:
    master, slave = pty.openpty()
    try:
        with os.fdopen(slave, "wb") as terminal:
            _, done = run(cluster, "v5", "gnu-1:/etc/passwd", "-", stdout=terminal)
    finally:
        os.close(master)
    done.failed(2, "standard output is a terminal", "redirect it")


class Cut:
    """Break the connection once so many bytes came down, and let nobody in until told."""

    def __init__(self, at: int) -> None:
        self._at = at
        self.made = threading.Event()

    def __call__(self, breaker: Breaker, link: Link) -> None:
        if breaker.down >= self._at and not self.made.is_set():
            breaker.refuses.set()
            self.made.set()
            link.reset()


@contextmanager
def broken(
    cluster: ClusterUnderTest,
    place: Path,
    path: str,
    meanwhile: Callable[[], object],
    *options: str,
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a copy to stdout whose connection breaks once; do something before it is tried again.

    Retries that find nobody listening meanwhile are tried again, too.
    """
    cut = Cut(random.Random(17).randrange(2 << 20, 16 << 20))
    with breaking(cluster.kubeconfig, "podcp-v5", place) as (breaker, kubeconfig):
        breaker.on_passing = cut
        through = ClusterUnderTest(kubeconfig, cluster.is_real, command=cluster.command)
        argv = through.argv("v5", "--retries", "4", *options, path, "-")
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdout=pipe, stderr=pipe) as process:

            def wait() -> None:
                if cut.made.wait(60):
                    meanwhile()
                    breaker.refuses.clear()

            waiting = threading.Thread(target=wait)
            waiting.start()
            yield process
            waiting.join()
    assert cut.made.is_set(), "nothing was broken"


@pytest.mark.parametrize("what", ["file", "tree"])
def test_a_broken_connection(cluster: ClusterUnderTest, tmp_path: Path, what: str) -> None:
    """What was written is not written again."""
    pod = cluster.pod("gnu-1")
    pod.fresh("/data")
    trees.put_big_tree(pod, "/data", "tree", files=100)
    pod.sh(f"head -c {LARGE // 2} /dev/urandom >/data/tree/large; cp /data/tree/large /data/file")
    with broken(cluster, tmp_path, f"gnu-1:/data/{what}", lambda: None) as process:
        written, stderr = process.communicate(timeout=120)
    done = Copied(process.returncode, "", stderr.decode()).complete()
    assert "after 1 retry" in done.stderr or "retries" in done.stderr
    if what == "file":
        assert hashlib.sha256(written).hexdigest() == pod.sha256("/data/file")
    else:
        assert trees.read(written, "tree") == trees.look(pod, "/data", "tree")


def test_a_broken_connection_where_times_are_not_kept(
    cluster: ClusterUnderTest, tmp_path: Path
) -> None:
    """Each try writes the time at which the copy began, and not its own."""
    pod = cluster.pod("gnu-1")
    pod.fresh("/data/tree")
    pod.sh(f"head -c {LARGE // 2} /dev/urandom >/data/tree/large")
    words = ("gnu-1:/data/tree", lambda: time.sleep(1.1), "--no-preserve=timestamps")
    with broken(cluster, tmp_path, *words) as process:
        written, stderr = process.communicate(timeout=120)
    Copied(process.returncode, "", stderr.decode()).complete()
    with tarfile.open(fileobj=io.BytesIO(written)) as tar:
        assert len({each.mtime for each in tar}) == 1


def test_a_source_that_is_another_by_then(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    pod = cluster.pod("gnu-1")
    pod.fresh("/data")
    put_file(pod, LARGE // 2)

    def change() -> None:
        pod.sh("printf x | dd of=/data/file bs=1 seek=100000 conv=notrunc 2>/dev/null")

    with broken(cluster, tmp_path, "gnu-1:/data/file", change) as process:
        written, stderr = process.communicate(timeout=120)
    done = Copied(process.returncode, "", stderr.decode())
    done.failed(1, "the source has changed", f"{len(written):,} bytes were written")


# --- from stdin -------------------------------------------------------------------------------


def test_stdin_becomes_a_file(cluster: ClusterUnderTest, where: tuple[TestPod, str]) -> None:
    """One that is there is replaced when all has come, and keeps its mode."""
    pod, version = where
    pod.sh("echo old >/srv/file; chmod 640 /srv/file")
    content = random.Random(1).randbytes(size_for(pod, version))
    _, done = run(cluster, version, "-", f"{pod.name}:/srv/file", stdin=content)
    done.complete()
    assert pod.sha256("/srv/file") == hashlib.sha256(content).hexdigest()
    assert pod.sh("stat -c '%a %u' /srv/file") == b"640 0\n"
    assert pod.names("/srv") == ["file"]
    assert pod.ours() == []


@pytest.mark.parametrize(
    ("version", "content"),
    [("v5", b""), ("v4", b""), ("v5", b"\0" * 100), ("v4", bytes(1 << 20))],
    ids=["v5-nothing", "v4-nothing", "v5-zeros", "v4-a chunk"],
)
def test_a_short_stdin(cluster: ClusterUnderTest, version: str, content: bytes) -> None:
    pod = cluster.pod("busybox-1")
    pod.fresh("/srv")
    _, done = run(cluster, version, "--verify", "-", "busybox-1:/srv/-new", stdin=content)
    assert not content or "sha256 verified" in done.complete().stderr
    assert pod.sh("cat /srv/-new") == content
    assert pod.sh("stat -c %a /srv/-new") == b"644\n"


def test_toybox_cannot_tell_the_end_of_a_file_on_v4(cluster: ClusterUnderTest) -> None:
    pod = cluster.pod("toybox-1")
    pod.fresh("/srv")
    _, done = run(cluster, "v4", "-", "toybox-1:/srv/file", stdin=b"x")
    done.failed(1, "no dd with iflag=fullblock", "was not changed")
    assert pod.names("/srv") == []


def test_an_archive_on_stdin(cluster: ClusterUnderTest, where: tuple[TestPod, str]) -> None:
    """Its own names, below the directory; what is there already stays."""
    pod, version = where
    pod.sh("mkdir /srv/tree; echo old >/srv/tree/old; chmod 700 /srv")
    trees.put_big_tree(pod, "/data", "tree", files=300)
    archive = pod.sh("cd /data; tar cf - tree")
    _, done = run(cluster, version, "-", f"{pod.name}:/srv", stdin=archive)
    done.complete()
    tar = pod.name.removesuffix("-1")
    sent = fidelity.comparable(trees.read(archive, "tree"), tar)
    came = fidelity.comparable(trees.look(pod, "/srv", "tree"), tar)
    old = came.entries.pop(b"old")
    assert old.content == hashlib.sha256(b"old\n").hexdigest()
    assert came.links == sent.links
    assert [name for name in sent.entries if came.entries.get(name) != sent.entries[name]] == []
    assert came.entries.keys() == sent.entries.keys()
    assert pod.names("/srv") == ["tree"]
    assert pod.sh("stat -c %a /srv") == b"700\n"
    assert pod.ours() == []


def test_a_directory_that_is_named_behind_its_contents(
    cluster: ClusterUnderTest, where: tuple[TestPod, str]
) -> None:
    """docs/tars.md says which tars give it the time that the archive says."""
    pod, version = where
    archive = member(b"tree/file") + header(b"tree/", b"5", mtime=b"00000001750\0") + END
    _, done = run(cluster, version, "-", f"{pod.name}:/srv", stdin=archive)
    done.complete()
    as_said = pod.name.startswith(("gnu", "busybox"))
    assert (pod.sh("stat -c %Y /srv/tree") == b"1000\n") == as_said


def test_an_archive_of_a_directorys_contents(
    cluster: ClusterUnderTest, where: tuple[TestPod, str]
) -> None:
    """As ``tar c .`` makes it; and one that names no directories, which get no mode too many."""
    pod, version = where
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(trees.member(b"./", tarfile.DIRTYPE, mode=0o750))
        tar.addfile(trees.member(b"./a", size=1), io.BytesIO(b"a"))
        tar.addfile(trees.member(b"deep/er/b", size=1), io.BytesIO(b"b"))
        tar.addfile(trees.member(b"c", tarfile.LNKTYPE, linkname="./a"))
    archive = packed.getvalue()
    for destination in ("/srv", "/srv/new/"):  # a free name becomes a directory
        run(cluster, version, "-", f"{pod.name}:{destination}", stdin=archive)[1].complete()
    found = (
        "find . ! -path './new/*' | sort; cat a deep/er/b; stat -c %a deep deep/er; stat -c %h c"
    )
    there = b".\n./a\n./c\n./deep\n./deep/er\n./deep/er/b\n%bab755\n755\n2\n"
    assert pod.sh(f"cd /srv; {found}") == there % b"./new\n"
    assert pod.sh(f"cd /srv/new; {found}; stat -c %a .") == there % b"" + b"750\n"


@pytest.mark.parametrize(
    ("stdin", "words"),
    [
        (b"", "standard input is empty"),
        (b"no archive" * 1000, "standard input is not a tar archive"),
        (member(b"a", b"x" * 5000)[:2000], "standard input ends after 2,000 bytes"),
        (member(b"a", b"x"), "standard input ends after 1,024 bytes"),
        (member(b"a", b"x") + END + b"more", "standard input is not a tar archive"),
    ],
)
def test_no_archive_on_stdin(cluster: ClusterUnderTest, stdin: bytes, words: str) -> None:
    pod = cluster.pod("gnu-1")
    pod.fresh("/srv")
    _, done = run(cluster, "v5", "-", "gnu-1:/srv", stdin=stdin)
    done.failed(1, words, "was not changed")
    assert pod.names("/srv") == []


@pytest.mark.parametrize(
    "name",
    [
        "absolute file by gnu",
        "up file by L",
        "hard link to absolute by ustar",
        "file through a symlink by gnu",
        "file through a hard link to a symlink",
        "a wrong checksum",
    ],
)
def test_a_hostile_archive_on_stdin(cluster: ClusterUnderTest, name: str) -> None:
    pod = cluster.pod("toybox-1")  # which makes hard links to whatever it is told
    pod.fresh("/srv", "/outside")
    pod.sh("echo victim >/outside/victim; echo victim >/victim; mkdir /srv/in")
    hostile = hostile_members()[name]
    good = header(TOP + b"/", b"5", mode=b"0000755\0") + member(TOP + b"/good", b"good")
    stdin = good + hostile.before + hostile.archive + member(TOP + b"/more") + END
    _, done = run(cluster, "v5", "-", "toybox-1:/srv/in", stdin=stdin)
    done.failed(1, hostile.why, hostile.printed, "was not changed")
    assert [each for each in done.stderr if each != "\n" and not each.isprintable()] == []
    assert pod.names("/srv/in") == []
    assert pod.names("/outside") == ["victim"]
    assert pod.sh("cat /outside/victim /victim; stat -c %h /outside/victim /victim") == (
        b"victim\nvictim\n1\n1\n"
    )


def test_two_archives_cannot_write_through_a_symlink(cluster: ClusterUnderTest) -> None:
    """One that stands there already is replaced, or in the way; nobody follows it."""
    pod = cluster.pod("gnu-1")
    pod.fresh("/srv", "/outside")
    pod.sh("ln -s /outside /srv/link")
    stdin = member(b"link/new", b"new") + END
    run(cluster, "v5", "-", "gnu-1:/srv", stdin=stdin)
    assert pod.names("/outside") == []


@pytest.mark.parametrize("path", ["/srv/file", "/srv"])
def test_ctrl_c_while_stdin_gives_nothing(cluster: ClusterUnderTest, path: str) -> None:
    pod = cluster.pod("gnu-1")
    pod.fresh("/srv")
    pipe = subprocess.PIPE
    argv = cluster.argv("v5", "-", f"gnu-1:{path}")
    with subprocess.Popen(argv, stdin=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(header(b"a", b"0", 1000))
        process.stdin.flush()
        wait_until(lambda: any(".podcp" in name for name in pod.names("/srv")), 20, "no staging")
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().decode()
    assert process.returncode == 130, said
    wait_until(lambda: not pod.ours(), 10, "a process is left in the Pod")
    assert pod.names("/srv") == []


# --- what makes no sense ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-", "-"], "neither - nor - is in a Pod"),
        (["-", "./x"], "neither - nor ./x is in a Pod"),
        (["--update", "-", "gnu-1:/x"], "--update means nothing for standard input"),
        (["--partial", "gnu-1:/x", "-"], "--partial means nothing for standard output"),
        (["--verify", "gnu-1:/x", "-"], "--verify means nothing for standard output"),
    ],
)
def test_what_cannot_be_meant(cluster: ClusterUnderTest, arguments: list[str], words: str) -> None:
    _, done = run(cluster, "v5", *arguments, stdin=b"")
    done.failed(2, words)
