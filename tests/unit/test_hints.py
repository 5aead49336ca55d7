"""What is said to somebody whose command line cannot be read."""

from __future__ import annotations

import pytest

from kubectl_podcp import arguments, hints
from kubectl_podcp.errors import UsageError

WORDS = ("./x", "web-0:/x")


def advice(*words: str) -> str:
    """Return what the parser advises."""
    with pytest.raises(UsageError) as caught:
        arguments.parse("kubectl podcp", words)
    return caught.value.advice


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["-r", *WORDS], "leave out -r: a directory is copied with all that is in it"),
        (["--recursive", *WORDS], "leave out --recursive: a directory"),
        ([*WORDS, "-av"], "leave out -av: modes, times and links are kept without it"),
        (["--delete", *WORDS], "leave out --delete: nothing is ever deleted"),
        (["--delete=true", *WORDS], "leave out --delete: "),
        (["--namespce", "shop", *WORDS], "did you mean --namespace?"),
        (["--namespce=shop", *WORDS], "did you mean --namespace?"),
        (["--dest-contxt=shop", *WORDS], "did you mean --dest-context?"),
        ([], "for example: kubectl podcp ./photos shop/web-0:/data"),
        (["./x"], "for example: kubectl podcp ./photos shop/web-0:/data"),
        (["-v", *WORDS], "-v/--v takes a whole number"),
        (["--stall-timeout", "soon", *WORDS], "--stall-timeout takes a number"),
        (["--partial=yes", *WORDS], "--partial takes no value"),
        (
            ["--backup=off", *WORDS],
            "write -b/--backup, --backup=simple, --backup=numbered or --backup=existing",
        ),
    ],
    ids=" ".join,
)
def test_it_is_told_what_else_could_be_written(words: list[str], hint: str) -> None:
    assert advice(*words).startswith(hint)
    assert advice(*words).endswith("; see 'kubectl podcp --help'")


@pytest.mark.parametrize("word", ["--zigzag", "-Y"])
def test_where_nothing_is_alike_nothing_is_guessed(word: str) -> None:
    assert advice(word, *WORDS) == "see 'kubectl podcp --help'"


def test_nothing_is_said_of_other_messages() -> None:
    assert hints.hint("unrecognized arguments: web-2:/c", ["--namespace"], "x") == ""


def test_a_value_that_looks_like_an_option() -> None:
    said = hints.hint("argument -n/--namespace: expected one argument", [], "x")
    assert said == "it takes a value; one that begins with '-' is written --namespace=-x"
    said = hints.hint("argument --chmod: expected one argument", [], "x")
    assert said.endswith("--chmod=-x")


def test_what_is_only_a_little_alike_is_no_slip() -> None:
    options = ["--user", "--exclude", "--retries"]
    assert hints.hint("unrecognized arguments: --bogus", options, "x") == ""
    assert hints.hint("unrecognized arguments: --exlude", options, "x") == "did you mean --exclude?"


def test_no_option_that_there_is_counts_as_a_habit() -> None:
    made = arguments.parser("kubectl podcp", everything=True)
    there = {name for action in made._actions for name in action.option_strings}
    assert there.isdisjoint(hints.HABITS)
