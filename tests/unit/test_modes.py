"""Modes as chmod reads them: the same bits as GNU chmod leaves on real files."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kubectl_podcp import modes
from kubectl_podcp.errors import UsageError

SYMBOLIC = st.builds(
    "".join,
    st.tuples(
        st.text("ugoa", max_size=3),
        st.sampled_from("+-="),
        st.one_of(st.sampled_from("ugo"), st.text("rwxXst", max_size=4)),
        st.sampled_from(["", "+X", "-w", "=u", "=", "+4", "-7000"]),
    ),
)
OCTAL = st.integers(0, 0o7777).map("{:o}".format) | st.integers(0, 0o7777).map("{:05o}".format)
TEXTS = OCTAL | st.lists(SYMBOLIC, min_size=1, max_size=3).map(",".join)


@given(TEXTS, st.integers(0, 0o7777), st.booleans(), st.sampled_from([0o022, 0o077, 0]))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example("u+rwX,go-w", 0o640, False, 0o022)
@example("755", 0o6711, True, 0o022)
@example("00755", 0o6711, True, 0o022)
@example("g=rx", 0o2755, True, 0o022)
@example("+w", 0o444, False, 0o022)
@example("=", 0o7777, True, 0o022)
@example("=4,u+x", 0o7777, True, 0o022)
@example("u+4", 0o644, False, 0o022)
@example("+4-2", 0o644, False, 0o022)
def test_bits_are_those_of_gnu_chmod(
    tmp_path: Path, text: str, mode: int, is_directory: bool, umask: int
) -> None:
    path = tmp_path / "x"
    path.mkdir() if is_directory else path.touch()
    try:
        path.chmod(mode)
        done = subprocess.run(
            ["chmod", "--", text, str(path)], stderr=subprocess.DEVNULL, umask=umask, check=False
        )
        left = stat.S_IMODE(path.stat().st_mode)
    finally:
        path.rmdir() if is_directory else path.unlink()
    # Where the umask kept it from doing what was said, chmod says so and does the rest.
    if done.returncode and left == mode and not _is_mode(text):
        return
    parsed = modes.parse(text)
    assert oct(parsed.applied(mode, is_directory=is_directory, umask=umask)) == oct(left)


def _is_mode(text: str) -> bool:
    try:
        modes.parse(text)
    except UsageError:
        return False
    return True


@pytest.mark.parametrize(
    "text", ["", "8", "17777", "x", "u", "u+", "rw", "u+rq", "u+r,", ",u+r", "u=go", "u+4", "D755"]
)
def test_what_chmod_does_not_take_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x"
    path.touch()
    taken = subprocess.run(["chmod", "--", text, path], stderr=subprocess.DEVNULL, check=False)
    assert _is_mode(text) == (taken.returncode == 0)


def test_a_refusal_names_the_word_and_says_how_to_write_it() -> None:
    with pytest.raises(UsageError) as caught:
        modes.parse("u+\x1b")
    assert caught.value.happened == "'u+\\x1b' for --chmod is no mode"
    assert "640" in caught.value.advice


def test_umask_is_left_alone() -> None:
    """What the tests above change is a child's."""
    before = os.umask(0o022)
    os.umask(before)
    assert modes.parse("+rwx").applied(0, is_directory=False, umask=0o027) == 0o750
