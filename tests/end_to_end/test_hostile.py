"""A source that is not trusted: what its tar writes reaches neither the tree nor the terminal.

The source's ``tar`` is a script that writes an archive made here, or says what it likes on stderr.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.end_to_end.conftest import TARS, ClusterUnderTest, Copied
from tests.end_to_end.pods import TestPod, wait_until
from tests.end_to_end.test_formats import wrapped
from tests.unit.hostile import ESCAPES, PRINTED, TOP, hostile_members
from tests.unit.tar_blocks import END, header, member

REAL = '"$(PATH=/usr/bin:/bin command -v tar)"'
WRITES = f"""#!/bin/sh
case $1 in --version) exec {REAL} "$@" ;; esac
cat /hostile/archive
"""
BAR = re.compile(r"\r\x1b\[J")
"""What the bar and the notices write: to the line's start, and it and all below is empty."""

GOOD = header(TOP + b"/", b"5", mode=b"0000755\0") + member(TOP + b"/good", b"good")


@pytest.fixture
def source(cluster: ClusterUnderTest) -> TestPod:
    """A Pod whose ``tar`` is to be replaced, with a small tree."""
    pod = cluster.pod("gnu-0")
    pod.fresh("/hostile")
    pod.sh(f"mkdir /hostile/{TOP.decode()}; echo good >/hostile/{TOP.decode()}/good")
    return pod


@pytest.fixture(params=TARS)
def destination(request: pytest.FixtureRequest, cluster: ClusterUnderTest) -> Iterator[TestPod]:
    """A Pod of each userland: an empty directory, and a victim beside it."""
    pod = cluster.pod(f"{request.param}-1")
    pod.fresh("/srv", "/outside")
    pod.sh("echo victim >/outside/victim; echo victim >/victim; mkdir /srv/in")
    yield pod
    assert pod.names("/srv") == ["in"]
    assert pod.names("/outside") == ["victim"]
    assert pod.sh("cat /outside/victim /victim; stat -c %h /outside/victim /victim") == (
        b"victim\nvictim\n1\n1\n"
    )
    assert pod.ours() == []


def harmless(done: Copied) -> Copied:
    """Check that a terminal would take nothing of what was printed for a command."""
    assert [each for each in done.stderr if each != "\n" and not each.isprintable()] == []
    return done


MEMBERS = (
    "absolute file by gnu",
    "up file by L",
    "out directory by x",
    "other symlink by ustar",
    "out hard link by prefix",
    "absolute character device by x",
    "hard link to absolute by ustar",
    "hard link to up by L",
    "hard link to out by x",
    "file through a symlink by gnu",
    "directory through a symlink by L",
    "hard link through a symlink by x",
    "file through a hard link to a symlink",
    "5 in a symlink's place",
    "global path",
    "b'0' with a slash and a body",
    "1 with a body",
    "5 with a body by x",
    "type V",
    "x then L",
    "path twice",
    "a prefix in a GNU header",
    "an impossible size",
    "a sparse map that lies",
    "a pax header of 4 GiB",
    "a wrong checksum",
)
"""Each kind, type and dialect; tests/unit/test_archive_hostile.py has all their products."""


@pytest.mark.parametrize("name", MEMBERS)
def test_a_hostile_member(
    cluster: ClusterUnderTest, source: TestPod, destination: TestPod, name: str
) -> None:
    hostile = hostile_members()[name]
    archive = GOOD + hostile.before + hostile.archive + member(TOP + b"/more")
    # Not cat alone: the shell would become it, and a server ends stdin together with stdout.
    source.sh("cat >/hostile/archive; :", archive + END)
    with wrapped(source, WRITES):
        path = f"gnu-0:/hostile/{TOP.decode()}"
        done = cluster.copy("v5", "-c", "main", path, f"{destination.name}:/srv/in")
    harmless(done).failed(1, hostile.why, hostile.printed, "was not changed")
    assert destination.names("/srv/in") == [], done


ATTEMPTS = f"""#!/bin/sh
case $* in
  --version) exec {REAL} "$@" ;;
  *--no-recursion*) exit 1 ;;
esac
if [ -e /hostile/tried ]; then exec cat /hostile/second; fi
cat /hostile/first
touch /hostile/tried
while [ -e /hostile/wait ]; do sleep 0.1; done
"""
SIZE = 1 << 20
THROUGH = {
    "a file below": member(TOP + b"/link/new", b"new"),
    "a directory in its place": header(TOP + b"/link/", b"5", mode=b"0000700\0"),
    "a hard link to what it leads to": header(TOP + b"/x", b"1", linkname=TOP + b"/link/victim"),
}


