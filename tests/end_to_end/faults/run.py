"""One copy that meets one fault: arranged, run, and judged by what is at both ends afterwards.

In: a cluster, a protocol, two Pods, and what breaks the copy. Out: a :class:`Result`, of which all
that must hold for any fault has been checked: ``complete`` was said only where the trees are equal,
a failure left the old content alone, and nothing of ours is left anywhere. Any thread may run one;
each has folders of its own.
"""

from __future__ import annotations

import random
import re
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from tests import one_file
from tests.end_to_end import fidelity, trees
from tests.end_to_end.breaker import Breaker, Link, breaking
from tests.end_to_end.conftest import ClusterUnderTest
from tests.end_to_end.pods import TestPod, wait_until
from tests.end_to_end.test_bounds import MEMORY, high_water

BASE = "/tmp/faults"
BOUND = 200.0
"""Seconds after which a copy hangs, whatever the fault."""

BUFFER = 64 << 10
SOME = 256 << 10
"""Bytes after which a copy is in its middle: much less than all, and more than any look costs."""

STAGING = ".podcp-"
STAGED = (b"", b"tree")
"""Where a staging folder stands for a while, by names below the destination."""

UNKNOWN = "is not known"
AGAIN = re.compile(r"; trying again in [\d.]+ s \(\d+ of \d+\)$", re.MULTILINE)


def size_of_big(is_real: bool) -> int:
    """Return the bytes of the big file: more than all buffers between two tars hold."""
    return (32 if is_real else 8) << 20


@dataclass(frozen=True)
class Result:
    """How a copy ended that met a fault.

    :ivar again: how often it was tried again.
    :ivar left: what is on the destination: ``old``, ``new``, ``partial``, or ``either``, where
        the user was told that nobody knows.
    """

    code: int
    stderr: str
    again: int
    left: str


Cause = Callable[["Run"], AbstractContextManager[object]]
"""Brings a fault about while it is entered; the run is arranged inside of it."""


