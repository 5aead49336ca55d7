"""One try of a copy: two sessions, the relay between them, and what is left when it fails.

In: a plan, the staging folder, and what must be sent. Out: what was acknowledged. Raises
:class:`~kubectl_podcp.errors.PodcpError`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, cast
from typing import Protocol as Interface

from kubectl_podcp.archive.follower import EndOfArchive, Event, Follower, Had, Trailer
from kubectl_podcp.archive.headers import DIRECTORY, HARD_LINK, SYMLINK, Member, encode
from kubectl_podcp.archive.safety import WITHOUT_SETID, Altered, LeftOut, Policy
from kubectl_podcp.archive.spelling import Spellings
from kubectl_podcp.archive.splice import Splice
from kubectl_podcp.bandwidth import Bucket
from kubectl_podcp.changes import MAX_NAMED, Changes
from kubectl_podcp.compression import Decoder, Encoder
from kubectl_podcp.errors import (
    DestinationRefused,
    IncompleteArchive,
    Interrupted,
    PodcpError,
    ProtocolRefused,
    SourceError,
    SourceFailed,
    printable,
)
from kubectl_podcp.exec.channels import Protocol
from kubectl_podcp.exec.inflating import Inflating
from kubectl_podcp.fidelity import (
    DEVICES,
    FRACTIONS,
    LINKS,
    OWNERSHIP,
    XATTR,
    XATTR_OR_NOTHING,
)
from kubectl_podcp.modes import SETID
from kubectl_podcp.owners import HIGHEST, Owners, is_left_out
from kubectl_podcp.plan import PROBE_TIMEOUT, Plan
from kubectl_podcp.relay import Filter, Hears, Outcome, Relay
from kubectl_podcp.remainder import Remainder
from kubectl_podcp.remote import probe, scripts
from kubectl_podcp.remote.feed import (
    MESSAGE,
    ChunkedFeed,
    CompressedFeed,
    ExactFeed,
    Feed,
    PlainFeed,
)
from kubectl_podcp.remote.scripts import Staging
from kubectl_podcp.report import Tally
from kubectl_podcp.selection import Unseen
from kubectl_podcp.sink import NOT_PLACED, PLACED, Ending, Sink
from kubectl_podcp.verify import Ledger

if TYPE_CHECKING:
    from kubectl_podcp.ends import Session
    from kubectl_podcp.exec.session import ExecSession


SOURCE_PROTOCOLS = (Protocol.V4, Protocol.V5)
DESTINATION_PROTOCOLS = (Protocol.V5, Protocol.V4)
"""Versions of the exec protocol that are asked for, the best one first; at the source the second
one in a request of its own."""


PACKED_RESERVE = 10
"""How much longer a source may give nothing that compresses: gzip reads up to 11 MB of a tree of
small files before it writes the first byte."""

UNKNOWN_CHANGES = "whether files changed while they were read is not known"

Delivered = tuple[Outcome, tuple[str, str]]
"""What was acknowledged, and the protocols of the source's and the destination's session."""


class Reader(Interface):
    """What reads all that a source gives: a follower, or what stands in for one."""

    def feed(self, data: bytes) -> Iterator[bytes | Event]: ...
    def end_of_input(self) -> None: ...


class Attempt:
    """One try. Use it once: :meth:`run`.

    :param remainder: what must be sent; None: everything.
    :param ledger: takes the digests of files that pass; None where nobody wants them.
    :param unseen: is told of all that is there, where names were asked for.
    :ivar source_failed: whether it failed because of the source.
    """

    is_raw: ClassVar[bool] = False
    """Whether the destination gets one file, and no archive."""

    has_owners: ClassVar[bool] = True
    """Whether what the destination gets has owners."""

    def __init__(
        self,
        plan: Plan,
        staging: Staging,
        tally: Tally,
        remainder: Remainder | None = None,
        ledger: Ledger | None = None,
        unseen: Unseen | None = None,
    ) -> None:
        self._plan = plan
        self._staging = staging
        self._tally = tally
        self._remainder = remainder
        self._selection = plan.request.selection
        self._user: tuple[int, int] | None = None  # who owns all, where owners cannot be given
        self._gives: bool | None = None  # whether owners are given there, once that is known
        self._wrong_owner: PodcpError | None = None  # why they must not be
        self._last_owner: tuple[int, int] | None = None  # that was looked for at all destinations
        self._ledger = ledger
        self._unseen = unseen
        self._rewriting = plan.rewriting
        self._owners = set[tuple[int, int]]()  # two are enough to know that some are not kept
        self._has_setid = False
        self._changes: Changes | None = None
        self._splice: Splice | None = None
        self._asked_for = self._named()
        self._spellings = Spellings()
        self._has_case: bool | None = None  # whether names there differ in more than their case
        self._has_come = False  # whether the source's tar could read anything
        self._nonce = os.urandom(16).hex()
        self._all: Sequence[Attempt] = (self,)  # which have one source
        self._session: Session | None = None
        self._sink: Sink | None = None
        self.source_failed = False
        self._is_over = False
        self._delivered: Delivered | None = None
        self._error: PodcpError | None = None

    def run(self) -> Delivered:
        """Copy; return what was acknowledged, and the protocols of both sessions."""
        if not self._is_over:
            self.run_for((self,))
        if self._error is not None:
            raise self._error
        assert self._delivered is not None
        return self._delivered

    def run_for(
        self, attempts: Sequence[Attempt], on_end: Callable[[Attempt], None] = lambda _: None
    ) -> None:
        """Read the source once, for all of ``attempts``, of which this is the first.

        Their plans differ in the destination alone. How each one ends is what its :meth:`run` says
        then, without doing anything more.

        :param on_end: is told each of which that is known, in this thread.
        :raises Interrupted: a signal came.
        """
        for each in attempts:
            each._all = attempts
        try:
            self._relay_to(on_end)
        except Interrupted:
            raise
        except PodcpError as error:  # before there was a relay
            for each in attempts:
                if not each._is_over:
                    each.source_failed = True
                    each._fail(error if each is self else error.twin())
                    on_end(each)
        finally:
            for each in attempts:
                each._close()

    def _relay_to(self, on_end: Callable[[Attempt], None]) -> None:
        follower = self._follower(self._nonce)
        if self._plan.found.tar is not probe.Tar.GNU:  # which says so itself
            self._changes = Changes(self._nonce, self._plan.found.now, self._wants)
            for member in self._remainder.there() if self._remainder else ():
                self._changes.note(member)  # as it was when it was found to be there
        if self._unseen is not None and self._remainder is not None:
            for name in self._remainder.source.names:
                self._unseen.note(name)
        for member in self._remainder.staged() if self._remainder else ():
            self._count_staged(member)
        for member in self._remainder.there() if self._remainder else ():
            self._spellings.note(member.name)
        names = self._names()
        source = self._open_source(self._nonce, names)
        try:
            self._tell(source, names)
            sinks = self._open_sinks(source, on_end)
            relay = Relay(
                source,
                tuple(sinks),
                filter_stdout=self._filter(follower),
                end_of_source=follower.end_of_input,
                stall_timeout=self._plan.stall_timeout,
                reserve=PACKED_RESERVE if self._plan.packings[0].kind else 1,
                owners=self._hears_owners,
                epilogue=self._changes.hear if self._changes else None,
            )

            def settle(sink: Sink) -> None:
                self._settle(sinks[sink], relay, source)
                on_end(sinks[sink])

            if sinks:
                relay.run(settle)
        finally:
            source.close()

    def _open_sinks(
        self, source: Session, on_end: Callable[[Attempt], None]
    ) -> dict[Sink, Attempt]:
        """Open a session for each destination; what hinders one is its own affair."""
        sinks, bucket = dict[Sink, Attempt](), self._bucket()
        for each in self._all:
            try:
                sinks[each._open_sink(source, bucket)] = each
            except Interrupted:
                raise
            except PodcpError as error:
                each._fail(error)
                on_end(each)
        return sinks

    def _fail(self, error: PodcpError) -> None:
        self._is_over, self._error = True, error

    def _settle(self, attempt: Attempt, relay: Relay, source: Session) -> None:
        """Note how one of the attempts has ended."""
        assert attempt._sink is not None
        assert attempt._session is not None
        attempt._is_over = True
        try:
            outcome = self._with_changes(relay.outcome(attempt._sink))
            attempt._check_xattrs(outcome.destination_stderr, kept=self._keeps(XATTR))
        except PodcpError as error:
            attempt._error = error if attempt is self else error.twin()
            attempt.source_failed = error is relay.source_error
        else:
            end = attempt._plan.target
            spoken = self._plan.source.spoken(source), end.spoken(attempt._session)
            attempt._delivered = outcome, spoken
            attempt._note_owner(self._owners, has_setid=self._has_setid)
            attempt._note_times(kept=self._keeps(FRACTIONS))
        self._forget_spellings()
        if attempt is not self:
            attempt._tally.adopt(self._tally)

    def _close(self) -> None:
        if self._session is not None:
            self._session.close()
        self._tally.sent += self._sink.sent if self._sink else 0

    def _with_changes(self, outcome: Outcome) -> Outcome:
        """Add what the source's tar does not say by itself.

        :raises IncompleteArchive: digests are compared, and one is of a file that changed since.
        """
        changes, rest = self._changes, self._changed_rest()
        if changes is not None and not changes.known and UNKNOWN_CHANGES not in self._tally.notices:
            self._tally.notices.append(UNKNOWN_CHANGES)
        lines = changes.lines().splitlines() if changes else []
        found = changes.found if changes else 0
        if rest and not any(line.startswith(f"{rest}: ") for line in lines):
            lines.append(f"{rest}: it changed while it was read")
            found += 1
        if outcome.source_code == 0 and self._asked_for:  # else tar has said which
            named = sorted(map(printable, self._asked_for))
            lines += (f"{name}: the tar there did not read it" for name in named[:MAX_NAMED])
            lines += [f"and {more:,} more"] if (more := len(named) - MAX_NAMED) > 0 else []
            found += len(named)
        if not found:
            return outcome
        said = outcome.source_stderr + "\n".join(lines).encode()
        return replace(outcome, changed=found, source_stderr=said)

    def _changed_rest(self) -> str:
        """Return the name of the file of which only the rest was read, if it has changed."""
        if self._splice is None or not self._splice.changed:
            return ""
        assert self._remainder is not None
        name = printable(self._remainder.rest().name)
        if self._ledger is not None:
            raise IncompleteArchive(f"'{name}' changed while it was copied")
        return name

    def _named(self) -> set[bytes]:
        """Return the names that the source's tar is given and must read; it reads no sockets."""
        left = self._remainder
        if left is None or left.names is None:
            return set()
        names = (*left.names, *left.odd)
        return {name for name in names if not stat.S_ISSOCK(left.source[name].mode)}

    @property
    def may_be_placed(self) -> bool:
        """Whether the destination may have put the copy in place, or begun to."""
        return self._sink is not None and self._sink.marker_sent

    @property
    def has_staged(self) -> bool:
        """Whether the staging folder was there, with what arrived in it."""
        return self._sink is not None and self._sink.has_staged

    @property
    def passed(self) -> int:
        """Bytes of the archive that went to the destination; any thread may ask."""
        return self._sink.sent if self._sink else 0

    @property
    def placed(self) -> int | None:
        """How putting the copy in its place ended, as far as it can be known; see `scripts`."""
        if not self.may_be_placed:
            return NOT_PLACED
        assert self._sink is not None
        acknowledgement = self._sink.acknowledgement
        if acknowledgement is None:
            return None
        if acknowledgement.proves_delivery:  # a signal came after it
            return PLACED
        return acknowledgement.placed or NOT_PLACED

    # --- the source --------------------------------------------------------------------------

    def _open_source(self, nonce: str, names: bytes | None) -> Session:
        """Open the source's session, on v4 where the server has it.

        A held source never needs its stdin ended, which is all that v5 adds; and on v4 the API
        server passes the node's frames on instead of translating each, at a third of the CPU time.
        """
        script = self.source_script(nonce, names)
        *first, last = SOURCE_PROTOCOLS
        try:
            session = self._plan.source.open(script, *first)
        except ProtocolRefused:
            session = self._plan.source.open(script, last)
        kind = self._plan.packings[0].kind
        if not kind:
            return session
        return Inflating(cast("ExecSession", session), Decoder(kind))

    def source_script(self, nonce: str, names: bytes | None = None) -> str:
        """Return what ``sh`` is given at the source."""
        gnu = self._plan.found.tar is probe.Tar.GNU
        request = self._plan.request
        # Where links are followed, GNU tar makes a hard link of what another name leads to, too.
        # That other name must not be one that does not go on.
        reads_all = self._remainder is not None and self._remainder.names is None
        apart = LINKS not in request.preserve or (request.dereference and reads_all)
        return scripts.send(
            self._plan.found.facts,
            nonce,
            self._some(names),
            gnu=gnu,
            follow=request.dereference,
            apart=gnu and apart,
            fractions=self._keeps(FRACTIONS),
            xattrs=self._keeps(XATTR),
            holes=self._keeps_holes,
            packed=self._plan.packings[0].kind,
            owners=self._loses_owners,
        )

    @property
    def _loses_owners(self) -> bool:
        """Whether the source's tar says high owners wrong, and somebody may go by that."""
        is_kept = OWNERSHIP in self._plan.request.preserve and None in self._rewriting.owner
        return self._plan.found.tar is probe.Tar.BUSYBOX and self.has_owners and is_kept

    def _hears_owners(self) -> Hears | None:
        """Return what hears who owns what has passed; None where nobody needs to know."""
        if not self._loses_owners or all(each._gives is False for each in self._all):
            return None
        owners = Owners(self._nonce, self._rewriting.owner, self._passes)

        def hear(data: bytes) -> bool:
            if not owners.hear(data):
                return False
            error = owners.error()
            if error is not None:
                for each in self._all:
                    each._refuse_owner(error.twin())
            return True

        return hear

    def _passes(self, name: bytes, mode: int) -> bool:
        """Whether the source's tar sends what has this name, and this type and mode."""
        left = self._remainder
        if left is not None and (name in left.whole or name in left.current):
            return False
        if left is not None and left.part is not None and name == left.part.name:
            return False  # its header is made of the listing
        devices = DEVICES in self._plan.request.preserve
        return not is_left_out(mode, devices=devices) and self._wants(name, stat.S_ISDIR(mode))

    def _keeps(self, what: str) -> bool:
        """Whether fractions of times, or extended attributes, come and can be restored by all."""
        return what in self._plan.request.preserve and self._all_have_pax

    @property
    def _all_have_pax(self) -> bool:
        """Whether all tars read and write what only pax carries, and holes."""
        return {self._plan.found.tar, *self.beside} <= probe.PAX_TARS

    @property
    def beside(self) -> frozenset[probe.Tar]:
        """The tars of all destinations with which the copy began: one that goes on alone must not
        have what the others hindered the beginning from having."""
        return self._plan.beside | {each._plan.there.tar for each in self._all}

    @property
    def staged(self) -> frozenset[bytes]:
        """The names of the folders in which this and each try before it is unpacked, at all
        destinations with which the copy began."""
        return self._plan.staged | {each._staging.name for each in self._all}

    @property
    def _keeps_holes(self) -> bool:
        return self._plan.holes and self._all_have_pax

    def _tell(self, source: Session, names: bytes | None) -> None:
        """Send the list of names that the source's script reads first."""
        if names:
            source.stall_timeout = self._plan.stall_timeout
            source.send_stdin(*(names[at : at + MESSAGE] for at in range(0, len(names), MESSAGE)))

    def _names(self) -> bytes | None:
        """Return the list of names for the source's tar; None where it archives all there is."""
        if self._remainder is None or self._remainder.names is None:
            return None
        top = self._plan.found.facts.top
        prefix = scripts.operand(top).removesuffix(top)
        return b"".join(prefix + name + b"\n" for name in self._remainder.names)

    def _odd(self) -> tuple[bytes, ...]:
        return tuple(b"./" + name for name in self._remainder.odd) if self._remainder else ()

    def _some(self, names: bytes | None) -> scripts.Some | None:
        if self._remainder is None:
            return None
        part, rest = self._remainder.part, None
        if part is not None:
            rest = scripts.Rest(part.name, part.size, self._remainder.rest().size)
        return scripts.Some(rest, None if names is None else len(names), self._odd())

    def _policy(self) -> Policy:
        # toybox stops at a time before 1970, and takes the rest of the archive for a bad header.
        has_toybox = self._any_has(probe.Tar.TOYBOX)
        return replace(
            self._plan.policy,
            early_times=not has_toybox,
            linked_symlinks=not has_toybox,
            repeats=all(each._plan.there.tar is probe.Tar.GNU for each in self._all),
        )

    def _any_has(self, tar: probe.Tar) -> bool:
        """Whether one of the destinations has this tar: all get one archive."""
        return any(each._plan.there.tar is tar for each in self._all)

    def _hashes(self) -> bool:
        return self._ledger is not None

    def _follower(self, nonce: str) -> Reader:
        policy, hashes = self._policy(), self._hashes()
        top = self._plan.found.facts.top
        is_all = self._remainder is None and self._selection.is_all
        stays = () if is_all else (self._stays_behind,)
        return Follower(
            nonce,
            top,
            policy,
            *stays,
            hashes=hashes,
            rewriting=self._rewriting,
            fractions=self._keeps(FRACTIONS),
            xattrs=self._keeps(XATTR),
            holes=self._keeps_holes,
            unseen=self._keeps_holes and self._plan.found.tar is probe.Tar.GNU,
            staged=self.staged,
        )

    def _wants(self, name: bytes, is_directory: bool) -> bool:
        return self._selection.wants(name, is_directory=is_directory)

    def _stays_behind(self, member: Member) -> bool:
        """Whether a member does not go on: it is there already, or not wanted.

        :raises SourceError: its contents are with a name that is not wanted.
        """
        if not self._selection.is_all:
            if not self._wants(member.name, member.type == DIRECTORY):
                return True
            if member.type == HARD_LINK and not self._wants(member.linkname, False):
                raise SourceError(
                    f"'{printable(member.name)}' is wanted, and is one file with "
                    f"'{printable(member.linkname)}', which is not",
                    advice="the source's tar cannot be told which names to read: "
                    "take both, or neither",
                )
        return self._remainder is not None and self._remainder.has(member)

    def _filter(self, follower: Reader) -> Filter:
        """Return the relay's filter: what the follower gives, counted."""
        feed = follower.feed
        remainder = self._remainder
        if remainder is not None and remainder.part is not None:
            assert isinstance(follower, Follower)
            self._splice = Splice(
                follower,
                remainder.rest(),
                nonce=self._nonce,
                size=remainder.source[remainder.part.name].size,
                alone=remainder.is_rest_alone,
            )
            feed = self._splice.feed

        # bsdtar sets the time of a directory that exists at once, and not when all is in it. It
        # exists where an attempt before has made it, or where what is named apart comes first.
        exists = remainder is not None and (not self._staging.place or bool(remainder.odd))
        again = exists and self._any_has(probe.Tar.BSDTAR)
        is_all = remainder is None
        directories: list[Member] = []

        def counted(data: bytes) -> Iterator[object]:
            self._tally.received += len(data)
            self._tally.relayed += len(data)
            for item in feed(data):
                self._count(item)
                if again and isinstance(item, Member) and item.type == DIRECTORY:
                    directories.append(self._rewriting.member(item))
                if isinstance(item, EndOfArchive):
                    yield from map(encode, directories)
                if isinstance(item, Trailer) and item.code and not self._has_come and is_all:
                    raise SourceFailed(
                        f"nothing of {self._plan.request.source} could be read",
                        advice="its tar says why: see that the user there may read it",
                    )
                yield item

        return counted

    def _count(self, item: object) -> None:
        tally = self._tally
        if isinstance(item, Member | Had | LeftOut):
            self._has_come = True
            self._note_name(item.name if isinstance(item, Member) else item.member.name)
        if self._ledger is not None:
            self._ledger.note(item)
        whole = self._whole(item)
        if self._changes is not None:
            self._changes.note(whole)
        if tally.watcher is not None and isinstance(whole, Member):
            tally.watcher.add(self._rewriting.member(whole))
        if isinstance(item, Member):
            self._spell(item.name)
            self._check_owner(item)
            if item.xattrs and self._any_has(probe.Tar.BSDTAR):
                self._note_names(item)
            tally.add(item)
            self._count_rights(item)
        elif isinstance(item, LeftOut) and self._wants(item.member.name, False):
            tally.note(item.member, f"left out, {item.why}")
        elif isinstance(item, Altered):
            self._note_altered(item)

    def _note_altered(self, item: Altered) -> None:
        has_setid = self._rewriting.member(item.member).mode & SETID  # by --chmod
        for why in (each for each in item.why if each != WITHOUT_SETID or not has_setid):
            self._tally.note(item.member, f"copied {why}")

    def _spell(self, name: bytes) -> None:
        """Give up each destination to which this name, or one before, is another's as well."""
        self._spellings.note(name)
        if not self._spellings.are_told_apart:
            for each in self._all:
                if each._has_case is False and each._sink is not None and each._sink.lives:
                    each._sink.fail(each._one_name(self._spellings))

    def _check_owner(self, item: Member) -> None:
        """Give up each destination where a member's owner is nobody, or would become another."""
        owner = self._rewriting.owner_of((item.uid, item.gid))
        if owner == self._last_owner and max(owner) <= HIGHEST:
            return
        self._last_owner = owner
        for each in self._all:
            if each._wrong_owner is None:
                each._check_owner_there(item.name, owner)

    def _check_owner_there(self, name: bytes, owner: tuple[int, int]) -> None:
        said = f"'{printable(name)}' would belong to {owner[0]}:{owner[1]}, "
        where, advice = self._plan.request.destination.where, ""
        mount = self._mount_around(name) if max(owner) > HIGHEST else None
        if not self._plan.there.has_owner(*owner):
            said += f"who is nobody {where}: its user namespace has no such number"
        elif mount is not None and self._plan.there.tar is probe.Tar.BUSYBOX:
            said += (
                f"and the tar {where}, busybox', which takes it over to what is mounted at "
                f"{printable(mount)}, would say another owner, for it knows none above "
                f"{HIGHEST:,}"
            )
            advice = "copy what belongs there by itself, "
        else:
            return
        advice += "choose an owner with --chown, or copy with --no-preserve=ownership"
        self._refuse_owner(DestinationRefused(said, advice=advice))

    def _mount_around(self, name: bytes) -> bytes | None:
        """Return where something is mounted below the target that a member comes to stand in."""
        path = self._plan.placement.path.rstrip(b"/") + name[len(self._plan.found.facts.top) :]
        mounts = (each for each in self._staging.mounts if path.startswith(each + b"/"))
        return next(mounts, None)

    def _forget_spellings(self) -> None:
        """Hold no names any more, unless one of the destinations may need them."""
        if all(each._has_case or each._is_over for each in self._all):
            self._all[0]._spellings.forget()

    def _one_name(self, spellings: Spellings) -> DestinationRefused:
        where = self._plan.request.destination.where
        if spellings.clash is None:
            return DestinationRefused(
                f"the file system {where} knows no case, and the source has too many names to tell "
                "whether two of them are one name to it",
                advice="copy the directories below the source one by one",
            )
        return DestinationRefused(
            f"'{printable(spellings.clash)}' and another name of the source are one name to the "
            f"file system {where}, which knows no case: one of them would be lost",
            advice="leave one of them out with --exclude, and copy it under another name",
        )

    def _note_name(self, name: bytes) -> None:
        self._asked_for.discard(name)
        if self._unseen is not None:
            self._unseen.note(name)

    def _note_names(self, item: Member) -> None:
        if any(b"%" in name or b"=" in name for name, _ in item.xattrs):
            said = (
                "copied, and '%' and '=' in its attributes' names are %25 and %3D to bsdtar there"
            )
            self._tally.note(item, said)

    def _whole(self, item: object) -> object:
        """Return the member of a whole file for that of its rest; anything else as it is."""
        part = self._remainder.part if self._remainder else None
        if part is None or not isinstance(item, Member) or item.name != part.name:
            return item
        return replace(item, size=item.size + part.size)

    def _count_staged(self, member: Member) -> None:
        """Count a file that an earlier try has sent; what was said of it then holds yet."""
        lessened = self._policy().lessened(member)
        self._note_altered(lessened)
        self._count_rights(lessened.member)

    def _count_rights(self, item: Member) -> None:
        """Note what the destination's user may not be able to give."""
        if len(self._owners) < 2:
            self._owners.add(self._rewriting.owner_of((item.uid, item.gid)))
        if item.type == SYMLINK:
            if self._plan.request.dereference:
                self._tally.note(item, "copied as the link that it is: it leads nowhere")
        elif item.type != DIRECTORY and not self._has_setid:
            self._has_setid = bool(self._rewriting.member(item).mode & SETID)

    # --- the destination ---------------------------------------------------------------------

    def _open_sink(self, source: Session, bucket: Bucket | None) -> Sink:
        self._session = self._open_destination(self._nonce)
        self._sink = Sink(
            self._session,
            nonce=self._nonce,
            feed=self._feed(self._session.protocol),
            bucket=bucket,
            ending=self._ending(self._nonce),
            waiting=source.ping,
            patience=self._plan.stall_timeout,
            progress=self._progress,
            hears_out=self._keeps(XATTR),
            on_ready=self._on_ready,
            raw=self.is_raw,
        )
        return self._sink

    def _progress(self) -> bytes:
        """Ask how much is unpacked."""
        return self._plan.target.ask(scripts.progress(self._staging), PROBE_TIMEOUT)

    def _open_destination(self, nonce: str) -> Session:
        script = self.destination_script(nonce)
        session = self._plan.target.open(script, *DESTINATION_PROTOCOLS)
        session.stall_timeout = self._plan.stall_timeout
        return session

    def destination_script(self, nonce: str) -> str:
        """Return what ``sh`` is given at the destination."""
        return scripts.receive(
            self._staging,
            nonce,
            gnu=self._plan.there.tar is probe.Tar.GNU,
            owners=OWNERSHIP in self._plan.request.preserve,
            unpacker=self._unpacker,
        )

    @property
    def _unpacker(self) -> str:
        """The command there that undoes what we compress; empty where we do not."""
        kind = self._plan.packings[1].kind
        return self._plan.there.unpackers[kind] if kind else ""

    def _refuse_owner(self, error: PodcpError) -> None:
        """Give this destination up because of an owner, if it gives any; see :meth:`_on_ready`."""
        self._wrong_owner = error
        if self._gives and self._sink is not None and self._sink.lives:
            self._sink.fail(error)

    def _on_ready(self, user: tuple[int, int] | None, has_case: bool) -> None:
        """Hear who will own all that is unpacked, where owners cannot be given; and whether names
        there differ in more than their case.

        :raises DestinationRefused: somebody else is to own it, or one name is another's.
        :raises PodcpError: owners are given, and one of them would be wrong.
        """
        self._user, self._has_case = user, has_case
        self._gives = user is None
        if self._gives and self._wrong_owner is not None:
            raise self._wrong_owner
        spellings = self._all[0]._spellings
        if not has_case and not spellings.are_told_apart:
            raise self._one_name(spellings)
        self._forget_spellings()
        chown = self._plan.request.chown
        if user is None or chown is None:
            return
        if any(asked not in (None, own) for asked, own in zip(chown, user, strict=True)):
            raise DestinationRefused(
                f"--chown asks for another owner than the user "
                f"{self._plan.request.destination.where}, {user[0]}:{user[1]}, who may not give "
                "files away",
                advice="leave it out, or copy into a container that runs as root",
            )

    def _note_owner(self, owners: set[tuple[int, int]], *, has_setid: bool) -> None:
        """Say what the destination's user cannot keep of what passed."""
        if self._user is None or OWNERSHIP not in self._plan.request.preserve:
            return
        notices, user = self._tally.own_notices, f"{self._user[0]}:{self._user[1]}"
        if owners - {self._user}:
            notices.append(
                f"owners are not kept: the user {self._plan.request.destination.where}, {user}, "
                "may not give files away, and owns the copy"
            )
        if has_setid:
            notices.append(
                f"setuid and setgid, where the tar there keeps them, are those of {user} now"
            )

    def _note_times(self, *, kept: bool) -> None:
        """Say that times are kept, but without the fractions that were asked for."""
        if kept or FRACTIONS not in self._plan.request.preserve:
            return
        said = f"times are kept in whole seconds: {self._without_pax()} knows no others"
        self._tally.own_notices.append(said)

    def _check_xattrs(self, stderr: bytes, *, kept: bool) -> None:
        """Say that extended attributes were asked for, and are not there, or not all of them.

        :param stderr: of the destination's tar; GNU's ends with 0 all the same.
        :raises DestinationRefused: they were asked for by name.
        """
        preserve, notices = self._plan.request.preserve, self._tally.own_notices
        if XATTR not in preserve:
            return
        if not kept:
            notices.append(f"extended attributes are not kept: {self._without_pax()} knows none")
            return
        for line in stderr.splitlines():
            if b"attribute" in line:
                said = f"extended attributes are not all kept: {printable(line)}"
                if XATTR_OR_NOTHING in preserve:
                    raise DestinationRefused(
                        said,
                        advice="leave xattr out of --preserve, or copy to a file system that has "
                        "them",
                    )
                notices.append(said)
                return

    def _without_pax(self) -> str:
        """Name the tars that do not read and write what only pax carries."""
        tars = {self._plan.found.tar, self._plan.there.tar} - probe.PAX_TARS
        if not tars:
            return "another destination's tar"
        return " and ".join(sorted(f"the tar of {tar.value}" for tar in tars))

    def _bucket(self) -> Bucket | None:
        limit = self._plan.request.bwlimit
        return Bucket(limit) if limit else None

    def _feed(self, protocol: Protocol) -> Feed:
        """Return how the destination's stdin wants the archive.

        :raises DestinationRefused: there is no way to end it.
        """
        if self._plan.packings[1].kind:
            return self._exact_feed(protocol)
        toybox = self._plan.there.tar is probe.Tar.TOYBOX
        if protocol is Protocol.V5 or toybox:  # toybox ends by itself
            return PlainFeed()
        self._check_fullblock()
        limit = self._plan.request.bwlimit
        return ChunkedFeed() if limit is None else ChunkedFeed.at_most(limit / len(self._all))

    def _exact_feed(self, protocol: Protocol) -> Feed:
        """Return a feed that adds nothing to what passes, and compresses it where that is to be."""
        feed: PlainFeed | ExactFeed = PlainFeed()
        if protocol is not Protocol.V5:
            self._check_fullblock()
            limit = self._plan.request.bwlimit
            feed = ExactFeed() if limit is None else ExactFeed.at_most(limit / len(self._all))
        kind = self._plan.packings[1].kind
        return CompressedFeed(feed, Encoder(kind)) if kind else feed

    def _check_fullblock(self) -> None:
        if self._plan.there.fullblock:
            return
        raise DestinationRefused(
            "this API server cannot end a command's input (it speaks v4 of the exec protocol), "
            "and there is no dd with iflag=fullblock to do without "
            f"{self._plan.request.destination.where}",
            advice="leave out --compress"
            if self._unpacker and self._plan.there.tar is probe.Tar.TOYBOX
            else "copy through an API server of Kubernetes 1.30 or later",
        )

    def _ending(self, nonce: str) -> Ending | None:  # noqa: ARG002
        """Return what follows the last byte, where that is not the relay's own marker."""
        return None
