"""What of a message goes on: the bookkeeping under the follower."""

from __future__ import annotations

import pytest

from kubectl_podcp.archive.tape import PIECE, Tape, zeros


def loaded(message: bytes) -> Tape:
    """Return a tape with ``message`` at hand."""
    tape = Tape()
    tape.load(message)
    return tape


def test_a_message_kept_whole_is_the_very_object_that_came() -> None:
    """Nothing is copied."""
    message = bytes(1000)
    tape = loaded(message)
    tape.keep_next(400)
    tape.take(600)
    assert list(tape.keep()) == []
    assert tape.turn() is message


def test_undecided_bytes_outlive_their_message() -> None:
    """They go on before all of the next one."""
    tape = loaded(b"bodyHE")
    tape.keep_next(4)
    assert tape.take(2) == b"HE"
    assert tape.turn() == b"body"
    tape.load(b"AD")
    assert tape.take(2) == b"AD"
    assert tape.held() == b"HEAD"
    assert list(tape.keep()) == [b"HE"]
    assert tape.turn() == b"AD"
    assert list(tape.keep()) == []


def test_replaced_bytes_go_with_what_was_early_of_them() -> None:
    """What was kept before them comes first."""
    tape = loaded(b"bodyHEADnext")
    tape.keep_next(4)
    tape.take(4)
    assert list(tape.replace(b"head")) == [b"body", b"head"]
    tape.take(4)
    assert tape.turn() == b""
    tape.load(b"")
    assert tape.held() == b"next"
    assert list(tape.replace()) == []
    assert tape.held() == b""


def test_replacements_are_cut_into_pieces() -> None:
    """None is longer than one message to a destination."""
    tape = loaded(b"x")
    tape.take(1)
    pieces = list(tape.replace(b"y" * (2 * PIECE + 1)))
    assert [len(piece) for piece in pieces] == [PIECE, PIECE, 1]


def test_cut_makes_room_behind_what_is_kept() -> None:
    """For the zeros of a hole; twice cut gives nothing more."""
    tape = loaded(b"datadata")
    tape.keep_next(4)
    assert list(tape.cut()) == [b"data"]
    assert list(tape.cut()) == []
    tape.keep_next(4)
    assert tape.turn() == b"data"


def test_what_goes_on_is_shown_and_not_copied() -> None:
    """What is read and still undecided is not."""
    seen: list[bytes | memoryview] = []
    tape = loaded(b"HEADbodyHEAD")
    tape.take(4)
    tape.keep()
    tape.passing = seen.append
    tape.keep_next(4)
    tape.passing = None
    tape.keep_next(4)
    assert [bytes(each) for each in seen] == [b"body"]
    assert isinstance(seen[0], memoryview)


def test_offset_and_left_count_bytes_read() -> None:
    """Over all messages, and of this one."""
    tape = loaded(b"12345")
    tape.keep_next(2)
    assert (tape.offset, tape.left) == (2, 3)
    tape.keep_next(3)
    tape.turn()
    tape.load(b"678")
    tape.take(1)
    assert (tape.offset, tape.left) == (6, 2)


def test_a_message_must_be_read_before_the_next_comes() -> None:
    """Its rest would be lost."""
    with pytest.raises(AssertionError, match="not read"):
        loaded(b"one").load(b"two")


@pytest.mark.parametrize("count", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
def test_zeros(count: int) -> None:
    """As many as asked for, in pieces of one constant."""
    pieces = list(zeros(count))
    assert b"".join(pieces) == bytes(count)
    assert all(0 < len(piece) <= PIECE for piece in pieces)
    assert len({id(piece) for piece in pieces if len(piece) == PIECE}) <= 1