class Run:
    """One copy. The causes of faults use what is public here.

    :ivar place: the directory to which is copied.
    :ivar data: the directory in which the source's tree is made.
    :ivar source_path: what is copied.
    :ivar options: further options of the command.
    :ivar is_changed: whether the fault changes the source, so that a retry may find another one.
    :ivar is_wiped: whether the fault takes all that the destination had.
    :ivar is_foreign: whether the destination is none that we may fill.
    :ivar through: the kubeconfig that the command gets.
    :ivar is_orphaned: whether the fault keeps what runs in the Pods from ever hearing of the end.
    :ivar target: the destination's path, where that is not ``place``.
    :ivar at_end: what is to be done when all has been judged.
    :ivar arranged: called when all is arranged, before the copy starts.
    """

    def __init__(
        self,
        cluster: ClusterUnderTest,
        version: str,
        identity: str,
        source: TestPod,
        destination: TestPod,
        scratch: Path,
    ) -> None:
        self.cluster = cluster
        self.version = version
        self.base = f"{BASE}/{identity}"
        self.source = source
        self.destination = destination
        self.scratch = scratch
        self.place = f"{self.base}/srv"
        self.data = f"{self.base}/data"
        self.source_path = f"{self.data}/tree"
        self.options: tuple[str, ...] = ()
        self.is_changed = self.is_wiped = self.is_foreign = self.is_orphaned = False
        self.arranged: Callable[[], object] = lambda: None
        self.at_end = ExitStack()
        self.target = ""
        self.through: Path
        self.secrets = _tokens(cluster.kubeconfig)
        self.breaker: Breaker
        self._errors: list[BaseException] = []

    @property
    def name(self) -> str:
        """What is copied, by its name."""
        return self.source_path.rpartition("/")[2]

    # What causes of faults call.

    @contextmanager
    def once(
        self, do: Callable[[Link], object], *, down: int = 0, up: int = 0
    ) -> Iterator[threading.Event]:
        """Do something once, when so many bytes have passed on one connection.

        Nothing passes meanwhile. The source's session is the one on which many bytes come down,
        the destination's that on which many go up. It must have come to that before the end.
        """
        begun = threading.Event()

        def passing(_: Breaker, link: Link) -> None:
            if not begun.is_set() and link.down >= down and link.up >= up:
                begun.set()
                try:
                    do(link)
                except BaseException as error:
                    self._errors.append(error)

        self.breaker.on_passing = passing
        yield begun
        assert begun.is_set(), "the copy ended before the fault"

    def signal_tar(self, pod: TestPod, signal: str) -> None:
        """Send a signal to each tar of this copy in a Pod; there must be one."""
        script = (
            f'{self._each_process()} [ "$(cat $p/comm)" = tar ] || continue; kill -{signal} '
            "${p#/proc/}; echo $p; done"
        )
        # It may have to be started yet: bytes are on their way before it is.
        wait_until(lambda: pod.sh(script) != b"", 10, f"no tar runs in {pod.name}")

    def meant(self, word: str) -> Callable[[object], bool]:
        """Return whether a command line is that of this copy and has ``word`` in it."""
        return lambda command: word in str(command) and self.base in str(command)

    # Arranging, running, judging.

    def arrange(self) -> None:
        """Make the tree to copy, and something older where it goes."""
        chance = random.Random(1)
        size = size_of_big(self.cluster.is_real)
        self.source.unpack(_tree(chance, size), self.data)
        if self.is_foreign:
            return
        self.destination.sh(
            f"mkdir -p {self.place}/tree; cd {self.place}; echo old >big; cd tree; "
            "echo old >f1; echo older >kept; ln -s kept f2; chmod 640 f1"
        )

    def carry_out(self, cause: Cause, retries: int) -> Result:
        """Run the command, and the fault with it; return how that ended, checked."""
        self.clean()  # of what a run left that was killed
        context = f"podcp-{self.version}"
        network = breaking(self.cluster.kubeconfig, context, self.scratch, BUFFER)
        with self.at_end:
            with network as (self.breaker, self.through), cause(self):
                self.arrange()
                before, sent = self._there(), self._sent()
                self.arranged()
                code, stderr = self._copy(retries)
            # Now the network has given up all connections, those in a black hole too.
            if self._errors:
                raise self._errors[0]
            left = self._judge(code, stderr, self._kept(before), sent)
            self._leaves_nothing()
        self._says_nothing_raw(stderr)
        return Result(code, stderr, len(AGAIN.findall(stderr)), left)

    def clean(self) -> None:
        """Remove what was arranged."""
        for pod in (self.source, self.destination):
            pod.sh(f"chmod -R u+rwx {self.base} 2>/dev/null || :; rm -rf {self.base}")

    def _copy(self, retries: int) -> tuple[int, str]:
        """Run the one file to its end, with an eye on its memory."""
        said = self.scratch / "stderr"
        argv = [
            *(*one_file.COMMAND, "--kubeconfig", str(self.through)),
            *("--context", f"podcp-{self.version}", "-c", "main", "--retries", str(retries)),
            *self.options,
            f"{self.source.name}:{self.source_path}",
            f"{self.destination.name}:{self.target or self.place}",
        ]
        resident, end = 0, time.monotonic() + BOUND
        with (
            said.open("wb") as stderr,
            subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr
            ) as process,
        ):
            while process.poll() is None:
                resident = max(resident, high_water(process.pid))
                if time.monotonic() > end:
                    process.kill()
                    raise AssertionError(f"it hangs: {said.read_bytes()!r}")
                time.sleep(0.05)
            assert process.stdout is not None
            assert process.stdout.read() == b""
        assert 0 < resident <= MEMORY, f"{resident} bytes were resident"
        return process.returncode, said.read_text("utf-8", "replace")

    def _judge(self, code: int, stderr: str, before: trees.Tree, sent: list[trees.Tree]) -> str:
        """Check what is on the destination against what was said; return which it is."""
        assert "Traceback" not in stderr and "a bug in" not in stderr, stderr
        said_complete = re.search(r"^complete: ", stderr, re.MULTILINE) is not None
        assert said_complete == (code == 0), (code, stderr)
        if self.is_orphaned:
            return self._judge_orphans(code, stderr, before, sent)
        if code not in (0, 3):
            self._comes_to_rest()
        return self._compare(code, stderr, before, sent)

    def _judge_orphans(
        self, code: int, stderr: str, before: trees.Tree, sent: list[trees.Tree]
    ) -> str:
        """The same where nobody tells the shells that we are gone: what stays must be named."""
        stays = ""
        for pod in (self.source, self.destination):
            if not self._is_at_rest(pod):
                stays = "; processes"
                wait_until(partial(self._has_none_left, pod), 10, f"{pod.name} still runs a copy")
        for name in {name for name in self._names() if name.startswith(STAGING)}:
            assert name in stderr, (name, stderr)
            stays += ", and the folder that is named"
            self.destination.sh(f"rm -rf {self.place}/{name} {self.place}/tree/{name}")
        result = self._compare(code, stderr, before, sent)
        return f"{result}{stays} stay in the Pods" if stays else result

    def _compare(self, code: int, stderr: str, before: trees.Tree, sent: list[trees.Tree]) -> str:
        there = self._there()
        if code == 0:
            now = self._sent_now() if self.is_changed else sent
            if any(self._has(there, before, each) for each in now):
                return "new"
            assert self.is_changed and self._has(there, before, sent[0]), stderr
            return "new, as when tar opened it"
        if code == 3:
            assert self._has_all_but_named(there, sent[0], stderr), stderr
            return "partial"
        if there == before and UNKNOWN not in stderr:
            return "old"
        assert UNKNOWN in stderr, (stderr, sorted(there.entries), sorted(before.entries))
        assert there == before or self._has(there, before, sent[0]), stderr
        return "either"

    def _there(self) -> trees.Tree:
        """Return what the destination has, but for the times of the directories where we stage."""
        if self.is_foreign:
            listing = self.destination.sh(f"ls -lA {self.place}")
            return trees.Tree(dict.fromkeys(listing.splitlines(), _NOTHING), frozenset())
        above, _, top = self.place.rpartition("/")
        tree = trees.look(self.destination, above or "/", top)
        entries = dict(tree.entries)
        entries.update({name: entries[name].without_time() for name in STAGED if name in entries})
        return trees.Tree(entries, tree.links)

    def _kept(self, before: trees.Tree) -> trees.Tree:
        """Return what the fault leaves of what the destination had."""
        if not self.is_wiped:
            return before
        return trees.Tree({b"": before.entries[b""]}, frozenset())

    def _sent(self) -> list[trees.Tree]:
        above, _, top = self.source_path.rpartition("/")
        tree = trees.look(self.source, above, top)
        name = self.name.encode()
        moved = {name + (b"/" + key if key else b""): value for key, value in tree.entries.items()}
        links = frozenset(frozenset(name + b"/" + each for each in group) for group in tree.links)
        return [trees.Tree(moved, links)]

    def _sent_now(self) -> list[trees.Tree]:
        exists = f"[ ! -e {self.source_path} ] || echo yes"
        return self._sent() if self.source.sh(exists) else []

    def _has(self, there: trees.Tree, before: trees.Tree, sent: trees.Tree) -> bool:
        """Whether the destination has all that was sent, what else it had, and nothing more."""
        userland = self.destination.name.partition("-")[0]
        wanted, found = (fidelity.comparable(each, userland) for each in (sent, there))
        merged = {**before.entries, **wanted.entries}
        if b"tree" in merged:
            kept = before.entries.get(b"tree", merged[b"tree"])  # a directory that was there stays
            merged[b"tree"] = kept.without_time()
        merged = fidelity.comparable(trees.Tree(merged, frozenset()), userland).entries
        return found.entries == merged and found.links == wanted.links

    def _has_all_but_named(self, there: trees.Tree, sent: trees.Tree, stderr: str) -> bool:
        """Whether each file that is not as it was is named on stderr."""
        userland = self.destination.name.partition("-")[0]
        wanted, found = (fidelity.comparable(each, userland).entries for each in (sent, there))
        unlike = [name for name in wanted if name != b"tree" and found.get(name) != wanted[name]]
        return all(name.decode("ascii").removeprefix("tree/") in stderr for name in unlike)

    # What is left.

    def _each_process(self) -> str:
        """Return the head of a loop over the processes of this copy, ``$p`` in /proc."""
        return (
            "for p in /proc/[0-9]*; do case $(readlink $p/cwd 2>/dev/null || :) in "
            f"{self.base}/*|{self.place}|{self.place}/*) ;; *) continue ;; esac;"
        )

    def _has_none_left(self, pod: TestPod) -> bool:
        """End what still runs; return whether nothing did. A shell goes on when what it waited for
        is ended, and may have begun something else before it is its turn."""
        return pod.sh(f"{self._each_process()} echo $p; kill -9 ${{p#/proc/}} || :; done") == b""

    def _is_at_rest(self, pod: TestPod) -> bool:
        return pod.sh(f"{self._each_process()} echo $p; done") == b""

    def _comes_to_rest(self) -> None:
        """Wait until no staging folder is left: the destination's shell removes its own."""
        wait_until(
            lambda: all(STAGING not in name for name in self._names()), 10, "staging is left"
        )

    def _names(self) -> list[str]:
        script = f"ls -A {self.place} {self.place}/tree 2>/dev/null || :"
        return self.destination.sh(script).decode("utf-8", "replace").splitlines()

    def _leaves_nothing(self) -> None:
        for pod in (self.source, self.destination):
            at_rest = partial(self._is_at_rest, pod)
            wait_until(at_rest, 10, f"{pod.name} still runs a copy")
        self._comes_to_rest()

    def _says_nothing_raw(self, stderr: str) -> None:
        assert all(each.isprintable() or each == "\n" for each in stderr), repr(stderr)
        assert not [secret for secret in self.secrets if secret in stderr]


