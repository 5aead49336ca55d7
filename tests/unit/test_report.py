"""What is counted, and the line that a user reads at the end."""

from __future__ import annotations

import dataclasses

import pytest

from kubectl_podcp.archive.headers import DIRECTORY, HARD_LINK, REGULAR, SYMLINK, Member
from kubectl_podcp.errors import PodcpError
from kubectl_podcp.report import MAX_NOTICES, Failure, Report, Tally, human_size, total

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40


def member(kind: bytes = REGULAR, size: int = 0, name: bytes = b"a") -> Member:
    """A member; what is not counted does not matter."""
    return Member(name, kind, size, 0o644, 0, 0, 0)


def report(**changes: object) -> Report:
    """A copy of one file, with ``changes``."""
    one = Report(
        status="complete",
        source="web-0:/a",
        destination="web-1:/b",
        target=b"/b",
        files=1,
        directories=0,
        size=13 * MIB + 512 * KIB,
        seconds=2.0,
        protocols=("v5.channel.k8s.io", "v4.channel.k8s.io"),
    )
    return dataclasses.replace(one, **changes)  # type: ignore[arg-type]


def test_files_and_directories_are_counted_apart() -> None:
    tally = Tally()
    for each in (
        member(DIRECTORY, name=b"a"),
        member(REGULAR, 5),
        member(REGULAR, 1 << 40),
        member(SYMLINK),
        member(HARD_LINK),
    ):
        tally.add(each)
    assert (tally.files, tally.directories, tally.size) == (4, 1, 5 + (1 << 40))


def test_what_one_destination_did_with_its_files_is_not_told_of_another() -> None:
    first, other = Tally(spared=1, backed_up=2), Tally()
    first.add(member(REGULAR, 5))
    other.adopt(first)
    assert (other.files, other.spared, other.backed_up) == (1, 0, 0)
    first.begin_again(files=2, size=9, up_to_date=3, kept=4)
    assert (first.files, first.up_to_date, first.kept) == (2, 3, 4)
    assert (first.spared, first.backed_up) == (0, 0)


def test_notices_name_the_member_and_cannot_command_a_terminal() -> None:
    tally = Tally()
    tally.note(member(name=b"a\x1b[2J\nb\xff"), "left out, a socket")
    assert tally.notices == ["a\\x1b[2J\\x0ab\\xff: left out, a socket"]


def test_of_many_notices_the_first_are_kept_and_the_others_counted() -> None:
    tally = Tally()
    for number in range(MAX_NOTICES + 7):
        tally.note(member(name=b"%d" % number), "left out")
    assert len(tally.notices) == MAX_NOTICES
    assert tally.notices[-1] == f"{MAX_NOTICES - 1}: left out"
    assert tally.more_notices == 7


def test_each_tally_has_its_own_notices() -> None:
    Tally().note(member(), "left out")
    assert Tally().notices == []


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({}, "complete: 1 file, 13.5 MiB in 2.0 s (6.8 MiB/s, at /b)"),
        ({"files": 0, "size": 0}, "complete: 0 files, 0 B in 2.0 s (0 B/s, at /b)"),
        (
            {"files": 1_234_567, "status": "partial"},
            "partial: 1,234,567 files, 13.5 MiB in 2.0 s (6.8 MiB/s, at /b)",
        ),
        (
            {"up_to_date": 5_490, "retries": 1},
            "complete: 1 file, 13.5 MiB in 2.0 s "
            "(6.8 MiB/s, at /b, after 1 retry, 5,490 up to date)",
        ),
        (
            {"up_to_date": 1, "kept": 1_000, "backed_up": 2},
            "complete: 1 file, 13.5 MiB in 2.0 s "
            "(6.8 MiB/s, at /b, 1 up to date, 1,000 kept, 2 backed up)",
        ),
        (
            {"verified": True, "retries": 1},
            "complete: 1 file, 13.5 MiB in 2.0 s "
            "(6.8 MiB/s, at /b, after 1 retry, sha256 verified)",
        ),
        ({"seconds": 0.0, "size": 7}, "complete: 1 file, 7 B in 0.0 s (0 B/s, at /b)"),
        (
            {"target": b"/\x1b]0;x\xff", "size": 1},
            "complete: 1 file, 1 B in 2.0 s (0 B/s, at /\\x1b]0;x\\xff)",
        ),
    ],
)
def test_the_summary_is_one_line(changes: dict[str, object], line: str) -> None:
    assert report(**changes).summary() == line


def test_a_report_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        report().status = "partial"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (MIB - 52 * KIB, "972.0 KiB"),
        (MIB, "1.0 MiB"),
        (GIB, "1.0 GiB"),
        (1023.9 * GIB, "1023.9 GiB"),
        (TIB, "1.0 TiB"),
        (5000 * TIB, "5000.0 TiB"),
        (0.4, "0 B"),
    ],
)
def test_sizes_for_humans(size: float, text: str) -> None:
    assert human_size(size) == text


def test_of_several_destinations_each_is_named() -> None:
    made = report(owner="web-1:")
    assert "at web-1:/" in made.summary()
    failures = [
        Failure(
            "a:/x",
            f"web-{each}:/srv",
            PodcpError(said, left=f"web-{each}:/srv is old"),
            f"web-{each}:/srv",
        )
        for each, said in ((2, "full"), (3, "cannot write to web-3:/srv"))
    ]
    assert [each.message().splitlines()[0] for each in failures] == [
        "web-2:/srv: full",
        "cannot write to web-3:/srv",
    ]
    assert total([made, *failures], 1.0).endswith("; failed: web-2:/srv, web-3:/srv")


def test_a_destination_takes_over_what_passed_for_all() -> None:
    tally, other = Tally(), Tally(files=1, directories=2, size=3, relayed=4, received=5, sent=6)
    other.notices, other.more_notices = ["left out"], 2
    tally.adopt(other)
    assert (tally.files, tally.directories, tally.size) == (1, 2, 3)
    assert (tally.relayed, tally.received, tally.sent) == (4, 5, 0)
    assert tally.all_notices() == ["left out", "and 2 more"]
    tally.notices.clear()
    assert other.notices == ["left out"]
