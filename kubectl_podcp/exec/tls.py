"""The connection to the API server: where it is, and how it is made.

In: an :class:`Endpoint`. Out: a connected socket (:func:`dial`), verified (:func:`connect`). Raises
:class:`~kubectl_podcp.errors.Unreachable` and :class:`~kubectl_podcp.errors.CertificateError`.
Any thread may call them. One deadline holds for all its steps but one: the name
look-up (``getaddrinfo``) cannot be interrupted and ends when the system's resolver gives up.

TCP_USER_TIMEOUT is left alone: it ends a connection whose peer does not read for that long,
even while it answers every probe (tcp(7)), and a stalled destination is no fault. A peer that
is gone is found by keep-alive in a minute while we send nothing, and by TCP's retransmission
time-out (Linux: about 15 minutes) while we do.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from kubectl_podcp.errors import CertificateError, Unreachable
from kubectl_podcp.exec import tunnel
from kubectl_podcp.exec.deadline import Deadline

_KEEP_ALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPALIVE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Seconds of silence before the first probe (macOS calls it TCP_KEEPALIVE), seconds between
probes, unanswered probes until the peer is taken for dead: a minute in all."""

_OUR_CERTIFICATE = (
    "BAD_CERTIFICATE",
    "CERTIFICATE_REQUIRED",
    "CERTIFICATE_EXPIRED",
    "CERTIFICATE_REVOKED",
    "CERTIFICATE_UNKNOWN",
    "UNSUPPORTED_CERTIFICATE",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
)
"""Alerts (RFC 8446, section 6.2) by which a server refuses a client's certificate."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that is asked to CONNECT to the API server.

    :ivar tls: whether the proxy itself is spoken to in TLS (``https://``); the system's
        certificate authorities decide then.
    :ivar authorization: value of the ``Proxy-Authorization`` header.
    """

    host: str
    port: int
    tls: bool
    authorization: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"the proxy {_authority(self.host, self.port)}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the API server is, and how its TLS is checked.

    :ivar base_path: what stands before ``/api``, without a slash at its end: ``""`` or
        ``/k8s/clusters/c-1``.
    :ivar context: ``None`` for plain HTTP, as ``kubectl proxy`` speaks it.
    :ivar server_name: the name that the certificate must hold; usually the host.
    """

    host: str
    port: int
    base_path: str
    context: ssl.SSLContext | None
    server_name: str
    proxy: Proxy | None = None

    @property
    def authority(self) -> str:
        """``host:port``, an IPv6 address in brackets."""
        return _authority(self.host, self.port)

    def __str__(self) -> str:
        return self.authority


def connect(endpoint: Endpoint, timeout: float) -> socket.socket | ssl.SSLSocket:
    """Return a connected, verified, blocking socket without a time-out of its own.

    In TLS 1.3 the server judges our certificate after the handshake: see
    :func:`refused_certificate`.

    :param timeout: seconds for name look-up, TCP, proxy and TLS together.
    :raises Unreachable: like :func:`dial`; or no TLS.
    :raises CertificateError: the server's certificate is not accepted, or ours is not.
    """
    deadline = Deadline(timeout)
    sock = dial(endpoint, deadline)
    if endpoint.context is not None:
        where = endpoint.authority
        sock = _secured(sock, endpoint.context, endpoint.server_name, where, deadline)
    sock.settimeout(None)
    return sock


def dial(endpoint: Endpoint, deadline: Deadline) -> socket.socket:
    """Return a TCP connection to the API server, through its proxy, without TLS as yet.

    All addresses of the host are tried in the resolver's order, IPv6 and IPv4; each gets its
    share of the time that is left.

    :raises Unreachable: unknown host, refused, no route, timed out, refused by the proxy.
    :raises CertificateError: that of a proxy spoken to in TLS is not accepted.
    """
    proxy = endpoint.proxy
    sock = _dial(proxy or endpoint, deadline)
    return sock if proxy is None else _through(proxy, sock, endpoint, deadline)


def refused_certificate(error: OSError) -> CertificateError | None:
    """Return the error to raise if ``error`` is the peer's refusal of our certificate."""
    reason = (error.reason if isinstance(error, ssl.SSLError) else None) or ""
    if "ALERT" not in reason or not reason.endswith(_OUR_CERTIFICATE):
        return None
    return CertificateError(
        f"the API server refused our client certificate ({reason.lower().replace('_', ' ')})",
        advice="Check the user's client-certificate in the kubeconfig; it may have expired.",
    )


