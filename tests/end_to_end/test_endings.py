"""The false endings: whatever ends a copy too early, it is an error and never ``complete``.

After each run both trees are compared with what they were, byte by byte: the destination has its
old content and nothing else, and nothing of ours runs or stands in either Pod. All happens below
/cut, where no other test looks.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from tests.end_to_end import trees
from tests.end_to_end.conftest import ClusterUnderTest, Copied
from tests.end_to_end.lies import (
    CutArchive,
    CutConnection,
    FalseAcknowledgement,
    FalseTrailer,
    NoLastWord,
    OtherAcknowledgement,
)
from tests.end_to_end.pods import TestPod, has_small_disk, wait_until
from tests.loopback import faults
from tests.loopback.faults import CutStdin, CutStdout, EndAll, EndEarly, Ending, Fault, runs
from tests.loopback.server import Server

BOUND = 20
"""Seconds in which a copy must have failed."""

BLOCK = 512
FILES = 8
SIZE = 512 << 10
BETWEEN = BLOCK + 3 * (BLOCK + SIZE)
"""Bytes of the archive up to the border behind its third file: no tar notices a cut there."""
INSIDE = BETWEEN + BLOCK + 12_345
END = BLOCK + FILES * (BLOCK + SIZE)
"""Bytes of the archive up to its two zero blocks."""

SENDS, RECEIVES = runs("tar cf - --numeric-owner"), runs("tar xpf -")
LOST = (Ending.FIN, Ending.RESET)
"""The endings that are no words at all, but the connection's end."""

UNCHANGED, UNKNOWN = "was not changed", "is not known"


@dataclass(frozen=True)
class Route:
    """From a tree in one Pod to the place of an older one in another.

    :ivar sent: the tree, as it is at the source.
    :ivar old: what the destination has before the copy.
    """

    cluster: ClusterUnderTest
    version: str
    source: TestPod
    destination: TestPod
    sent: trees.Tree
    old: trees.Tree

    def copy(self, path: str = "/cut/data/tree", target: str = "/cut/srv") -> Copied:
        """Copy to where something older stands."""
        source, destination = f"{self.source.name}:{path}", f"{self.destination.name}:{target}"
        options = ("-c", "main", "--retries", "0", "--stall-timeout", "5", source, destination)
        return self.cluster.copy(self.version, *options, timeout=BOUND)

    def fails(
        self, *words: str, sure: bool = True, path: str = "/cut/data/tree", target: str = "/cut/srv"
    ) -> None:
        """Check that a copy fails for a reason that says ``words``, and leaves all as it was.

        :param sure: whether the user must be told that. Where everything may have been sent
            before the destination went silent, nobody knows.
        """
        done = self.copy(path, target).failed(1, *words)
        assert UNCHANGED in done.stderr or (not sure and UNKNOWN in done.stderr), done
        assert there(self.destination) == self.old, done
        self.leaves_nothing_running()
        assert trees.look(self.source, "/cut/data", "tree") == self.sent

    def fails_in_doubt(self, *words: str) -> None:
        """Check that a copy fails when it may be in place: it is, or nothing is, and no lies."""
        done = self.copy().failed(1, *words)
        self.leaves_nothing_running()
        if there(self.destination) != self.old:
            self.has_arrived()
            assert UNCHANGED not in done.stderr

    def has_arrived(self) -> None:
        """Check that the destination has the tree, what else it had, and nothing more."""
        entries = there(self.destination).entries
        sent = {b"tree/" + name: entry for name, entry in self.sent.entries.items() if name}
        assert {name: entries.get(name) for name in sent} == sent
        assert entries.keys() == sent.keys() | {b"", b"tree", b"tree/kept"}
        assert entries[b"tree/kept"] == self.old.entries[b"tree/kept"]

    def leaves_nothing_running(self) -> None:
        """Wait until no process of a copy is left in either Pod."""
        for pod in (self.source, self.destination):
            wait_until(partial(nothing_of_ours, pod), 10, f"{pod.name} still runs a copy")


def nothing_of_ours(pod: TestPod) -> bool:
    """Return whether no process of a copy runs in a Pod."""
    return pod.ours() == []


def there(destination: TestPod) -> trees.Tree:
    """Return what a destination has, but for the times of the directories where we staged."""
    tree = trees.look(destination, "/cut", "srv")
    staged = {name: tree.entries[name].without_time() for name in (b"", b"tree")}
    return trees.Tree({**tree.entries, **staged}, tree.links)


