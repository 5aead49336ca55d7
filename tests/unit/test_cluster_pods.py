"""Pods and containers, found on a real HTTPS server and chosen as kubectl chooses them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubectl_podcp.cluster.kubeconfig import Cluster, load
from kubectl_podcp.cluster.objects import DEFAULT_CONTAINER
from kubectl_podcp.cluster.pods import Pod, resolve
from kubectl_podcp.errors import (
    ContainerNotFound,
    Forbidden,
    PodNotFound,
    PodNotRunning,
    ServerError,
    UsageError,
)
from tests.unit.api_server import ApiServer, running, status

PATH = "/api/v1/namespaces/shop/pods/web-0"
RUNNING = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with running() as started:
        yield started


@pytest.fixture
def cluster(server: ApiServer, tmp_path: Path) -> Cluster:
    return load(server.kubeconfig(tmp_path))


def pod(
    *names: str,
    phase: str = "Running",
    annotation: str | None = None,
    init: str | None = None,
    ephemeral: str | None = None,
    states: dict[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return a Pod whose containers all run, but for those in ``states``."""

    def statuses(*containers: str | None) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "containerID": f"containerd://{name}",
                "state": (states or {}).get(name, RUNNING),
            }
            for name in containers
            if name
        ]

    document: dict[str, Any] = {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": "web-0", "namespace": "shop"},
        "spec": {"containers": [{"name": name, "image": "i"} for name in names]},
        "status": {"phase": phase, "containerStatuses": statuses(*names)},
    }
    if annotation:
        document["metadata"]["annotations"] = {DEFAULT_CONTAINER: annotation}
    if init:
        document["spec"]["initContainers"] = [{"name": init, "image": "i"}]
        document["status"]["initContainerStatuses"] = statuses(init)
    if ephemeral:
        document["spec"]["ephemeralContainers"] = [{"name": ephemeral, "image": "i"}]
        document["status"]["ephemeralContainerStatuses"] = statuses(ephemeral)
    return document


# --- which container ------------------------------------------------------------------------


def test_the_only_container_is_taken_without_a_word(server: ApiServer, cluster: Cluster) -> None:
    server.serve(PATH, pod("app"))
    assert resolve(cluster, None, "web-0", None) == Pod("shop", "web-0", "app", "containerd://app")


def test_a_given_namespace_wins_over_the_contexts(server: ApiServer, cluster: Cluster) -> None:
    server.serve("/api/v1/namespaces/other/pods/web-0", pod("app"))
    assert resolve(cluster, "other", "web-0", None).namespace == "other"


MANY = pod("app", "log", init="setup", ephemeral="debug")
NOTICE = 'Defaulted container "app" out of: app, log, debug (ephem), setup (init)'


def test_the_first_container_is_the_default_with_a_notice(
    server: ApiServer, cluster: Cluster
) -> None:
    server.serve(PATH, MANY)
    found = resolve(cluster, None, "web-0", None)
    assert (found.container, found.notice) == ("app", NOTICE)


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is the witness")
@pytest.mark.parametrize(
    "document",
    [MANY, pod("app"), pod("app", init="setup"), pod("app", "log", annotation="log")],
)
def test_the_notice_agrees_with_kubectl(
    server: ApiServer, tmp_path: Path, document: dict[str, Any]
) -> None:
    """The server then refuses kubectl's exec; by that time kubectl has chosen."""
    server.serve(PATH, document)
    server.serve("/api?timeout=32s", {"kind": "APIVersions", "versions": ["v1"]})
    server.serve("/apis?timeout=32s", {"kind": "APIGroupList", "apiVersion": "v1", "groups": []})
    pods = {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod"}
    resources = [{**pods, "verbs": ["get", "list"]}]
    listed = {"kind": "APIResourceList", "groupVersion": "v1", "resources": resources}
    server.serve("/api/v1?timeout=32s", listed)
    file = server.kubeconfig(tmp_path)
    kubectl = subprocess.run(
        ["kubectl", f"--kubeconfig={file}", f"--cache-dir={tmp_path}", "exec", "web-0", "--", "x"],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "HOME": str(tmp_path)},
        check=False,
    )
    chosen = next(path for path, _ in server.asked if "/exec?" in path)
    said = [line for line in kubectl.stderr.splitlines() if line.startswith("Defaulted")]

    found = resolve(load(file), None, "web-0", None)

    assert f"container={found.container}" in chosen
    assert said == ([found.notice] if found.notice else [])


@pytest.mark.parametrize("name", ["app", "log", "setup", "debug"])
def test_any_running_container_can_be_named(server: ApiServer, cluster: Cluster, name: str) -> None:
    server.serve(PATH, MANY)
    expected = Pod("shop", "web-0", name, f"containerd://{name}")
    assert resolve(cluster, None, "web-0", name) == expected


def test_the_annotation_names_the_default_and_the_user_wins_over_it(
    server: ApiServer, cluster: Cluster
) -> None:
    server.serve(PATH, pod("app", "log", annotation="log"))
    assert resolve(cluster, None, "web-0", None).container == "log"
    assert resolve(cluster, None, "web-0", None).notice is None
    assert resolve(cluster, None, "web-0", "app").container == "app"


