"""Build dist/kubectl-podcp, the plugin as one file, and its release for krew.

``python3 build_zipapp.py`` writes dist/kubectl-podcp: a line for the shell, then a zip archive with
the package kubectl_podcp, what it needs of its dependencies, and the licences of both.
``python3 build_zipapp.py --release`` also packs it into dist/kubectl-podcp-v<version>.tar.gz and
writes that archive's version, address and sha256 into plugin.yaml.

In: kubectl_podcp/, requirements-zipapp.txt (wheels by sha256), setup.cfg, LICENSE, plugin.yaml.
The wheels come through pip once and stay in .cache/wheels; later builds need no network.
Where pip is missing, as on a fresh Debian, a virtual environment lends it.
Raises SystemExit with one line that says what to do; a file in dist/ is replaced whole or not.

The same tree gives the same bytes in any folder, at any time, under any hash seed, as long as the
same Python builds it with the same zlib. Another version of Python has another byte code, and
another zlib may compress otherwise: the program then is the same, its bytes and sha256 are not.
So the sha256 in plugin.yaml is that of the archive which was released, not a promise about what
any machine would build. Entries carry SOURCE_DATE_EPOCH, or 1980 where it is not set.

Each .py has its .pyc beside it, for the Python that builds; any other Python compiles the .py as it
goes, which takes longer and gives the same program.
"""

from __future__ import annotations

import argparse
import configparser
import email
import fnmatch
import gzip
import hashlib
import importlib.util
import io
import marshal
import os
import re
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if sys.version_info < (3, 10):  # noqa: UP036 - whoever builds may have an older one
    sys.exit("error: build_zipapp.py needs Python 3.10 or later; this is " + sys.version.split()[0])

ROOT = Path(__file__).resolve().parent
CACHE = ROOT / ".cache"
DIST = ROOT / "dist"
PROGRAM = "kubectl-podcp"
RELEASES = "https://github.com/kubectl-podcp/kubectl-podcp/releases/download"

Contents = dict[str, bytes]
"""Entries of an archive: name with slashes, to bytes."""

# --- What goes in, and what does not ------------------------------------------------------------

NOT_BUNDLED = {
    "aiohttp": "kubernetes/aio alone imports it",
    "certifi": "our CAs come from kubeconfig or the system; see REPLACED",
    "durationpy": "kubernetes/utils alone imports it",
    "python-dateutil": "the generated classes alone import it",
    "requests": "copies its CA bundle into $TMPDIR whenever it is imported from a zip archive",
    "requests-oauthlib": "renews the token of the legacy oidc auth-provider; see REPLACED",
    "urllib3": "HTTP for the generated classes, half of the time to import all; see REPLACED",
}
"""Dependencies of the bundled distributions that stay out, each with its reason."""

LEFT_OUT = {
    "*.dist-info/*": "records for package managers; licences were taken out of them before",
    "*.so": "compiled for one platform; all that we use is there in Python too",
    "*/py.typed": "read by type checkers alone",
    "*_test.py": "tests",
    "_yaml/*": "the compiled part of yaml under its old name",
    "kubernetes/aio/*": "the asynchronous client",
    "kubernetes/client/api/*": "generated classes, 20 MB: we read Pods as plain JSON",
    "kubernetes/client/api_client.py": "HTTP for the generated classes",
    "kubernetes/client/apis/*": "an old name of kubernetes/client/api",
    "kubernetes/client/models/*": "generated classes",
    "kubernetes/client/rest.py": "HTTP for the generated classes",
    "kubernetes/dynamic/*": "a client that finds its classes at run time",
    "kubernetes/informer/*": "caches of watched objects",
    "kubernetes/leaderelection/*": "leases for controllers",
    "kubernetes/stream/*": "exec without back-pressure: kubectl_podcp/exec has its own",
    "kubernetes/utils/*": "creates objects from YAML, parses quantities",
    "kubernetes/watch/*": "watches objects",
    "websocket/_wsdump.py": "a command of its own",
    "websocket/tests/*": "tests",
    "yaml/cyaml.py": "the way to the compiled part",
}
"""Files that stay out: pattern of :mod:`fnmatch` (``*`` matches slashes too) to the reason."""

_REPLACED_BY = '"""{} by build_zipapp.py of kubectl-podcp: {}"""\n'
_FOR_AN_IMPORT = _REPLACED_BY.format("Written", "kubernetes.config imports it; see ApiClient.")

