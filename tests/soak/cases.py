"""A case: what is copied, from where, to where, how, and what goes wrong meanwhile.

In go a seed, a number and what the cluster has; out comes a :class:`Case`, the same each time. No
I/O, raises nothing.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from random import Random

from tests.soak import forest
from tests.soak.forest import Member

GENTLE = ("none", "cut anew", "delay", "pause")
"""What a copy must stand, with the defaults and without a retry."""

NETWORK = ("reset", "finish", "freeze")
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL")
KILLS = ("source's tar", "source's shell", "destination's tar", "destination's shell")
LIES = (
    "cut stdout",
    "cut stdin",
    "end early",
    "end all",
    "false status",
    "hang on early exit",
    "no trailer",
    "wrong nonce",
    "other marker",
    "no last word",
    "cut connection",
)
"""Which only the embedded server can tell; see tests/loopback/faults.py, end_to_end/lies.py."""

LAYOUTS = ("free", "into", "merge", "replace", "exact", "contents", "misfit", "nowhere")
"""What stands at the destination, and so where the copy comes to stand."""


@dataclass(frozen=True)
class World:
    """What the cluster has.

    :ivar can_lie: it is the embedded one.
    """

    tars: tuple[str, ...]
    versions: tuple[str, ...]
    can_lie: bool


@dataclass(frozen=True)
class Fault:
    """What goes wrong.

    :ivar at: so many bytes, through the proxy in both directions or of one stream, rising.
    :ivar detail: what else has to be known, from 0 to 1.
    :ivar once: whether only the first session that is meant suffers from it.
    """

    kind: str
    at: tuple[int, ...]
    detail: float
    once: bool


@dataclass(frozen=True)
class Case:
    """One copy.

    :ivar source: members of what is copied, below ``from``; the first one is its top.
    :ivar old: members of what the destination has, below ``to``.
    :ivar path: of the source, relative to ``from``.
    :ivar target: as the command is told, relative to ``to``.
    :ivar prefix: where the copy comes to stand, relative to ``to``; None where it is refused.
    :ivar is_library: whether the library is called, and looked at for what it leaves.
    """

    seed: int
    number: int
    pods: tuple[str, str]
    version: str
    layout: str
    source: tuple[Member, ...]
    old: tuple[Member, ...]
    path: bytes
    target: bytes
    prefix: bytes | None
    options: tuple[str, ...]
    fault: Fault
    is_library: bool

    @property
    def directory(self) -> str:
        """Where all of it stands, in both Pods."""
        return f"/soak/{self.number}"

    @property
    def keeps(self) -> bool:
        """Whether what arrived is kept for the next run."""
        return "--partial" in self.options

    @property
    def retries(self) -> bool:
        """Whether it is tried again, which it is unless the options say otherwise."""
        return ("--retries", "0") not in itertools.pairwise(self.options)

    def __str__(self) -> str:
        paths = f"{self.pods[0]}:{self.path!r} {self.pods[1]}:{self.target!r} ({self.layout})"
        what = f"{len(self.source)} names, {forest.size(self.source):,} bytes"
        how = " ".join((self.version, *self.options, *(("library",) if self.is_library else ())))
        fault = f"{self.fault.kind} at {self.fault.at} ({self.fault.detail:.2f}, {self.fault.once})"
        return f"case {self.number} of seed {self.seed}: {paths}, {what}, {how}; {fault}"


def draw(seed: int, number: int, world: World) -> Case:
    """Return the case of that number."""
    chance = Random(f"{seed} {number}")
    pods = tuple(f"{chance.choice(world.tars)}-{end}" for end in (0, 1))
    if chance.random() < 0.08:
        pods = (pods[1], pods[1])
    layout = chance.choice((*LAYOUTS[:6] * 3, *LAYOUTS))
    top = forest.name(chance)
    is_tree = layout in ("merge", "exact", "contents") or chance.random() < 0.75
    source = forest.tree(chance, top) if is_tree else [forest.file(chance, top)]
    if layout == "replace":
        source = source if not is_tree else [forest.file(chance, top)]
    old, path, target, prefix = _laid_out(chance, layout, source, top)
    fault = _fault(chance, world, forest.size(source))
    options = _options(chance, fault) + _packing(seed, number, pods, fault)
    return Case(
        seed,
        number,
        (pods[0], pods[1]),
        chance.choice(world.versions),
        layout,
        tuple(source),
        tuple(old),
        path,
        target,
        prefix,
        (*options, "-T") if layout == "exact" else options,
        fault,
        fault.kind not in SIGNALS and chance.random() < 0.15,
    )


def _laid_out(
    chance: Random, layout: str, source: list[Member], top: bytes
) -> tuple[list[Member], bytes, bytes, bytes | None]:
    """Return what the destination has, the two paths, and where the copy comes to stand."""
    name = forest.name(chance)
    misfit = chance.random() < 0.1
    if layout == "free":
        return [forest.file(chance, b"old")], top, b"new " + name[:200], b"new " + name[:200]
    if layout == "into":
        return forest.tree(chance, b"D " + name[:200])[:5], top, b"", top
    if layout == "merge":
        return forest.older(chance, source, top, misfit), top, b"", top
    if layout in ("exact", "contents"):
        path = top if layout == "exact" else top + b"/."
        if chance.random() < 0.2:
            return [], path, name, name
        old = forest.older(chance, source, top, misfit)
        return _moved(old, top, name), path, name, name
    if layout == "replace":
        if chance.random() < 0.5:
            return [forest.file(chance, name)], top, name, name
        return [forest.file(chance, top)], top, b"", top
    if layout == "misfit" and source[0][0].isdir():
        return [forest.file(chance, name)], top, name, None
    if layout == "misfit":
        return forest.tree(chance, top)[:5], top, b"", None
    return [], top, b"nowhere/" + name, None


def _moved(members: list[Member], top: bytes, to: bytes) -> list[Member]:
    """Return a tree under another name."""

    def moved(path: str) -> str:
        return to.decode("utf-8", "surrogateescape") + path[len(begin) :]

    begin = top.decode("utf-8", "surrogateescape")
    return [
        (
            forest.altered(
                each,
                name=moved(each.name),
                linkname=moved(each.linkname) if each.islnk() else each.linkname,
            ),
            content,
        )
        for each, content in members
    ]


def _fault(chance: Random, world: World, size: int) -> Fault:
    families = [GENTLE, NETWORK, NETWORK, SIGNALS, KILLS, ("full",)]
    if world.can_lie:
        families += [LIES, LIES]
    kind = chance.choice(chance.choice(families))
    if kind == "no trailer" and chance.random() < 0.7:
        kind = "cut stdout"  # it takes ten seconds each time
    if kind == "destination's shell" and not world.can_lie:
        # Over v4 a real server says nothing of it, and the acknowledgement is waited for ten
        # minutes: test_endings.py has it, with a stall time-out of its own.
        kind = "destination's tar"
    times = chance.choice((1, 1, 1, 2, 3)) if kind in NETWORK else 1
    place = _of_stream if kind in LIES else _of_proxy
    at = tuple(sorted(place(chance, size) for _ in range(times)))
    return Fault(kind, at, chance.random(), chance.random() < 0.6)


PROBES = 42_000
"""Bytes through the proxy before the archive begins: requests, handshakes, probes."""

LAST = 12_000
"""Bytes through it about the end: the marker, the acknowledgement, the closing."""


def _of_proxy(chance: Random, size: int) -> int:
    """Return a byte through the proxy; each archive passes it twice."""
    where = chance.random()
    if where < 0.12:
        return chance.randrange(1, PROBES)
    if where < 0.3:
        return PROBES + 2 * size + chance.randrange(-LAST, LAST)
    return PROBES + chance.randrange(2 * size + LAST)


def _of_stream(chance: Random, size: int) -> int:
    return chance.choice((chance.randrange(2048), chance.randrange(size + 2048), size))


def _options(chance: Random, fault: Fault) -> tuple[str, ...]:
    options: tuple[str, ...] = ()
    if chance.random() < 0.5:
        options += ("--retries", str(chance.choice((0, 1, 1, 2, 3))))
    if chance.random() < 0.3:
        options += ("--partial",)
    if fault.kind in ("freeze", "cut stdout", "cut stdin", "hang on early exit"):
        options += ("--stall-timeout", "1")
    return options


def _packing(seed: int, number: int, pods: tuple[str, ...], fault: Fault) -> tuple[str, ...]:
    """Return whether what passes is compressed, of which nothing else depends.

    Lies are told of what an archive is as it is. toybox compresses nothing, and cannot be told by
    v4 where a compressed stream ends.
    """
    is_asked = Random(f"{seed} {number} packing").random() < 0.25
    can = fault.kind not in LIES and not any(pod.startswith("toybox") for pod in pods)
    return ("--compress=gzip",) if is_asked and can else ()
