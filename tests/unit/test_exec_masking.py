"""Masked frames against the plain definition of masking."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_podcp.exec.masking import FRAMES_PER_KEY, Masker
from tests.unit.peers import noise, unmasked


def taken_apart(frame: bytes) -> tuple[bytes, bytes]:
    """Return key and unmasked payload of a frame, whose head must be right."""
    assert frame[0] == 0x82, "final, binary"
    size, start = frame[1] & 0x7F, 2
    if size >= 126:
        start = 4 if size == 126 else 10
        size = int.from_bytes(frame[2:start], "big")
    assert frame[1] & 0x80, "masked"
    key, masked = frame[start : start + 4], frame[start + 4 :]
    assert len(masked) == size
    return key, unmasked(key, masked)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 125, 126, 127, 32769, 65535, 65536, 65537])
def test_each_form_of_the_length(size: int) -> None:
    """7, 16 and 64 bits, the shortest that does (RFC 6455, section 5.2)."""
    payload = noise(size)
    frame = Masker().frame(payload)
    assert taken_apart(frame)[1] == payload
    head = 2 if size < 126 else 4 if size < 65536 else 10
    assert len(frame) == head + 4 + size


@given(st.lists(st.binary(max_size=40), max_size=3 * FRAMES_PER_KEY))
def test_any_frames_one_after_the_other(payloads: list[bytes]) -> None:
    """Kept masks fit the key and the length that they are used with."""
    masker = Masker()
    assert [taken_apart(masker.frame(payload))[1] for payload in payloads] == payloads


def test_a_key_serves_for_some_frames_only() -> None:
    """The next ones get another; 4 random bytes are the same twice once in 2**32 runs."""
    masker = Masker()
    keys = [taken_apart(masker.frame(b"abc"))[0] for _ in range(3 * FRAMES_PER_KEY)]
    assert len(set(keys)) == 3
    assert keys[0] == keys[FRAMES_PER_KEY - 1] != keys[FRAMES_PER_KEY]
    assert len(masker._masks) == 1
