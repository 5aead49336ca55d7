"""The command lines of `kubectl cp`: the examples of its help, its filespecs, its directory rule.

Each has the outcome that it has there, or the difference that docs/comparison.md tells. Where a
kubectl is installed it does the same, so that what is said of it here is what it does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.end_to_end.breaker import breaking
from tests.end_to_end.conftest import ClusterUnderTest
from tests.end_to_end.pods import Place, TestPod, ThisMachine
from tests.end_to_end.test_resume import Cuts

KUBECTL = os.environ.get("PODCP_KUBECTL") or shutil.which("kubectl")

THINGS = {
    "foo": {"": "= foo"},
    "foo_dir": {"": "", "/g": "= g", "/l": "-> g", "/sub": "", "/sub/f": "= f"},
}
"""What is copied: a file; and a directory, with a file, a link, and a directory with a file."""

MAKE = (
    "mkdir -p foo_dir/sub there; printf foo >foo; printf g >foo_dir/g; printf f >foo_dir/sub/f; "
    "ln -s g foo_dir/l; touch -d @1600000000 foo foo_dir/g foo_dir/sub/f"
)

LOOK = (
    "find . -mindepth 1 | while read -r name; do "
    'if [ -L "$name" ]; then echo "$name -> $(readlink "$name")"; '
    'elif [ -f "$name" ]; then echo "$name = $(cat "$name")"; else echo "$name "; fi; done'
)
"""Lists names, and what stands there. The contents differ, so that each file is known by them."""


SAME = "the same"
NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True)
class Case:
    """A command line, and what it comes to.

    :ivar words: ``POD`` stands for the Pod.
    :ivar ours: what stands where; or what an error says.
    :ivar theirs: the same of `kubectl cp`, where it is not the same; an error is None.
    """

    name: str
    words: str
    ours: Mapping[str, str] | str
    theirs: Mapping[str, str] | str | None = SAME


UP = (
    Case("a directory", "foo_dir POD:/srv/bar_dir", {"bar_dir": "foo_dir"}),
    Case("final slashes", "foo_dir/ POD:/srv/bar_dir/", {"bar_dir": "foo_dir"}),
    Case("a namespace", "foo NAMESPACE/POD:/srv/bar", {"bar": "foo"}),
    Case("a container", "foo POD:/srv/bar -c main", {"bar": "foo"}),
    Case("a directory into one", "foo_dir POD:/srv/there", {"there/foo_dir": "foo_dir"}),
    Case("contents into one", "foo_dir/. POD:/srv/there", {"there": "foo_dir"}),
    Case("a file into a directory", "foo POD:/srv/there", {"there/foo": "foo"}),
    Case("retries", "--retries=10 foo POD:/srv/bar", {"bar": "foo"}),
    Case("no directory", "foo POD:/srv/no/bar", "POD:/srv/no/bar does not exist", None),
    Case("a file with a slash", "foo POD:/srv/bar/", "is not a directory", {"bar": "foo"}),
)

DOWN = (
    Case("a file", "NAMESPACE/POD:/data/foo bar", {"bar": "foo"}),
    Case("a directory", "POD:/data/foo_dir bar_dir", {"bar_dir": "foo_dir"}),
    Case("final slashes", "POD:/data/foo_dir/ bar_dir/", {"bar_dir": "foo_dir"}),
    Case("contents into one", "POD:/data/foo_dir/. there", {"there": "foo_dir"}),
    Case("retries", "--retries=-1 POD:/data/foo bar", {"bar": "foo"}),
    Case(
        "a directory into one",
        "POD:/data/foo_dir there",
        {"there/foo_dir": "foo_dir"},
        {"there": "foo_dir"},
    ),
    Case("a file into a directory", "POD:/data/foo there", {"there/foo": "foo"}, None),
    Case("a file with a slash", "POD:/data/foo bar/", "is not a directory", {"bar": "foo"}),
    Case("no directory", "POD:/data/foo no/bar", "no/bar does not exist", {"no/bar": "foo"}),
    Case("no source", "POD:/data/none bar", "POD:/data/none does not exist", NOTHING),
)


def named(case: Case) -> str:
    """Return a test's name."""
    return case.name


