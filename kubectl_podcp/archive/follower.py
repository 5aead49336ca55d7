r"""A source's archive, read and rewritten as it passes.

In: the stdout of the source's ``tar cf -`` and of the shell around it, in messages of any cut.
Out, at once and in order: the pieces to send on, which are a canonical archive, and events about
them. Bodies are neither copied nor scanned; a message of which nothing is rewritten leaves as
the very object that came. No I/O; one thread at a time.

What is read has this form, in EBNF::

    stream    = { global | member } , zero block , zero block , { NUL } , trailer ;
    member    = [ L | K | L K | K L | x ] , header , { sparse map block } , body ;
    trailer   = "\n" , "podcp-" , nonce , " " , exit code , "\n" ;

The trailer is written by the source's shell when its tar has ended, however it did. A nonce of
128 random bits cannot be taken for data, and the source writes nothing more until it is told to:
wherever a message ends with the trailer, the archive ends in front of it. So a tar that was
killed inside a member, or that stopped there (busybox, when a file shrinks), is known as such.

The zero blocks and what pads them do not go on: the caller has to put its
:func:`~kubectl_podcp.archive.headers.marker` in front of the end, and writes it with
:func:`~kubectl_podcp.archive.headers.end_of_archive`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TypeVar

from kubectl_podcp.archive.headers import (
    BLOCK,
    DIRECTORY,
    LONG_LINK,
    LONG_NAME,
    NAME_FIELD,
    PAX,
    PAX_GLOBAL,
    REGULAR,
    SPARSE,
    ZERO_BLOCK,
    HeaderError,
    Member,
    NotTar,
    c_string,
    encode,
    opening,
    padded,
    parse,
)
from kubectl_podcp.archive.members import Extension, check_global, settle
from kubectl_podcp.archive.rewriting import Rewriting
from kubectl_podcp.archive.safety import MAX_NAME, Altered, Guard, LeftOut, Policy, Refused
from kubectl_podcp.archive.sparse import (
    MAX_EXTENTS,
    SparseMap,
    SparseRecords,
    TextMap,
    continued_map,
    encoded,
    header_map,
)
from kubectl_podcp.archive.tape import Tape, zeros
from kubectl_podcp.archive.wrapping import Wrapping
from kubectl_podcp.errors import IncompleteArchive, SourceError, SourceFailed, printable

MAX_PAX = 1024 * 1024
"""The longest pax header. bsdtar puts extended attributes there, of up to 64 KiB each and twice
over; libarchive itself long refused to read more than this."""

MOST_HASHED = 1024 * 1024 * 1024
"""Bytes of holes that are hashed in one go, in seconds. With more of them the zeros are handed on,
so that whoever takes them may stop this."""

TRAILER_MAX = len(b"\npodcp-") + 32 + len(b" 255\n")
"""The length of the longest trailer."""


def trailer_form(nonce: str) -> re.Pattern[bytes]:
    """Return what is found in the last :data:`TRAILER_MAX` bytes of a stream, and no sooner, where
    it ends with the trailer; the group is the exit code of the source's tar."""
    return re.compile(rb"\npodcp-%b ([0-9]{1,3})\n\Z" % nonce.encode("ascii"))


_LONGEST = {LONG_NAME: MAX_NAME + 1, LONG_LINK: MAX_NAME + 1, PAX: MAX_PAX, PAX_GLOBAL: MAX_PAX}
_EXTENSIONS = (LONG_NAME, LONG_LINK, PAX)
_NONCE = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class EndOfArchive:
    """Both zero blocks came: every member before is whole."""


@dataclass(frozen=True, slots=True)
class Trailer:
    """The source's tar has ended, and ``code`` is its exit code. Nothing comes after it."""

    code: int


@dataclass(frozen=True, slots=True)
class Had:
    """``member`` does not go on: the destination has it already."""

    member: Member


@dataclass(frozen=True, slots=True)
class Hashed:
    """All of the contents of ``member``, a plain file, has come; ``digest`` is their SHA-256."""

    member: Member
    digest: bytes


Event = Member | Had | LeftOut | Altered | Hashed | EndOfArchive | Trailer
"""``Member`` comes before any byte of that member; ``Had`` or ``LeftOut`` instead of it,
``Altered`` after it, with the same member, ``Hashed`` when its body has ended. ``EndOfArchive``
comes after the last byte."""


SIGNALLED = 128
"""Above it, a shell's exit code is a signal's number."""


