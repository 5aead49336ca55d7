"""Where a cluster is and who we are there: from a kubeconfig's entries to a :class:`Cluster`.

In: a cluster's and a user's entry. Out: a :class:`Cluster`, its credential fetched. Raises
:class:`~kubectl_podcp.errors.KubeconfigError`. :func:`assemble` belongs to one thread; a
cluster's :meth:`~Cluster.headers` may be asked for by any.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from kubectl_podcp._version import __version__
from kubectl_podcp.cluster import certificates, impersonation, plugin
from kubectl_podcp.cluster.credentials import Credential, Credentials, TokenFile, basic, bearer
from kubectl_podcp.cluster.entries import CORRECT_IT, Entry
from kubectl_podcp.cluster.proxies import proxy_for
from kubectl_podcp.errors import KubeconfigError
from kubectl_podcp.exec.tls import Endpoint
from kubectl_podcp.logs import CHOICES

log = logging.getLogger(__name__)

REQUEST_TIMEOUT = 8.0
"""Seconds for one request, unless the user says otherwise."""

_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Cluster:
    """An API server, the way to it, and who we are there.

    :param namespace: the namespace of what is not given one.
    :param context: the context's name; empty for the cluster that we run in.
    :param timeout: seconds for one request, or for opening one session.
    """

    endpoint: Endpoint
    namespace: str
    context: str
    _credentials: Credentials = field(repr=False)
    _impersonation: Mapping[str, str] = field(repr=False)
    timeout: float = REQUEST_TIMEOUT

    def renew_credentials(self) -> None:
        """Fetch the credentials again, by the plugin where there is one."""
        self._credentials.renew()

    def headers(self) -> dict[str, str]:
        """Return the headers of one request; a credential that has expired is renewed first.

        Ask for them before connecting: a plugin may renew the client certificate too.

        :raises KubeconfigError: the credential cannot be renewed, or no header can carry it.
        """
        headers = {"User-Agent": f"kubectl-podcp/{__version__}", **self._impersonation}
        authorization = self._credentials.authorization()
        if authorization is not None:
            headers["Authorization"] = authorization
        for name, value in headers.items():
            # Checked here, for an HTTP library would quote the token when it refuses it.
            if not (value.isascii() and value.isprintable()):
                raise KubeconfigError(
                    f'the {name} header of context "{self.context}" can hold ASCII text alone',
                    advice=CORRECT_IT,
                )
        return headers


def assemble(
    cluster: Entry,
    user: Entry,
    *,
    namespace: str,
    context: str,
    auth_provider: Callable[[Entry], Credential],
    timeout: float | None = None,
) -> Cluster:
    """Return the cluster that the entries describe.

    :param auth_provider: fetches the credential of a user with a legacy ``auth-provider``.
    :param timeout: seconds for one request; None is :data:`REQUEST_TIMEOUT`.
    """
    endpoint = _endpoint(cluster)
    log.log(
        CHOICES,
        "context %s of %s: server %s%s, user %s, namespace %s",
        *(context or "in-cluster", cluster.origin, endpoint.authority, endpoint.base_path),
        *(user.name or "none", namespace),
    )
    if endpoint.proxy is not None:
        log.log(CHOICES, "through %s", endpoint.proxy)
    acting_as = impersonation.headers(user)
    # As kubectl: no credential is sent, or even fetched, where anybody could read it.
    fetch: Callable[[], Credential] = _anonymous
    if endpoint.context is not None:
        _present_own_certificate(endpoint.context, user)
        fetch = _way_to_fetch(user, cluster, endpoint.context, auth_provider)
    credentials = Credentials(fetch)
    seconds = REQUEST_TIMEOUT if timeout is None else timeout
    return Cluster(endpoint, namespace, context, credentials, acting_as, seconds)


def _endpoint(cluster: Entry) -> Endpoint:
    server = cluster.text("server")
    if not server:
        raise cluster.error(
            "the cluster has no server",
            advice="Set it with `kubectl config set-cluster NAME --server=https://HOST:PORT`.",
        )
    if "://" not in server:  # client-go rest.DefaultServerURL
        tls = ("certificate-authority", "certificate-authority-data", "insecure-skip-tls-verify")
        server = f"{'https' if any(map(cluster.has, tls)) else 'http'}://{server}"
    try:
        parts = urlsplit(server)
        default = _DEFAULT_PORTS[parts.scheme]
        host, port = parts.hostname, parts.port or default
    except (ValueError, KeyError):
        host, port = None, 0
    if not host:
        # A password may stand in front of the host.
        shown = server.rpartition("@")[2]
        raise cluster.error(f"the cluster's server is not an http or https URL: {shown}")
    return Endpoint(
        host=host,
        port=port,
        base_path=parts.path.rstrip("/"),
        context=certificates.context_for(cluster) if parts.scheme == "https" else None,
        server_name=cluster.text("tls-server-name") or host,
        proxy=proxy_for(cluster, parts.scheme, host, port, os.environ),
    )


def _present_own_certificate(context: ssl.SSLContext, user: Entry) -> None:
    certificate, key = user.material("client-certificate"), user.material("client-key")
    if certificate is None and key is None:
        return
    if certificate is None or key is None:
        raise user.error(
            "of client-certificate and client-key, which need each other, one is there"
        )
    certificates.present(context, certificate, key, user)


def _way_to_fetch(
    user: Entry,
    cluster: Entry,
    context: ssl.SSLContext,
    auth_provider: Callable[[Entry], Credential],
) -> Callable[[], Credential]:
    """Return what fetches the credential, by kubectl's precedence: static before plugins."""
    token, token_file = user.text("token"), user.path("tokenFile")
    if user.has("username") or user.has("password"):
        if token or token_file:
            raise user.error("the user has a token and a password; only one is allowed")
        return lambda: Credential(basic(user.text("username"), user.text("password")))
    if token_file:
        return TokenFile(user, token_file)
    if token:
        return lambda: Credential(bearer(token))
    if user.has("exec"):
        return lambda: _from_plugin(user, cluster, context)
    if user.has("auth-provider"):
        return lambda: auth_provider(user)
    return _anonymous


def _anonymous() -> Credential:
    return Credential(None)


def _from_plugin(user: Entry, cluster: Entry, context: ssl.SSLContext) -> Credential:
    answer = plugin.run(user, cluster)
    if answer.certificate:
        certificates.present(context, answer.certificate, answer.key, user)
    return Credential(bearer(answer.token) if answer.token else None, answer.expires)