@pytest.fixture(scope="module")
def sources(cluster: ClusterUnderTest) -> dict[str, trees.Tree]:
    """The trees to send, by the userland whose tar is at both ends."""
    made = {}
    for userland in ("gnu", "busybox"):
        pod = cluster.pod(f"{userland}-0")
        pod.fresh("/cut/data")
        pod.sh(
            "mkdir /cut/data/tree; cd /cut/data/tree; exec 2>/dev/null; "
            f"for i in 1 2 3 4 5 6 7 8; do dd if=/dev/urandom of=f$i bs={SIZE} count=1; done"
        )
        made[userland] = trees.look(pod, "/cut/data", "tree")
    return made


def arranged(
    cluster: ClusterUnderTest, version: str, userland: str, sources: dict[str, trees.Tree]
) -> Route:
    """Return a way to copy, with something old at its end."""
    source, destination = cluster.pod(f"{userland}-0"), cluster.pod(f"{userland}-1")
    destination.fresh("/cut/srv")
    destination.sh(
        "mkdir /cut/srv/tree; cd /cut/srv/tree; "
        "echo old >f1; echo older >kept; ln -s kept f2; chmod 640 f1"
    )
    return Route(cluster, version, source, destination, sources[userland], there(destination))


@pytest.fixture(params=[("v5", "gnu"), ("v4", "busybox")], ids="-".join)
def route(
    request: pytest.FixtureRequest, cluster: ClusterUnderTest, sources: dict[str, trees.Tree]
) -> Route:
    """A way over each protocol, between two of the tars that fail most differently."""
    version, userland = request.param
    return arranged(cluster, version, userland, sources)


@pytest.fixture
def long_route(route: Route) -> Iterator[Route]:
    """A source that takes a while, and yet an end: a tar whose shell is killed goes on to it."""
    route.source.sh("fallocate -l 192M /cut/data/long")
    yield route
    route.source.sh("rm /cut/data/long")


@pytest.fixture(params=["gnu", "busybox"])
def every_route(
    request: pytest.FixtureRequest,
    cluster: ClusterUnderTest,
    version: str,
    sources: dict[str, trees.Tree],
) -> Route:
    """A way over each protocol and between each of the two tars, for what they might not notice."""
    return arranged(cluster, version, str(request.param), sources)


def test_the_same_copy_is_complete_without_a_fault(every_route: Route, server: Server) -> None:
    """What every test below relies on: the faults, and nothing else, make them fail."""
    server.inject(every_route.source.name, Fault(), command=SENDS)
    server.inject(every_route.destination.name, Fault(), command=RECEIVES)
    every_route.copy().complete()
    every_route.has_arrived()
    every_route.leaves_nothing_running()


# --- answers are lost ----------------------------------------------------------------------

QUESTIONS = runs(" answered ")


@pytest.mark.parametrize("after", [0, 20], ids=["all of it", "its end"])
def test_an_answer_that_is_lost_is_asked_for_again(
    route: Route, server: Server, after: int
) -> None:
    """An API server that lost its kubelet says Success, whatever it has passed on."""
    for pod in (route.source, route.destination):
        server.inject(pod.name, CutStdout(after), command=QUESTIONS, session=0)
    server.inject(route.source.name, CutStdout(after), command=runs("literal="), session=1)
    route.copy("/cut/data/*").complete()
    route.has_arrived()
    route.leaves_nothing_running()


@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize("path", ["/cut/data/tree", "/cut/data/*"])
def test_no_answer_means_nothing_about_what_is_there(
    route: Route, server: Server, side: str, path: str
) -> None:
    pod = route.source if side == "source" else route.destination
    server.inject(pod.name, CutStdout(0), command=QUESTIONS)
    done = route.copy(path).failed(1, f"sh in {pod.name}", "what it said did not arrive")
    assert "does not exist" not in done.stderr
    assert there(route.destination) == route.old


# --- the source ends -----------------------------------------------------------------------


def test_a_cut_between_two_members_with_success(every_route: Route, server: Server) -> None:
    """The cut that no tar notices, and a source that stays behind, blocked in a write."""
    server.inject(every_route.source.name, CutStdout(BETWEEN), command=SENDS)
    every_route.fails("stops after", "without its end", "without a trailer")


