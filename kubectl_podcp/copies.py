"""Several copies in one run: what their words mean, and that one which fails hurts no other.

The order of things: what the command line alone tells is wrong, wildcards, the plan of each copy,
then one copy after the other, each proved by itself. Nothing is copied before all plans are made,
and nothing at all where the destination cannot take any. Raises :class:`PodcpError` for what
concerns all of them; what concerns one is its :class:`Failure`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kubectl_podcp import plan as plans
from kubectl_podcp.copy import carry_out, clusters, perform, rehearse
from kubectl_podcp.errors import Interrupted, NoDirectory, PodcpError, UsageError
from kubectl_podcp.paths import GRAMMAR
from kubectl_podcp.plan import Plan
from kubectl_podcp.report import Failure, Result, Tally
from kubectl_podcp.request import DEFAULTS, Access, CopyRequest, Options
from kubectl_podcp.sources import check, expanded

if TYPE_CHECKING:  # imported where they are used: they are what start-up takes its time for
    from kubectl_podcp.cluster.kubeconfig import Cluster
    from kubectl_podcp.rehearsal import Rehearsal

Clusters = dict[Access, "Cluster"]


Destination = str | bytes | Sequence[str | bytes]


def copy_all(
    sources: Sequence[str | bytes],
    destination: Destination,
    options: Options = DEFAULTS,
    *,
    tally: Tally | None = None,
    on_notice: Callable[[str], None] | None = None,
    on_result: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Copy files and trees to a destination, or to several, as :func:`copy` does.

    :param sources: each as for :func:`copy`; wildcards in a path in a Pod stand for what is there.
    :param destination: a directory that exists, where there are several sources. It may be several:
        a sequence, or those that ``selector`` and ``all_pods`` find.
    :param tally: of the copy at hand; any thread may read it.
    :param on_notice: is told what a user should know, a sentence each, as it turns up.
    :param on_result: is told how each of several copies ended, as it ends; of several destinations
        by any thread, one at a time.
    :returns: how each copy ended, in order.
    :raises PodcpError: nothing was copied; or there was one copy alone, and it failed; or a signal
        came.
    """
    notice, told = on_notice or (lambda _: None), on_result or (lambda _: None)
    words = _words(destination)
    if _are_several(words, options):
        from kubectl_podcp import fanout

        return fanout.copy_to_all(sources, words, options, tally or Tally(), notice, told)
    asked = [CopyRequest.of(each, words[0], options) for each in sources]
    if not asked:
        raise UsageError("there is no source", advice=f"a path is written {GRAMMAR}")
    check(asked)
    tally, known = tally or Tally(), Clusters()
    found = list[CopyRequest | Failure]()
    for request in asked:
        try:
            found += expanded(request, known, notice)
        except PodcpError as error:
            if len(asked) == 1 or isinstance(error, Interrupted):
                raise
            found.append(_failure(request, error))
    if len(found) == 1 and isinstance(found[0], CopyRequest):
        return [carry_out(found[0], tally, notice, known)]
    check([each for each in found if isinstance(each, CopyRequest)])
    planned = _planned(found, known)
    notice = _once(notice, [each for each in planned if isinstance(each, Plan)])
    results = list[Result]()
    for each in planned:
        result = _performed(each, tally, notice) if isinstance(each, Plan) else each
        told(result)
        results.append(result)
    return results


def rehearse_all(
    sources: Sequence[str | bytes],
    destination: Destination,
    options: Options,
    on_notice: Callable[[str], None],
) -> list[Rehearsal]:
    """Ask what :func:`copy_all` asks before it creates anything; return what it would do.

    :raises PodcpError: one of the copies would fail.
    """
    words = _words(destination)
    if _are_several(words, options):
        from kubectl_podcp import fanout

        return fanout.rehearse_to_all(sources, words, options, on_notice)
    asked = [CopyRequest.of(each, words[0], options) for each in sources]
    check(asked)
    if asked[0].is_stream:
        raise UsageError(
            "--dry-run says what is run at two places, and - is neither",
            advice="leave it out",
        )
    known = Clusters()
    found = [each for request in asked for each in expanded(request, known, on_notice)]
    check(found)
    several = len(found) > 1
    return [rehearse(replace(each, into=several), on_notice, known) for each in found]


def _words(destination: Destination) -> list[str | bytes]:
    words = [destination] if isinstance(destination, str | bytes) else list(destination)
    if not words:
        raise UsageError("there is no destination", advice=f"a path is written {GRAMMAR}")
    return words


def _are_several(words: Sequence[str | bytes], options: Options) -> bool:
    """Whether a command line may mean several destinations."""
    return len(words) > 1 or options.all_pods or options.selector is not None


def _planned(found: Sequence[CopyRequest | Failure], known: Clusters) -> list[Plan | Failure]:
    """Make the plan of each copy.

    :raises NoDirectory: the destination cannot take several.
    """
    planned, target = list[Plan | Failure](), None
    for each in found:
        if isinstance(each, Failure):
            planned.append(each)
            continue
        request = replace(each, into=True, destination=target or each.destination)
        try:
            plan = plans.make(clusters(request, known), request)
        except (Interrupted, NoDirectory):
            raise
        except PodcpError as error:
            planned.append(_failure(request, error))
        else:
            planned.append(plan)
            target = plan.request.destination  # all go to one Pod, where a workload was named
    return planned


def _performed(plan: Plan, tally: Tally, notice: Callable[[str], None]) -> Result:
    tally.begin()
    try:
        return perform(plan, tally, notice, time.monotonic())
    except Interrupted:
        raise
    except PodcpError as error:
        return _failure(plan.request, error)


def _failure(request: CopyRequest, error: PodcpError) -> Failure:
    return Failure(str(request.source), str(request.destination), error)


def _once(notice: Callable[[str], None], planned: Sequence[Plan]) -> Callable[[str], None]:
    """Return what tells a notice, but those about a Pod only once."""
    left = {said for plan in planned for said in plan.notices}
    of_pods = frozenset(left)

    def tell(text: str) -> None:
        if text not in of_pods or text in left:
            left.discard(text)
            notice(text)

    return tell
