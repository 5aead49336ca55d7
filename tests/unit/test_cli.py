"""The command line: words in, one line and an exit code out, and never a traceback.

The copy itself is replaced here; the end-to-end tests run the whole.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import io
import json
import logging
import os
import pty
import queue
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from kubectl_podcp import __main__, arguments, cli, copies, errors, logs
from kubectl_podcp._version import __version__
from kubectl_podcp.archive.headers import REGULAR, Member
from kubectl_podcp.errors import Interrupted, PodcpError, SourceFailed, TimedOut, Unreachable
from kubectl_podcp.overrides import Overrides
from kubectl_podcp.paths import PodPath
from kubectl_podcp.report import Report, Tally
from kubectl_podcp.request import CopyRequest, Options
from tests.unit.peers import SECONDS, Background, until
from tests.unit.test_document import VALIDATOR

ROOT = Path(__file__).parents[2]
OPTIONS = "docs/options.md"
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

    def __call__(
        self, request: CopyRequest, tally: Tally, on_notice: Notice, _known: object = None
    ) -> Report:
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
    monkeypatch.setattr(copies, "carry_out", made)
    return made


@pytest.fixture(autouse=True)
def handlers_are_restored() -> Iterator[None]:
    """Check that each run leaves the signals as they were."""
    numbers = (*SIGNALS, signal.SIGPIPE)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.fixture(autouse=True)
def eighty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """What argparse breaks its lines for."""
    monkeypatch.setenv("COLUMNS", "80")


def run(*words: str, program: str = "/usr/bin/kubectl-podcp") -> int:
    """Run the command line."""
    return cli.main([program, *words])


def help_text(*, everything: bool = False) -> str:
    """What ``--help`` prints, or ``--help-all``."""
    return arguments.parser("kubectl podcp", everything=everything).format_help()


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
    ("options", "lines"),
    [([], "1 left out\\x1b[2J\n" + SUMMARY), (["-q"], "")],
    ids=["loud", "quiet"],
)
def test_a_notice_is_a_line_on_stderr(
    options: list[str], lines: str, copying: Copying, capsys: pytest.CaptureFixture[str]
) -> None:
    def notify(_request: CopyRequest, _tally: Tally, on_notice: Notice) -> Report:
        on_notice("1 left out\x1b[2J")
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
        on_notice("1 left out\x1b[2J")
        return REPORT

    copying.then = notify
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run(*WORDS) == 0
    assert terminal.getvalue() == "\r\x1b[J1 left out\\x1b[2J\n\r\x1b[J" + SUMMARY


@pytest.mark.usefixtures("copying")
def test_on_a_terminal_a_quiet_copy_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run("-q", *WORDS) == 0
    assert terminal.getvalue() == ""


class Unwritable(io.StringIO):
    """A stderr whose reader has gone, or whose disk is full."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def write(self, _text: str) -> int:
        """Fail."""
        raise self._error


UNWRITABLE = [Unwritable(BrokenPipeError(32, "gone")), Unwritable(OSError(28, "full")), None]


