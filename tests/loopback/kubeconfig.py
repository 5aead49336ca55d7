"""The certificate of a server, and the kubeconfig with which clients find it.

What goes in: the ports and the tokens. What comes out: a TLS context, and a kubeconfig file that
any kubectl reads (JSON is YAML, too). Raises :class:`OSError` where the file cannot be written.
Used by the thread that starts the server.
"""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Mapping
from pathlib import Path

import trustme

from tests.loopback.access import ADMIN, NOBODY, VIEWER, Tokens
from tests.loopback.pods import NAMESPACE

ADDRESS = "127.0.0.1"


class Authority:
    """A certificate authority of our own, made anew for each server."""

    def __init__(self) -> None:
        self._ca = trustme.CA(organization_name="embedded cluster of kubectl-podcp")

    @property
    def certificate(self) -> bytes:
        """The certificate of the authority, in PEM."""
        return self._ca.cert_pem.bytes()

    def server_context(self) -> ssl.SSLContext:
        """Return the TLS context of a server on this machine, for HTTP/1.1 alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(ADDRESS, "localhost").configure_cert(context)
        context.set_alpn_protocols(["http/1.1"])
        return context


def write(path: Path, authority: Authority, tokens: Tokens, ports: Mapping[str, int]) -> None:
    """Write the kubeconfig.

    :param ports: the port of each server by the name of its newest protocol: v5 and v4.

    The contexts are ``podcp-v5`` and ``podcp-v4`` for the administrator, and for the others
    ``podcp-viewer-v5`` (who may look at Pods, but not run anything), ``podcp-nobody-v5``.
    """
    ca = base64.b64encode(authority.certificate).decode()
    users = {"admin": ADMIN, "viewer": VIEWER, "nobody": NOBODY}
    contexts = {
        f"podcp-{version}" if user == "admin" else f"podcp-{user}-{version}": (version, user)
        for version in ports
        for user in users
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "podcp-v5",
        "clusters": [
            {
                "name": version,
                "cluster": {
                    "server": f"https://{ADDRESS}:{port}",
                    "certificate-authority-data": ca,
                },
            }
            for version, port in ports.items()
        ],
        "users": [
            {"name": name, "user": {"token": tokens.of(user)}} for name, user in users.items()
        ],
        "contexts": [
            {
                "name": name,
                "context": {"cluster": version, "user": user, "namespace": NAMESPACE},
            }
            for name, (version, user) in contexts.items()
        ],
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(document, indent=1))
