"""A destination that reads slowly, the case in which pipelines of two kubectls lose the tail.

Ten copies at once, 64 MiB each, into a tar that takes 1 MiB each 0.2 s. Ours must be complete and
equal every time. The same by ``kubectl exec | kubectl exec`` is counted, not judged: the figure
stands in the report at the end of the run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from tests.end_to_end.conftest import ClusterUnderTest, Copied
from tests.end_to_end.pods import BUSYBOX, TestPod, wait_until
from tests.end_to_end.report import Report
from tests.end_to_end.test_formats import wrapped

T = TypeVar("T")

RUNS = 10
MEBIBYTES = 64
PAUSE = 0.2
SLOW_TAR = f"""#!/bin/sh
real=$(PATH=/usr/bin:/bin command -v tar)
case "$1" in x*) ;; *) exec "$real" "$@" ;; esac
W={BUSYBOX}
slowly() {{
  while [ "$($W dd bs=1M count=1 iflag=fullblock 2>/dev/null | $W tee /proc/self/fd/3 | $W wc -c)" \
      -gt 0 ]; do $W sleep {PAUSE}; done
}}
slowly 3>&1 | "$real" "$@"
"""

STOPPED_TAR = f"""#!/bin/sh
real=$(PATH=/usr/bin:/bin command -v tar)
case "$1" in x*) exec {BUSYBOX} sleep 600 ;; *) exec "$real" "$@" ;; esac
"""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def digest(cluster: ClusterUnderTest) -> str:
    """Make the file; return its digest."""
    pod = cluster.pod("gnu-0")
    pod.fresh("/data")
    pod.sh(f"dd if=/dev/urandom of=/data/file bs=1M count={MEBIBYTES} 2>/dev/null")
    return pod.sha256("/data/file")


@pytest.fixture
def slow(cluster: ClusterUnderTest) -> Iterator[TestPod]:
    """A Pod whose tar reads slowly; its /srv is empty."""
    pod = cluster.pod("gnu-1")
    pod.fresh("/srv")
    with wrapped(pod, SLOW_TAR):
        yield pod
    pod.fresh("/srv")


def test_ten_copies_to_a_slow_reader_are_complete_and_equal(
    cluster: ClusterUnderTest, version: str, slow: TestPod, digest: str, report: Report
) -> None:
    def copy(number: int) -> Copied:
        return cluster.copy(version, "gnu-0:/data/file", f"gnu-1:/srv/{number}", "-c", "main")

    began = time.monotonic()
    for done in at_once(copy, RUNS):
        done.complete()
    assert time.monotonic() - began > MEBIBYTES * PAUSE, "the reader was not slow"
    digests = [slow.sha256(f"/srv/{number}") for number in range(RUNS)]
    assert digests == [digest] * RUNS
    report.add(f"slow reader, {version}: {RUNS} of {RUNS} copies complete and equal")


def test_what_the_pipeline_of_two_kubectls_loses(
    cluster: ClusterUnderTest, version: str, slow: TestPod, digest: str, report: Report
) -> None:
    """Counted for the report; the pipeline's losses are not ours to judge."""
    kubectl = os.environ.get("PODCP_KUBECTL") or shutil.which("kubectl")
    if not kubectl:
        pytest.skip("the peer is kubectl, and there is none")

    def pipe(number: int) -> bool:
        slow.sh(f"mkdir /srv/{number}")
        options = f"--kubeconfig={cluster.kubeconfig} --context=podcp-{version}"
        line = (
            f"{kubectl} {options} exec gnu-0 -c main -- tar cf - -C /data file | "
            f"{kubectl} {options} exec -i gnu-1 -- tar xf - -C /srv/{number}"
        )
        home = {**os.environ, "HOME": str(Path(cluster.kubeconfig).parent)}
        subprocess.run(["sh", "-c", line], capture_output=True, env=home, check=False)
        return slow.sh(f"sha256sum /srv/{number}/file || :")[:64].decode() == digest

    lost = RUNS - sum(at_once(pipe, RUNS))
    report.add(f"slow reader, {version}: kubectl exec | kubectl exec lost {lost} of {RUNS}")


def at_once(work: Callable[[int], T], times: int) -> list[T]:
    """Run ``work`` in as many threads and return what each gave."""
    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(work, range(times)))


@pytest.mark.parametrize("size", [1, 64])
def test_a_tar_that_has_stopped_is_given_up(
    cluster: ClusterUnderTest, version: str, digest: str, size: int
) -> None:
    """Whether its writers are blocked, or servers on the way have taken all there is."""
    del digest
    source, target = cluster.pod("gnu-0"), cluster.pod("gnu-1")
    target.fresh("/srv")
    source.sh(f"head -c {size << 20} /data/file >/data/some")
    words = ("gnu-0:/data/some", "gnu-1:/srv", "--stall-timeout", "2", "--retries", "0")
    with wrapped(target, STOPPED_TAR):
        done = cluster.copy(version, *words, "-c", "main", timeout=120)
    done.failed(1, "lost the destination: ", "took no", "for 2 s")
    assert target.names("/srv") == []
    wait_until(lambda: not target.ours(), 30, "something of the copy runs")
