r"""Patterns of names to leave out, as in a ``.gitignore`` file.

In: patterns, one a line. Out: whether a name is left out, and which names ``find`` need not look
at. No I/O, raises nothing: what is no pattern matches nothing, as with git.

The rules are those of gitignore(5). A pattern with a ``/`` that is not its last character is
matched against the whole path, seen from the top of what is copied; one without against the last
part of it. ``*`` and ``?`` do not match a ``/``; ``**`` between two does. A ``/`` at the end means
directories only, a ``!`` in front takes back what a pattern before has left out, a backslash takes
a character for itself. The last pattern that matches counts, and nothing that is in a directory
that is left out can be taken back. Names are bytes, as they are for git: ``?`` is one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_CLASSES = {
    b"alnum": rb"0-9A-Za-z",
    b"alpha": rb"A-Za-z",
    b"blank": rb" \t",
    b"cntrl": rb"\x00-\x1f\x7f",
    b"digit": rb"0-9",
    b"graph": rb"!-~",
    b"lower": rb"a-z",
    b"print": rb" -~",
    b"punct": rb"!-/:-@\[-`{-~",
    b"space": rb" \t\n\r\f\v",
    b"upper": rb"A-Z",
    b"xdigit": rb"0-9A-Fa-f",
}

_MOST_CACHED = 4096
"""Directories of which it is remembered whether they are left out."""


@dataclass(frozen=True, slots=True)
class _Pattern:
    form: re.Pattern[bytes]
    takes_back: bool
    directories_only: bool
    whole_path: bool

    def matches(self, path: bytes, *, is_directory: bool) -> bool:
        if self.directories_only and not is_directory:
            return False
        return bool(self.form.fullmatch(path if self.whole_path else path.rpartition(b"/")[2]))


@dataclass(frozen=True, slots=True)
class Prune:
    """What ``find`` need not look at.

    :ivar test: its test, ``-name`` or ``-path``.
    :ivar pattern: in its own language; of a path, seen from the top.
    :ivar directories_only: whether it is meant for directories alone.
    """

    test: str
    pattern: bytes
    directories_only: bool


class Patterns:
    """Patterns, in order."""

    def __init__(self, lines: Iterable[bytes] = ()) -> None:
        self._patterns: list[_Pattern] = []
        self._prunes: list[Prune] = []
        self._known: dict[bytes, bool] = {}
        for line in lines:
            self._add(line)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def leave_out(self, path: bytes, *, is_directory: bool) -> bool:
        """Whether ``path``, seen from the top, or a directory above it, is left out."""
        slash = path.find(b"/")
        while slash >= 0:
            if self._leaves_out_directory(path[:slash]):
                return True
            slash = path.find(b"/", slash + 1)
        return self._matches(path, is_directory=is_directory)

    @property
    def prunes(self) -> list[Prune]:
        """What is left out in any case, as far as ``find`` can be told so."""
        return list(self._prunes)

    def _leaves_out_directory(self, path: bytes) -> bool:
        known = self._known.get(path)
        if known is None:
            if len(self._known) >= _MOST_CACHED:
                self._known.clear()
            known = self._known[path] = self._matches(path, is_directory=True)
        return known

    def _matches(self, path: bytes, *, is_directory: bool) -> bool:
        for pattern in reversed(self._patterns):
            if pattern.matches(path, is_directory=is_directory):
                return not pattern.takes_back
        return False

    def _add(self, line: bytes) -> None:
        takes_back = line.startswith(b"!")
        text = line[takes_back:]
        directories_only = text.endswith(b"/")
        text = text[: len(text) - directories_only]
        whole_path = b"/" in text
        form = _form(text.removeprefix(b"/"))
        if not text or form is None:
            return
        compiled = re.compile(form, re.DOTALL)
        self._patterns.append(_Pattern(compiled, takes_back, directories_only, whole_path))
        if takes_back:  # what was left out so far may be taken back
            self._prunes.clear()
            return
        found = _found(text, whole_path=whole_path)
        if found is not None:
            self._prunes.append(Prune(*found, directories_only))


def lines(text: bytes) -> list[bytes]:
    """Return the patterns of a file: without comments, empty lines, and spaces at the end."""
    found = []
    for line in text.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        # A space behind a backslash is meant.
        kept = re.match(rb"(?:\\.|[^\\ ]|\\\Z|\ +(?!\ |\Z))*", line.removesuffix(b"\r"), re.DOTALL)
        assert kept is not None
        if kept[0] and not kept[0].startswith(b"#"):
            found.append(kept[0])
    return found


_TOKEN = re.compile(
    rb"""(?xs)
    (?P<stars> \*+) | (?P<any> \?) | \\(?P<escaped> .) | (?P<open> \[) | (?P<plain> [^\\])
    """
)


_CROSSING, _STAR = 0, 1
"""What stands for as much as it needs: ``**/``, and in what is behind it ``*``."""

_GAPS = {_CROSSING: rb"(?:.*?/)??", _STAR: rb"[^/]*?"}


class _Form:
    """A regular expression while it is written, which no name takes long to be matched with.

    Whoever chooses a name could otherwise let several stars be tried in all the ways that there
    are. One way is enough: a star stands for as little as lets what is behind it match, up to the
    next star or the next ``/``, and a ``**/`` for as little as lets what is behind it match up to
    the next ``**/``. So each is a group that is never entered again, which Python before 3.11
    spells as a lookahead and what it has found.
    """

    def __init__(self) -> None:
        self.text = b""
        self._begun = 0
        self._open: list[tuple[int, int]] = []

    def begin(self, gap: int) -> None:
        """Let anything stand here, as far as ``gap`` goes."""
        self.end(gap)
        self._begun += 1
        self._open.append((gap, self._begun))
        self.text += b"(?=(?P<g%d>" % self._begun + _GAPS[gap]

    def end(self, gap: int) -> None:
        """What was begun with ``gap``, or within that, has found its end."""
        while self._open and self._open[-1][0] >= gap:
            self.text += b"))(?P=g%d)" % self._open.pop()[1]


def _form(text: bytes) -> bytes | None:
    """Return the regular expression of a pattern; None where it can match nothing."""
    form, at = _Form(), 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:  # a backslash, and nothing behind it
            return None
        before, at = text[:at], token.end()
        if token["stars"]:
            crosses = len(token["stars"]) > 1 and (not before or before.endswith(b"/"))
            if crosses and text[at : at + 1] == b"/":
                form.begin(_CROSSING)
                at += 1
            elif crosses and at == len(text):
                form.text += b".*"
            else:
                form.begin(_STAR)
        elif token["any"]:
            form.text += b"[^/]"
        elif token["open"]:
            found = _bracket(text, at)
            if found is None:
                return None
            form.text, at = form.text + found[0], found[1]
        else:
            one = token["escaped"] or token["plain"]
            form.text += re.escape(one)
            if one == b"/":
                form.end(_STAR)
    form.text += rb"\Z"
    form.end(_CROSSING)
    return form.text


def _bracket(text: bytes, at: int) -> tuple[bytes, int] | None:
    """Return the expression of the set that begins at ``at``, and where it ends.

    None where it has no end, or names a class that is none.
    """
    negated = text[at : at + 1] in (b"!", b"^")
    at += negated
    chosen, first = set[int](), True
    while first or text[at : at + 1] != b"]":
        first = False
        name = re.compile(rb"\[:([^\]]*):\]").match(text, at)
        if name is not None:
            if name[1] not in _CLASSES:
                return None
            members = re.compile(b"[" + _CLASSES[name[1]] + b"]")
            chosen |= {byte for byte in range(256) if members.match(bytes([byte]))}
            at = name.end()
            continue
        low, at = _one(text, at)
        high = low
        if text[at : at + 1] == b"-" and text[at + 1 : at + 2] not in (b"", b"]"):
            high, at = _one(text, at + 1)
        if low is None or high is None:
            return None
        chosen |= set(range(low, high + 1))
    chosen = (set(range(256)) - chosen if negated else chosen) - {ord("/")}
    inside = b"".join(b"\\x%02x" % byte for byte in sorted(chosen))
    return (b"[" + inside + b"]" if inside else b"(?!)"), at + 1


def _one(text: bytes, at: int) -> tuple[int | None, int]:
    """Return the byte that is meant at ``at``, and where the next one is."""
    at += text[at : at + 1] == b"\\"
    return (text[at] if at < len(text) else None), at + 1


def _found(text: bytes, *, whole_path: bool) -> tuple[str, bytes] | None:
    """Return a test of ``find`` that is true for nothing else; None where there is none.

    Its ``-path`` lets ``*`` match a slash, so a path must be plain; sets are left to us, and so is
    ``?``, which is a character of several bytes to toybox' find where it has a locale with such.
    """
    if whole_path and text.startswith(b"**/") and b"/" not in text[3:]:
        text, whole_path = text[3:], False
    elif whole_path:
        text = text.removeprefix(b"/")
    if re.search(rb"[\\\[?]", text) or (whole_path and b"*" in text):
        return None
    return ("-path" if whole_path else "-name"), text
