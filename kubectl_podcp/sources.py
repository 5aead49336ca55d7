"""Which sources are meant: what wildcards stand for, and what several sources cannot be.

In: requests, one for each source that was named. Out: one for each that there is. Asks the cluster
only about wildcards. Raises :class:`~kubectl_podcp.errors.PodcpError`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kubectl_podcp import globs
from kubectl_podcp import plan as plans
from kubectl_podcp.copy import clusters
from kubectl_podcp.ends import PodEnd
from kubectl_podcp.errors import UsageError, printable
from kubectl_podcp.paths import PodPath
from kubectl_podcp.request import Access, CopyRequest

if TYPE_CHECKING:  # imported where it is used: it is what start-up takes its time for
    from kubectl_podcp.cluster.kubeconfig import Cluster


def check(requests: Sequence[CopyRequest]) -> None:
    """Check what can be wrong with several sources that is not with one.

    :raises UsageError: something is.
    """
    if len(requests) < 2:
        return
    first = requests[0]
    if first.no_target_directory:
        raise UsageError(
            "with several sources, the destination cannot be each of them",
            advice="leave out -T (--no-target-directory), or name one source",
        )
    if any(request.is_stream for request in requests):
        raise UsageError(
            "- stands for one stream, and there are several sources",
            advice="for one archive of several directories, name the directory that they are in",
        )
    if first.files_from is not None:
        raise UsageError(
            "--files-from names what is in one source, and there are several",
            advice="name one directory, or copy them one by one",
        )
    names = dict[bytes, CopyRequest]()
    for request in requests:
        source = request.source
        other = None if source.is_contents else names.setdefault(source.name, request)
        if other is not None and other is not request:
            raise UsageError(
                f"{other.source} and {source} would both become "
                f"'{printable(source.name)}' in {request.destination}",
                advice="copy one of them by itself, under another name",
            )


def expanded(
    request: CopyRequest, known: dict[Access, Cluster], notice: Callable[[str], None]
) -> list[CopyRequest]:
    """Return a request for each of what a source with wildcards stands for.

    :raises PodcpError: nobody can tell, or it stands for nothing.
    """
    path = request.source
    if not globs.has_wildcards(path):
        return [request]
    assert isinstance(path, PodPath)
    end, _ = plans.find(clusters(request, known), request, path, request.source_container)
    assert isinstance(end, PodEnd)
    for said in end.notices:
        if said != end.pod.notice:  # which the plan tells
            notice(said)
    return [replace(request, source=each) for each in globs.expand(end, path)]
