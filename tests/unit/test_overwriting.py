"""Which files that are there already stay: who is asked, and what the destination is told."""

from __future__ import annotations

import dataclasses

import pytest

from kubectl_podcp import update
from kubectl_podcp.errors import DestinationRefused
from kubectl_podcp.overwriting import Overwriting
from kubectl_podcp.paths import LocalPath, Path, Placement, PodPath
from kubectl_podcp.remote.listing import Listing
from kubectl_podcp.remote.scripts import Rules
from kubectl_podcp.request import CopyRequest
from kubectl_podcp.update import Current
from tests.unit.test_resume import DIRECTORY, TOP, line, listed
from tests.unit.test_update import LINK

A, B = PodPath(None, "web-0", b"/top"), PodPath("shop", "web-1", b"/srv")
MERGED, PLACED = Placement(b"/srv/top", b""), Placement(b"/srv", b"new")
SOURCE = listed(
    TOP,
    line("top/file"),
    line("top/new"),
    line("top/two", links=2),
    line("top/link", mode=LINK),
    line("top/sub", mode=DIRECTORY),
    line("top/sub/b"),
)
TARGET = listed(
    TOP,
    line("top/sub", mode=DIRECTORY),
    line("top/file", 6),
    line("top/two"),
    line("top/link"),
    line("top/sub/b", mode=LINK),
    line("top/more"),
)
CLASHING = (b"top/file", b"top/two", b"top/link", b"top/sub/b")


class User:
    """Answers, and knows what it was asked."""

    def __init__(self, *yes: str) -> None:
        self.yes, self.asked = yes, list[str]()

    def __call__(self, path: str) -> bool:
        self.asked.append(path)
        return path in self.yes


def found(*names: bytes, source: Listing = SOURCE) -> Current:
    """What a comparison found, with ``names`` up to date."""
    clashing = update.clashing(SOURCE, TARGET)
    left = tuple(name for name in clashing if name not in names)
    return Current(source, frozenset(names), left)


def asking(user: User, destination: Path = B) -> Overwriting:
    """The rules of a copy about which ``user`` is asked."""
    return Overwriting(CopyRequest(A, destination, interactive=user), b"top")


def test_what_is_no_directory_at_either_end_clashes() -> None:
    assert tuple(update.clashing(SOURCE, TARGET)) == CLASHING
    assert update.clashing(SOURCE, listed(line("top"), line("top/sub"))) == []
    assert update.clashing(SOURCE, listed(TOP, line("top/file", mode=DIRECTORY))) == []


def test_without_a_rule_nothing_is_kept() -> None:
    for request in (CopyRequest(A, B), CopyRequest(A, B, backup="simple")):
        assert Overwriting(request, b"top").kept(found(), MERGED) == found()
    assert Overwriting(CopyRequest(A, B), b"top").rules() is None


def test_what_is_kept_is_not_sent_but_for_links() -> None:
    """Of a file with several names another one may be new."""
    overwriting = Overwriting(CopyRequest(A, B, no_clobber=True), b"top")
    kept = overwriting.kept(found(), MERGED)
    assert kept.names == kept.kept == {b"top/file", b"top/sub/b"}
    kept = overwriting.kept(found(b"top/file"), MERGED)
    assert kept.names == {b"top/file", b"top/sub/b"}
    assert kept.kept == {b"top/sub/b"}
    assert overwriting.rules() == Rules(only=())


def test_where_nothing_is_known_the_destination_decides() -> None:
    overwriting = Overwriting(CopyRequest(A, B, no_clobber=True), b"top")
    nothing = Current(None, frozenset())
    assert overwriting.kept(nothing, MERGED) == nothing
    assert overwriting.rules() == Rules(only=())


def test_each_file_is_asked_about_once() -> None:
    user = User("shop/web-1:/srv/top/file", "shop/web-1:/srv/top/link")
    overwriting = asking(user)
    for _ in range(2):
        kept = overwriting.kept(found(), MERGED)
        assert user.asked == [f"shop/web-1:/srv/{name.decode()}" for name in CLASHING]
        assert kept.names == kept.kept == {b"top/sub/b"}
    assert overwriting.rules() == Rules(only=(b"top/file", b"top/link"))


def test_what_is_up_to_date_is_not_asked_about() -> None:
    user = User()
    asking(user).kept(found(*CLASHING[1:]), MERGED)
    assert user.asked == ["shop/web-1:/srv/top/file"]


def test_a_question_names_the_place() -> None:
    user = User()
    source = listed(line("top"))
    asking(user, LocalPath(b"/x")).kept(Current(source, frozenset(), (b"top",)), PLACED)
    names = Current(listed(line("top/a\x1b")), frozenset(), (b"top/a\x1b",))
    asking(user, LocalPath(b"/x")).kept(names, MERGED)
    assert user.asked == ["/srv/new", "/srv/top/a\\x1b"]


def test_who_was_never_asked_said_no() -> None:
    assert asking(User()).rules() == Rules(only=())


def test_too_many_to_ask_about_are_refused_before_the_first() -> None:
    user = User()
    names = tuple(b"top/%050d" % number for number in range(1000))
    with pytest.raises(
        DestinationRefused, match="1,000 files are there already, too many"
    ) as caught:
        asking(user).kept(dataclasses.replace(found(), clashing=names), MERGED)
    assert "--no-clobber" in caught.value.advice
    assert user.asked == []


def test_backups_have_the_suffix_that_was_asked_for() -> None:
    request = CopyRequest(A, B, backup="simple")
    assert Overwriting(request, b"top").rules() == Rules("simple", b"~")
    request = CopyRequest(A, B, backup="numbered", suffix=b".o", interactive=User())
    assert Overwriting(request, b"top").rules() == Rules("numbered", b".o", ())


def test_where_nobody_can_be_asked_the_error_says_why() -> None:
    assert "nobody can be asked" in asking(User()).unlisted().happened
