"""A client that is told to end, or is killed, leaves nothing behind in either Pod."""

from __future__ import annotations

import signal
import subprocess
from functools import partial

import pytest

from tests.end_to_end.conftest import ClusterUnderTest
from tests.end_to_end.pods import TestPod, wait_until

CLEAN_WITHIN = 10
"""Seconds after which nothing of ours may be alive in a Pod."""


@pytest.fixture(params=["gnu", "busybox"])
def pods(request: pytest.FixtureRequest, cluster: ClusterUnderTest) -> tuple[TestPod, TestPod]:
    """A source with a file that takes long, and a destination that has an old one."""
    source, destination = cluster.pod(f"{request.param}-0"), cluster.pod(f"{request.param}-1")
    source.fresh("/data")
    destination.fresh("/srv")
    source.sh("truncate -s 64G /data/long")
    destination.sh("echo old >/srv/long")
    return source, destination


def in_mid_copy(
    cluster: ClusterUnderTest, version: str, source: TestPod, destination: TestPod
) -> subprocess.Popen[str]:
    """Start a copy and return it when the destination has written some of it."""
    process = cluster.start(
        version, "-c", "main", f"{source.name}:/data/long", f"{destination.name}:/srv/long"
    )

    def some_arrived() -> bool:
        assert process.poll() is None, process.communicate()
        return int(destination.sh("du -sk /srv").split()[0]) > 4096

    wait_until(some_arrived, 60, "nothing arrived")
    assert source.ours()
    assert destination.ours()
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_both_remote_processes(
    cluster: ClusterUnderTest,
    version: str,
    pods: tuple[TestPod, TestPod],
    number: signal.Signals,
    code: int,
) -> None:
    source, destination = pods
    process = in_mid_copy(cluster, version, source, destination)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=CLEAN_WITHIN)
    assert process.returncode == code
    assert "interrupted" in stderr
    assert "was not changed" in stderr
    assert_nothing_left(source, destination)


def test_a_killed_client_leaves_no_remote_process(
    cluster: ClusterUnderTest, version: str, pods: tuple[TestPod, TestPod]
) -> None:
    """Nobody is left who could end them: they end by themselves, and the staging folder goes."""
    source, destination = pods
    process = in_mid_copy(cluster, version, source, destination)
    process.kill()
    process.communicate(timeout=CLEAN_WITHIN)
    assert_nothing_left(source, destination)


def assert_nothing_left(source: TestPod, destination: TestPod) -> None:
    """Check both Pods: no process, no staging folder, the old file as it was."""
    for pod in (source, destination):
        wait_until(partial(_is_empty, pod), CLEAN_WITHIN, f"a process is left in {pod.name}")
    wait_until(
        lambda: destination.names("/srv") == ["long"], CLEAN_WITHIN, "a staging folder is left"
    )
    assert destination.sh("cat /srv/long") == b"old\n"


def _is_empty(pod: TestPod) -> bool:
    left = pod.ours()
    print(f"{pod.name}: {left}")
    return not left
