"""Whether, and how, what passes between an end and us is compressed: ``--compress``.

In: what was asked for, and what was found at an end. Out: a :class:`Packing`, one for each end;
what automatic choice needs to know is measured (:mod:`kubectl_podcp.gauge`). Raises
:class:`~kubectl_podcp.errors.SourceError` and :class:`~kubectl_podcp.errors.DestinationRefused`
where an end cannot do what was asked for by its name.
"""

from __future__ import annotations

from dataclasses import dataclass

from kubectl_podcp import compression, gauge
from kubectl_podcp.ends import End, PodEnd
from kubectl_podcp.errors import DestinationRefused, SourceError
from kubectl_podcp.paths import Path
from kubectl_podcp.remote import probe
from kubectl_podcp.report import human_size
from kubectl_podcp.request import AUTO, NONE, CopyRequest

_ADVICE = "leave out --compress, or let --compress=auto see what is there"


@dataclass(frozen=True, slots=True)
class Packing:
    """What is done on the way between an end and us.

    :ivar kind: of the compression; empty: none.
    :ivar remark: what was chosen, and why, where nobody else did.
    :ivar share: what is left of a byte of the source's that is compressed; None: not known.
    """

    kind: str = ""
    remark: str = ""
    share: float | None = None


PLAIN = Packing()
"""All goes as it is."""


def of_source(end: End, path: Path, request: CopyRequest, found: probe.Source) -> Packing:
    """Return how a source is to send.

    :raises SourceError: it cannot do what was asked for.
    """
    if request.compress == NONE:
        return PLAIN
    if request.compress == AUTO:
        return _measured_source(end, request, found)
    if not isinstance(end, PodEnd):
        return PLAIN
    compression.check_known(request.compress)
    if request.compress not in found.packers:
        raise SourceError(f"there is no {request.compress} {path.where}", advice=_ADVICE)
    return Packing(request.compress)


def of_target(
    end: End, path: Path, request: CopyRequest, there: probe.Target, source: Packing
) -> Packing:
    """Return how a destination is to be sent to.

    :param source: what is done on the way from the source.
    :raises DestinationRefused: it cannot do what was asked for.
    """
    if request.compress == NONE or not isinstance(end, PodEnd):
        return PLAIN
    if request.compress == AUTO:
        return _measured_target(end, there, source.share)
    compression.check_known(request.compress)
    if request.compress not in there.unpackers:
        raise DestinationRefused(
            f"there is nothing that undoes {request.compress} {path.where}", advice=_ADVICE
        )
    return Packing(request.compress)


def _measured_source(end: End, request: CopyRequest, found: probe.Source) -> Packing:
    measured = gauge.sample(end, found.facts, follow=request.dereference)
    if measured is None:
        said = f"{end} sends all as it is: it is too little to see whether it shrinks"
        return Packing("", said if isinstance(end, PodEnd) else "")
    share, rate = measured
    if rate is None:
        return Packing("", "", share)
    kind = compression.best(found.packers, rate, share)
    return Packing(kind, f"{end} sends {_what(kind)}: {_why(rate, share, found.packers)}", share)


def _measured_target(end: End, there: probe.Target, share: float | None) -> Packing:
    if share is None:
        return Packing("", f"{end} is sent all as it is: how far it shrinks is not known")
    rate = gauge.rate_to(end)
    if rate is None:
        return Packing("", f"{end} is sent all as it is: its way could not be measured")
    # Without that dd, v4 knows no end of a stream; which version it will be is not known yet.
    has = there.unpackers if there.fullblock else ()
    kind = compression.best(has, rate, share)
    return Packing(kind, f"{end} is sent {_what(kind)}: {_why(rate, share, has)}")


def _what(kind: str) -> str:
    return kind or "all as it is"


def _why(rate: float, share: float, has: object) -> str:
    lacks = "" if has else "; there is nothing to compress it with"
    return f"{human_size(rate)}/s go, and of a sample {share:.0%} are left{lacks}"