REPLACED = {
    "kubernetes/__init__.py": _REPLACED_BY.format(
        "Replaced", "the original imports every part of the client."
    ),
    "kubernetes/client/__init__.py": _REPLACED_BY.format(
        "Replaced", "the original imports all generated classes."
    )
    + '''
from kubernetes.client.configuration import Configuration


class ApiClient:
    """Stands for the class that is not in this file; kubernetes.config uses it to renew OIDC."""

    def __init__(self, *arguments, **options):
        from kubernetes.config.config_exception import ConfigException

        raise ConfigException(
            "the id-token of the oidc auth-provider has expired, and the one-file kubectl-podcp "
            "cannot renew it; any kubectl command with this context can, for instance "
            "`kubectl get pods`: run one, then try again"
        )
''',
    "certifi.py": _REPLACED_BY.format("Written", "the file carries no authorities.")
    + '''

def where():
    """Return a path where nothing is: whoever wants to trust it trusts nobody."""
    return "/nonexistent/certifi is not in this file"
''',
    "oauthlib/__init__.py": _FOR_AN_IMPORT,
    "oauthlib/oauth2.py": _FOR_AN_IMPORT,
    "requests_oauthlib.py": _FOR_AN_IMPORT
    + '''

class OAuth2Session:
    """Never made: kubernetes.config makes an ApiClient first, and that one says what to do."""
''',
    "urllib3/__init__.py": _REPLACED_BY.format("Written", "kubernetes imports it for one header.")
    + "\nfrom urllib3 import util\n",
    "urllib3/util.py": _REPLACED_BY.format("Written", "kubernetes calls this function alone.")
    + '''
from base64 import b64encode


def make_headers(basic_auth):
    """Return the Authorization header (RFC 7617) of ``user:password``."""
    return {"authorization": "Basic " + b64encode(basic_auth.encode("utf-8")).decode("ascii")}
''',
}
"""Files that we write ourselves, instead of the original or because one must be there."""

SHEBANG = b"#!/usr/bin/env python3\n"

BOOTSTRAP = """\
# The archive's own __main__: Python 2.7 must be able to read it. No .pyc, so every Python does.
import sys

if sys.version_info < (3, 10):
    sys.stderr.write(
        "error: kubectl-podcp needs Python 3.10 or later; this is %d.%d.%d (%s)\\n"
        % (tuple(sys.version_info[:3]) + (sys.executable or "unknown path",))
    )
    sys.exit(1)

# Ctrl-C while all this is imported ends the process, as it would any other: without a traceback.
import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

# What is installed beside this Python must not mix with what is in this file: kubernetes.config
# imports google.auth where it finds it, and that one brings a requests of unknown age.
sys.path[1:] = [p for p in sys.path[1:] if "site-packages" not in p and "dist-packages" not in p]

from kubectl_podcp.__main__ import run

sys.exit(run())
"""

# --- Wheels -------------------------------------------------------------------------------------

WHEEL_PLATFORM = (
    "--only-binary=:all:",
    "--implementation=cp",
    "--python-version=3.10",
    "--platform=manylinux2014_x86_64",
)
"""The one wheel per distribution whose sha256 we know, whatever machine builds."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One line of requirements-zipapp.txt."""

    name: str
    version: str
    sha256: str


def pins(text: str) -> list[Pin]:
    """Return the pins in ``text``, lines of ``name==version --hash=sha256:digits`` and comments."""
    found = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r"([\w.-]+)==(\S+) --hash=sha256:([0-9a-f]{64})", line)
        if match is None:
            sys.exit(f"error: requirements-zipapp.txt: no pin with one sha256: {line}")
        found.append(Pin(*match.groups()))
    return found


def wheels(requirements: Path) -> dict[Pin, Path]:
    """Return the wheel of each pin in ``requirements``; what .cache/wheels lacks is fetched."""
    wanted = pins(requirements.read_text())
    cached = _wheels_by_sha256()
    if not all(pin.sha256 in cached for pin in wanted):
        _fetch(requirements)
        cached = _wheels_by_sha256()
    return {pin: cached[pin.sha256] for pin in wanted}


def _wheels_by_sha256() -> dict[str, Path]:
    files = sorted((CACHE / "wheels").glob("*.whl"))
    return {hashlib.sha256(file.read_bytes()).hexdigest(): file for file in files}


def _fetch(requirements: Path) -> None:
    """Let pip fetch the wheels and check their sha256; two builds may do so at once."""
    store = CACHE / "wheels"
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        scratch = Path(name)
        options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]
        options += ["--require-hashes", "-r", str(requirements), "--dest", str(scratch)]
        command = [*_pip(scratch / "venv"), "download", *options, *WHEEL_PLATFORM]
        if subprocess.run(command, check=False).returncode:
            sys.exit("error: pip could not fetch the wheels of requirements-zipapp.txt")
        for wheel in scratch.glob("*.whl"):
            wheel.replace(store / wheel.name)


