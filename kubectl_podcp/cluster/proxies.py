"""Which proxy leads to the API server, decided as kubectl (Go's ``net/http``) decides it.

In: the cluster's entry, the server, the environment. Out: an
:class:`~kubectl_podcp.exec.tls.Proxy` or ``None``. Raises
:class:`~kubectl_podcp.errors.KubeconfigError`. Pure functions: any thread may call them.

Source of the rules: golang.org/x/net ``http/httpproxy/proxy.go`` for the environment,
client-go ``tools/clientcmd/client_config.go`` for ``proxy-url``.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping
from urllib.parse import SplitResult, unquote, urlsplit

from kubectl_podcp.cluster.entries import Entry
from kubectl_podcp.errors import KubeconfigError
from kubectl_podcp.exec.tls import Proxy

_DEFAULT_PORTS = {"http": 80, "https": 443}


def proxy_for(
    cluster: Entry, scheme: str, host: str, port: int, environment: Mapping[str, str]
) -> Proxy | None:
    """Return the proxy to the server at ``scheme://host:port``, or ``None``.

    The cluster's ``proxy-url`` wins, even over ``NO_PROXY``.

    :raises KubeconfigError: a SOCKS proxy, or an address that is none.
    """
    if cluster.has("proxy-url"):
        return _parse(cluster.text("proxy-url"), f'proxy-url of cluster "{cluster.name}"')
    variable = f"{scheme.upper()}_PROXY"
    address = _variable(environment, variable)
    if not address or bypassed(host, port, _variable(environment, "NO_PROXY")):
        return None
    return _parse(address, f"${variable}")


def bypassed(host: str, port: int, no_proxy: str) -> bool:
    """Whether the environment's proxy is not for this host: loopback, or listed in NO_PROXY."""
    host = host.lower().rstrip(".")
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    rules = (rule.strip().lower() for rule in no_proxy.split(","))
    return any(_covers(rule, host, address, port) for rule in rules if rule)


def _covers(
    rule: str,
    host: str,
    address: ipaddress.IPv4Address | ipaddress.IPv6Address | None,
    port: int,
) -> bool:
    """Whether one rule of NO_PROXY (``*``, CIDR, IP, ``domain``, ``.suffix``; ``:port``) fits."""
    if rule == "*":
        return True
    if "/" in rule:
        try:
            return address is not None and address in ipaddress.ip_network(rule, strict=False)
        except ValueError:
            return False
    name, its_port = _split_port(rule)
    if its_port not in ("", str(port)):
        return False
    if address is not None:
        return _address(name) == address
    name = name.removeprefix("*")
    if name.startswith("."):
        return host.endswith(name) and name != "."
    return host == name or host.endswith(f".{name}")


def _split_port(rule: str) -> tuple[str, str]:
    """Split ``host:port``; a bare IPv6 address has colons but no port."""
    name, colon, port = rule.rpartition(":")
    if colon and (":" not in name or name.endswith("]")):
        return name.strip("[]"), port
    return rule.strip("[]"), ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _variable(environment: Mapping[str, str], name: str) -> str:
    if name == "HTTP_PROXY" and environment.get("REQUEST_METHOD"):
        return ""  # a CGI program: HTTP_PROXY is the client's Proxy header (CVE-2016-5386)
    return environment.get(name) or environment.get(name.lower()) or ""


def _parse(url: str, source: str) -> Proxy:
    """Read a proxy's address; never quotes it whole in an error, for it may hold a password."""
    parts = _split_url(url, source)
    if parts.scheme not in _DEFAULT_PORTS:
        raise KubeconfigError(
            f"a {parts.scheme}:// proxy is not supported ({source})",
            advice="Use an http:// or https:// proxy that allows CONNECT.",
        )
    return Proxy(
        host=parts.hostname or "",
        port=parts.port or _DEFAULT_PORTS[parts.scheme],
        tls=parts.scheme == "https",
        authorization=_authorization(parts),
    )


def _split_url(url: str, source: str) -> SplitResult:
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        well_formed = bool(parts.hostname) and parts.port != 0  # reading the port checks it
    except ValueError:
        well_formed = False
    if well_formed:
        return parts
    raise KubeconfigError(
        f"the proxy's address is not a URL ({source})", advice="Write it as http://HOST:PORT."
    )


def _authorization(parts: SplitResult) -> str | None:
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")
