"""What must hold after a run, whatever went wrong in it.

In go a case, what both ends were, what the destination is, and how the client ended. Raises
``AssertionError`` with the first thing that does not hold. No I/O.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tests.end_to_end import fidelity
from tests.end_to_end.trees import Entry, Tree
from tests.soak.cases import GENTLE, Case
from tests.soak.client import Run

MEMORY = 64 << 20
"""Bytes that the client may have resident at the most."""

_STAGING = re.compile(rb"\.podcp-[0-9a-f]{32}")
_SIGNAL_CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129, "SIGKILL": -9}

Entries = Mapping[bytes, Entry]


@dataclass(frozen=True)
class Ends:
    """What both ends were before the run, and what has to come of it.

    :ivar old: what the destination was.
    :ivar new: what it is after a complete copy; None where that cannot be.
    :ivar sent: names below the destination that come from the source.
    """

    old: Tree
    new: Tree | None
    sent: frozenset[bytes]
    userland: str
    timeless: frozenset[bytes]

    @classmethod
    def of(cls, case: Case, source: Tree, old: Tree) -> Ends:
        """Work out what a copy of ``source`` is to make of ``old``."""
        userland = case.pods[1].partition("-")[0]
        if case.prefix is None:
            return cls(old, None, frozenset(), userland, frozenset({b""}))
        top = _top(case.source)
        came = fidelity.comparable(_sent(case, source, top), userland)
        entries = {_below(case.prefix, name): entry for name, entry in came.entries.items()}
        # We stage beside what is new, and that is the time at which a directory was changed.
        timeless = frozenset({b"", case.prefix} if _is_directory(old, case.prefix) else {b""})
        fits = all(_fits(old.entries.get(name), entry) for name, entry in entries.items())
        links = frozenset(
            frozenset(_below(case.prefix, name) for name in names) for names in came.links
        )
        new = Tree(_merged(old.entries, entries), links | _kept(old.links, entries))
        return cls(old, new if fits else None, frozenset(entries), userland, timeless)

    def is_old(self, there: Tree) -> bool:
        """Whether the destination is what it was."""
        return self._timeless(there) == self._timeless(self.old)

    def is_new(self, there: Tree) -> bool:
        """Whether the destination has all of the copy, and what else it had."""
        return self.new is not None and not self.differences(there)

    def differences(self, there: Tree) -> list[str]:
        """Return what the destination has that a complete copy has not made, and reversely."""
        assert self.new is not None
        came, new = self._timeless(self._comparable(there)), self._timeless(self.new)
        names = sorted(came.entries.keys() | new.entries.keys())
        pairs = ((name, new.entries.get(name), came.entries.get(name)) for name in names)
        wrong = [f"{name!r} is {is_}, not {want}" for name, want, is_ in pairs if is_ != want]
        return [*wrong, *([] if came.links == new.links else [f"{came.links} not {new.links}"])]

    def is_mixture(self, there: Tree) -> bool:
        """Whether each name is as it was or as it was sent, and none is lost."""
        assert self.new is not None
        come, new = self._comparable(there).entries, self.new.entries
        for name in self.old.entries.keys() | there.entries.keys():
            if name not in there.entries:
                return False
            is_, old = there.entries[name], self.old.entries.get(name)
            if is_.kind == tarfile.DIRTYPE:
                whole = old is not None or name in new
            else:
                whole = is_ == old or come[name] == new.get(name)
            if not whole:
                return False
        return True

    def _comparable(self, tree: Tree) -> Tree:
        """Return a tree without what the destination's tar cannot restore of what was sent."""
        sent = {name: entry for name, entry in tree.entries.items() if name in self.sent}
        come = fidelity.comparable(Tree(sent, frozenset()), self.userland)
        return Tree({**tree.entries, **come.entries}, tree.links)

    def _timeless(self, tree: Tree) -> Tree:
        without = {
            name: tree.entries[name].without_time()
            for name in self.timeless
            if name in tree.entries
        }
        return Tree({**tree.entries, **without}, tree.links)


def staged(there: Tree) -> tuple[Tree, set[str]]:
    """Return a tree without staging folders, and the names of those."""
    folders = {each for name in there.entries for each in name.split(b"/") if _is_staging(each)}
    entries = {
        name: entry
        for name, entry in there.entries.items()
        if not any(map(_is_staging, name.split(b"/")))
    }
    links = (frozenset(name for name in names if name in entries) for names in there.links)
    return (
        Tree(entries, frozenset(names for names in links if len(names) > 1)),
        {each.decode() for each in folders},
    )


