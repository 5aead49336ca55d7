"""The command line: argv becomes a request, the report becomes a line and an exit code.

The only place that prints, and the only one that knows exit codes.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TextIO

from kubectl_podcp import arguments, document, logs
from kubectl_podcp.errors import (
    AccessError,
    Interrupted,
    OutputFailed,
    PodcpError,
    TimedOut,
    UsageError,
    printable,
)
from kubectl_podcp.items import Collected, Lines
from kubectl_podcp.report import Failure, Report, Result, Tally, total
from kubectl_podcp.signals import Signals

if TYPE_CHECKING:
    from kubectl_podcp.rehearsal import Rehearsal

COMPLETE = 0
"""Everything was copied, and that is proved."""
FAILED = 1
"""The copy failed; the error says why, and what is on the destination."""
USAGE = 2
"""The command line cannot be carried out as it stands."""
PARTIAL = 3
"""Some of the source could not be read, or changed while it was; the rest is complete."""
REFUSED = 4
"""The API server could not be reached, or did not let us in."""
SIGNALLED = 128
"""Plus the signal's number: 130 after Ctrl-C, 143 after SIGTERM, 141 (SIGPIPE) when nobody reads
our output any more."""

ERASE = "\r\x1b[J"
"""Empties the line of a terminal on which the bar stands, and those below."""

EACH = {"json": 1.0, "plain": 10.0}
"""Seconds between two lines of ``--progress``."""


def main(argv: Sequence[str], *, for_good: bool = False) -> int:
    """Carry out a command line and return its exit code; errors go to stderr, nothing is raised.

    :param argv: the program's name, then its arguments.
    :param for_good: whether the process ends with it.
    """
    stops = _Stops()
    try:
        with Signals(stops, for_good=for_good) as signals:
            return _main(argv, signals, stops)
    except Interrupted as error:  # before anything had begun
        _say(f"error: {error}")
        return exit_code(error)


def _main(argv: Sequence[str], signals: Signals, stops: _Stops) -> int:
    told = _Document()
    try:
        with signals.heard():
            conclude = _carry_out(argv, signals, stops, told)
        code = conclude()
    except arguments.Told as asked:
        return _end(str(asked).rstrip("\n"), COMPLETE)
    except PodcpError as error:
        told.error = error
        _say(f"error: {error}")
        code = exit_code(error)
    except Exception as error:
        told.error = error
        said = printable(f"{type(error).__name__}: {error}")
        _say(f"error: a bug in kubectl-podcp: {said}")
        code = FAILED
    wanted = arguments.wants_json(argv[1:]) if told.is_wanted is None else told.is_wanted
    return _end(told.text(code) if wanted else None, code)


def _end(text: str | None, code: int) -> int:
    """Print what is left to be told; return the exit code, which may be that of not being able."""
    try:
        if text is not None:
            _print(text)
        _flush()
    except OutputFailed as error:
        _say(f"error: {error}")
        return code or exit_code(error)
    return code


def exit_code(error: PodcpError) -> int:
    """Return the exit code for an error."""
    if isinstance(error, Interrupted) and not isinstance(error, TimedOut):
        return SIGNALLED + error.signum
    if isinstance(error, UsageError):
        return USAGE
    return REFUSED if isinstance(error, AccessError) else FAILED


def _carry_out(
    argv: Sequence[str], signals: Signals, stops: _Stops, told: _Document
) -> Callable[[], int]:
    """Do what is asked for; return what says how it ended."""
    is_plugin = Path(argv[0]).name.startswith("kubectl-")
    prog = "kubectl podcp" if is_plugin else "kubectl-podcp"
    said = arguments.parse(prog, argv[1:])
    told.is_wanted = bool(said.output)
    from kubectl_podcp import outputs
    from kubectl_podcp.copies import copy_all, rehearse_all

    began, options = time.monotonic(), arguments.options(said)
    if said.interactive:
        options = replace(options, interactive=_who_is_asked())
    collected = Collected() if said.itemize and said.output else None
    tally = Tally(watcher=collected)
    on_notice = _ignore if said.quiet else _notice

    def on_result(result: Result) -> None:
        told.note(result, collected)
        _tell(result, said.quiet)

    results: list[Result] = []
    with (
        _told_what_is_copied(results),
        _log(said.v),
        outputs.watched((sys.stdout, sys.stderr), signals.nobody_reads),
        _progress("none" if said.dry_run else said.progress, tally, quiet=said.quiet),
        _time_limit(said.timeout, stops),
        told.failures(said.sources, said.destinations),
        _itemized(tally, stops) if said.itemize and not said.output else nullcontext(),
    ):
        if said.dry_run:
            rehearsals = rehearse_all(said.sources, said.destinations, options, on_notice)
        else:
            results += copy_all(
                said.sources,
                said.destinations,
                options,
                tally=tally,
                on_notice=on_notice,
                on_result=on_result,
            )
            if len(results) == 1 and isinstance(results[0], Report):
                told.note(results[0], collected)
    if said.dry_run:
        return partial(_conclude_rehearsals, rehearsals, told, bool(said.output))
    if len(results) == 1 and isinstance(results[0], Report):
        return partial(_conclude, results[0], said.quiet, _say)
    return partial(_conclude_all, results, said.quiet, time.monotonic() - began)


@contextmanager
def _told_what_is_copied(results: Sequence[Result]) -> Iterator[None]:
    """Let a signal that comes when all is copied, and some of what was printed has not been read,
    say so, and so what cannot be printed. Of several copies each one is told as it ends."""
    try:
        yield
    except (Interrupted, OutputFailed) as error:
        if len(results) == 1 and isinstance(results[0], Report):
            error.left = results[0].summary()
        raise


def _conclude_rehearsals(rehearsals: Sequence[Rehearsal], told: _Document, quiet: bool) -> int:
    for each in rehearsals:
        told.copies.append(each.fields())
        if not quiet:
            _print(each.text())
    return COMPLETE


def _tell(result: Result, quiet: bool) -> None:
    """Say how one of several copies ended."""
    if isinstance(result, Failure):
        _above_the_bar(f"error: {result.message()}")
    else:
        _conclude(result, quiet, _above_the_bar)


def _conclude_all(results: Sequence[Result], quiet: bool, seconds: float) -> int:
    made = [each for each in results if isinstance(each, Report)]
    whole = sum(each.status == "complete" for each in made)
    if whole < len(results) or not quiet:
        _say(total(results, seconds))
    if whole == len(results):
        return COMPLETE
    if made:
        return PARTIAL
    first = results[0]
    assert isinstance(first, Failure)
    return exit_code(first.error)


def _progress(how: str, tally: Tally, *, quiet: bool) -> AbstractContextManager[None]:
    """Let it be seen how far a copy is."""
    from kubectl_podcp import progress, pulse

    if sys.stderr is None:
        return nullcontext()
    if how == "json":
        return pulse.lines(tally, sys.stderr, pulse.machine, EACH[how], last=True)
    if how == "plain":
        return pulse.lines(tally, sys.stderr, pulse.plain, EACH[how])
    if how == "auto" and _is_terminal(sys.stderr) and not quiet:
        return _screen.bar(progress.shown(tally, sys.stderr))
    return nullcontext()


class _Screen:
    """What must be written before a line, so that the bar is not in the way."""

    def __init__(self) -> None:
        self.erase = ""

    @contextmanager
    def bar(self, drawn: AbstractContextManager[None]) -> Iterator[None]:
        """Say that a bar is ``drawn`` in this context."""
        self.erase = ERASE
        try:
            with drawn:
                yield
        finally:
            self.erase = ""


_screen = _Screen()


class _Stops(list[Callable[[], None]]):
    """What wakes threads that are blocked where a closed session would not wake them."""

    def __call__(self) -> None:
        for each in self:
            each()


class _Document:
    """What ``-o json`` will print.

    :ivar copies: what it says of each copy.
    :ivar error: what went wrong; where there was one copy alone it is said of that.
    :ivar is_wanted: whether it was asked for; None while the command line is not understood.
    """

    def __init__(self) -> None:
        self.copies: list[dict[str, object]] = []
        self.error: Exception | None = None
        self.is_wanted: bool | None = None
        self._is_noted = False

    def note(self, result: Result, collected: Collected | None) -> None:
        """Note how a copy ended."""
        made = isinstance(result, Report)
        self.copies.append(document.one(result, collected.items() if made and collected else None))

    @contextmanager
    def failures(self, sources: Sequence[str], destinations: Sequence[str]) -> Iterator[None]:
        """Note how a copy fails that is alone."""
        try:
            yield
        except PodcpError as error:
            is_alone = len(sources) == len(destinations) == 1 and not self.copies
            if is_alone and not isinstance(error, UsageError):
                self.copies.append(document.one(Failure(sources[0], destinations[0], error)))
                self._is_noted = True
            raise

    def text(self, code: int) -> str:
        """Return it, for a command that ends with ``code``."""
        beside = None if self._is_noted else self.error
        return json.dumps(document.whole(code, self.copies, beside), indent=2)


def _conclude(report: Report, quiet: bool, say: Callable[[str], None]) -> int:
    partial = report.status == "partial"
    if partial:
        for line in report.stderr.splitlines():
            say(f"  {printable(line)}")
    if partial or not quiet:
        say(report.summary())
    return PARTIAL if partial else COMPLETE


@contextmanager
def _itemized(tally: Tally, stops: _Stops) -> Iterator[None]:
    """Print a line for each member that passes; the copy's thread must not wait for its reader
    once the copy is to end."""
    from kubectl_podcp.printer import Printer

    try:
        printer = Printer(sys.stdout)
    except (AttributeError, OSError, ValueError):  # it is None, or closed, or no file
        tally.watcher = Lines(_print)
        yield
        return

    def tell(line: str) -> None:
        if _screen.erase and _is_terminal(sys.stdout):
            with suppress(AttributeError, OSError, ValueError):  # as in _say
                sys.stderr.write(_screen.erase)
                sys.stderr.flush()
        with _writing():
            printer.line(line)

    stops.append(printer.stop)
    tally.watcher = Lines(tell)
    try:
        yield
    except BaseException:
        with suppress(OutputFailed), _writing():
            printer.close()
        raise
    with _writing():
        printer.close()


def _print(text: str) -> None:
    """Write lines to stdout.

    :raises OutputFailed: they cannot be written. A reader that went away is no such case: the watch
        on the outputs ends the copy then.
    """
    with _writing():
        encoding = sys.stdout.encoding or "utf-8"
        said = f"{text}\n".encode(encoding, "backslashreplace").decode(encoding)
        sys.stdout.write(said)
        if _is_terminal(sys.stdout):
            sys.stdout.flush()


def _flush() -> None:
    with _writing():
        if sys.stdout is not None:
            sys.stdout.flush()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except (AttributeError, OSError, ValueError) as cause:  # None or closed; full, or nobody reads
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - as for stderr, below
        if not isinstance(cause, BrokenPipeError):
            why = cause.strerror if isinstance(cause, OSError) else "it is closed"
            raise OutputFailed(
                f"cannot write to stdout: {why}",
                advice="that is its output alone: what was said of the copy holds",
            ) from None


def _say(text: str) -> None:
    """Write lines to stderr, at once; one that cannot be written must not end anything."""
    try:
        # Not print(): the bar, or another thread's line, could come between text and newline.
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except (AttributeError, OSError, ValueError):  # None or closed; full, or its reader has gone
        # Python would try again at its end, and spoil the exit code.
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - it lasts as long as we do


def _notice(text: str) -> None:
    _above_the_bar(printable(text))


def _above_the_bar(text: str) -> None:
    _say(f"{_screen.erase}{text}")  # it is drawn anew below


def _is_terminal(stream: TextIO | None) -> bool:
    with suppress(OSError, ValueError):  # closed
        return stream is not None and stream.isatty()
    return False


def _who_is_asked() -> Callable[[str], bool]:
    """Return what asks the user whether a file may be replaced.

    :raises UsageError: there is no terminal to ask on.
    """
    if not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        raise UsageError(
            "--interactive asks on a terminal, and stdin and stderr are not both one",
            advice="--no-clobber keeps what is there, "
            "--backup keeps what is replaced under another name",
        )
    return _ask


def _ask(path: str) -> bool:
    """Ask whether the file at ``path`` may be replaced; the end of input is no, as in GNU cp."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{_screen.erase}overwrite {path}? ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
        if not answer.endswith("\n"):
            sys.stderr.write("\n")
        return answer.lstrip()[:1] in ("y", "Y")
    return False


def _ignore(_text: str) -> None:
    """Say nothing."""


class _Lines(logging.Handler):
    """Log lines on stderr, above the bar. Blocks, as any writer, while their reader is slow."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; further ones of the same record are indented, so that none is forged."""
        lines = map(printable, self.format(record).rstrip("\n").split("\n"))
        _above_the_bar("\n    ".join(lines))


@contextmanager
def _log(verbosity: int) -> Iterator[None]:
    """Let what the package logs be seen."""
    if verbosity <= 0:
        yield
        return
    ours, handler = logging.getLogger(__package__), _Lines()
    line = "%(asctime)s.%(msecs)03d %(module)s: %(message)s"
    handler.setFormatter(logging.Formatter(line, "%H:%M:%S"))
    before = ours.level
    ours.setLevel(logs.threshold(verbosity))
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        ours.setLevel(before)


@contextmanager
def _time_limit(seconds: float | None, stops: _Stops) -> Iterator[None]:
    """Raise :class:`TimedOut` in the main thread when ``seconds`` have passed, as signals do."""
    if seconds is None:
        yield
        return
    is_over = False

    def end(_number: int, _frame: FrameType | None) -> None:
        if not is_over:
            stops()
            raise TimedOut(seconds)

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        is_over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
