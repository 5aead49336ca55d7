"""The one file: what is in it, that any build makes the same, that it starts anywhere."""

from __future__ import annotations

import ast
import base64
import configparser
import gzip
import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import textwrap
import time
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from packaging.requirements import Requirement

import build_zipapp
from kubectl_podcp._version import __version__

ROOT = Path(__file__).parents[2]
INPUTS = ("build_zipapp.py", "requirements-zipapp.txt", "setup.cfg", "LICENSE", "plugin.yaml")
LARGEST = 2_500_000
SLOWEST_START = 12.0
"""Bare starts of Python that ``--version`` may take."""

NOWHERE = {"HOME": "/nonexistent", "TMPDIR": "/nonexistent", "PATH": os.defpath}
OFFLINE = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}

SMALL_PROGRAM = """
import sys

def run():
    if sys.argv[1:] == ["config"]:
        import kubernetes.config
    return int(sys.argv[1]) if sys.argv[1:2] and sys.argv[1].isdigit() else None
"""


def tree_at(folder: Path, program: str | None = None) -> Path:
    """Make a copy of what the build reads, with our package or a small one that is ``program``."""
    folder.mkdir(parents=True)
    for name in INPUTS:
        shutil.copy(ROOT / name, folder)
    cache = ROOT / ".cache"
    cache.mkdir(exist_ok=True)
    (folder / ".cache").symlink_to(cache)  # the wheels, which come over the network once
    package = folder / "kubectl_podcp"
    if program is None:
        shutil.copytree(
            ROOT / "kubectl_podcp", package, ignore=shutil.ignore_patterns("__pycache__")
        )
        return folder
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(program)
    shutil.copy(ROOT / "kubectl_podcp" / "_version.py", package)
    return folder


