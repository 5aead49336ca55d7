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
from kubectl_podcp.errors import DestinationRefused
from kubectl_podcp.paths import Kind, Placement, SourceFacts, TargetFacts
from kubectl_podcp.plan import Plan
from kubectl_podcp.remote import probe
from kubectl_podcp.report import Tally
from kubectl_podcp.request import CopyRequest, Options
from kubectl_podcp.tries import Tries

NONCE = "0123456789abcdef" * 2


def tries(pod: str, **options: Any) -> Tries:
    """Return tries at a copy of /data to a Pod."""
    request = CopyRequest.of("src:/data", f"{pod}:/srv", Options(**options))
    source, target = (_end(each) for each in ("src", pod))
    found = probe.Source(SourceFacts(b"/", b"data", Kind.DIRECTORY), probe.Tar.GNU)
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
