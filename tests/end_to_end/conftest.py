"""The cluster under test: the one that ``PODCP_TEST_KUBECONFIG`` names, or an embedded one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kubectl_podcp.cluster import kubeconfig
from tests.end_to_end.pods import TestPod
from tests.end_to_end.report import Report
from tests.loopback.server import Server

VERSIONS = ("v5", "v4")
TARS = ("gnu", "busybox", "bsdtar", "toybox")
DEFAULT_COMMAND = (sys.executable, "-m", "kubectl_podcp")


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
    command: tuple[str, ...] = DEFAULT_COMMAND
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

    def start(self, version: str, *arguments: str) -> subprocess.Popen[str]:
        """Start the product."""
        return subprocess.Popen(
            self.argv(version, *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            preexec_fn=_default_signals,
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


def _default_signals() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def cluster() -> Iterator[ClusterUnderTest]:
    """The cluster under test."""
    command = tuple(os.environ.get("PODCP_COMMAND", "").split()) or DEFAULT_COMMAND
    given = os.environ.get("PODCP_TEST_KUBECONFIG")
    if given:
        pods = tuple(os.environ.get("PODCP_TEST_PODS", "").split())
        yield ClusterUnderTest(Path(given), is_real=True, command=command, pods=pods)
        return
    with Server() as server:
        yield ClusterUnderTest(server.kubeconfig, is_real=False, server=server, command=command)


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
    if request.param not in os.environ.get("PODCP_TEST_VERSIONS", "v5 v4").split():
        pytest.skip(f"this cluster has no API server that speaks {request.param} alone")
    return str(request.param)


_REPORT = pytest.StashKey[Report]()


def pytest_configure(config: pytest.Config) -> None:
    """Begin the report of figures."""
    config.stash[_REPORT] = Report()


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Report:
    """Where a test puts the figures it measured; they are printed at the end of the run."""
    return request.config.stash[_REPORT]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    lines = terminalreporter.config.stash[_REPORT].lines
    if lines:
        terminalreporter.section("figures")
        for line in lines:
            terminalreporter.line(line)
