"""kubectl's flags: what they are, before they meet a kubeconfig."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kubectl_podcp.errors import UsageError
from kubectl_podcp.overrides import Overrides, seconds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", 5.0),
        ("0", None),
        ("0s", None),
        ("1s", 1.0),
        ("2m", 120.0),
        ("3h", 10800.0),
        ("1h2m3s", 3723.0),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("1.s", 1.0),
        ("250ms", 0.25),
        ("1m500ms", 60.5),
        ("9" * 400, 1e9),
        ("9" * 400 + "h", 1e9),
    ],
)
def test_a_duration_is_gos(text: str, expected: float | None) -> None:
    assert seconds(text) == expected


WRONG = ["", "s", "1x", "-1", "-1s", "1.5", "1 s", "1s ", "one", "1s2", "٣s", "1d"]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no duration"):
        seconds(text)


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is the witness")
@pytest.mark.parametrize("text", ["5", "1h2m3s", "1.5s", ".5s", "1.s", "250ms", *WRONG])
def test_kubectl_takes_the_same(text: str, tmp_path: Path) -> None:
    """Nobody listens where it asks; before that it has read the flag. It takes "" for 0."""
    said = subprocess.run(
        ["kubectl", "--server=http://127.0.0.1:1", f"--request-timeout={text}", "get", "pods"],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        timeout=60,
        check=False,
    ).stderr
    refused = "nvalid timeout" in said
    assert refused or "refused" in said, said
    assert refused == (text in WRONG and text not in ("", "-1s"))


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(Overrides(token="secret"))
