"""Every fault of the table, over each protocol: what comes of it, and what docs/faults.md says.

The runs of those faults that do not disturb each other go on at once, each in folders of its own;
each test waits for its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.end_to_end.conftest import VERSIONS, ClusterUnderTest
from tests.end_to_end.faults import document
from tests.end_to_end.faults.document import Row
from tests.end_to_end.faults.run import Result, Run
from tests.end_to_end.faults.table import EMBEDDED, FAULTS, REAL, Entry, Kind

AT_ONCE = 12
WRITES = os.environ.get("PODCP_FAULTS") == "write"

pytestmark = pytest.mark.timeout(900)

Results = tuple[Result, Result]
"""Of a run without retries, and of one with three; where one says both, it is the same."""


def identity(entry: Entry, version: str) -> str:
    """Return a name for a folder."""
    return re.sub(r"\W+", "-", f"{entry.name} {version}").lower()


def cases() -> list[object]:
    """Return each fault and protocol; those that need the cluster for themselves come last, and
    what takes long begins first."""
    entries = sorted(FAULTS, key=lambda entry: (entry.alone, "60 s" not in entry.name))
    return [
        pytest.param(entry, version, id=identity(entry, version))
        for entry in entries
        for version in VERSIONS
    ]


class Runs:
    """Carries out what the collected tests ask for, several at a time.

    :ivar rows: what came out, for the document.
    """

    def __init__(self, cluster: ClusterUnderTest, scratch: Path) -> None:
        self.rows: list[Row] = []
        self._cluster = cluster
        self._scratch = scratch
        self._pool = ThreadPoolExecutor(AT_ONCE // 2 if cluster.is_real else AT_ONCE)
        self._alone = ThreadPoolExecutor(1)
        self._waiting: list[tuple[Entry, str]] = []
        self._futures: dict[str, Future[Results]] = {}

    def submit(self, entry: Entry, version: str) -> None:
        """Let a fault be run; those that must be alone wait until :meth:`result` asks for one."""
        if entry.alone:
            self._waiting.append((entry, version))
        else:
            self._start(self._pool, entry, version)

    def result(self, entry: Entry, version: str) -> Results:
        """Return how a fault ended."""
        if entry.alone:
            self._pool.shutdown(wait=True)
            while self._waiting:
                each = self._waiting.pop(0)
                self._start(self._alone, *each)
        return self._futures[identity(entry, version)].result()

    def close(self) -> None:
        """Wait for all."""
        for pool in (self._pool, self._alone):
            pool.shutdown(wait=True, cancel_futures=True)

    def _start(self, pool: ThreadPoolExecutor, entry: Entry, version: str) -> None:
        future = pool.submit(self._carry_out, entry, version)
        self._futures[identity(entry, version)] = future

    def _carry_out(self, entry: Entry, version: str) -> Results:
        again = self._once(entry, version, 3)
        plain = self._once(entry, version, 0) if again.again else again
        return plain, again

    def _once(self, entry: Entry, version: str, retries: int) -> Result:
        name = f"{identity(entry, version)}-{retries}"
        scratch = self._scratch / name
        scratch.mkdir()
        source, destination = map(self._cluster.pod, entry.pods_of(version))
        run = Run(self._cluster, version, name, source, destination, scratch)
        run.source_path = f"{run.base}/data/{entry.path}"
        if entry.stall is not None:
            run.options = ("--stall-timeout", str(entry.stall))
        try:
            return run.carry_out(entry.cause, retries)
        finally:
            run.clean()


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest,
    cluster: ClusterUnderTest,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Runs]:
    """All runs that were collected; what they gave is written down when they are done."""
    started = Runs(cluster, tmp_path_factory.mktemp("faults"))
    wanted = os.environ.get("PODCP_TEST_VERSIONS", "v5 v4").split()
    for item in request.session.items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        entry, version = parameters.get("entry"), parameters.get("protocol")
        if isinstance(entry, Entry) and version in wanted and where(cluster) in entry.clusters:
            started.submit(entry, version)
    yield started
    started.close()
    if cluster.server is not None:
        cluster.server.clear_faults()
    if WRITES:
        document.write(started.rows, [entry.name for entry in FAULTS])


def where(cluster: ClusterUnderTest) -> str:
    """Return which of the two kinds of cluster is under test."""
    return REAL if cluster.is_real else EMBEDDED


@pytest.mark.parametrize(("entry", "protocol"), cases())
def test_a_fault(cluster: ClusterUnderTest, runs: Runs, entry: Entry, protocol: str) -> None:
    if where(cluster) not in entry.clusters:
        pytest.skip(f"it is a fault of the {entry.clusters[0]} cluster")
    if protocol not in os.environ.get("PODCP_TEST_VERSIONS", "v5 v4").split():
        pytest.skip(f"this cluster has no API server that speaks {protocol} alone")
    plain, again = runs.result(entry, protocol)
    allowed(entry, protocol, plain, again)
    row = as_row(entry, where(cluster), protocol, plain, again)
    runs.rows.append(row)
    if not WRITES:
        written = {each.key: each for each in document.read()}
        assert row.key in written, "docs/faults.md does not have it: make faults"
        assert row.verdict == written[row.key].verdict, "docs/faults.md differs: make faults"


def allowed(entry: Entry, version: str, plain: Result, again: Result) -> None:
    """Check that a fault came to what its entry allows."""
    kind = entry.kind_of(version)
    if kind in (Kind.HARMLESS, Kind.PARTIAL):
        assert again.again == 0, again
        assert again.code == (0 if kind is Kind.HARMLESS else 3), again
        return
    assert plain.code == entry.code, plain
    assert plain.again == 0
    for word in entry.words:
        assert word in plain.stderr, plain
    assert (again.code == 0) == (kind is Kind.PASSES), again
    assert (again.again > 0) == (kind is not Kind.FINAL), again


def as_row(entry: Entry, cluster: str, version: str, plain: Result, again: Result) -> Row:
    """Return what the document shall say."""
    if not again.again:
        then = "not needed" if again.code == 0 else "not tried again"
    elif again.code == 0:
        then = "recovered"
    else:
        then = f"exit code {again.code}, retries: {again.again}"
    return Row(
        *(entry.name, cluster, version),
        *(document.words(plain.stderr), str(plain.code), plain.left, then),
    )
