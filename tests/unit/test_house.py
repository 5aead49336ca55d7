"""The house: which module may import which, and what only one room may hold.

The tables below are the drawing; the code is compared with them, function-level imports and those
for type checkers included. A new arrow, a new library, and a permission that nobody uses any
more all fail: change the drawing when you mean to change the house.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "kubectl_podcp"
ROOT = Path(__file__).parents[2] / PACKAGE

ARROWS = {
    # A part, and those that it may import. Every arrow points up this table.
    "_version": "",
    "errors": "",
    "logs": "errors",
    "paths": "errors",
    "overrides": "errors",
    "ignore": "",
    "selection": "errors ignore",
    "lists": "errors ignore",
    "bandwidth": "errors",
    "compression": "errors",
    "exec": "errors logs",
    "remote": "errors ignore paths",
    "cluster": "_version errors exec logs overrides",
    "printer": "",
    "outputs": "",
    "ends": "cluster errors exec logs remote",
    "hints": "",
    "globs": "ends errors paths remote",
    "standard": "ends errors exec",
    "signals": "errors",
    "fidelity": "errors",
    "modes": "errors",
    "request": "errors fidelity modes overrides paths selection",
    "archive": "errors fidelity modes",
    "report": "archive errors",
    "progress": "report",
    "pulse": "errors progress report",
    "items": "archive errors",
    "document": "errors report",
    "changes": "archive errors remote",
    "owners": "errors remote",
    "remainder": "archive errors remote",
    "resume": "archive remainder remote",
    "update": "archive fidelity remote",
    "gauge": "ends errors exec paths remote",
    "packing": "compression ends errors gauge paths remote report request",
    "plan": "archive cluster ends errors fidelity logs overrides packing paths remote request",
    "arguments": "_version bandwidth errors fidelity hints lists modes overrides paths request",
    "sink": "archive bandwidth errors exec remote",
    "relay": "archive errors exec remote sink",
    "digest": "ends errors exec paths remainder remote sink",
    "compare": "digest ends errors paths plan remote update",
    "verify": "archive digest errors plan remainder remote report",
    "attempt": "archive bandwidth changes compression ends errors exec fidelity modes owners plan "
    "relay remainder remote report selection sink verify",
    "streaming": "archive attempt cluster ends errors exec fidelity packing paths plan "
    "relay remote request sink standard",
    "rehearsal": "attempt ends errors exec paths plan",
    "overwriting": "errors paths remote request update",
    "tries": "archive attempt compare digest errors fidelity logs overwriting paths plan relay "
    "remainder remote report resume selection sink standard streaming update verify",
    "copy": "cluster plan rehearsal report request streaming tries",
    "sources": "cluster copy ends errors globs paths plan request",
    "fanout": "attempt cluster copy errors paths plan rehearsal report request sources tries",
    "copies": "cluster copy errors fanout paths plan rehearsal report request sources",
    "__init__": "_version copies copy errors overrides report request",
    "cli": "arguments copies document errors items logs outputs printer progress pulse rehearsal "
    "report signals",
    "__main__": "cli",
}

ORDER = {
    # Within a package, each module imports only modules before it.
    "archive": "headers tape sparse members seen safety wrapping rewriting follower splice "
    "contents spelling",
    "cluster": "entries credentials certificates impersonation plugin proxies access "
    "overriding kubeconfig api objects workloads pods",
    "exec": "deadline nonblocking channels frames trace masking refusals tunnel tls records stream "
    "handshake session lease process inlet outlet inflating",
    "remote": "scripts feed listing circles records digests probe",
}

LIBRARIES = {
    # What is not in Python's own library, and who alone imports it.
    "kubernetes": "cluster.kubeconfig",
    "yaml": "cluster.kubeconfig",  # a need of kubernetes
    "certifi": "cluster.kubeconfig",  # a need of kubernetes
    "websocket": "exec.session",
    "_typeshed": "cluster.api",  # for type checkers only
}

ALONE = {
    # Parts of Python's library that few may use.
    "subprocess": "cluster.plugin exec.process",
    "websocket": "exec.session",
    "kubernetes": "cluster.kubeconfig",
    "argparse": "arguments",
    "signal": "cli exec.outlet exec.process signals",
    "queue": "exec.outlet fanout plan relay signals sink",
    "socket": "cluster.api exec.stream exec.tls exec.tunnel",
    "threading": "bandwidth cluster.credentials exec.lease exec.stream exec.tunnel fanout "
    "outputs plan progress pulse relay signals sink tries",
}

PURE = (
    "_version errors paths overrides ignore selection modes fidelity request report "
    "exec.channels exec.frames "
    "exec.refusals archive.headers archive.tape archive.sparse archive.members archive.safety "
    "archive.seen "
    "archive.follower archive.splice remote.scripts remote.feed remote.listing remote.digests "
    "remote.probe remote.records changes owners remainder resume update archive.wrapping "
    "archive.contents archive.rewriting archive.spelling remote.circles"
)
"""They decide and do nothing: bytes and facts in, bytes and facts out."""

PURE_LIBRARY = (
    "__future__ array collections collections.abc dataclasses enum functools hashlib json re stat "
    "struct typing unicodedata zlib"
)
"""What they may import of Python's library: nothing that waits, asks, or touches a file."""