@pytest.mark.parametrize("stderr", UNWRITABLE, ids=["unread", "full", "closed"])
@pytest.mark.parametrize("verbosity", ["-v=0", "-v=9"])
def test_a_stderr_that_cannot_be_written_to_ends_nothing(
    stderr: io.StringIO | None,
    verbosity: str,
    copying: Copying,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither the copy nor its clean-up; the exit code tells how it went."""

    def talk(_request: CopyRequest, _tally: Tally, on_notice: Notice) -> Report:
        on_notice("1 left out")
        logging.getLogger("kubectl_podcp.copy").log(logs.CHOICES, "chosen")
        on_notice("another")
        return REPORT

    copying.then = talk
    monkeypatch.setattr(sys, "stderr", stderr)
    assert run(verbosity, *WORDS) == 0
    copying.fails(Unreachable("no answer"))
    monkeypatch.setattr(sys, "stderr", stderr)
    assert run(verbosity, *WORDS) == 4
    sys.stderr.close()  # what stands for it
    assert capsys.readouterr() == ("", "")


# --- the log ----------------------------------------------------------------------------------


def logging_copy(_request: CopyRequest, _tally: Tally, _notice: Notice) -> Report:
    """Log a line of each kind."""
    log = logging.getLogger("kubectl_podcp.copy")
    for name in ("CHOICES", "SCRIPTS", "REQUESTS", "HEADERS", "FRAMES"):
        log.log(vars(logs)[name], "%s", name)
    return REPORT


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ([], []),
        (["-v", "0"], []),
        (["-v=1"], ["CHOICES"]),
        (["-v4"], ["CHOICES", "SCRIPTS"]),
        (["-v", "6"], ["CHOICES", "SCRIPTS", "REQUESTS"]),
        (["-v=6"], ["CHOICES", "SCRIPTS", "REQUESTS"]),
        (["--v=6"], ["CHOICES", "SCRIPTS", "REQUESTS"]),
        (["--v", "7"], ["CHOICES", "SCRIPTS", "REQUESTS", "HEADERS"]),
        (["-q", "-v=9"], ["CHOICES", "SCRIPTS", "REQUESTS", "HEADERS", "FRAMES"]),
    ],
    ids=" ".join,
)
def test_v_is_spelled_and_means_what_it_does_for_kubectl(
    options: list[str], shown: list[str], copying: Copying, capsys: pytest.CaptureFixture[str]
) -> None:
    copying.then = logging_copy
    assert run(*options, *WORDS) == 0
    stdout, stderr = capsys.readouterr()
    said = re.findall(r"^\d\d:\d\d:\d\d\.\d{3} test_cli: (\w+)$", stderr, re.M)
    assert (stdout, said) == ("", shown)
    assert stderr.endswith(SUMMARY) is ("-q" not in options)


def test_after_a_run_nobody_listens_any_more(
    copying: Copying, capsys: pytest.CaptureFixture[str]
) -> None:
    copying.fails(KeyError("a bug"))
    assert run("-v=9", *WORDS) == 1
    capsys.readouterr()
    assert not logging.getLogger("kubectl_podcp.copy").isEnabledFor(logs.CHOICES)
    logging.getLogger("kubectl_podcp.copy").log(logs.CHOICES, "x")
    assert capsys.readouterr() == ("", "")


def test_a_logged_line_is_escaped_and_cannot_forge_another(
    copying: Copying, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # pytest would keep the line as it is, which no report of a test can carry between processes.
    monkeypatch.setattr(logging.getLogger("kubectl_podcp"), "propagate", False)

    def log(_request: CopyRequest, _tally: Tally, _notice: Notice) -> Report:
        said = "a script\nwith \x1b[2J\udcff\n00:00:00.000 copy: a lie\n"
        logging.getLogger("kubectl_podcp.copy").log(logs.SCRIPTS, said)
        return REPORT

    copying.then = log
    assert run("-q", "-v=4", *WORDS) == 0
    first, *more = capsys.readouterr().err.splitlines()
    assert first.endswith(" test_cli: a script")
    assert more == ["    with \\x1b[2J\\xff", "    00:00:00.000 copy: a lie"]


def test_on_a_terminal_the_bar_makes_room_for_what_is_logged(
    copying: Copying, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying.then = logging_copy
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run("-v=1", *WORDS) == 0
    text = re.sub(r"[\d:.]{12} ", "", terminal.getvalue())
    assert text == "\r\x1b[Jtest_cli: CHOICES\n\r\x1b[J" + SUMMARY


def test_a_signal_while_something_is_logged_is_heard(
    copying: Copying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handlers of Python's own would take it for a failure of theirs, and go on."""

    class Interrupting(io.StringIO):
        def write(self, text: str) -> int:
            if "CHOICES" in text:
                signal.raise_signal(signal.SIGINT)
            return super().write(text)

    copying.then = logging_copy
    stderr = Interrupting()
    monkeypatch.setattr(sys, "stderr", stderr)
    assert run("-v=1", *WORDS) == 130
    assert stderr.getvalue() == "error: interrupted\n"


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
    special: dict[type[PodcpError], PodcpError] = {
        Interrupted: Interrupted(15),
        TimedOut: TimedOut(5.0),
    }
    error = special.get(kind) or kind("it broke")
    expected = promised()[branch(kind)].replace("128 + n", "1" if kind is TimedOut else "143")
    copying.fails(error)
    assert run(*WORDS) == int(expected)


def test_the_help_names_every_exit_code() -> None:
    _, _, text = help_text(everything=True).partition("exit codes:\n")
    said = dict(re.findall(r"(\d+) (\w+)", text.replace("129, 130, ", "129 after, 130 after, ")))
    assert said == {
        str(cli.COMPLETE): "complete",
        str(cli.FAILED): "failed",
        str(cli.USAGE): "usage",
        str(cli.PARTIAL): "partial",
        str(cli.REFUSED): "no",
        str(cli.SIGNALLED + signal.SIGHUP): "after",
        str(cli.SIGNALLED + signal.SIGINT): "after",
        str(cli.SIGNALLED + signal.SIGTERM): "after",
        str(cli.SIGNALLED + signal.SIGPIPE): "output",
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


def test_a_signal_before_anything_has_begun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Between the handlers' installation and what hears them."""
    monkeypatch.setattr(cli, "_Document", lambda: signal.raise_signal(signal.SIGINT))
    assert run(*WORDS) == 130
    assert capsys.readouterr() == ("", "error: interrupted\n")


@pytest.mark.parametrize("number", [*SIGNALS, signal.SIGALRM])
def test_a_signal_ends_a_wait_that_it_does_not_interrupt(
    number: signal.Signals, copying: Copying
) -> None:
    """As when it comes just before the wait: Python notes it, and the wait begins all the same."""

    def wait(_request: CopyRequest, _tally: Tally, _notice: Notice) -> Report:
        def take_it() -> None:
            time.sleep(0.1)  # let the wait begin; before it the test could not fail
            signal.pthread_kill(threading.get_ident(), number)

        Background(take_it)
        queue.SimpleQueue[None]().get(timeout=SECONDS)
        raise AssertionError("nothing can have come")

    copying.then = wait
    began = time.monotonic()
    assert run("--timeout", "1h", *WORDS) == (1 if number == signal.SIGALRM else 128 + number)
    assert time.monotonic() - began < SECONDS
    assert signal.set_wakeup_fd(-1) == -1


def test_a_broken_connection_is_no_broken_output(copying: Copying) -> None:
    """The system sends SIGPIPE for either, and Python ignores it: the write fails all the same."""

    def write_to_nobody(_request: CopyRequest, _tally: Tally, _notice: Notice) -> Report:
        reader, writer = os.pipe()
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            os.write(writer, b"x")
        os.close(writer)
        return REPORT

    copying.then = write_to_nobody
    assert run(*WORDS) == 0


def test_a_reader_of_stdout_that_goes_ends_the_copy(
    copying: Copying, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SIGPIPE would, in the main thread, which waits for something else."""
    reader, writer = os.pipe()

    def leave(_request: CopyRequest, _tally: Tally, _notice: Notice) -> Report:
        os.close(reader)
        queue.SimpleQueue[None]().get()
        raise AssertionError("nothing can have come")

    copying.then = leave
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert run(*WORDS) == 141
    assert capsys.readouterr().err == "error: interrupted\n"


def test_after_a_first_signal_a_reader_that_goes_changes_nothing(
    copying: Copying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends a whole pipeline, and what reads us is mostly quicker: we clean up meanwhile."""
    reader, writer = os.pipe()
    sent = threading.Event()
    kill = signal.pthread_kill

    def told(thread: int, number: int) -> None:
        kill(thread, number)
        sent.set()

    def clean_up(_request: CopyRequest, _tally: Tally, _notice: Notice) -> Report:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            os.close(reader)
            assert sent.wait(10)
            time.sleep(0)  # a signal that came is heard here at the latest
        raise AssertionError("the signal was not heard")

    copying.then = clean_up
    monkeypatch.setattr(signal, "pthread_kill", told)
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert run(*WORDS) == 143


def test_two_signals_at_once_end_it_without_a_traceback() -> None:
    """The system hands both over before Python can look at the first."""
    program = (
        "import importlib, signal, sys\n"
        "from kubectl_podcp import arguments, cli\n"
        "def carry_out(*_):\n"
        "    both = {signal.SIGINT, signal.SIGTERM}\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, both)\n"
        "    for each in both: signal.raise_signal(each)\n"
        "    signal.pthread_sigmask(signal.SIG_UNBLOCK, both)\n"
        "importlib.import_module('kubectl_podcp.copies').carry_out = carry_out\n"
        "sys.exit(cli.main(['kubectl-podcp', 'a:/x', 'b:/y']))\n"
    )
    assert ended(program) == (-signal.SIGTERM, "")


def test_a_second_signal_ends_it_also_while_the_first_one_is_looked_at() -> None:
    program = (
        "import signal, sys\n"
        "from kubectl_podcp import cli, copies, signals\n"
        "def carry_out(*_): signal.raise_signal(signal.SIGINT)\n"
        "def late(number, handler, real=signal.signal):\n"
        "    if handler is signals._end_at_once: signal.raise_signal(number)\n"
        "    return real(number, handler)\n"
        "copies.carry_out, signal.signal = carry_out, late\n"
        "sys.exit(cli.main(['kubectl-podcp', 'a:/x', 'b:/y']))\n"
    )
    assert ended(program) == (-signal.SIGTERM, "")


def ended(program: str) -> tuple[int, str]:
    """Run a program; return its exit code, or minus the signal's number, and its stderr."""
    argv = [sys.executable, "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_changes_nothing_once_the_outcome_is_known(
    number: signal.Signals, copying: Copying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a script would take for failed what it was told is complete."""

    class Late(io.StringIO):
        def write(self, text: str) -> int:
            signal.raise_signal(number)
            monkeypatch.undo()
            return super().write(text)

    stderr = Late()
    monkeypatch.setattr(sys, "stderr", stderr)
    assert run(*WORDS) == 0
    assert stderr.getvalue() == SUMMARY
    assert len(copying.requests) == 1


@pytest.mark.usefixtures("copying")
def test_a_signal_that_comes_after_the_copy_says_that_it_is_complete(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """While a slow reader has not taken all lines, for example."""

    @contextmanager
    def late(*_: object, **__: object) -> Iterator[None]:
        yield
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(cli, "_progress", late)
    assert run(*WORDS) == 130
    assert capsys.readouterr().err == f"error: interrupted\n{SUMMARY}"
    assert run("-o", "json", *WORDS) == 130
    document = json.loads(capsys.readouterr().out)
    assert [each["status"] for each in document["copies"]] == ["complete"]
    assert document["error"]["code"] == "interrupted"


ENDS = """
import os, signal, sys
from kubectl_podcp import __main__, copies, report
def conclude(*_):
    for _ in range({times}): signal.raise_signal(signal.SIGTERM)
end = os._exit
os._exit = lambda code: (signal.raise_signal(signal.{at_exit}), end(code))
made = report.Report('complete', 'a', 'b', b'/b', 1, 0, 1, 1.0, ('', ''), 1, 1)
copies.carry_out = lambda *_: made
report.Report.summary = lambda _: conclude() or 'complete'
sys.argv = ['kubectl-podcp', 'a:/x', 'b:/y']
__main__.run()
"""


@pytest.mark.parametrize(
    ("times", "at_exit", "code", "said"),
    [
        (0, "SIGTERM", 0, "complete\n"),
        (0, "SIGINT", 0, "complete\n"),
        (1, "SIGINT", 0, "complete\n"),
        (2, "SIGINT", -signal.SIGTERM, ""),
    ],
)
def test_a_signal_at_the_very_end_does_not_spoil_the_exit_code(
    times: int, at_exit: str, code: int, said: str
) -> None:
    """But a second one ends a process that cannot say how it went, as where nobody reads that."""
    assert ended(ENDS.format(times=times, at_exit=at_exit)) == (code, said)


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


def test_outside_of_the_main_thread_nobody_waits_for_a_signal(
    copying: Copying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No handler of ours would say that it was heard."""
    reader, writer = os.pipe()

    def leave(_request: CopyRequest, _tally: Tally, _notice: Notice) -> Report:
        os.close(reader)
        return REPORT

    copying.then = leave
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert Background(lambda: run(*WORDS)).result() == 0


# --- a time limit -----------------------------------------------------------------------------


def wait_for_ever(_request: CopyRequest, _tally: Tally, _notice: Notice) -> Report:
    """Wait for what never comes, as for the relay's threads."""
    queue.SimpleQueue[None]().get()
    raise AssertionError("nothing can have come")


def test_what_is_not_done_in_time_is_ended(
    copying: Copying, capsys: pytest.CaptureFixture[str]
) -> None:
    copying.then = wait_for_ever
    assert run("--timeout", "200ms", *WORDS) == 1
    assert capsys.readouterr().err == "error: not done within 0.2 s\ngive it more --timeout\n"


def test_the_time_limit_strikes_once(copying: Copying) -> None:
    """Cleaning up takes as long as it takes."""
    cleaned = []

    def clean_up(*args: object) -> Report:
        try:
            return wait_for_ever(*args)  # type: ignore[arg-type]
        finally:
            time.sleep(0.2)
            cleaned.append(True)

    copying.then = clean_up
    assert run("--timeout", "50ms", *WORDS) == 1
    assert cleaned == [True]


@pytest.mark.usefixtures("copying")
@pytest.mark.parametrize("limit", ["0", "1h"])
def test_what_is_done_in_time_leaves_no_alarm(limit: str) -> None:
    before = signal.getsignal(signal.SIGALRM)
    assert run("--timeout", limit, *WORDS) == 0
    assert signal.getsignal(signal.SIGALRM) is before
    if limit != "0":
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_time_limit_must_be_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--timeout", "soon", *WORDS) == 2
    assert capsys.readouterr().err.startswith("error: --timeout 'soon' is no duration\n")


# --- what scripts read ------------------------------------------------------------------------


def document_of(text: str) -> dict[str, Any]:
    """Return the document on stdout; it is the only thing there."""
    read = json.loads(text)
    VALIDATOR.validate(read)
    assert isinstance(read, dict)
    return read


@pytest.mark.parametrize(
    "option",
    [["-o", "json"], ["-ojson"], ["--output=json"], ["-o=json"], ["-qo", "json"], ["-qojson"]],
)
@pytest.mark.usefixtures("copying")
def test_the_document_of_a_copy(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*option, *WORDS) == 0
    stdout, stderr = capsys.readouterr()
    assert stderr == ("" if option[0].startswith("-q") else SUMMARY)
    told = document_of(stdout)
    assert (told["status"], told["exit_code"], told["error"]) == ("complete", 0, None)
    (copy,) = told["copies"]
    assert (copy["target"], copy["bytes"]) == ("/b", 1024)
    assert "items" not in copy


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        (SourceFailed("it broke"), 1, "source-failed"),
        (Unreachable("no answer"), 4, "unreachable"),
        (Interrupted(signal.SIGINT), 130, "interrupted"),
        (TimedOut(5.0), 1, "timed-out"),
    ],
)
def test_the_document_of_a_failure(
    error: PodcpError,
    exit_code: int,
    code: str,
    copying: Copying,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copying.fails(error)
    assert run("-o", "json", *WORDS) == exit_code
    stdout, stderr = capsys.readouterr()
    assert stderr == f"error: {error}\n"
    told = document_of(stdout)
    assert (told["status"], told["exit_code"]) == ("failed", exit_code)
    (copy,) = told["copies"]
    assert (copy["source"], copy["error"]["code"]) == ("web-0:/a", code)


@pytest.mark.parametrize(
    ("words", "exit_code", "code"),
    [(["--nope", *WORDS], 2, "usage"), (["a", "b"], 2, "usage"), (WORDS, 1, "bug")],
)
def test_the_document_where_there_was_no_copy(
    words: list[str],
    exit_code: int,
    code: str,
    copying: Copying,
    capsys: pytest.CaptureFixture[str],
) -> None:
    copying.fails(KeyError("x"))
    assert run("-o", "json", *words) == exit_code
    told = document_of(capsys.readouterr().out)
    assert (told["copies"], told["error"]["code"]) == ([], code)


MEMBER = Member(b"a\x1b\xff\xc3\xa9", REGULAR, 5, 0o644, 0, 0, 0)


def passing(_request: CopyRequest, tally: Tally, _notice: Notice) -> Report:
    """Let a member pass, in two attempts."""
    assert tally.watcher is not None
    for _ in range(2):
        tally.watcher.begin(())
        tally.watcher.add(MEMBER)
    return REPORT


def test_items_are_lines_on_stdout(copying: Copying, capsys: pytest.CaptureFixture[str]) -> None:
    copying.then = passing
    assert run("--itemize", "-q", *WORDS) == 0
    line = "-rw-r--r--              5 1970-01-01T00:00:00Z a\\x1b\\xffé\n"
    assert capsys.readouterr() == (line, "")


def test_items_are_in_the_document(copying: Copying, capsys: pytest.CaptureFixture[str]) -> None:
    copying.then = passing
    assert run("--itemize", "-o", "json", *WORDS) == 0
    (copy,) = document_of(capsys.readouterr().out)["copies"]
    assert [item["name"] for item in copy["items"]] == ["a\\x1b\\xffé"]


def test_on_a_terminal_the_bar_makes_room_for_items(
    copying: Copying, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying.then = passing
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert run("--itemize", *WORDS) == 0
        assert os.read(ours, 100).startswith(b"-rw-r--r-- ")
    os.close(ours)
    assert terminal.getvalue() == "\r\x1b[J" * 2 + SUMMARY


@pytest.mark.parametrize("option", [["--itemize"], ["-o", "json"]], ids=" ".join)
@pytest.mark.parametrize("stdout", [Unwritable(OSError(28, "full")), None], ids=["full", "closed"])
def test_a_stdout_that_cannot_be_written_to_is_an_error(
    option: list[str],
    stdout: io.StringIO | None,
    copying: Copying,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copying.then = passing
    monkeypatch.setattr(sys, "stdout", stdout)
    assert run(*option, *WORDS) == 1
    assert "error: cannot write to stdout: " in capsys.readouterr().err
    sys.stdout.close()  # what stands for it


@pytest.mark.usefixtures("copying")
def test_no_document_where_it_is_a_path_that_is_called_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("-q", "--", "-ojson", "web-1:/b") == 0
    assert run("--no-such-flag", "--", "-o", "json") == 2
    assert capsys.readouterr().out == ""


def test_a_copy_whose_items_cannot_be_printed_is_complete(
    copying: Copying, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    copying.then = passing
    with Path("/dev/full").open("w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert run("--itemize", *WORDS) == 1
    assert capsys.readouterr().err.splitlines()[:2] == [
        "error: cannot write to stdout: No space left on device",
        SUMMARY.rstrip("\n"),
    ]
    sys.stdout.close()  # what stands for it


def test_a_signal_is_heard_while_nobody_reads_the_items(
    copying: Copying, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy's thread prints them, and the main one waits for it."""
    reader, writer = os.pipe()

    def pass_many(_request: CopyRequest, tally: Tally, _notice: Notice) -> Report:
        def read_source() -> None:
            assert tally.watcher is not None
            for number in range(100_000):
                tally.watcher.add(dataclasses.replace(MEMBER, name=b"%d" % number))

        thread = Background(read_source)
        full = select.poll()
        full.register(writer, select.POLLOUT)
        until(lambda: not full.poll(0))
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            thread.result()
        raise AssertionError("the signal was not heard")

    copying.then = pass_many
    with os.fdopen(writer, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert run("--itemize", *WORDS) == 143
    os.close(reader)


def test_a_character_that_stdout_has_not_is_escaped(
    copying: Copying, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying.then = passing
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert run("--itemize", *WORDS) == 0
    assert written.getvalue().endswith(b" a\\x1b\\xff\\xe9\n")


@pytest.mark.usefixtures("copying")
def test_progress_for_machines_ends_with_an_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--progress", "json", "-q", *WORDS) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["phase"] == "copying"


@pytest.mark.parametrize("kind", ["plain", "json"])
def test_progress_in_lines_has_no_control_characters(
    kind: str, copying: Copying, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "EACH", dict.fromkeys(cli.EACH, 0.01))
    terminal = Terminal()

    def wait(_request: CopyRequest, _tally: Tally, on_notice: Notice) -> Report:
        on_notice("a notice")
        until(lambda: terminal.getvalue().count("\n") > 1)
        return REPORT

    copying.then = wait
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run("--progress", kind, *WORDS) == 0
    assert terminal.getvalue().endswith(SUMMARY)
    assert "\x1b" not in terminal.getvalue()
    assert "\r" not in terminal.getvalue()


def test_without_progress_a_terminal_has_no_bar(
    copying: Copying, monkeypatch: pytest.MonkeyPatch
) -> None:
    del copying
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run("--progress", "none", *WORDS) == 0
    assert terminal.getvalue() == SUMMARY


# --- the words --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "the following arguments are required: SOURCE, DESTINATION"),
        (["web-0:/a"], "the following arguments are required: DESTINATION"),
        ([*WORDS, "-T", "web-2:/c"], "with several sources, the destination cannot be"),
        (
            [*WORDS, "web-2:/a", "web-3:/c"],
            "web-0:/a and web-2:/a would both become 'a' in web-3:/c",
        ),
        ([*WORDS, "--files-from", "/none"], "'/none' cannot be read, which --files-from names"),
        ([*WORDS, "--exclude-from", "/none"], "'/none' cannot be read, which --exclude-from"),
        ([*WORDS, "-0"], "--null says how names end, and there are none"),
        (["--nope", *WORDS], "unrecognized arguments: --nope"),
        (["--name", "x", *WORDS], "unrecognized arguments: --name"),
        ([*WORDS, "-n"], "argument -n/--namespace: expected one argument"),
        ([*WORDS, "-v"], "argument -v/--v: expected one argument"),
        ([*WORDS, "-v=much"], "argument -v/--v: invalid int value: 'much'"),
        (["a", "b"], "neither a nor b is in a Pod"),
        (["./a", "/b"], "neither ./a nor /b is in a Pod"),
        (["web-0:", "web-1:/b"], "'web-0:' has an empty path"),
        (["web-0:/a", ""], "'' has an empty path"),
        (["", ""], "'' has an empty path"),
        (["a/b/c:/a", "web-1:/b"], "'a/b/c:/a' does not match [[namespace/]pod:]path"),
        (["--request-timeout", "soon", *WORDS], "--request-timeout 'soon' is no duration"),
        (["--bwlimit", "500", *WORDS], "--bwlimit '500' is no rate"),
        (["--progress", "loud", *WORDS], "argument --progress: invalid choice: 'loud'"),
        (["-o", "yaml", *WORDS], "argument -o/--output: invalid choice: 'yaml'"),
        (
            ["--dest-context", "x", "--token", "secret", *WORDS],
            "--token does not say for which of the two clusters",
        ),
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
    assert "secret" not in stderr
    assert len(stderr.splitlines()) == 2, "what happened, and what to write instead"
    assert copying.requests == []


@pytest.mark.parametrize("words", [["--retries", "-1"], ["--retries=-1"]])
def test_a_negative_number_may_stand_for_itself(words: list[str], copying: Copying) -> None:
    assert run(*words, *WORDS) == 0
    assert copying.requests[0].retries == -1


def test_every_option_reaches_the_request(copying: Copying) -> None:
    code = run(
        *("-n", "shop", "-c", "app", "--context", "west", "--kubeconfig", "/etc/k", "-T"),
        *("--retries", "2", "--partial", "--update", "--checksum", "--verify"),
        *("--source-container", "one", "--dest-container", "two"),
        *("--source-context", "a", "--dest-context", "b"),
        *("--source-kubeconfig", "/a", "--dest-kubeconfig", "/b"),
        *("--as", "jane", "--as-group", "x", "--as-group", "y,z", "--as-uid", "7"),
        *("--request-timeout", "1m", "--bwlimit", "1.5M"),
        *("--backup=numbered", "-S", ".orig"),
        *WORDS,
    )
    assert code == 0
    (request,) = copying.requests
    assert request == CopyRequest.of(
        *WORDS,
        Options(
            namespace="shop",
            container="app",
            context="west",
            kubeconfig="/etc/k",
            no_target_directory=True,
            retries=2,
            partial=True,
            update=True,
            checksum=True,
            verify=True,
            backup="numbered",
            suffix=b".orig",
            bwlimit=1.5 * (1 << 20),
            source_container="one",
            dest_container="two",
            source_context="a",
            dest_context="b",
            source_kubeconfig="/a",
            dest_kubeconfig="/b",
            overrides=Overrides(
                as_user="jane", as_groups=("x", "y,z"), as_uid="7", request_timeout=60.0
            ),
        ),
    )
    assert request.access == (("/a", "a"), ("/b", "b"))


@pytest.mark.parametrize(
    ("words", "fields"),
    [
        (["--no-clobber"], {"no_clobber": True}),
        (["-b"], {"backup": "existing"}),
        (["--backup"], {"backup": "existing"}),
        (["--backup=existing"], {"backup": "existing"}),
        (["--backup=simple", "--suffix", ".o"], {"backup": "simple", "suffix": b".o"}),
        (["--backup=simple", "--suffix=\udcff"], {"backup": "simple", "suffix": b"\xff"}),
    ],
)
def test_what_becomes_of_files_reaches_the_request(
    words: list[str], fields: dict[str, Any], copying: Copying
) -> None:
    """The paths may follow at once: no option takes one for its value."""
    assert run(*words, *WORDS) == 0
    assert copying.requests == [CopyRequest.of(*WORDS, Options(**fields))]


class Asked(io.StringIO):
    """A terminal from which answers come."""

    def isatty(self) -> bool:
        """Say that it is one."""
        return True


@pytest.mark.parametrize(
    ("typed", "answer", "more"),
    [
        ("y\n", True, ""),
        ("  Yes\n", True, ""),
        ("n\n", False, ""),
        ("\n", False, ""),
        ("", False, "\n"),
        ("yes", True, "\n"),
    ],
)
def test_the_user_is_asked_on_the_terminal(
    copying: Copying, monkeypatch: pytest.MonkeyPatch, typed: str, answer: bool, more: str
) -> None:
    """The end of input is no; its line is ended for whatever is said next."""
    answers = []

    def ask(request: CopyRequest, _tally: Tally, _notice: Notice) -> Report:
        assert request.interactive is not None
        answers.append(request.interactive("web-1:/b"))
        return REPORT

    copying.then = ask
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdin", Asked(typed))
    assert run("-i", *WORDS) == 0
    assert answers == [answer]
    assert terminal.getvalue().startswith(f"\r\x1b[Joverwrite web-1:/b? {more}\r\x1b[J")


@pytest.mark.parametrize("missing", ["stdin", "stderr"])
def test_without_a_terminal_nobody_can_be_asked(
    copying: Copying,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    missing: str,
) -> None:
    if missing == "stderr":
        monkeypatch.setattr(sys, "stdin", Asked())
    else:
        monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert run("--interactive", *WORDS) == 2
    said = capsys.readouterr().err
    assert "error: --interactive asks on a terminal" in said
    assert "--no-clobber keeps what is there" in said
    assert copying.requests == []


def test_what_is_wanted_reaches_the_request(copying: Copying, tmp_path: Path) -> None:
    """In the order of the command line, for the last pattern counts."""
    rules, names = tmp_path / "rules", tmp_path / "names"
    rules.write_bytes(b"# comment\n*.o\n!keep.o  \n")
    names.write_bytes(b"a\nb\0c\xff\0")
    words = ("--exclude", "first", "--exclude-from", str(rules), "--exclude", "last", WORDS[0])
    assert run(*words, "--files-from", str(names), "-0", WORDS[1]) == 0
    (request,) = copying.requests
    assert request.exclude == (b"first", b"*.o", b"!keep.o", b"last")
    assert request.files_from == (b"a\nb", b"c\xff")


@pytest.mark.parametrize(
    "words",
    [
        ["-n", "x", *WORDS],
        [*WORDS, "-n", "x"],
        [WORDS[0], "-n", "x", WORDS[1]],
        ["-n", "x", "--", *WORDS],
        [WORDS[0], "-n", "x", "--", WORDS[1]],
    ],
)
def test_flags_may_stand_anywhere(words: list[str], copying: Copying) -> None:
    assert run(*words) == 0
    (request,) = copying.requests
    assert (request.namespace, str(request.source), str(request.destination)) == ("x", *WORDS)


def test_behind_two_dashes_all_is_a_path(copying: Copying) -> None:
    assert run("-q", "--", "-n", "web-1:/b") == 0
    (request,) = copying.requests
    assert str(request.source) == "-n"


def test_kubectls_flags_reach_the_request(copying: Copying) -> None:
    code = run(
        *("--cluster", "c", "--user", "u", "--token", "secret", "-s", "https://x", "--as=jane"),
        *("--certificate-authority", "ca", "--client-certificate", "crt", "--client-key", "key"),
        *("--tls-server-name", "n", "--insecure-skip-tls-verify"),
        *WORDS,
    )
    assert code == 0
    (request,) = copying.requests
    assert request.overrides == Overrides(
        cluster="c",
        user="u",
        token="secret",
        server="https://x",
        as_user="jane",
        certificate_authority="ca",
        client_certificate="crt",
        client_key="key",
        tls_server_name="n",
        insecure_skip_tls_verify=True,
    )
    assert "secret" not in repr(request)


@pytest.mark.parametrize(
    ("words", "insecure"),
    [
        ([], False),
        (["--insecure-skip-tls-verify"], True),
        (["--insecure-skip-tls-verify=true"], True),
        (["--insecure-skip-tls-verify=false"], False),
        (["--insecure-skip-tls-verify", "--insecure-skip-tls-verify=false"], False),
    ],
)
def test_a_flag_may_have_its_value_beside_it(
    words: list[str], insecure: bool, copying: Copying
) -> None:
    assert run(*words, *WORDS) == 0
    (request,) = copying.requests
    assert request.overrides.insecure_skip_tls_verify is insecure


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
    assert run("--version") == 0
    assert capsys.readouterr() == (f"kubectl podcp {__version__}\n", "")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_what_was_asked_for(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """So it goes to stdout, and the program succeeded."""
    assert run(option) == 0
    assert capsys.readouterr() == (help_text(), "")


def test_the_whole_help_is_what_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help-all") == 0
    assert capsys.readouterr() == (help_text(everything=True), "")


@pytest.mark.parametrize("option", ["--version", "--help", "--help-all"])
def test_what_was_asked_for_and_cannot_be_written(
    option: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123 - no path's affair
        monkeypatch.setattr(sys, "stdout", full)
        assert run(option) == 1
        with suppress(OSError):
            full.close()
    assert "error: cannot write to stdout: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["-z", "gzip"], "--compress=gzip"),
        (["--insecure-skip-tls-verify", "false"], "--insecure-skip-tls-verify=false"),
        (["--compress", "none"], "--compress=none"),
        (["-b", "simple"], "--backup=simple"),
        (["--preserve", "mode,links"], "--preserve=mode,links"),
        (["--no-preserve", "all"], "--no-preserve=all"),
    ],
)
def test_a_value_that_would_be_taken_for_a_path(
    words: list[str], written: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words, *WORDS) == 2
    assert f"write {written}, or ./{words[1]} for a file of that name" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--files-from", "-", "--exclude-from", "-"],
        ["--exclude-from", "-", "--exclude-from", "-"],
    ],
)
def test_two_lists_cannot_both_come_on_stdin(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The second one would be empty, and the copy of nothing be complete."""
    assert run(*words, *WORDS) == 2
    assert "cannot both read standard input" in capsys.readouterr().err


def test_the_help_fits_a_screen() -> None:
    assert 24 <= len(help_text().splitlines()) <= 40
    for everything in (False, True):
        lines = help_text(everything=everything).splitlines()
        assert [line for line in lines if len(line) > 80] == []


def options() -> dict[str, list[str]]:
    """Return each option's names, by the longest of them."""
    actions = arguments.parser("kubectl podcp", everything=True)._actions
    shown = [each.option_strings for each in actions if each.help != argparse.SUPPRESS]
    return {max(names, key=len): [*names] for names in shown if names}


def test_every_option_is_in_a_help_and_in_the_documents() -> None:
    """The short help has fewer, but none that the long one has not."""
    documented = "".join((ROOT / name).read_text("utf-8") for name in ("README.md", OPTIONS))
    for names in options().values():
        for name in names:
            whole = re.compile(rf"(?<![\w-]){name}(?![\w-])")
            assert whole.search(help_text(everything=True)), name
            assert re.search(rf"^\|.*`{name}[ `]", documented, re.M), name
    shown = set(re.findall(r"^  .*?(--[\w-]+)", help_text(), re.M))
    assert shown < set(options())


def test_no_option_is_documented_that_is_not_there() -> None:
    documented = "".join((ROOT / name).read_text("utf-8") for name in ("README.md", OPTIONS))
    rows = re.findall(r"^\| ((?:`-.*?`(?:, )?)+) \|", documented, re.M)
    named = {name for row in rows for name in re.findall(r"`(-[\w-]+)", row)}
    assert named == {name for names in options().values() for name in names}


def test_the_help_says_the_directory_rule_and_what_the_containers_need() -> None:
    text = help_text()
    assert "sh and tar" in text
    assert "cp -r" in text
    assert "-T makes the destination be the source" in text


def test_every_example_of_the_help_can_be_carried_out(copying: Copying) -> None:
    examples = re.findall(r"^  kubectl podcp (.*)$", help_text(), re.M)
    for example in examples:
        assert run(*example.split()) == 0
    assert len(copying.requests) == len(examples) == 5


# --- the program ------------------------------------------------------------------------------


def test_the_process_ends_with_the_exit_code(
    copying: Copying, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying.fails(Unreachable("no answer"))
    monkeypatch.setattr(sys, "argv", ["kubectl-podcp", *WORDS])
    monkeypatch.setattr(__main__, "main", lambda argv, *, for_good: cli.main(argv))  # noqa: ARG005
    ended = list[int]()
    monkeypatch.setattr(os, "_exit", ended.append)
    __main__.run()
    assert ended == [4]


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


@pytest.mark.parametrize("option", [["--itemize"], ["-o", "json"]], ids=" ".join)
def test_nothing_is_told_where_the_copy_goes(
    option: list[str], copying: Copying, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*option, "web-0:/a", "-") == 2
    assert copying.requests == []
    assert "stdout is where the copy goes" in capsys.readouterr().err