@pytest.mark.parametrize("second", THROUGH.values(), ids=THROUGH)
def test_a_symlink_that_an_earlier_attempt_left(
    cluster: ClusterUnderTest, source: TestPod, destination: TestPod, second: bytes
) -> None:
    """It is no way for the next archive, of which nobody sees that it leads through a symlink."""
    top = TOP.decode()
    source.sh(
        f"cd /hostile/{top}; ln -s /outside link; head -c {SIZE} /dev/zero | tr '\\0' x >part;"
        "touch -h -d @1610612736 link part; chmod 644 part"
    )
    first = GOOD + header(TOP + b"/link", b"2", linkname=b"/outside")
    first += member(TOP + b"/part", b"x" * SIZE)[: -SIZE // 4]
    source.sh("cat >/hostile/first; touch /hostile/wait", first)
    source.sh("cat >/hostile/second; :", GOOD + second + END)
    with wrapped(source, ATTEMPTS):
        path = f"gnu-0:/hostile/{top}"
        options = ("-c", "main", "--retries", "1")
        with cluster.start("v5", *options, path, f"{destination.name}:/srv/in") as process:
            stored = f"cat /srv/in/.podcp-*/{top}/part 2>/dev/null | wc -c"
            wait_until(lambda: int(destination.sh(stored)) > SIZE // 2, 20, "nothing is staged")
            source.sh("rm /hostile/wait")
            stdout, stderr = process.communicate(timeout=60)
        done = harmless(Copied(process.returncode, stdout, stderr))
    assert "trying again" in done.stderr
    assert "begins anew" not in done.stderr
    assert done.code in (0, 1)  # what went on may be a whole tree, which then stands in its place


SAYS = f"""#!/bin/sh
case $1 in --version) exec {REAL} "$@" ;; esac
printf 'tar: {ESCAPES} said\\n' >&2
"""
SOURCE_SAYS = SAYS + f'{REAL} "$@"; while [ -e /hostile/wait ]; do sleep 0.1; done; exit 2\n'
DESTINATION_SAYS = SAYS + "exit 1\n"
"""Its archive is read to the end by the shell around it."""
SAID = PRINTED.removesuffix(r"\x0d") + "\n   said\n"


def test_what_the_source_says(cluster: ClusterUnderTest, source: TestPod) -> None:
    cluster.pod("gnu-1").fresh("/srv")
    with wrapped(source, SOURCE_SAYS):
        done = harmless(cluster.copy("v5", "-c", "main", "gnu-0:/hostile/top", "gnu-1:/srv"))
    assert done.code == 3
    assert SAID in done.stderr


@pytest.mark.usefixtures("source")
def test_what_the_destination_says(cluster: ClusterUnderTest) -> None:
    destination = cluster.pod("gnu-1")
    destination.fresh("/srv")
    with wrapped(destination, DESTINATION_SAYS):
        done = cluster.copy("v5", "-c", "main", "gnu-0:/hostile/top", "gnu-1:/srv")
    harmless(done).failed(1, SAID, "was not changed")


def test_on_a_terminal(cluster: ClusterUnderTest, source: TestPod) -> None:
    """With the bar on, whose own sequences are the only ones; device and setuid are noticed."""
    cluster.pod("gnu-1").fresh("/srv")
    name = f"$(printf '{ESCAPES}')"
    source.sh(
        f'cd /hostile/top; mknod "{name}" c 1 3; echo x >"{name}su"; chmod 4755 "{name}su";'
        "touch /hostile/wait"
    )
    with wrapped(source, SOURCE_SAYS):
        printed = on_a_terminal(
            cluster.argv("v5", "-c", "main", "gnu-0:/hostile/top", "gnu-1:/srv"),
            r"\d [KM]?i?B/s",
            lambda: source.sh("rm /hostile/wait"),
        )
    assert BAR.search(printed)
    rest = BAR.sub("", printed).replace("\r\n", "\n")
    assert [each for each in rest if each != "\n" and not each.isprintable()] == []
    for words in (SAID, f"{PRINTED}: left out, it is a device", "without setuid", "partial: "):
        assert words in rest


def on_a_terminal(argv: list[str], sight: str, then: Callable[[], object]) -> str:
    """Run a command on a terminal; do ``then`` at the ``sight``; return all that it printed."""
    master, slave = pty.openpty()
    try:
        process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave)
    finally:
        os.close(slave)
    printed, seen = b"", False
    with process, os.fdopen(master, "rb", buffering=0) as terminal:
        with suppress(OSError):  # EIO: the last one that had it open has ended
            while data := terminal.read(4096):
                printed += data
                if not seen and re.search(sight, printed.decode("utf-8", "surrogateescape")):
                    seen = True
                    then()
        process.wait(60)
    assert seen, printed
    return printed.decode("utf-8", "surrogateescape")
