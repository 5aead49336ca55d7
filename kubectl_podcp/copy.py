"""One request carried out: attempts until one is acknowledged, and what is left after a failure.

The order of things: read the kubeconfig, look at both Pods, look at both paths, apply the
directory rule, open both sessions, relay, report. Nothing is created on the destination before
all that can be known beforehand was found to be right. Raises :class:`PodcpError`.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from kubectl_podcp import paths, resume
from kubectl_podcp import plan as plans
from kubectl_podcp.attempt import Attempt
from kubectl_podcp.errors import (
    DestinationFailed,
    DestinationRefused,
    NotAcknowledged,
    PodcpError,
    Unauthorized,
    printable,
)
from kubectl_podcp.plan import Plan
from kubectl_podcp.relay import Outcome
from kubectl_podcp.remote import listing, scripts
from kubectl_podcp.remote.scripts import Staging
from kubectl_podcp.report import Report, Tally
from kubectl_podcp.request import RETRIES, STALL_TIMEOUT, CopyRequest, pod_paths
from kubectl_podcp.resume import Resumption

SWEEP_TIMEOUT = 5.0
"""Seconds for removing what a failed copy left."""

LIST_TIMEOUT = 60.0
"""Seconds for listing a tree."""

DIGEST_TIMEOUT = 600.0
"""Seconds for reading a file's beginning: a big one, from a slow disk."""

COMMIT_TIMEOUT = 600.0
"""Seconds for joining a file's parts and putting the copy in its place."""

FIRST_WAIT = 1.0
"""Seconds, more or less, before the first retry; each further one waits twice as long."""


