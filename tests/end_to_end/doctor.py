"""A Pod whose shell is doctored: what a script says is changed before it is run.

busybox's shell takes its own ``tar``, whatever stands in PATH; so it is not tar that is replaced,
but ``sh``, by a script of the witness that rewrites what it is told and hands it to the real one.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from tests.end_to_end.pods import BUSYBOX, TestPod

_SH = """#!{witness} sh
option=$1
script=$(printf %s. "$2" | {witness} sed {edit})
shift 2
exec {shell} "$option" "${{script%.}}" "$@"
"""

_TAR = """#!{witness} sh
{tar} "$@" || exit
{then}
"""


@contextmanager
def doctored(pod: TestPod, edit: str) -> Iterator[None]:
    """Run every script of a Pod as ``edit``, for ``sed``, leaves it, until the block is left."""
    shell = "/usr/bin/busybox sh" if pod.name.startswith("busybox") else "/usr/bin/true-sh"
    put(pod, "/usr/bin/doctor", _SH.format(witness=BUSYBOX, edit=shlex.quote(edit), shell=shell))
    pod.sh("mv /usr/bin/sh /usr/bin/true-sh; mv /usr/bin/doctor /usr/bin/sh")
    try:
        yield
    finally:
        pod.sh("mv /usr/bin/true-sh /usr/bin/sh")


@contextmanager
def after_unpacking(pod: TestPod, then: str) -> Iterator[None]:
    """Let ``then``, a script for the witness, run in the staging folder when tar has ended well."""
    tar = "/usr/bin/busybox tar" if pod.name.startswith("busybox") else "/usr/bin/tar"
    put(pod, "/opt/tar", _TAR.format(witness=BUSYBOX, tar=tar, then=then))
    with doctored(pod, "s,exec tar xpf,exec /opt/tar xpf,;s,{ tar xpf,{ /opt/tar xpf,"):
        yield


def put(pod: TestPod, path: str, text: str) -> None:
    """Make a program in a Pod."""
    pod.sh(f"cat >{path}; chmod 755 {path}", text.encode())
