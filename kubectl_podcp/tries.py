"""Attempts at one copy, until one is acknowledged or it is of no use to go on.

In: a plan. Out: what the last attempt's relay returned, and what is left after a failure. The order
of things: compare what is there (where that is asked for), look at what an earlier attempt has
left, relay, read again and put in place (where the relay's own script does not do that), sweep.
Raises :class:`~kubectl_podcp.errors.PodcpError`.
"""

from __future__ import annotations

import logging
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from kubectl_podcp import compare, digest, paths, resume, streaming
from kubectl_podcp import plan as plans
from kubectl_podcp.archive.follower import OneHole
from kubectl_podcp.attempt import Attempt, Delivered
from kubectl_podcp.compare import LIST_TIMEOUT
from kubectl_podcp.errors import (
    AccessError,
    DestinationFailed,
    DestinationRefused,
    ExecFailed,
    Interrupted,
    Mismatch,
    NotAcknowledged,
    PodcpError,
    PodNotFound,
    ServerError,
    Unauthorized,
    printable,
)
from kubectl_podcp.fidelity import FRACTIONS, TIMESTAMPS, XATTR
from kubectl_podcp.logs import CHOICES
from kubectl_podcp.overwriting import Overwriting
from kubectl_podcp.paths import Kind
from kubectl_podcp.plan import Plan
from kubectl_podcp.relay import Outcome
from kubectl_podcp.remainder import Part, Remainder, remainder
from kubectl_podcp.remote import listing, probe, scripts
from kubectl_podcp.remote.scripts import Staging
from kubectl_podcp.report import Report, Tally
from kubectl_podcp.selection import Unseen
from kubectl_podcp.sink import NOT_PLACED, PARTLY_PLACED, PLACED
from kubectl_podcp.standard import Stdout
from kubectl_podcp.update import Current
from kubectl_podcp.verify import Ledger, ask_source, check

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)

SWEEP_TIMEOUT = 5.0
"""Seconds for removing what a failed copy left."""

COMMIT_TIMEOUT = 600.0
"""Seconds for putting the copy in its place."""

REMOVE_TIMEOUT = 600.0
"""Seconds for removing what is of no use to the next try, which may be very many files."""

NOTHING_TO_SEND: Delivered = (Outcome(0, 0, b"", b""), ("", ""))
"""What an attempt returns for which no session was opened."""

FIRST_WAIT = 1.0
"""Seconds, more or less, before the first retry."""

LONGER = 3.0
"""Each further retry waits so many times as long: three of them outlast the ten seconds and more
for which an API server is away that is restarted."""

LONGEST_WAIT = 60.0
"""But not longer, more or less: with many retries, what is well again is soon noticed."""


def wait(failed: int) -> float:
    """Return the seconds, more or less, before the next try."""
    few = min(failed - 1, 10)  # of the others the power alone would be too long to count
    return min(FIRST_WAIT * LONGER**few, LONGEST_WAIT)


class Again(Exception):
    """An attempt failed, and another one may not; never leaves this package.

    :ivar error: how it failed.
    """

    def __init__(self, error: PodcpError) -> None:
        super().__init__(error)
        self.error = error


