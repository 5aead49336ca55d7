"""One end of a copy: a container, or this machine; how to run a script there.

In: a script for ``sh``. Out: a session in which it runs, or what it said. The same scripts run at
both kinds of end, so that a copy is proved in the same way in every direction. Raises
:class:`~kubectl_podcp.errors.PodcpError`. Any thread.
"""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from typing import Protocol as Interface

from kubectl_podcp.errors import ConnectionLost, ExecFailed
from kubectl_podcp.exec.channels import Protocol
from kubectl_podcp.logs import CHOICES, SCRIPTS
from kubectl_podcp.remote import scripts

if TYPE_CHECKING:  # imported where they are used: they are what start-up takes its time for
    from kubectl_podcp.cluster.kubeconfig import Cluster
    from kubectl_podcp.cluster.pods import Pod
    from kubectl_podcp.exec.handshake import ExecTarget
    from kubectl_podcp.exec.inflating import Inflating
    from kubectl_podcp.exec.inlet import Inlet
    from kubectl_podcp.exec.outlet import Outlet
    from kubectl_podcp.exec.process import ProcessSession
    from kubectl_podcp.exec.session import ExecSession

    Session = ExecSession | Inflating | ProcessSession | Inlet | Outlet

log = logging.getLogger(__name__)

ASKED = 3
"""How often a question is asked whose answer is lost on its way, before that is an error."""


class End(Interface):
    """What a copy asks of either end."""

    __slots__ = ()

    @property
    def identity(self) -> bytes:
        """What stands for this file system, and for no other."""

    @property
    def notices(self) -> list[str]:
        """What the user should be told about the choice of this end."""

    def open(self, script: str, *protocols: Protocol) -> Session:
        """Return a session in which ``sh`` runs ``script``.

        :param protocols: versions of the exec protocol to ask for, the best one first.
        """

    def run(
        self, script: str, timeout: float, most: int | None = None, *, stdin: bytes = b""
    ) -> bytes:
        """Run ``script`` to its end and return its stdout.

        :param timeout: seconds.
        :param most: longest stdout, in bytes; None: :data:`process.MAX_OUTPUT`.
        :param stdin: at most :data:`session.MAX_INPUT` bytes, whose end it must know by itself.
        :raises ServerError: it could not be started, or did not end with 0.
        """

    def ask(
        self, script: str, timeout: float, most: int | None = None, *, stdin: bytes = b""
    ) -> bytes:
        """Do as :meth:`run` with a script that may run twice: again where its answer was lost.

        A server that lost an answer, or half of it, says Success all the same (kubectl#1726).

        :raises ConnectionLost: all of :data:`ASKED` answers were lost.
        """
        for _ in range(ASKED):
            nonce = os.urandom(16).hex()
            said = self.run(
                scripts.answer(script, nonce),
                timeout,
                None if most is None else most + scripts.ANSWERED,
                stdin=stdin,
            )
            end = re.search(rb"\npodcp-%b answered (\d{1,3})\Z" % nonce.encode(), said)
            if end is not None and end[1] == b"0":
                return said[: end.start()]
            if end is not None:
                raise _failed(str(self), int(end[1]), b"")
            log.log(CHOICES, "sh in %s: its answer was lost, or the end of it", self)
        raise ConnectionLost(
            f"sh in {self} ended, and what it said did not arrive",
            advice="Try again; see whether the Pod's node is healthy.",
        )

    def spoken(self, session: Session) -> str:
        """Return how one talks to this end, for the report: an exec protocol, or ``local``."""

    def renew_credentials(self) -> None:
        """Ask for credentials anew before the next session."""

    def is_same(self, other: End) -> bool:
        """Whether both have one file system."""

    def current(self) -> End:
        """Return this end as it is now: another one where its container was restarted."""