def build(
    tree: Path, *options: str, env: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[str]:
    """Run the build of a tree."""
    command = [sys.executable, str(tree / "build_zipapp.py"), *options]
    return subprocess.run(command, env=env, cwd="/", text=True, capture_output=True, check=False)


def built(tree: Path, *options: str, env: Mapping[str, str] = os.environ) -> Path:
    """Build the one file of a tree; return it."""
    made = build(tree, *options, env=env)
    assert made.returncode == 0, made.stdout + made.stderr
    return tree / "dist" / "kubectl-podcp"


def run(
    python: str | Path, *arguments: str | Path, env: Mapping[str, str] = NOWHERE, cwd: str = "/"
) -> subprocess.CompletedProcess[str]:
    """Run a Python with next to no environment."""
    command = [str(python), *map(str, arguments)]
    return subprocess.run(command, env=env, cwd=cwd, text=True, capture_output=True, check=False)


def version_of(python: Path) -> tuple[int, int]:
    """Return the version of an interpreter, or (0, 0) if it does not start."""
    code = "import sys; print('%d %d' % sys.version_info[:2])"
    try:
        answer = run(python, "-c", code)
    except OSError:
        return (0, 0)
    major, minor = answer.stdout.split() if answer.returncode == 0 else ("0", "0")
    return (int(major), int(minor))


def other_pythons() -> dict[tuple[int, int], Path]:
    """Return the interpreters of this machine, one per minor version, but for our own."""
    folders = [Path(folder) for folder in os.get_exec_path()]
    found = [file for folder in folders for file in folder.glob("python[23].*")]
    found += (Path.home() / ".pyenv" / "versions").glob("*/bin/python")
    files = [file for file in found if re.fullmatch(r"python([23]\.\d+)?", file.name)]
    versions = {version_of(file): file for file in sorted(files)}
    return {
        version: file
        for version, file in versions.items()
        if version > (0, 0) and version != sys.version_info[:2]
    }


@pytest.fixture(scope="module")
def one_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our package as one file."""
    return built(tree_at(tmp_path_factory.mktemp("one") / "tree"))


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SMALL_PROGRAM as one file, with all dependencies."""
    return built(tree_at(tmp_path_factory.mktemp("small") / "tree", SMALL_PROGRAM))


@pytest.fixture(scope="module")
def entries(one_file: Path) -> build_zipapp.Contents:
    """What is in our one file."""
    with zipfile.ZipFile(one_file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


# --- the same bytes -----------------------------------------------------------------------------


def test_two_builds_in_other_folders_at_other_times_are_equal_to_the_byte(tmp_path: Path) -> None:
    """Folder, modification times, hash seed, umask and order of files leave no trace."""
    here = tree_at(tmp_path / "here")
    there = tree_at(tmp_path / "a" / "longer way" / "there")
    for file in sorted(there.rglob("*.py"), reverse=True):
        data = file.read_bytes()
        file.unlink()
        file.write_bytes(data)
        file.chmod(0o600)
        os.utime(file, (1_000_000_000, 1_000_000_000))
    one = built(here, "--release", env={**os.environ, "PYTHONHASHSEED": "1"})
    two = built(there, "--release", env={**OFFLINE, "PYTHONHASHSEED": "2", "TZ": "Asia/Tokyo"})
    for name in ("kubectl-podcp", f"kubectl-podcp-v{__version__}.tar.gz"):
        assert one.with_name(name).read_bytes() == two.with_name(name).read_bytes(), name
    assert (here / "plugin.yaml").read_bytes() == (there / "plugin.yaml").read_bytes()


def test_a_second_build_needs_no_network(one_file: Path, tmp_path: Path) -> None:
    """The wheels of the first are enough; `one_file` was built before."""
    assert built(tree_at(tmp_path / "tree"), env=OFFLINE).read_bytes() == one_file.read_bytes()


def test_a_wheel_with_another_sha256_is_not_taken(tmp_path: Path) -> None:
    """Neither from the cache nor from pip; and a failed build leaves no file."""
    tree = tree_at(tmp_path / "tree", SMALL_PROGRAM)
    pinned = tree / "requirements-zipapp.txt"
    pinned.write_text(re.sub("(?<=six==1.17.0 --hash=sha256:)....", "0000", pinned.read_text()))
    made = build(tree, env=OFFLINE)
    assert made.returncode == 1
    assert "error: pip could not fetch the wheels" in made.stderr
    assert not (tree / "dist").exists()


@pytest.mark.parametrize(
    ("epoch", "expected"),
    [(None, (1980, 1, 1)), ("0", (1980, 1, 1)), ("1700000000", (2023, 11, 14))],
)
def test_entries_carry_the_time_of_source_date_epoch(
    monkeypatch: pytest.MonkeyPatch, epoch: str | None, expected: tuple[int, int, int]
) -> None:
    """No time of now, no time before zip archives have any."""
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    if epoch is not None:
        monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
    data = build_zipapp.zip_archive({"b": b"", "a": b""})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert [entry.filename for entry in archive.infolist()] == ["a", "b"]
        assert {entry.date_time[:3] for entry in archive.infolist()} == {expected}


# --- what is in it ------------------------------------------------------------------------------


def test_it_is_small_and_can_be_executed(one_file: Path) -> None:
    """The bound is that of the issue; `kubectl` starts the file itself."""
    assert one_file.stat().st_size <= LARGEST
    assert stat.S_IMODE(one_file.stat().st_mode) == 0o755
    assert one_file.read_bytes().startswith(b"#!/usr/bin/env python3\n")


def test_nothing_compiled_for_one_platform_is_inside(entries: build_zipapp.Contents) -> None:
    """Every entry is Python, or a licence."""
    texts = {name for name in entries if name == "LICENSE" or name.startswith("licences/")}
    assert {PurePosixPath(name).suffix for name in entries.keys() - texts} == {".py", ".pyc"}


def test_each_source_has_byte_code_that_names_no_folder(entries: build_zipapp.Contents) -> None:
    """Unchecked, by the hash of the source beside it (PEP 552); only our __main__ has none."""
    sources = {name for name in entries if name.endswith(".py")} - {"__main__.py"}
    assert {f"{name}c" for name in sources} == {name for name in entries if name.endswith(".pyc")}
    for name in sources:
        header = importlib.util.MAGIC_NUMBER + b"\1\0\0\0"
        assert entries[f"{name}c"][:16] == header + importlib.util.source_hash(entries[name])
        assert f"kubectl-podcp/{name}".encode() in entries[f"{name}c"]
        assert str(Path(sys.prefix)).encode() not in entries[f"{name}c"]


def test_our_package_is_inside_as_it_is(entries: build_zipapp.Contents) -> None:
    """Every module, unchanged."""
    for file in (ROOT / "kubectl_podcp").rglob("*.py"):
        assert entries[file.relative_to(ROOT).as_posix()] == file.read_bytes()


def test_each_bundled_distribution_brings_its_licence(entries: build_zipapp.Contents) -> None:
    """Its own text; and ours."""
    assert entries["LICENSE"] == (ROOT / "LICENSE").read_bytes()
    for pin in build_zipapp.pins((ROOT / "requirements-zipapp.txt").read_text()):
        folder = f"licences/{pin.name}-{pin.version}/"
        texts = [data for name, data in entries.items() if name.startswith(folder)]
        assert any(b"Permission is hereby granted" in text or b"Apache" in text for text in texts)


def test_the_pins_are_versions_that_setup_cfg_allows() -> None:
    """The one file and `pip install` run the same dependencies."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    lines = settings["options"]["install_requires"].split("\n")
    pinned = {
        pin.name.lower(): pin.version
        for pin in build_zipapp.pins((ROOT / "requirements-zipapp.txt").read_text())
    }
    required = [Requirement(line) for line in lines if line]
    assert required
    for requirement in required:
        assert requirement.specifier.contains(pinned[requirement.name.lower()]), requirement


def test_every_module_inside_can_be_imported_and_writes_nothing(
    one_file: Path, tmp_path: Path
) -> None:
    """With the standard library alone: what was left out is not missed. No warnings, no files."""
    code = """
        import importlib, sys, zipfile
        sys.path.insert(0, sys.argv[1])
        names = [n[:-3] for n in zipfile.ZipFile(sys.argv[1]).namelist() if n.endswith(".py")]
        for name in names:
            if name != "__main__":
                importlib.import_module(name.replace("/", ".").removesuffix(".__init__"))
        """
    empty = tmp_path / "empty"
    empty.mkdir()
    env = {"HOME": str(empty), "TMPDIR": str(empty), "PATH": os.defpath}
    program = textwrap.dedent(code)
    done = run(sys.executable, "-S", "-W", "error", "-c", program, one_file, env=env)
    assert not done.stderr, done.stderr
    assert done.returncode == 0
    assert list(empty.iterdir()) == []


def kubeconfig_with_oidc(file: Path, *, seconds_left: int) -> str:
    """Write a kubeconfig whose user has the legacy oidc auth-provider; return its id-token."""
    claims: tuple[dict[str, object], ...] = (
        {"alg": "none"},
        {"exp": int(time.time()) + seconds_left},
        {},
    )
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode() for part in claims]
    token = ".".join(part.rstrip("=") for part in parts)
    oidc = {"id-token": token, "refresh-token": "r", "idp-issuer-url": "https://127.0.0.1:1"}
    user = {"auth-provider": {"name": "oidc", "config": oidc}}
    text = {
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
        "clusters": [{"name": "one", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "one", "user": user}],
    }
    file.write_text(json.dumps(text))
    return token


def test_an_oidc_token_is_used_while_it_lasts(one_file: Path, tmp_path: Path) -> None:
    """Where no file of authorities is known too: ours then asks certifi, which is not inside."""
    code = """
        import sys
        sys.path.insert(0, sys.argv[1])
        from kubectl_podcp.cluster import kubeconfig
        print(kubeconfig.load(sys.argv[2]).headers()["Authorization"])
        """
    token = kubeconfig_with_oidc(tmp_path / "config", seconds_left=3600)
    env = {**NOWHERE, "SSL_CERT_FILE": "/nonexistent"}
    program = textwrap.dedent(code)
    done = run(sys.executable, "-S", "-c", program, one_file, tmp_path / "config", env=env)
    assert (done.stderr, done.stdout) == ("", f"Bearer {token}\n")


def test_an_expired_oidc_token_ends_in_advice(one_file: Path, tmp_path: Path) -> None:
    """What would renew it is left out; kubectl renews it, and keeps the new one in the file."""
    code = """
        import sys
        sys.path.insert(0, sys.argv[1])
        from kubernetes import config
        config.load_kube_config(sys.argv[2])
        """
    kubeconfig_with_oidc(tmp_path / "config", seconds_left=-3600)
    program = textwrap.dedent(code)
    done = run(sys.executable, "-S", "-c", program, one_file, tmp_path / "config", env=os.environ)
    assert "run one, then try again" in done.stderr.splitlines()[-1]


# --- how it starts ------------------------------------------------------------------------------


def test_it_starts_without_a_home_and_without_a_temporary_folder(one_file: Path) -> None:
    """As in a Pod with a read-only root."""
    done = run(sys.executable, one_file, "--version")
    assert (done.stderr, done.returncode) == ("", 0)
    assert __version__ in done.stdout


@pytest.mark.parametrize(("arguments", "status"), [(["0"], 0), (["7"], 7), ([], 0)])
def test_what_run_returns_is_the_exit_status(
    small_file: Path, arguments: list[str], status: int
) -> None:
    """A number as it is, None for 0."""
    assert run(sys.executable, small_file, *arguments).returncode == status


def test_ctrl_c_while_it_is_imported_shows_no_traceback(one_file: Path) -> None:
    program = (
        "import os, runpy, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'kubectl_podcp.cli': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        f"runpy.run_path({str(one_file)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


def test_what_is_installed_beside_python_stays_outside(small_file: Path, tmp_path: Path) -> None:
    """kubernetes.config imports google.auth where it finds it, and survives only ImportError."""
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    packages = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    (packages / "google" / "auth").mkdir(parents=True)
    (packages / "google" / "auth" / "__init__.py").write_text("raise RuntimeError('unwelcome')")
    python = tmp_path / "venv" / "bin" / "python"
    assert "unwelcome" in run(python, "-c", "import google.auth").stderr
    done = run(python, small_file, "config")
    assert (done.stderr, done.returncode) == ("", 0)


def test_it_runs_on_other_supported_pythons_from_its_sources(one_file: Path) -> None:
    """Their byte code is not inside."""
    pythons = {version: file for version, file in other_pythons().items() if version >= (3, 10)}
    if not pythons:
        pytest.skip("no other Python from 3.10 up on this machine")
    for version, python in pythons.items():
        done = run(python, "-W", "error", one_file, "--version")
        assert (done.stderr, done.returncode) == ("", 0), version
        assert __version__ in done.stdout, version


def test_an_older_python_gets_one_line(one_file: Path) -> None:
    """2.7 included; it names the Python, for there may be several."""
    pythons = {version: file for version, file in other_pythons().items() if version < (3, 10)}
    if not pythons:
        pytest.skip("no Python before 3.10 on this machine; the next test reads the source")
    for (major, minor), python in pythons.items():
        done = run(python, one_file, "--version")
        assert (done.returncode, done.stdout) == (1, ""), python
        start = f"error: kubectl-podcp needs Python 3.10 or later; this is {major}.{minor}."
        assert done.stderr.startswith(start), python
        assert done.stderr.endswith(f" ({python})\n"), python
        assert done.stderr.count("\n") == 1, python


def test_the_guard_stands_first_and_in_old_grammar(entries: build_zipapp.Contents) -> None:
    """Nothing but sys is imported before it, and an old parser reads all of the file."""
    tree = ast.parse(entries["__main__.py"], feature_version=(3, 4))
    first, guard = tree.body[:2]
    assert ast.unparse(first) == "import sys"
    assert ast.unparse(guard).startswith("if sys.version_info < (3, 10):\n    sys.stderr.write(")
    newer = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.FunctionDef, ast.Starred)
    assert not [node for node in ast.walk(tree) if isinstance(node, newer)]
    assert entries["__main__.py"].isascii()


def test_it_tells_its_version_soon(one_file: Path) -> None:
    """Best of nine each, in turn: other work on the machine only ever adds."""

    def seconds(*arguments: str | Path) -> float:
        start = time.perf_counter()
        assert run(sys.executable, *arguments).returncode == 0
        return time.perf_counter() - start

    pairs = [(seconds("-c", "pass"), seconds(one_file, "--version")) for _ in range(9)]
    bare, ours = (min(times) for times in zip(*pairs, strict=True))
    assert ours <= SLOWEST_START * bare, f"{ours * 1000:.0f} ms, {ours / bare:.1f} bare starts"


# --- the tables ---------------------------------------------------------------------------------


def refusal(capsys: pytest.CaptureFixture[str], error: pytest.ExceptionInfo[SystemExit]) -> str:
    """Return what a SystemExit would print."""
    assert capsys.readouterr().err == ""
    return str(error.value.code)


def test_a_requirement_is_bundled_or_has_a_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """A new dependency of a dependency must not be missing unnoticed, nor an old reason stay."""
    reasons = set(build_zipapp.NOT_BUNDLED)
    build_zipapp.check_requirements(reasons | {"six"}, {"six"})
    with pytest.raises(SystemExit) as error:
        build_zipapp.check_requirements(reasons | {"six", "pydantic"}, {"six"})
    assert refusal(capsys, error).startswith("error: pydantic: pin it in requirements-zipapp.txt")
    with pytest.raises(SystemExit) as error:
        build_zipapp.check_requirements(reasons - {"aiohttp"}, set())
    assert "nothing requires aiohttp any more" in refusal(capsys, error)


def test_each_pattern_of_what_is_left_out_must_match(capsys: pytest.CaptureFixture[str]) -> None:
    """So the table says what is, with a newer version of a dependency too."""
    with pytest.raises(SystemExit) as error:
        build_zipapp.trimmed({"kubernetes/config/__init__.py": b""})
    assert "any more: take it out of LEFT_OUT" in refusal(capsys, error)


@pytest.mark.parametrize(
    "line", ["six>=1.17.0", "six==1.17.0", "six==1.17.0 --hash=sha256:12", "-r other.txt"]
)
def test_a_pin_without_version_and_sha256_is_refused(line: str) -> None:
    """pip would refuse some of these, but the cache is asked before pip is."""
    with pytest.raises(SystemExit, match="no pin with one sha256"):
        build_zipapp.pins(f"# comment\n{line}\n")


# --- krew ---------------------------------------------------------------------------------------


def assert_krew_takes(manifest: Any) -> None:
    """Check what krew checks (internal/index/validation/validate.go, pkg/installation), and more:

    the limits that krew-index sets on texts, and that every path is clean.
    """
    assert manifest["apiVersion"] == "krew.googlecontainertools.github.com/v1alpha2"
    assert manifest["kind"] == "Plugin"
    assert re.fullmatch(r"[\w-]+", manifest["metadata"]["name"])
    spec = manifest["spec"]
    assert re.fullmatch(r"v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", spec["version"])
    assert re.fullmatch(r"[^\r\n]{1,50}", spec["shortDescription"])
    assert max(map(len, (spec["description"] + spec["caveats"]).splitlines())) <= 80
    [platform] = spec["platforms"]
    [expression] = platform["selector"]["matchExpressions"]
    assert expression == {"key": "os", "operator": "In", "values": ["darwin", "linux"]}
    assert re.fullmatch(r"[0-9a-f]{64}", platform["sha256"])
    assert re.fullmatch(r"https://\S+/(v[^/]+)/kubectl-podcp-\1\.tar\.gz", platform["uri"])
    for operation in platform["files"]:
        for path in (operation["from"], operation["to"]):
            assert str(PurePosixPath(path)) == path
            assert not path.startswith(("/", ".."))
    assert platform["bin"] in [operation["from"] for operation in platform["files"]]


def test_the_manifest_in_the_tree_is_one_that_krew_takes() -> None:
    """Also before the first release."""
    manifest = yaml.safe_load((ROOT / "plugin.yaml").read_text())
    assert_krew_takes(manifest)
    assert manifest["metadata"]["name"] == "podcp"
    assert manifest["spec"]["caveats"] == (
        "This plugin needs the following programs:\n* python3 (3.10 or later)\n"
    )


def test_a_release_is_an_archive_and_a_manifest_that_agree(tmp_path: Path) -> None:
    """Version, address and sha256; nothing else of the manifest changes, however often."""
    tree = tree_at(tmp_path / "tree", SMALL_PROGRAM)
    (tree / "kubectl_podcp" / "_version.py").write_text('__version__ = "12.3.4"\n')
    before = (tree / "plugin.yaml").read_text()
    built(tree, "--release")
    text = (tree / "plugin.yaml").read_text()
    manifest = yaml.safe_load(text)
    archive = tree / "dist" / "kubectl-podcp-v12.3.4.tar.gz"
    [platform] = manifest["spec"]["platforms"]
    assert_krew_takes(manifest)
    assert manifest["spec"]["version"] == "v12.3.4"
    assert platform["uri"].endswith("/v12.3.4/kubectl-podcp-v12.3.4.tar.gz")
    assert platform["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    pairs = zip(before.splitlines(), text.splitlines(), strict=True)
    changed = [old.split(":")[0].strip() for old, new in pairs if old != new]
    assert changed == ["version", "uri", "sha256"]
    built(tree, "--release")
    assert (tree / "plugin.yaml").read_text() == text


def test_the_release_holds_the_program_and_the_licence_alone(tmp_path: Path) -> None:
    """Regular files of nobody, the program one that can be executed."""
    tree = tree_at(tmp_path / "tree", SMALL_PROGRAM)
    program = built(tree, "--release")
    data = (tree / "dist" / f"kubectl-podcp-v{__version__}.tar.gz").read_bytes()
    assert data[4:8] == bytes(4), "gzip's own time"
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(data))) as archive:
        members = archive.getmembers()
        assert {member.name: member.mode for member in members} == {
            "LICENSE": 0o644,
            "kubectl-podcp": 0o755,
        }
        assert all(member.isreg() for member in members)
        assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {
            (0, 0, "", "")
        }
        packed = archive.extractfile("kubectl-podcp")
        assert packed is not None
        assert packed.read() == program.read_bytes()


def test_a_manifest_with_two_platforms_is_not_guessed_at() -> None:
    """One line of each key, or the release stops."""
    manifest = 'uri: "a"\nuri: "b"\n'
    with pytest.raises(SystemExit, match="2 lines give uri"):
        build_zipapp.stated(manifest, {"uri": "c"})