def _pip(home: Path) -> list[str]:
    """Return a command that is pip: this Python's own, or that of an environment in ``home``."""
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], check=False, capture_output=True).returncode == 0:
        return pip
    if subprocess.run([sys.executable, "-m", "venv", str(home)], check=False).returncode:
        sys.exit("error: this Python has neither pip nor venv; on Debian: apt install python3-venv")
    return [str(home / "bin" / "python"), "-m", "pip"]


# --- Contents -----------------------------------------------------------------------------------


def contents() -> Contents:
    """Return all entries of the one file, byte code and licences included."""
    found = _package()
    licences = {"LICENSE": (ROOT / "LICENSE").read_bytes()}
    bundled = wheels(ROOT / "requirements-zipapp.txt")
    requirements = _own_requirements()
    for pin, wheel in bundled.items():
        files = _unpacked(wheel)
        found |= files
        licences |= _licences(pin, files)
        requirements |= _requirements(files)
    check_requirements(requirements, {_normal(pin.name) for pin in bundled})
    found = trimmed(found) | {name: text.encode() for name, text in REPLACED.items()}
    return found | compiled(found) | licences | {"__main__.py": BOOTSTRAP.encode()}


def _package() -> Contents:
    """Return every file of our own package, whatever its kind."""
    return {
        file.relative_to(ROOT).as_posix(): file.read_bytes()
        for file in (ROOT / "kubectl_podcp").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def _unpacked(wheel: Path) -> Contents:
    with zipfile.ZipFile(wheel) as archive:
        files = [entry for entry in archive.infolist() if not entry.is_dir()]
        return {entry.filename: archive.read(entry) for entry in files}


def _licences(pin: Pin, files: Contents) -> Contents:
    """Return the licence texts of a wheel, as ``licences/<name>-<version>/<file>``."""
    pattern = re.compile(
        r"[^/]+\.dist-info/(?:licenses/)?((?:LICEN[CS]E|COPYING|NOTICE|AUTHORS).*)"
    )
    matches = {name: pattern.fullmatch(name) for name in files}
    texts = {
        f"licences/{pin.name}-{pin.version}/{match[1]}": files[name]
        for name, match in matches.items()
        if match
    }
    if not texts:
        sys.exit(f"error: the wheel of {pin.name} {pin.version} has no licence text to ship")
    return texts


def _own_requirements() -> set[str]:
    """Return the distributions that setup.cfg's install_requires names."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    lines = settings["options"]["install_requires"].split("\n")
    return {_normal(line) for line in lines if line.strip()}


def _requirements(files: Contents) -> set[str]:
    """Return the distributions that a wheel's metadata require, but for those of its extras."""
    metadata = next(data for name, data in files.items() if name.endswith(".dist-info/METADATA"))
    lines = email.message_from_bytes(metadata).get_all("Requires-Dist", [])
    return {_normal(line) for line in lines if not re.search(r";.*\bextra\b", line)}


def _normal(requirement: str) -> str:
    """Return the name that ``requirement`` opens with, normalised as package indexes do."""
    name = re.match(r"\s*([\w.-]+)", requirement)
    assert name, f"a requirement opens with a name: {requirement!r}"
    return re.sub(r"[-_.]+", "-", name[1]).lower()


def check_requirements(required: set[str], bundled: set[str]) -> None:
    """Exit unless each requirement is bundled or has its reason in NOT_BUNDLED."""
    for name in sorted(required - bundled - NOT_BUNDLED.keys()):
        sys.exit(f"error: {name}: pin it in requirements-zipapp.txt, or say in NOT_BUNDLED why not")
    for name in sorted(NOT_BUNDLED.keys() - required):
        sys.exit(f"error: nothing requires {name} any more: take it out of NOT_BUNDLED")


def trimmed(files: Contents) -> Contents:
    """Return ``files`` without those that LEFT_OUT names; each of its patterns must match one."""
    for pattern in LEFT_OUT:
        if not fnmatch.filter(files, pattern):
            sys.exit(f"error: nothing matches {pattern} any more: take it out of LEFT_OUT")
    return {
        name: data
        for name, data in files.items()
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in LEFT_OUT)
    }


# --- Byte code ----------------------------------------------------------------------------------

# marshal's versions 3 and up write a reference where an object has more than one owner, which
# depends on what else this process holds (python/cpython#78274); version 2 knows no references.
# Python 3.14 has constant slices, which only version 5 can write; there the strings of code, what
# a process shares most, are immortal and written the same way however many owners they have.
MARSHAL_VERSION = 2 if sys.version_info < (3, 14) else marshal.version

UNCHECKED_HASH = 0b01
"""Flags of a .pyc (PEP 552): by hash, and the import does not compare it with the source."""

COMPILER_SETTINGS = {
    "PYTHONHASHSEED": "0",  # Python 3.10 writes a frozenset in the order of its hashes
    "PYTHONNODEBUGRANGES": "1",  # a quarter less byte code; tracebacks keep their lines
}


