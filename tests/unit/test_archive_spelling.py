"""Names that some file systems take for one."""

from __future__ import annotations

import pytest

from kubectl_podcp.archive import spelling
from kubectl_podcp.archive.spelling import Spellings


def clash(*names: str | bytes) -> bytes | None:
    """Return the first that would take another's place."""
    found = Spellings()
    for name in names:
        found.note(name.encode() if isinstance(name, str) else name)
    return found.clash


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("top/Makefile", "top/makefile"),
        ("top/é", "top/É"),
        ("top/é", "top/e\u0301"),
        ("top/É", "top/e\u0301"),
        ("top/straße", "top/STRASSE"),
        (b"top/\xff-A", b"top/\xff-a"),
    ],
)
def test_names_that_are_spelled_otherwise(one: str | bytes, other: str | bytes) -> None:
    second = other.encode() if isinstance(other, str) else other
    assert clash("top", one, "top/z", other, "top/Z") == second
    assert clash("top", one, "top/z", "top/y") is None


def test_names_that_are_different_or_the_same() -> None:
    assert (
        clash("top", "top/a", "top/b", "top/a", "top/e", "top/é", b"top/\xff", b"top/\xfe") is None
    )


def test_what_cannot_be_remembered_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spelling, "MOST", 2)
    found = Spellings()
    for name in (b"a", b"b", b"a"):
        found.note(name)
        assert not found.is_full
    for name in (b"c", b"C"):
        found.note(name)
        assert found.is_full
    assert found.clash is None


def test_directories_that_are_only_named_on_the_way_count() -> None:
    assert clash("top/A", "top/a/x") == b"top/a"
    assert clash("top", "top/a/x", "top/A/x") == b"top/A"
    assert clash("top/a/b/x", "top/z", "top/a/B") == b"top/a/B"
    assert clash("top/a/b/x", "top/a/b/y", "top/a/z") is None


def test_nobody_asks_any_more() -> None:
    found = Spellings()
    found.note(b"a")
    found.forget()
    found.note(b"A")
    assert found.clash is None