class Tries:
    """Attempts at one copy, until one is acknowledged or it is of no use to go on.

    What an attempt that failed has left in the staging folder is where the next one goes on.
    """

    def __init__(self, plan: Plan, tally: Tally, on_notice: Callable[[str], None]) -> None:
        self.failed = 0
        self._plan = plan
        self._tally = tally
        self._on_notice = on_notice
        self._notices = tuple(plan.notices)
        self._fresh_credentials = False
        self._committing = False
        self._last: Attempt | None = None
        self._placed: int | None = NOT_PLACED  # how that ended; None: not known
        self._in_doubt = False  # whether an attempt before may have placed it
        self._unswept: list[Staging] = []  # what attempts before have left
        self._current: Current | None = None  # what was up to date before the first attempt
        self._reads_all = False  # whether the user was told so
        named = plan.request.selection.only is not None
        self._unseen = Unseen(plan.request.selection) if named else None
        self._ledger = Ledger() if plan.request.verify else None
        self._overwriting = Overwriting(plan.request, plan.found.facts.top)
        self._staging = self._new_staging(kept=plan.request.partial)
        self._look_first = plan.request.partial and self._staging.name in plan.there.leftovers
        self._has_staged = self._look_first  # whether there is something to go on from
        # Whether what is staged may be of another source, or another run, and must be compared:
        # until the end, for what differs stays there until it is sent.
        self._doubts = plan.request.partial
        self._lock = threading.Lock()  # between giving up and putting in place
        self._given_up = False

    @property
    def _missing(self) -> bytes:
        """A line for each name that was asked for and is not in the source."""
        return self._unseen.lines().encode() if self._unseen else b""

    def first(self) -> Attempt:
        """Return the first attempt, as it is where all must be sent."""
        staging = replace(self._staging, place=self._places_at_once(), keep=self._keeps())
        return Attempt(self._plan, staging, self._tally, None, self._ledger)

    def run(self) -> Delivered:
        """Return what the last attempt's relay returned, and its protocols."""
        self._clear_leftovers()
        return self.go_on()

    def go_on(self, failed: PodcpError | None = None) -> Delivered:
        """Try until that is done, or of no use any more.

        :param failed: how an attempt has ended that was made in company: see :meth:`conclude`.
        """
        with self._cleaning_up():
            while True:
                if failed is not None:
                    self._wait_or_raise(failed)
                try:
                    return self._swept(self._try())
                except PodcpError as error:
                    failed = error

    def fail(self, error: PodcpError) -> NoReturn:
        """Do as :meth:`go_on` where there is no other try."""
        with self._cleaning_up():
            raise error

    @property
    def source_failed(self) -> bool:
        """Whether the last attempt has failed because of the source."""
        return self._last is not None and self._last.source_failed

    def report(self, delivered: Delivered, began: float, owner: str = "") -> Report:
        """Return the report of what :meth:`run`, or what stands for it, has returned.

        :param owner: of the path at the destination, where there are several.
        """
        (outcome, protocols), plan, tally = delivered, self._plan, self._tally
        request, missing = plan.request, self._missing
        return Report(
            status="partial" if outcome.source_code or outcome.changed or missing else "complete",
            source=str(request.source),
            destination=str(request.destination),
            target=plan.placement.path,
            files=tally.files - tally.spared,
            directories=tally.directories,
            size=tally.size,
            seconds=time.monotonic() - began,
            protocols=protocols,
            received=tally.received,
            sent=tally.sent,
            retries=self.failed,
            up_to_date=tally.up_to_date,
            kept=tally.kept + tally.spared,
            backed_up=tally.backed_up,
            notices=(*self._notices, *tally.all_notices()),
            stderr=b"\n".join(filter(None, (outcome.source_stderr.rstrip(b"\n"), missing))),
            verified=request.verify and tally.sent > 0,
            owner=owner,
        )

    # --- in company: one source is read for several destinations, each with tries of its own -----

    def join(self, left: Remainder | None) -> Attempt | None:
        """Return the first attempt, for what is :meth:`wanted`; None: nothing need be sent."""
        self._clear_leftovers()
        self._last = self._begin(left, resumed=False)
        return self._last

    def wanted(self) -> Remainder | None:
        """Return what of the source is; None: all of it."""
        return self._outdated(first=False)

    def learn(self, other: Tries) -> None:
        """Take over what was learnt of the source while it was read for both."""
        self._unseen = other._unseen
        if self._ledger is not None and other._ledger is not None:
            self._ledger.adopt(other._ledger)

    def conclude(self, attempt: Attempt) -> Delivered:
        """Do what is left to do after an attempt made in company.

        :raises Again: it has failed, and :meth:`go_on` may come to a better end; nothing was
            cleaned up.
        :raises PodcpError: it has failed for good.
        """
        with self._cleaning_up():
            try:
                return self._swept(self._see_through(attempt))
            except PodcpError as error:
                if (
                    isinstance(error, OneHole)
                    or self._may_pass(error)
                    or self._may_renew_credentials(error)
                ):
                    raise Again(error) from error
                raise

    def give_up(self) -> str:
        """Clean up after a signal, whatever another thread is about; return what is left."""
        with self._lock:
            self._given_up = True
        if self._last is not None:
            self._look_back(self._last)
        return "\n".join((self._left(), *self._clean_up_at_the_end(kept=True)))

    # --- one attempt ---------------------------------------------------------------------------

    @contextmanager
    def _cleaning_up(self) -> Iterator[None]:
        try:
            yield
        except PodcpError as error:  # a signal may come while we wait, too
            if self._given_up:
                raise
            error.left = self._left()
            with suppress(Interrupted):  # the first error counts
                kept = not isinstance(error, Mismatch)
                error.left = "\n".join((error.left, *self._clean_up_at_the_end(kept=kept)))
            raise
        except Again:
            raise
        except BaseException:
            self._clean_up()
            raise

    def _swept(self, delivered: Delivered) -> Delivered:
        for said in self._sweep():
            self._on_notice(said)
        return delivered

    def _try(self) -> Delivered:
        if self.failed:
            self._ask_again()
        first = self._current is None
        if first and self._must_compare():
            self._current = self._compare()
        resumed = self._look() if self._look_first or self._last is not None else None
        left = resumed or self._outdated(first)
        attempt = self._begin(left, resumed=resumed is not None)
        return NOTHING_TO_SEND if attempt is None else self._see_through(attempt)

    def _begin(self, left: Remainder | None, *, resumed: bool) -> Attempt | None:
        """Return an attempt at what is ``left``; None where that is nothing.

        :param resumed: whether some of it is in the staging folder.
        """
        place = not resumed and self._places_at_once()
        self._staging = replace(self._staging, place=place, keep=self._keeps(), again=resumed)
        if self._ledger is not None:
            self._ledger.begin(left)
            ask_source(self._plan, self._ledger)
        if left is None:
            self._tally.begin_again()
        else:
            whole, size = len(left.whole), left.size()
            log.log(CHOICES, "goes on: %d files and %d bytes are there already", whole, size)
            kept = len(left.current & self._current.kept) if self._current else 0
            self._tally.begin_again(whole, size, len(left.current) - kept, kept)
        if self._tally.watcher is not None:
            policy, rewriting = self._plan.policy, self._plan.rewriting
            staged = (policy.lessened(each).member for each in (left.staged() if left else ()))
            self._tally.watcher.begin(map(rewriting.member, staged))
        self._has_staged = resumed
        self._placed = NOT_PLACED
        if left is not None and left.is_nothing and not resumed:
            return None
        return streaming.attempt(self._plan)(
            self._plan, self._staging, self._tally, left, self._ledger, self._unseen
        )

    def _see_through(self, attempt: Attempt) -> Delivered:
        """Run an attempt, then read again and put in place what its own script has not."""
        self._last = attempt
        try:
            result = attempt.run()
            self._fresh_credentials = False  # they were good; the next ones may expire again
        finally:
            self._look_back(attempt)
        if self._ledger is not None:
            self._tally.verifying = True
            check(self._plan, self._staging, self._ledger, self._tally)
        if not self._staging.place:
            self._commit()
        return result

    def _look_back(self, attempt: Attempt) -> None:
        """Note what an attempt has left at the destination."""
        self._has_staged = self._has_staged or attempt.has_staged
        self._plan = replace(self._plan, beside=attempt.beside, staged=attempt.staged)
        if self._staging.place:
            self._placed = attempt.placed

    def _ask_again(self) -> None:
        """Begin anew where a container has been replaced: what was staged in it is gone with it.

        Where the source's has, its files may be others by now: by sizes and times nobody could
        tell, where an image gives all of them one time.
        """
        before, self._plan = self._plan, plans.renewed(self._plan)
        is_other = self._plan.source != before.source
        if is_other and self._ledger is not None:
            self._ledger.forget()
        if self._plan.target != before.target or self._plan.key != before.key:
            self._on_notice(f"{self._plan.target} was restarted: the copy begins anew")
            self._staging = self._new_staging(kept=self._plan.request.partial)
            self._last = self._current = None
            self._look_first = self._plan.request.partial  # a volume may have it yet
        elif is_other:
            self._on_notice(
                f"{self._plan.source} was restarted: what arrived is compared with what it has now"
            )
            self._doubts = True
            if self._plan.request.checksum:
                self._current = None

    def _must_compare(self) -> bool:
        """Whether it must be known what is there before anything is sent."""
        request = self._plan.request
        if request.compares:
            return True
        return request.keeps and not request.is_stream and self._plan.existing is not Kind.MISSING

    def _places_at_once(self) -> bool:
        """Whether the shell that unpacks puts the copy in its place, too: it is not told rules for
        what is there, and does not wait until all was read again."""
        # With more to say than usual, the script would be too long.
        is_short = not self._plan.packings[1].kind and not self._staging.options
        return self._ledger is None and not self._plan.request.spares and is_short

    def _compare(self) -> Current:
        """Return the files that need not be sent, since they are at the destination."""
        request = self._plan.request
        found = compare.compare(self._plan, self._new_staging(kept=False))
        if found is None and request.interactive is not None:
            raise self._overwriting.unlisted()
        if found is None and request.compares:
            self._on_notice(
                "what is there could not be compared (it is too much, or some of it cannot be "
                "read): everything is copied"
            )
        if found is None:
            return Current(None, frozenset())
        self._tally.asking = True
        try:
            return self._overwriting.kept(found, self._plan.placement)
        finally:
            self._tally.asking = False

    def _outdated(self, first: bool) -> Remainder | None:
        """Return what is wanted and not up to date at the destination; None where that is all.

        :param first: whether the source was listed just now.
        """
        current, is_all = self._current, self._plan.request.selection.is_all
        then = current.source if current else None
        if then is None and is_all:
            return None
        source = then if first and then else compare.list_source(self._plan)
        names = current.still(source) if source and current else frozenset[bytes]()
        left = remainder(source, current=names) if source and (names or not is_all) else None
        if not is_all and (left is None or left.names is None) and not self._reads_all:
            self._reads_all = True
            self._on_notice(
                "the source's tar cannot be told what to read: it reads all, and what is not "
                "wanted goes no further than to this machine"
            )
        return left

    def _keeps(self) -> bool:
        return self._plan.request.partial or self._plan.request.tries_again(self.failed)

    def _wait_or_raise(self, error: PodcpError) -> None:
        """Wait until it is time to try again, or raise ``error`` where that is of no use."""
        if self._renewed_credentials(error) or self._reads_holes(error):
            return
        if not self._may_pass(error):
            raise error
        self.failed += 1
        seconds = wait(self.failed) * random.uniform(0.8, 1.2)
        retries = self._plan.request.retries
        last = f" of {retries}" if retries >= 0 else ""
        self._on_notice(f"{error.happened}; trying again in {seconds:.1f} s ({self.failed}{last})")
        time.sleep(seconds)
        if self._may_be_placed():
            # Its shell may be at work yet: what it moves or removes must not be ours.
            self._clean_up()
            self._in_doubt = self._in_doubt or self._placed is None
            self._staging = self._new_staging(kept=False)
            self._last = None
            self._committing = False

    def _reads_holes(self, error: PodcpError) -> bool:
        """Whether the next try reads what the last one took for holes."""
        if not (isinstance(error, OneHole) and self._plan.holes):
            return False
        log.log(CHOICES, "%s: all holes are read", error.happened)
        self._plan = replace(self._plan, holes=False)
        return True

    def _may_pass(self, error: PodcpError) -> bool:
        """Whether it is of use to try again after ``error``."""
        # The Pod was there when the copy began: it may be made anew.
        may_pass = error.retryable or isinstance(error, PodNotFound)
        if self._plan.request.backup and self._committing and self._placed is None:
            may_pass = False  # the next try would take what this one has placed for an old file
        if may_pass and self._plan.request.tries_again(self.failed):
            return True
        log.log(
            CHOICES,
            "not tried again: %s, which %s; %d of %d retries were used",
            *(error.code, "may pass" if may_pass else "would come again"),
            *(self.failed, self._plan.request.retries),
        )
        return False

    def _may_renew_credentials(self, error: PodcpError) -> bool:
        return isinstance(error, Unauthorized) and not self._fresh_credentials

    def _renewed_credentials(self, error: PodcpError) -> bool:
        """Whether to go on at once with fresh credentials: a token expires while a copy runs."""
        if not self._may_renew_credentials(error):
            self._fresh_credentials = False
            return False
        self._fresh_credentials = True
        for end in (self._plan.source, self._plan.target):
            end.renew_credentials()
        return True

    # --- the staging folder ------------------------------------------------------------------

    def _new_staging(self, *, kept: bool) -> Staging:
        """Return a folder of our own, or the one where other runs with ``--partial`` look."""
        own = self._common() if kept else os.urandom(8).hex()
        placement = self._plan.placement
        below = placement.path.rstrip(b"/") + b"/"
        preserve, tar = self._plan.request.preserve, self._plan.there.tar
        return Staging(
            placement,
            self._plan.key + own,
            self._plan.found.facts.top,
            mounts=tuple(each for each in self._plan.there.mounts if each.startswith(below)),
            options=" --xattrs" if XATTR in preserve and tar is probe.Tar.GNU else "",
            writing=self._told_to_write(),
            lax=tar is probe.Tar.BUSYBOX,
            sha256=(self._plan.there.sha256 or "") if self._plan.request.verify else "",
        )

    def _common(self) -> str:
        """Return what ends the name of the folder where other runs with ``--partial`` look.

        No listing says whether a time has its fraction: so runs that keep fractions, and runs that
        do not, look in different places.
        """
        tars = {self._plan.found.tar, self._plan.there.tar}
        has_fractions = FRACTIONS in self._plan.request.preserve and tars <= probe.PAX_TARS
        return ("f" if has_fractions else "0") * 16

    def _told_to_write(self) -> str:
        """Return what the destination's tar is told where it takes files to another mount."""
        tar = self._plan.there.tar
        has_pax = tar in probe.PAX_TARS and self._plan.request.preserve & {FRACTIONS, XATTR}
        unquoted = scripts.UNQUOTED if tar is probe.Tar.GNU else ""
        return (" --format=pax" if has_pax else "") + unquoted

    def _clear_leftovers(self) -> None:
        """Remove what copies to this very target left, whose client and shell are gone."""
        for name in self._plan.there.leftovers:
            digits = name.decode("ascii").removeprefix(".podcp-")
            if digits.startswith(self._plan.key) and digits != self._staging.digits:
                left = replace(self._staging, digits=digits, keep=True)
                with suppress(AccessError, ServerError):  # it is in nobody's way
                    self._plan.target.ask(scripts.sweep(left, busy=True), SWEEP_TIMEOUT)

    def _look(self) -> Remainder | None:
        """Return what is in the staging folder already; None where nothing of it is of use."""
        plan, nonce = self._plan, os.urandom(16).hex()
        staged = plan.target.ask(
            scripts.list_staged(self._staging, nonce, end=not self._look_first),
            self._within(LIST_TIMEOUT),
            listing.LIMIT,
        )
        if staged.endswith(b"busy\n"):
            raise DestinationRefused(
                f"another copy to {printable(plan.placement.path)} is at work",
                advice="wait until it has ended, or leave out --partial",
            )
        self._look_first = False
        there = listing.parse(staged, nonce)
        found = None
        if there is not None:
            here = compare.list_source(plan)
            current = self._current.still(here) if here and self._current else frozenset[bytes]()
            known = None if plan.found.sha256 else self._ledger
            parts = bool(plan.found.sha256 and plan.there.sha256)
            preserve = plan.request.preserve
            if FRACTIONS in preserve:  # a listing has none, and the rest would not
                parts = False
            # By its time a file is known to be whole, and nothing says whether its attributes are.
            if here and TIMESTAMPS in preserve and XATTR not in preserve:
                resumption = partial(
                    resume.resumption, here, there, current, parts=parts, rewriting=plan.rewriting
                )
                found = resumption(known)
                if self._doubts and found is not None:
                    sizes = {name: here[name].size for name in found.remainder.whole}
                    found = resumption(compare.same_staged(plan, self._staging, sizes))
        if found is not None and found.doubtful:  # before anything that may fail, and look again
            words = scripts.words(found.doubtful)
            spoil = scripts.spoil(self._staging, len(words))
            plan.target.ask(spoil, SWEEP_TIMEOUT, stdin=words)
        part = found.remainder.part if found else None
        if found is None or (part is not None and not self._same_prefix(part)):
            is_foreign = staged == b"foreign\n"
            self._make_room(is_foreign=is_foreign)
            if staged and not is_foreign:
                self._on_notice("nothing of what arrived can be used: the copy begins anew")
            return None
        return found.remainder

    def _make_room(self, *, is_foreign: bool) -> None:
        """Remove what has the staging folder's name.

        :param is_foreign: whether it is none of ours.
        """
        sweep = scripts.sweep(replace(self._staging, keep=True))
        try:
            self._plan.target.ask(sweep, REMOVE_TIMEOUT)
        except ExecFailed as error:
            if not is_foreign:
                raise
            raise DestinationRefused(
                f"{self._path(self._staging)} is where what arrives would be kept, but somebody "
                "else has made it, and we cannot remove it",
                advice="remove it there, or leave out --partial",
                stderr=error.stderr,
            ) from error

    def _same_prefix(self, part: Part) -> bool:
        """Set the part aside; return whether the source's file still begins with it."""
        plan, facts = self._plan, self._plan.found.facts
        here, there = plans.both(
            lambda: digest.of_prefix(plan.source, facts, part, plan.found.sha256),
            lambda: digest.of_set_aside(plan.target, self._staging, part, plan.there.sha256),
        )
        return here == there != b""

    def _within(self, seconds: float) -> float:
        """Return ``seconds``, and as many more as joining the parts of a file may take, which is
        the source or came from it."""
        size = max(self._plan.found.facts.size or 0, self._tally.received)
        return seconds + size / digest.SLOWEST

    def _may_be_placed(self) -> bool:
        """Whether somebody may be moving what is staged to its place."""
        if not self._staging.place:
            return self._committing
        return self._last is not None and self._last.may_be_placed

    def _commit(self) -> None:
        """Put what an attempt completed in its place."""
        nonce = os.urandom(16).hex()
        with self._lock:
            if self._given_up:  # and cleaned up, behind our back
                raise NotAcknowledged("given up before the copy was put in its place")
            self._committing, self._placed = True, None
        how = self._overwriting.rules()
        rules = scripts.rules(self._staging, how) if how else b""
        commit = scripts.commit(self._staging, nonce, len(rules))
        said = self._plan.target.run(commit, self._within(COMMIT_TIMEOUT), stdin=rules)
        counts = rb" (\d{1,20}) (\d{1,20})" if how else rb""
        placed = re.search(rb"\npodcp-%b 0 1 (\d)%b\n\Z" % (nonce.encode(), counts), said)
        if placed is None:
            raise NotAcknowledged("the destination did not say that the copy is in its place")
        self._placed = int(placed[1])
        if self._placed != PLACED:
            why = said[: placed.start()]
            raise DestinationFailed("the copy could not be put in place", stderr=why)
        if how:
            self._tally.spared, self._tally.backed_up = int(placed[2]), int(placed[3])

    def _left(self) -> str:
        """Return what is on the destination after a failure, as far as it can be known."""
        if isinstance(self._plan.target, Stdout):
            return self._plan.target.left
        target = printable(self._plan.placement.path)
        if self._placed == PLACED:
            return f"the copy is complete: {target} is the new one"
        if self._placed == PARTLY_PLACED:
            return f"{target} has some of the new files; each is whole"
        if self._placed is None or self._in_doubt:
            return (
                f"everything was sent, but whether {target} is the new or the old one is not known"
            )
        return f"{self._plan.request.destination} was not changed"

    def _clean_up_at_the_end(self, *, kept: bool) -> list[str]:
        """Clean up, also where a signal comes meanwhile or the copy's time is over: this has limits
        of its own."""
        try:
            return self._clean_up(kept=kept)
        except Interrupted:  # which comes only once: a second signal ends the process
            return self._clean_up(kept=kept)

    def _clean_up(self, *, kept: bool = True) -> list[str]:
        """Remove what is staged, or keep it; return what a user should know of it.

        :param kept: whether it may be kept.
        """
        if kept and self._plan.request.partial and self._has_staged and not self._may_be_placed():
            stage = self._path(self._staging)
            said = f"what arrived is kept in {stage}: the same command goes on from there"
            return [said, *self._sweep()]
        if self._last is None:
            return self._sweep()
        # A shell that has all of it may be about to move it: so it is given time, as where it
        # removes the folder by itself, and the folder is not taken away under it.
        keep = self._staging.keep and not self._may_be_placed()
        staging = replace(self._staging, keep=keep)
        if staging not in self._unswept:
            self._unswept.append(staging)
        return self._sweep()

    def _sweep(self) -> list[str]:
        """Remove what attempts have left; return what a user should know of it."""
        self._unswept = [staging for staging in self._unswept if not self._is_swept(staging)]
        there = self._plan.target
        return [
            f"remove {self._path(staging)} there, if it is still there: {there} did not answer"
            for staging in self._unswept
        ]

    def _is_swept(self, staging: Staging) -> bool:
        sweep = scripts.sweep(replace(staging, keep=staging.keep or not staging.place))
        with suppress(AccessError, ServerError, OSError):
            try:
                self._plan.target.ask(sweep, SWEEP_TIMEOUT)
            except Unauthorized as error:
                if not self._renewed_credentials(error):
                    raise
                self._plan.target.ask(sweep, SWEEP_TIMEOUT)
            return True
        return False

    def _path(self, staging: Staging) -> str:
        return printable(paths.join(self._plan.placement.directory, staging.name))
