"""What the command line says over the kubeconfig, in kubectl's words.

Plain values: the flags as they were typed. :mod:`kubectl_podcp.cluster.overriding` puts them over a
kubeconfig's entries. No I/O. Raises :class:`~kubectl_podcp.errors.UsageError`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields

from kubectl_podcp.errors import UsageError

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_TERM = r"(\d+(?:\.\d*)?|\.\d+)(h|ms|us|µs|ns|m|s)"

_OF_ANY_CLUSTER = ("as_user", "as_groups", "as_uid", "request_timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """kubectl's global flags, by their names; None, or empty, is what the kubeconfig says.

    :ivar as_user: ``--as``.
    :ivar as_groups: ``--as-group``, each of them.
    :ivar request_timeout: seconds for one request to an API server; None is our own limit.
    """

    cluster: str | None = None
    user: str | None = None
    server: str | None = None
    token: str | None = field(default=None, repr=False)
    certificate_authority: str | None = None
    client_certificate: str | None = None
    client_key: str | None = None
    insecure_skip_tls_verify: bool = False
    tls_server_name: str | None = None
    as_user: str | None = None
    as_groups: tuple[str, ...] = ()
    as_uid: str | None = None
    request_timeout: float | None = None

    def check_for_two_clusters(self) -> None:
        """Refuse what would be sent to two clusters, and is meant for one: a token above all.

        :raises UsageError: names the flag.
        """
        for each in fields(self):
            if each.name not in _OF_ANY_CLUSTER and getattr(self, each.name):
                raise UsageError(
                    f"--{each.name.replace('_', '-')} does not say for which of the two clusters",
                    advice="set it in the kubeconfig of the one that it is for",
                )


NOTHING = Overrides()
"""The kubeconfig as it is."""


LONGEST = 1e9
"""Seconds, some thirty years: for more neither a thread nor an alarm can be told to wait."""


def seconds(text: str, flag: str = "--request-timeout") -> float | None:
    """Return the seconds that a flag means: ``5``, ``1m30s``; None for ``0``, 10^9 for more.

    Source: client-go ``tools/clientcmd/config.go`` (``ParseTimeout``), Go's ``time.ParseDuration``.

    :raises UsageError: it is no duration.
    """
    if re.fullmatch(r"\d+", text, re.ASCII):
        return min(float(text), LONGEST) or None
    if not re.fullmatch(f"(?:{_TERM})+", text, re.ASCII):
        raise UsageError(
            f"{flag} '{text}' is no duration",
            advice="write seconds, or a number with its unit: 1s, 2m, 3h",
        )
    told = sum(float(number) * _UNITS[unit] for number, unit in re.findall(_TERM, text))
    return min(told, LONGEST) or None