@dataclass(frozen=True, slots=True)
class PodEnd(End):
    """A container.

    :ivar taken_for: what the user named, where that was not the Pod itself.
    """

    cluster: Cluster
    pod: Pod
    taken_for: str | None = None

    def __str__(self) -> str:
        return self.pod.name

    @property
    def identity(self) -> bytes:
        return "\0".join((self.pod.namespace, self.pod.name, self.pod.container)).encode()

    @property
    def notices(self) -> list[str]:
        taken = f"{self.taken_for}: taking Pod {self.pod.name}" if self.taken_for else None
        return [notice for notice in (taken, self.pod.notice) if notice]

    def open(self, script: str, *protocols: Protocol) -> ExecSession:
        from kubectl_podcp.exec.session import ExecSession

        target = self._target()
        return ExecSession.open(
            self.cluster.endpoint,
            self.cluster.headers(),
            target,
            _shell(script, target),
            protocols=protocols,
            timeout=self.cluster.timeout,
        )

    def run(
        self, script: str, timeout: float, most: int | None = None, *, stdin: bytes = b""
    ) -> bytes:
        from kubectl_podcp.exec.refusals import start_failure
        from kubectl_podcp.exec.session import MAX_OUTPUT, run

        target = self._target()
        done = run(
            self.cluster.endpoint,
            self.cluster.headers(),
            target,
            _shell(script, target),
            stdin=stdin,
            timeout=timeout,
            most=MAX_OUTPUT if most is None else most,
        )
        if done.status.exit_code is None:
            raise start_failure(done.status, f"sh in {target}")
        if done.status.exit_code:
            raise _failed(str(target), done.status.exit_code, done.stderr)
        return done.stdout

    def spoken(self, session: Session) -> str:
        return session.protocol.value

    def renew_credentials(self) -> None:
        self.cluster.renew_credentials()

    def is_same(self, other: End) -> bool:
        # Two contexts may lead to one cluster, so only the container's id tells two of them apart.
        return (
            isinstance(other, PodEnd)
            and self.identity == other.identity
            and self.pod.container_id == other.pod.container_id
        )

    def current(self) -> PodEnd:
        from kubectl_podcp.cluster import pods

        pod = self.pod
        found = pods.resolve(self.cluster, pod.namespace, pod.name, pod.container)
        return replace(self, pod=replace(found, notice=pod.notice))

    def _target(self) -> ExecTarget:
        from kubectl_podcp.exec.handshake import ExecTarget

        return ExecTarget(self.pod.namespace, self.pod.name, self.pod.container)


@dataclass(frozen=True, slots=True)
class LocalEnd(End):
    """This machine: its own ``sh`` and ``tar``, and the working directory we were started in."""

    notices: ClassVar[list[str]] = []

    def __str__(self) -> str:
        return "this machine"

    @property
    def identity(self) -> bytes:
        """Which machine, and which processes of it are seen: others may share the directory."""
        try:
            seen = str(Path("/proc/self/ns/pid").readlink())
        except OSError:  # macOS has none
            seen = ""
        return f"{os.uname().nodename} {seen}".encode("utf-8", "surrogateescape")

    def open(self, script: str, *protocols: Protocol) -> ProcessSession:  # noqa: ARG002
        from kubectl_podcp.exec.process import ProcessSession

        return ProcessSession(_shell(script, self))

    def run(
        self, script: str, timeout: float, most: int | None = None, *, stdin: bytes = b""
    ) -> bytes:
        from kubectl_podcp.exec import process

        most = process.MAX_OUTPUT if most is None else most
        code, stdout, stderr = process.run(_shell(script, self), timeout, stdin=stdin, most=most)
        if code:
            raise _failed(str(self), code, stderr)
        return stdout

    def spoken(self, session: Session) -> str:  # noqa: ARG002
        return "local"

    def renew_credentials(self) -> None:
        pass

    def is_same(self, other: End) -> bool:
        return isinstance(other, LocalEnd)

    def current(self) -> LocalEnd:
        return self


def _failed(where: str, code: int, stderr: bytes) -> ExecFailed:
    return ExecFailed(f"sh in {where} ended with exit code {code}", stderr=stderr)


def _shell(script: str, where: object) -> list[str]:
    log.log(SCRIPTS, "sh in %s is given:\n%s", where, script)
    return ["sh", "-c", script]
