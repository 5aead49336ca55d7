"""The table of docs/comparison.md is that of the parser's options."""

from __future__ import annotations

import argparse

import pytest

from tests import comparison


def test_each_option_stands_beside_those_of_other_tools() -> None:
    """`make docs` writes the table; what others have is said in tests/comparison.py."""
    unknown = [comparison.name(each) for each in comparison.options()]
    assert [name for name in unknown if name not in comparison.PEERS] == []
    text = comparison.PATH.read_text("utf-8")
    assert text == comparison.renewed(text, comparison.table(comparison.options())), "run make docs"


def test_what_is_said_of_others_is_said_of_those_in_the_table() -> None:
    named = {tool for peers in comparison.PEERS.values() for tool in peers}
    assert named <= set(comparison.TOOLS)


def test_only_the_table_is_written_anew() -> None:
    text = "before\n\n| option | what it does | a |\n|---|\n| old |\n\nafter\n\n| x |\n"
    assert comparison.renewed(text, ["| new |"]) == "before\n\n| new |\n\nafter\n\n| x |\n"


def test_an_option_that_nothing_is_said_of_is_noticed() -> None:
    option = argparse.ArgumentParser().add_argument("--new")
    with pytest.raises(KeyError, match="--new"):
        comparison.table([option])


def test_a_bar_does_not_end_a_cell() -> None:
    option = argparse.ArgumentParser().add_argument("-x", "--as", help="a|b")
    assert comparison.row(option, {"scp": "`-x`"}) == "| `-x`, `--as` | a\\|b |  |  |  | `-x` |  |"
