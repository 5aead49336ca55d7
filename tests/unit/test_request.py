"""What the two words of a copy must be before anything is asked of a cluster."""

from __future__ import annotations

import dataclasses

import pytest

from kubectl_podcp.errors import UsageError
from kubectl_podcp.paths import GRAMMAR, PodPath
from kubectl_podcp.request import CopyRequest, pod_paths

A = PodPath("shop", "web-0", b"/data")
B = PodPath(None, "web-1", b"srv")


@pytest.mark.parametrize(
    ("source", "destination"),
    [("shop/web-0:/data", "web-1:srv"), (b"shop/web-0:/data", b"web-1:srv")],
    ids=["text", "bytes"],
)
def test_both_words_become_paths(source: str | bytes, destination: str | bytes) -> None:
    assert pod_paths(source, destination) == (A, B)


@pytest.mark.parametrize(
    ("source", "destination", "words"),
    [
        ("data", "srv", "neither data nor srv is in a Pod"),
        ("./a:b", "/srv", "neither ./a:b nor /srv is in a Pod"),
        ("data", "web-1:srv", "data is on this machine"),
        ("web-0:/data", "/srv", "/srv is on this machine"),
        ("web-0:", "web-1:srv", "empty path"),
        ("web-0:/data", "", "empty path"),
        ("a/b/c:/data", "web-1:srv", "does not match"),
    ],
)
def test_other_words_are_told_how_a_path_is_written(
    source: str, destination: str, words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        pod_paths(source, destination)
    assert words in caught.value.happened
    assert GRAMMAR in str(caught.value)


def test_the_words_cannot_command_a_terminal() -> None:
    with pytest.raises(UsageError) as caught:
        pod_paths(b"a\x1b[2J\xff", "web-1:srv")
    assert "a\\x1b[2J\\xff is on this machine" in str(caught.value)


def test_a_request_leaves_to_the_kubeconfig_what_was_not_said() -> None:
    request = CopyRequest(A, B)
    assert dataclasses.astuple(request)[2:] == (None, None, None, None, False, 60.0, 0, False)


def test_a_request_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CopyRequest(A, B).namespace = "other"  # type: ignore[misc]