def compiled(files: Contents) -> Contents:
    """Return the .pyc of each .py in ``files``."""
    sources = {name: data for name, data in files.items() if name.endswith(".py")}
    return {f"{name}c": _byte_code(name, sources[name]) for name in sorted(sources)}


def _byte_code(name: str, source: bytes) -> bytes:
    code = compile(source, f"{PROGRAM}/{name}", "exec", dont_inherit=True, optimize=0)
    header = importlib.util.MAGIC_NUMBER + struct.pack("<L", UNCHECKED_HASH)
    return header + importlib.util.source_hash(source) + marshal.dumps(code, MARSHAL_VERSION)


def start_again_with_compiler_settings() -> None:
    """Replace this process by one with COMPILER_SETTINGS, which Python reads as it starts."""
    if any(os.environ.get(name) != value for name, value in COMPILER_SETTINGS.items()):
        command = [sys.executable, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, {**os.environ, **COMPILER_SETTINGS})


# --- Archives -----------------------------------------------------------------------------------

ZIP_EPOCH = 315532800
"""1980-01-01T00:00:00Z, the first time a zip archive can tell."""


def timestamp() -> int:
    """Return the time that all entries carry, in seconds since 1970."""
    return max(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), ZIP_EPOCH)


def zip_archive(files: Contents) -> bytes:
    """Return a runnable zip archive of ``files``; only names, bytes and the timestamp decide."""
    buffer = io.BytesIO()
    buffer.write(SHEBANG)
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, time.gmtime(timestamp())[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, also where another system builds
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(entry, files[name], compresslevel=9)
    return buffer.getvalue()


def tar_archive(files: Contents) -> bytes:
    """Return a .tar.gz of ``files`` as krew takes it: regular files alone; PROGRAM can be run."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=buffer, compresslevel=9, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name in sorted(files):
            entry = tarfile.TarInfo(name)  # owner and group are 0 and have no name
            entry.size = len(files[name])
            entry.mode = 0o755 if name == PROGRAM else 0o644
            entry.mtime = timestamp()
            archive.addfile(entry, io.BytesIO(files[name]))
    return buffer.getvalue()


def _write(file: Path, data: bytes, mode: int) -> None:
    """Put ``data`` under its name in one step: a program that runs keeps the file it has."""
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    fresh.write_bytes(data)
    fresh.chmod(mode)
    fresh.replace(file)


# --- The two commands ---------------------------------------------------------------------------


def build() -> None:
    """Write dist/kubectl-podcp."""
    files = contents()
    data = zip_archive(files)
    _write(DIST / PROGRAM, data, 0o755)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    print(f"dist/{PROGRAM}: {len(data) / 1e6:.2f} MB, {len(files)} entries, for Python {python}")


def release() -> None:
    """Pack dist/kubectl-podcp for krew; write into plugin.yaml where the archive will be."""
    tag = f"v{_version()}"
    program, licence = DIST / PROGRAM, ROOT / "LICENSE"
    data = tar_archive({PROGRAM: program.read_bytes(), licence.name: licence.read_bytes()})
    archive = DIST / f"{PROGRAM}-{tag}.tar.gz"
    _write(archive, data, 0o644)
    digest = hashlib.sha256(data).hexdigest()
    print(f"dist/{archive.name}: sha256 {digest}")

    manifest = ROOT / "plugin.yaml"
    values = {"version": tag, "uri": f"{RELEASES}/{tag}/{archive.name}", "sha256": digest}
    _write(manifest, stated(manifest.read_text(), values).encode(), 0o644)
    print(f"plugin.yaml: {tag}, to be committed with the release")


def _version() -> str:
    text = (ROOT / "kubectl_podcp" / "_version.py").read_text()
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        sys.exit("error: kubectl_podcp/_version.py has no line that gives __version__")
    return found[1]


def stated(manifest: str, values: dict[str, str]) -> str:
    """Return ``manifest``, a YAML text, with the one line of each key of ``values`` set to it."""
    for key, value in values.items():
        manifest, lines = re.subn(rf"(?m)^( *{key}:) .*$", rf'\g<1> "{value}"', manifest)
        if lines != 1:
            sys.exit(f"error: plugin.yaml: {lines} lines give {key}, where there should be one")
    return manifest


def main(arguments: Sequence[str]) -> int:
    """Carry out the command line ``arguments``; return the exit status."""
    parser = argparse.ArgumentParser(
        description="Build dist/kubectl-podcp, the plugin as one file."
    )
    parser.add_argument("--release", action="store_true", help="also pack it for krew")
    options = parser.parse_args(arguments)
    build()
    if options.release:
        release()
    return 0


if __name__ == "__main__":
    start_again_with_compiler_settings()
    sys.exit(main(sys.argv[1:]))
