"""Lines that tell how far a copy is, for logs and for machines."""

from __future__ import annotations

import io
import json
import threading

import pytest

from kubectl_podcp.pulse import lines, machine, plain
from kubectl_podcp.report import Row, Tally

SECONDS = 10.0
MIB = 1 << 20


@pytest.mark.parametrize(
    ("tally", "rate", "text"),
    [
        (Tally(), 0.0, "copying: 0 files, 0 B, 0 B/s"),
        (Tally(files=1, relayed=2 * MIB), MIB, "copying: 1 file, 2.0 MiB, 1.0 MiB/s"),
        (
            Tally(files=1, relayed=MIB, total=4 * MIB),
            MIB,
            "copying: 1 file, 25%, 1.0 MiB of 4.0 MiB, 1.0 MiB/s, ETA 0:03",
        ),
        (
            Tally(relayed=9, total=4),
            0.0,
            "copying: 0 files, 100%, 4 B of 4 B, 0 B/s",
        ),
        (Tally(files=7, verifying=True, read_again=3), 1.0, "verifying: 3 of 7 files"),
    ],
)
def test_a_line_for_a_log(tally: Tally, rate: float, text: str) -> None:
    assert plain(tally, rate) == text


def test_an_object_for_a_machine() -> None:
    assert json.loads(machine(Tally(files=1, relayed=MIB, total=4 * MIB), MIB + 0.4)) == {
        "phase": "copying",
        "bytes": MIB,
        "total": 4 * MIB,
        "files": 1,
        "rate": MIB,
        "eta": 3,
        "read_again": 0,
    }


@pytest.mark.parametrize(
    "tally", [Tally(relayed=5), Tally(relayed=5, total=9, verifying=True, read_again=2)]
)
def test_what_is_not_known_is_null(tally: Tally) -> None:
    told = json.loads(machine(tally, 1.0))
    assert told["eta"] is None
    assert told["phase"] == ("verifying" if tally.verifying else "copying")


class Stream(io.StringIO):
    """A stream.

    :ivar written: set once a line was written and flushed.
    """

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.written = threading.Event()
        self._error = error

    def flush(self) -> None:
        """Note it."""
        self.written.set()
        if self._error is not None:
            raise self._error


def told(tally: Tally, _rate: float) -> str:
    """Return a short line."""
    return f"{tally.files} files"


def test_lines_follow_the_tally() -> None:
    stream, tally = Stream(), Tally(files=1)
    with lines(tally, stream, told, 0.01):
        assert stream.written.wait(SECONDS)
    assert set(stream.getvalue().splitlines()) == {"1 files"}
    assert "\r" not in stream.getvalue()


@pytest.mark.parametrize(("last", "text"), [(True, "2 files\n"), (False, "")])
def test_a_copy_that_ends_at_once_has_a_last_line_at_the_most(last: bool, text: str) -> None:
    stream = Stream()
    with lines(Tally(files=2), stream, told, SECONDS, last=last):
        pass
    assert stream.getvalue() == text


@pytest.mark.parametrize("error", [BrokenPipeError(32, "gone"), OSError(28, "full"), ValueError()])
def test_a_reader_that_went_away_does_no_harm(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    unhandled: list[object] = []
    monkeypatch.setattr(threading, "excepthook", unhandled.append)
    stream = Stream(error)
    with lines(Tally(), stream, told, 0.01, last=True):
        assert stream.written.wait(SECONDS)
    assert unhandled == []


def test_several_destinations_are_told_each() -> None:
    tally = Tally()
    names = {"web-0:/x": "complete", "web-1:/x": "failed", "web-2:/x": "copying"}
    tally.rows = [Row(name, Tally(), lambda: 3, state) for name, state in names.items()]
    assert plain(tally, 0.0).endswith(", 1 of 3 destinations complete, 1 failed")
    assert json.loads(machine(tally, 0.0))["destinations"] == [
        {"destination": name, "state": state, "bytes": 3} for name, state in names.items()
    ]
    tally.rows = tally.rows[2:]
    assert plain(tally, 0.0).endswith(", 0 of 1 destinations complete")
    assert "destinations" not in json.loads(machine(Tally(), 0.0))