class MalformedArchive(SourceFailed):
    """What the source wrote is not an archive, or not from this byte on.

    :param offset: where, in bytes from the stream's start.
    """

    def __init__(self, offset: int, why: str) -> None:
        super().__init__(
            f"the source did not write a tar archive: at byte {offset}, {why}",
            advice="Something else than tar may write to stdout there, a login script for example.",
        )
        self.offset = offset
        self.why = why


class CutArchive(IncompleteArchive):
    """The archive ended before its end.

    :param total: bytes of archive that came; 0: the source's tar wrote nothing at all.
    :param exit_code: of the source's tar; None if the session ended without a trailer.
    :param member: the member inside which it ended; None between two, or in a header.
    :param received: bytes of that member's body that came.
    :param expected: bytes of that member's body that its header announced.
    """

    def __init__(
        self, total: int, exit_code: int | None, member: Member | None, received: int, expected: int
    ) -> None:
        if exit_code is None:
            reason = "the session ended without a trailer"
            advice = "The container may have ended, or the connection: try again."
        else:
            reason = f"its tar ended with exit code {exit_code}"
            advice = "The source's messages say why."
        if not total:
            happened = "the source wrote no archive"
        elif member is None:
            happened = f"the source's archive stops after {total} bytes, without its end"
        else:
            happened = (
                f"the source's archive stops inside '{printable(member.name)}', "
                f"after {received} of {expected} bytes"
            )
            if exit_code == 1:  # a signal has another one
                reason = f"the file shrank while it was read, and {reason}"
        super().__init__(f"{happened}: {reason}", advice=advice)
        self.total = total
        self.exit_code = exit_code
        self.member = member
        self.received = received
        self.expected = expected


class OneHole(SourceError):
    """A file that is one hole.

    GNU tar says so, without a look, of any file that takes no place on the disk; on some file
    systems its contents are elsewhere then.

    :param member: that file.
    """

    def __init__(self, member: Member) -> None:
        super().__init__(
            f"'{printable(member.name)}' takes no place on the disk, and was not looked at",
            advice="this is a bug: it should have been read again",
        )


class NoArchive(CutArchive):
    """The source's tar said that it could not begin: an option, or tar itself, is missing."""

    retryable = False


_T = TypeVar("_T")
# What the parser is made of: it yields what goes out, and None when it needs the next message.
_Steps = Generator[bytes | Event | None, None, _T]