@pytest.mark.parametrize(
    ("after", "words"),
    [
        pytest.param(0, "wrote no archive", id="nothing at all"),
        pytest.param(INSIDE, "stops inside", id="in mid-member"),
        pytest.param(BETWEEN, "without its end: its tar ended with exit code 0", id="between two"),
        pytest.param(END + BLOCK, "without its end", id="between the end blocks"),
    ],
)
def test_a_good_trailer_cannot_make_up_for_what_is_missing(
    route: Route, server: Server, after: int, words: str
) -> None:
    lie = FalseTrailer(after)
    server.inject(route.source.name, lie, command=lie.meant)
    route.fails(words)


@pytest.mark.parametrize("ending", [Ending.SUCCESS, Ending.CLOSE_ONLY, Ending.FIN, Ending.RESET])
def test_a_cut_in_mid_member(route: Route, server: Server, ending: Ending) -> None:
    server.inject(route.source.name, CutStdout(INSIDE, ending), command=SENDS)
    route.fails("connection" if ending in LOST else "stops inside")


@pytest.mark.parametrize("ending", [Ending.SUCCESS, Ending.FIN])
def test_no_trailer(route: Route, server: Server, ending: Ending) -> None:
    """All the archive came, its end too, and then the session ends in front of the trailer."""
    lie = NoLastWord(ending)
    server.inject(route.source.name, lie, command=lie.meant)
    route.fails("connection" if ending in LOST else "without a trailer")


def test_no_trailer_and_no_end(route: Route, server: Server) -> None:
    """The trailer is lost while the source waits for us: silence must not last for ever."""
    server.inject(route.source.name, faults.no_trailer(), command=SENDS)
    route.fails("trailer")


def test_a_wrong_nonce_in_the_trailer(route: Route, server: Server) -> None:
    server.inject(route.source.name, faults.wrong_nonce(), command=SENDS)
    route.fails("something follows the end")


def test_a_trailer_that_tells_of_a_failure(route: Route, server: Server) -> None:
    """All the archive came, its end too, but its tar was killed after that."""
    lie = FalseTrailer(END + 2 * BLOCK, code=b"137")
    server.inject(route.source.name, lie, command=lie.meant)
    route.fails("exit code 137")


# --- the destination ends ------------------------------------------------------------------


def test_stdin_that_ends_between_two_members_with_success(
    every_route: Route, server: Server
) -> None:
    """The tar at the destination thinks that it has all, and so says the session."""
    server.inject(every_route.destination.name, CutArchive(BETWEEN), command=RECEIVES)
    every_route.fails("before it acknowledged", sure=False)


@pytest.mark.parametrize("after", [0, INSIDE], ids=["at once", "later"])
def test_stdin_that_ends_early_with_success(route: Route, server: Server, after: int) -> None:
    server.inject(route.destination.name, CutStdin(after, success=True), command=RECEIVES)
    route.fails("the destination's tar ended")


def test_the_marker_is_another(route: Route, server: Server) -> None:
    server.inject(route.destination.name, faults.other_marker(), command=RECEIVES)
    route.fails("the destination's tar ended before the end of the archive")


def test_the_marker_is_missing(route: Route, server: Server) -> None:
    if route.version == "v4":
        pytest.skip("what goes in a chunk has a length, which would not fit any more")
    server.inject(route.destination.name, faults.no_marker(), command=RECEIVES)
    route.fails("the destination's tar ended before the end of the archive")


@pytest.mark.parametrize("ending", [None, Ending.SUCCESS], ids=["its status", "success"])
def test_the_destination_is_killed_with_megabytes_to_come(
    long_route: Route, server: Server, ending: Ending | None
) -> None:
    server.inject(long_route.destination.name, EndEarly(INSIDE, ending), command=RECEIVES)
    long_route.fails("before it acknowledged", path="/cut/data/long")


@pytest.mark.parametrize("ending", [Ending.SUCCESS, Ending.CLOSE_ONLY, Ending.FIN, Ending.RESET])
def test_the_destinations_session_ends_in_mid_copy(
    route: Route, server: Server, ending: Ending
) -> None:
    server.inject(route.destination.name, CutConnection(INSIDE, ending), command=RECEIVES)
    words = "connection" if ending in LOST else "before it acknowledged"
    route.fails(words, sure=False)