def check_words(case: Case, run: Run) -> None:
    """Check the exit code, what was said, and the memory."""
    said = run.stderr.decode("utf-8")
    raw = {each for each in said if not each.isprintable() and each != "\n"}
    assert not raw, f"raw on stderr: {raw}"
    assert "Traceback" not in said and "a bug in" not in said, said
    assert "left behind" not in said, said
    assert run.stdout == b"", run.stdout
    if not case.is_library:
        assert run.memory <= MEMORY, f"{run.memory:,} bytes resident"
    if run.code == 0:
        assert re.search(r"^complete: ", said, re.M), "exit code 0 without a word"
        return
    # An error may say that "the copy is complete", of one that a signal ended too late to matter.
    others = said.replace("\nthe copy is complete: ", "\n")
    assert "complete: " not in others, "complete, and an exit code that is not 0"
    allowed = {1, 4, _SIGNAL_CODES.get(case.fault.kind, 1)}
    assert run.code in allowed, f"exit code {run.code}"
    assert run.code == -9 or re.search(r"^error: \S", said, re.M), "no reason"


def check_end(case: Case, run: Run, ends: Ends, there: Tree, folders: set[str]) -> None:
    """Check what is on the destination against what was said of it."""
    said = run.stderr.decode("utf-8")
    if run.code == 0:
        assert ends.new is not None, "complete, where it should have been refused"
        assert ends.is_new(there), "complete, but " + "; ".join(ends.differences(there)[:5])
        assert not folders, f"complete, but {folders} is left"
        return
    if case.fault.kind in GENTLE:
        assert ends.new is None, "failed without a fault"
    _check_failed(case, ends, there, said if run.code != -9 else "not known")
    named = set(re.findall(r"\.podcp-[0-9a-f]{32}", said))
    if run.code == -9:
        assert not folders or ((case.keeps or case.retries) and len(folders) == 1), folders
    elif "is kept in" in said:
        assert folders == named, f"{named} is said to be kept, but {folders} is there"
    elif "remove " in said:
        assert folders <= named, f"{folders} is left, and only {named} was named"
    else:
        assert not folders, f"{folders} is left without a word"


def _check_failed(case: Case, ends: Ends, there: Tree, said: str) -> None:
    is_old, is_new = ends.is_old(there), ends.is_new(there)
    if "is not known" in said or said == "not known":
        killed = case.fault.kind == "destination's shell" or case.fault.kind == "end early"
        mixed = killed and ends.new is not None and ends.is_mixture(there)
        assert is_old or is_new or mixed, "neither the old nor the new one"
    elif "has some of the new files" in said:
        assert ends.is_mixture(there), "not each file is old or new, and whole"
    elif "the copy is complete" in said:
        assert is_new, "said to be the new one, but " + "; ".join(ends.differences(there)[:5])
    else:
        assert is_old, "changed by a copy that failed"


def _top(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    first, _ = next(iter(members))
    return first.name.encode("utf-8", "surrogateescape")


def _sent(case: Case, source: Tree, top: bytes) -> Tree:
    """Return what of the source arrives, its top under the empty name: docs/fidelity.md."""
    to_1970 = case.pods[0].startswith("busybox") or case.pods[1].startswith("toybox")
    entries = {}
    for name, entry in source.entries.items():
        if name != top and not name.startswith(top + b"/"):
            continue
        if entry.kind != tarfile.DIRTYPE:
            entry = replace(entry, mode=entry.mode & 0o1777)
        if entry.mtime < 0 and to_1970:
            entry = replace(entry, mtime=0)
        entries[name[len(top) + 1 :]] = entry
    return Tree(
        entries,
        frozenset(frozenset(name[len(top) + 1 :] for name in names) for names in source.links),
    )


def _merged(old: Entries, came: Entries) -> dict[bytes, Entry]:
    """A directory that exists keeps its mode and owner."""
    made = dict(old)
    for name, entry in came.items():
        if name in old and entry.kind == tarfile.DIRTYPE:
            made[name] = replace(old[name], mtime=entry.mtime)
        else:
            made[name] = entry
    return made


def _kept(links: frozenset[frozenset[bytes]], came: Entries) -> frozenset[frozenset[bytes]]:
    """Return the groups of names that are still one file."""
    left = (frozenset(name for name in names if name not in came) for names in links)
    return frozenset(names for names in left if len(names) > 1)


def _fits(old: Entry | None, new: Entry) -> bool:
    return old is None or (old.kind == tarfile.DIRTYPE) == (new.kind == tarfile.DIRTYPE)


def _is_directory(tree: Tree, name: bytes) -> bool:
    return name in tree.entries and tree.entries[name].kind == tarfile.DIRTYPE


def _below(prefix: bytes, name: bytes) -> bytes:
    return prefix + b"/" + name if name else prefix


def _is_staging(word: bytes) -> bool:
    return _STAGING.fullmatch(word) is not None
