"""Several destinations: which are meant, and that each is proved by itself.

The order of things: what the command line alone tells is wrong; which Pods are meant; the plan of
each copy, those of one source asked at once; then for each source one attempt together, for which
it is read once. Each destination goes its own way then: what is left to do is done at once for all,
and those that have failed for a reason that may pass are copied to again, one by one. Raises
:class:`~kubectl_podcp.errors.PodcpError` for what concerns all of them; what concerns one is its
:class:`~kubectl_podcp.report.Failure`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from kubectl_podcp import plan as plans
from kubectl_podcp.attempt import Attempt
from kubectl_podcp.copy import carry_out, clusters, rehearse_plan
from kubectl_podcp.errors import Interrupted, PodcpError, TimedOut, UsageError, printable
from kubectl_podcp.paths import GRAMMAR, PodPath
from kubectl_podcp.plan import Plan
from kubectl_podcp.rehearsal import Rehearsal
from kubectl_podcp.report import AGAIN, ALONE, Failure, Result, Row, Tally
from kubectl_podcp.request import Access, CopyRequest, Options
from kubectl_podcp.sources import check, expanded
from kubectl_podcp.tries import NOTHING_TO_SEND, Again, Tries

if TYPE_CHECKING:  # imported where it is used: it is what start-up takes its time for
    from kubectl_podcp.cluster.kubeconfig import Cluster
    from kubectl_podcp.cluster.workloads import Ready

Clusters = dict[Access, "Cluster"]

Notice = Callable[[str], None]

_ALONE = {
    "partial": "what one destination has kept is not what another one lacks",
    "update": "what is up to date at one destination is not at another",
    "checksum": "what is up to date at one destination is not at another",
    "interactive": "what may be replaced at one destination is not at another",
}
"""Options for which each destination would need a part of the source of its own."""


def copy_to_all(
    sources: Sequence[str | bytes],
    words: Sequence[str | bytes],
    options: Options,
    tally: Tally,
    notice: Notice,
    told: Callable[[Result], None],
) -> list[Result]:
    """Copy to several destinations; see :func:`kubectl_podcp.copies.copy_all`.

    :param words: one for each destination, or for some Pods that are destinations.
    :param told: any thread may tell, one at a time.
    :returns: how each copy ended, in the order of the sources, and for each in that of the
        destinations.
    """
    known = Clusters()
    wanted = _wanted(_requests(sources, words, options), known, notice)
    only = wanted[0][0] if len(wanted) == len(wanted[0]) == 1 else None
    if isinstance(only, CopyRequest):
        return [carry_out(only, tally, notice, known)]
    planned = [_planned_or_failed(each, known, alone=len(wanted) == 1) for each in wanted]
    once, results = _once(notice), list[Result]()
    for each in planned:
        tally.begin()
        results += _Fanout(each, tally, once, told).run()
    return results


def rehearse_to_all(
    sources: Sequence[str | bytes],
    words: Sequence[str | bytes],
    options: Options,
    notice: Notice,
) -> list[Rehearsal]:
    """Ask what :func:`copy_to_all` asks before it creates anything; return what it would do.

    :raises PodcpError: one of the copies would fail.
    """
    known, once = Clusters(), _once(notice)
    wanted = _wanted(_requests(sources, words, options), known, notice)
    planned = [plan for each in wanted for plan in _planned(each, known)]
    for each in planned:
        if isinstance(each, Failure):
            raise each.error
    return [rehearse_plan(each, once) for each in planned if isinstance(each, Plan)]


# --- which copies are meant ----------------------------------------------------------------------


def _requests(
    sources: Sequence[str | bytes], words: Sequence[str | bytes], options: Options
) -> list[list[CopyRequest]]:
    """Return, for each source, a request for each word.

    :raises UsageError: the command line cannot be carried out.
    """
    if not sources:
        raise UsageError("there is no source", advice=f"a path is written {GRAMMAR}")
    requests = [[CopyRequest.of(source, word, options) for word in words] for source in sources]
    if any(each.is_stream for row in requests for each in row):
        raise UsageError(
            "- stands for one stream, and there may be several destinations",
            advice="name a file or a directory",
        )
    for name, why in _ALONE.items():
        if getattr(options, name) not in (False, None):
            raise UsageError(
                f"--{name} is for one destination: {why}",
                advice="leave it out, or copy to each destination by itself",
            )
    check([row[0] for row in requests])
    _check_choices([each.destination for each in requests[0]], options)
    return requests


def _check_choices(paths: Sequence[object], options: Options) -> None:
    """Check that what says which Pods are meant is said of something, and nothing twice."""
    chosen = [path for path in paths if isinstance(path, PodPath)]
    if options.selector is not None and not any(path.selector for path in chosen):
        raise UsageError(
            "-l says which Pods are meant, and each destination names its own",
            advice="write the destination as :path or namespace/:path",
        )
    if options.all_pods and not any(path.kind for path in chosen):
        raise UsageError(
            "--all-pods is for what has Pods, and no destination names such",
            advice="write the destination as deploy/web:path, for example",
        )
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise UsageError(f"{path} is named twice", advice="leave one of them out")


def _wanted(
    requests: Sequence[Sequence[CopyRequest]], known: Clusters, notice: Notice
) -> list[list[CopyRequest | Failure]]:
    """Return, for each source that there is, what becomes of it at each destination.

    :raises PodcpError: nothing can be copied.
    """
    toward = _found(requests[0], known, notice)
    sources = list[CopyRequest | Failure]()
    for row in requests:
        try:
            sources += expanded(row[0], known, notice)
        except PodcpError as error:
            if len(requests) == 1 or isinstance(error, Interrupted):
                raise
            sources.append(_failure(row[0], error))
    check([each for each in sources if isinstance(each, CopyRequest)])
    several = len(sources) > 1
    return [[_meeting(source, each, several=several) for each in toward] for source in sources]


def _meeting(
    source: CopyRequest | Failure, toward: CopyRequest | Failure, *, several: bool
) -> CopyRequest | Failure:
    """Return what becomes of a source at a destination, each of which is known beside another."""
    if isinstance(source, CopyRequest) and isinstance(toward, CopyRequest):
        return replace(toward, source=source.source, into=several)
    failed = source if isinstance(source, Failure) else toward
    assert isinstance(failed, Failure)
    return _named_failure(str(source.source), str(toward.destination), failed.error, several)


def _found(
    requests: Sequence[CopyRequest], known: Clusters, notice: Notice
) -> list[CopyRequest | Failure]:
    """Return a request for each Pod that is meant.

    :raises PodcpError: none can be found.
    """
    found = list[CopyRequest | Failure]()
    for request in requests:
        try:
            found += _expanded(request, known, notice)
        except PodcpError as error:
            if len(requests) == 1 or isinstance(error, Interrupted):
                raise
            found.append(_failure(request, error))
    return found


def _expanded(request: CopyRequest, known: Clusters, notice: Notice) -> list[CopyRequest]:
    path = request.destination
    is_many = isinstance(path, PodPath) and (path.selector or (path.kind and request.all_pods))
    if not is_many:
        return [request]
    assert isinstance(path, PodPath)
    from kubectl_podcp.cluster import workloads

    cluster = clusters(request, known)[1]
    namespace = path.namespace or request.namespace or cluster.namespace
    if path.selector:
        ready = workloads.labelled_pods(cluster, namespace, path.selector)
        meant = f"-l {path.selector}"
    else:
        ready = workloads.ready_pods(cluster, namespace, path.resource, path.pod)
        meant = path.owner
    _tell_choice(meant, ready, notice)
    return [replace(request, destination=path.in_pod(name)) for name in ready.names]


def _tell_choice(meant: str, ready: Ready, notice: Notice) -> None:
    pods = "Pod" if len(ready.names) == 1 else f"{len(ready.names):,} Pods"
    notice(f"{meant}: taking {pods} {', '.join(ready.names)}")
    if ready.others:
        notice(f"{meant}: not copied to, for {', '.join(ready.others)}")


def _planned(found: Sequence[CopyRequest | Failure], known: Clusters) -> list[Plan | Failure]:
    """Make the plan of each copy, all at once.

    :raises PodcpError: the source cannot be copied, or two destinations are one, or would need
        different modes.
    """
    requests = [each for each in found if isinstance(each, CopyRequest)]
    asked = plans.ask(clusters(requests[0], known), requests[0]) if requests else None
    made = iter(
        plans.at_once(
            [partial(plans.toward, clusters(each, known), each, asked) for each in requests]
            if asked is not None
            else []
        )
    )
    planned, taken = list[Plan | Failure](), dict[str, CopyRequest]()
    for each in found:
        plan = each if isinstance(each, Failure) else next(made)
        if isinstance(plan, PodcpError):
            assert isinstance(each, CopyRequest)
            plan = _failure(each, plan)
        if isinstance(plan, Plan):
            other = taken.setdefault(plan.key, plan.request)
            if other is not plan.request:
                raise UsageError(
                    f"{other.destination} and {plan.request.destination} are one place, "
                    f"{printable(plan.placement.path)}",
                    advice="leave one of them out",
                )
        planned.append(plan)
    _check_modes([each for each in planned if isinstance(each, Plan)])
    return planned


def _check_modes(planned: Sequence[Plan]) -> None:
    """Check that one archive has the modes for all: what a umask takes off is off in it."""
    for plan in planned[1:]:
        first = planned[0]
        if not plan.rewriting.gives_modes_as(first.rewriting):
            raise UsageError(
                f"modes that go by the umask would differ: it is {first.there.umask:03o} for "
                f"{first.request.destination}, and {plan.there.umask:03o} for "
                f"{plan.request.destination}",
                advice="copy to each destination by itself, or give modes that do not go by it: "
                "--chmod a+x instead of +x, or --chmod u=rwX,go=rX",
            )


def _planned_or_failed(
    wanted: Sequence[CopyRequest | Failure], known: Clusters, *, alone: bool
) -> Sequence[Plan | Failure]:
    """Make the plan of each copy of one source.

    :param alone: whether there is no other one, and the source's error that of the run.
    """
    try:
        return _planned(wanted, known)
    except PodcpError as error:
        if alone or isinstance(error, Interrupted | UsageError):
            raise
        return [each if isinstance(each, Failure) else _failure(each, error) for each in wanted]


# --- one copy to all of them ---------------------------------------------------------------------


class _Branch:
    """One of the destinations."""

    def __init__(self, number: int, plan: Plan, tally: Tally, notice: Notice) -> None:
        self.number = number
        self.plan = plan
        self.tally = tally
        destination = plan.request.destination
        self.where = str(destination)
        self.owner = f"{destination.owner}:" if isinstance(destination, PodPath) else ""
        self.tries = Tries(plan, tally, lambda text: notice(f"{self.where}: {text}"))
        self.row = Row(self.where, tally)
        self.attempt: Attempt | None = None


class _Fanout:
    """The copies to all destinations, one of which at least has a plan.

    The first destination's tally is the caller's own: it counts what comes from the source.
    """

    def __init__(
        self,
        planned: Sequence[Plan | Failure],
        tally: Tally,
        notice: Notice,
        told: Callable[[Result], None],
    ) -> None:
        self._began = time.monotonic()
        self._tally = tally
        self._notice = notice
        self._told = told
        self._lock = threading.Lock()  # for who tells
        self._results: dict[int, Result] = {}
        self._again: dict[int, PodcpError] = {}
        self._concluded: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._branches = list[_Branch]()
        for number, each in enumerate(planned):
            if isinstance(each, Failure):
                self._settle(number, each)
            else:
                own = Tally() if self._branches else tally
                self._branches.append(_Branch(number, each, own, notice))

    def run(self) -> list[Result]:
        """Do it; return how each copy ended.

        :raises Interrupted: a signal came; its ``left`` says what is at each destination that was
            not settled yet.
        """
        if self._branches:
            try:
                self._copy()
            except Interrupted as signal:
                signal.left = self._left(signal.left)
                raise
        return [result for _, result in sorted(self._results.items())]

    def _copy(self) -> None:
        for branch in self._branches:
            for said in branch.plan.notices:
                self._notice(said)
        self._tally.total = self._branches[0].plan.found.facts.size
        self._tally.rows = [branch.row for branch in self._branches]
        self._copy_together()
        self._tell_notices(self._branches)
        source_failed = False
        for branch in self._branches:
            if branch.number in self._again:
                branch.tally.watcher = self._tally.watcher
                self._copy_again(branch, give_up=source_failed)
                source_failed = source_failed or branch.tries.source_failed
                self._tell_notices([branch])

    def _tell_notices(self, branches: Iterable[_Branch]) -> None:
        for branch in branches:
            for said in branch.tally.all_notices():
                self._notice(said)

    def _copy_together(self) -> None:
        first = self._branches[0]
        left = first.tries.wanted()
        for branch in self._branches:
            if branch is not first:
                branch.tries.learn(first.tries)
            branch.attempt = branch.tries.join(left)
        branches = {each.attempt: each for each in self._branches if each.attempt is not None}
        for branch in self._branches:
            if branch.attempt is None:
                self._settle(branch.number, self._report(branch, None))
            else:
                branch.row.passed = partial(getattr, branch.attempt, "passed")

        def on_end(attempt: Attempt) -> None:
            self._conclude(branches[attempt], first)

        if first.attempt is not None:
            first.attempt.run_for(tuple(branches), on_end)
            for _ in branches:
                error = self._concluded.get()
                if error is not None:
                    raise error

    def _conclude(self, branch: _Branch, first: _Branch) -> None:
        """Let a thread do what is left to do for a destination; it may read and wait for long.

        A signal does not wait for it: it puts nothing in place any more then.
        """
        if branch is not first:
            branch.tries.learn(first.tries)

        def work() -> None:
            try:
                assert branch.attempt is not None
                self._settle(branch.number, self._report(branch, branch.attempt))
            except Again as again:
                self._again[branch.number] = again.error
                branch.row.state = AGAIN
            except BaseException as error:  # whatever it is, it must reach the caller
                self._concluded.put(error)
                return
            self._concluded.put(None)

        threading.Thread(target=work, daemon=True).start()

    def _report(self, branch: _Branch, attempt: Attempt | None) -> Result:
        try:
            delivered = NOTHING_TO_SEND if attempt is None else branch.tries.conclude(attempt)
        except Interrupted:
            raise
        except PodcpError as error:
            return _failure(branch.plan.request, error)
        return branch.tries.report(delivered, self._began, owner=branch.owner)

    def _copy_again(self, branch: _Branch, *, give_up: bool) -> None:
        """Copy to one destination alone, from where it has stopped.

        :param give_up: whether that has failed for another one already, because of the source.
        """
        branch.row.state, branch.row.passed = ALONE, None
        error = self._again.pop(branch.number)
        try:
            delivered = branch.tries.fail(error) if give_up else branch.tries.go_on(error)
        except Interrupted as signal:
            signal.left = _named(branch, signal.left)
            self._settle(branch.number, _failure(branch.plan.request, signal), tell=False)
            raise
        except PodcpError as error:
            self._settle(branch.number, _failure(branch.plan.request, error))
        else:
            report = branch.tries.report(delivered, self._began, owner=branch.owner)
            self._settle(branch.number, report)

    def _settle(self, number: int, result: Result, *, tell: bool = True) -> None:
        """Note how a copy has ended, for good."""
        with self._lock:
            self._results[number] = result
            for branch in self._branches:
                if branch.number == number:
                    branch.row.state = result.status
            if tell:
                self._told(result)

    def _left(self, before: str) -> str:
        """Clean up at all destinations that are not settled, at once; return what is left."""
        with self._lock:
            rest = [each for each in self._branches if each.number not in self._results]
        works = [each.tries.give_up for each in rest]
        try:
            left = plans.at_once(works)
        except TimedOut:  # which comes only once
            left = plans.at_once(works)
        said = map(_named, rest, left)
        return "\n".join(filter(None, (before, *said)))


def _named(branch: _Branch, left: object) -> str:
    """Return what is left at a destination, with its name."""
    said = str(left)
    return said if branch.where in said else f"{branch.where}: {said}"


def _failure(request: CopyRequest, error: PodcpError) -> Failure:
    return _named_failure(str(request.source), str(request.destination), error, request.into)


def _named_failure(source: str, destination: str, error: PodcpError, several: bool) -> Failure:
    """Return a failure that is known by its destination, and where there are several sources by
    both."""
    name = f"{source} to {destination}" if several else destination
    return Failure(source, destination, error, name)


def _once(notice: Notice) -> Notice:
    """Return what tells each notice once: most are the same for all destinations."""
    told = set[str]()

    def tell(text: str) -> None:
        if text not in told:
            told.add(text)
            notice(text)

    return tell
