"""What somebody may have meant whose command line cannot be read.

In: argparse's message, and the options that there are. Out: advice, which may be empty. No I/O.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_WHOLE = "a directory is copied with all that is in it"
_KEPT = "modes, times and links are kept without it"

HABITS = {
    # Options of cp, scp and rsync that this has not, and why nobody needs them.
    "-r": _WHOLE,
    "-R": _WHOLE,
    "--recursive": _WHOLE,
    "-a": _KEPT,
    "--archive": _KEPT,
    "-p": _KEPT,
    "-f": "a file of the same name is replaced without it",
    "--force": "a file of the same name is replaced without it",
    "--no-dereference": "links are copied as links without it",
    "-P": "links are copied as links without it",
    "--sparse": "holes of files are kept without it",
    "--delete": "nothing is ever deleted at the destination",
}

_NUMBERS = {"int": "a whole number", "float": "a number"}


_ALIKE = 0.75
"""Of 1; what is less alike is another word, and no slip."""


def hint(message: str, options: Iterable[str], prog: str) -> str:
    """Return what else could be written.

    :param message: argparse's.
    :param options: all names of options.
    :param prog: what the program is called.
    """
    what, _, words = message.partition(": ")
    if what == "unrecognized arguments":
        unknown = [word for word in words.split() if word.startswith("-")]
        return _instead(unknown[0], options) if unknown else ""
    if what == "the following arguments are required":
        return f"for example: {prog} ./photos shop/web-0:/data"
    flag = re.fullmatch(r"argument (?:\S+/)?(\S+): expected one argument", message)
    if flag is not None:
        return f"it takes a value; one that begins with '-' is written {flag[1]}=-x"
    value = re.match(
        r"argument (\S+): (invalid (int|float) value|ignored explicit argument)", message
    )
    if value is None:
        return ""
    names = value[1].split("/")
    forms = [each for each in options if "=" in each and each.partition("=")[0] in names]
    if forms:
        return f"write {value[1]}, {', '.join(forms[:-1])} or {forms[-1]}"
    kind = _NUMBERS.get(value[3] or "", "no value")
    return f"{value[1]} takes {kind}"


def _instead(word: str, options: Iterable[str]) -> str:
    import difflib  # it is slow to load, and few command lines are wrong

    name = word.partition("=")[0]
    habit = HABITS.get(name if name.startswith("--") else name[:2])
    if habit:
        return f"leave out {name}: {habit}"
    alike = difflib.get_close_matches(name, list(options), 1, _ALIKE)
    return f"did you mean {alike[0]}?" if alike and name.startswith("--") else ""
