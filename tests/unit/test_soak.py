"""The soak itself: a case is the same each time, and what does not hold is noticed."""

from __future__ import annotations

import functools
import tarfile
from dataclasses import replace

import pytest

from tests.end_to_end.trees import Entry, Tree
from tests.soak import cases, verdict
from tests.soak.cases import Case, World
from tests.soak.client import Run
from tests.soak.verdict import Ends

WORLD = World(("gnu", "busybox", "bsdtar", "toybox"), ("v5", "v4"), can_lie=True)
FILE = Entry(tarfile.REGTYPE, 0o644, 0, 0, 1000, "5 digest")
OTHER = replace(FILE, content="6 another")
DIRECTORY = Entry(tarfile.DIRTYPE, 0o755, 0, 0, 1000, "")
NO_LINKS: frozenset[frozenset[bytes]] = frozenset()
STAGE = "/srv/.podcp-0123456789abcdef0123456789abcdef"


@functools.cache
def drawn() -> list[Case]:
    """Cases enough for one of each kind."""
    return [cases.draw(1, number, WORLD) for number in range(600)]


def case(layout: str, kind: str = "reset", **fields: object) -> Case:
    """A case of that layout, with that fault, between two GNU tars."""
    found = next(each for each in drawn() if (each.layout, each.fault.kind) == (layout, kind))
    return replace(found, pods=("gnu-0", "gnu-1"), prefix=b"tree", options=(), **fields)  # type: ignore[arg-type]


def ends(of: Case) -> Ends:
    """A source with a file, to be merged with a destination that has that one and another."""
    top = of.source[0][0].name.encode("utf-8", "surrogateescape")
    source = {b"": DIRECTORY, top: DIRECTORY, top + b"/file": FILE}
    old = {b"": DIRECTORY, b"tree": DIRECTORY, b"tree/file": OTHER, b"tree/kept": OTHER}
    return Ends.of(of, Tree(source, NO_LINKS), Tree(old, NO_LINKS))


def there(**changed: Entry | None) -> Tree:
    """What a complete copy leaves there, but for changes."""
    entries = {b"": DIRECTORY, b"tree": DIRECTORY, b"tree/file": FILE, b"tree/kept": OTHER}
    made: dict[bytes, Entry | None] = {
        **entries,
        **{b"tree/" + name.encode(): entry for name, entry in changed.items()},
    }
    return Tree({name: entry for name, entry in made.items() if entry}, NO_LINKS)


def ended(code: int, said: str) -> Run:
    """A run of the client."""
    return Run(code, b"", said.encode(), 1 << 20, 0.1)


def test_a_case_is_the_same_each_time() -> None:
    for number in range(30):
        one, same = cases.draw(7, number, WORLD), cases.draw(7, number, WORLD)
        assert str(one) == str(same)
        assert [content for _, content in one.source] == [content for _, content in same.source]
    assert str(cases.draw(8, 0, WORLD)) != str(cases.draw(7, 0, WORLD))


def test_every_fault_and_every_layout_is_drawn() -> None:
    kinds = {*cases.GENTLE, *cases.NETWORK, *cases.SIGNALS, *cases.KILLS, *cases.LIES, "full"}
    assert {each.fault.kind for each in drawn()} == kinds
    assert {each.layout for each in drawn()} == set(cases.LAYOUTS)
    assert {each.version for each in drawn()} == {"v5", "v4"}
    assert len({each.pods for each in drawn()}) == 20


def test_a_complete_copy() -> None:
    wanted = case("merge")
    verdict.check_end(wanted, ended(0, "complete: "), ends(wanted), there(), set())


@pytest.mark.parametrize(
    "found",
    [
        there(file=OTHER),
        there(file=replace(FILE, mtime=1001)),
        there(file=replace(FILE, mode=0o600)),
        there(file=None),
        there(kept=None),
        there(more=FILE),
        replace(there(), links=frozenset({frozenset({b"tree/file", b"tree/kept"})})),
    ],
    ids=["content", "time", "mode", "missing", "old one lost", "one more", "links"],
)
def test_a_copy_that_is_not_complete(found: Tree) -> None:
    wanted = case("merge")
    with pytest.raises(AssertionError, match="complete, but"):
        verdict.check_end(wanted, ended(0, "complete: "), ends(wanted), found, set())


def test_a_staging_folder_that_is_left() -> None:
    wanted, name = case("merge"), STAGE.rpartition("/")[2]
    with pytest.raises(AssertionError, match="is left"):
        verdict.check_end(wanted, ended(0, "complete: "), ends(wanted), there(), {name})
    old = there(file=OTHER)
    with pytest.raises(AssertionError, match="without a word"):
        verdict.check_end(wanted, ended(1, "error: x"), ends(wanted), old, {name})
    kept = ended(1, f"error: x\nwhat arrived is kept in {STAGE}: …")
    verdict.check_end(wanted, kept, ends(wanted), old, {name})
    with pytest.raises(AssertionError, match="said to be kept"):
        verdict.check_end(wanted, kept, ends(wanted), old, set())


def test_a_copy_that_failed_and_changed_something() -> None:
    wanted, run = case("merge"), ended(1, "error: x\nwas not changed")
    verdict.check_end(wanted, run, ends(wanted), there(file=OTHER), set())
    with pytest.raises(AssertionError, match="changed by a copy that failed"):
        verdict.check_end(wanted, run, ends(wanted), there(), set())
    with pytest.raises(AssertionError, match="without a fault"):
        gentle = case("merge", "none")
        verdict.check_end(gentle, run, ends(gentle), there(file=OTHER), set())


def test_a_mixture_of_whole_files() -> None:
    wanted, run = case("merge"), ended(1, "error: x\nhas some of the new files; each is whole")
    verdict.check_end(wanted, run, ends(wanted), there(), set())
    for broken in (there(file=replace(FILE, content="1 x")), there(kept=None), there(more=FILE)):
        with pytest.raises(AssertionError, match="not each file"):
            verdict.check_end(wanted, run, ends(wanted), broken, set())


@pytest.mark.parametrize(
    "run",
    [
        ended(0, ""),
        ended(1, "complete: x\nerror: y"),
        ended(1, "x"),
        ended(3, "error: x"),
        ended(1, "error: x\x1b[2J"),
        ended(1, "error: x\nTraceback"),
        replace(ended(1, "error: x"), stdout=b"x"),
        replace(ended(1, "error: x"), memory=65 << 20),
    ],
    ids=["nothing", "both", "no reason", "code", "raw", "traceback", "stdout", "memory"],
)
def test_words_that_do_not_hold(run: Run) -> None:
    with pytest.raises(AssertionError):
        verdict.check_words(case("merge", is_library=False), run)


def test_words_that_hold() -> None:
    verdict.check_words(case("merge"), ended(0, "complete: x"))
    verdict.check_words(case("merge"), ended(1, "error: x"))
    verdict.check_words(case("merge", "SIGINT"), ended(130, "error: interrupted"))
    late = "error: interrupted\nthe copy is complete: /srv/tree is the new one"
    verdict.check_words(case("merge", "SIGINT"), ended(130, late))
