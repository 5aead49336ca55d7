"""What is logged, and from which ``-v N`` on, in the levels that users of kubectl know.

Each module has a logger of its own below ``kubectl_podcp`` (Python's ``logging``), and nobody
hears them unless the command line's ``-v``, or a caller of the library, listens. A line that is
off costs a comparison; the lines of :data:`FRAMES`, which come with each message, not even that:
a session looks once whether anybody listens. Any thread may log.

No secret comes into a line: values of headers are shown by name, never by guess
(:data:`_SHOWN`), a credential plugin is named without its arguments, environment and answer, and
bodies are not logged at all. Text from a container or a server goes through
:func:`~kubectl_podcp.errors.printable`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus

from kubectl_podcp.errors import printable

CHOICES = logging.INFO
"""``-v 1``: Pod, container, paths, placement, the protocol of each session, retries."""
SCRIPTS = logging.INFO - 3
"""``-v 4``: each script that a container runs, as it is sent."""
REQUESTS = logging.INFO - 5
"""``-v 6``: each HTTP request, how it was answered, and in which time."""
HEADERS = logging.INFO - 6
"""``-v 7``: the headers of each request."""
FRAMES = logging.INFO - 7
"""``-v 8``: each WebSocket message: ``<`` received, ``>`` sent, ``=`` a state, ``!`` an error."""

_SHOWN = ("accept", "connection", "host", "impersonate-", "sec-websocket-protocol", "user-agent")
"""How the names of headers begin whose values are no secrets; all others may be some."""


def threshold(verbosity: int) -> int:
    """Return the level of ``logging`` for ``-v verbosity``."""
    return max(logging.DEBUG, logging.INFO + 1 - verbosity)


class Request:
    """A request as it is logged: its headers, then how it was answered, and when.

    :param what: method and address, without a query.
    """

    def __init__(self, log: logging.Logger, what: str, headers: Mapping[str, str]) -> None:
        self._log = log
        self._what = what
        self._began = time.monotonic()
        if log.isEnabledFor(HEADERS):
            lines = (f"{name}: {_value(name, value)}" for name, value in headers.items())
            log.log(HEADERS, "%s\n%s", what, "\n".join(lines), stacklevel=2)

    def answered(self, status: int | None) -> None:
        """Log the status of the answer; None where there was none that could be read."""
        phrase = ""
        with suppress(ValueError):  # a number that HTTP does not know
            phrase = HTTPStatus(status or 0).phrase
        self._ended("no answer" if status is None else f"{status} {phrase}".rstrip())

    def failed(self, error: Exception) -> None:
        """Log why there was no answer."""
        self._ended(str(error).partition("\n")[0])

    def _ended(self, how: str) -> None:
        took = (time.monotonic() - self._began) * 1000
        said = "%s: %s (%.0f ms)"
        self._log.log(REQUESTS, said, self._what, printable(how), took, stacklevel=3)


def _value(name: str, value: str) -> str:
    if name.lower().startswith(_SHOWN):
        return printable(value)
    scheme, space, _ = value.partition(" ")
    return f"{scheme} <masked>" if space and scheme in ("Basic", "Bearer") else "<masked>"
