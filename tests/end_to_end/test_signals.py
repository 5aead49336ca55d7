"""A client that is told to end, or is killed, leaves nothing behind in either Pod."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.end_to_end.breaker import Breaker, Link, breaking
from tests.end_to_end.conftest import ClusterUnderTest
from tests.end_to_end.pods import TestPod, wait_until
from tests.end_to_end.report import Report
from tests.loopback.faults import Control, Ending, Fault, runs
from tests.loopback.server import Server

CLEAN_WITHIN = 5
"""Seconds after which nothing of ours may be alive in a Pod, as the documents promise."""

SECONDS = 60
"""Longest wait for anything else; only a failing test waits that long."""

OURS = "grep -q '[n]once=[0-9a-f]' $p/cmdline || [ \"$(cat $p/comm)\" = tar ]"
"""Whether the process whose directory in /proc is $p belongs to a copy."""

SWEEPS = runs("\nbusy=")
"""The session that removes a staging folder."""

Pods = tuple[TestPod, TestPod]


@pytest.fixture(params=["gnu", "busybox"])
def pods(request: pytest.FixtureRequest, cluster: ClusterUnderTest) -> Pods:
    """A source with a file that takes long, and a destination that has an old one."""
    return arranged(cluster, str(request.param))


@pytest.fixture
def gnu_pods(cluster: ClusterUnderTest) -> Pods:
    """The same, for what does not depend on the userland."""
    return arranged(cluster, "gnu")


def arranged(cluster: ClusterUnderTest, userland: str) -> Pods:
    """Return both Pods, with the long file and the old one."""
    source, destination = cluster.pod(f"{userland}-0"), cluster.pod(f"{userland}-1")
    source.fresh("/data")
    destination.fresh("/srv")
    source.sh("fallocate -l 4G /data/long")
    destination.sh("echo old >/srv/long")
    return source, destination


def words(pods: Pods, *options: str) -> list[str]:
    """Return the command line of the copy."""
    source, destination = pods
    return ["-c", "main", *options, f"{source.name}:/data/long", f"{destination.name}:/srv/long"]


def in_mid_copy(process: subprocess.Popen[str], pods: Pods) -> subprocess.Popen[str]:
    """Return a client when the destination has written some of what it copies."""
    source, destination = pods

    def some_arrived() -> bool:
        assert process.poll() is None, process.communicate()
        return arrived(destination) > 4096

    try:
        wait_until(some_arrived, SECONDS, "nothing arrived")
        assert source.ours()
        assert destination.ours()
    except BaseException:
        process.kill()  # what it left at work would spoil the next test, too
        process.wait()
        raise
    return process


def arrived(destination: TestPod) -> int:
    """Return how many KiB stand below the target's directory."""
    return int(destination.sh("du -sk /srv").split()[0])


def nothing_left(pods: Pods, began: float) -> float:
    """Check both Pods: no process, no staging folder, the old file as it was.

    :param began: when the client was ended; the seconds since then are returned.
    """
    for pod in pods:
        wait_until(partial(_is_empty, pod), CLEAN_WITHIN, f"a process is left in {pod.name}")
    destination = pods[1]
    wait_until(
        lambda: destination.names("/srv") == ["long"], CLEAN_WITHIN, "a staging folder is left"
    )
    assert destination.sh("cat /srv/long") == b"old\n"
    return time.monotonic() - began


def _is_empty(pod: TestPod) -> bool:
    left = pod.ours()
    print(f"{pod.name}: {left}")
    return not left


def ended(process: subprocess.Popen[str], code: int, *said: str) -> str:
    """Check how a client ended, and that it told its user so, without a traceback."""
    _, stderr = process.communicate(timeout=CLEAN_WITHIN)
    assert process.returncode == code, stderr
    assert "Traceback" not in (stderr or "")
    assert "Exception ignored" not in (stderr or "")
    for text in said:
        assert text in stderr
    return stderr


def close_stdout(process: subprocess.Popen[str]) -> None:
    """Go away, as a reader of its output."""
    assert process.stdout is not None
    process.stdout.close()


def sends(number: signal.Signals) -> Callable[[subprocess.Popen[str]], None]:
    """Return what sends a signal to a client."""
    return lambda process: process.send_signal(number)


