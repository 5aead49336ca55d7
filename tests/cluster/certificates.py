"""The cluster's certificates and keys, made by openssl: a CA, the API servers', service accounts'.

They are as Python 3.13 wants them, which checks chains strictly by default: key usage in the CA's
certificate, and the issuer's key identifier in the server's.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from .layout import ENVIRONMENT, ClusterError

_CONFIGURATION = """\
[req]
distinguished_name = subject
[subject]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
"""


def make(folder: Path) -> None:
    """Write ``ca.crt``, ``server.crt``, ``server.key`` and the pair ``accounts.{key,pub}``.

    :raises ClusterError: openssl failed; the text has its stderr.
    """
    (folder / "openssl.cnf").write_text(_CONFIGURATION)
    _certificate(folder, "ca", "/CN=podcp-test-ca")
    _certificate(folder, "server", "/CN=kube-apiserver", "-CA", "ca.crt", "-CAkey", "ca.key")
    curve = ("-name", "prime256v1")
    _openssl(folder, "ecparam", *curve, "-genkey", "-noout", "-out", "accounts.key")
    _openssl(folder, "ec", "-in", "accounts.key", "-pubout", "-out", "accounts.pub")


def _certificate(folder: Path, name: str, subject: str, *issuer: str) -> None:
    """Make a key and a certificate with the extensions of the section of that name."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout")
    common = ("-x509", "-config", "openssl.cnf", "-extensions", name, "-days", "365")
    files = (*key, f"{name}.key", "-out", f"{name}.crt")
    _openssl(folder, "req", *common, "-subj", subject, *issuer, *files)


def _openssl(folder: Path, *arguments: str) -> None:
    result = subprocess.run(
        ["openssl", *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, check=False
    )
    if result.returncode:
        raise ClusterError(f"openssl {arguments[0]}: {result.stderr.decode().strip()}")
