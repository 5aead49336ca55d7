"""What of a source is wanted."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from kubectl_podcp import compare, lists
from kubectl_podcp.ends import LocalEnd
from kubectl_podcp.errors import UsageError
from kubectl_podcp.paths import Kind, SourceFacts
from kubectl_podcp.request import CopyRequest, Options
from kubectl_podcp.selection import Selection, Unseen, selection
from tests.unit.test_resume import DIRECTORY, TOP, line, listed


def wanted(found: Selection, *names: str) -> list[str]:
    """Which of these members are wanted; a slash ends the name of a directory."""
    return [
        name
        for name in names
        if found.wants(name.rstrip("/").encode(), is_directory=name.endswith("/"))
    ]


def test_all_is_wanted_where_nothing_was_said() -> None:
    found = selection((), None)
    assert found.is_all
    assert wanted(found, "top/", "top/a") == ["top/", "top/a"]


def test_patterns_are_seen_from_the_top_which_is_always_wanted() -> None:
    found = selection(("top", b"/a/b"), None)
    assert not found.is_all
    assert wanted(found, "top/", "top/top", "top/a/", "top/a/b", "top/b") == [
        "top/",
        "top/a/",
        "top/b",
    ]


def test_names_are_wanted_with_what_is_in_them_and_above() -> None:
    found = selection(("*.o",), ("a/b//c/", b"./d", "e/x.o"))
    names = ["top/", "top/a/", "top/a/b/", "top/a/b/c/", "top/a/b/c/x", "top/d", "top/e/"]
    others = ["top/a", "top/a/b/x", "top/a/b/c/x.o", "top/dd", "top/x", "top/e/x.o"]
    assert wanted(found, *names, *others) == names


def test_a_dot_among_the_names_is_everything() -> None:
    assert selection((), (".", "a")).is_all


def test_without_names_nothing_but_the_top_is_wanted() -> None:
    assert wanted(selection((), ()), "top/", "top/a") == ["top/"]


@pytest.mark.parametrize("name", ["/a", "a/../b", "..", "a\0b", "x" * 5000])
def test_other_names_are_refused_at_once(name: str) -> None:
    with pytest.raises(UsageError, match="--files-from"):
        CopyRequest.of("web-0:/a", "web-1:/b", Options(files_from=("good", name)))


def test_a_name_that_was_not_seen_is_told() -> None:
    unseen = Unseen(selection(("*.o", "d/"), ("a", "b/c", "x.o", "d", "\x1b")))
    unseen.note(b"top/a")
    unseen.note(b"top")
    assert unseen.lines() == (
        "\\x1b: there is no such name in the source\nb/c: there is no such name in the source\n"
    )


def test_a_listing_has_only_what_is_wanted() -> None:
    whole = listed(
        TOP,
        line("top/a", mode=DIRECTORY),
        line("top/a/x"),
        line("top/b", mode=DIRECTORY),
        line("top/b/x"),
    )
    asked = list[tuple[bytes, bool]]()

    def wants(name: bytes, is_directory: bool) -> bool:
        asked.append((name, is_directory))
        return name != b"top/a"

    assert whole.only(wants).names == [b"top", b"top/b", b"top/b/x"]
    assert (b"top/a/x", False) not in asked  # nothing is wanted in what is not
    assert (b"top/a", True) in asked


def test_what_stands_behind_a_link_is_in_no_listing() -> None:
    link = listed(TOP, line("top/link", mode="a1ff"))
    found = link.joined(listed(line("top/link/x")))
    assert found.only(lambda _name, _is_directory: True).names == [b"top", b"top/link"]


def test_lists_are_read_from_files_and_from_stdin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "list"
    file.write_bytes(b"a\nb \xff\n\n-c")
    assert lists.names(str(file), null=False) == [b"a", b"b \xff", b"-c"]
    assert lists.patterns(str(file)) == [b"a", b"b \xff", b"-c"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\nb\0\0c\0")))
    assert lists.names("-", null=True) == [b"a\nb", b"c"]
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(UsageError, match="'-' cannot be read, which --files-from names"):
        lists.names("-", null=True)
    with pytest.raises(UsageError, match="Is a directory"):
        lists.patterns(str(tmp_path))


# --- listed on a real machine --------------------------------------------------------------------


def listed_here(directory: Path, options: Options) -> list[str]:
    """What is listed of ``directory/top``, where our own shell lists it."""
    request = CopyRequest.of(f"{directory}/top", "web-0:/b", options)
    facts = SourceFacts(bytes(directory), b"top", Kind.DIRECTORY)
    found = SimpleNamespace(facts=facts)
    plan = SimpleNamespace(source=LocalEnd(), found=found, request=request)
    there = compare.list_source(plan)  # type: ignore[arg-type]
    assert there is not None
    assert there.said == b"names"
    return [name.decode() for name in there.names]


def test_of_a_tree_what_is_wanted_is_listed(tmp_path: Path) -> None:
    for name in ("a/x", "a/y.o", "a/z/x", "b/x"):
        (tmp_path / "top" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "top" / name).touch()
    some = listed_here(tmp_path, Options(exclude=("*.o", "/a/[z]", "/b")))
    assert sorted(some) == ["top", "top/a", "top/a/x"]
    some = listed_here(tmp_path, Options(exclude=("*.o",), files_from=("a", "b/none")))
    assert sorted(some) == ["top", "top/a", "top/a/x", "top/a/z", "top/a/z/x", "top/b"]
    assert listed_here(tmp_path, Options(files_from=())) == ["top"]


def test_names_are_listed_behind_their_directories_however_many(tmp_path: Path) -> None:
    """More than one session can be told."""
    names = [f"{number:0200}/{number:03}/x" for number in range(300)]
    for name in names:
        (tmp_path / "top" / name).parent.mkdir(parents=True)
        (tmp_path / "top" / name).touch()
    some = listed_here(tmp_path, Options(files_from=tuple(names)))
    assert len(some) == len(set(some)) == 1 + 3 * len(names)
    places = {name: place for place, name in enumerate(some)}
    assert all(places[name.rpartition("/")[0]] < places[name] for name in some[1:])
