"""What is to be done: the command line, or a library call, after validation and before any I/O."""

from __future__ import annotations

from dataclasses import dataclass

from kubectl_podcp.errors import UsageError
from kubectl_podcp.paths import GRAMMAR, LocalPath, PodPath, parse

STALL_TIMEOUT = 60.0
"""Seconds for which nothing may move where something should, unless the user says otherwise."""


RETRIES = 0
"""How often a copy is tried again, unless the user says otherwise."""


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """One copy, Pod to Pod.

    :ivar namespace: for a path that names none; None is the context's.
    :ivar container: in both Pods; None is each Pod's default container.
    :ivar context: of the kubeconfig; None is its current context.
    :ivar kubeconfig: a file; None is what kubectl would read.
    :ivar no_target_directory: the destination is the source, even where a directory exists.
    :ivar stall_timeout: seconds for which the source may give, or the destination take, nothing;
        0 is for ever.
    :ivar retries: how often to try again after a failure that may pass.
    :ivar partial: keep what arrived when the copy fails all the same, and go on from there.
    """

    source: PodPath
    destination: PodPath
    namespace: str | None = None
    container: str | None = None
    context: str | None = None
    kubeconfig: str | None = None
    no_target_directory: bool = False
    stall_timeout: float = STALL_TIMEOUT
    retries: int = RETRIES
    partial: bool = False


def pod_paths(source: str | bytes, destination: str | bytes) -> tuple[PodPath, PodPath]:
    """Parse both words.

    :raises UsageError: one of them is malformed, or is no path in a Pod.
    """
    paths = parse(source), parse(destination)
    if all(isinstance(path, LocalPath) for path in paths):
        raise UsageError(
            f"neither {paths[0]} nor {paths[1]} is in a Pod",
            advice=f"a path in a Pod is written {GRAMMAR}, for example shop/web-0:/data/photos",
        )
    return _in_a_pod(paths[0]), _in_a_pod(paths[1])


def _in_a_pod(path: LocalPath | PodPath) -> PodPath:
    if isinstance(path, LocalPath):
        raise UsageError(
            f"{path} is on this machine; this version copies between Pods only",
            advice=f"write a path in a Pod as {GRAMMAR}",
        )
    return path
