"""What a copy would do, told and not done: ``--dry-run``.

In: a plan, and the first attempt at it, which is not run. Out: plain values, or the text of them.
No I/O, raises nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubectl_podcp import paths
from kubectl_podcp.attempt import DESTINATION_PROTOCOLS, SOURCE_PROTOCOLS, Attempt
from kubectl_podcp.ends import End, PodEnd
from kubectl_podcp.errors import printable
from kubectl_podcp.exec.channels import Protocol
from kubectl_podcp.paths import Kind
from kubectl_podcp.plan import Plan

NONCE = "0" * 32
"""Stands in the scripts for the random number that each run has of its own."""


@dataclass(frozen=True, slots=True)
class Side:
    """One end.

    :ivar path: physical path.
    :ivar stands: what stands there.
    :ivar where: the container, or this machine.
    :ivar tar: whose ``tar`` it has.
    :ivar protocols: versions of the exec protocol, in the order in which they are asked for.
    :ivar script: what ``sh`` is given there.
    """

    path: bytes
    stands: str
    where: str
    tar: str
    protocols: tuple[str, ...]
    script: str

    def text(self, role: str) -> str:
        """Return some lines for a person."""
        spoken = f", {' or '.join(self.protocols)}" if self.protocols else ""
        head = f"{role}: {printable(self.path)} ({self.stands}) on {self.where}, {self.tar}{spoken}"
        lines = (f"    {printable(line)}" for line in self.script.splitlines())
        return "\n".join((head, "  sh is given:", *lines))

    def fields(self) -> dict[str, object]:
        """Return the same for the document."""
        return {
            "path": printable(self.path),
            "stands": self.stands,
            "where": self.where,
            "tar": self.tar,
            "protocols": list(self.protocols),
            "script": printable_lines(self.script),
        }


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A copy that was not done.

    :ivar asked: source and destination, with the names of the Pods that were taken.
    :ivar merges: whether a directory is merged into one that is there.
    :ivar remarks: what is decided only when the copy is done.
    """

    asked: tuple[str, str]
    source: Side
    destination: Side
    merges: bool
    remarks: tuple[str, ...]

    def text(self) -> str:
        """Return it for a person."""
        said = (self.source.text("source"), self.destination.text("destination"))
        return "\n".join((f"would copy {self.asked[0]} to {self.asked[1]}", *said, *self.remarks))

    def fields(self) -> dict[str, object]:
        """Return it for the document."""
        return {
            "source": printable(self.asked[0]),
            "destination": printable(self.asked[1]),
            "status": "planned",
            "target": printable(self.destination.path),
            "plan": {
                "source": self.source.fields(),
                "destination": self.destination.fields(),
                "merges": self.merges,
                "remarks": list(self.remarks),
            },
            "error": None,
        }


def of(plan: Plan, attempt: Attempt) -> Rehearsal:
    """Return what ``attempt`` would do, where nothing is left out and nothing is there already."""
    found, request = plan.found, plan.request
    source = Side(
        paths.join(found.facts.directory, found.facts.top),
        _called(found.facts.kind),
        _where(plan.source),
        found.tar.value,
        _protocols(plan.source, SOURCE_PROTOCOLS),
        attempt.source_script(NONCE),
    )
    destination = Side(
        plan.placement.path,
        _stands(plan),
        _where(plan.target),
        plan.there.tar.value,
        _protocols(plan.target, DESTINATION_PROTOCOLS),
        attempt.destination_script(NONCE),
    )
    asked = (str(request.source), str(request.destination))
    return Rehearsal(asked, source, destination, plan.placement.merge, tuple(_remarks(plan)))


def printable_lines(script: str) -> str:
    """Return text of several lines, each of them printable."""
    return "\n".join(map(printable, script.split("\n")))


def _stands(plan: Plan) -> str:
    if plan.placement.merge:
        return "a directory, merged into"
    if plan.existing is Kind.MISSING:
        return "new"
    return f"a {_called(plan.existing)}, {'kept' if plan.request.no_clobber else 'replaced'}"


def _called(kind: Kind) -> str:
    return "special file" if kind is Kind.OTHER else kind.value


def _where(end: End) -> str:
    if isinstance(end, PodEnd):
        pod = end.pod
        return printable(f"Pod {pod.namespace}/{pod.name}, container {pod.container}")
    return "this machine"


def _protocols(end: End, protocols: tuple[Protocol, ...]) -> tuple[str, ...]:
    return tuple(each.value for each in protocols) if isinstance(end, PodEnd) else ()


def _remarks(plan: Plan) -> list[str]:
    request = plan.request
    said = [f"In each run a random number stands where {NONCE} does."]
    if request.compares:
        said.append("Both ends are listed first, and what is up to date is left out.")
    if request.no_clobber:
        said.append("Files that are there already are kept.")
    if request.interactive is not None:
        said.append("It is asked about each file that is there already, and none is replaced else.")
    if request.backup:
        said.append("Files that are replaced are kept under another name.")
    if request.partial:
        said.append("What an earlier run with --partial has left is not sent again.")
    if request.verify:
        said.append("All is read again, and its sha256 compared, before it is put in its place.")
    return said
