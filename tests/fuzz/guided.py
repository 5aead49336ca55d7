"""Coverage-guided fuzzing: ``python -m tests.fuzz.guided TARGET [libFuzzer's options]``.

What must hold, whatever the bytes are:

follower
    An archive in any cut gives the same events and the same error, which is a documented one;
    what goes on is read by tarfile as the very members that were told, and by a second follower
    as canonical already.
channels
    Frames in any cut give the same messages and the same violation, and no more is kept than one
    message; each message is an event, and no status says success but one that is written so.

The first bytes of an input are the cut, the rest is what comes. For the follower, blocks get a
right checksum where they have a magic, for a fuzzer does not guess one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

with atheris.instrument_imports(include=["kubectl_podcp"], enable_loader_override=False):
    from kubectl_podcp.archive.follower import CutArchive
    from kubectl_podcp.exec.channels import Protocol

from tests.fuzz.archives import sparse_0_0, sparse_0_1, sparse_1_0, sparse_old
from tests.fuzz.test_channels import heard
from tests.fuzz.test_follower import LENIENT, follow
from tests.fuzz.witnesses import read_by_tarfile, whole
from tests.unit.peers import frame
from tests.unit.tar_blocks import (
    END,
    USTAR,
    checked,
    cuts,
    header,
    long_name,
    member,
    pax,
    trailer,
)

CORPUS = Path(".cache/fuzz")
CUTS = 4


def divided(data: bytes, rest: bytes) -> list[bytes]:
    """Return ``rest`` in the cut that the first bytes of ``data`` say."""
    places = (int.from_bytes(data[at : at + 2], "big") for at in range(0, 2 * CUTS, 2))
    return cuts(rest, {place % (len(rest) + 1) for place in places})


def follower(data: bytes) -> None:
    """See the module's first lines."""
    rest = data[2 * CUTS :]
    blocks = [rest[at : at + 512] for at in range(0, len(rest), 512)]
    stream = b"".join(
        checked(block) if len(block) == 512 and block[257:262] == b"ustar" else block
        for block in blocks
    )
    stream += trailer()
    outcome, in_parts = follow([stream], LENIENT), follow(divided(data, stream), LENIENT)
    assert in_parts.events == outcome.events
    assert type(in_parts.error) is type(outcome.error)
    assert str(in_parts.error) == str(outcome.error)
    if outcome.error is None:
        assert in_parts.archive == outcome.archive
        members, _ = read_by_tarfile(whole(outcome.archive))
        assert members == outcome.members()
        again = follow([whole(outcome.archive) + trailer()], LENIENT)
        assert (again.error, again.archive) == (None, outcome.archive)
    elif not isinstance(outcome.error, CutArchive):
        assert in_parts.archive.startswith(outcome.archive)


def channels(data: bytes) -> None:
    """See the module's first lines."""
    rest = data[2 * CUTS :]
    for protocol in Protocol:
        assert heard(divided(data, rest), protocol) == heard([rest], protocol)


def seeds(target: str) -> list[bytes]:
    """Return inputs that are right, for the fuzzer to begin with."""
    if target == "channels":
        status = b'\3{"status":"Failure","reason":"NonZeroExitCode","message":"x","details":'
        status += b'{"causes":[{"reason":"ExitCode","message":"2"}]}}'
        return [
            frame(b"\1abc") + frame(b"\3" + b'{"status":"Success"}') + frame(b"\x03\xe8bye", 8),
            frame(b"\1a", final=False) + frame(b"?", 9) + frame(b"b", 0) + frame(bytes(300)),
            frame(status) + frame(b"\xff\1"),
        ]
    extents, data = [(0, 3), (600, 2)], b"abcde"
    return [
        header(b"top/", b"5", mode=b"0000755\0") + member(b"top/a", b"a") + END,
        long_name(b"K", b"t" * 120)
        + long_name(b"L", b"top/" + b"n" * 120)
        + header(b"x", b"2")
        + END,
        pax((b"path", b"top/p"), (b"size", b"3"), (b"mtime", b"-1.5"))
        + header(b"top/x", size=3, magic=USTAR)
        + b"abc".ljust(512, b"\0")
        + END,
        header(b"x", b"1", magic=USTAR, linkname=b"top/a", rest=b"top/d") + END,
        header(b"top/n", b"3", devices=b"0000001\x000000003\0") + END,
        *(
            form(b"top/s", data, extents, 700) + END
            for form in (sparse_0_0, sparse_0_1, sparse_1_0, sparse_old)
        ),
    ]


TARGETS = {"follower": follower, "channels": channels}


def main() -> None:
    """Fuzz one target; what was found stays in .cache/fuzz, and is begun with the next time."""
    target, *options = sys.argv[1:]
    corpus = CORPUS / target
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(target)):
        (corpus / f"seed-{number}").write_bytes(bytes(2 * CUTS) + seed)
    artifacts = f"-artifact_prefix={CORPUS}/{target}-"
    longest = "-max_len=20000"
    atheris.Setup([sys.argv[0], longest, artifacts, *options, str(corpus)], TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
