"""How long a copy waits before it tries again."""

from __future__ import annotations

from kubectl_podcp.tries import wait


def test_each_retry_waits_longer_but_none_for_ever() -> None:
    waits = [wait(failed) for failed in range(1, 7)]
    assert waits == [1.0, 3.0, 9.0, 27.0, 60.0, 60.0]
    assert wait(100_000) == 60.0


def test_three_of_them_outlast_an_api_server_that_is_restarted() -> None:
    assert sum(wait(failed) for failed in (1, 2, 3)) > 10
