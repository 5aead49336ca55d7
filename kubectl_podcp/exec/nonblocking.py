"""What a socket that never blocks says when it cannot go on, TLS or plain. No state; any thread."""

from __future__ import annotations

import select
import ssl

WOULD_BLOCK = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)
"""What a non-blocking socket, TLS or not, raises when it cannot go on now."""


def wanted(reason: Exception, otherwise: int) -> int:
    """Return the poll event that the operation waits for which raised one of WOULD_BLOCK.

    TLS may want either direction for either operation (key update, renegotiation); a plain
    socket wants its own, ``otherwise``.
    """
    if isinstance(reason, ssl.SSLWantReadError):
        return select.POLLIN
    if isinstance(reason, ssl.SSLWantWriteError):
        return select.POLLOUT
    return otherwise