_NOTHING = trees.Entry(b"", 0, 0, 0, 0, "")


def _tokens(kubeconfig: Path) -> list[str]:
    users = yaml.safe_load(kubeconfig.read_text("utf-8"))["users"]
    return [each["user"]["token"] for each in users if each["user"].get("token")]


def _tree(chance: random.Random, size: int) -> bytes:
    """Pack a tree with one of everything, a name with a newline and a big file among it."""
    top = b"tree"
    big = chance.randbytes(1 << 20) * (size >> 20)
    small = [
        (trees.member(top + b"/f%d" % n, size=99_999), chance.randbytes(99_999))
        for n in range(1, 6)
    ]
    link = trees.member(top + b"/link", tarfile.SYMTYPE, linkname="f1", mode=0o777)
    hard = trees.member(top + b"/hard", tarfile.LNKTYPE, linkname="tree/f3")
    odd = b"new\nline"
    return trees.archive(
        [
            (trees.member(top, tarfile.DIRTYPE), b""),
            *small,
            (trees.member(top + b"/" + odd, size=3, mode=0o600), b"odd"),
            (trees.member(top + b"/sub", tarfile.DIRTYPE, mode=0o750), b""),
            (trees.member(top + b"/sub/empty"), b""),
            (link, b""),
            (hard, b""),
            (trees.member(top + b"/big", size=size), big),
        ]
    )
