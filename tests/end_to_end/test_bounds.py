"""What a copy may cost: memory."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from tests import one_file
from tests.end_to_end.conftest import ClusterUnderTest
from tests.end_to_end.report import Report

MEMORY = 64 << 20
"""Bytes that the client may have resident at the most."""

GIBIBYTES = 2


@pytest.mark.timeout(600)
def test_memory_stays_bounded_while_gibibytes_pass(
    cluster: ClusterUnderTest, version: str, report: Report
) -> None:
    """Measured on the one file, which is what users run; by the kernel, as a high-water mark."""
    gibibytes = GIBIBYTES if cluster.is_real else 0.25
    source, destination = cluster.pod("gnu-0"), cluster.pod("gnu-1")
    source.fresh("/data")
    destination.fresh("/srv")
    size = int(gibibytes * (1 << 30))
    source.sh(f"fallocate -l {size} /data/file")
    options = ["--kubeconfig", str(cluster.kubeconfig), "--context", f"podcp-{version}"]
    argv = [*one_file.COMMAND, *options, "-q", "-c", "main"]
    with subprocess.Popen([*argv, "gnu-0:/data/file", "gnu-1:/srv"]) as process:
        resident = 0
        while process.poll() is None:
            resident = max(resident, high_water(process.pid))
            time.sleep(0.02)
    assert process.returncode == 0
    assert int(destination.sh("stat -c %s /srv/file")) == size
    destination.fresh("/srv")
    report.add(f"memory, {version}: {resident / (1 << 20):.0f} MiB for {gibibytes:g} GiB")
    assert resident <= MEMORY


def high_water(process: int) -> int:
    """Return the most bytes that a process has had resident since it began its program.

    Not wait4()'s figure: that includes the process from which it was forked.
    """
    status = Path(f"/proc/{process}/status").read_text()
    lines = (line.split() for line in status.splitlines())
    return next((int(line[1]) * 1024 for line in lines if line[0] == "VmHWM:"), 0)