def copy(
    source: str,
    destination: str,
    *,
    namespace: str | None = None,
    container: str | None = None,
    context: str | None = None,
    kubeconfig: str | None = None,
    no_target_directory: bool = False,
    stall_timeout: float = STALL_TIMEOUT,
    retries: int = RETRIES,
    partial: bool = False,
    tally: Tally | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> Report:
    """Copy a file or a tree from one Pod to another, and return only when that is proved.

    :param source: ``[namespace/]pod:path``.
    :param destination: ``[namespace/]pod:path``; an existing directory receives the source under
        its own name, as with GNU ``cp -r``.
    :param namespace: for a path that names none; by default the context's.
    :param container: in both Pods; by default each Pod's own default container.
    :param context: of the kubeconfig; by default its current context.
    :param kubeconfig: a file; by default what kubectl would read.
    :param no_target_directory: make the destination be the source, even where a directory exists.
    :param stall_timeout: seconds for which the source may give, or the destination take, nothing
        before that is an error; 0 is for ever.
    :param retries: how often to try again after a failure that may pass, from where it stopped.
    :param partial: keep what arrived when the copy fails all the same; a later call with the same
        paths goes on from there.
    :param tally: is kept up to date while the copy runs; any thread may read it.
    :param on_notice: is told what a user should know, a sentence each, as it turns up.
    :returns: the report of a copy that was proved complete (or complete as far as the source
        could be read: look at ``status``).
    :raises PodcpError: everything else; the destination then has nothing of the copy, unless the
        error's ``left`` says otherwise.
    """
    request = CopyRequest(
        *pod_paths(source, destination),
        namespace=namespace,
        container=container,
        context=context,
        kubeconfig=kubeconfig,
        no_target_directory=no_target_directory,
        stall_timeout=stall_timeout,
        retries=retries,
        partial=partial,
    )
    return carry_out(request, tally or Tally(), on_notice or (lambda _: None))


def carry_out(request: CopyRequest, tally: Tally, on_notice: Callable[[str], None]) -> Report:
    """Do what ``request`` says; see :func:`copy`."""
    from kubectl_podcp.cluster import kubeconfig

    began = time.monotonic()
    plan = plans.make(kubeconfig.load(request.kubeconfig, request.context), request)
    notices = [end.pod.notice for end in (plan.source, plan.target) if end.pod.notice]
    for notice in notices:
        on_notice(notice)
    tally.total = plan.found.facts.size
    tries = _Tries(plan, tally, on_notice)
    outcome, protocols = tries.run()
    if tally.more_notices:
        tally.notices.append(f"and {tally.more_notices:,} more")
    for notice in tally.notices:
        on_notice(notice)
    return Report(
        status="partial" if outcome.source_code else "complete",
        source=str(request.source),
        destination=str(request.destination),
        target=plan.placement.path,
        files=tally.files,
        directories=tally.directories,
        size=tally.size,
        seconds=time.monotonic() - began,
        protocols=protocols,
        received=tally.received,
        sent=tally.sent,
        retries=tries.failed,
        notices=(*notices, *tally.notices),
        stderr=outcome.source_stderr,
    )


class _Tries:
    """Attempts at one copy, until one is acknowledged or it is of no use to go on.

    What an attempt that failed has left in the staging folder is where the next one goes on.
    """

    def __init__(self, plan: Plan, tally: Tally, on_notice: Callable[[str], None]) -> None:
        self.failed = 0
        self._plan = plan
        self._tally = tally
        self._on_notice = on_notice
        self._fresh_credentials = False
        self._committing = False
        self._last: Attempt | None = None
        self._staging = self._new_staging(kept=plan.request.partial)
        self._look_first = plan.request.partial and self._staging.name in plan.there.leftovers

    def run(self) -> tuple[Outcome, tuple[str, str]]:
        """Return what the last attempt's relay returned, and its protocols."""
        self._clear_leftovers()
        while True:
            try:
                return self._try()
            except PodcpError as error:
                self._wait_or_raise(error)
            except BaseException:
                self._clean_up()
                raise

    def _try(self) -> tuple[Outcome, tuple[str, str]]:
        resumption = self._look() if self._look_first or self._last is not None else None
        self._staging = replace(self._staging, place=resumption is None, keep=self._keeps())
        if resumption is None:
            self._tally.begin_again()
        else:
            self._tally.begin_again(len(resumption.whole), resumption.size())
        self._last = Attempt(self._plan, self._staging, self._tally, resumption)
        result = self._last.run()
        if resumption is not None:
            self._commit()
        return result

    def _keeps(self) -> bool:
        return self._plan.request.partial or self.failed < self._plan.request.retries

    def _wait_or_raise(self, error: PodcpError) -> None:
        """Wait until it is time to try again, or raise ``error`` where that is of no use."""
        if self._renewed_credentials(error):
            return
        if not error.retryable or self.failed >= self._plan.request.retries:
            error.left = "\n".join(filter(None, (self._left(), self._clean_up())))
            raise error
        self.failed += 1
        seconds = FIRST_WAIT * 2 ** (self.failed - 1) * random.uniform(0.5, 1.5)
        self._on_notice(
            f"{error.happened}; trying again in {seconds:.1f} s "
            f"({self.failed} of {self._plan.request.retries})"
        )
        try:
            time.sleep(seconds)
        except BaseException:
            self._clean_up()
            raise
        if self._may_be_placed():
            # Its shell may be at work yet: what it moves or removes must not be ours.
            self._clean_up()
            self._staging = self._new_staging(kept=False)
            self._last = None
            self._committing = False

    def _renewed_credentials(self, error: PodcpError) -> bool:
        """Whether to go on at once with fresh credentials: a token expires while a copy runs."""
        if not isinstance(error, Unauthorized) or self._last is None or self._fresh_credentials:
            return False
        self._fresh_credentials = True
        self._plan.source.cluster.renew_credentials()
        return True

    # --- the staging folder ------------------------------------------------------------------

    def _new_staging(self, *, kept: bool) -> Staging:
        """Return a folder of our own, or the one where other runs with ``--partial`` look."""
        own = "0" * 16 if kept else os.urandom(8).hex()
        return Staging(self._plan.placement, self._plan.key + own, self._plan.found.facts.top)

    def _clear_leftovers(self) -> None:
        """Remove what copies to this very target left, whose client and shell are gone."""
        for name in self._plan.there.leftovers:
            digits = name.decode("ascii").removeprefix(".podcp-")
            if digits.startswith(self._plan.key) and digits != self._staging.digits:
                left = replace(self._staging, digits=digits, keep=True)
                with suppress(PodcpError):  # it is in nobody's way
                    self._plan.target.run(scripts.sweep(left, busy=True), SWEEP_TIMEOUT)

    def _look(self) -> Resumption | None:
        """Return what is in the staging folder already; None where nothing of it is of use."""
        plan, nonce = self._plan, os.urandom(16).hex()
        staged = plan.target.run(
            scripts.list_staged(self._staging, nonce, end=not self._look_first),
            LIST_TIMEOUT,
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
            said = plan.source.run(
                scripts.list_source(plan.found.facts, nonce), LIST_TIMEOUT, listing.LIMIT
            )
            here = listing.parse(said, nonce)
            found = None if here is None else resume.resumption(here, there)
        if found is None or (found.part is not None and not self._same_prefix(found.part)):
            plan.target.run(scripts.sweep(replace(self._staging, keep=True)), SWEEP_TIMEOUT)
            return None
        if found.doubtful:
            plan.target.run(scripts.spoil(self._staging, found.doubtful), SWEEP_TIMEOUT)
        return found

    def _same_prefix(self, part: resume.Part) -> bool:
        """Set the part aside; return whether the source's file still begins with it."""
        plan = self._plan
        said, answered = plans.both(
            lambda: plan.source.run(
                scripts.digest_of_prefix(plan.found.facts, part.name, part.size), DIGEST_TIMEOUT
            ),
            lambda: plan.target.run(
                scripts.set_aside(self._staging, part.name, part.size), DIGEST_TIMEOUT
            ),
        )
        return said[:64] == answered[:64] and re.fullmatch(rb"[0-9a-f]{64}", said[:64]) is not None

    def _may_be_placed(self) -> bool:
        """Whether somebody may be moving what is staged to its place."""
        if not self._staging.place:
            return self._committing
        return self._last is not None and self._last.may_be_placed

    def _commit(self) -> None:
        """Put what an attempt completed in its place."""
        nonce = os.urandom(16).hex()
        self._committing = True
        said = self._plan.target.run(scripts.commit(self._staging, nonce), COMMIT_TIMEOUT)
        placed = re.search(rb"\npodcp-%b 0 1 (\d)\n\Z" % nonce.encode(), said)
        if placed is None:
            raise NotAcknowledged("the destination did not say that the copy is in its place")
        if placed[1] != b"0":
            raise DestinationFailed("the copy could not be put in place")

    def _left(self) -> str:
        if self._last is None:
            return f"{self._plan.request.destination} was not changed"
        return self._last.left()

    def _clean_up(self) -> str:
        """Remove the staging folder, or keep it; return what a user should know of it."""
        staging, plan = self._staging, self._plan
        if self._last is None:
            return ""
        stage = printable(paths.join(plan.placement.directory, staging.name))
        if plan.request.partial and not self._may_be_placed():
            return f"what arrived is kept in {stage}: the same command goes on from there"
        with suppress(PodcpError, OSError):
            plan.target.run(scripts.sweep(staging), SWEEP_TIMEOUT)
            return ""
        return f"remove {stage} there, if it is still there: {plan.target.pod.name} did not answer"
