"""Archives of every kind through the follower: what comes out is the same for every reader."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from hypothesis import event, example, given, target
from hypothesis import strategies as st

from kubectl_podcp.archive.follower import CutArchive, EndOfArchive, Follower, MalformedArchive
from kubectl_podcp.archive.headers import REGULAR, Member, encode, padded
from kubectl_podcp.archive.safety import Policy, Refused
from kubectl_podcp.archive.splice import Splice
from kubectl_podcp.errors import PodcpError
from tests.fuzz import examples
from tests.fuzz.archives import archives, sparse_archives
from tests.fuzz.witnesses import listed, read_by_gnu_tar, read_by_tarfile, whole
from tests.unit.tar_blocks import END, NONCE, cuts, header, in_steps, member, trailer

LENIENT = Policy(devices=True, setuid=True)
PLACES = st.lists(st.integers(0, 1 << 20), max_size=12)


@dataclass
class Outcome:
    """What came of a stream: what went on, the events, and the error at the end if any."""

    archive: bytes
    events: list[object]
    error: PodcpError | None

    def members(self) -> list[Member]:
        """Return the members that went on."""
        return [each for each in self.events if isinstance(each, Member)]


def follow(
    messages: Iterable[bytes], policy: Policy | None = None, *, holes: bool = False
) -> Outcome:
    """Feed a whole stream; only documented errors are caught."""
    follower = Follower(NONCE, b"top", policy, holes=holes)
    archive, events = [], list[object]()
    try:
        for message in messages:
            for item in follower.feed(message):
                if isinstance(item, bytes):
                    assert 0 < len(item) <= max(len(message), 32 * 1024)
                    archive.append(item)
                else:
                    events.append(item)
        follower.end_of_input()
    except (Refused, CutArchive, MalformedArchive) as error:
        return Outcome(b"".join(archive), events, error)
    return Outcome(b"".join(archive), events, None)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """Return ``stream`` in messages that end at ``places``."""
    return cuts(stream, {place % (len(stream) + 1) for place in places})


@examples(300)
@given(archives(), PLACES)
@example(b"x" * 532 + trailer(), [540])
def test_any_cut_gives_the_same(stream: bytes, places: list[int]) -> None:
    """The same events, the same error, the same bytes as far as the error lets them out."""
    at_once, in_parts = follow([stream]), follow(cut(stream, places))
    bytewise = follow(in_steps(stream, 1))
    event(type(at_once.error).__name__)
    for other in (in_parts, bytewise):
        assert other.events == at_once.events
        assert type(other.error) is type(at_once.error)
        assert str(other.error) == str(at_once.error)
    if at_once.error is None:
        assert at_once.archive == in_parts.archive == bytewise.archive
    elif not isinstance(at_once.error, CutArchive):
        assert bytewise.archive.startswith(in_parts.archive)
        assert in_parts.archive.startswith(at_once.archive)


@examples(200)
@given(archives())
def test_what_goes_on_is_read_alike_by_all(stream: bytes) -> None:
    """GNU tar and tarfile find the members that were told, and the same contents.

    Of a member that is refused nothing went on: the archive up to there is whole.
    """
    outcome = follow(in_steps(stream, 1), LENIENT)
    event(type(outcome.error).__name__)
    if isinstance(outcome.error, CutArchive):
        return
    target(float(len(outcome.members())))
    members, contents = read_by_tarfile(whole(outcome.archive))
    assert members == outcome.members()
    assert all(not each.linkname or each.type in (b"1", b"2") for each in members)
    if all(abs(each.mtime) < 1 << 34 for each in members):  # the years that both can write
        assert read_by_gnu_tar(whole(outcome.archive)) == (listed(members), contents)
    if outcome.error is None:
        assert EndOfArchive() in outcome.events


@examples(200)
@given(sparse_archives(), PLACES)
def test_holes_mean_zeros(stream: bytes, places: list[int]) -> None:
    """Any cut gives the same; and where the holes are filled in what goes on, it is what goes on
    without any."""
    plainly, sparse = follow([stream]), follow([stream], holes=True)
    in_parts = follow(cut(stream, places), holes=True)
    bytewise = follow(in_steps(stream, 1), holes=True)
    assert type(sparse.error) is type(bytewise.error) is type(plainly.error)
    assert sparse.events == in_parts.events == bytewise.events == plainly.events
    if plainly.error is None:
        assert sparse.archive == in_parts.archive == bytewise.archive
        event(f"has holes: {sparse.archive != plainly.archive}")
        again = follow([whole(sparse.archive) + trailer()])
        assert (again.error, again.archive) == (None, plainly.archive)


@examples(100)
@given(archives())
def test_what_went_on_goes_on_as_it_is(stream: bytes) -> None:
    """Canonical is canonical: a second follower changes nothing, and has nothing against it."""
    once = follow([stream])
    if once.error is not None:
        return
    again = follow([whole(once.archive) + trailer()])
    assert again.error is None
    assert again.archive == once.archive
    assert again.members() == once.members()


@examples(200)
@given(st.binary(max_size=3000), PLACES)
def test_garbage_is_read_or_refused(stream: bytes, places: list[int]) -> None:
    """Whatever it begins with."""
    for start in (b"", header(b"top/x", size=100), member(b"top/x") + END):
        follow(cut(start + stream, places))


@examples(150)
@given(st.integers(1, 2000), archives(), PLACES, st.booleans())
def test_the_rest_of_a_file_in_front_changes_nothing(
    size: int, stream: bytes, places: list[int], alone: bool
) -> None:
    """As if the source's tar had written it as the first member."""
    rest = Member(b"top/rest", REGULAR, size, 0o644, 0, 0, 0)
    raw = (b"rest" * 500)[:size]
    stream = trailer() if alone else stream
    file = encode(rest) + raw.ljust(padded(size), b"\0") + (END if alone else b"")
    expected = follow([file + stream])
    line = f"\npodcp-{NONCE} rest {size:>20} {0:>20}\n".encode()
    spliced = follow_spliced(rest, cut(raw + line + stream, places), alone)
    assert spliced.events == expected.events
    assert type(spliced.error) is type(expected.error)
    if expected.error is None:
        assert spliced.archive == expected.archive


def follow_spliced(rest: Member, messages: list[bytes], alone: bool) -> Outcome:
    """Feed what begins with the rest of a file."""
    follower = Follower(NONCE, b"top")
    splice = Splice(follower, rest, nonce=NONCE, size=rest.size, alone=alone)
    outcome = Outcome(b"", [], None)
    try:
        for message in messages:
            for item in splice.feed(message):
                if isinstance(item, bytes):
                    outcome.archive += item
                else:
                    outcome.events.append(item)
        follower.end_of_input()
    except (Refused, CutArchive, MalformedArchive) as error:
        return replace(outcome, error=error)
    return outcome
