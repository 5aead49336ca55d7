"""TLS as a kubeconfig asks for it: whom to trust, and which certificate to show.

In: the cluster's and the user's entry. Out: an :class:`ssl.SSLContext`. Raises
:class:`~kubectl_podcp.errors.KubeconfigError`. One thread at a time may set a context up;
connections may be made with it from any.

Nothing is written to disk where the system allows: a certificate authority is handed over in
memory, and a client certificate, which OpenSSL takes from a file alone, through a file that
lives in memory (Linux) or is deleted before the first connection.
"""

from __future__ import annotations

import os
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kubectl_podcp.cluster.entries import Entry

_IN_MEMORY = Path("/proc/self/fd")


def context_for(cluster: Entry) -> ssl.SSLContext:
    """Return the context that verifies ``cluster``'s server, or does not where it says so.

    :raises KubeconfigError: a certificate authority that cannot be read, or one beside
        ``insecure-skip-tls-verify`` (client-go ``transport.TLSConfigFor`` refuses that too).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])  # WebSockets need it; some proxies prefer h2
    authority = cluster.contents("certificate-authority")
    if cluster.flag("insecure-skip-tls-verify"):
        if authority is not None:
            raise cluster.error(
                "certificate-authority and insecure-skip-tls-verify exclude each other",
                advice="Remove insecure-skip-tls-verify, unless the server shall not be verified.",
            )
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    _verify_as_go_does(context)
    if authority is not None:
        _trust(context, authority, cluster)
    else:
        context.load_default_certs()
    return context


def present(
    context: ssl.SSLContext, certificate: bytes | Path, key: bytes | Path, owner: Entry
) -> None:
    """Let ``context`` show a client certificate (PEM) from now on, in place of any before.

    :param owner: the user's entry, for errors.
    :raises KubeconfigError: the pair does not fit, is encrypted, or cannot be handed to TLS.
    """
    with ExitStack() as files:
        try:
            names = [files.enter_context(_as_file(part)) for part in (certificate, key)]
        except OSError as cause:
            raise owner.error(
                f"the client certificate cannot be handed to TLS: {cause.strerror or cause}",
                advice="Set TMPDIR to a folder that can be written; the file lives for a moment.",
            ) from cause
        try:
            # An empty password, or an encrypted key would be asked for on the terminal.
            context.load_cert_chain(names[0], names[1], password="")
        except OSError as cause:  # ssl.SSLError is one
            reason = getattr(cause, "reason", None) or cause.strerror or cause
            where = " and ".join(str(part) for part in (certificate, key) if isinstance(part, Path))
            raise owner.error(
                f"the client certificate{where and ' ' + where} cannot be used: {reason}"
            ) from cause


def _verify_as_go_does(context: ssl.SSLContext) -> None:
    """Make Python's verification accept and refuse what kubectl's does.

    Go takes any trusted certificate as an anchor, has no X509_STRICT (Python 3.13's default in
    ``create_default_context``: it refuses authorities without a key identifier, which many
    clusters have), and never looks at the common name.
    """
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.hostname_checks_common_name = False


def _trust(context: ssl.SSLContext, authority: bytes, cluster: Entry) -> None:
    # Bundles may carry comments between the certificates, in any encoding; PEM itself is ASCII.
    pem = authority.decode("ascii", "ignore")
    try:
        context.load_verify_locations(cadata=pem)
    except (ssl.SSLError, ValueError) as cause:
        raise cluster.error("certificate-authority holds no PEM certificate") from cause


@contextmanager
def _as_file(material: bytes | Path) -> Iterator[str]:
    """Name a file that holds ``material``; one of ours is gone when the block is left."""
    if isinstance(material, Path):
        yield str(material)
        return
    descriptor = _memory_file()
    if descriptor is not None:
        try:
            os.write(descriptor, material)
            yield str(_IN_MEMORY / str(descriptor))
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile() as file:  # mode 0600
        file.write(material)
        file.flush()
        yield file.name


def _memory_file() -> int | None:
    if sys.platform != "linux" or not _IN_MEMORY.is_dir():
        return None
    try:
        return os.memfd_create("kubectl-podcp")
    except OSError:  # forbidden by a sandbox
        return None
