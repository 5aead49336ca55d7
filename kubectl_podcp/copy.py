"""One request carried out: the plan, the tries, and the report.

The order of things: read the kubeconfig, make the plan, try until one try is acknowledged. Nothing
is left on the destination before all that can be known beforehand was found to be right. Raises
:class:`PodcpError`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from kubectl_podcp import plan as plans
from kubectl_podcp.plan import Plan
from kubectl_podcp.report import Report, Tally
from kubectl_podcp.request import DEFAULTS, Access, CopyRequest, Options

if TYPE_CHECKING:  # imported where they are used: they are what start-up takes its time for
    from kubectl_podcp.cluster.kubeconfig import Cluster
    from kubectl_podcp.rehearsal import Rehearsal


def copy(
    source: str,
    destination: str,
    options: Options = DEFAULTS,
    *,
    tally: Tally | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> Report:
    """Copy a file or a tree to, from or between Pods, and return only when that is proved.

    :param source: ``[[namespace/]pod:]path``; without a Pod it is on this machine. ``-`` is this
        process's stdin; as the destination, its stdout.
    :param destination: likewise; an existing directory receives the source under
        its own name, as with GNU ``cp -r``.
    :param tally: is kept up to date while the copy runs; any thread may read it.
    :param on_notice: is told what a user should know, a sentence each, as it turns up.
    :returns: the report of a copy that was proved complete (or complete as far as the source
        could be read: look at ``status``).
    :raises PodcpError: everything else; the destination then has nothing of the copy, unless the
        error's ``left`` says otherwise.
    """
    request = CopyRequest.of(source, destination, options)
    return carry_out(request, tally or Tally(), on_notice or (lambda _: None))


def carry_out(
    request: CopyRequest,
    tally: Tally,
    on_notice: Callable[[str], None],
    known: dict[Access, Cluster] | None = None,
) -> Report:
    """Do what ``request`` says; see :func:`copy`, and :func:`clusters` for ``known``."""
    began = time.monotonic()
    there = clusters(request, known)
    return perform(_planned(there, request), tally, on_notice, began)


def _planned(there: tuple[Cluster, Cluster], request: CopyRequest) -> Plan:
    if request.is_stream:
        from kubectl_podcp import streaming

        return streaming.make(there, request)
    _, plan = plans.both(_load, lambda: plans.make(there, request))
    return plan


def _load() -> None:
    """Import what :func:`perform` needs: the ends take longer to answer."""
    import kubectl_podcp.tries  # noqa: F401


def perform(plan: Plan, tally: Tally, on_notice: Callable[[str], None], began: float) -> Report:
    """Do what ``plan`` says.

    :param began: when the copy did, as :func:`time.monotonic` has it.
    """
    from kubectl_podcp.tries import Tries

    for notice in plan.notices:
        on_notice(notice)
    tally.total = plan.found.facts.size
    tries = Tries(plan, tally, on_notice)
    delivered = tries.run()
    for notice in tally.all_notices():
        on_notice(notice)
    return tries.report(delivered, began)


def rehearse(
    request: CopyRequest,
    on_notice: Callable[[str], None],
    known: dict[Access, Cluster] | None = None,
) -> Rehearsal:
    """Ask what a copy asks before it creates anything, and return what it would do.

    :raises PodcpError: the copy would fail.
    """
    return rehearse_plan(plans.make(clusters(request, known), request), on_notice)


def rehearse_plan(plan: Plan, on_notice: Callable[[str], None]) -> Rehearsal:
    """Return what a copy that has a plan would do."""
    from kubectl_podcp import rehearsal
    from kubectl_podcp.tries import Tries

    for notice in plan.notices:
        on_notice(notice)
    return rehearsal.of(plan, Tries(plan, Tally(), on_notice).first())


def clusters(
    request: CopyRequest, known: dict[Access, Cluster] | None = None
) -> tuple[Cluster, Cluster]:
    """Return the clusters of both ends; one object where they are one.

    :param known: those of other copies of this run, which have the same overrides; added to.
    """
    from kubectl_podcp.cluster import kubeconfig

    known = {} if known is None else known
    for access in request.access:
        if access not in known:
            known[access] = kubeconfig.load(*access, request.overrides)
    here, there = request.access
    return known[here], known[there]
