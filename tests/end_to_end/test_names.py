"""What stands in front of the colon, from the command line to the copy.

The workloads are those of the embedded cluster.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.end_to_end import fidelity, trees
from tests.end_to_end.conftest import TARS, ClusterUnderTest
from tests.end_to_end.doctor import doctored
from tests.loopback.server import Server

KNOWS_NO_CASE = "s/PODCP/podcp/"
"""Asks for a name that is there, as one is that differs in case where a directory knows none."""


@pytest.mark.parametrize("options", [[], ["--verify"], ["--partial"]], ids=str)
def test_two_names_that_are_one_there(
    cluster: ClusterUnderTest, version: str, options: list[str]
) -> None:
    source, destination = cluster.pod("gnu-0"), cluster.pod("gnu-1")
    source.fresh("/data")
    destination.fresh("/srv")
    source.sh("mkdir -p /data/tree/a; cd /data/tree; touch Makefile makefile a/x; touch a/X")
    words = (*options, "gnu-0:/data/tree", "gnu-1:/srv")
    with doctored(destination, KNOWS_NO_CASE):
        done = cluster.copy(version, *words)
        done.failed(1, "another name of the source are one name", "was not changed", "--exclude")
        # What arrived before may stay with --partial, and depends on who was faster.
        assert destination.names("/srv") == [] or "--partial" in options
        source.sh("rm /data/tree/makefile /data/tree/a/X")
        cluster.copy(version, *words).complete()
    assert destination.names("/srv") == ["tree"]
    assert trees.look(destination, "/srv", "tree") == trees.look(source, "/data", "tree")


@pytest.mark.usefixtures("server")
def test_the_destination_whose_directory_knows_no_case_hurts_no_other(
    cluster: ClusterUnderTest, version: str
) -> None:
    source, bad, good = (cluster.pod(name) for name in ("gnu-0", "gnu-1", "bsdtar-1"))
    source.fresh("/data")
    source.sh("mkdir /data/tree; cd /data/tree; touch Makefile makefile")
    for pod in (bad, good):
        pod.fresh("/srv")
    to = ("--to", "gnu-1:/srv", "--to", "bsdtar-1:/srv")
    with doctored(bad, KNOWS_NO_CASE):
        done = cluster.copy(version, "gnu-0:/data/tree", *to)
    assert done.code == 3, done
    assert "another name of the source are one name" in done.stderr
    assert bad.names("/srv") == []
    assert good.names("/srv/tree") == ["Makefile", "makefile"]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("kind", ["deploy", "statefulset", "ds", "replicasets.apps", "job", "rc"])
def test_a_copy_from_a_workload_to_a_service(
    cluster: ClusterUnderTest, version: str, kind: str
) -> None:
    """gnu-0 and gnu-1 are equal but for their names, and so are the other two."""
    source, destination = cluster.pod("gnu-0"), cluster.pod("busybox-0")
    source.fresh("/data")
    destination.fresh("/srv")
    source.sh("cd /data; mkdir tree; echo new >tree/file; chmod 640 tree/file")
    done = cluster.copy(
        version,
        *("-c", "main", f"{kind}/gnu:/data/tree"),
        f"{destination.namespace}/svc/busybox:/srv",
    ).complete()
    assert done.stderr.splitlines()[:2] == [
        f"{kind}/gnu: taking Pod gnu-0",
        f"{destination.namespace}/svc/busybox: taking Pod busybox-0",
    ]
    sent = fidelity.comparable(trees.look(source, "/data", "tree"), "busybox")
    came = fidelity.comparable(trees.look(destination, "/srv", "tree"), "busybox")
    assert came == sent


@pytest.mark.usefixtures("server")
def test_an_error_names_the_pod_that_was_taken(cluster: ClusterUnderTest) -> None:
    done = cluster.copy("v5", "deploy/gnu:/nothing", "pod/busybox-0:/srv")
    done.failed(1, "error: gnu-0:/nothing does not exist")


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize(
    ("name", "said"), [("file", "gnu-0:/data/file"), ("none", "deploy/gnu:/data/none")]
)
def test_the_document_has_the_pod_that_was_taken_or_the_word(
    cluster: ClusterUnderTest, name: str, said: str
) -> None:
    """As docs/output.md has it: a word alone where the only copy failed."""
    source, destination = cluster.pod("gnu-0"), cluster.pod("gnu-1")
    source.fresh("/data")
    destination.fresh("/srv")
    source.sh("echo new >/data/file")
    done = cluster.copy("v5", "-o", "json", f"deploy/gnu:/data/{name}", "gnu-1:/srv")
    (copy,) = json.loads(done.stdout)["copies"]
    assert (copy["source"], copy["destination"]) == (said, "gnu-1:/srv")


@pytest.mark.parametrize(
    ("context", "source", "code", "words"),
    [
        ("v5", "deploy/nobody:/data", 1, ('no Deployment "nobody"', "kubectl get deployments")),
        ("v5", "nowhere/deploy/gnu:/data", 1, ('no namespace "nowhere"',)),
        ("v5", "sts/pending:/data", 1, ("is ready: pending-0 is Pending",)),
        ("v5", "job/done:/data", 1, ("is ready: done-0 is Succeeded",)),
        ("v5", "cronjob/x/gnu:/data", 2, ("does not match", "deploy/web")),
        ("viewer-v5", "deploy/gnu:/data", 4, ("forbids reading", "verb get on deployments.apps")),
    ],
)
def test_what_cannot_be_taken_says_why(
    cluster: ClusterUnderTest,
    server: Server,
    context: str,
    source: str,
    code: int,
    words: tuple[str, ...],
) -> None:
    assert server.pod("pending-0").phase == "Pending"
    cluster.copy(context, source, "busybox-0:/srv").failed(code, *words)


@pytest.mark.parametrize("tar", TARS)
def test_a_tilde_is_the_home_of_the_containers_user(
    cluster: ClusterUnderTest, version: str, tar: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not of the user of this machine; and its contents, where nothing follows."""
    monkeypatch.setenv("HOME", "/data")
    source, destination = cluster.pod("gnu-0"), cluster.pod(f"{tar}-1")
    for pod in (source, destination):
        pod.fresh("/data", "/srv", "/root/podcp")
    try:
        source.sh("mkdir /root/podcp/tree; echo new | tee /root/podcp/tree/file >/root/podcp/~")
        one, other = ("-c", "main", "gnu-0:~/podcp"), ("-c", "main", "gnu-0:/root/podcp/~")
        cluster.copy(version, *one, f"{tar}-1:~").complete()
        assert destination.names("/root/podcp") == ["tree", "~"]
        assert destination.sh("cat /root/podcp/tree/file /root/podcp/~") == b"new\nnew\n"
        cluster.copy(version, *other, f"{tar}-1:~/podcp/tree").complete()
        assert destination.names("/root/podcp/tree") == ["file", "~"]
        cluster.copy(version, "-c", "main", "gnu-0:~/", f"{tar}-1:/srv").complete()
        assert "podcp" in destination.names("/srv")
        assert destination.names("/srv/podcp") == ["tree", "~"]
    finally:
        for pod in (source, destination):
            pod.sh("rm -rf /root/podcp")