def test_a_container_that_is_not_there_is_an_error_that_lists_them(
    server: ApiServer, cluster: Cluster
) -> None:
    server.serve(PATH, MANY)
    with pytest.raises(ContainerNotFound) as caught:
        resolve(cluster, None, "web-0", "zz")
    assert 'Pod "web-0" has no container "zz"' in str(caught.value)
    assert "app, log, debug (ephem), setup (init)" in str(caught.value)

    server.serve(PATH, pod("app", annotation="gone"))
    with pytest.raises(
        ContainerNotFound, match=f'"gone", which the annotation {DEFAULT_CONTAINER}'
    ):
        resolve(cluster, None, "web-0", None)

    server.serve(PATH, pod())
    with pytest.raises(ContainerNotFound, match="has no containers"):
        resolve(cluster, None, "web-0", None)


# --- whether it runs ------------------------------------------------------------------------


def not_running(cluster: Cluster, container: str | None = None) -> str:
    with pytest.raises(PodNotRunning) as caught:
        resolve(cluster, None, "web-0", container)
    return caught.value.happened


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_completed_pod_is_refused_in_kubectls_words(
    server: ApiServer, cluster: Cluster, phase: str
) -> None:
    server.serve(PATH, pod("app", phase=phase))
    message = not_running(cluster)
    assert f"cannot exec into a container in a completed pod; current phase is {phase}" in message
    assert "web-0" in message


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (
            {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
            "it is waiting (ImagePullBackOff: no such image)",
        ),
        ({"waiting": {}}, "it is waiting;"),
        ({}, "it is waiting;"),
        (
            {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
            "it is terminated (OOMKilled, exit code 137)",
        ),
    ],
)
def test_a_container_that_does_not_run_says_why(
    server: ApiServer, cluster: Cluster, state: dict[str, Any], told: str
) -> None:
    server.serve(PATH, pod("app", "log", phase="Pending", states={"app": state}))
    message = not_running(cluster)
    assert message.startswith('container "app" of Pod "web-0" in namespace "shop" is not running: ')
    assert told in message
    assert "phase is Pending" in message
    assert resolve(cluster, None, "web-0", "log").container == "log"


def test_a_pod_that_no_node_has_taken_says_why(server: ApiServer, cluster: Cluster) -> None:
    document = pod("app", phase="Pending")
    del document["status"]["containerStatuses"]
    server.serve(PATH, document)
    assert not_running(cluster).endswith("its phase is Pending")
    document["status"]["conditions"] = [
        {"type": "Ready", "status": "False"},
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes are available",
        },
    ]
    server.serve(PATH, document)
    message = not_running(cluster)
    assert message.endswith("its phase is Pending (Unschedulable: 0/3 nodes are available)")


def test_an_init_container_that_runs_can_be_reached_while_the_pod_is_pending(
    server: ApiServer, cluster: Cluster
) -> None:
    waiting = {"app": {"waiting": {"reason": "PodInitializing"}}}
    server.serve(PATH, pod("app", init="setup", phase="Pending", states=waiting))
    assert resolve(cluster, None, "web-0", "setup").container == "setup"


def test_a_running_pod_without_statuses_is_believed(server: ApiServer, cluster: Cluster) -> None:
    document = pod("app")
    document["status"] = {"phase": "Running", "containerStatuses": None}
    server.serve(PATH, document)
    assert resolve(cluster, None, "web-0", None).container_id == ""


# --- whether it exists ----------------------------------------------------------------------


def not_found(cluster: Cluster) -> str:
    with pytest.raises(PodNotFound) as caught:
        resolve(cluster, None, "web-0", None)
    return str(caught.value)


def test_a_missing_pod_and_a_missing_namespace_are_told_apart(
    server: ApiServer, cluster: Cluster
) -> None:
    """The server says `pods "web-0" not found` in both cases."""
    assert 'there is no namespace "shop"' in not_found(cluster)
    server.serve("/api/v1/namespaces/shop", {"kind": "Namespace"})
    assert 'there is no Pod "web-0" in namespace "shop"' in not_found(cluster)
    assert "may be missing too" not in not_found(cluster)


def test_who_may_not_look_at_namespaces_is_told_both(server: ApiServer, cluster: Cluster) -> None:
    forbidden = status(403, "Forbidden", "namespaces are forbidden")
    server.serve("/api/v1/namespaces/shop", forbidden, 403)
    message = not_found(cluster)
    assert 'there is no Pod "web-0" in namespace "shop"' in message
    assert "may be missing too" in message


def test_a_404_that_is_not_the_api_servers_blames_no_pod(
    server: ApiServer, cluster: Cluster
) -> None:
    server.answers[PATH] = (404, b"404 page not found")
    with pytest.raises(ServerError) as caught:
        resolve(cluster, None, "web-0", None)
    assert type(caught.value) is ServerError
    assert len(server.asked) == 1


def test_who_may_not_read_pods_is_told_so(server: ApiServer, cluster: Cluster) -> None:
    server.serve(PATH, status(403, "Forbidden", 'pods "web-0" is forbidden'), 403)
    with pytest.raises(Forbidden, match='reading Pod "web-0" in namespace "shop"'):
        resolve(cluster, None, "web-0", None)


@pytest.mark.parametrize("name", ["..", ".", "a/b", "%2e%2e", ""])
def test_a_name_that_would_be_another_path_is_refused(
    server: ApiServer, cluster: Cluster, name: str
) -> None:
    with pytest.raises(UsageError):
        resolve(cluster, None, name, None)
    assert server.asked == []


def test_an_odd_name_is_sent_as_one_segment(server: ApiServer, cluster: Cluster) -> None:
    server.serve("/api/v1/namespaces/shop", {"kind": "Namespace"})
    with pytest.raises(PodNotFound):
        resolve(cluster, None, "we?b#0 ü", None)
    assert server.asked[0][0] == "/api/v1/namespaces/shop/pods/we%3Fb%230%20%C3%BC"