def _dial(to: Endpoint | Proxy, deadline: Deadline) -> socket.socket:
    """Return a TCP connection to the first address of ``to`` that takes one."""
    try:
        addresses = socket.getaddrinfo(to.host, to.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _unreachable(str(to), [error], is_proxy=isinstance(to, Proxy)) from error
    failures: list[Exception] = []
    for tried, (family, kind, number, _, address) in enumerate(addresses):
        try:
            left = deadline.remaining()
            share = None if left is None else left / (len(addresses) - tried)
            return _tcp(socket.socket(family, kind, number), address, share)
        except OSError as error:
            failures.append(error)
    raise _unreachable(str(to), failures, is_proxy=isinstance(to, Proxy)) from failures[-1]


def _tcp(sock: socket.socket, address: tuple[Any, ...], timeout: float | None) -> socket.socket:
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        sock.settimeout(timeout)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


def _through(
    proxy: Proxy, sock: socket.socket, endpoint: Endpoint, deadline: Deadline
) -> socket.socket:
    """Return a connection through ``proxy`` to ``endpoint``; ``sock`` is the one to the proxy."""
    where = str(proxy)
    secured: ssl.SSLSocket | None = None
    try:
        if proxy.tls:
            context = ssl.create_default_context()
            sock = secured = _secured(sock, context, proxy.host, where, deadline)
        tunnel.ask(sock, endpoint.authority, proxy.authorization, deadline)
        if secured is not None:  # whoever gets the socket must not meet the proxy's TLS in it
            return tunnel.carry(secured)
    except OSError as error:
        sock.close()
        raise _unreachable(where, [error], is_proxy=True) from error
    except BaseException:
        sock.close()
        raise
    return sock


def _secured(
    sock: socket.socket, context: ssl.SSLContext, name: str, where: str, deadline: Deadline
) -> ssl.SSLSocket:
    """Return ``sock`` in TLS, the certificate checked; ``sock`` itself is closed or taken over."""
    try:
        with handshake_errors(where, name):
            name.encode("idna")  # wrap_socket does it when it has taken the socket
            sock.settimeout(deadline.remaining())
            return context.wrap_socket(sock, server_hostname=name)
    except BaseException:
        sock.close()
        raise


@contextmanager
def handshake_errors(where: str, name: str) -> Iterator[None]:
    """Raise what the errors of a TLS handshake mean.

    :param name: the name that the certificate must hold.
    """
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise _distrusted(where, name, error) from error
    except ssl.SSLError as error:
        raise refused_certificate(error) or _no_tls(where, error) from error
    except OSError as error:
        raise _unreachable(where, [error]) from error
    except ValueError as error:  # a name that TLS cannot send: empty, or with a leading dot
        raise CertificateError(
            f"{name!r} is no server name that a certificate could hold",
            advice="Check tls-server-name in the kubeconfig.",
        ) from error


def _distrusted(where: str, name: str, error: ssl.SSLCertVerificationError) -> CertificateError:
    advice = "Check certificate-authority-data in the kubeconfig; the address may be another's."
    if error.verify_code in _WRONG_NAME:
        advice = f"Check the server's address, or set tls-server-name; {name!r} was expected."
    elif error.verify_code in _WRONG_TIME:
        advice = "Check this machine's clock; if it is right, the certificate must be renewed."
    message = error.verify_message.rstrip(".")
    return CertificateError(f"the certificate of {where} is not accepted: {message}", advice=advice)


_WRONG_NAME = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH
_WRONG_TIME = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, _CERT_HAS_EXPIRED


def _no_tls(where: str, error: ssl.SSLError) -> Unreachable:
    reason = (error.reason or str(error)).lower().replace("_", " ")
    return Unreachable(
        f"no TLS connection with {where}: {reason}",
        advice="Check that the port is the API server's and speaks https.",
    )


def _unreachable(where: str, failures: list[Exception], *, is_proxy: bool = False) -> Unreachable:
    """Return the error that says why none of the addresses could be reached."""
    last = failures[-1]
    reasons = dict.fromkeys(_reason(failure) for failure in failures)
    whose, place = "server's", "in the kubeconfig"
    if is_proxy:
        whose, place = "proxy's", "in the kubeconfig (proxy-url) or in HTTPS_PROXY"
    advice = f"Check the network, a VPN, and the {whose} address {place}."
    if isinstance(last, socket.gaierror | UnicodeError):
        advice = f"Check the {whose} name {place}, and DNS or a VPN that it needs."
    elif isinstance(last, ConnectionRefusedError):
        advice = f"Check that it runs, and the {whose} address and port {place}."
    elif isinstance(last, TimeoutError):
        advice = "Check the network, a VPN, and firewalls on the way."
    return Unreachable(f"cannot connect to {where}: {'; '.join(reasons)}", advice=advice)


def _reason(failure: Exception) -> str:
    if isinstance(failure, TimeoutError):
        return "timed out"
    if isinstance(failure, OSError) and failure.strerror:
        return failure.strerror
    return str(failure)


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