PURE_EXCEPTIONS = {("paths", "os")}  # os.fsencode alone

SAYS = re.compile(
    r"""(?x)
      >\s*/dev/null | 2>&1 | \$\( | "\$ | \$\{ | \btrap\s+'
    | ^\s*(if|while|until)\s.*;\s*(then|do)\b
    | \b(tar|dd|cat|rm|mv|mkdir|chmod|chown|stat|kill|touch)\s+(-|[xc]p?f\s|bs=|u[+-])
    """,
    re.MULTILINE,
)
"""Looks like a line of shell."""


@dataclass
class Module:
    """What the source of a module says.

    :ivar inside: modules of the package that it imports, as they are named here.
    :ivar outside: other modules that it imports, by their full names.
    :ivar strings: its string constants, docstrings aside.
    :ivar names: builtins and attributes that it mentions.
    """

    inside: set[str] = field(default_factory=set)
    outside: set[str] = field(default_factory=set)
    strings: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)


House = Mapping[str, Module]
Rule = Callable[[House], list[str]]


def read(sources: Mapping[str, str]) -> House:
    """Return what the modules say, by their names within the package."""
    return {name: _read(name, text, sources) for name, text in sources.items()}


def _read(name: str, text: str, modules: Mapping[str, str]) -> Module:
    module = Module()
    tree = ast.parse(text)
    documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for imported in _imported(name, node):
                _note(module, imported, modules)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in documents:
                module.strings.append(node.value)
        elif isinstance(node, ast.Name):
            module.names.add(node.id)
        elif isinstance(node, ast.Attribute):
            module.names.add(node.attr)
    return module


