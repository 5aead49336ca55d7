"""Several destinations, of which one's Pod is deleted, one is full, and one stops reading."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster import pods as real_pods
from tests.end_to_end.breaker import Breaker, Link, breaking
from tests.end_to_end.conftest import ClusterUnderTest
from tests.end_to_end.faults.causes import delete_pod
from tests.end_to_end.pods import TestPod, wait_until
from tests.end_to_end.test_fanout import has_it, make_tree

MIB = 96
"""Servers and sockets take tens of them for a tar that reads nothing."""

SOME = 4 << 20
"""Bytes that go to all of them together before the first trouble."""

FULL = "/small/several"


@pytest.fixture
def full(cluster: ClusterUnderTest) -> Iterator[TestPod]:
    """A Pod with a small disk."""
    pod = cluster.pod("gnu-1")
    pod.sh(f"mkdir -p {FULL}")
    if not cluster.is_real:
        pod.sh(f"mount -t tmpfs -o size=2m several {FULL}")
    yield pod
    pod.sh(f"umount {FULL}" if not cluster.is_real else f"rm -rf {FULL}")


def signal_tar(pod: TestPod, signal: str) -> bool:
    """Send a signal to the tar that unpacks in a Pod; return whether there is one."""
    script = (
        'for p in /proc/[0-9]*; do [ "$(cat $p/comm 2>/dev/null)" = tar ] || continue; '
        f'kill -{signal} "${{p#/proc/}}"; echo $p; done'
    )
    return pod.sh(script) != b""


def test_those_that_fail_hurt_no_other(
    cluster: ClusterUnderTest, version: str, tmp_path: Path, full: TestPod
) -> None:
    sent = make_tree(cluster.pod("gnu-0"), MIB)
    whole, stops = cluster.pod("bsdtar-1"), cluster.pod("toybox-1")
    for pod in (whole, stops, cluster.pod("busybox-1")):
        pod.fresh("/srv")
    back: list[Callable[[], None]] = []
    errors: list[BaseException] = []

    def trouble(breaker: Breaker, _: Link) -> None:
        if breaker.up >= SOME and not back and not errors:
            try:
                wait_until(lambda: signal_tar(stops, "STOP"), 10, "no tar runs there")
                back.append(delete_pod(cluster, "busybox-1"))
            except BaseException as error:
                errors.append(error)

    places = (f"{full.name}:{FULL}", "busybox-1:/srv", "toybox-1:/srv", "bsdtar-1:/srv")
    words = [word for place in places for word in ("--to", place)]
    try:
        with breaking(cluster.kubeconfig, f"podcp-{version}", tmp_path) as (breaker, kubeconfig):
            breaker.on_passing = trouble
            through = replace(cluster, kubeconfig=kubeconfig)
            options = ("--stall-timeout", "8", "--retries", "0", "-o", "json")
            done = through.copy(version, "gnu-0:/data/tree", *words, *options)
    finally:
        for make in back:
            make()
        if cluster.is_real:
            real_pods.await_ready()
        signal_tar(stops, "CONT")
    assert errors == []
    assert done.code == 3, done
    copies = {each["destination"]: each for each in json.loads(done.stdout)["copies"]}
    status = {place: each["status"] for place, each in copies.items()}
    assert status == {**dict.fromkeys(places, "failed"), "bsdtar-1:/srv": "complete"}
    assert "No space left" in json.dumps(copies[places[0]]["error"])
    assert "in 8 s, and was given up" in json.dumps(copies["toybox-1:/srv"]["error"])
    has_it(whole, "bsdtar", sent)
    here = (cluster.pod("gnu-0"), full, stops, whole)
    wait_until(lambda: not any(pod.ours() for pod in here), 10, "a copy still runs")
    wait_until(lambda: stops.names("/srv") == [], 10, "something is left of what was given up")
    assert full.names(FULL) == []
