"""One try of a copy: two sessions, the relay between them, and what is left when it fails.

In: a plan, the staging folder, and what is there already. Out: what was acknowledged. Raises
:class:`~kubectl_podcp.errors.PodcpError`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kubectl_podcp.archive.follower import Follower
from kubectl_podcp.archive.headers import Member
from kubectl_podcp.archive.safety import Altered, LeftOut, Policy
from kubectl_podcp.archive.splice import Splice
from kubectl_podcp.errors import DestinationRefused, ProtocolRefused, printable
from kubectl_podcp.exec.channels import Protocol
from kubectl_podcp.plan import Plan
from kubectl_podcp.relay import PARTLY_PLACED, Filter, Outcome, Relay
from kubectl_podcp.remote import probe, scripts
from kubectl_podcp.remote.feed import MESSAGE, ChunkedFeed, Feed, PlainFeed
from kubectl_podcp.remote.scripts import Staging
from kubectl_podcp.report import Tally
from kubectl_podcp.resume import Resumption

if TYPE_CHECKING:
    from kubectl_podcp.exec.session import ExecSession


class Attempt:
    """One try. Use it once: :meth:`run`.

    :param resumption: what is in the staging folder already.
    """

    def __init__(
        self, plan: Plan, staging: Staging, tally: Tally, resumption: Resumption | None = None
    ) -> None:
        self._plan = plan
        self._staging = staging
        self._tally = tally
        self._resumption = resumption
        self._relay: Relay | None = None

    def run(self) -> tuple[Outcome, tuple[str, str]]:
        """Copy; return what was acknowledged, and the protocols of both sessions."""
        plan = self._plan
        nonce = os.urandom(16).hex()
        follower = self._follower(nonce)
        source = self._open_source(nonce)
        try:
            destination = self._open_destination(nonce)
            try:
                self._relay = Relay(
                    source,
                    destination,
                    nonce=nonce,
                    filter_stdout=self._filter(follower),
                    end_of_source=follower.end_of_input,
                    feed=self._feed(destination.protocol),
                    stall_timeout=plan.stall_timeout,
                )
                outcome = self._relay.run()
                return outcome, (source.protocol.value, destination.protocol.value)
            finally:
                destination.close()
        finally:
            source.close()
            self._tally.sent += self._relay.sent if self._relay else 0

    @property
    def may_be_placed(self) -> bool:
        """Whether the destination may have put the copy in place, or begun to."""
        return self._relay is not None and self._relay.marker_sent

    def left(self) -> str:
        """Return what is on the destination after a failure, as far as it can be known."""
        relay, placement = self._relay, self._plan.placement
        destination = self._plan.request.destination
        if relay is None or not relay.marker_sent:
            return f"{destination} was not changed"
        acknowledgement = relay.acknowledgement
        if acknowledgement is None:
            return (
                f"everything was sent, but whether {printable(placement.path)} is the new or the "
                "old one is not known"
            )
        if acknowledgement.proves_delivery:  # a signal came after it
            return f"the copy is complete: {printable(placement.path)} is the new one"
        if acknowledgement.placed == PARTLY_PLACED:
            return f"{printable(placement.path)} has some of the new files; each is whole"
        return f"{destination} was not changed"

    # --- the source --------------------------------------------------------------------------

    def _open_source(self, nonce: str) -> ExecSession:
        """Open the source's session, on v4 where the server has it.

        A held source never needs its stdin ended, which is all that v5 adds; and on v4 the API
        server passes the node's frames on instead of translating each, at a third of the CPU time.
        """
        plan, names = self._plan, self._names()
        gnu = plan.found.tar is probe.Tar.GNU
        script = scripts.send(plan.found.facts, nonce, self._some(names), gnu=gnu)
        try:
            session = plan.source.open(script, Protocol.V4)
        except ProtocolRefused:
            session = plan.source.open(script, Protocol.V5)
        if names:
            session.stall_timeout = plan.stall_timeout
            session.send_stdin(*(names[at : at + MESSAGE] for at in range(0, len(names), MESSAGE)))
        return session

    def _names(self) -> bytes | None:
        """Return the list of names for the source's tar; None where it archives all there is."""
        if self._resumption is None or self._resumption.names is None:
            return None
        # As in scripts.send: what begins with "@" or "-" would mean something else.
        prefix = b"./" if self._plan.found.facts.top.startswith((b"@", b"-")) else b""
        return b"".join(prefix + name + b"\n" for name in self._resumption.names)

    def _odd(self) -> tuple[bytes, ...]:
        return tuple(b"./" + name for name in self._resumption.odd) if self._resumption else ()

    def _some(self, names: bytes | None) -> scripts.Some | None:
        if self._resumption is None:
            return None
        part, rest = self._resumption.part, None
        if part is not None:
            rest = scripts.Rest(part.name, part.size, self._resumption.rest().size)
        return scripts.Some(rest, None if names is None else len(names), self._odd())

    def _follower(self, nonce: str) -> Follower:
        # toybox stops at a time before 1970, and takes the rest of the archive for a bad header.
        policy = Policy(early_times=self._plan.there.tar is not probe.Tar.TOYBOX)
        top = self._plan.found.facts.top
        if self._resumption is None:
            return Follower(nonce, top, policy)
        return Follower(nonce, top, policy, self._resumption.has)

    def _filter(self, follower: Follower) -> Filter:
        """Return the relay's filter: what the follower gives, counted."""
        feed = follower.feed
        resumption = self._resumption
        if resumption is not None and resumption.part is not None:
            feed = Splice(follower, resumption.rest(), alone=resumption.is_rest_alone).feed

        def counted(data: bytes) -> Iterator[object]:
            self._tally.received += len(data)
            self._tally.relayed += len(data)
            for item in feed(data):
                self._count(item)
                yield item

        return counted

    def _count(self, item: object) -> None:
        tally = self._tally
        if isinstance(item, Member):
            tally.add(item)
        elif isinstance(item, LeftOut):
            tally.note(item.member, f"left out, {item.why}")
        elif isinstance(item, Altered):
            tally.note(item.member, f"copied {item.why}")

    # --- the destination ---------------------------------------------------------------------

    def _open_destination(self, nonce: str) -> ExecSession:
        gnu = self._plan.there.tar is probe.Tar.GNU
        script = scripts.receive(self._staging, nonce, gnu=gnu)
        session = self._plan.target.open(script, Protocol.V5, Protocol.V4)
        session.stall_timeout = self._plan.stall_timeout
        return session

    def _feed(self, protocol: Protocol) -> Feed:
        """Return how the destination's stdin wants the archive.

        :raises DestinationRefused: there is no way to end it.
        """
        there = self._plan.there
        if protocol is Protocol.V5 or there.tar is probe.Tar.TOYBOX:  # toybox ends by itself
            return PlainFeed()
        if there.fullblock:
            return ChunkedFeed()
        raise DestinationRefused(
            "this API server cannot end a command's input (it speaks v4 of the exec protocol), "
            f"and the container of {self._plan.request.destination.pod} has no dd with "
            "iflag=fullblock to do without",
            advice="copy through an API server of Kubernetes 1.30 or later",
        )
