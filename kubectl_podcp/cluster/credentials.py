"""What goes into the Authorization header, and when it has to be asked for again.

In: a function that fetches a credential. Out: the header's value. Raises what the function
raises, :class:`~kubectl_podcp.errors.KubeconfigError`. Any thread may ask.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from kubectl_podcp.cluster.entries import Entry

_MARGIN = 15.0
"""Seconds before its expiry from which a credential counts as expired: one handshake's time.
Not more, for some plugins hand out tokens that live for a minute."""


@dataclass(frozen=True, slots=True)
class Credential:
    """One fetched credential.

    :param authorization: the header's value; ``None`` where TLS or nobody vouches for us.
    :param expires: seconds since the epoch, or ``None`` for never.
    """

    authorization: str | None = field(repr=False)
    expires: float | None = None

    def expired(self) -> bool:
        """Whether it is time to fetch another one."""
        return self.expires is not None and time.time() >= self.expires - _MARGIN


class Credentials:
    """A credential that is fetched at once, and again each time it has expired."""

    def __init__(self, fetch: Callable[[], Credential]) -> None:
        self._fetch = fetch
        self._lock = threading.Lock()  # one plugin at a time; guards _current
        self._current = fetch()

    def authorization(self) -> str | None:
        """Return the Authorization header's value that is valid now."""
        with self._lock:
            if self._current.expired():
                self._current = self._fetch()
            return self._current.authorization

    def renew(self) -> None:
        """Fetch the credential again: a server did not accept it any more."""
        with self._lock:
            self._current = self._fetch()


class TokenFile:
    """A token that somebody else renews in a file: read for every request.

    As in client-go (``transport/token_source.go``) the file wins over an inline token, and once
    it was read, a file that cannot be read any more leaves the last token in use.

    :raises KubeconfigError: when called, where neither the file nor an inline token is there.
    """

    def __init__(self, user: Entry, path: Path) -> None:
        self._user = user
        self._path = path
        self._last = user.text("token")

    def __call__(self) -> Credential:
        try:
            token = self._path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as cause:
            token = ""
            reason = getattr(cause, "strerror", None) or "it is not text"
        else:
            reason = "it is empty"
        self._last = token or self._last
        if not self._last:
            raise self._user.error(f"cannot read a token from {self._path}: {reason}")
        return Credential(bearer(self._last), expires=0.0)


def bearer(token: str) -> str:
    """Return the header's value for a bearer token."""
    return f"Bearer {token}"


def basic(username: str, password: str) -> str:
    """Return the header's value for a name and a password (RFC 7617, UTF-8)."""
    pair = base64.b64encode(f"{username}:{password}".encode())
    return f"Basic {pair.decode('ascii')}"


def parse_time(text: str) -> float:
    """Return an RFC 3339 time as seconds since the epoch.

    :raises ValueError: it is not one.
    """
    # Python 3.10 reads neither "Z" nor nanoseconds.
    plain = re.sub(r"\.\d+", "", text.strip())
    moment = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", plain))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return moment.timestamp()
