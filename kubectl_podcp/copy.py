"""One request carried out: who, what stands where, the relay, and what is left after a failure.

The order of things: read the kubeconfig, look at both Pods, look at both paths, apply the
directory rule, open both sessions, relay, report. Nothing is created on the destination before
all that can be known beforehand was found to be right. Raises :class:`PodcpError`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from kubectl_podcp import paths
from kubectl_podcp.archive.follower import Follower
from kubectl_podcp.archive.headers import Member
from kubectl_podcp.archive.safety import Altered, LeftOut, Policy
from kubectl_podcp.errors import (
    DestinationRefused,
    ExecFailed,
    Interrupted,
    PodcpError,
    ProtocolRefused,
    printable,
)
from kubectl_podcp.exec.channels import Protocol
from kubectl_podcp.paths import Placement, PodPath
from kubectl_podcp.relay import PARTLY_PLACED, Outcome, Relay
from kubectl_podcp.remote import probe, scripts
from kubectl_podcp.remote.feed import ChunkedFeed, Feed, PlainFeed
from kubectl_podcp.report import Report, Tally
from kubectl_podcp.request import STALL_TIMEOUT, CopyRequest, pod_paths

if TYPE_CHECKING:  # imported where they are used: they are what start-up takes its time for
    from kubectl_podcp.cluster.kubeconfig import Cluster
    from kubectl_podcp.cluster.pods import Pod
    from kubectl_podcp.exec.handshake import ExecTarget
    from kubectl_podcp.exec.session import ExecSession

PROBE_TIMEOUT = 20.0
"""Seconds for a probe: a few system calls, on a node that may be busy."""

SWEEP_TIMEOUT = 5.0
"""Seconds for removing what a failed copy left."""

T = TypeVar("T")
U = TypeVar("U")


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
    )
    return carry_out(request, tally or Tally(), on_notice or (lambda _: None))


def carry_out(request: CopyRequest, tally: Tally, on_notice: Callable[[str], None]) -> Report:
    """Do what ``request`` says; see :func:`copy`."""
    from kubectl_podcp.cluster import kubeconfig

    began = time.monotonic()
    cluster = kubeconfig.load(request.kubeconfig, request.context)
    plan = _plan(cluster, request)
    notices = [end.pod.notice for end in (plan.source, plan.target) if end.pod.notice]
    for notice in notices:
        on_notice(notice)
    tally.total = plan.found.facts.size
    outcome, protocols = _attempt(plan, tally)
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
        notices=(*notices, *tally.notices),
        stderr=outcome.source_stderr,
    )


@dataclass(frozen=True, slots=True)
class End:
    """One end of a copy: a container, and how to run something in it."""

    cluster: Cluster
    pod: Pod

    def open(self, script: str, *protocols: Protocol) -> ExecSession:
        """Return a session in which the container's ``sh`` runs ``script``."""
        from kubectl_podcp.exec.session import ExecSession

        return ExecSession.open(
            self.cluster.endpoint,
            self.cluster.headers(),
            self._target(),
            ["sh", "-c", script],
            protocols=protocols,
        )

    def run(self, script: str, timeout: float) -> bytes:
        """Run ``script`` to its end and return its stdout.

        :raises ServerError: it could not be started, or did not end with 0.
        """
        from kubectl_podcp.exec.refusals import start_failure
        from kubectl_podcp.exec.session import run

        target, command = self._target(), ["sh", "-c", script]
        headers = self.cluster.headers()
        done = run(self.cluster.endpoint, headers, target, command, timeout=timeout)
        if done.status.exit_code is None:
            raise start_failure(done.status, f"sh in {target}")
        if done.status.exit_code:
            raise ExecFailed(
                f"sh in {target} ended with exit code {done.status.exit_code}", stderr=done.stderr
            )
        return done.stdout

    def _target(self) -> ExecTarget:
        from kubectl_podcp.exec.handshake import ExecTarget

        return ExecTarget(self.pod.namespace, self.pod.name, self.pod.container)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a copy will do, all questions answered."""

    source: End
    target: End
    found: probe.Source
    there: probe.Target
    placement: Placement
    destination: PodPath
    stall_timeout: float


def _plan(cluster: Cluster, request: CopyRequest) -> Plan:
    from kubectl_podcp.cluster import pods

    def end(path: PodPath) -> End:
        namespace = path.namespace or request.namespace
        return End(cluster, pods.resolve(cluster, namespace, path.pod, request.container))

    source, target = _both(lambda: end(request.source), lambda: end(request.destination))
    ask_source = scripts.probe_source(request.source.path)
    ask_target = scripts.probe_target(request.destination.path, request.source.name)
    said, answered = _both(
        lambda: source.run(ask_source, PROBE_TIMEOUT),
        lambda: target.run(ask_target, PROBE_TIMEOUT),
    )
    found = probe.source(said, request.source)
    there = probe.target(answered, request.destination)
    placement = paths.place(
        request.source,
        found.facts,
        request.destination,
        there.facts,
        no_target_directory=request.no_target_directory,
    )
    if _same(source.pod, target.pod):
        _check_not_into_itself(found, placement)
    return Plan(source, target, found, there, placement, request.destination, request.stall_timeout)


def _attempt(plan: Plan, tally: Tally) -> tuple[Outcome, tuple[str, str]]:
    nonce = os.urandom(16).hex()
    # toybox stops at a time before 1970, and takes the rest of the archive for a bad header.
    policy = Policy(early_times=plan.there.tar is not probe.Tar.TOYBOX)
    follower = Follower(nonce, plan.found.facts.top, policy)
    source = _open_source(plan, scripts.send(plan.found.facts, nonce))
    relay = None
    try:
        destination = _open_destination(plan, nonce)
        try:
            relay = Relay(
                source,
                destination,
                nonce=nonce,
                filter_stdout=lambda data: _counted(follower, data, tally),
                end_of_source=follower.end_of_input,
                feed=_feed(plan, destination.protocol),
                stall_timeout=plan.stall_timeout or None,
            )
            return relay.run(), (source.protocol.value, destination.protocol.value)
        finally:
            destination.close()
    except BaseException as error:
        swept = _sweep(plan, nonce)
        if isinstance(error, PodcpError):
            error.left = "\n".join(filter(None, (_left(plan, relay), swept)))
        raise
    finally:
        source.close()


def _open_destination(plan: Plan, nonce: str) -> ExecSession:
    gnu = plan.there.tar is probe.Tar.GNU
    script = scripts.receive(plan.placement, plan.found.facts.top, nonce, gnu=gnu)
    session = plan.target.open(script, Protocol.V5, Protocol.V4)
    session.stall_timeout = plan.stall_timeout or None
    return session


def _open_source(plan: Plan, script: str) -> ExecSession:
    """Open the source's session, on v4 where the server has it.

    A held source never needs its stdin ended, which is all that v5 adds; and on v4 the API server
    passes the node's frames on instead of translating each, at a third of the CPU time.
    """
    try:
        return plan.source.open(script, Protocol.V4)
    except ProtocolRefused:
        return plan.source.open(script, Protocol.V5)


def _feed(plan: Plan, protocol: Protocol) -> Feed:
    """Return how the destination's stdin wants the archive.

    :raises DestinationRefused: there is no way to end it.
    """
    if protocol is Protocol.V5 or plan.there.tar is probe.Tar.TOYBOX:  # toybox ends by itself
        return PlainFeed()
    if plan.there.fullblock:
        return ChunkedFeed()
    raise DestinationRefused(
        "this API server cannot end a command's input (it speaks v4 of the exec protocol), and "
        f"the container of {plan.destination.pod} has no dd with iflag=fullblock to do without",
        advice="copy through an API server of Kubernetes 1.30 or later",
    )


def _counted(follower: Follower, data: bytes, tally: Tally) -> Iterator[object]:
    """The relay's filter: what the follower gives, counted."""
    tally.relayed += len(data)
    for item in follower.feed(data):
        if isinstance(item, Member):
            tally.add(item)
        elif isinstance(item, LeftOut):
            tally.note(item.member, f"left out, {item.why}")
        elif isinstance(item, Altered):
            tally.note(item.member, f"copied {item.why}")
        yield item