class Follower:
    """Follow one archive.

    :param nonce: the copy's, 32 lower-case hexadecimal digits.
    :param top: the one name under which every member must stand (see safety.py).
    :param has: whether the destination has a member already, which then does not go on.
    :param hashes: whether the contents of files that go on are hashed as they pass.
    :param wrapping: puts members of any names under ``top``; None: they stand there already.
    :param rewriting: what becomes of modes, owners and times. Events have them as they were.
    :param fractions: whether fractions of times go on, where the archive has them.
    :param xattrs: whether extended attributes do.
    :param holes: whether the holes of sparse files stay such, for a destination that knows them.
    :param unseen: whether the source's tar may take a file for one hole without a look.
    :param staged: names of folders in which the copy is unpacked, which never go on.
    :raises ValueError: ``nonce`` or ``top`` is not of that form.
    """

    member: Member | None
    """The member whose body is passing; None between two."""

    received: int
    """How many bytes came in."""

    def __init__(
        self,
        nonce: str,
        top: bytes,
        policy: Policy | None = None,
        has: Callable[[Member], bool] = lambda _: False,
        *,
        hashes: bool = False,
        wrapping: Wrapping | None = None,
        rewriting: Rewriting | None = None,
        fractions: bool = False,
        xattrs: bool = False,
        holes: bool = False,
        unseen: bool = False,
        staged: Collection[bytes] = (),
    ) -> None:
        if not _NONCE.fullmatch(nonce):
            raise ValueError("a nonce is 32 lower-case hexadecimal digits")
        self.member = None
        self.received = 0
        self._guard = Guard(top, nonce, policy or Policy(), staged)
        self._has = has
        self._hashes = hashes
        self._wrapping = wrapping
        self._rewriting = rewriting or Rewriting()
        self._fractions = fractions
        self._xattrs = xattrs
        self._holes = holes
        self._unseen = unseen
        self._has_begun = False
        self._tape = Tape()
        self._parser = self._stream()
        self._failure: Exception | None = None
        # The headers at hand: the name for errors, what is wrong with them, and where they end.
        self._name = b""
        self._doubt: HeaderError | None = None
        self._doubtful = 0
        # The last body, as it stands in the archive.
        self._last: Member | None = None
        self._body_start = self._body_size = 0
        # The end of the stream.
        self._tail = b""
        self._ended = False
        self._trailer: Trailer | None = None
        self._trailer_start = b"\npodcp-%b " % nonce.encode()
        self._trailer_form = trailer_form(nonce)

    def feed(self, data: bytes) -> Iterator[bytes | Event]:
        """Take the next message; yield pieces to send on and events, in order.

        The iterator does the work and must be read to its end before the next call. A piece is
        never empty, and no longer than ``data`` or 32 KiB, whichever is more.

        :raises Refused: a member that no destination should unpack; no byte of it was yielded.
        :raises CutArchive: the trailer came before the end of the archive. What was yielded of
            the last member may, where the trailer came in parts, hold a part of the trailer.
        :raises MalformedArchive: this is no archive, or something follows its end.
        :raises OneHole: a file must be read without a look at where it has holes.

        After an error each further call raises it again.
        """
        if self._failure is not None:
            raise self._failure
        self.received += len(data)
        self._tail = (self._tail + data[-TRAILER_MAX:])[-TRAILER_MAX:]
        try:
            trailer = None if self._ended else self._trailer_form.search(self._tail)
            if trailer is None:
                yield from self._read_on(data)
                return
            archive = data[: max(0, len(data) - len(trailer[0]))]
            yield from self._read_on(archive)
            if not self._ended:
                raise self._stopped(int(trailer[1]), len(trailer[0])) from self._doubt
            yield from self._read_on(data[len(archive) :])
        except Exception as error:
            self._failure = error
            raise

    def end_of_input(self) -> None:
        """Say that the session ended.

        :raises CutArchive: the trailer has not come.
        """
        if self._failure is not None:
            raise self._failure
        if self._trailer is None:
            raise self._cut(None, 0) from self._doubt

    def _stopped(self, exit_code: int, trailer: int) -> Exception:
        """Return what it means that the trailer came before the end."""
        if self._doubt is not None and self._doubtful <= self.received - trailer:
            return self._verdict(self._doubt)  # nothing of the trailer was taken for a header
        return self._cut(exit_code, trailer)

    def _verdict(self, doubt: HeaderError) -> Exception:
        if isinstance(doubt, NotTar):
            return MalformedArchive(self._doubtful - BLOCK, str(doubt))
        return Refused(self._name, str(doubt))

    def _cut(self, exit_code: int | None, trailer: int) -> CutArchive:
        end = self.received - trailer
        received, expected = end - self._body_start, self._body_size
        if received >= expected:
            gave_up = end == 0 and exit_code is not None and 0 < exit_code <= SIGNALLED
            return (NoArchive if gave_up else CutArchive)(end, exit_code, None, 0, 0)
        # Not self.member: where the trailer filled up the body and its padding, that is None.
        return CutArchive(end, exit_code, self._last, received, expected)

    # The parser: one generator, which waits for the next message wherever one ends.

    def _read_on(self, data: bytes) -> Iterator[bytes | Event]:
        self._tape.load(data)
        for item in self._parser:
            if item is None:
                return
            yield item

    def _stream(self) -> _Steps[None]:
        try:
            yield from self._archive()
        except HeaderError as error:
            # This may be the torn end of an archive, with the trailer inside what was taken for
            # a header: then it is not the archive that is wrong.
            self._doubt = error
            self._doubtful = self._tape.offset
            yield from self._read(TRAILER_MAX)
            raise self._verdict(error) from error
        yield from self._end()

    def _archive(self) -> _Steps[None]:
        while (block := (yield from self._read(BLOCK))) != ZERO_BLOCK:
            yield from self._member(block)
        if (yield from self._read(BLOCK)) != ZERO_BLOCK:
            # GNU tar and bsdtar end here, busybox and toybox would read on.
            raise NotTar("one zero block stands alone")
        top = self._wrapping.missing_top() if self._wrapping else ()
        yield from self._tape.replace(b"".join(map(self._encoded, top)))
        self._ended = True
        yield EndOfArchive()

    def _end(self) -> _Steps[None]:
        """Read what follows the archive: zeros, the trailer, nothing."""
        rest = yield from self._rest(b"")
        while not (trailer := self._trailer_form.fullmatch(rest)):
            if not self._may_be_trailer(rest):
                at = self._tape.offset - len(rest)
                raise MalformedArchive(at, "something follows the end")
            yield from self._turn()
            rest = yield from self._rest(rest)
        self._trailer = Trailer(int(trailer[1]))
        yield self._trailer
        while not self._tape.left:
            yield from self._turn()
        raise MalformedArchive(self._tape.offset, "something follows the trailer")

    def _rest(self, before: bytes) -> _Steps[bytes]:
        """Return ``before`` and the rest of this message, without the zeros in front."""
        rest = before + self._tape.take(self._tape.left)
        yield from self._tape.replace()
        return rest.lstrip(b"\0")

    def _may_be_trailer(self, rest: bytes) -> bool:
        start = self._trailer_start
        return start.startswith(rest[: len(start)]) and (
            len(rest) <= len(start) or re.fullmatch(rb"[0-9]{1,3}", rest[len(start) :]) is not None
        )

    def _member(self, block: bytes) -> _Steps[None]:
        """Read one member, from its first header to the padding behind its body."""
        header = self._parsed(block)
        extension = None
        if header.type == PAX_GLOBAL:
            check_global((yield from self._extension_body(header)))
            yield from self._tape.replace()
            return
        if header.type in _EXTENSIONS:
            extension = Extension()
            block, header = yield from self._extended(header, extension)
        member, records = settle(header, extension)
        if member.nanoseconds and (member.mtime < 0 or not self._fractions):
            # Of a time before 1970 bsdtar takes the fraction for one that is added.
            member = replace(member, nanoseconds=0)
        self._name = member.name
        sparse = None
        if records is not None or member.type == SPARSE:
            sparse = yield from self._sparse_map(block, member, records)
            member = replace(member, type=REGULAR, size=sparse.size)
            if self._unseen and sparse.size and not sparse.stored:
                raise OneHole(member)
        if member.xattrs and not (self._xattrs and member.type in (REGULAR, DIRECTORY)):
            member = replace(member, xattrs=())
        goes_on = yield from self._admitted(member, sparse)
        self._body_start = self._tape.offset
        self._body_size = member.size if sparse is None else sparse.stored
        if not goes_on:
            yield from self._drop(padded(self._body_size))
        elif self._hashes and member.type == REGULAR:
            digest = sha256()
            self._tape.passing = digest.update
            yield from self._body(member, sparse)
            assert self._last is not None
            yield Hashed(self._last, digest.digest())
        elif sparse is None:
            yield from self._keep(padded(member.size))
        else:
            yield from self._body(member, sparse)
        self.member = None

    def _body(self, member: Member, sparse: SparseMap | None) -> _Steps[None]:
        """Hand on the contents of a member, and what pads them."""
        if sparse is None:
            yield from self._keep(member.size)
            self._tape.passing = None
            yield from self._keep(padded(member.size) - member.size)
        elif self._keeps_holes(sparse):
            yield from self._stored(sparse)
            self._tape.passing = None
            yield from self._keep(padded(sparse.stored) - sparse.stored)
        else:
            yield from self._expand(sparse)
            self._tape.passing = None
            yield from zeros(padded(sparse.size) - sparse.size)

    def _parsed(self, block: bytes, name: bytes | None = None) -> Member:
        """Parse a header; ``name`` is what those in front of it say, for errors."""
        self._name = name or c_string(block[:NAME_FIELD])
        header = parse(block)
        self._name = name or header.name
        return header

    def _extended(self, header: Member, extension: Extension) -> _Steps[tuple[bytes, Member]]:
        """Read the headers in front of a member's own into ``extension``; return its own."""
        while header.type in _EXTENSIONS:
            extension.add(header.type, (yield from self._extension_body(header)))
            block = yield from self._read(BLOCK)
            header = self._parsed(block, extension.said_name)
        return block, header

    def _extension_body(self, header: Member) -> _Steps[bytes]:
        if header.size > _LONGEST[header.type]:
            raise HeaderError(f"a header of {header.size} bytes stands in front of it")
        body = yield from self._read(padded(header.size))
        return body[: header.size]

    def _admitted(self, member: Member, sparse: SparseMap | None) -> _Steps[bool]:
        """Let the rules decide; yield what they say and the header; return whether it goes on."""
        if self._wrapping is not None:
            member = self._wrapping.wrapped(member)
        verdict = self._guard.admit(member)
        if isinstance(verdict, LeftOut):
            yield verdict
            yield from self._tape.replace()
            return False
        self._last = verdict.member if isinstance(verdict, Altered) else verdict
        if self._has(self._last):
            yield Had(self._last)
            yield from self._tape.replace()
            return False
        self._guard.release(self._last)
        self.member = self._last
        yield self.member
        if isinstance(verdict, Altered):
            yield verdict
        kept = sparse if sparse is not None and self._keeps_holes(sparse) else None
        canonical = self._encoded(self._last, kept)
        if self._wrapping is not None:
            above = self._wrapping.missing(self._last)
            canonical = b"".join(map(self._encoded, above)) + canonical
        if canonical == self._tape.held():
            yield from self._tape.keep()
        else:
            yield from self._tape.replace(canonical)
        return True

    def _encoded(self, member: Member, sparse: SparseMap | None = None) -> bytes:
        member = self._rewriting.member(member)
        headers = encode(member) if sparse is None else encoded(member, sparse)
        if self._has_begun:
            return headers
        self._has_begun = True
        return opening(headers, member.name)

    # Sparse files: expanded where a destination's tar does not know their formats.

    def _keeps_holes(self, sparse: SparseMap) -> bool:
        is_short = sparse.size - sparse.stored <= MOST_HASHED
        return self._holes and sparse.is_kept and (is_short or not self._hashes)

    def _stored(self, sparse: SparseMap) -> _Steps[None]:
        """Hand on what is stored; whoever hashes sees the holes, too."""
        at = 0
        for offset, length in sparse.extents:
            self._pass_hole(offset - at)
            yield from self._keep(length)
            at = offset + length
        self._pass_hole(sparse.size - at)

    def _pass_hole(self, size: int) -> None:
        if self._tape.passing is not None:
            for piece in zeros(size):
                self._tape.passing(piece)

    def _sparse_map(
        self, block: bytes, member: Member, records: SparseRecords | None
    ) -> _Steps[SparseMap]:
        """Read the map, wherever it stands."""
        if records is None:
            extents, more, size = header_map(block)
            while more:
                if len(extents) > MAX_EXTENTS:
                    raise HeaderError(f"its sparse map has more than {MAX_EXTENTS} extents")
                further, more = continued_map((yield from self._map_block()))
                extents += further
            return SparseMap.checked(extents, size, member.size)
        if records.extents is not None:
            return SparseMap.checked(records.extents, records.size, member.size)
        text = TextMap()
        while not text.add((yield from self._map_block())):
            pass
        return SparseMap.checked(text.extents(), records.size, member.size - text.length)

    def _map_block(self) -> _Steps[bytes]:
        """Read a block of a map. It never goes on, so it is not kept until that is decided."""
        block = yield from self._read(BLOCK)
        yield from self._tape.replace()
        return block

    def _expand(self, sparse: SparseMap) -> _Steps[None]:
        """Hand on the file that the map and the stored bytes make."""
        at = 0
        for offset, length in sparse.extents:
            if at < offset:
                yield from self._tape.cut()
                yield from self._hole(offset - at)
            yield from self._keep(length)
            at = offset + length
        yield from self._tape.cut()
        yield from self._read(padded(sparse.stored) - sparse.stored)
        yield from self._tape.replace()
        yield from self._hole(sparse.size - at)

    def _hole(self, size: int) -> Iterator[bytes]:
        self._pass_hole(size)
        yield from zeros(size)

    # Reading

    def _read(self, size: int) -> _Steps[bytes]:
        """Read ``size`` bytes, which are undecided then."""
        tape = self._tape
        if size <= tape.left:
            return tape.take(size)
        parts = []
        while size > tape.left:
            size -= tape.left
            parts.append(tape.take(tape.left))
            yield from self._turn()
        parts.append(tape.take(size))
        return b"".join(parts)

    def _keep(self, size: int) -> _Steps[None]:
        """Let ``size`` bytes go on; what is undecided must have been decided."""
        tape = self._tape
        while size > tape.left:
            size -= tape.left
            tape.keep_next(tape.left)
            yield from self._turn()
        tape.keep_next(size)

    def _drop(self, size: int) -> _Steps[None]:
        """Read ``size`` bytes that do not go on."""
        tape = self._tape
        while size > tape.left:
            size -= tape.left
            tape.take(tape.left)
            yield from tape.replace()
            yield from self._turn()
        tape.take(size)
        yield from tape.replace()

    def _turn(self) -> _Steps[None]:
        """Hand on what is kept of this message, and wait for the next."""
        kept = self._tape.turn()
        if kept:
            yield kept
        yield None
