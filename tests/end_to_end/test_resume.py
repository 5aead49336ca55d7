"""A copy that is broken goes on from where it stopped, and ends with the same bytes."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from itertools import cycle
from pathlib import Path

import pytest

from tests.end_to_end import fidelity, trees
from tests.end_to_end.breaker import Breaker, Link, breaking
from tests.end_to_end.conftest import TARS, ClusterUnderTest, Copied
from tests.end_to_end.doctor import doctored
from tests.end_to_end.pods import BUSYBOX
from tests.end_to_end.report import Report
from tests.loopback import statuses, web
from tests.loopback.faults import CutStdout, Refuse, runs
from tests.loopback.server import Server

SEED = 20_240_229
OVERHEAD = 1.1
"""What may be sent in all, as a multiple of what is copied, where that is 500 MiB or more."""

LOST = 16 << 20
"""Bytes that a cut may cost on their way to the destination's tar: in the sockets of the breaking
proxy, the API server, the kubelet and the runtime. They do not shrink with what is copied: with a
busy disk it was 11 MiB a cut. A copy that begins anew says so, and that is checked on its own."""

BUFFERS = 48 << 20
"""Bytes that may be on their way from the source when a connection breaks, and are lost: in the
queue, and in the sockets of the API server, of the breaking proxy and of ours."""


class Cuts:
    """Break the busiest connection when so many bytes have gone up in all.

    :param at: those sums, in bytes, rising.
    """

    def __init__(self, *at: int) -> None:
        self.left = sorted(at)
        self.made = 0

    def __call__(self, breaker: Breaker, link: Link) -> None:
        if self.left and breaker.up >= self.left[0]:
            self.left.pop(0)
            self.made += 1
            (link.reset if self.made % 2 else link.finish)()


def copied(
    cluster: ClusterUnderTest, version: str, place: Path, cuts: Cuts, *paths: str
) -> Breaker:
    """Copy through a proxy that makes ``cuts``; return it, for what it counted."""
    result, breaker = passed(cluster, version, place, *paths, "--retries", "3", cuts=cuts)
    assert cuts.made, "nothing was broken"
    result.complete()
    assert f"after {cuts.made} retr" in result.stderr
    assert "begins anew" not in result.stderr, "nothing of what had arrived was used"
    return breaker


def passed(
    cluster: ClusterUnderTest,
    version: str,
    place: Path,
    *words: str,
    cuts: Cuts | None = None,
    buffer: int | None = None,
) -> tuple[Copied, Breaker]:
    """Copy through a proxy that counts, and makes ``cuts``; return both."""
    through_it = breaking(cluster.kubeconfig, f"podcp-{version}", place, buffer)
    with through_it as (breaker, kubeconfig):
        if cuts is not None:
            breaker.on_passing = cuts
        through = ClusterUnderTest(kubeconfig, cluster.is_real, command=cluster.command)
        return through.copy(version, *words), breaker


WHOLE = (("v5", "gnu"), ("v4", "toybox"))
"""With which protocol and tar a real cluster has 512 MiB to copy."""


@pytest.mark.parametrize("tar", TARS)
def test_a_file_that_is_broken_three_times(
    cluster: ClusterUnderTest, version: str, tar: str, tmp_path: Path, report: Report
) -> None:
    """Each byte passes once, and a little more: on the way up and on the way down."""
    source, destination = cluster.pod("gnu-0"), cluster.pod(f"{tar}-1")
    mib = 512 if cluster.is_real and (version, tar) in WHOLE else 96
    source.fresh("/data")
    destination.fresh("/srv")
    source.sh(
        f"cd /data; dd if=/dev/urandom of=big bs=1M count={mib} 2>/dev/null; chmod 640 big; "
        f"touch -d @{trees.MTIME} big"
    )
    chance = random.Random(f"{SEED} {tar} {version}")
    cuts = Cuts(*(chance.randrange(1 << 20, mib << 20) for _ in range(3)))
    breaker = copied(cluster, version, tmp_path, cuts, "gnu-0:/data/big", f"{tar}-1:/srv")
    assert destination.sha256("/srv/big") == source.sha256("/data/big")
    assert destination.names("/srv") == ["big"]
    stat = "stat -c '%a %u %g %Y' "
    assert destination.sh(f"{stat} /srv/big") == source.sh(f"{stat} /data/big")
    check_overhead(report, f"{mib} MiB to {tar}, {version}", breaker, cuts, mib << 20)


def check_overhead(report: Report, what: str, breaker: Breaker, cuts: Cuts, size: int) -> None:
    """Check, and report, what passed beside what was to be copied."""
    up, down = breaker.up / size, breaker.down / size
    report.add(f"resume, {what}, {cuts.made} cuts: {up:.3f} times its size up, {down:.3f} down")
    assert breaker.up - size < cuts.made * LOST
    assert breaker.down - size < cuts.made * (LOST + BUFFERS)
    if size >= 500 << 20:
        assert up < OVERHEAD
        assert down < OVERHEAD + cuts.made * BUFFERS / size


@pytest.mark.parametrize("tar", TARS)
def test_a_tree_that_is_broken_three_times(
    cluster: ClusterUnderTest, version: str, tar: str, tmp_path: Path, report: Report
) -> None:
    """Files that are whole are not sent again; names, links, modes and times are as ever."""
    source, destination = cluster.pod(f"{tar}-0"), cluster.pod("gnu-1")
    source.fresh("/data")
    destination.fresh("/srv")
    trees.put_big_tree(source, "/data", "tree")
    large = 62 if cluster.is_real and (version, tar) in WHOLE else 14
    source.sh(
        f"cd /data/tree; for n in $(seq {large}); do "
        "dd if=/dev/urandom of=large$n bs=1M count=8 2>/dev/null; done; "
        f"touch -d @{trees.MTIME} large*"
    )
    size = (large * 8 + 15) << 20
    chance = random.Random(f"{SEED} {tar} {version}")
    cuts = Cuts(*(chance.randrange(1 << 20, size) for _ in range(3)))
    breaker = copied(cluster, version, tmp_path, cuts, f"{tar}-0:/data/tree", "gnu-1:/srv")
    sent = fidelity.comparable(trees.look(source, "/data", "tree"), "gnu")
    came = fidelity.comparable(trees.look(destination, "/srv", "tree"), "gnu")
    assert came.links == sent.links
    assert [name for name in sent.entries if came.entries.get(name) != sent.entries[name]] == []
    assert came.entries.keys() == sent.entries.keys()
    assert destination.names("/srv") == ["tree"]
    if tar != "busybox":  # Debian's takes no list of names: it archives all again
        check_overhead(report, f"a tree from {tar}, {version}", breaker, cuts, size)


def test_a_name_that_the_source_s_tar_passes_over_is_named(
    cluster: ClusterUnderTest, version: str
) -> None:
    """Of those that it is told to read: it may take one for something else, and say nothing."""
    source, destination = cluster.pod("gnu-0"), cluster.pod("gnu-1")
    source.fresh("/data")
    destination.fresh("/srv")
    source.sh("mkdir /data/tree; cd /data/tree; touch there lost came; touch -d @1600000000 *")
    destination.sh("mkdir /srv/tree")
    cluster.copy(version, "gnu-0:/data/tree/there", "gnu-1:/srv/tree/").complete()
    forget = 's#^names=${names%.}#&; names=$(printf %s "$names" | sed /lost/d; echo)#'
    with doctored(source, forget):
        done = cluster.copy(version, "--update", "gnu-0:/data/tree", "gnu-1:/srv")
    assert done.code == 3, done
    assert "tree/lost: the tar there did not read it" in done.stderr
    assert destination.names("/srv/tree") == ["came", "there"]


@pytest.mark.parametrize("side", ["gnu-0", "gnu-1"])
def test_without_sha256_a_part_is_sent_again(
    cluster: ClusterUnderTest, version: str, side: str, tmp_path: Path
) -> None:
    """What is whole stays: it needs no digest."""
    source, destination = cluster.pod("gnu-0"), cluster.pod("gnu-1")
    source.fresh("/data")
    destination.fresh("/srv")
    source.sh(
        "mkdir /data/tree; cd /data/tree; for n in 1 2 3 4 5 6; do "
        "dd if=/dev/urandom of=big$n bs=1M count=8 2>/dev/null; done; "
        f"touch -d @{trees.MTIME} big* ."
    )
    with doctored(cluster.pod(side), "s/sha256sum/no-such-tool/g;s/openssl dgst/no-such-tool/g"):
        copied(cluster, version, tmp_path, Cuts(20 << 20), *("gnu-0:/data/tree", "gnu-1:/srv"))
    assert trees.look(destination, "/srv", "tree") == trees.look(source, "/data", "tree")


def broken_and_changed(
    cluster: ClusterUnderTest, version: str, tar: str, place: Path, script: str
) -> Copied:
    """Copy a tree, break that in the middle of a file, and change that when its rest is read.

    What has passed may be in buffers yet when the connection breaks, and no part of the file be
    there: then it is broken later.
    """
    for mib in (28, 36, 39):
        done = _broken_and_changed(cluster, version, tar, place, script, Cuts(mib << 20))
        if "done" in cluster.pod(f"{tar}-0").names("/data"):
            return done
    raise AssertionError("no rest was read")


def _broken_and_changed(
    cluster: ClusterUnderTest, version: str, tar: str, place: Path, script: str, cuts: Cuts
) -> Copied:
    source, destination = cluster.pod(f"{tar}-0"), cluster.pod("gnu-1")
    source.fresh("/data")
    destination.fresh("/srv")
    source.sh(
        "mkdir /data/tree; cd /data/tree; dd if=/dev/urandom of=big bs=1M count=40 2>/dev/null; "
        f"for n in $(seq 60); do : >a$n; : >z$n; done; touch -d @{trees.MTIME} * ."
    )
    once = f"[ -e /data/done ] || {{ : >/data/done; ( cd tree; {script} ); }} 2>/dev/null"
    with doctored(source, f"s#^if command -v dd #{once}; &#"):
        words = (f"{tar}-0:/data/tree", "gnu-1:/srv")
        return passed(cluster, version, place, *words, cuts=cuts, buffer=64 << 10)[0]


@pytest.mark.parametrize("tar", TARS)
@pytest.mark.parametrize("less", [512 * 20, 100])
def test_a_file_that_shrinks_before_its_rest_is_read(
    cluster: ClusterUnderTest, version: str, tar: str, tmp_path: Path, less: int
) -> None:
    """By as much as headers take, too: what follows it must not be taken for its end."""
    script = f"truncate -s {(40 << 20) - less} big"
    done = broken_and_changed(cluster, version, tar, tmp_path, script)
    assert "after 2 retries" in done.complete().stderr
    why = "'tree/big' became shorter|archive stops inside 'tree/big'"  # where little follows it
    assert re.search(why, done.stderr)
    source, destination = cluster.pod(f"{tar}-0"), cluster.pod("gnu-1")
    assert trees.look(destination, "/srv", "tree") == trees.look(source, "/data", "tree")


@pytest.mark.parametrize("tar", TARS)
def test_a_file_that_is_rewritten_before_its_rest_is_read(
    cluster: ClusterUnderTest, version: str, tar: str, tmp_path: Path
) -> None:
    """Its beginning was copied as it was, and its end as it is: that is no file there ever was."""
    dd = f"{BUSYBOX} dd of=big bs=1M conv=notrunc"  # not each userland's can do that
    script = f"for at in 0 39; do echo new | {dd} seek=$at; done"
    done = broken_and_changed(cluster, version, tar, tmp_path, script)
    if tar == "busybox":  # Debian's takes no list of names: it archives all again, and so says it
        assert "'tree/big' changed while it was copied" in done.complete().stderr
        source, destination = cluster.pod("busybox-0"), cluster.pod("gnu-1")
        assert trees.look(destination, "/srv", "tree") == trees.look(source, "/data", "tree")
        return
    assert done.code == 3, done
    assert done.stderr.count("tree/big: it changed while it was read") == 1
    assert done.stderr.splitlines()[-1].startswith("partial: 121 files")


TREE = (
    "mkdir /data/tree; cd /data/tree; for n in $(seq 240); do "
    "dd if=/dev/urandom of=file$n bs=200k count=1 2>/dev/null; done; "
    f"touch -d @{trees.MTIME} file* ."
)
"""Makes a tree whose files look the same each time, and never are. Of none a part is used, which
would be read in any case."""


def left_by_another_run(
    cluster: ClusterUnderTest, version: str, place: Path, *, tree: str = TREE
) -> None:
    """Break a copy with ``--partial`` when some of its files are whole."""
    source, destination = cluster.pod("gnu-0"), cluster.pod("gnu-1")
    source.fresh("/data")
    destination.fresh("/srv")
    source.sh(tree)
    with breaking(cluster.kubeconfig, f"podcp-{version}", place) as (breaker, kubeconfig):
        breaker.on_passing = Cuts(12 << 20)
        through = ClusterUnderTest(kubeconfig, cluster.is_real, command=cluster.command)
        words = ("--partial", "--retries", "0", "gnu-0:/data/tree", "gnu-1:/srv")
        through.copy(version, *words).failed(1, "is kept in")


@pytest.mark.parametrize("where", ["gnu-0", "busybox-0"])
def test_a_later_run_goes_on_with_nothing_but_what_the_source_has(
    cluster: ClusterUnderTest, version: str, tmp_path: Path, where: str
) -> None:
    """The same Pod with new contents, or another one: size, time, mode and owner are the same."""
    left_by_another_run(cluster, version, tmp_path)
    source, destination = cluster.pod(where), cluster.pod("gnu-1")
    source.fresh("/data")
    source.sh(TREE)
    done = cluster.copy(version, "--partial", f"{where}:/data/tree", "gnu-1:/srv")
    assert "begins anew" in done.complete().stderr
    assert trees.look(destination, "/srv", "tree") == trees.look(source, "/data", "tree")
    assert destination.names("/srv") == ["tree"]


def test_a_later_run_that_keeps_fractions_of_times_sends_all_again(
    cluster: ClusterUnderTest, tmp_path: Path
) -> None:
    """What the earlier one left is the same by a listing, which has whole seconds."""
    left_by_another_run(cluster, "v5", tmp_path, tree=f"{TREE.rpartition(';')[0]}; sleep 1.1")
    source, destination = cluster.pod("gnu-0"), cluster.pod("gnu-1")
    words = ("--partial", "--preserve=timestamps", "gnu-0:/data/tree", "gnu-1:/srv")
    cluster.copy("v5", *words).complete()
    look = "cd {}/tree && stat -c '%n %y' *"
    came = destination.sh(look.format("/srv"))
    assert came == source.sh(look.format("/data"))
    assert came.count(b".000000000 ") < 9
    assert destination.names("/srv") == ["tree"]


def test_what_is_kept_is_named_whatever_fails_first(
    cluster: ClusterUnderTest, server: Server, tmp_path: Path
) -> None:
    left_by_another_run(cluster, "v5", tmp_path)
    forbidden = web.json_response(statuses.refusal(403, "Forbidden", "not any more"), 403)
    server.inject("gnu-1", Refuse(forbidden), command=runs(" listed "))
    done = cluster.copy("v5", "--partial", "gnu-0:/data/tree", "gnu-1:/srv")
    assert "what arrived is kept in /srv/.podcp-" in done.failed(4).stderr


@pytest.mark.parametrize("options", [(), ("--verify",), ("--partial",)], ids=" ".join)
def test_a_source_that_is_replaced_meanwhile_is_copied_as_it_is_now(
    cluster: ClusterUnderTest,
    server: Server,
    version: str,
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    """By one with the same names, sizes and times, as images have that are built reproducibly."""
    source, destination = cluster.pod("gnu-0"), cluster.pod("gnu-1")
    source.fresh("/data")
    destination.fresh("/srv")
    source.sh(TREE)
    container, done = server.pod("gnu-0").containers[0], list[bool]()

    def replace(breaker: Breaker, _link: Link) -> None:
        if breaker.up >= 12 << 20 and not done:
            done.append(True)
            container.restart()
            source.sh("mkdir -p /data; " + TREE)

    with breaking(cluster.kubeconfig, f"podcp-{version}", tmp_path) as (breaker, kubeconfig):
        breaker.on_passing = replace
        through = ClusterUnderTest(kubeconfig, cluster.is_real, command=cluster.command)
        words = ("-c", "main", "gnu-0:/data/tree", "gnu-1:/srv")
        result = through.copy(version, *options, *words).complete()
    assert done
    assert "gnu-0 was restarted: what arrived is compared" in result.stderr
    assert trees.look(destination, "/srv", "tree") == trees.look(source, "/data", "tree")


def every_other(text: str, seen: list[str]) -> Callable[[Sequence[str]], bool]:
    """Return a predicate for the first, third, … command line that contains ``text``.

    :param seen: gets those command lines.
    """
    turns = cycle((True, False))

    def meant(command: Sequence[str]) -> bool:
        if not runs(text)(command) or not next(turns):
            return False
        seen.append(" ".join(command))
        return True

    return meant


def test_it_goes_on_though_answers_are_lost(
    cluster: ClusterUnderTest, server: Server, version: str, tmp_path: Path
) -> None:
    """The first answer to each question is lost: what both ends have of the copy, and its proof."""
    left_by_another_run(cluster, version, tmp_path)
    lost = list[str]()
    for pod in ("gnu-0", "gnu-1"):
        server.inject(pod, CutStdout(0), command=every_other(" answered ", lost))
    done = cluster.copy(version, "--partial", "-v", "1", "gnu-0:/data/tree", "gnu-1:/srv")
    assert "goes on: " in done.complete().stderr
    assert done.stderr.count("its answer was lost") >= 4
    for question in ("fact()", "echo dev | tar", "find . -type l"):  # a probe, and both listings
        assert any(question in command for command in lost)
    there = trees.look(cluster.pod("gnu-1"), "/srv", "tree")
    assert there == trees.look(cluster.pod("gnu-0"), "/data", "tree")


@pytest.mark.parametrize("side", [None, "gnu-0", "gnu-1"])
def test_a_later_run_goes_on_where_both_ends_can_prove_it(
    cluster: ClusterUnderTest, version: str, side: str | None, tmp_path: Path
) -> None:
    left_by_another_run(cluster, version, tmp_path)
    source, destination = cluster.pod("gnu-0"), cluster.pod("gnu-1")
    tools = "s/sha256sum/no-such-tool/g;s/openssl dgst/no-such-tool/g" if side else ""
    with doctored(cluster.pod(side or "gnu-0"), tools):
        done = cluster.copy(version, "--partial", "-v", "1", "gnu-0:/data/tree", "gnu-1:/srv")
    done.complete()
    assert ("begins anew" in done.stderr) == (side is not None)
    assert ("goes on: " in done.stderr) == (side is None)
    assert trees.look(destination, "/srv", "tree") == trees.look(source, "/data", "tree")


def test_bsdtar_keeps_the_times_of_directories_that_were_there_already(
    cluster: ClusterUnderTest, version: str, tmp_path: Path
) -> None:
    """It sets such a time when it meets the directory, and what comes into it then changes it."""
    source, destination = cluster.pod("gnu-0"), cluster.pod("bsdtar-1")
    source.fresh("/data")
    destination.fresh("/srv")
    source.sh(
        "mkdir -p /data/tree/d/e; cd /data/tree; for n in 1 2 3 4 5 6 7 8; do "
        "dd if=/dev/urandom of=d/e/f$n bs=1M count=6 2>/dev/null; done; "
        f"touch -d @{trees.MTIME} d/e/* d/e d ."
    )
    paths = ("gnu-0:/data/tree", "bsdtar-1:/srv")
    copied(cluster, version, tmp_path, Cuts(24 << 20), *paths)
    assert trees.look(destination, "/srv", "tree") == trees.look(source, "/data", "tree")
