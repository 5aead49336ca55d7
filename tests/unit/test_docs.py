"""What the documents promise is what the tests check."""

from __future__ import annotations

import re
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from tests.end_to_end import fidelity
from tests.end_to_end.faults import document
from tests.end_to_end.faults.table import FAULTS

ROOT = Path(__file__).parents[2]


def test_every_limit_of_a_tar_is_documented_and_no_other() -> None:
    """The list in docs/fidelity.md is the list by which the end-to-end suite compares trees."""
    text = (ROOT / "docs/fidelity.md").read_text(encoding="utf-8")
    section = text.split("## Limits of a destination's tar", 1)[1].split("\n## ", 1)[0]
    items = [" ".join(item.split()) for item in re.findall(r"^- (.+(?:\n  .+)*)", section, re.M)]
    assert [item.rstrip(".") for item in items] == list(fidelity.LIMITS)


def test_every_fault_is_documented_as_each_cluster_showed_it() -> None:
    """The end-to-end suite compares the rows with what it sees; here none may be missing."""
    wanted = {
        (entry.name, cluster, version)
        for entry in FAULTS
        for cluster in entry.clusters
        for version in ("v5", "v4")
    }
    assert {row.key for row in document.read()} == wanted


def test_the_tests_that_the_documents_name_are_there() -> None:
    tests = "".join(path.read_text("utf-8") for path in ROOT.glob("tests/**/test_*.py"))
    named = {
        name
        for document in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
        for name in re.findall(r"`(test_\w+)`", document.read_text("utf-8"))
    }
    assert [name for name in sorted(named) if f"def {name}(" not in tests] == []
    assert len(named) > 20


PACKAGES = ("", ".archive", ".cluster", ".exec", ".remote")
FILES = ("json", "md", "py", "sh", "txt", "yaml")


def test_what_the_documents_name_in_our_modules_is_there() -> None:
    """As `tries.Tries._commit`: what begins with no module of ours is something else's."""
    named = {
        name
        for document in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"))
        for name in re.findall(r"`([a-z_/]+(?:\.[A-Za-z_]+)+)`", document.read_text("utf-8"))
        if name.rpartition(".")[2] not in FILES
    }
    found = {name: _is_there(*name.rpartition("/")[2].split(".")) for name in named}
    assert [name for name, is_there in sorted(found.items()) if is_there is False] == []
    assert list(found.values()).count(True) > 10


def _is_there(module: str, *names: str) -> bool | None:
    """Whether a module of ours has such a name; None where none is called so."""
    for package in PACKAGES:
        with suppress(ModuleNotFoundError):
            found: object = import_module(f"kubectl_podcp{package}.{module}")
            for name in names:
                found = getattr(found, name, None)
            return found is not None
    return None


def test_links_between_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("tests/**/*.md")]
    broken = [
        f"{document.relative_to(ROOT)}: {target}"
        for document in documents
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text("utf-8"))
        if not (document.parent / target).exists()
    ]
    assert broken == []