@pytest.mark.parametrize(
    ("end", "code"),
    [
        pytest.param(sends(signal.SIGINT), 130, id="SIGINT"),
        pytest.param(sends(signal.SIGTERM), 143, id="SIGTERM"),
        pytest.param(sends(signal.SIGHUP), 129, id="SIGHUP"),
        pytest.param(close_stdout, 141, id="closed stdout"),
    ],
)
def test_whoever_ends_the_client_ends_both_remote_processes(
    cluster: ClusterUnderTest,
    version: str,
    pods: Pods,
    end: Callable[[subprocess.Popen[str]], None],
    code: int,
    report: Report,
) -> None:
    process = in_mid_copy(cluster.start(version, *words(pods)), pods)
    began = time.monotonic()
    end(process)
    ended(process, code, "error: interrupted\n", "was not changed")
    seconds = nothing_left(pods, began)
    report.add(f"exit code {code}, {pods[0].name}, {version}: nothing left after {seconds:.1f} s")


@pytest.mark.parametrize("options", [["-q"], ["-v=8"]], ids=" ".join)
def test_a_reader_of_all_output_that_goes_ends_the_copy(
    cluster: ClusterUnderTest, gnu_pods: Pods, options: list[str]
) -> None:
    """As ``2>&1 | head``: nothing can be said any more, and yet all is cleaned up.

    One client says nothing meanwhile, the other more than it can.
    """
    command = words(gnu_pods, *options)
    process = cluster.start("v5", *command, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    if "-q" not in options:
        assert process.stdout.readline()
        drain = threading.Thread(target=read_until, args=(process, 1 << 20))
        drain.start()
        drain.join(SECONDS)
        assert gnu_pods[1].ours()
    else:
        in_mid_copy(process, gnu_pods)
    began = time.monotonic()
    close_stdout(process)
    assert process.wait(CLEAN_WITHIN) == 141
    nothing_left(gnu_pods, began)


def read_until(process: subprocess.Popen[str], size: int) -> None:
    """Read until a client has relayed a megabyte, of which it says each message."""
    assert process.stdout is not None
    for line in process.stdout:
        if "< stdout [" in line:
            size -= int(line.rpartition("[")[2].partition(" ")[0])
        if size < 0:
            return


def test_a_reader_of_stderr_alone_that_goes_ends_the_copy(
    cluster: ClusterUnderTest, gnu_pods: Pods
) -> None:
    command = words(gnu_pods)
    process = in_mid_copy(cluster.start("v5", *command, stdout=subprocess.DEVNULL), gnu_pods)
    assert process.stderr is not None
    began = time.monotonic()
    process.stderr.close()
    assert process.wait(CLEAN_WITHIN) == 141
    nothing_left(gnu_pods, began)


def test_a_terminal_that_goes_away_ends_neither_the_copy_nor_its_exit_code(
    cluster: ClusterUnderTest, gnu_pods: Pods
) -> None:
    """Without a SIGHUP, that is: the bar cannot be drawn any more, and nothing be said."""
    source, destination = gnu_pods
    source.sh("truncate -s 8M /data/long")
    ours, terminal = os.openpty()
    process = cluster.start("v5", *words(gnu_pods), stderr=terminal)
    os.close(terminal)
    assert os.read(ours, 1)  # the bar is there
    os.close(ours)
    stdout, _ = process.communicate(timeout=SECONDS)
    assert (process.returncode, stdout) == (0, "")
    assert destination.sha256("/srv/long") == source.sha256("/data/long")


def test_a_second_interrupt_ends_at_once(
    cluster: ClusterUnderTest, server: Server, gnu_pods: Pods
) -> None:
    """The destination does not answer its clean-up, so that this would take its whole time."""
    stall = Stall()
    server.inject(gnu_pods[1].name, stall, command=SWEEPS)
    process = in_mid_copy(cluster.start("v5", *words(gnu_pods, "--retries", "0")), gnu_pods)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert stall.begun.wait(SECONDS)
    process.send_signal(signal.SIGINT)
    assert process.wait(CLEAN_WITHIN) == -signal.SIGINT
    nothing_left(gnu_pods, began)


class Stall(Fault):
    """The session begins, and then nothing is heard of it any more."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    def begin(self, session: Control) -> None:
        session.end(Ending.STALL)
        self.begun.set()


def test_a_client_that_was_stopped_goes_on(cluster: ClusterUnderTest, gnu_pods: Pods) -> None:
    """Also after longer than the time for which nothing may move: it was us who did not move."""
    command = words(gnu_pods, "--stall-timeout", "1")
    process = in_mid_copy(cluster.start("v5", *command), gnu_pods)
    process.send_signal(signal.SIGTSTP)
    wait_until(lambda: state(process) == "T", SECONDS, "it was not stopped")
    time.sleep(2)
    before = arrived(gnu_pods[1])
    process.send_signal(signal.SIGCONT)

    def more_arrived() -> bool:
        assert process.poll() is None, process.communicate()
        return arrived(gnu_pods[1]) > before + 16 * 1024

    wait_until(more_arrived, SECONDS, "it did not go on")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    ended(process, 130)
    nothing_left(gnu_pods, began)


def state(process: subprocess.Popen[str]) -> str:
    """Return the state of a process, as proc(5) has it."""
    stat = Path(f"/proc/{process.pid}/stat").read_text()
    return stat.rpartition(") ")[2][0]


def test_an_interrupt_during_the_probes_ends_at_once(
    cluster: ClusterUnderTest, version: str, gnu_pods: Pods, tmp_path: Path
) -> None:
    """The network swallows the probes, which would be waited for much longer."""
    asked = threading.Event()

    def swallow(breaker: Breaker, link: Link) -> None:
        if link in breaker.links[2:]:  # the first two looked at the Pods
            link.freeze()
            asked.set()

    with breaking(cluster.kubeconfig, f"podcp-{version}", tmp_path) as (breaker, kubeconfig):
        breaker.on_passing = swallow
        through = ClusterUnderTest(kubeconfig, cluster.is_real, command=cluster.command)
        process = through.start(version, *words(gnu_pods))
        assert asked.wait(SECONDS)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        ended(process, 130, "error: interrupted\n")
    nothing_left(gnu_pods, began)


def test_an_interrupt_before_a_retry_ends_at_once(
    cluster: ClusterUnderTest, version: str, gnu_pods: Pods
) -> None:
    """What arrived was kept for the next attempt, which does not come."""
    process = in_mid_copy(
        cluster.start(version, *words(gnu_pods, "--retries", "5", "--stall-timeout", "5")), gnu_pods
    )
    kill_all(gnu_pods[1])
    assert process.stderr is not None
    line = next(line for line in process.stderr if "trying again in" in line)
    print(line)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    ended(process, 130, "error: interrupted\n")
    nothing_left(gnu_pods, began)


def kill_all(pod: TestPod) -> None:
    """Kill all that a copy runs in a Pod: shells first, which could tell of the others."""
    kill = f"if {OURS}; then kill -9 ${{p#/proc/}}; fi"  # a process may have gone meanwhile
    pod.sh(f"for p in /proc/[0-9]*; do {{ {kill}; }} 2>/dev/null || :; done")


def test_a_killed_client_leaves_no_remote_process(
    cluster: ClusterUnderTest, version: str, pods: Pods, report: Report
) -> None:
    """Nobody is left who could end them: they end by themselves, and the staging folder goes."""
    process = in_mid_copy(cluster.start(version, *words(pods, "--retries", "0")), pods)
    began = time.monotonic()
    process.kill()
    process.communicate(timeout=CLEAN_WITHIN)
    seconds = nothing_left(pods, began)
    report.add(f"SIGKILL, {pods[0].name}, {version}: nothing left after {seconds:.1f} s")


def test_the_next_run_removes_what_a_killed_one_kept_for_its_retries(
    cluster: ClusterUnderTest, version: str, pods: Pods
) -> None:
    leave_a_staging_folder(cluster, version, pods)
    source, destination = pods
    source.sh("truncate -s 1M /data/long")
    cluster.copy(version, *words(pods)).complete()
    assert destination.names("/srv") == ["long"]
    assert destination.sha256("/srv/long") == source.sha256("/data/long")


def test_an_interrupt_while_that_is_removed_ends_at_once(
    cluster: ClusterUnderTest, server: Server, gnu_pods: Pods
) -> None:
    """It must not be taken for a failure to remove it, after which the copy goes on."""
    leave_a_staging_folder(cluster, "v5", gnu_pods)
    stall = Stall()
    server.inject(gnu_pods[1].name, stall, command=SWEEPS, session=0)
    process = cluster.start("v5", *words(gnu_pods))
    assert stall.begun.wait(SECONDS)
    process.send_signal(signal.SIGINT)
    ended(process, 130, "error: interrupted\n")


def leave_a_staging_folder(cluster: ClusterUnderTest, version: str, pods: Pods) -> None:
    """Kill a client that would have tried again; wait until all that it ran has ended."""
    process = in_mid_copy(cluster.start(version, *words(pods)), pods)
    process.kill()
    process.communicate(timeout=CLEAN_WITHIN)
    for pod in pods:
        wait_until(partial(_is_empty, pod), CLEAN_WITHIN, f"a process is left in {pod.name}")
    assert len(pods[1].names("/srv")) == 2
