"""What both ends have: their trees listed and, where that is asked for, their files' digests.

In: a plan. Out: listings, and the files that are up to date at the destination. Nothing stays on
either side. Raises :class:`~kubectl_podcp.errors.PodcpError`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from kubectl_podcp import digest, paths, update
from kubectl_podcp import plan as plans
from kubectl_podcp.ends import End
from kubectl_podcp.errors import DestinationRefused, ServerError, SourceError
from kubectl_podcp.plan import Plan
from kubectl_podcp.remote import listing, scripts
from kubectl_podcp.remote.listing import Listing
from kubectl_podcp.remote.scripts import Staging
from kubectl_podcp.update import Current

LIST_TIMEOUT = 60.0
"""Seconds for listing a tree."""

NO_SHA256SUM = "there is no sha256sum {}, which --checksum needs"
WITHOUT = "--update goes by sizes and times, and needs none"


def list_source(plan: Plan) -> Listing | None:
    """Return what is wanted of the source's tree; None where it cannot be listed whole."""
    selection, facts = plan.request.selection, plan.found.facts
    if selection.only is None:
        nonce = os.urandom(16).hex()
        follow = plan.request.dereference
        script = scripts.list_source(facts, nonce, selection.prunes, follow=follow)
        found = _listed(plan.source, script, nonce)
    else:
        found = _list_named(plan, (b"", *sorted(selection.above)), deep=False)
        named = found and _list_named(plan, sorted(selection.only), deep=True)
        found = found.joined(named) if found and named else None  # directories come first
    if found is None or selection.is_all:
        return found
    return found.only(lambda name, is_directory: selection.wants(name, is_directory=is_directory))


def _list_named(plan: Plan, paths: Iterable[bytes], *, deep: bool) -> Listing | None:
    """Return those names of the source's tree that it has."""
    facts, prunes = plan.found.facts, plan.request.selection.prunes
    found = Listing(b"", frozenset(), {})
    for names in digest.portions(facts.top + b"/" * bool(path) + path for path in paths):
        nonce, words = os.urandom(16).hex(), scripts.words(names)
        follow = plan.request.dereference
        script = scripts.list_named(facts, nonce, len(words), prunes, deep=deep, follow=follow)
        listed = _listed(plan.source, script, nonce, words)
        if listed is None:
            return None
        found = found.joined(listed)
    return found


def list_target(plan: Plan, staging: Staging) -> Listing | None:
    """Return the tree where the copy comes to stand, its top called as the source's; None where
    it cannot be listed whole.

    :param staging: a folder that is not there yet.
    """
    nonce = os.urandom(16).hex()
    found = _listed(plan.target, scripts.list_target(staging, nonce), nonce)
    return found and found.renamed(_name_there(plan), plan.found.facts.top)


def _listed(end: End, script: str, nonce: str, stdin: bytes = b"") -> Listing | None:
    try:
        return listing.parse(end.ask(script, LIST_TIMEOUT, listing.LIMIT, stdin=stdin), nonce)
    except ServerError as error:
        if error.retryable:
            raise
        return None  # too long, for example; whatever else it is, the copy will say


def compare(plan: Plan, staging: Staging) -> Current | None:
    """Return the files that are up to date, and what else is at both ends; None where the trees
    cannot be compared.

    :param staging: as for :func:`list_target`.
    :raises SourceError: contents are to be compared, and the source cannot.
    :raises DestinationRefused: neither can the destination.
    """
    source, target = plans.both(lambda: list_source(plan), lambda: list_target(plan, staging))
    if source is None or target is None:
        return None
    names = _up_to_date(plan, source, target) if plan.request.compares else frozenset()
    clashing = (name for name in update.clashing(source, target) if name not in names)
    return Current(source, names, tuple(clashing))


def _up_to_date(plan: Plan, source: Listing, target: Listing) -> frozenset[bytes]:
    names = update.alike(source, target, plan.rewriting)
    if not plan.request.checksum:
        return update.same_time(names, source, target)
    if not plan.found.sha256:
        raise SourceError(NO_SHA256SUM.format(plan.request.source.where), advice=WITHOUT)
    if not plan.there.sha256:
        raise DestinationRefused(
            NO_SHA256SUM.format(plan.request.destination.where), advice=WITHOUT
        )
    sizes = {name: source[name].size for name in names}
    return _same(plan, sizes, plan.placement.directory, _name_there(plan))


def same_staged(plan: Plan, staging: Staging, sizes: Mapping[bytes, int]) -> frozenset[bytes]:
    """Return those of the staged files that have the same contents as the source's; none where one
    end cannot tell.

    :param sizes: in bytes, by name.
    """
    if not (plan.found.sha256 and plan.there.sha256):
        return frozenset()
    directory = paths.join(plan.placement.directory, staging.name)
    return _same(plan, sizes, directory, plan.found.facts.top)


def _same(plan: Plan, sizes: Mapping[bytes, int], directory: bytes, top: bytes) -> frozenset[bytes]:
    """Return those of the files whose contents are equal at both ends.

    :param directory: the destination's, in which the tree is called ``top``.
    """
    facts = plan.found.facts
    there = {top + name[len(facts.top) :]: name for name in sizes}
    sizes_there = {name: sizes[here] for name, here in there.items()}
    here, told = plans.both(
        lambda: dict(digest.of_named(plan.source, facts.directory, sizes, plan.found.sha256)),
        lambda: dict(digest.of_named(plan.target, directory, sizes_there, plan.there.sha256)),
    )
    return update.same_digest(sizes, here, {there[name]: each for name, each in told.items()})


def _name_there(plan: Plan) -> bytes:
    return plan.placement.name or b"."
