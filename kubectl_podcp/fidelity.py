"""What of a file a copy keeps: the words of ``--preserve``, ``--no-preserve`` and ``--chown``.

In: those words. Out: a set of attributes, or numbers. No I/O. Raises
:class:`~kubectl_podcp.errors.UsageError`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from kubectl_podcp.errors import UsageError, printable

MODE, OWNERSHIP, TIMESTAMPS, LINKS = "mode", "ownership", "timestamps", "links"
SETUID = "setuid"
"""setuid and setgid of files, which a mode that was not asked for is kept without."""
FRACTIONS = "fractions of times"
"""What of a time is below a second: it makes each member two blocks longer, so it is asked for."""
MASKED = "masked mode"
"""The mode but for what the umask takes off, as ``kubectl cp --no-preserve`` has it."""
DEVICES = "devices"
XATTR = "extended attributes"
"""Those that users give their files (``user.*``): others are rights, or the system's own."""
XATTR_OR_NOTHING = "extended attributes, or no copy"

KEPT = frozenset({MODE, OWNERSHIP, TIMESTAMPS, LINKS})
"""What is kept where nothing is said."""

EVERYTHING = KEPT | {SETUID, FRACTIONS, DEVICES, XATTR}
"""What ``--preserve=all`` keeps."""

_MEANT = {
    # Of GNU cp's words, what each stands for.
    "mode": frozenset({MODE, SETUID}),
    "ownership": frozenset({OWNERSHIP}),
    "timestamps": frozenset({TIMESTAMPS, FRACTIONS}),
    "links": frozenset({LINKS}),
    "xattr": frozenset({XATTR, XATTR_OR_NOTHING}),
    "all": EVERYTHING,
}

_ELSEWHERE = {
    "context": "security labels belong to the node that a file is on: "
    "let the destination's own policy set them",
}

MAX_ID = 2**32 - 2

Preserved = frozenset[str]
Owner = tuple[int | None, int | None]


WORDS = frozenset(_MEANT)
"""What a list may hold."""


def preserved(words: Iterable[tuple[bool, str]]) -> Preserved:
    """Return what is kept where the command line says ``words``, of which a later one wins.

    :param words: whether it is ``--preserve``, and its list; an empty one is that of GNU cp, or of
        ``kubectl cp --no-preserve``.
    :raises UsageError: a list has another word.
    """
    kept = set(KEPT)
    for keep, said in words:
        if said == "false" and not keep:  # kubectl's is a flag
            continue
        if keep:
            for word in (said or "mode,ownership,timestamps").split(","):
                kept |= _meant("--preserve", word)
                kept -= {MASKED} if MODE in kept else set()
        elif said in ("", "true"):
            kept -= {MODE, SETUID, OWNERSHIP}
            kept.add(MASKED)
        else:
            for word in said.split(","):
                gone = _meant("--no-preserve", word)
                kept -= gone | ({MASKED} if MODE in gone else set())
    return frozenset(kept)


def _meant(flag: str, word: str) -> Preserved:
    if word in _MEANT:
        return _MEANT[word]
    if flag == "--no-preserve" and word in _ELSEWHERE:
        return frozenset()
    raise UsageError(
        f"{flag} cannot take '{printable(word)}'",
        advice=_ELSEWHERE.get(word, f"it takes a list of {', '.join(_MEANT)}"),
    )


def owner(text: str) -> Owner:
    """Return the user and group that ``--chown`` names; None for what it leaves as it is.

    :raises UsageError: they are no numbers.
    """
    match = re.fullmatch(r"([0-9]{1,10})?(?::([0-9]{1,10})?)?", text)
    said = match.groups() if match else (None, None)
    uid, gid = (None if each is None else int(each) for each in said)
    if max(-1 if uid is None else uid, -1 if gid is None else gid) in range(MAX_ID + 1):
        return uid, gid
    raise UsageError(
        f"'{printable(text)}' for --chown is no UID[:GID]",
        advice="names mean somebody else in each container: write numbers, as 'id' there says them",
    )
