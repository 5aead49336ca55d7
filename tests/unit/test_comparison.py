"""The table of docs/comparison.md is that of the parser's options."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess

import pytest

from kubectl_podcp import arguments
from kubectl_podcp.errors import UsageError
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


def not_taken() -> set[str]:
    """Return kubectl's global options that the document says are not taken."""
    said = comparison.PATH.read_text("utf-8").partition("these are not taken")[2].partition(".")[0]
    return set(re.findall(r"`(--[a-z-]+)`", said))


def test_what_is_said_not_to_be_taken_is_not() -> None:
    assert len(not_taken()) > 5
    for flag in not_taken():
        with pytest.raises(UsageError, match=f"unrecognized arguments: {flag}"):
            arguments.parse("podcp", [f"{flag}=x", "a:/b", "./c"])


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is missing")
def test_each_global_option_of_kubectl_is_taken_or_said_not_to_be() -> None:
    told = subprocess.run(["kubectl", "options"], capture_output=True, text=True, check=True).stdout
    theirs = set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)=", told, re.M))
    ours = {flag for each in comparison.options() for flag in each.option_strings}
    assert "--token" in theirs
    assert theirs - ours <= not_taken()


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