@pytest.fixture(params=["gnu", "busybox"])
def pod(request: pytest.FixtureRequest, cluster: ClusterUnderTest) -> TestPod:
    """A Pod with the things in /data."""
    pod = cluster.pod(f"{request.param}-1")
    pod.fresh("/data", "/srv")
    pod.sh(f"cd /data; {MAKE}")
    return pod


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with nothing in it."""
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def argv(case: Case, pod: TestPod) -> list[str]:
    """Return a command line for this Pod."""
    return case.words.replace("POD", pod.name).replace("NAMESPACE", pod.namespace).split()


def standing(what: Mapping[str, str]) -> dict[str, str]:
    """Return what :func:`look` finds where those things stand, beside what was there before."""
    found = {"./there": ""}
    for where, thing in what.items():
        found |= {f"./{parent}": "" for parent in where.split("/")[:-1]}
        found |= {f"./{where}{name}": content for name, content in THINGS[thing].items()}
    return found


def look(place: Place, directory: str) -> dict[str, str]:
    """Return what stands in a directory."""
    lines = place.sh(f"cd {directory}; {LOOK}").decode().splitlines()
    return {name: content for name, _, content in (line.partition(" ") for line in lines)}


def check(case: Case, cluster: ClusterUnderTest, pod: TestPod) -> None:
    """Run it, and check that it ends as it should."""
    done = cluster.copy("v5", *argv(case, pod))
    if isinstance(case.ours, str):
        done.failed(1, case.ours.replace("POD", pod.name))
    else:
        done.complete()


def expected(case: Case) -> dict[str, str]:
    """Return what stands there then."""
    return standing({} if isinstance(case.ours, str) else case.ours)


def kubectl_cp(cluster: ClusterUnderTest, *words: str) -> subprocess.CompletedProcess[str]:
    """Run kubectl itself."""
    if KUBECTL is None:
        pytest.skip("kubectl is missing")
    access = ["--kubeconfig", str(cluster.kubeconfig), "--context", "podcp-v5"]
    command = [KUBECTL, *access, "cp", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("case", UP, ids=named)
def test_to_a_pod(cluster: ClusterUnderTest, pod: TestPod, here: Path, case: Case) -> None:
    ThisMachine().sh(f"cd {here}; {MAKE}; rmdir there")
    pod.sh("mkdir /srv/there")
    check(case, cluster, pod)
    assert look(pod, "/srv") == expected(case)


@pytest.mark.parametrize("case", DOWN, ids=named)
def test_from_a_pod(cluster: ClusterUnderTest, pod: TestPod, here: Path, case: Case) -> None:
    (here / "there").mkdir()
    check(case, cluster, pod)
    assert look(ThisMachine(), str(here)) == expected(case)


@pytest.mark.parametrize("pod", ["gnu"], indirect=True)
@pytest.mark.parametrize("case", (*UP, *DOWN), ids=named)
def test_kubectl_does_what_is_said_of_it(
    cluster: ClusterUnderTest, pod: TestPod, here: Path, case: Case
) -> None:
    place: Place
    if case in UP:
        ThisMachine().sh(f"cd {here}; {MAKE}; rmdir there")
        pod.sh("mkdir /srv/there")
        place, directory = pod, "/srv"
    else:
        (here / "there").mkdir()
        place, directory = ThisMachine(), str(here)
    code = kubectl_cp(cluster, *argv(case, pod)).returncode
    theirs = case.ours if case.theirs is SAME else case.theirs
    assert not isinstance(theirs, str)
    assert (code != 0) is (theirs is None)
    wanted = standing(theirs or {})
    if case in DOWN:  # it leaves links out
        wanted = {name: each for name, each in wanted.items() if not each.startswith("->")}
    assert look(place, directory) == wanted


@pytest.mark.parametrize("pod", ["gnu"], indirect=True)
def test_a_link_at_the_destination_is_replaced_where_kubectl_writes_through_it(
    cluster: ClusterUnderTest, pod: TestPod, here: Path
) -> None:
    words = (f"{pod.name}:/data/foo", "bar")
    (here / "old").write_text("old")
    (here / "bar").symlink_to("old")
    cluster.copy("v5", *words).complete()
    assert look(ThisMachine(), str(here)) == {"./bar": "= foo", "./old": "= old"}
    (here / "bar").unlink()
    (here / "bar").symlink_to("old")
    assert kubectl_cp(cluster, *words).returncode == 0
    assert look(ThisMachine(), str(here)) == {"./bar": "-> old", "./old": "= foo"}


@pytest.mark.parametrize("pod", ["gnu"], indirect=True)
def test_with_the_option_a_second_run_does_what_kubectls_does(
    cluster: ClusterUnderTest, pod: TestPod, here: Path
) -> None:
    """What its directory rule is from a Pod, `-T` is in every direction."""
    (here / "there").mkdir()
    for _ in range(2):
        cluster.copy("v5", "-T", f"{pod.name}:/data/foo_dir", "there").complete()
    assert look(ThisMachine(), str(here)) == standing({"there": "foo_dir"})


# --- filespecs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("foo", "the following arguments are required: DESTINATION"),
        ("foo /srv", "neither foo nor /srv is in a Pod"),
        ("foo :/srv", "a path is written [[namespace/]pod:]path"),
        ("foo a/b/c:/srv", "does not match [[namespace/]pod:]path"),
        ("foo gnu-1:", "has an empty path"),
        (r"C:\foo gnu-1:/srv", "'C' is no name of a Pod"),
    ],
)
def test_a_filespec_that_is_none(
    cluster: ClusterUnderTest, here: Path, words: str, said: str
) -> None:
    """kubectl refuses them too; and our exit code says that it is the command line."""
    (here / "foo").write_text("foo")
    cluster.copy("v5", *words.split()).failed(2, said)
    assert look(ThisMachine(), str(here)) == {"./foo": "= foo"}
    assert kubectl_cp(cluster, *words.split()).returncode == 1


@pytest.mark.parametrize("pod", ["gnu"], indirect=True)
def test_local_names_with_a_colon_need_a_path_in_front(
    cluster: ClusterUnderTest, pod: TestPod, here: Path
) -> None:
    """kubectl has no way to write them."""
    (here / "a:b").write_text("foo")
    for word in ("./a:b", str(here / "a:b")):
        pod.fresh("/srv")
        cluster.copy("v5", word, f"{pod.name}:/srv/bar").complete()
        assert look(pod, "/srv") == {"./bar": "= foo"}
        assert kubectl_cp(cluster, word, f"{pod.name}:/srv/bar").returncode == 1


# --- retries ----------------------------------------------------------------------------------


@pytest.mark.parametrize("pod", ["gnu"], indirect=True)
def test_with_a_negative_number_of_retries_it_tries_again(
    cluster: ClusterUnderTest, pod: TestPod, tmp_path: Path
) -> None:
    pod.sh("dd if=/dev/urandom of=/data/big bs=1M count=40 2>/dev/null")
    (tmp_path / "down").mkdir()
    cuts = Cuts(8 << 20, 24 << 20)
    with breaking(cluster.kubeconfig, "podcp-v5", tmp_path) as (breaker, kubeconfig):
        breaker.on_passing = cuts
        through = replace(cluster, kubeconfig=kubeconfig)
        words = (f"{pod.name}:/data/big", f"{pod.name}:/srv/big")
        done = through.copy("v5", "--retries=-1", *words).complete()
    assert cuts.made == 2
    assert "(1)" in done.stderr
    assert "after 2 retries" in done.stderr
    assert pod.sha256("/srv/big") == pod.sha256("/data/big")
