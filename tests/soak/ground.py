"""Where a case takes place: both ends made, looked at, run and looked at again.

In goes a case; out comes an :class:`Outcome`. Raises ``AssertionError`` where something does not
hold that must. One case at a time for each :class:`Ground`.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kubectl_podcp.cluster import kubeconfig
from tests import one_file
from tests.end_to_end import trees
from tests.end_to_end.breaker import breaking
from tests.end_to_end.pods import BUSYBOX, TestPod, wait_until
from tests.end_to_end.trees import Tree
from tests.loopback.server import Server
from tests.soak import client, forest, trouble, verdict, witness
from tests.soak.cases import Case
from tests.soak.client import Run
from tests.soak.forest import Member
from tests.soak.trouble import Trouble
from tests.soak.verdict import Ends

CLEAN_WITHIN = 10.0
"""Seconds after which nothing of ours may be alive in a Pod."""

_ARRANGE = """
mkdir -p {0}
cd {0}
{1}
tar xpf -
{2} sh .arrange
rm .arrange
touch -d @1500000000 .
"""
_SMALL = "mount -t tmpfs -o size={0}k small . 2>/dev/null || :; cd $PWD"
_REMOVE = """
cd {0} 2>/dev/null || exit 0
umount to 2>/dev/null || :
chmod -R u+rwx . 2>/dev/null || :
cd /
rm -rf {0}
"""


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    :ivar word: complete, recovered, or why it failed.
    :ivar memory: bytes that a client had resident at the most, where it was the one file.
    :ivar seconds: of the longest run.
    :ivar continued: whether it was completed by the next run.
    """

    word: str
    memory: int
    seconds: float
    continued: bool


class Ground:
    """A cluster on which cases take place.

    :param server: the embedded one; None where it is another.
    """

    def __init__(self, kubeconfig_file: Path, server: Server | None) -> None:
        self._kubeconfig = kubeconfig_file
        self._server = server
        self._cluster = kubeconfig.load(str(kubeconfig_file), "podcp-v5")

    def take(self, case: Case) -> Outcome:
        """Carry a case out, and check all that must hold."""
        pods = self._pod(case.pods[0]), self._pod(case.pods[1])
        try:
            return self._take(case, pods)
        finally:
            for pod in pods:
                pod.sh(_REMOVE.format(case.directory))

    def _take(self, case: Case, pods: tuple[TestPod, TestPod]) -> Outcome:
        source = self._arrange(pods[0], f"{case.directory}/from", case.source)
        room = _room(case) if case.fault.kind == "full" else None
        old = self._arrange(pods[1], f"{case.directory}/to", case.old, room)
        ends = Ends.of(case, source, old)
        run = self._run(case, pods)
        verdict.check_words(case, run)
        there, folders = self._at_rest(case, pods, run, source)
        try:
            verdict.check_end(case, run, ends, there, folders)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{_told(run)}") from None
        runs = [run]
        if folders and run.code != 0 and ends.is_old(there) and case.fault.kind != "full":
            runs.append(self._again(case, pods, ends, source))
        memory = 0 if case.is_library else max(run.memory for run in runs)
        longest = max(run.seconds for run in runs)
        return Outcome(_word(run), memory, longest, continued=len(runs) > 1)

    def _again(self, case: Case, pods: tuple[TestPod, TestPod], ends: Ends, source: Tree) -> Run:
        """Run the same command without a fault: it completes, and removes what was left.

        Where the source does not fit what is there, it is refused, and removes that all the same.
        """
        run = client.run(self._argv(case, self._kubeconfig))
        verdict.check_words(case, run)
        there, folders = self._at_rest(case, pods, run, source)
        said = f"the next run: {_told(run)}"
        if ends.new is None:
            assert (run.code, ends.is_old(there), folders) == (1, True, set()), said
            return run
        assert run.code == 0, said
        assert ends.is_new(there), f"{ends.differences(there)[:5]}, {said}"
        assert not folders, f"{folders} is left; {said}"
        return run

    def _run(self, case: Case, pods: tuple[TestPod, TestPod]) -> Run:
        context = f"podcp-{case.version}"
        with (
            tempfile.TemporaryDirectory(prefix="podcp-soak-") as place,
            breaking(self._kubeconfig, context, Path(place)) as (breaker, through),
            trouble.lying(case, self._server),
        ):
            going_wrong = Trouble(case, breaker, pods)
            try:
                return client.run(self._argv(case, through), going_wrong.runs_in)
            finally:
                going_wrong.close()

    def _argv(self, case: Case, through: Path) -> Sequence[str | bytes]:
        command = client.LIBRARY if case.is_library else one_file.COMMAND
        options = ("--kubeconfig", str(through), "--context", f"podcp-{case.version}")
        source = f"{case.pods[0]}:{case.directory}/from/".encode() + case.path
        target = f"{case.pods[1]}:{case.directory}/to/".encode() + case.target
        return [*command, *options, "-c", "main", *case.options, source, target]

    def _at_rest(
        self, case: Case, pods: tuple[TestPod, TestPod], run: Run, source: Tree
    ) -> tuple[Tree, set[str]]:
        """Wait until nothing of the case is at work; return what the destination is then.

        A shell may begin only now, whose client was killed before it: so the last two looks are
        equal where there was a failure.
        """
        before = None
        while True:
            for pod in pods:
                with _telling(run):
                    wait_until(
                        lambda pod=pod: not witness.processes(pod, case.directory),  # type: ignore[misc]
                        CLEAN_WITHIN,
                        f"a process is left in {pod.name}",
                    )
            there = witness.look(pods[1], f"{case.directory}/to")
            if run.code == 0 or there == before:
                break
            before = there
        assert witness.look(pods[0], f"{case.directory}/from") == source, "the source has changed"
        return verdict.staged(there)

    def _arrange(
        self, pod: TestPod, directory: str, members: Sequence[Member], room: int | None = None
    ) -> Tree:
        """Make one end; return what it is."""
        script = forest.script(members)
        arrange = (trees.member(b".arrange", size=len(script)), script)
        small = "" if room is None else _SMALL.format(room)
        look = witness.LOOK.format(directory)
        said = pod.sh(
            _ARRANGE.format(directory, small, BUSYBOX) + look,
            forest.archive([*members, arrange]),
        )
        return witness.parsed(said)

    def _pod(self, name: str) -> TestPod:
        return TestPod(self._cluster, name)


@contextmanager
def _telling(run: Run) -> Iterator[None]:
    """Add to what does not hold what the client said."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{error}\n{_told(run)}") from None


def _told(run: Run) -> str:
    return f"exit code {run.code}: {run.stderr.decode('utf-8', 'backslashreplace')}"


def _room(case: Case) -> int:
    """Return the KiB of a file system that may be too small for what comes."""
    return 128 + int(_pages(case.old) * 1.2 + _pages(case.source) * 1.5 * case.fault.detail)


def _pages(members: Sequence[Member]) -> int:
    """Return the KiB that members take in memory."""
    return sum(4 + (len(content) + 4095) // 4096 * 4 for _, content in members)


def _word(run: Run) -> str:
    said = run.stderr.decode("utf-8", "backslashreplace")
    if run.code == 0:
        return "recovered" if re.search(r"after \d+ retr", said) else "complete"
    if run.code == -9:
        return "killed"
    happened = re.search(r"^error: (.*)", said, re.M)
    assert happened is not None
    word = re.sub(r"/soak/\S*|\S+:/soak.*|'.*'", "…", happened[1])
    return re.sub(r"\d+(\.\d+)?", "N", word)[:100]
