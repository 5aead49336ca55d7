"""What becomes of files that stand where a copy puts its own: kept, backed up, or asked about.

In: a request, and the names that the listings of both ends have in common. Out: which of them stay,
and the rules by which a destination's shell puts the copy in place. No I/O but that of whoever is
asked. Raises :class:`~kubectl_podcp.errors.DestinationRefused` where nobody can be.
"""

from __future__ import annotations

from dataclasses import replace

from kubectl_podcp import paths
from kubectl_podcp.errors import DestinationRefused, printable
from kubectl_podcp.paths import Placement, PodPath
from kubectl_podcp.remote.scripts import MOST_WORDS, Rules, words
from kubectl_podcp.request import SUFFIX, CopyRequest
from kubectl_podcp.update import Current

WITHOUT = "--no-clobber keeps what is there, --backup keeps what is replaced under another name"


class Overwriting:
    """The rules of one copy. What was answered once is not asked again.

    :param top: the source's own name, with which the listings' names begin.
    """

    def __init__(self, request: CopyRequest, top: bytes) -> None:
        self._request = request
        self._top = top
        self._answers: dict[bytes, bool] = {}

    def kept(self, found: Current, placement: Placement) -> Current:
        """Return ``found`` with the files that need not be sent, since what is there stays.

        Files with several names are sent: tar makes links only between members of one archive.

        :raises DestinationRefused: they are too many to be asked about.
        """
        if not self._request.keeps or found.source is None:
            return found
        if self._request.interactive is not None:
            self._ask(found.clashing, placement)
        kept = frozenset(
            name
            for name in found.clashing
            if not self._answers.get(name) and found.source[name].is_lone_file
        )
        return replace(found, names=found.names | kept, kept=kept)

    def unlisted(self) -> DestinationRefused:
        """Return the error where it is not known what there is to ask about."""
        return DestinationRefused(
            "what is there could not be compared (it is too much, or some of it cannot be read), "
            "so nobody can be asked about it",
            advice=WITHOUT,
        )

    def rules(self) -> Rules | None:
        """Return the rules; None where whatever is there is replaced."""
        request = self._request
        if not request.spares:
            return None
        only = tuple(name for name, answer in self._answers.items() if answer)
        suffix = SUFFIX if request.suffix is None else request.suffix
        return Rules(request.backup, suffix, only if request.keeps else None)

    def _ask(self, names: tuple[bytes, ...], placement: Placement) -> None:
        if len(words(names)) > MOST_WORDS:
            raise DestinationRefused(
                f"{len(names):,} files are there already, too many to ask about one by one",
                advice=WITHOUT,
            )
        destination = self._request.destination
        where = f"{destination.owner}:" if isinstance(destination, PodPath) else ""
        assert self._request.interactive is not None
        for name in names:
            if name not in self._answers:
                below = name[len(self._top) + 1 :]
                path = paths.join(placement.path, below) if below else placement.path
                self._answers[name] = self._request.interactive(f"{where}{printable(path)}")
