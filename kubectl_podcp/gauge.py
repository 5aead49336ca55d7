"""How fast the way to a container is, and how far what is copied shrinks: what is measured.

In: an end, and what is to be read there. Out: a rate, a sample. Creates nothing, and moves
:data:`SAMPLE` bytes at the most. What cannot be measured is None; a signal is all that is raised.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from kubectl_podcp.ends import End, LocalEnd
from kubectl_podcp.errors import Interrupted, PodcpError, ServerError
from kubectl_podcp.exec.channels import Closed, Protocol, Status, Stdout
from kubectl_podcp.exec.deadline import Deadline
from kubectl_podcp.paths import SourceFacts
from kubectl_podcp.remote import scripts
from kubectl_podcp.remote.feed import MESSAGE

if TYPE_CHECKING:
    from kubectl_podcp.ends import Session

SAMPLE = 512 * 1024
"""Bytes that are read, or sent."""

LEAST = 64 * 1024
"""Bytes without which nothing is known: so little is copied at once, however it goes."""

WITHIN = 20.0
"""Seconds for one measurement; a way that takes longer is not measured."""

T = TypeVar("T")


def sample(end: End, source: SourceFacts, *, follow: bool) -> tuple[float, float | None] | None:
    """Read the beginning of a source; return what is left of a byte of it that is compressed, and
    the bytes per second that came from there (None: it is this machine).

    :param follow: whether symbolic links are copied as what they lead to.
    """
    script = scripts.sample(source, SAMPLE, follow=follow)
    if isinstance(end, LocalEnd):
        data, rate = _unless_it_fails(lambda: end.run(script, WITHIN)) or b"", None
    else:
        data, rate = _unless_it_fails(lambda: _received(end, script)) or (b"", None)
    if len(data) < LEAST or (rate is None and not isinstance(end, LocalEnd)):
        return None
    return len(zlib.compress(data, 1)) / len(data), rate


def rate_to(end: End) -> float | None:
    """Return the bytes per second that go to a container."""
    return _unless_it_fails(lambda: _sent(end))


def _unless_it_fails(measure: Callable[[], T]) -> T | None:
    try:
        return measure()
    except Interrupted:
        raise
    except (PodcpError, TimeoutError):
        return None


def _received(end: End, script: str) -> tuple[bytes, float | None]:
    """Return what a script says, and how fast the second half of it came: the first one waits for
    the script, and TCP starts slowly.

    :raises ServerError: it says more than it was asked for.
    """
    session, data = end.open(script, Protocol.V5, Protocol.V4), bytearray()
    try:
        deadline, halfway = Deadline(WITHIN), (0.0, 0)
        while not isinstance(event := session.receive(deadline.remaining()), Status | Closed):
            if isinstance(event, Stdout):
                data += event.data
                if len(data) > SAMPLE:
                    raise ServerError(f"{end} says more than it was asked for")
                if len(data) >= SAMPLE // 2 and not halfway[1]:
                    halfway = time.monotonic(), len(data)
    finally:
        session.close()
    since, before = halfway
    seconds = time.monotonic() - since
    return bytes(data), (len(data) - before) / seconds if before and seconds else None


def _sent(end: End) -> float:
    """Send noise, and return how fast it went; neither the time counts that the container's shell
    takes to start, nor that of an answer."""
    session = end.open(scripts.swallow(SAMPLE), Protocol.V5, Protocol.V4)
    session.stall_timeout = WITHIN
    try:
        deadline = Deadline(WITHIN)
        _answered(session, deadline, [b"\n"])
        answer = _answered(session, deadline, [b"\n"])
        noise = os.urandom(SAMPLE)
        messages = [noise[at : at + MESSAGE] for at in range(0, SAMPLE, MESSAGE)]
        seconds = _answered(session, deadline, messages)
    finally:
        session.close()
    return SAMPLE / (seconds - answer if seconds > answer else seconds)


def _answered(session: Session, deadline: Deadline, messages: list[bytes]) -> float:
    """Send ``messages``; return the seconds until something was said.

    :raises TimeoutError: nothing was, or the session has ended.
    """
    began = time.monotonic()
    session.send_stdin(*messages)
    while not isinstance(event := session.receive(deadline.remaining()), Stdout):
        if isinstance(event, Status | Closed):
            raise TimeoutError
    return time.monotonic() - began
