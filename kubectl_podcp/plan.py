"""What a copy will do: all questions asked and answered before anything is created.

In: a :class:`~kubectl_podcp.request.CopyRequest`. Out: a :class:`Plan`: both Pods, what stands at
both paths, and where the copy comes to stand. Raises
:class:`~kubectl_podcp.errors.PodcpError`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from kubectl_podcp import paths
from kubectl_podcp.errors import DestinationRefused, ExecFailed, Interrupted, PodcpError, printable
from kubectl_podcp.exec.channels import Protocol
from kubectl_podcp.paths import Placement, PodPath
from kubectl_podcp.remote import probe, scripts
from kubectl_podcp.request import CopyRequest

if TYPE_CHECKING:  # imported where they are used: they are what start-up takes its time for
    from kubectl_podcp.cluster.kubeconfig import Cluster
    from kubectl_podcp.cluster.pods import Pod
    from kubectl_podcp.exec.handshake import ExecTarget
    from kubectl_podcp.exec.session import ExecSession

PROBE_TIMEOUT = 20.0
"""Seconds for a probe: a few system calls, on a node that may be busy."""

T = TypeVar("T")
U = TypeVar("U")


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
            _shell(script),
            protocols=protocols,
        )

    def run(self, script: str, timeout: float, most: int | None = None) -> bytes:
        """Run ``script`` to its end and return its stdout.

        :param most: longest stdout, in bytes; None: :data:`session.MAX_OUTPUT`.

        :raises ServerError: it could not be started, or did not end with 0.
        """
        from kubectl_podcp.exec.refusals import start_failure
        from kubectl_podcp.exec.session import MAX_OUTPUT, run

        target = self._target()
        done = run(
            self.cluster.endpoint,
            self.cluster.headers(),
            target,
            _shell(script),
            timeout=timeout,
            most=MAX_OUTPUT if most is None else most,
        )
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


def _shell(script: str) -> list[str]:
    return ["sh", "-c", script]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a copy will do, all questions answered."""

    request: CopyRequest
    source: End
    target: End
    found: probe.Source
    there: probe.Target
    placement: Placement

    @property
    def stall_timeout(self) -> float | None:
        """Seconds for which nothing may move; None is for ever."""
        return self.request.stall_timeout or None

    @property
    def key(self) -> str:
        """16 hexadecimal digits that stand for this target and for no other.

        Staging folders begin with them, so that a later copy to the same target knows what
        earlier ones have left.
        """
        pod, placement = self.target.pod, self.placement
        where = "\0".join((pod.namespace, pod.name, pod.container)).encode()
        what = b"\0".join((placement.directory, placement.name, self.found.facts.top))
        return hashlib.sha256(where + b"\0" + what).hexdigest()[:16]


def make(cluster: Cluster, request: CopyRequest) -> Plan:
    """Ask both ends, and apply the directory rule."""
    from kubectl_podcp.cluster import pods

    def end(path: PodPath) -> End:
        namespace = path.namespace or request.namespace
        return End(cluster, pods.resolve(cluster, namespace, path.pod, request.container))

    source, target = both(lambda: end(request.source), lambda: end(request.destination))
    ask_source = scripts.probe_source(request.source.path)
    ask_target = scripts.probe_target(request.destination.path, request.source.name)
    said, answered = both(
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
    return Plan(request, source, target, found, there, placement)


def both(first: Callable[[], T], second: Callable[[], U]) -> tuple[T, U]:
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
