"""Cases by the hundred, several at once: each job is a process, with an embedded cluster each.

In go a seed and numbers; out comes a :class:`Summary`. Raises nothing but what no case is to
blame for. For the main thread: it starts processes.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests import userlands
from tests.end_to_end.conftest import TARS, VERSIONS
from tests.loopback.server import Server
from tests.soak import cases
from tests.soak.cases import World
from tests.soak.ground import Ground, Outcome

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

Result = tuple[int, str, "Outcome | str"]
"""A case's number, what it was, and how it ended or what did not hold."""

SILENCE = 900.0
"""Seconds without a result after which a job's process must be dead: no case takes so long."""

PROGRESS = 100
"""Cases after which it says how far it is."""


@dataclass
class Summary:
    """What came of the cases."""

    seed: int
    words: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    continued: int = 0
    memory: int = 0
    longest: float = 0.0
    seconds: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Count a case for which everything held."""
        self.words[outcome.word] += 1
        self.continued += outcome.continued
        self.longest = max(self.longest, outcome.seconds)
        self.memory = max(self.memory, outcome.memory)

    def lines(self) -> Iterator[str]:
        """Say it."""
        count = self.words.total() + len(self.failures)
        yield (
            f"soak: {count} copies with seed {self.seed} in {self.seconds:.0f} s: "
            f"{self.words['complete']} complete, {self.words['recovered']} recovered, "
            f"{self.words.total() - self.words['complete'] - self.words['recovered']} failed with "
            f"a reason, {self.continued} completed by the next run, {len(self.failures)} wrong; "
            f"longest {self.longest:.1f} s, at most {self.memory / (1 << 20):.1f} MiB resident"
        )
        for word, times in self.words.most_common():
            if word not in ("complete", "recovered"):
                yield f"  {times:4} {word}"


def run(
    seed: int,
    numbers: Iterable[int],
    jobs: int,
    kubeconfig: str | None,
    say: Callable[[str], None],
) -> Summary:
    """Take the cases of those numbers.

    :param kubeconfig: of a running cluster; None: an embedded one for each job.
    :param say: is told what did not hold, and how to take that case again.
    """
    say(f"soak: seed {seed}")
    wanted = list(numbers)
    context = multiprocessing.get_context("spawn")
    todo: Queue[int | None] = context.Queue()
    done: Queue[Result | str] = context.Queue()
    jobs = min(jobs, len(wanted))
    for number in [*wanted, *[None] * jobs]:
        todo.put(number)
    workers = [
        context.Process(target=_work, args=(seed, kubeconfig, todo, done)) for _ in range(jobs)
    ]
    summary, began = Summary(seed), time.monotonic()
    for worker in workers:
        worker.start()
    try:
        for count in range(1, len(wanted) + 1):
            _note(summary, done.get(timeout=SILENCE), say)
            if count % PROGRESS == 0:
                say(f"soak: {count} of {len(wanted)}, {len(summary.failures)} wrong")
    finally:
        with suppress(queue.Empty):  # what is left, where one of the jobs could not work
            while True:
                todo.get_nowait()
        for _ in workers:
            todo.put(None)
        for worker in workers:
            worker.join()
    summary.seconds = time.monotonic() - began
    return summary


def _note(summary: Summary, result: Result | str, say: Callable[[str], None]) -> None:
    if isinstance(result, str):
        raise RuntimeError(result)
    number, what, outcome = result
    if isinstance(outcome, str):
        summary.failures.append(f"{what}\n{outcome}")
        say(f"{what}\n{outcome}\nagain: make soak SEED={summary.seed} CASE={number}\n")
    else:
        summary.add(outcome)


def _work(
    seed: int, kubeconfig: str | None, todo: Queue[int | None], done: Queue[Result | str]
) -> None:
    """Take cases until there is none left: a job's process."""
    try:
        with _ground(kubeconfig) as (ground, world):
            while (number := todo.get()) is not None:
                case = cases.draw(seed, number, world)
                outcome: Outcome | str
                try:
                    outcome = ground.take(case)
                except AssertionError as error:
                    outcome = str(error)
                except Exception:
                    outcome = traceback.format_exc()
                done.put((number, str(case), outcome))
    except Exception:
        done.put(traceback.format_exc())


@contextmanager
def _ground(kubeconfig: str | None) -> Iterator[tuple[Ground, World]]:
    if kubeconfig is not None:
        pods = os.environ.get("PODCP_TEST_PODS", "").split()
        tars = tuple(tar for tar in TARS if not pods or f"{tar}-0" in pods)
        versions = tuple(os.environ.get("PODCP_TEST_VERSIONS", " ".join(VERSIONS)).split())
        yield Ground(Path(kubeconfig), None), World(tars, versions, can_lie=False)
        return
    with Server() as server:
        tars = tuple(tar for tar in TARS if tar in userlands.available())
        yield Ground(server.kubeconfig, server), World(tars, VERSIONS, can_lie=True)