def _left(plan: Plan, relay: Relay | None) -> str:
    """Return what is on the destination after a failure, as far as it can be known."""
    if relay is None or not relay.marker_sent:
        return f"{plan.destination} was not changed"
    acknowledgement = relay.acknowledgement
    if acknowledgement is None:
        return (
            f"everything was sent, but whether {printable(plan.placement.path)} is the new or the "
            "old one is not known"
        )
    if acknowledgement.proves_delivery:  # a signal came after it
        return f"the copy is complete: {printable(plan.placement.path)} is the new one"
    if acknowledgement.placed == PARTLY_PLACED:
        return f"{printable(plan.placement.path)} has some of the new files; each is whole"
    return f"{plan.destination} was not changed"


def _sweep(plan: Plan, nonce: str) -> str:
    """Remove the staging folder of a failed copy; return what to do where that is not certain."""
    directory = plan.placement.directory
    with suppress(PodcpError, OSError):
        plan.target.run(scripts.sweep(directory, nonce), SWEEP_TIMEOUT)
        return ""
    stage = printable(paths.join(directory, scripts.staging_name(nonce)))
    return f"remove {stage} there, if it is still there: {plan.destination.pod} did not answer"


def _both(first: Callable[[], T], second: Callable[[], U]) -> tuple[T, U]:
    """Do both at once, each within its own deadline; the first one's error wins.

    A signal does not wait for the thread: that ends by its deadline, without effect.
    """
    result: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            result.append(first())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        other = second()
    except Interrupted:
        raise
    except PodcpError:
        thread.join()
        if errors:
            raise errors[0] from None
        raise
    thread.join()
    if errors:
        raise errors[0]
    return result[0], other


def _same(one: Pod, other: Pod) -> bool:
    return (one.namespace, one.name, one.container) == (
        other.namespace,
        other.name,
        other.container,
    )


def _check_not_into_itself(found: probe.Source, placement: Placement) -> None:
    source = paths.join(found.facts.directory, found.facts.top)
    if placement.path == source:
        raise DestinationRefused(f"{printable(source)} is already there: source and target are one")
    if (placement.directory + b"/").startswith(source + b"/"):
        raise DestinationRefused(
            f"cannot copy {printable(source)} into itself, {printable(placement.path)}"
        )