def test_each_end_may_have_its_own_container(cluster: ClusterUnderTest, version: str) -> None:
    """The one in both Pods is for the end that has none of its own."""
    main = cluster.pod("gnu-0")
    side = replace(main, container="side")
    for pod in (main, side):
        pod.fresh("/data", "/srv")
        pod.sh(f"echo {pod.container} >/data/where")
    for options, read, written in (
        (("--source-container", "side", "--dest-container", "main"), b"side\n", main),
        (("-c", "side", "--source-container=main"), b"main\n", side),
        (("-c", "main", "--dest-container=side"), b"main\n", side),
    ):
        done = cluster.copy(version, *options, "gnu-0:/data/where", "gnu-0:/srv/here").complete()
        assert "Defaulted" not in done.stderr
        assert written.sh("cat /srv/here; rm /srv/here") == read
    assert main.names("/srv") == side.names("/srv") == []


@pytest.mark.usefixtures("server")
def test_init_and_ephemeral_containers_while_they_run(
    cluster: ClusterUnderTest, version: str
) -> None:
    setup = replace(cluster.pod("init-0"), container="setup")
    debugger = replace(cluster.pod("debug-0"), container="debugger")
    for pod in (setup, debugger):
        pod.fresh("/data", "/srv")
    setup.sh("echo new >/data/file")
    debugger.sh("echo newer >/data/file")
    containers = ("--source-container", "setup", "--dest-container", "debugger")
    cluster.copy(version, *containers, "init-0:/data/file", "debug-0:/srv").complete()
    assert debugger.sh("cat /srv/file") == b"new\n"
    containers = ("--dest-container", "setup", "--source-container", "debugger")
    cluster.copy(version, *containers, "debug-0:/data/file", "init-0:/srv").complete()
    assert setup.sh("cat /srv/file") == b"newer\n"


@pytest.mark.usefixtures("server")
def test_containers_that_cannot_be_had_are_told_with_those_that_can(
    cluster: ClusterUnderTest,
) -> None:
    words = ("init-0:/data/file", "debug-0:/srv")
    done = cluster.copy("v5", *words, "--source-container=setup", "--dest-container=x")
    done.failed(1, 'Pod "debug-0" has no container "x"', "out of: main, debugger (ephem)")
    done = cluster.copy("v5", *words, "--source-container=y", "--dest-container=main")
    done.failed(1, 'Pod "init-0" has no container "y"', "out of: main, setup (init)")
    done = cluster.copy("v5", *words, "--dest-container=main")
    done.failed(1, 'container "main" of Pod "init-0"', "is waiting", "Pending")
