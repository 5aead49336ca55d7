"""Every direction, over both protocols, with every tar in the Pod: a tree arrives as it is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.end_to_end import fidelity, trees
from tests.end_to_end.conftest import TARS, ClusterUnderTest
from tests.end_to_end.pods import Place, ThisMachine
from tests.end_to_end.trees import Tree

FILES = 300
"""Of the tree, besides one of everything that is odd."""


@dataclass(frozen=True)
class End:
    """One end of a copy.

    :ivar directory: holds the tree, or will.
    :ivar word: the directory, as the command line has it.
    :ivar tar: whose tar packs, or unpacks.
    """

    place: Place
    directory: str
    word: str
    tar: str


Ends = tuple[End, End]

HERE, POD = "this machine", "a Pod"
DIRECTIONS = {"up": (HERE, POD), "down": (POD, HERE), "across": (POD, POD)}
"""Across, both Pods have the same tar; test_pairs.py has all pairs."""


@pytest.fixture(params=TARS)
def tar(request: pytest.FixtureRequest) -> str:
    """Whose tar a Pod has."""
    return str(request.param)


@pytest.fixture(params=DIRECTIONS)
def ends(
    request: pytest.FixtureRequest, cluster: ClusterUnderTest, tar: str, tmp_path: Path
) -> Ends:
    """Where the tree is copied from, and where to; nothing is there yet."""

    def end(where: str, number: int) -> End:
        if where == HERE:
            return End(ThisMachine(), str(tmp_path), str(tmp_path), "gnu")
        pod, directory = cluster.pod(f"{tar}-{number}"), ("/data", "/srv")[number]
        pod.fresh(directory)
        return End(pod, directory, f"{pod.name}:{directory}", tar)

    source, destination = DIRECTIONS[request.param]
    return end(source, 0), end(destination, 1)


def look(end: End, destination: str) -> Tree:
    """Return the tree as far as both this user and the destination's tar can restore it."""
    tree = fidelity.comparable(trees.look(end.place, end.directory, "tree"), destination)
    if os.geteuid() == 0:
        return tree
    entries = {name: trees.without_owner(entry) for name, entry in tree.entries.items()}
    return Tree(entries, tree.links)


def test_a_tree_arrives_as_it_is(cluster: ClusterUnderTest, version: str, ends: Ends) -> None:
    """Names, types, modes, owners, times, links of either kind, and the sha256 of each file."""
    source, destination = ends
    trees.put_big_tree(source.place, source.directory, "tree", FILES)
    cluster.copy(version, f"{source.word}/tree", destination.word).complete()
    sent, came = look(source, destination.tar), look(destination, destination.tar)
    assert len(sent.entries) > FILES
    assert came.links == sent.links
    assert came.entries.keys() == sent.entries.keys()
    assert [name for name in sent.entries if came.entries[name] != sent.entries[name]] == []
    assert destination.place.names(destination.directory) == ["tree"]


def test_a_file_arrives_as_it_is(cluster: ClusterUnderTest, version: str, ends: Ends) -> None:
    """Under another name, over an old one."""
    source, destination = ends
    make = "head -c 3000001 /dev/urandom >file; chmod 640 file; touch -d @1600000000 file"
    source.place.sh(f"cd {source.directory}; {make}")
    destination.place.sh(f"echo old >{destination.directory}/other")
    cluster.copy(version, f"{source.word}/file", f"{destination.word}/other").complete()
    stat = "stat -c '%s %a %Y'"
    sent, came = f"{source.directory}/file", f"{destination.directory}/other"
    assert destination.place.sha256(came) == source.place.sha256(sent)
    assert destination.place.sh(f"{stat} {came}") == source.place.sh(f"{stat} {sent}")
    assert destination.place.names(destination.directory) == ["other"]
