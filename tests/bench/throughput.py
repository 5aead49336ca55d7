"""Throughput beside ``kubectl exec | kubectl exec``, on the real cluster::

python -m tests.bench.throughput [PAIRS]

Each case is copied by both, alternating; what is printed is the median of the pairs' ratios
(above 1: the peer took longer). Machines differ and drift, so a ratio is all that is worth
quoting. Every result is compared by its checksum, the peer's too: a peer that lost data is
counted, and its time does not count. Exit code 1 if a ratio is below 1.

What is copied goes into memory. A disk's speed is its own affair, and ext4 gives out no inode of a
file that was deleted in the last minutes: it passes over them one by one, so that behind an ``rm``
5,500 new files take 0.13 to 3.9 s, whoever writes them.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

from kubectl_podcp.cluster import kubeconfig
from tests import one_file
from tests.cluster import binaries, layout
from tests.end_to_end import trees
from tests.end_to_end.pods import TestPod

DIGEST = "find {0} -type f -exec sha256sum {{}} + | sed 's#  .*/#  #' | sort | sha256sum"
FILES = 33_000
PLACE = "/memory"
ATTEMPTS = 5
"""Tries of the peer until it loses nothing."""


@dataclass(frozen=True)
class Case:
    """What is copied."""

    title: str
    name: str


CASES = (Case("one file of 512 MiB", "big"), Case(f"{FILES:,} files of 2 KiB", "tree"))


@dataclass
class Bench:
    """Both ends, and the two commands."""

    source: TestPod
    destination: TestPod
    version: str

    def ours(self, case: Case) -> float:
        """Copy with the one file; return the seconds."""
        argv = [*one_file.COMMAND, *self._options(), "-q", "-c", "main"]
        return self._timed([*argv, f"gnu-0:/data/{case.name}", f"gnu-1:{PLACE}"])

    def peer(self, case: Case) -> float:
        """Copy with two kubectls; return the seconds."""
        kubectl = f"{binaries.KUBECTL} {' '.join(self._options())}"
        line = (
            f"{kubectl} exec gnu-0 -c main -- tar cf - -C /data {case.name} | "
            f"{kubectl} exec -i gnu-1 -- tar xf - -C {PLACE}"
        )
        return self._timed(["sh", "-c", line])

    def equal(self, case: Case) -> bool:
        """Return whether both ends have the same files."""
        wanted = self.source.sh(DIGEST.format(f"/data/{case.name}"))
        return self.destination.sh(DIGEST.format(f"{PLACE}/{case.name} 2>/dev/null")) == wanted

    def _options(self) -> list[str]:
        return ["--kubeconfig", str(layout.KUBECONFIG), "--context", f"podcp-{self.version}"]

    def _timed(self, argv: list[str]) -> float:
        self.destination.fresh(PLACE)
        began = time.monotonic()
        subprocess.run(argv, stderr=subprocess.DEVNULL, check=False)
        return time.monotonic() - began


def compare(bench: Bench, case: Case, pairs: int) -> tuple[float, str]:
    """Measure one case; return the median ratio and a line about it."""
    ours, peers, lost = [], [], 0
    for _ in range(pairs):
        ours.append(bench.ours(case))
        assert bench.equal(case), "our copy is not equal"
        for _ in range(ATTEMPTS):
            seconds = bench.peer(case)
            if bench.equal(case):
                break
            lost += 1
        else:
            return 0.0, f"{case.title}, {bench.version}: the peer lost data {ATTEMPTS} times"
        peers.append(seconds)
    ratio = statistics.median(peer / our for our, peer in zip(ours, peers, strict=True))
    return ratio, (
        f"{case.title}, {bench.version}: ratio {ratio:.2f} "
        f"(ours {statistics.median(ours):.2f} s, kubectl exec | kubectl exec "
        f"{statistics.median(peers):.2f} s; it lost data in {lost} of {lost + pairs} runs)"
    )


def main(pairs: int) -> int:
    """Measure all cases; return the exit code."""
    cluster = kubeconfig.load(str(layout.KUBECONFIG), "podcp-v5")
    source, destination = TestPod(cluster, "gnu-0"), TestPod(cluster, "gnu-1")
    source.fresh("/data")
    source.sh("dd if=/dev/urandom of=/data/big bs=1M count=512 2>/dev/null")
    trees.put_big_tree(source, "/data", "tree", FILES)
    worst = float("inf")
    for version in ("v5", "v4"):
        for case in CASES:
            ratio, line = compare(Bench(source, destination, version), case, pairs)
            worst = min(worst, ratio)
            print(line, flush=True)
    destination.fresh(PLACE)
    return 0 if worst >= 1 else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
