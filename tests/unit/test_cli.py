"""The command line: words in, one line and an exit code out, and never a traceback.

The copy itself is replaced here; the end-to-end tests run the whole.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import io
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from kubectl_podcp import __main__, cli, errors
from kubectl_podcp._version import __version__
from kubectl_podcp.errors import Interrupted, PodcpError, SourceFailed, Unreachable
from kubectl_podcp.paths import PodPath
from kubectl_podcp.report import Report, Tally
from kubectl_podcp.request import CopyRequest
from tests.unit.peers import Background

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WORDS = ("web-0:/a", "web-1:/b")

REPORT = Report(
    status="complete",
    source="web-0:/a",
    destination="web-1:/b",
    target=b"/b",
    files=1,
    directories=0,
    size=1024,
    seconds=1.0,
    protocols=("v5.channel.k8s.io", "v5.channel.k8s.io"),
)
SUMMARY = "complete: 1 file, 1.0 KiB in 1.0 s (1.0 KiB/s, at /b)\n"

Notice = Callable[[str], None]
Carry = Callable[[CopyRequest, Tally, Notice], Report]


class Copying:
    """What the command line asked for, and what it gets.

    :ivar requests: what was asked for, in order.
    """

    def __init__(self) -> None:
        self.requests: list[CopyRequest] = []
        self.then: Carry = lambda _request, _tally, _notice: REPORT

    def __call__(self, request: CopyRequest, tally: Tally, on_notice: Notice) -> Report:
        self.requests.append(request)
        return self.then(request, tally, on_notice)

    def fails(self, error: BaseException) -> None:
        """Let the copy raise ``error``."""

        def fail(_request: CopyRequest, _tally: Tally, _notice: Notice) -> Report:
            raise error

        self.then = fail


@pytest.fixture
def copying(monkeypatch: pytest.MonkeyPatch) -> Copying:
    """The copy, replaced."""
    made = Copying()
    # Not by name: the package's attribute "copy" is the function.
    monkeypatch.setattr(importlib.import_module("kubectl_podcp.copy"), "carry_out", made)
    return made


@pytest.fixture(autouse=True)
def handlers_are_restored() -> Iterator[None]:
    """Check that each run leaves the signals as they were."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """What argparse breaks its lines for."""
    monkeypatch.setenv("COLUMNS", "80")


def run(*words: str, program: str = "/usr/bin/kubectl-podcp") -> int:
    """Run the command line."""
    return cli.main([program, *words])


def help_text() -> str:
    """What ``--help`` prints."""
    return cli.parser("kubectl podcp").format_help()


# --- what it says -----------------------------------------------------------------------------


def test_a_complete_copy_is_one_line_on_stderr(
    copying: Copying, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*WORDS) == 0
    assert capsys.readouterr() == ("", SUMMARY)
    assert copying.requests == [
        CopyRequest(PodPath(None, "web-0", b"/a"), PodPath(None, "web-1", b"/b"))
    ]


@pytest.mark.usefixtures("copying")
@pytest.mark.parametrize("option", ["-q", "--quiet"])
def test_a_quiet_copy_says_nothing(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(option, *WORDS) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("options", [[], ["-q"]], ids=["loud", "quiet"])
def test_a_partial_copy_always_says_what_is_missing(
    options: list[str], copying: Copying, capsys: pytest.CaptureFixture[str]
) -> None:
    stderr = b"tar: x\x1b[2J\xff: Permission denied\ntar: y: Permission denied\n"
    report = dataclasses.replace(REPORT, status="partial", stderr=stderr)
    copying.then = lambda _request, _tally, _notice: report
    assert run(*options, *WORDS) == 3
    assert capsys.readouterr() == (
        "",
        "  tar: x\\x1b[2J\\xff: Permission denied\n  tar: y: Permission denied\n"
        + SUMMARY.replace("complete", "partial"),
    )


@pytest.mark.parametrize(
    ("options", "lines"), [([], "1 left out\n" + SUMMARY), (["-q"], "")], ids=["loud", "quiet"]
)
def test_a_notice_is_a_line_on_stderr(
    options: list[str], lines: str, copying: Copying, capsys: pytest.CaptureFixture[str]
) -> None:
    def notify(_request: CopyRequest, _tally: Tally, on_notice: Notice) -> Report:
        on_notice("1 left out")
        return REPORT

    copying.then = notify
    assert run(*options, *WORDS) == 0
    assert capsys.readouterr() == ("", lines)


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        """Yes."""
        return True


def test_on_a_terminal_the_bar_makes_room_for_what_is_said(
    copying: Copying, monkeypatch: pytest.MonkeyPatch
) -> None:
    def notify(_request: CopyRequest, _tally: Tally, on_notice: Notice) -> Report:
        on_notice("1 left out")
        return REPORT

    copying.then = notify
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run(*WORDS) == 0
    assert terminal.getvalue() == "\r\x1b[K1 left out\n\r\x1b[K" + SUMMARY


@pytest.mark.usefixtures("copying")
def test_on_a_terminal_a_quiet_copy_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run("-q", *WORDS) == 0
    assert terminal.getvalue() == ""


def test_an_error_says_all_that_it_knows(
    copying: Copying, capsys: pytest.CaptureFixture[str]
) -> None:
    copying.fails(
        SourceFailed(
            "the source's tar ended with exit code 137",
            left="web-1:/b was not changed",
            advice="try again",
            stderr=b"Killed\x1b[2J\n",
        )
    )
    assert run(*WORDS) == 1
    assert capsys.readouterr() == (
        "",
        "error: the source's tar ended with exit code 137\n  Killed\\x1b[2J\n"
        "web-1:/b was not changed\ntry again\n",
    )


def test_a_bug_is_called_a_bug(copying: Copying, capsys: pytest.CaptureFixture[str]) -> None:
    copying.fails(KeyError("kind"))
    assert run(*WORDS) == 1
    assert capsys.readouterr() == ("", "error: a bug in kubectl-podcp: KeyError: 'kind'\n")


# --- exit codes -------------------------------------------------------------------------------


def promised() -> dict[str, str]:
    """Return the exit code of each branch of the tree in errors.py, as it is written there."""
    return dict(
        re.findall(r"^ {4}[├└]── (\w+) .*\((?:exit )?([^()]+)\)$", errors.__doc__ or "", re.M)
    )


def branch(kind: type[PodcpError]) -> str:
    """Return the name of the branch on which ``kind`` stands."""
    return next(each.__name__ for each in kind.__mro__ if each.__base__ is PodcpError)


@pytest.mark.parametrize(
    "kind",
    [
        kind
        for kind in vars(errors).values()
        if inspect.isclass(kind) and issubclass(kind, PodcpError) and kind is not PodcpError
    ],
)
def test_each_error_ends_with_the_exit_code_of_its_branch(
    kind: type[PodcpError], copying: Copying
) -> None:
    error = Interrupted(15) if kind is Interrupted else kind("it broke")
    expected = promised()[branch(kind)].replace("128 + n", "143")
    copying.fails(error)
    assert run(*WORDS) == int(expected)


def test_the_help_names_every_exit_code() -> None:
    _, _, text = help_text().partition("exit codes:\n")
    said = dict(re.findall(r"(\d+) (\w+)", text.replace("130 and ", "130 after, ")))
    assert said == {
        str(cli.COMPLETE): "complete",
        str(cli.FAILED): "failed",
        str(cli.USAGE): "usage",
        str(cli.PARTIAL): "partial",
        str(cli.REFUSED): "no",
        str(cli.SIGNALLED + signal.SIGINT): "after",
        str(cli.SIGNALLED + signal.SIGTERM): "after",
    }
    assert "4 no access to the API server" in text


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_the_copy(
    number: signal.Signals, code: int, copying: Copying, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_request: CopyRequest, _tally: Tally, _notice: Notice) -> Report:
        signal.raise_signal(number)
        raise AssertionError("the signal was not heard")

    copying.then = interrupted
    assert run(*WORDS) == code
    assert capsys.readouterr() == ("", "error: interrupted\n")


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_the_caller_ignores_stays_ignored(
    number: signal.Signals, copying: Copying
) -> None:
    def hang_up(_request: CopyRequest, _tally: Tally, _notice: Notice) -> Report:
        signal.raise_signal(number)
        return REPORT

    copying.then = hang_up
    before = signal.signal(number, signal.SIG_IGN)
    try:
        assert run(*WORDS) == 0
    finally:
        signal.signal(number, before)


@pytest.mark.usefixtures("copying")
def test_outside_of_the_main_thread_signals_are_somebody_elses() -> None:
    assert Background(lambda: run(*WORDS)).result() == 0


# --- the words --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "the following arguments are required: SOURCE, DESTINATION"),
        (["web-0:/a"], "the following arguments are required: DESTINATION"),
        ([*WORDS, "web-2:/c"], "unrecognized arguments: web-2:/c"),
        (["--nope", *WORDS], "unrecognized arguments: --nope"),
        (["--name", "x", *WORDS], "unrecognized arguments: --name"),
        ([*WORDS, "-n"], "argument -n/--namespace: expected one argument"),
        (["a", "b"], "neither a nor b is in a Pod"),
        (["./a", "/b"], "neither ./a nor /b is in a Pod"),
        (["a", "web-1:/b"], "a is on this machine"),
        (["web-0:/a", "b"], "b is on this machine"),
        (["web-0:", "web-1:/b"], "'web-0:' has an empty path"),
        (["web-0:/a", ""], "'' has an empty path"),
        (["", ""], "'' has an empty path"),
        (["a/b/c:/a", "web-1:/b"], "'a/b/c:/a' does not match [[namespace/]pod:]path"),
    ],
)
def test_a_usage_error_says_why_and_what_to_write(
    words: list[str], part: str, copying: Copying, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert stderr.startswith("error: ")
    assert part in stderr.splitlines()[0]
    assert "Traceback" not in stderr
    assert len(stderr.splitlines()) == 2, "what happened, and what to write instead"
    assert copying.requests == []


def test_every_option_reaches_the_request(copying: Copying) -> None:
    code = run(
        *("-n", "shop", "-c", "app", "--context", "west", "--kubeconfig", "/etc/k", "-T"),
        *("--retries", "2", "--partial"),
        *WORDS,
    )
    assert code == 0
    (request,) = copying.requests
    assert dataclasses.astuple(request)[2:] == (
        *("shop", "app", "west", "/etc/k", True, 60.0),
        *(2, True),
    )


def test_long_options_are_the_same(copying: Copying) -> None:
    assert (
        run(*WORDS, "--namespace=shop", "--container=app", "--no-target-directory", "--quiet") == 0
    )
    (request,) = copying.requests
    assert (request.namespace, request.container, request.no_target_directory) == (
        "shop",
        "app",
        True,
    )


@pytest.mark.usefixtures("copying")
@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("/home/u/.krew/bin/kubectl-podcp", "kubectl podcp"),
        ("kubectl_podcp/__main__.py", "kubectl-podcp"),
    ],
)
def test_it_calls_itself_what_the_user_called(
    program: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(program=program) == 2
    assert f"see '{name} --help'" in capsys.readouterr().err


# --- help and version -------------------------------------------------------------------------


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("--version")
    assert caught.value.code == 0
    assert capsys.readouterr() == (f"kubectl podcp {__version__}\n", "")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_what_was_asked_for(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """So it goes to stdout, and the program succeeded."""
    with pytest.raises(SystemExit) as caught:
        run(option)
    assert caught.value.code == 0
    assert capsys.readouterr() == (help_text(), "")


def test_the_help_is_no_longer_than_a_screen() -> None:
    assert len(help_text().splitlines()) <= 50


def test_the_help_is_no_wider_than_a_screen() -> None:
    assert [line for line in help_text().splitlines() if len(line) > 80] == []


def test_the_help_says_the_directory_rule_and_what_the_containers_need() -> None:
    text = help_text()
    assert "sh and tar" in text
    assert "cp -r" in text
    assert "-T makes the destination be the source" in text


def test_every_example_of_the_help_can_be_carried_out(copying: Copying) -> None:
    examples = re.findall(r"^  kubectl podcp (.*)$", help_text(), re.M)
    for example in examples:
        assert run(*example.split()) == 0
    assert len(copying.requests) == len(examples) == 3


# --- the program ------------------------------------------------------------------------------


def test_the_process_ends_with_the_exit_code(
    copying: Copying, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying.fails(Unreachable("no answer"))
    monkeypatch.setattr(sys, "argv", ["kubectl-podcp", *WORDS])
    with pytest.raises(SystemExit) as caught:
        __main__.run()
    assert caught.value.code == 4


def test_as_a_program_it_has_no_traceback_either() -> None:
    completed = subprocess.run(
        [sys.executable, "-m", "kubectl_podcp", "a", "b"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (completed.returncode, completed.stdout) == (2, "")
    assert completed.stderr.startswith("error: neither a nor b is in a Pod\n")
    assert "Traceback" not in completed.stderr
