"""What is kept, by the words of the command line."""

from __future__ import annotations

import pytest

from kubectl_podcp.arguments import options, parse
from kubectl_podcp.errors import UsageError
from kubectl_podcp.fidelity import (
    EVERYTHING,
    FRACTIONS,
    KEPT,
    LINKS,
    MASKED,
    MODE,
    OWNERSHIP,
    SETUID,
    TIMESTAMPS,
    XATTR,
    XATTR_OR_NOTHING,
    owner,
)
from kubectl_podcp.request import CopyRequest, Options


def kept(*words: str) -> frozenset[str]:
    """Return what is kept where the command line has ``words`` in front of its paths."""
    said = parse("kubectl podcp", [*words, "a:/b", "c:/d"])
    assert (said.sources, said.destinations) == (["a:/b"], ["c:/d"])
    return options(said).preserve


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", KEPT),
        ("--preserve", KEPT | {SETUID, FRACTIONS}),
        ("--preserve=mode", KEPT | {SETUID}),
        ("--preserve=timestamps,links,ownership", KEPT | {FRACTIONS}),
        ("--preserve --no-preserve=timestamps", KEPT - {TIMESTAMPS} | {SETUID}),
        ("--preserve=all", EVERYTHING),
        ("--no-preserve", KEPT - {MODE, OWNERSHIP} | {MASKED}),
        ("--no-preserve=true", KEPT - {MODE, OWNERSHIP} | {MASKED}),
        ("--no-preserve=false", KEPT),
        ("--no-preserve=mode", KEPT - {MODE}),
        ("--no-preserve=all", frozenset()),
        ("--no-preserve=xattr,context", KEPT),
        ("--preserve=xattr", KEPT | {XATTR, XATTR_OR_NOTHING}),
        ("--preserve=all --no-preserve=xattr", EVERYTHING - {XATTR}),
        ("--no-preserve=all --preserve=links", frozenset({LINKS})),
        ("--preserve=all --no-preserve=mode", EVERYTHING - {MODE, SETUID}),
        ("--no-preserve --preserve=mode", KEPT - {OWNERSHIP} | {SETUID}),
        ("--no-preserve --no-preserve=mode", KEPT - {MODE, OWNERSHIP}),
        ("--preserve --no-preserve", KEPT - {MODE, OWNERSHIP} | {MASKED, FRACTIONS}),
        ("--no-preserve=ownership,timestamps", KEPT - {OWNERSHIP, TIMESTAMPS}),
    ],
)
def test_lists_mean_what_they_mean_to_cp(words: str, expected: frozenset[str]) -> None:
    assert kept(*words.split()) == expected


def test_behind_two_dashes_the_words_are_paths() -> None:
    said = parse("kubectl podcp", ["a:/b", "--", "--preserve", "c:/d"])
    assert said.sources == ["a:/b", "--preserve"]


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("--preserve=mode,context", "the destination's own policy"),
        ("--preserve=modes", "mode, ownership, timestamps, links, xattr, all"),
        ("--no-preserve=time", "mode, ownership, timestamps, links, xattr, all"),
        ("--chown=www-data", "names mean somebody else"),
    ],
)
def test_other_words_are_refused_with_advice(word: str, advice: str) -> None:
    with pytest.raises(UsageError) as caught:
        kept(word)
    assert advice in caught.value.advice


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", (0, None)),
        ("5:6", (5, 6)),
        (":6", (None, 6)),
        ("5:", (5, None)),
        ("4294967294:0", (4294967294, 0)),
    ],
)
def test_owners_are_numbers(text: str, expected: tuple[int | None, int | None]) -> None:
    assert owner(text) == expected


@pytest.mark.parametrize(
    "text", ["", ":", "root", "-1", "5:6:7", "4294967295", "0:4294967295", "٣"]
)
def test_what_is_no_number_is_no_owner(text: str) -> None:
    with pytest.raises(UsageError):
        owner(text)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Options(preserve=KEPT - {OWNERSHIP}, chown=(1, 1)), "--chown says who owns the copy"),
        (Options(preserve=KEPT - {TIMESTAMPS}, update=True), "--update goes by times"),
        (Options(preserve=KEPT - {TIMESTAMPS}, partial=True), "--partial goes by times"),
    ],
)
def test_what_contradicts_itself_is_refused(said: Options, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        CopyRequest.of("a:/b", "c:/d", said)


def test_contents_may_be_compared_where_times_are_not_kept() -> None:
    CopyRequest.of("a:/b", "c:/d", Options(preserve=KEPT - {TIMESTAMPS}, checksum=True))
