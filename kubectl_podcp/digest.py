"""Digests of files at one end, freshly read there.

In: an end, and which files. Out: names and SHA-256 digests, as they are told. Raises
:class:`~kubectl_podcp.errors.PodcpError`. What is told is not gathered here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from kubectl_podcp.ends import End
from kubectl_podcp.errors import ConnectionLost, Interrupted, PodcpError, ServerError
from kubectl_podcp.exec.channels import Closed, Protocol, Status, Stderr, Stdout
from kubectl_podcp.exec.deadline import Deadline
from kubectl_podcp.paths import SourceFacts
from kubectl_podcp.remainder import Part
from kubectl_podcp.remote import scripts
from kubectl_podcp.remote.digests import Digests
from kubectl_podcp.remote.feed import MESSAGE
from kubectl_podcp.remote.scripts import Staging
from kubectl_podcp.sink import Said

if TYPE_CHECKING:
    from kubectl_podcp.ends import Session

LONGEST = 600.0
"""Seconds for reading files, and a second more for each :data:`SLOWEST` bytes of them."""

SLOWEST = 1 << 20

ENDING = 2.0
"""Seconds in which a session should end after all that counts was said."""


def of_named(
    end: End, directory: bytes, sizes: Mapping[bytes, int], sha256: str
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the digests of files by their names; one that cannot be read has none.

    :param directory: in which the names stand.
    :param sizes: of the files, in bytes.
    :param sha256: one of :data:`scripts.SHA256`.
    """
    for names in portions(sizes):
        words, nonce = scripts.words(names), os.urandom(16).hex()
        script = scripts.digests_of_named(directory, nonce, sha256, len(words))
        size = sum(sizes[name] for name in names)
        for name, digest in _told(end, script, Digests(nonce), size, words):
            if name in sizes:  # it could say others for ever, and the caller gathers them
                yield name, digest


def of_staged(end: End, staging: Staging, size: int, sha256: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield the digests of all files that were unpacked and held back.

    :param size: of all of them, in bytes.
    :param sha256: one of :data:`scripts.SHA256`.
    :raises ServerError: not all of them can be read.
    """
    nonce = os.urandom(16).hex()
    digests = Digests(nonce)
    yield from _told(end, scripts.digests_of_staged(staging, nonce, sha256), digests, size)
    if digests.code:
        raise ServerError(f"{end} did not read all of its files")


def of_prefix(end: End, facts: SourceFacts, part: Part, sha256: str) -> bytes:
    """Return the digest of so much of one of the source's files; empty where it cannot be read."""
    nonce = os.urandom(16).hex()
    script = scripts.digest_of_prefix(facts, part.name, part.size, nonce, sha256)
    return _digest_of(part, _told(end, script, Digests(nonce), part.size))


def of_set_aside(end: End, staging: Staging, part: Part, sha256: str) -> bytes:
    """Set the part of a staged file aside; return its digest, empty where it cannot be read."""
    nonce = os.urandom(16).hex()
    script = scripts.set_aside(staging, part.name, part.size, nonce, sha256)
    return _digest_of(part, _told(end, script, Digests(nonce), part.size))


def _digest_of(part: Part, told: Iterable[tuple[bytes, bytes]]) -> bytes:
    found = b""
    for name, digest in told:  # to the end, for it counts when all was said
        if name == part.name:
            found = digest
    return found


def portions(all_names: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Yield names, as many at once as one session can be asked for."""
    names, room = list[bytes](), scripts.MOST_WORDS
    for name in all_names:
        length = len(scripts.words([name])) + 1
        if names and length > room:
            yield names
            names, room = [], scripts.MOST_WORDS
        names.append(name)
        room -= length
    if names:
        yield names


def _told(
    end: End, script: str, digests: Digests, size: int, stdin: bytes = b""
) -> Iterator[tuple[bytes, bytes]]:
    """Run a digest script; yield what it tells, as it comes.

    :param size: bytes of the files that it reads.
    :raises ServerError: it did not come to its end, or said something else.
    """
    stderr = Said()
    seconds = LONGEST + size / SLOWEST
    deadline = Deadline(seconds)
    session = end.open(script, Protocol.V5, Protocol.V4)
    try:
        if stdin:
            with suppress(ConnectionLost):  # it may have ended already: then it says why
                at_once = (stdin[at : at + MESSAGE] for at in range(0, len(stdin), MESSAGE))
                session.send_stdin(*at_once)
        while digests.code is None:
            event = session.receive(deadline.remaining())
            if isinstance(event, Stdout):
                yield from digests.feed(event.data)
                if digests.is_none:
                    raise ServerError(
                        f"{end} was asked for digests of its files, and said something else",
                        advice="see what sh and sha256sum are there, and mistrust that container",
                    )
            elif isinstance(event, Stderr):
                stderr.add(event.data)
            elif isinstance(event, Status | Closed):
                break
        _release(session, stderr)
    except TimeoutError:
        raise ServerError(f"{end} did not read its files within {seconds:.0f} s") from None
    finally:
        session.close()
    if digests.code is None:
        raise ServerError(f"{end} did not read its files to the end", stderr=bytes(stderr))


def _release(session: Session, stderr: Said) -> None:
    """Let the script end, and note what it still says."""
    deadline = Deadline(ENDING)
    try:
        session.send_stdin(b"\n")
        while not isinstance(event := session.receive(deadline.remaining()), Status | Closed):
            if isinstance(event, Stderr):
                stderr.add(event.data)
    except Interrupted:
        raise
    except (PodcpError, TimeoutError):
        return  # all that counts was said
