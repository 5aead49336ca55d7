"""One try of a copy, as far as it is made without a session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from kubectl_podcp import plan as plans
from kubectl_podcp.archive.headers import DIRECTORY, REGULAR, Member, encode
from kubectl_podcp.archive.safety import Refused
from kubectl_podcp.attempt import Attempt
from kubectl_podcp.errors import DestinationRefused, SourceError
from kubectl_podcp.fidelity import KEPT, OWNERSHIP
from kubectl_podcp.paths import Kind, Placement, SourceFacts, TargetFacts
from kubectl_podcp.plan import Plan
from kubectl_podcp.remainder import Part, remainder
from kubectl_podcp.remote import listing, probe
from kubectl_podcp.report import Tally
from kubectl_podcp.request import CopyRequest, Options
from kubectl_podcp.tries import Tries

NONCE = "0123456789abcdef" * 2


def tries(pod: str, tar: probe.Tar = probe.Tar.GNU, **options: Any) -> Tries:
    """Return tries at a copy of /data to a Pod, where ``tar`` reads it."""
    request = CopyRequest.of("src:/data", f"{pod}:/srv", Options(**options))
    source, target = (_end(each) for each in ("src", pod))
    found = probe.Source(SourceFacts(b"/", b"data", Kind.DIRECTORY), tar)
    facts = TargetFacts(b"/srv", b"data", Kind.MISSING, Kind.MISSING, writable=True)
    there = probe.Target(facts, probe.Tar.GNU, fullblock=True)
    clusters: Any = (None, None)
    plan = Plan(clusters, request, source, target, found, there, Placement(b"/srv", b"data"))
    return Tries(plan, Tally(), print)


def _end(name: str) -> Any:
    """Return a container that is only spoken of."""
    return SimpleNamespace(notices=(), identity=name.encode())


def in_company(*them: Attempt) -> Sequence[Attempt]:
    """Have all read one source, as :meth:`Attempt.run_for` does."""
    for each in them:
        each._all = them
    return them


def sends(attempt: Attempt, name: bytes) -> list[bytes]:
    """Return the names that an attempt lets go on of an archive with a file of that name."""
    top = encode(Member(b"data", DIRECTORY, 0, 0o755, 0, 0, 0))
    archive = top + encode(Member(name, REGULAR, 0, 0o644, 0, 0, 0))
    items = attempt._follower(NONCE).feed(archive)
    return [item.name for item in items if isinstance(item, Member)]


def staged(attempt: Attempt) -> bytes:
    """Return the name of a file that an attempt has unpacked where the source sees it."""
    return b"data/%b/data/file" % attempt._staging.name


def test_what_one_of_several_destinations_has_unpacked_is_never_copied() -> None:
    """They may share a volume with the source, and the first one reads it for all."""
    first, second = in_company(tries("web-0").first(), tries("web-1").first())
    assert sends(first, b"data/file") == [b"data", b"data/file"]
    for each in (first, second):
        with pytest.raises(Refused, match="this very copy"):
            sends(first, staged(each))


def test_what_a_try_before_has_unpacked_is_never_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the destination's container is another one by now: the volume is the same."""
    of_one = tries("web-0")
    before = in_company(of_one.first(), tries("web-1").first())
    of_one._look_back(before[0])
    of_one._staging = of_one._new_staging(kept=False)
    other: Any = SimpleNamespace(**vars(of_one._plan.target), current=lambda: None)
    same: Any = SimpleNamespace(**vars(of_one._plan.source), current=lambda: None)
    made_anew = replace(of_one._plan, staged=frozenset())
    monkeypatch.setattr(plans, "make", lambda *_: made_anew)
    of_one._plan = plans.renewed(replace(of_one._plan, source=same, target=other))
    now = of_one.first()
    assert sends(now, b"data/file") == [b"data", b"data/file"]
    for each in (*before, now):
        with pytest.raises(Refused, match="this very copy"):
            sends(now, staged(each))


def test_what_is_unpacked_and_not_wanted_stays_behind() -> None:
    """A source's tar that cannot be told what to read reads the destination, too."""
    attempt = tries("web-0", exclude=("/backup",)).first()
    assert sends(attempt, b"data/backup/%b/data/file" % attempt._staging.name) == [b"data"]


def test_what_is_one_name_to_one_of_several_destinations_is_refused_there() -> None:
    """Also where it says so later than the names come."""
    first, second = in_company(tries("web-0").first(), tries("web-1").first())
    first._on_ready(None, True)
    for name in (b"data/Makefile", b"data/makefile"):
        first._spell(name)
    with pytest.raises(DestinationRefused, match=r"'data/makefile' and another .* in web-1,"):
        second._on_ready(None, False)


