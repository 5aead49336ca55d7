"""Whether the files that were unpacked are what went through the relay.

In go the digests of contents as they passed, in all attempts of one copy, and those that the
destination's shell says when it reads every file again. A difference raises
:class:`~kubectl_podcp.errors.Mismatch`, before anything has replaced anything. The source's shell
is asked for digests of what did not pass: files that were there from an earlier run, and the file
of which only the rest was sent.
"""

from __future__ import annotations

from collections.abc import Iterator

from kubectl_podcp import digest
from kubectl_podcp.archive.follower import Hashed
from kubectl_podcp.archive.headers import HARD_LINK, Member
from kubectl_podcp.errors import Mismatch, ServerError, printable
from kubectl_podcp.plan import Plan
from kubectl_podcp.remainder import Remainder
from kubectl_podcp.remote.scripts import Staging
from kubectl_podcp.report import Tally


class Ledger:
    """The digests of the files of one copy, by name: some 200 bytes for each are held in memory.

    Written by the relay's source reader while an attempt runs, and by the caller between two.

    :ivar size: bytes of all of the files.
    :ivar unknown: files that need not pass and whose digest is not known, with their sizes.
    """

    def __init__(self) -> None:
        self.size = 0
        self.unknown: dict[bytes, int] = {}
        self._part: bytes | None = None
        self._digests: dict[bytes, bytes] = {}

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._digests)

    def __len__(self) -> int:
        return len(self._digests)

    def begin(self, remainder: Remainder | None) -> None:
        """Begin an attempt: forget all files but those that are whole at the destination."""
        old, self._digests = self._digests, {}
        self.unknown, self._part, self.size = {}, None, 0
        if remainder is None:
            return
        for name in remainder.whole:
            if name in old:
                self._digests[name] = old[name]
            else:
                self.unknown[name] = remainder.source[name].size
            self.size += remainder.source[name].size
        if remainder.part is not None:
            self._part = remainder.part.name
            self.unknown[self._part] = remainder.source[self._part].size
            self.size += self.unknown[self._part]

    def forget(self) -> None:
        """Forget what has passed: it was another source's."""
        self._digests = {}

    def adopt(self, other: Ledger) -> None:
        """Take over what has passed for several destinations at once. It is not copied: each of
        the ledgers makes its own with :meth:`begin`, before it changes anything."""
        self._digests, self.size = other._digests, other.size

    def note(self, item: object) -> None:
        """Note what the follower gave, if it says something of a file's contents."""
        if isinstance(item, Hashed) and item.member.name != self._part:
            self._digests[item.member.name] = item.digest
            self.size += item.member.size
        elif isinstance(item, Member) and item.type == HARD_LINK:
            digest = self._digests.get(item.linkname)
            if digest is not None:
                self._digests[item.name] = digest

    def learn(self, name: bytes, digest: bytes) -> None:
        """Take a digest that was unknown."""
        if self.unknown.pop(name, None) is not None:
            self._digests[name] = digest

    def difference(self, name: bytes, digest: bytes) -> str:
        """Return what is wrong with a file that is there; empty where nothing is."""
        passed = self._digests.get(name)
        if passed == digest:
            return ""
        if passed is None:
            return f"'{printable(name)}' was unpacked, but never passed"
        return (
            f"'{printable(name)}' is not what passed: its sha256 is {digest.hex()[:12]}…, "
            f"and was {passed.hex()[:12]}…"
        )


def ask_source(plan: Plan, ledger: Ledger) -> None:
    """Ask the source for the digests that are unknown.

    :raises ServerError: it does not say all of them.
    """
    unknown = dict(ledger.unknown)
    for name, told in digest.of_named(
        plan.source, plan.found.facts.directory, unknown, plan.found.sha256
    ):
        ledger.learn(name, told)
    if ledger.unknown:
        missing = printable(min(ledger.unknown))
        raise ServerError(f"the source did not say the sha256 of '{missing}'")


def check(plan: Plan, staging: Staging, ledger: Ledger, tally: Tally) -> None:
    """Let the destination read all that it has unpacked, and compare.

    :raises Mismatch: something differs, or is missing.
    """
    equal, wrong, first = 0, 0, ""
    for name, told in digest.of_staged(plan.target, staging, ledger.size, plan.there.sha256):
        tally.read_again += 1
        difference = ledger.difference(name, told)
        if difference:
            wrong, first = wrong + 1, first or difference
        else:
            equal += 1
    if not wrong and equal != len(ledger):
        first = f"of {len(ledger):,} files that passed, {equal:,} were read again"
    elif wrong > 1:
        first += f"; {wrong:,} files differ"
    if first:
        raise Mismatch(
            first, advice="Something altered it there: suspect tar, the disk or the memory."
        )
