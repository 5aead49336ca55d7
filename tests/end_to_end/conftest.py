"""The cluster under test: the one that ``PODCP_TEST_KUBECONFIG`` names, or an embedded one."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kubectl_podcp.cluster import kubeconfig
from tests import one_file
from tests.end_to_end.pods import TestPod
from tests.end_to_end.report import Report
from tests.loopback.server import Server

VERSIONS = ("v5", "v4")
TARS = ("gnu", "busybox", "bsdtar", "toybox")

CROSSWISE = (
    ("v5", "gnu", "busybox"),
    ("v4", "busybox", "gnu"),
    ("v5", "toybox", "bsdtar"),
    ("v4", "bsdtar", "toybox"),
)
"""A protocol, the source's tar and the destination's: each tar at each end, and each protocol with
each kind, for tests of options. test_pairs.py and test_directions.py have all combinations."""


@dataclass(frozen=True)
class Copied:
    """How a run of the command ended."""

    code: int
    stdout: str
    stderr: str

    def complete(self) -> Copied:
        """Check that it says that it is complete, by its exit code and by its words."""
        assert (self.code, self.stdout) == (0, ""), self
        assert re.search(r"^complete: [\d,]+ files?, [\d.]+ \w+ in [\d.]+ s \(", self.stderr, re.M)
        return self

    def failed(self, code: int, *words: str) -> Copied:
        """Check that it failed with ``code``, never said complete, and said ``words``."""
        assert self.code == code, self
        assert self.stderr.splitlines()[-1], self
        assert "complete:" not in self.stderr
        assert "Traceback" not in self.stderr
        assert re.search(r"^error: ", self.stderr, re.M), self
        for word in words:
            assert word in self.stderr, self
        return self


@dataclass(frozen=True)
class ClusterUnderTest:
    """A cluster with the test Pods in it.

    :ivar is_real: a kubelet and a container runtime are behind it.
    :ivar server: the embedded one, for its faults; None where it is another.
    :ivar pods: the test Pods it has, where those are not all of them.
    """

    kubeconfig: Path
    is_real: bool
    server: Server | None = None
    command: tuple[str, ...] = one_file.COMMAND
    pods: tuple[str, ...] = ()

    def pod(self, name: str) -> TestPod:
        """Return a test Pod, reached over v5."""
        if self.pods and name not in self.pods:
            pytest.skip(f"this cluster has no {name}: its userland has no public image")
        return TestPod(kubeconfig.load(str(self.kubeconfig), "podcp-v5"), name)

    def argv(self, version: str, *arguments: str) -> list[str]:
        """Return the product's command line for one of the API servers."""
        options = ("--kubeconfig", str(self.kubeconfig), "--context", f"podcp-{version}")
        return [*self.command, *options, *arguments]

    def start(
        self,
        version: str,
        *arguments: str,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """Start the product, in a process group of its own."""
        return subprocess.Popen(
            self.argv(version, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            errors="replace",
            preexec_fn=_as_a_shell_starts_it,
        )

    def copy(self, version: str, *arguments: str, timeout: float = 300) -> Copied:
        """Run the product to its end."""
        with self.start(version, *arguments) as process:
            try:
                stdout, stderr = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Copied(process.returncode, stdout, stderr)


def _as_a_shell_starts_it() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setpgid(0, 0)  # in ours, which may be orphaned, SIGTSTP would stop nobody


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    """The cluster under test."""
    command = tuple(os.environ.get("PODCP_COMMAND", "").split()) or one_file.COMMAND
    if command == one_file.COMMAND:
        one_file.check()
    given = os.environ.get("PODCP_TEST_KUBECONFIG")
    if given:
        pods = tuple(os.environ.get("PODCP_TEST_PODS", "").split())
        path = _of_this_process(Path(given), tmp_path_factory)
        yield ClusterUnderTest(path, is_real=True, command=command, pods=pods)
        return
    with Server() as server:
        yield ClusterUnderTest(server.kubeconfig, is_real=False, server=server, command=command)


def _of_this_process(given: Path, places: pytest.TempPathFactory) -> Path:
    """Return the kubeconfig for this process's own Pods: the second one has those of a second
    namespace."""
    if os.environ.get("PYTEST_XDIST_WORKER", "gw0") == "gw0":
        return given
    document = json.loads(given.read_text("utf-8"))
    for context in document["contexts"]:
        context["context"]["namespace"] += "-2"
    path = places.mktemp("kubeconfig") / "config"
    path.write_text(json.dumps(document), "utf-8")
    path.chmod(0o600)
    return path


@pytest.fixture
def server(cluster: ClusterUnderTest) -> Iterator[Server]:
    """The embedded cluster, which can be told to break."""
    if cluster.server is None:
        pytest.skip("only the embedded cluster can be told to break like this")
    yield cluster.server
    cluster.server.clear_faults()


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    """Which API server: one that speaks v5 and v4, or one that speaks v4 alone."""
    return _spoken(request.param)


def _spoken(version: str) -> str:
    if version not in os.environ.get("PODCP_TEST_VERSIONS", "v5 v4").split():
        pytest.skip(f"this cluster has no API server that speaks {version} alone")
    return version


@pytest.fixture(params=CROSSWISE, ids="-".join)
def crosswise(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    """A protocol, the source's tar, and the destination's."""
    version, source, target = request.param
    return _spoken(version), source, target


SAMPLED = (
    *("test_changes", "test_hostile", "test_update", "test_verify"),
    *("test_several", "test_streams", "test_overwriting", "test_fidelity_options", "test_resume"),
    *("test_compression", "test_sparse", "test_attributes"),
)
"""Modules whose tests ask more of the tars than of the cluster: all of them run on the embedded
one, whose tars are the same programs."""

SAMPLES = 2
"""How many of each test's parameters run on a real cluster, unless ``PODCP_TEST_ALL`` is set: the
first and the last, which as a rule are of both protocols and, in :data:`CROSSWISE`, of all tars."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take only some parameters of the sampled modules on a real cluster, evenly spread."""
    if "PODCP_TEST_KUBECONFIG" not in os.environ or "PODCP_TEST_ALL" in os.environ:
        return
    tests: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.path.stem in SAMPLED:
            tests[item.nodeid.partition("[")[0]].append(item)
    left_out = []
    for each in tests.values():
        step = (len(each) - 1) / (SAMPLES - 1)
        kept = {round(number * step) for number in range(SAMPLES)}
        left_out += [item for number, item in enumerate(each) if number not in kept]
    config.hook.pytest_deselected(items=left_out)
    without = set(left_out)
    items[:] = [item for item in items if item not in without]


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Report:
    """Where a test puts the figures it measured; they are printed at the end of the run."""
    return Report(record_property)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures, whichever process measured them."""
    ended = (each for key in ("passed", "failed") for each in terminalreporter.stats.get(key, ()))
    lines = [line for each in ended for line in Report.lines(each.user_properties)]
    if lines:
        terminalreporter.section("figures")
        for line in sorted(lines):
            terminalreporter.line(line)
