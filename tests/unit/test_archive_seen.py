"""Names that come again, in little memory."""

from __future__ import annotations

import tracemalloc

import pytest

from kubectl_podcp.archive import seen
from kubectl_podcp.archive.seen import Seen


def test_what_a_name_was_before() -> None:
    names = Seen()
    assert names.note(b"a", 1) == 0
    assert names.note(b"b", 2) == 0
    assert names.note(b"a", 3) == 1
    assert names.note(b"a", 7) == 3
    assert names.note(b"b", 2) == 2


def test_many_names_are_told_apart_in_little_memory() -> None:
    """A hundred thousand, of all kinds, in less than 24 bytes each and what a table begins with."""
    tracemalloc.start()
    names = Seen()
    for number in range(100_000):
        assert names.note(b"top/%d" % number, number % 7 + 1) == 0
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 25 * 131_072
    assert all(names.note(b"top/%d" % each, 1) == each % 7 + 1 for each in range(100_000))
    assert not names.is_full


def test_more_than_can_be_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seen, "MOST", 1000)
    names = Seen()
    for number in range(1000):
        assert names.note(b"%d" % number, 1) == 0
    assert not names.is_full
    names.note(b"one more", 1)
    assert names.is_full
