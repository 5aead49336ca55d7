"""What a plan refuses that no end-to-end test can arrange everywhere."""

from __future__ import annotations

import pytest

from kubectl_podcp.errors import SourceError
from kubectl_podcp.paths import Kind, SourceFacts
from kubectl_podcp.plan import check_made
from kubectl_podcp.remote import probe
from kubectl_podcp.request import CopyRequest, Options

HOST = probe.Source(
    SourceFacts(b"/", b"host", Kind.DIRECTORY), probe.Tar.GNU, made=(b"/host/proc", b"/host/sys/fs")
)


def asked(**options: object) -> CopyRequest:
    return CopyRequest.of("web-0:/host", "./copy", Options(**options))  # type: ignore[arg-type]


def test_a_tree_with_something_that_the_kernel_makes_is_refused() -> None:
    with pytest.raises(SourceError, match=r"^/host/proc is in it") as caught:
        check_made(asked(), HOST)
    assert caught.value.advice == "leave it out: --exclude '/proc'"
    with pytest.raises(SourceError, match=r"^/host/sys/fs is in it"):
        check_made(asked(exclude=("/proc",)), HOST)
    with pytest.raises(SourceError, match=r"^/host/proc is in it"):
        check_made(asked(files_from=("etc", "proc/version")), HOST)


def test_what_is_left_out_does_not_matter() -> None:
    check_made(asked(exclude=("/proc", "/sys")), HOST)
    check_made(asked(files_from=("etc", "sys/class")), HOST)
