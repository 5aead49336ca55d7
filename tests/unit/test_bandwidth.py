"""How a rate is written, and what a bucket lets go."""

from __future__ import annotations

import pytest

from kubectl_podcp import bandwidth
from kubectl_podcp.bandwidth import BURST, Bucket, rate
from kubectl_podcp.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("500K", 500 * 1024),
        ("10M", 10 << 20),
        ("1.5m", 1.5 * (1 << 20)),
        ("1G", 1 << 30),
        ("2MiB", 2 << 20),
        ("0", None),
    ],
)
def test_a_rate_is_in_binary_units(text: str, expected: float | None) -> None:
    assert rate(text) == expected


@pytest.mark.parametrize("text", ["", "10", "M", "-1M", "0K", "1MB", "1T", "1 M", "infM", "1e3K"])
def test_what_could_mean_two_things_is_no_rate(text: str) -> None:
    with pytest.raises(UsageError, match="is no rate") as caught:
        rate(text)
    assert "500K" in caught.value.advice


class Clock:
    """Stands for the module's time."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that goes when it is told to."""
    made = Clock()
    monkeypatch.setattr(bandwidth, "time", made)
    return made


def test_what_was_sent_is_paid_for_before_the_next(clock: Clock) -> None:
    bucket = Bucket(1000)
    assert bucket.take(2000) == 0
    assert bucket.take(500) == pytest.approx(2 - BURST)
    assert bucket.take(1) == pytest.approx(2.5 - BURST)
    clock.now += 2.5
    assert bucket.take(1) == 0


def test_a_pause_earns_no_more_than_the_burst(clock: Clock) -> None:
    bucket = Bucket(1000)
    bucket.take(1)
    clock.now += 3600
    sent = 0
    while not bucket.take(10):
        sent += 10
    assert sent <= 1000 * BURST + 10
