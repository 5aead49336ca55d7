"""The tree of errors, what an error says, and what of it reaches a terminal."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_podcp import errors
from kubectl_podcp.archive.follower import CutArchive
from kubectl_podcp.errors import Interrupted, PodcpError, TimedOut, printable

CLASSES: dict[str, type[PodcpError]] = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, PodcpError)
}

CODES = {
    "PodcpError": "error",
    "UsageError": "usage",
    "AccessError": "access",
    "KubeconfigError": "kubeconfig",
    "Unreachable": "unreachable",
    "CertificateError": "certificate",
    "Unauthorized": "unauthorized",
    "Forbidden": "forbidden",
    "ProtocolRefused": "exec-protocol",
    "ServerError": "server",
    "PodNotFound": "pod-not-found",
    "PodNotRunning": "pod-not-running",
    "ContainerNotFound": "container-not-found",
    "ServerUnavailable": "server-unavailable",
    "ExecFailed": "exec-failed",
    "ConnectionLost": "connection-lost",
    "SourceError": "source",
    "SourceNotFound": "source-not-found",
    "SourceFailed": "source-failed",
    "SourceKilled": "source-killed",
    "IncompleteArchive": "incomplete-archive",
    "UnsafeMember": "unsafe-member",
    "DestinationError": "destination",
    "DestinationRefused": "destination-refused",
    "NoDirectory": "no-directory",
    "DestinationFailed": "destination-failed",
    "DestinationKilled": "destination-killed",
    "Mismatch": "mismatch",
    "NotAcknowledged": "not-acknowledged",
    "OutputFailed": "output",
    "Interrupted": "interrupted",
    "TimedOut": "timed-out",
}
"""What machines read. A code that was released never changes."""

RETRYABLE = {
    *("Unreachable", "ConnectionLost", "ServerUnavailable", "PodNotRunning"),
    *("SourceKilled", "IncompleteArchive", "DestinationKilled", "NotAcknowledged"),
}


def drawn() -> Iterator[tuple[str, str]]:
    """Return child and parent of each branch of the tree in the module's docstring."""
    parents = ["PodcpError"]
    for line in (errors.__doc__ or "").splitlines():
        if branch := re.match(r"([ │]*)[├└]── (\w+)", line):
            depth = len(branch[1]) // 4
            del parents[depth:]
            yield branch[2], parents[-1]
            parents.append(branch[2])


def test_the_tree_is_as_it_is_drawn() -> None:
    tree = {name: kind.__base__.__name__ for name, kind in CLASSES.items() if kind.__base__}
    assert tree.pop("PodcpError") == "Exception"
    assert dict(drawn()) == tree


def test_codes_are_stable() -> None:
    assert {name: kind.code for name, kind in CLASSES.items()} == CODES


def test_no_two_errors_share_a_code() -> None:
    assert len(set(CODES.values())) == len(CODES)


def test_what_may_succeed_when_it_is_tried_again() -> None:
    assert {name for name, kind in CLASSES.items() if kind.retryable} == RETRYABLE


def test_every_error_tells_when_it_is_raised() -> None:
    assert [name for name, kind in CLASSES.items() if not kind.__doc__] == []


def test_an_error_says_what_happened_what_is_left_and_what_to_do() -> None:
    error = PodcpError("it broke", left="nothing was changed", advice="try again", stderr=b"tar: x")
    assert str(error) == "it broke\n  tar: x\nnothing was changed\ntry again"
    assert error.args == ("it broke",)


def test_an_error_says_nothing_where_there_is_nothing_to_say() -> None:
    assert str(PodcpError("it broke")) == "it broke"


def test_what_is_learned_later_is_told_too() -> None:
    error = PodcpError("it broke")
    error.left = "nothing was changed"
    error.stderr = b"Killed"
    assert str(error) == "it broke\n  Killed\nnothing was changed"


def test_stderr_stays_as_it_came_and_is_escaped_when_it_is_printed() -> None:
    error = PodcpError("it broke", stderr=b"a\x1b[2J\xff\r\nb\n")
    assert error.stderr == b"a\x1b[2J\xff\r\nb\n"
    assert str(error) == "it broke\n  a\\x1b[2J\\xff\n  b"


def test_what_a_server_says_is_escaped_when_it_is_printed() -> None:
    """It may quote what runs in a container, or be a proxy's page."""
    error = PodcpError("exec: \x1b]0;evil\x07\nmore\r", left="\x9b31m", advice="\u202etry")
    assert error.happened == "exec: \x1b]0;evil\x07\nmore\r"
    assert str(error) == "exec: \\x1b]0;evil\\x07\nmore\\x0d\n\\x9b31m\n\\u202etry"


def test_an_end_by_the_clock_says_after_how_long() -> None:
    error = TimedOut(90.0, left="nothing was changed")
    assert str(error) == "not done within 90 s\nnothing was changed\ngive it more --timeout"


def test_an_interruption_knows_its_signal() -> None:
    error = Interrupted(15, left="nothing was changed")
    assert error.signum == 15
    assert str(error) == "interrupted\nnothing was changed"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain text, with spaces", "plain text, with spaces"),
        ("Größe 写真", "Größe 写真"),
        ("Größe".encode(), "Größe"),
        ("\0\t\n\r\x1b\x7f", "\\x00\\x09\\x0a\\x0d\\x1b\\x7f"),
        (b"\xff\xfe", "\\xff\\xfe"),
        ("\udcff", "\\xff"),
        ("\x9b31m", "\\x9b31m"),  # CSI in one character
        ("\u202etxt.exe", "\\u202etxt.exe"),  # turns the direction of what follows
        ("\u2028", "\\u2028"),
        ("\ud800", "\\ud800"),
        ("\U000e0001", "\\U000e0001"),
        ("\U0001f600", "\U0001f600"),
    ],
)
def test_what_is_printed(text: str | bytes, expected: str) -> None:
    assert printable(text) == expected


@given(st.binary() | st.text(st.characters()))
def test_whatever_came_is_safe_to_print(text: str | bytes) -> None:
    shown = printable(text)
    assert shown.isprintable()
    shown.encode("utf-8")


@given(st.text(st.characters(codec="utf-8")).filter(str.isprintable))
def test_what_is_printable_stays(text: str) -> None:
    assert printable(text) == printable(text.encode()) == text


USERS = {
    "UsageError",
    "KubeconfigError",
    "PodNotFound",
    "PodNotRunning",
    "ContainerNotFound",
    "SourceError",
    "SourceNotFound",
    "UnsafeMember",
    "DestinationRefused",
}
"""Errors about which whoever typed the command line can do something."""


def test_who_can_do_something_about_an_error_is_told_what() -> None:
    """Each place that raises one of these says what to do about it."""
    root = Path(errors.__file__).parent
    raised = [
        (f"{path.relative_to(root)}:{call.lineno}", call)
        for path in sorted(root.rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") in USERS
    ]
    assert len(raised) > 30
    silent = [at for at, call in raised if "advice" not in {each.arg for each in call.keywords}]
    assert silent == []


def test_a_twin_says_the_same_and_is_left_alone() -> None:
    cause = OSError("reset")
    error = CutArchive(12, 0, None, 3, 9)
    error.__cause__ = cause
    twin = error.twin()
    twin.left = "nothing"
    assert type(twin) is CutArchive
    assert (twin.happened, twin.received, twin.__cause__) == (error.happened, 3, cause)
    assert error.left == ""
