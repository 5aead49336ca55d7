"""The bar: its text, and that it neither outlives a copy nor ends one."""

from __future__ import annotations

import io
import os
import pty
import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from kubectl_podcp import progress
from kubectl_podcp.errors import Interrupted
from kubectl_podcp.progress import line, shown
from kubectl_podcp.report import Row, Tally

SECONDS = 10.0
MIB = 1 << 20
EMPTY_LINE = "\r\x1b[J"


class Terminal(io.StringIO):
    """A terminal of one line.

    :ivar row: what stands on it.
    :ivar drawn: set once something was drawn, and flushed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.row = ""
        self.rows: list[str] = []
        self.drawn = threading.Event()

    def write(self, text: str) -> int:
        """Draw; the line's erasure is the only control sequence it knows."""
        before, erased, after = text.rpartition(EMPTY_LINE)
        assert not before
        self.row = after if erased else self.row + text
        self.rows.append(self.row)
        return len(text)

    def flush(self) -> None:
        """Show what was written."""
        if self.row:
            self.drawn.set()


class Gone(Terminal):
    """A terminal that went away."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def write(self, _text: str) -> int:
        """Fail."""
        self.drawn.set()
        raise self._error


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Draw often; check that no thread is left."""
    monkeypatch.setattr(progress, "INTERVAL", 0.01)
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def tally(**fields: int) -> Tally:
    """A tally with these fields."""
    made = Tally()
    for name, value in fields.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("so_far", "rate", "text"),
    [
        (tally(), 0.0, "0 files  0 B  0 B/s"),
        (tally(files=1, relayed=2048), 512.0, "1 file  2.0 KiB  512 B/s"),
        (tally(files=1234, relayed=3 * MIB), MIB, "1,234 files  3.0 MiB  1.0 MiB/s"),
        (tally(files=1, relayed=512, total=0), 1.0, "1 file  512 B  1 B/s"),
        (tally(files=1234, verifying=1, read_again=9), 1.0, "verifying  9 of 1,234 files"),
        (tally(total=MIB), 0.0, f"[{' ' * 24}]   0%  0 B of 1.0 MiB  0 B/s"),
        (
            tally(total=4 * MIB, relayed=MIB),
            MIB,
            f"[{'=' * 6}{' ' * 18}]  25%  1.0 MiB of 4.0 MiB  1.0 MiB/s  ETA 0:03",
        ),
        (
            tally(total=7200 * MIB, relayed=0),
            MIB,
            f"[{' ' * 24}]   0%  0 B of 7.0 GiB  1.0 MiB/s  ETA 2:00:00",
        ),
        (
            tally(total=100, relayed=40),
            1.0,
            f"[{'=' * 9}{' ' * 15}]  40%  40 B of 100 B  1 B/s  ETA 1:00",
        ),
        (
            tally(total=5, relayed=10240),
            1.0,
            f"[{'=' * 24}] 100%  5 B of 5 B  1 B/s  ETA 0:00",
        ),
    ],
)
def test_the_text(so_far: Tally, rate: float, text: str) -> None:
    assert line(so_far, rate) == text


@pytest.mark.parametrize(("seconds", "text"), [(59.4, "0:59"), (59.6, "1:00"), (3599.7, "1:00:00")])
def test_the_clock_turns_over(seconds: float, text: str) -> None:
    assert line(tally(total=1000 * MIB), 1000 * MIB / seconds).endswith(f"ETA {text}")


def test_the_line_is_drawn_while_the_copy_runs_and_empty_afterwards() -> None:
    terminal = Terminal()
    with shown(tally(files=3), terminal):
        assert terminal.drawn.wait(SECONDS)
        assert terminal.row.startswith("3 files")
    assert terminal.row == ""


def test_what_is_drawn_follows_the_tally() -> None:
    terminal = Terminal()
    so_far = tally(files=3)
    with shown(so_far, terminal):
        assert terminal.drawn.wait(SECONDS)
        so_far.files, so_far.relayed = 4, MIB
        terminal.drawn.clear()
        assert terminal.drawn.wait(SECONDS)  # may have been on its way before the change
        terminal.drawn.clear()
        assert terminal.drawn.wait(SECONDS)
    assert any(row.startswith("4 files  1.0 MiB") for row in terminal.rows)