def test_names_are_held_only_while_a_destination_may_need_them() -> None:
    first, second = in_company(tries("web-0").first(), tries("web-1").first())
    first._on_ready(None, True)
    first._spell(b"data/a")
    second._fail(DestinationRefused("it is full", advice="make room"))
    first._forget_spellings()
    first._spell(b"data/A")
    assert first._spellings.clash is None


# --- owners ------------------------------------------------------------------------------------

BUSYBOX = probe.Tar.BUSYBOX
HIGH = 1_000_650_000


class Given:
    """A sink that is only given up.

    :ivar error: why.
    """

    def __init__(self) -> None:
        self.error: BaseException | None = None

    @property
    def lives(self) -> bool:
        return self.error is None

    def fail(self, error: BaseException) -> None:
        self.error = error


def open_to(attempt: Attempt) -> Given:
    """Let an attempt have a destination's session."""
    sink: Any = Given()
    attempt._sink = sink
    assert isinstance(sink, Given)
    return sink


def tells(attempt: Attempt, *names: str, uid: int = HIGH, code: int = 0) -> None:
    """Let the source's shell say that a user owns ``names``, where it is asked."""
    hears = attempt._hears_owners()
    assert hears is not None
    nonce = attempt._nonce
    said = "".join(f"{nonce} 81a4 {uid}:0 ./data/{name}\n" for name in names)
    assert hears(said.encode()) is False
    assert hears(f"{nonce} end {code}\n".encode()) is True


def test_an_owner_that_busybox_says_wrong_is_refused_where_owners_are_given() -> None:
    """Others own all that they get, whoever owned it."""
    gives, does_not, late = in_company(*(tries(f"web-{n}", BUSYBOX).first() for n in range(3)))
    sinks = [open_to(each) for each in (gives, does_not, late)]
    gives._on_ready(None, True)
    does_not._on_ready((1000, 1000), True)
    tells(gives, "file")
    assert isinstance(sinks[0].error, SourceError)
    assert f"'data/file' belongs to {HIGH}:0" in sinks[0].error.happened
    assert (sinks[1].error, sinks[2].error) == (None, None)
    with pytest.raises(SourceError, match="'data/file' belongs to"):
        late._on_ready(None, True)


def test_where_no_destination_gives_owners_nobody_asks_for_them() -> None:
    first, second = in_company(tries("web-0", BUSYBOX).first(), tries("web-1", BUSYBOX).first())
    for each in (first, second):
        assert first._hears_owners() is not None
        each._on_ready((1000, 1000), True)
    assert first._hears_owners() is None


def test_an_owner_that_is_not_known_is_refused_as_well() -> None:
    attempt = tries("web-0", BUSYBOX).first()
    sink = open_to(attempt)
    attempt._on_ready(None, True)
    tells(attempt, code=1)
    assert isinstance(sink.error, SourceError)
    assert "could not be found out" in sink.error.happened


@pytest.mark.parametrize(
    ("tar", "options", "is_asked"),
    [
        (BUSYBOX, {}, True),
        (BUSYBOX, {"chown": (None, 5)}, True),
        (BUSYBOX, {"chown": (5, 5)}, False),
        (BUSYBOX, {"preserve": KEPT - {OWNERSHIP}}, False),
        (probe.Tar.TOYBOX, {}, False),
        (probe.Tar.BSDTAR, {}, False),
        (probe.Tar.GNU, {}, False),
    ],
)
def test_it_is_asked_where_busybox_says_what_somebody_goes_by(
    tar: probe.Tar, options: dict[str, Any], is_asked: bool
) -> None:
    attempt = tries("web-0", tar, **options).first()
    assert (attempt._hears_owners() is not None) == is_asked
    assert ("owners=$?" in attempt.source_script(NONCE)) == is_asked


def test_the_owner_of_what_is_not_sent_does_not_matter() -> None:
    """Neither of what is not wanted, nor of what is there, nor of the part that is listed."""
    listed = listing.parse(
        b"".join(
            b"%b 81a4 9 8 5 %d:0 1 0 0 0 ./data/%b\n" % (NONCE.encode(), HIGH, name)
            for name in (b"whole", b"current", b"part", b"other")
        )
        + b"\npodcp-%b listed 0 names\n" % NONCE.encode(),
        NONCE,
    )
    assert listed is not None
    left = remainder(
        listed,
        whole=frozenset({b"data/whole"}),
        current=frozenset({b"data/current"}),
        part=Part(b"data/part", 5),
    )
    of_one = tries("web-0", BUSYBOX, exclude=("secret",))
    attempt = Attempt(of_one._plan, of_one._new_staging(kept=False), Tally(), left)
    sink = open_to(attempt)
    attempt._on_ready(None, True)
    tells(attempt, "whole", "current", "part", "secret", "secret/file")
    assert sink.error is None
    tells(attempt, "other")
    assert isinstance(sink.error, SourceError)