def _imported(name: str, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Yield the full names that a statement imports; what is in a module counts as a part of it."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    assert node.level == 0, f"{name} imports relatively; write {PACKAGE}.…"
    yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _note(module: Module, imported: str, modules: Mapping[str, str]) -> None:
    top, _, rest = imported.partition(".")
    if top != PACKAGE:
        module.outside.add(imported)
        return
    while rest and rest not in modules:
        rest = rest.rpartition(".")[0]
    module.inside.add(rest or "__init__")


def part(name: str) -> str:
    """Return the part of the house in which a module is."""
    return name.partition(".")[0]


def sources() -> dict[str, str]:
    """Return the text of every module, by its name within the package."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        steps = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(steps[:-1] if steps[-1] == "__init__" and len(steps) > 1 else steps)
        found[name] = path.read_text(encoding="utf-8")
    return found


# The rules: each returns what offends it.


def new_arrows(house: House) -> list[str]:
    """Imports that the drawing does not allow, between parts and within them."""
    offending = []
    for name, module in house.items():
        for other in module.inside:
            if part(other) != part(name):
                allowed = part(other) in ARROWS.get(part(name), "").split()
            else:
                order = [part(name), *(f"{part(name)}.{m}" for m in ORDER[part(name)].split())]
                allowed = order.index(other) < order.index(name)
            if not allowed:
                offending.append(f"{name} imports {other}")
    return sorted(offending)


def unused_arrows(house: House) -> list[str]:
    """Arrows of the drawing that no import follows."""
    drawn = {(name, other) for name, others in ARROWS.items() for other in others.split()}
    followed = {(part(name), part(other)) for name, it in house.items() for other in it.inside}
    return sorted(f"{name} no longer imports {other}" for name, other in drawn - followed)


def cycles(house: House) -> list[str]:
    """A ring of modules that import each other, if there is one."""
    try:
        TopologicalSorter({name: module.inside for name, module in house.items()}).prepare()
    except CycleError as error:
        return [" imports ".join(reversed(error.args[1]))]
    return []


def strange_libraries(house: House) -> list[str]:
    """Imports of what is neither ours nor Python's, by anybody but the one who may."""
    return sorted(
        f"{name} imports {imported}"
        for name, module in house.items()
        for imported in module.outside
        if part(imported) not in sys.stdlib_module_names
        if LIBRARIES.get(part(imported)) != name
    )


def intruders(house: House) -> list[str]:
    """Imports of what only a few may import."""
    return sorted(
        f"{name} imports {imported}"
        for name, module in house.items()
        for imported in module.outside
        if name not in ALONE.get(part(imported), name).split()
    )


def impurities(house: House) -> list[str]:
    """What reaches out of the modules that must not."""
    offending = set()
    pure = PURE_LIBRARY.split()
    for name in PURE.split():
        for imported in house[name].outside:
            library = imported if imported in pure else imported.rpartition(".")[0] or imported
            if library not in pure and (name, library) not in PURE_EXCEPTIONS:
                offending.add(f"{name} imports {library}")
        for called in house[name].names & {"open", "print", "input", "__import__", "environ"}:
            offending.add(f"{name} says {called}")
        for other in house[name].inside:
            if other not in (*PURE.split(), *ORDER):
                offending.add(f"{name} imports {other}, which is not pure")
    return sorted(offending)


def shell_lines(house: House) -> list[str]:
    """Modules besides the one for it that hold lines of shell, or run some."""
    offending = [
        f"{name} holds shell: {text.strip()[:40]!r}"
        for name, module in house.items()
        if name != "remote.scripts"
        for text in module.strings
        if SAYS.search(text)
    ]
    for name, module in house.items():
        if name != "ends" and {"sh", "-c"} <= set(module.strings):
            offending.append(f"{name} runs sh -c")
        for banned in module.names & {"system", "popen", "execvp", "spawnvp", "posix_spawn"}:
            offending.append(f"{name} says {banned}")
    return sorted(offending)


RULES: list[Rule] = [
    new_arrows,
    unused_arrows,
    cycles,
    strange_libraries,
    intruders,
    impurities,
    shell_lines,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__.replace("_", " "))
def test_the_house_keeps(rule: Rule) -> None:
    assert rule(read(sources())) == []


def test_every_module_is_in_the_drawing() -> None:
    drawn = {*ARROWS, *(f"{name}.{m}" for name, order in ORDER.items() for m in order.split())}
    assert set(sources()) == drawn


def test_every_arrow_points_up() -> None:
    names = list(ARROWS)
    for name, others in ARROWS.items():
        for other in others.split():
            assert names.index(other) < names.index(name), f"{name} stands above {other}"


@pytest.mark.parametrize("table", [LIBRARIES, ALONE], ids=["libraries", "alone"])
def test_whoever_is_allowed_an_import_has_it(table: Mapping[str, str]) -> None:
    house = read(sources())
    for library, names in table.items():
        for name in names.split():
            assert library in {part(imported) for imported in house[name].outside}, name


def test_the_order_in_exec_is_the_one_that_it_tells() -> None:
    told = re.findall(r"^    (\w+) ", sources()["exec"], re.MULTILINE)
    assert " ".join(told) == ORDER["exec"]


def test_what_the_containers_run_is_recognised_as_shell() -> None:
    """Else the rule about shell lines could not fail."""
    found = [text for text in read(sources())["remote.scripts"].strings if SAYS.search(text)]
    assert len(found) >= 8


@pytest.mark.parametrize(
    ("name", "planted", "rule", "offence"),
    [
        ("errors", "from kubectl_podcp.paths import parse", new_arrows, "errors imports paths"),
        ("errors", "from kubectl_podcp import paths", new_arrows, "errors imports paths"),
        ("errors", "import kubectl_podcp.paths", new_arrows, "errors imports paths"),
        ("cli", "def f():\n  from kubectl_podcp import relay", new_arrows, "cli imports relay"),
        ("relay", "from kubectl_podcp import copy", new_arrows, "relay imports copy"),
        ("relay", "from kubectl_podcp import Report", new_arrows, "relay imports __init__"),
        (
            "exec.channels",
            "if TYPE_CHECKING:\n  from kubectl_podcp.exec.session import Closed",
            new_arrows,
            "exec.channels imports exec.session",
        ),
        (
            "archive.headers",
            "from kubectl_podcp.exec import tls",
            new_arrows,
            "archive.headers imports exec.tls",
        ),
        ("paths", "def f(): import kubectl_podcp.request", cycles, "paths imports request"),
        ("copy", "import kubernetes.client", strange_libraries, "copy imports kubernetes.client"),
        ("relay", "import websocket", strange_libraries, "relay imports websocket"),
        ("cluster.api", "import requests", strange_libraries, "cluster.api imports requests"),
        ("copy", "def f(): import subprocess", intruders, "copy imports subprocess"),
        ("exec.channels", "import threading", impurities, "exec.channels imports threading"),
        ("archive.tape", "from os import path", impurities, "archive.tape imports os"),
        ("archive.tape", "from time import sleep", impurities, "archive.tape imports time"),
        ("remote.probe", "def f(): open('x')", impurities, "remote.probe says open"),
        ("copy", "SCRIPT = 'tar xf - -C x'", shell_lines, "copy holds shell"),
        ("relay", "run(['sh', '-c', 'true'])", shell_lines, "relay runs sh -c"),
        ("cli", "os.system('true')", shell_lines, "cli says system"),
    ],
)
def test_a_planted_offence_is_found(name: str, planted: str, rule: Rule, offence: str) -> None:
    """The rules can fail."""
    texts = sources()
    texts[name] += f"\n{planted}\n"
    assert any(offence in found for found in rule(read(texts)))
