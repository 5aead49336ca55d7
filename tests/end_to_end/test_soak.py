"""Random copies with random faults, a few of what ``make soak`` does: see tests/soak."""

from __future__ import annotations

import os
import random

import pytest

from tests.end_to_end.conftest import ClusterUnderTest
from tests.end_to_end.report import Report
from tests.soak import runner

COUNTS = {True: 100, False: 60}
"""How many copies, unless ``PODCP_SOAK_COUNT`` says otherwise: on a real cluster or not."""

SEED = 20_240_229
"""In CI, where a red run must be the change's fault; elsewhere another one each time."""


@pytest.mark.timeout(1800)
def test_random_copies_with_random_faults(cluster: ClusterUnderTest, report: Report) -> None:
    count = int(os.environ.get("PODCP_SOAK_COUNT", COUNTS[cluster.is_real]))
    chosen = SEED if os.environ.get("CI") else random.randrange(1 << 24)
    seed = int(os.environ.get("PODCP_SOAK_SEED", chosen))
    kubeconfig = str(cluster.kubeconfig) if cluster.is_real else None
    summary = runner.run(seed, range(count), 4, kubeconfig, print)
    for line in summary.lines():
        report.add(line)
    assert summary.failures == []