def test_an_acknowledgement_of_what_was_not_sent_yet(long_route: Route, server: Server) -> None:
    lie = FalseAcknowledgement(INSIDE)
    server.inject(long_route.destination.name, lie, command=lie.meant)
    long_route.fails("acknowledged what was not sent yet", path="/cut/data/long")


@pytest.mark.parametrize(
    ("claim", "words"), [(b"2 0 1", "exit code 2"), (b"0 0 1", "before the end of the archive")]
)
def test_an_acknowledgement_of_a_failure(
    long_route: Route, server: Server, claim: bytes, words: str
) -> None:
    """It ends the copy at once, whatever is still to come."""
    lie = FalseAcknowledgement(INSIDE, claim)
    server.inject(long_route.destination.name, lie, command=lie.meant)
    long_route.fails(words, path="/cut/data/long")


# --- both end ------------------------------------------------------------------------------


def test_a_dying_kubelet(route: Route, server: Server) -> None:
    """It says Success on both sides in mid-copy; which of the two is heard first is chance."""
    fault = EndAll(INSIDE, Ending.SUCCESS)
    server.inject(route.source.name, fault, command=SENDS)
    server.inject(route.destination.name, fault, command=RECEIVES)
    route.fails(sure=False)


# --- the last word is lost: the copy may stand in its place, but nobody can say so ---------


@pytest.mark.parametrize("ending", [Ending.SUCCESS, Ending.FIN])
def test_no_acknowledgement(route: Route, server: Server, ending: Ending) -> None:
    lie = NoLastWord(ending)
    server.inject(route.destination.name, lie, command=lie.meant)
    route.fails_in_doubt("connection" if ending in LOST else "before it acknowledged")


def test_a_wrong_nonce_in_the_acknowledgement(route: Route, server: Server) -> None:
    lie = OtherAcknowledgement()
    server.inject(route.destination.name, lie, command=lie.meant)
    route.fails_in_doubt("acknowledged")


# --- real causes, on either cluster --------------------------------------------------------


TAR = '[ "$(cat $p/comm)" = tar ]'
SHELL = "grep -q '[n]once=[0-9a-f]' $p/cmdline"
"""Conditions on a process whose directory in /proc is $p; the second is not true of itself."""


@pytest.mark.parametrize(
    ("of_source", "process", "words"),
    [
        pytest.param(True, TAR, "exit code 137", id="source's tar"),
        pytest.param(True, SHELL, "without a trailer", id="source's shell"),
        pytest.param(False, TAR, "exit code 137", id="destination's tar"),
        pytest.param(False, SHELL, "the destination", id="destination's shell"),
    ],
)
def test_something_is_killed_in_mid_copy(
    long_route: Route, of_source: bool, process: str, words: str
) -> None:
    pod = long_route.source if of_source else long_route.destination
    killer = threading.Thread(target=kill_in_mid_copy, args=(long_route, pod, process))
    killer.start()
    # On v4 a real cluster goes on without a word when the shell is gone: it takes nothing any more.
    # A tar without its shell may take all, and only then it shows that nobody puts it in place.
    sure = of_source or process is TAR
    long_route.fails(words, sure=sure, path="/cut/data/long", target="/cut/srv/tree/f1")
    killer.join()


def kill_in_mid_copy(route: Route, pod: TestPod, process: str) -> None:
    """Kill each process for which a condition holds, once a megabyte stands at the destination."""
    staged = "find /cut/srv -name long -size +1024k 2>/dev/null || :"
    wait_until(lambda: route.destination.sh(staged) != b"", 20, "nothing was staged")
    kill = f"if {process}; then kill -9 ${{p#/proc/}}; fi"  # a process may have gone meanwhile
    pod.sh(f"for p in /proc/[0-9]*; do {{ {kill}; }} 2>/dev/null || :; done")


def test_a_full_disk(long_route: Route) -> None:
    destination = long_route.destination
    if not has_small_disk(destination):
        pytest.skip("this machine lets no Pod have a small file system")
    destination.fresh("/small")
    destination.sh("echo old >/small/old")
    said = "Wrote only" if destination.name == "gnu-1" else "No space left on device"
    long_route.fails(said, path="/cut/data/long", target="/small/old")
    assert destination.names("/small") == ["old"]
    assert destination.sh("cat /small/old") == b"old\n"
