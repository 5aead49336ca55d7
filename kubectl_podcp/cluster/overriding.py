"""kubectl's flags, put over the entries of a kubeconfig.

In: an entry and the flags. Out: an entry. Pure.

Source: client-go ``tools/clientcmd/client_config.go`` (``getContext``, ``getCluster``,
``getAuthInfo``). A flag replaces its field, and also what would win over that field: kubectl does
so for the authority, but lets a ``tokenFile`` win over ``--token``, and fails where the kubeconfig
holds a client certificate inline.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kubectl_podcp.cluster.entries import Entry
from kubectl_podcp.overrides import Overrides

_AUTHORITY = (
    "certificate-authority",
    "certificate-authority-data",
    "insecure-skip-tls-verify",
)


def context(entry: Entry, overrides: Overrides) -> Entry:
    """Return the context with ``--cluster`` and ``--user``."""
    return _replaced(entry, cluster=overrides.cluster, user=overrides.user)


def cluster(entry: Entry, overrides: Overrides) -> Entry:
    """Return the cluster with ``--server`` and what else is about the server."""
    without: tuple[str, ...] = ()
    if overrides.certificate_authority or overrides.insecure_skip_tls_verify:
        without += _AUTHORITY
    if overrides.server:  # the name was that of another server
        without += ("tls-server-name",)
    return _replaced(
        entry,
        *without,
        server=overrides.server,
        tls_server_name=overrides.tls_server_name,
        certificate_authority=_file(overrides.certificate_authority),
        insecure_skip_tls_verify=overrides.insecure_skip_tls_verify,
    )


def user(entry: Entry, overrides: Overrides) -> Entry:
    """Return the user with ``--token``, ``--as`` and what else is about the user."""
    without: tuple[str, ...] = ()
    if overrides.token:
        without += ("tokenFile",)
    if overrides.client_certificate:
        without += ("client-certificate-data",)
    if overrides.client_key:
        without += ("client-key-data",)
    return _replaced(
        entry,
        *without,
        token=overrides.token,
        client_certificate=_file(overrides.client_certificate),
        client_key=_file(overrides.client_key),
        **{"as": overrides.as_user},
        as_uid=overrides.as_uid,
        as_groups=[*overrides.as_groups],
    )


def _replaced(entry: Entry, *without: str, **values: Any) -> Entry:
    kept = {key: value for key, value in entry.values.items() if key not in without}
    said = {key.replace("_", "-"): value for key, value in values.items() if value}
    return Entry(entry.kind, entry.name, entry.origin, {**kept, **said})


def _file(name: str | None) -> str | None:
    """Return a path that does not depend on where the kubeconfig is."""
    return str(Path(name).absolute()) if name else None
