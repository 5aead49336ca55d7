"""Words of the command line: whatever they are, a path or a usage error that can be printed."""

from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from kubectl_podcp.errors import UsageError
from kubectl_podcp.paths import LocalPath, PodPath, parse
from tests.fuzz import examples

PARTS = st.sampled_from(("web-0", "shop", "a.b", "", ".", "..", "-", "A", "/", ":", "\x1b[2J", "é"))
WORDS = st.one_of(
    st.text(st.characters()),  # surrogates too
    st.binary(),
    st.lists(PARTS, max_size=6).map("".join),
    st.lists(PARTS, max_size=3).map("/".join).map(lambda head: f"{head}:/data"),
)


@examples(500)
@given(WORDS)
def test_any_word_is_a_path_or_a_usage_error(word: str | bytes) -> None:
    """A path in a Pod is what stands behind the first colon, to the byte."""
    try:
        path = parse(word)
    except UsageError as error:
        assert all(character == "\n" or character.isprintable() for character in str(error))
        return
    raw = os.fsencode(word)
    assert str(path).isprintable()
    if isinstance(path, LocalPath):
        assert path.path == raw
        return
    assert isinstance(path, PodPath)
    head, _, behind = raw.partition(b":")
    assert path.path == behind != b""
    namespace = f"{path.namespace}/" if path.namespace else ""
    assert f"{namespace}{path.pod}".encode() == head
    assert parse(raw) == path
