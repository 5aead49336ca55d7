"""The maps of sparse files, as text and in headers."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubectl_podcp.archive import sparse
from kubectl_podcp.archive.headers import HeaderError
from kubectl_podcp.archive.sparse import SparseMap, SparseRecords, TextMap
from tests.unit.tar_blocks import Record, body, old_sparse

Extents = list[tuple[int, int]]


# The map itself


@pytest.mark.parametrize(
    ("extents", "size"),
    [([], 0), ([], 100), ([(0, 5)], 5), ([(0, 2), (2, 3)], 9), ([(4, 5), (9, 0)], 9)],
)
def test_a_map_in_order(extents: Extents, size: int) -> None:
    """Touching extents and an empty one at the end are what tars write."""
    stored = sum(length for _, length in extents)
    assert SparseMap.checked(extents, size, stored) == SparseMap(extents, size, stored)


@pytest.mark.parametrize(
    ("extents", "size", "stored", "why"),
    [
        ([(5, 1), (0, 1)], 9, 2, "goes back"),
        ([(0, 5), (4, 1)], 9, 6, "goes back"),
        ([(0, 5)], 4, 5, "beyond its end"),
        ([(5, 0)], 4, 0, "beyond its end"),
        ([(0, 5)], 5, 4, "does not fit"),
        ([(0, 5)], 5, 6, "does not fit"),
        ([], 5, -1, "does not fit"),
    ],
)
def test_a_map_that_contradicts_itself(extents: Extents, size: int, stored: int, why: str) -> None:
    """Order, overlap, end, and what the archive has."""
    with pytest.raises(HeaderError, match=why):
        SparseMap.checked(extents, size, stored)


# Old GNU


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 25, 26, 100])
def test_header_map(count: int) -> None:
    """Four extents in the header, 21 in each block behind it."""
    extents = [(number * 1024, 512) for number in range(count)]
    archive = old_sparse(b"top/file", b"", extents, 1 << 20)
    blocks = [archive[start : start + 512] for start in range(0, len(archive), 512)]
    found, more, size = sparse.header_map(blocks[0])
    for block in blocks[1:]:
        assert more
        further, more = sparse.continued_map(block)
        found += further
    assert (found, more, size) == (extents, False, 1 << 20)


def test_header_map_in_base_256() -> None:
    """Files beyond 8 GiB."""
    far, long = 9 << 30, 10 << 30
    block = bytearray(512)
    block[386:398] = b"\x80" + far.to_bytes(11, "big")
    block[398:410] = b"00000001000\0"
    block[483:495] = b"\x80" + long.to_bytes(11, "big")
    assert sparse.header_map(bytes(block)) == ([(far, 512)], False, long)


def test_header_map_with_a_gap() -> None:
    """An empty entry between two is an extent of nothing at 0, out of order."""
    archive = old_sparse(b"top/file", b"", [(512, 1), (0, 0), (1024, 1)], 2048)
    found, _, size = sparse.header_map(archive[:512])
    with pytest.raises(HeaderError, match="goes back"):
        SparseMap.checked(found, size, 2)


# pax

VERSION_1 = [
    (b"GNU.sparse.major", b"1"),
    (b"GNU.sparse.minor", b"0"),
    (b"GNU.sparse.realsize", b"100"),
]
VERSION_0_1 = [
    (b"GNU.sparse.size", b"100"),
    (b"GNU.sparse.numblocks", b"2"),
    (b"GNU.sparse.map", b"10,20,100,0"),
]
VERSION_0_0 = [
    *VERSION_0_1[:2],
    (b"GNU.sparse.offset", b"10"),
    (b"GNU.sparse.numbytes", b"20"),
    (b"GNU.sparse.offset", b"100"),
    (b"GNU.sparse.numbytes", b"0"),
]
NAME = (b"GNU.sparse.name", b"top/file")
EXTENTS = [(10, 20), (100, 0)]


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([(b"path", b"top/file"), (b"mtime", b"1")], None),
        ([*VERSION_1, NAME], SparseRecords(b"top/file", 100, None)),
        (VERSION_1, SparseRecords(None, 100, None)),
        ([NAME, *VERSION_0_1], SparseRecords(b"top/file", 100, EXTENTS)),
        (VERSION_0_0, SparseRecords(None, 100, EXTENTS)),
    ],
)
def test_sparse_records(records: list[Record], expected: SparseRecords | None) -> None:
    """The three versions, with and without a name."""
    assert sparse.sparse_records(records) == expected


@pytest.mark.parametrize(
    "records",
    [
        [NAME],
        VERSION_1[:2],
        [*VERSION_1, (b"GNU.sparse.map", b"0,1")],
        [*VERSION_1, (b"GNU.sparse.size", b"100")],
        [(b"GNU.sparse.major", b"2"), *VERSION_1[1:]],
        [VERSION_1[0], (b"GNU.sparse.minor", b"1"), VERSION_1[2]],
        [*VERSION_1[:2], (b"GNU.sparse.realsize", b"9" * 19)],
        VERSION_0_1[:2],
        [*VERSION_0_1, (b"GNU.sparse.new", b"1")],
        [*VERSION_0_1[:2], (b"GNU.sparse.map", b"10,20,100")],
        [*VERSION_0_1[:2], (b"GNU.sparse.map", b"10,20")],
        [*VERSION_0_1[:2], (b"GNU.sparse.map", b"10,20,100,")],
        [*VERSION_0_1[:2], (b"GNU.sparse.map", b"")],
        VERSION_0_0[:5],
        [*VERSION_0_0, (b"GNU.sparse.map", b"10,20,100,0")],
    ],
)
def test_sparse_records_that_some_would_read_differently(records: list[Record]) -> None:
    """Only the three versions, whole."""
    with pytest.raises(HeaderError):
        sparse.sparse_records(records)


# The map as text


def read(text: bytes) -> tuple[Extents, int]:
    """Return what a map in front of a body says, and how many bytes it takes."""
    text_map = TextMap()
    blocks = [body(text)[start : start + 512] for start in range(0, len(text), 512)]
    while not text_map.add(blocks.pop(0)):
        pass
    return text_map.extents(), text_map.length


@pytest.mark.parametrize("count", [0, 1, 2, 50, 5000])
def test_text_map(count: int) -> None:
    """It ends with the last number, and is padded to a block."""
    extents = [(number * 8192, 4096) for number in range(count)]
    text = b"%d\n" % count + b"".join(b"%d\n%d\n" % extent for extent in extents)
    assert read(text) == (extents, len(body(text)))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"x" * 512, "number"),
        (b"-1\n", "number"),
        (b"1\n0x10\n5\n", "number"),
        (b"1\n10\n 5\n", "number"),
        (b"262145\n", "262145 extents"),
        (b"1\n" + b"1" * 1024, "no end"),
    ],
)
def test_text_map_refused(text: bytes, why: str) -> None:
    """Numbers alone, not too many, and not for ever."""
    with pytest.raises(HeaderError, match=why):
        read(text)


@given(st.lists(st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**63 - 1)), max_size=80))
def test_any_text_map_is_read_back(extents: Extents) -> None:
    """Numbers of any length that a file can have."""
    text = b"%d\n" % len(extents) + b"".join(b"%d\n%d\n" % extent for extent in extents)
    assert read(text)[0] == extents


@given(st.binary(min_size=512, max_size=512))
def test_any_block_is_read_or_refused(block: bytes) -> None:
    """Nothing but HeaderError comes out."""
    for attempt in (sparse.header_map, sparse.continued_map, TextMap().add):
        with contextlib.suppress(HeaderError):
            attempt(block)