def mapped(attempt: Attempt) -> Attempt:
    """Let the destination be a user namespace of so many ids as Kubernetes gives."""
    there = replace(attempt._plan.there, uids=(range(65536),), gids=(range(65536),))
    attempt._plan = replace(attempt._plan, there=there)
    return attempt


def passes(attempt: Attempt, *owners: tuple[int, int]) -> None:
    """Let files of these owners pass, until the destination is given up."""
    for uid, gid in owners:
        attempt._count(Member(b"data/%d" % uid, REGULAR, 0, 0o644, uid, gid, 0))


def test_an_owner_who_is_nobody_at_the_destination_is_refused() -> None:
    """There alone, and as soon as the first one's header comes."""
    first, second = in_company(tries("web-0").first(), mapped(tries("web-1").first()))
    sinks = [open_to(each) for each in (first, second)]
    for each in (first, second):
        each._on_ready(None, True)
    passes(first, (0, 0), (65535, 65535))
    assert sinks[1].error is None
    passes(first, (65536, 0), (100000, 0))
    assert isinstance(sinks[1].error, DestinationRefused)
    assert "'data/65536' would belong to 65536:0, who is nobody in web-1" in sinks[1].error.happened
    assert "--chown" in sinks[1].error.advice
    assert sinks[0].error is None


def test_it_is_refused_where_the_destination_is_ready_later() -> None:
    attempt = mapped(tries("web-0").first())
    passes(attempt, (0, 70000))
    with pytest.raises(DestinationRefused, match="0:70000, who is nobody in web-0"):
        attempt._on_ready(None, True)


def test_who_is_nobody_does_not_matter_where_nobody_is_given_anything() -> None:
    attempt = mapped(tries("web-0").first())
    sink = open_to(attempt)
    passes(attempt, (70000, 0))
    attempt._on_ready((1000, 1000), True)
    passes(attempt, (70001, 0))
    assert sink.error is None


@pytest.mark.parametrize(
    ("options", "is_refused"),
    [
        ({}, True),
        ({"chown": (5, 5)}, False),
        ({"chown": (5, None)}, True),
        ({"chown": (70000, 5)}, True),
        ({"preserve": KEPT - {OWNERSHIP}}, False),
    ],
)
def test_the_owner_counts_as_it_goes_on(options: dict[str, Any], is_refused: bool) -> None:
    attempt = mapped(tries("web-0", **options).first())
    sink = open_to(attempt)
    attempt._on_ready(None, True)
    passes(attempt, (70000, 70000))
    assert (sink.error is not None) == is_refused


@pytest.mark.parametrize("target", [b"/srv", b"/"])
@pytest.mark.parametrize("tar", [BUSYBOX, probe.Tar.GNU])
def test_an_owner_that_busybox_would_lose_on_its_way_to_a_mount_is_refused(
    tar: probe.Tar, target: bytes
) -> None:
    """There alone: what is renamed keeps its owner, as it was unpacked."""
    of_one = tries("web-0")
    placement = Placement(target, b"" if target == b"/" else b"data")
    mount = placement.path.rstrip(b"/") + b"/volume"
    there = replace(of_one._plan.there, tar=tar, mounts=(mount, b"/elsewhere"))
    of_one._plan = replace(of_one._plan, there=there, placement=placement)
    of_one._staging = of_one._new_staging(kept=False)
    attempt = of_one.first()
    sink = open_to(attempt)
    attempt._on_ready(None, True)
    for name, uid in ((b"data/file", HIGH), (b"data/volumes/file", HIGH), (b"data/volume", HIGH)):
        attempt._count(Member(name, REGULAR, 0, 0o644, uid, 0, 0))
    attempt._count(Member(b"data/volume/fits", REGULAR, 0, 0o644, 2**24 - 1, 0, 0))
    assert sink.error is None
    attempt._count(Member(b"data/other", REGULAR, 0, 0o644, HIGH, 0, 0))
    attempt._count(Member(b"data/volume/file", REGULAR, 0, 0o644, HIGH, 0, 0))
    if tar is BUSYBOX:
        assert isinstance(sink.error, DestinationRefused)
        assert f"'data/volume/file' would belong to {HIGH}:0, and" in sink.error.happened
        assert f"mounted at {mount.decode()}, " in sink.error.happened
    else:
        assert sink.error is None