def test_the_line_never_wraps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrapped line could not be erased any more."""
    monkeypatch.setenv("COLUMNS", "20")
    terminal = Terminal()
    with shown(tally(total=MIB, relayed=MIB // 2), terminal):
        assert terminal.drawn.wait(SECONDS)
    assert max(map(len, terminal.rows)) == 19


def test_a_terminal_that_nobody_told_its_size_is_as_wide_as_any(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A new pseudo-terminal has no columns."""
    monkeypatch.delenv("COLUMNS", raising=False)
    ours, theirs = pty.openpty()
    try:
        with os.fdopen(theirs, "w") as terminal:
            assert progress._size(terminal).columns == 80
    finally:
        os.close(ours)


@pytest.mark.parametrize("error", [BrokenPipeError(32, "gone"), OSError(5, "gone"), ValueError()])
def test_a_terminal_that_went_away_does_no_harm(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    unhandled: list[object] = []
    monkeypatch.setattr(threading, "excepthook", unhandled.append)
    terminal = Gone(error)
    with shown(tally(), terminal):
        assert terminal.drawn.wait(SECONDS)
    assert unhandled == []


@pytest.mark.parametrize("error", [Interrupted(2), ValueError("a bug")])
def test_an_error_of_the_copy_passes_through_and_the_line_is_empty(error: Exception) -> None:
    terminal = Terminal()

    def fail() -> None:
        assert terminal.drawn.wait(SECONDS)
        raise error

    with pytest.raises(type(error)) as caught:
        _shown_while(terminal, fail)
    assert caught.value is error
    assert terminal.row == ""


def test_a_copy_that_ends_at_once_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "INTERVAL", SECONDS)
    terminal = Terminal()
    with shown(tally(files=3), terminal):
        pass
    assert terminal.rows == [""]


def _shown_while(terminal: Terminal, work: Callable[[], None]) -> None:
    with shown(tally(), terminal):
        work()


def test_a_signal_that_comes_while_the_thread_starts_leaves_none_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may leave start() by its exception, and the thread runs all the same."""
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise Interrupted(2)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(Interrupted), shown(tally(), Terminal()):
        raise AssertionError("not reached")


def several(count: int) -> Tally:
    """A tally of several destinations, each of which has got a MiB more than the one before."""
    made = tally(relayed=9 * MIB)
    made.rows = [Row(f"web-{each}:/x", Tally(), partial(int, each * MIB)) for each in range(count)]
    return made


def test_each_destination_has_a_row() -> None:
    made = several(4)
    made.rows[1].state = "complete"
    made.rows[2].tally.verifying = True
    made.rows[3].passed, made.rows[3].state = None, "copying alone"
    made.rows[3].tally.relayed = 512
    assert progress.rows(made, 4) == [
        "  web-0:/x  0 B  copying",
        "  web-1:/x  1.0 MiB  complete",
        "  web-2:/x  2.0 MiB  verifying",
        "  web-3:/x  512 B  copying alone",
    ]


def test_rows_that_do_not_fit_are_counted() -> None:
    assert progress.rows(several(9), 3)[-1] == "  and 7 more"
    assert len(progress.rows(several(9), 3)) == 3
    assert progress.rows(several(9), -1) == ["  and 9 more"]
    assert progress.rows(Tally(), 3) == []


def test_the_cursor_stays_where_others_write() -> None:
    """On the first line: what they write pushes the rows down, and they are drawn anew."""
    terminal = Terminal()
    with shown(several(2), terminal):
        assert terminal.drawn.wait(SECONDS)
    drawn = next(row for row in terminal.rows if row)
    first, second, third = drawn.split("\n")
    assert first.endswith("/s")
    assert (second, third) == ("  web-0:/x  0 B  copying", "  web-1:/x  1.0 MiB  copying\x1b[2A")


def test_nothing_is_drawn_while_somebody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be drawn over the question."""
    rows = iter([True, False, True])
    so_far, terminal = Tally(), Terminal()

    def rates(*_: object) -> Iterator[float]:
        for asking in rows:
            so_far.asking = asking
            yield 1.0

    monkeypatch.setattr(progress, "rates", rates)
    progress._draw(so_far, terminal, threading.Event())
    assert terminal.rows == ["0 files  0 B  1 B/s", ""]
