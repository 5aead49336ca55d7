"""Archives of all dialects, made member by member: right ones, odd ones, hostile ones.

Strategies for hypothesis. What a member holds is drawn from what matters to a parser: lengths at
the limits of a field, numbers in every notation, names that lead somewhere else, types that some
tars do not know, maps that do not fit. Some archives are damaged as a whole afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from tests.unit.tar_blocks import (
    END,
    GNU,
    USTAR,
    body,
    checked,
    header,
    long_name,
    octal,
    old_sparse,
    pax,
    trailer,
)

Extents = list[tuple[int, int]]

_SHORT = (b"a", b"b", b"dir", b"link", b"\xff\xfe", b"new\nline", b"\x1b[2J", b" -> ", b"-x", b"\\")
NAMES = st.sampled_from((*_SHORT, *(b"n" * length for length in (89, 95, 96, 97, 150, 252))))
BAD_PARTS = st.sampled_from((b"..", b".", b"", b"top"))


@st.composite
def names(draw: st.DrawFn) -> bytes:
    """Draw a name, mostly one that stands under the top."""
    parts = draw(st.lists(NAMES, max_size=3))
    if draw(st.integers(0, 9)) == 0:
        parts.insert(draw(st.integers(0, len(parts))), draw(BAD_PARTS))
    start = draw(st.sampled_from((b"top/",) * 12 + (b"./top/", b"/", b"../", b"", b"other/")))
    end = draw(st.sampled_from((b"",) * 8 + (b"/",)))
    name: bytes = start + b"/".join(parts) + end
    return name


def notations(width: int, values: st.SearchStrategy[int]) -> st.SearchStrategy[bytes]:
    """Draw a numeric field: octal in all its forms, base-256, and sometimes nonsense."""
    octals = (
        lambda n: b"%0*o\0" % (width - 1, n),
        lambda n: b"%0*o" % (width, n),
        lambda n: b"%0*o " % (width - 1, n),
        lambda n: (b"%o" % n).rjust(width - 1) + b"\0",
    )
    forms: list[Callable[[int], bytes]] = [
        lambda n, form=form: form(n).ljust(width, b"\0")[:width]  # type: ignore[misc]
        for form in octals
    ]
    base_256 = st.integers(-2, 2**64).map(
        lambda n: (
            bytes(((0xFF if n < 0 else 0x80),))
            + (n % 256 ** (width - 1)).to_bytes(width - 1, "big")
        )
    )
    usual = st.builds(lambda form, n: form(n), st.sampled_from(forms), values)
    nonsense = st.binary(min_size=width, max_size=width)
    return st.integers(0, 19).flatmap(lambda n: (nonsense, base_256)[n] if n < 2 else usual)


@st.composite
def fields(draw: st.DrawFn) -> dict[str, bytes]:
    """Draw the numbers of a header, and its owner."""
    return {
        "mode": draw(notations(8, st.integers(0, 0o7777))),
        "uid": draw(notations(8, st.sampled_from((0, 1, 1000, 0o7777777)))),
        "gid": draw(notations(8, st.sampled_from((0, 1, 1000, 0o7777777)))),
        "mtime": draw(notations(12, st.sampled_from((0, 1, 1_600_000_000, 8**11 - 1)))),
        "owner": draw(st.sampled_from((b"", b"root", b"x" * 32))),
    }


DATA = st.sampled_from((0, 1, 511, 512, 513, 1500)).flatmap(
    lambda size: st.binary(min_size=size, max_size=size)
)
TARGETS = names() | st.sampled_from((b"", b"/etc/passwd", b"top/link", b"t" * 100, b"t" * 101))
MAGIC = st.sampled_from((GNU, USTAR))


@st.composite
def plain(draw: st.DrawFn) -> bytes:
    """Draw a file, of each type that means one."""
    data = draw(DATA)
    size: int | bytes = len(data)
    if draw(st.integers(0, 5)) == 0:
        size = draw(notations(12, st.just(len(data))))
    flag = draw(st.sampled_from((b"0", b"0", b"0", b"\0", b"7")))
    linkname = draw(st.sampled_from((b"", b"", b"../x")))
    made = header(
        draw(names())[:100], flag, size, linkname=linkname, magic=draw(MAGIC), **draw(fields())
    )
    return made + body(data)


@st.composite
def without_body(draw: st.DrawFn) -> bytes:
    """Draw a link, a device, a directory, a fifo, or a type that nobody may know."""
    flag = draw(st.sampled_from((b"1", b"2", b"5", b"1", b"2", b"5", b"3", b"4", b"6", b"V", b"Z")))
    size = draw(st.sampled_from((0,) * 15 + (512,)))
    devices = octal(draw(st.integers(0, 9)), 8) + octal(3, 8)
    return header(
        draw(names())[:100],
        flag,
        size,
        linkname=draw(TARGETS)[:100],
        magic=draw(MAGIC),
        devices=draw(st.sampled_from((devices, b"\xff" * 16))) if flag in b"34" else b"",
        **draw(fields()),
    ) + bytes(size)


@st.composite
def with_long_names(draw: st.DrawFn) -> bytes:
    """Draw a member behind L and K, in any order and number."""
    flags = draw(st.sampled_from((b"L", b"L", b"K", b"LK", b"KL", b"KL", b"LL", b"KK")))
    texts = {b"L": names(), b"K": TARGETS}
    before = b"".join(long_name(bytes((flag,)), draw(texts[bytes((flag,))])) for flag in flags)
    return before + draw(plain() | without_body())


@st.composite
def with_prefix(draw: st.DrawFn) -> bytes:
    """Draw a member whose name is divided, as POSIX has it; sometimes where GNU has not."""
    prefix, _, name = draw(names()).rpartition(b"/")
    magic = draw(st.sampled_from((USTAR,) * 6 + (GNU,)))
    rest = prefix[:155]
    if draw(st.sampled_from((False,) * 9 + (True,))):
        rest = rest.ljust(163, b"\0") + b"tar\0"  # star's own mark, in the block's last bytes
    return header(name[:100], b"0", 3, magic=magic, rest=rest) + body(b"abc")


RECORDS = st.one_of(
    st.tuples(st.sampled_from((b"path", b"linkpath", b"GNU.sparse.name")), names()),
    st.tuples(
        st.sampled_from((b"size", b"uid", b"gid", b"SCHILY.devmajor", b"SCHILY.devminor")),
        st.sampled_from((b"0", b"3", b"512", b"4294967296", b"9999999999999999999", b"-1", b"x")),
    ),
    st.tuples(
        st.just(b"mtime"), st.sampled_from((b"0", b"1600000000.5", b"-1.5", b"-0.0", b"1e3", b""))
    ),
    st.tuples(
        st.sampled_from(
            (
                b"comment",
                b"uname",
                b"hdrcharset",
                b"SCHILY.xattr.user.x",
                b"LIBARCHIVE.creationtime",
                b"SCHILY.realsize",
                b"GNU.volume.offset",
                b"GNU.sparse.major",
            )
        ),
        st.binary(max_size=30),
    ),
)


@st.composite
def with_pax(draw: st.DrawFn) -> bytes:
    """Draw a member behind pax records."""
    return pax(*draw(st.lists(RECORDS, max_size=4))) + draw(plain() | without_body())


@st.composite
def global_pax(draw: st.DrawFn) -> bytes:
    """Draw a global pax header, mostly one that says nothing of members."""
    harmless = st.tuples(st.sampled_from((b"comment", b"charset")), st.binary(max_size=20))
    return pax(*draw(st.lists(harmless | harmless | RECORDS, max_size=2)), flag=b"g")


@st.composite
def maps(draw: st.DrawFn) -> tuple[Extents, int, bytes]:
    """Draw extents, the file's size and the stored bytes; sometimes they do not fit."""
    extents, at = [], 0
    for _ in range(draw(st.integers(1, 30))):
        at += draw(st.sampled_from((0, 1, 512, 1000)))
        length = draw(st.sampled_from((0, 1, 100, 512)))
        extents.append((at, length))
        at += length
    size, stored = at + draw(st.sampled_from((0, 1, 5000))), sum(length for _, length in extents)
    wrong = draw(st.integers(0, 9))
    if wrong == 0:
        extents.reverse()
    elif wrong == 1:
        size = max(0, at - 1)
    elif wrong == 2:
        stored += 1
    return extents, size, (b"0123456789" * (stored // 10 + 1))[:stored]


def sparse_0_0(name: bytes, data: bytes, extents: Extents, size: int) -> bytes:
    pairs = [(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.numblocks", b"%d" % len(extents))]
    for offset, length in extents:
        pairs += [(b"GNU.sparse.offset", b"%d" % offset), (b"GNU.sparse.numbytes", b"%d" % length)]
    return pax(*pairs) + header(name[:100], size=len(data), magic=USTAR) + body(data)


def sparse_0_1(name: bytes, data: bytes, extents: Extents, size: int) -> bytes:
    made = pax(
        (b"GNU.sparse.size", b"%d" % size),
        (b"GNU.sparse.numblocks", b"%d" % len(extents)),
        (b"GNU.sparse.name", name),
        (b"GNU.sparse.map", b",".join(b"%d,%d" % extent for extent in extents)),
    )
    return made + header(b"top/S", size=len(data), magic=USTAR) + body(data)


def sparse_1_0(name: bytes, data: bytes, extents: Extents, size: int) -> bytes:
    made = pax(
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", name),
        (b"GNU.sparse.realsize", b"%d" % size),
    )
    text = b"%d\n" % len(extents) + b"".join(b"%d\n%d\n" % extent for extent in extents)
    data = body(text) + data
    return made + header(b"top/S", size=len(data), magic=USTAR) + body(data)


def sparse_old(name: bytes, data: bytes, extents: Extents, size: int) -> bytes:
    return old_sparse(name[:100], data, extents, size)


def sparse_linked(name: bytes, data: bytes, extents: Extents, size: int) -> bytes:
    return old_sparse(name[:100], data, extents, size, linkname=b"../../victim")


@st.composite
def sparse(draw: st.DrawFn) -> bytes:
    """Draw a sparse file in one of GNU's four formats."""
    form = draw(st.sampled_from((sparse_0_0, sparse_0_1, sparse_1_0, sparse_old, sparse_linked)))
    extents, size, data = draw(maps())
    return form(draw(names()), data, extents, size)


MEMBERS = st.one_of(
    plain(), without_body(), with_long_names(), with_prefix(), with_pax(), sparse(), global_pax()
)


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """Draw what a source writes, its trailer included; one in four is damaged."""
    made = [header(b"top/", b"5", mode=b"0000755\0"), *draw(st.lists(MEMBERS, max_size=5))]
    end = draw(st.sampled_from((END,) * 6 + (END + bytes(9216), END + bytes(7), END[:512], b"")))
    archive: bytes = b"".join(made) + end
    if draw(st.integers(0, 3)) == 0:
        archive = draw(damaged(archive))
    said: bytes = draw(st.sampled_from((trailer(),) * 8 + (trailer(2), trailer(137), b"")))
    return archive + said


@st.composite
def sparse_archives(draw: st.DrawFn) -> bytes:
    """Draw what a source writes of sparse files, most of which are as they should be."""
    forms = st.sampled_from((sparse_0_0, sparse_0_1, sparse_1_0, sparse_old))
    made = b""
    for number, (form, said) in enumerate(draw(st.lists(st.tuples(forms, maps()), max_size=4))):
        extents, size, data = said
        made += form(b"top/%d" % number, data, extents, size)
    return header(b"top/", b"5", mode=b"0000755\0") + made + END + trailer()


@st.composite
def damaged(draw: st.DrawFn, archive: bytes) -> bytes:
    """Draw ``archive`` with a few bytes changed, blocks gone or twice; checksums may be mended."""
    blocks = [bytearray(archive[at : at + 512]) for at in range(0, len(archive), 512)]
    for _ in range(draw(st.integers(1, 3))):
        if not blocks:
            break
        number = draw(st.integers(0, len(blocks) - 1))
        what = draw(st.sampled_from(("byte", "byte", "byte", "gone", "twice", "cut")))
        if what == "gone":
            del blocks[number]
        elif what == "twice":
            blocks.insert(number, blocks[number][:])
        elif what == "cut":
            blocks[number] = blocks[number][: draw(st.integers(0, 511))]
        elif blocks[number]:
            blocks[number][draw(st.integers(0, len(blocks[number]) - 1))] = draw(
                st.integers(0, 255)
            )
            if len(blocks[number]) == 512 and draw(st.booleans()):
                blocks[number][:] = checked(bytes(blocks[number]))
    return b"".join(blocks)
