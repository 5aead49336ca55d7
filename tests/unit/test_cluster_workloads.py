"""Which Pod of a workload is taken; kubectl is the witness."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from kubectl_podcp import paths
from kubectl_podcp.cluster import objects
from kubectl_podcp.cluster.kubeconfig import Cluster, load
from kubectl_podcp.cluster.pods import resolve
from kubectl_podcp.cluster.workloads import Ready, labelled_pods, ready_pods
from kubectl_podcp.errors import Forbidden, PodNotFound, PodNotRunning
from tests.unit.api_server import ApiServer, running, status

LABELS = {"matchLabels": {"app": "web"}}
PODS = "/api/v1/namespaces/shop/pods"
DEPLOYMENT = "/apis/apps/v1/namespaces/shop/deployments/web"


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with running() as started:
        yield started


@pytest.fixture
def cluster(server: ApiServer, tmp_path: Path) -> Cluster:
    return load(server.kubeconfig(tmp_path))


def pod(name: str, phase: str = "Running", **fields: Any) -> dict[str, Any]:
    """Return a Pod of one container.

    :param fields: ``ready`` (since when; else the Pod is not), ``restarts``, ``created``,
        ``deleted``.
    """
    condition = {"type": "Ready", "status": "True" if "ready" in fields else "False"}
    if fields.get("ready"):
        condition["lastTransitionTime"] = fields["ready"]
    metadata = {
        "name": name,
        "namespace": "shop",
        "uid": name,
        "creationTimestamp": fields.get("created", "2026-01-01T00:00:00Z"),
    }
    if "deleted" in fields:
        metadata["deletionTimestamp"] = fields["deleted"]
    container = {
        "name": "app",
        "containerID": f"containerd://{name}",
        "restartCount": fields.get("restarts", 0),
        "state": {"running": {}} if phase == "Running" else {"waiting": {}},
    }
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": metadata,
        "spec": {"nodeName": "n", "containers": [{"name": "app", "image": "i"}]},
        "status": {
            "phase": phase,
            "conditions": [{"type": "PodScheduled", "status": "True"}, condition],
            "containerStatuses": [container],
        },
    }


def serve(
    server: ApiServer,
    *pods: dict[str, Any],
    selector: dict[str, Any] = LABELS,
    query: str = "app=web",
    path: str = DEPLOYMENT,
) -> None:
    """Serve a workload, and its Pods for exactly this query."""
    kind = "Deployment" if path == DEPLOYMENT else "Other"
    metadata = {"name": "web", "namespace": "shop"}
    document = {"kind": kind, "metadata": metadata, "spec": {"selector": selector}}
    server.serve(path, {"apiVersion": "apps/v1", **document})
    listed = {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": list(pods)}
    for limit in ({}, {"limit": "500"}):  # kubectl asks for some without one
        server.serve(f"{PODS}?{urlencode({'labelSelector': query, **limit})}", listed)


def take(cluster: Cluster, resource: str = "deployments.apps") -> str:
    return resolve(cluster, None, "web", None, resource).name


def test_paths_and_the_cluster_know_the_same_kinds() -> None:
    assert set(paths.KINDS.values()) == set(objects.KINDS)


@pytest.mark.parametrize(
    ("resource", "path", "selector"),
    [
        ("deployments.apps", "apis/apps", LABELS),
        ("statefulsets.apps", "apis/apps", LABELS),
        ("daemonsets.apps", "apis/apps", LABELS),
        ("replicasets.apps", "apis/apps", LABELS),
        ("jobs.batch", "apis/batch", LABELS),
        ("replicationcontrollers", "api", {"app": "web"}),
        ("services", "api", {"app": "web"}),
    ],
)
def test_each_kind_is_read_where_the_api_has_it(
    server: ApiServer, cluster: Cluster, resource: str, path: str, selector: dict[str, Any]
) -> None:
    plural = resource.partition(".")[0]
    full = f"/{path}/v1/namespaces/shop/{plural}/web"
    serve(server, pod("web-0", ready=""), selector=selector, path=full)
    found = resolve(cluster, None, "web", None, resource)
    assert (found.name, found.container, found.container_id) == (
        "web-0",
        "app",
        "containerd://web-0",
    )
    assert [asked.partition("?")[0] for asked, _ in server.asked] == [full, PODS]


def test_all_that_a_selector_demands_is_asked_for(server: ApiServer, cluster: Cluster) -> None:
    selector = {
        "matchLabels": {"app": "web", "tier": "front"},
        "matchExpressions": [
            {"key": "stage", "operator": "In", "values": ["test", "prod"]},
            {"key": "zone", "operator": "NotIn", "values": ["east"]},
            {"key": "x/track", "operator": "Exists"},
            {"key": "old", "operator": "DoesNotExist"},
        ],
    }
    query = "app=web,!old,stage in (prod,test),tier=front,x/track,zone notin (east)"
    serve(server, pod("web-0", ready=""), selector=selector, query=query)
    assert take(cluster) == "web-0"


LONG, SHORT = "2026-01-01T00:00:10Z", "2026-01-02T00:00:00Z"
ORDERS = {
    "ready before not ready": [pod("b", ready=SHORT), pod("a"), pod("c", "Pending")],
    "longer ready": [pod("b", ready=LONG), pod("a", ready=SHORT)],
    "longer ready, to the instant": [
        pod("b", ready="2026-01-02T00:00:00Z"),
        pod("a", ready="2026-01-02T09:00:01+09:00"),
    ],
    "ready since some time": [pod("b", ready=SHORT), pod("a", ready="")],
    "fewer restarts": [pod("b", ready=LONG, restarts=1), pod("a", ready=LONG, restarts=2)],
    "older": [pod("b", ready=LONG, created=LONG), pod("a", ready=LONG, created=SHORT)],
    "not being deleted": [pod("b", ready=SHORT), pod("a", ready=LONG, deleted=SHORT)],
    "of those that are left": [pod("b", ready=SHORT), pod("a", "Failed"), pod("c", "Succeeded")],
}


@pytest.mark.parametrize("pods", ORDERS.values(), ids=ORDERS)
def test_the_best_pod_is_taken(
    server: ApiServer, cluster: Cluster, pods: list[dict[str, Any]]
) -> None:
    """The first one, in whichever order the server lists them."""
    for _ in range(4):
        serve(server, *random.sample(pods, len(pods)))
        assert take(cluster) == "b"


def test_of_two_equals_the_name_decides(server: ApiServer, cluster: Cluster) -> None:
    serve(server, pod("b", ready=LONG), pod("a", ready=LONG))
    assert take(cluster) == "a"


@pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is the witness")
@pytest.mark.parametrize("pods", ORDERS.values(), ids=ORDERS)
def test_the_choice_agrees_with_kubectl(
    server: ApiServer, tmp_path: Path, pods: list[dict[str, Any]]
) -> None:
    """The server then refuses kubectl's exec; by that time kubectl has chosen."""
    expressions = [
        {"key": "tier", "operator": "In", "values": ["y", "x"]},
        {"key": "zone", "operator": "NotIn", "values": ["east"]},
        {"key": "b", "operator": "Exists"},
        {"key": "old", "operator": "DoesNotExist"},
    ]
    selector = {"matchLabels": {"z": "1", "c": "2"}, "matchExpressions": expressions}
    query = "b,c=2,!old,tier in (x,y),z=1,zone notin (east)"
    serve(server, *pods, selector=selector, query=query)
    discovery(server)
    file = server.kubeconfig(tmp_path)
    ours = take(load(file))
    kubectl = ["kubectl", f"--kubeconfig={file}", f"--cache-dir={tmp_path}"]
    subprocess.run(
        [*kubectl, "exec", "deploy/web", "--", "x"],
        capture_output=True,
        timeout=30,
        env={**os.environ, "HOME": str(tmp_path)},
        check=False,
    )
    chosen = next(path.partition("?")[0] for path, _ in server.asked if "/exec?" in path)
    assert chosen == f"{PODS}/{ours}/exec"


def discovery(server: ApiServer) -> None:
    """Tell kubectl that there are Pods and Deployments."""
    version = {"groupVersion": "apps/v1", "version": "v1"}
    group = {"name": "apps", "versions": [version], "preferredVersion": version}
    server.serve("/api?timeout=32s", {"kind": "APIVersions", "versions": ["v1"]})
    groups = {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]}
    server.serve("/apis?timeout=32s", groups)
    for path, of, name, kind, short in (
        ("/api/v1", "v1", "pods", "Pod", "po"),
        ("/apis/apps/v1", "apps/v1", "deployments", "Deployment", "deploy"),
    ):
        resource = {"name": name, "singularName": kind.lower(), "namespaced": True, "kind": kind}
        resource |= {"verbs": ["get", "list"], "shortNames": [short]}
        document = {"kind": "APIResourceList", "groupVersion": of, "resources": [resource]}
        server.serve(f"{path}?timeout=32s", document)


# --- where there is none to take -------------------------------------------------------------


def test_a_workload_that_does_not_exist_is_named(server: ApiServer, cluster: Cluster) -> None:
    with pytest.raises(PodNotFound, match='there is no namespace "shop"'):
        take(cluster)
    server.serve("/api/v1/namespaces/shop", {"kind": "Namespace"})
    with pytest.raises(PodNotFound) as caught:
        take(cluster, "jobs.batch")
    assert caught.value.happened == 'there is no Job "web" in namespace "shop"'
    assert "`kubectl get jobs -n shop`" in caught.value.advice


def test_a_workload_without_pods_says_how_they_were_looked_for(
    server: ApiServer, cluster: Cluster
) -> None:
    serve(server)
    with pytest.raises(PodNotFound) as caught:
        take(cluster)
    assert caught.value.happened == 'Deployment "web" in namespace "shop" has no Pods'
    assert "-l 'app=web'" in caught.value.advice


def test_a_service_without_a_selector_stands_for_no_pods(
    server: ApiServer, cluster: Cluster
) -> None:
    """An empty selector in a query would be that of all Pods."""
    serve(server, selector={}, path="/api/v1/namespaces/shop/services/web")
    with pytest.raises(PodNotFound, match='Service "web" in namespace "shop" has no selector'):
        take(cluster, "services")
    assert len(server.asked) == 1


def test_where_no_pod_is_ready_each_says_what_it_is(server: ApiServer, cluster: Cluster) -> None:
    serve(
        server,
        pod("web-1", "Pending"),
        pod("web-0"),
        pod("web-2", ready=LONG, deleted=LONG),
        pod("web-3", "Failed"),
    )
    with pytest.raises(PodNotRunning) as caught:
        take(cluster)
    assert caught.value.happened == (
        'no Pod of Deployment "web" in namespace "shop" is ready: web-0 is Running, but not ready, '
        "web-1 is Pending, web-2 is Terminating, web-3 is Failed"
    )
    serve(server, *(pod(f"web-{number:02}", "Pending") for number in range(12)))
    with pytest.raises(PodNotRunning, match=r"web-09 is Pending, and 2 more\n"):
        take(cluster)


def test_a_right_that_is_missing_is_named(server: ApiServer, cluster: Cluster) -> None:
    server.serve(DEPLOYMENT, status(403, "Forbidden", "deployments.apps is forbidden"), 403)
    with pytest.raises(Forbidden) as caught:
        take(cluster)
    assert 'reading Deployment "web" in namespace "shop"' in caught.value.happened
    assert "the verb get on deployments.apps" in caught.value.advice

    serve(server)
    refused = status(403, "Forbidden", "pods is forbidden")
    server.serve(f"{PODS}?labelSelector=app%3Dweb&limit=500", refused, 403)
    with pytest.raises(Forbidden) as caught:
        take(cluster)
    assert 'listing Pods in namespace "shop"' in caught.value.happened
    assert "the verb list on pods" in caught.value.advice


def test_all_ready_pods_of_a_workload_are_named(server: ApiServer, cluster: Cluster) -> None:
    pods = (
        pod("web-2", ready=LONG),
        pod("web-1", ready=LONG),
        pod("web-3", "Pending"),
        pod("web-4", ready=LONG, deleted=LONG),
        pod("web-5", "Succeeded"),
    )
    serve(server, *pods)
    wanted = Ready(("web-1", "web-2"), ("web-3 is Pending", "web-4 is Terminating"))
    assert ready_pods(cluster, "shop", "deployments.apps", "web") == wanted
    assert labelled_pods(cluster, "shop", "app=web") == wanted


def serve_pages(server: ApiServer, *pages: Sequence[dict[str, Any]]) -> None:
    """Serve a list in pages: each but the last names the next one."""
    for number, pods in enumerate(pages):
        token = {"continue": f"page/{number}"} if number else {}
        query = {"labelSelector": "app=web", "limit": "500", **token}
        metadata = {"continue": f"page/{number + 1}"} if number + 1 < len(pages) else {}
        listed = {"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": pods}
        server.serve(f"{PODS}?{urlencode(query)}", listed)


def test_a_long_list_comes_in_pages(server: ApiServer, cluster: Cluster) -> None:
    first = [pod(f"web-{number}", ready=LONG) for number in range(3)]
    serve_pages(server, first, [], [pod("web-9", ready=LONG), pod("web-8", "Pending")])
    wanted = Ready(("web-0", "web-1", "web-2", "web-9"), ("web-8 is Pending",))
    assert labelled_pods(cluster, "shop", "app=web") == wanted
    assert len(server.asked) == 3


def test_a_list_whose_next_page_is_gone_is_asked_for_whole(
    server: ApiServer, cluster: Cluster
) -> None:
    """The server keeps what was five minutes ago, and no longer."""
    both = [pod("web-0", ready=LONG), pod("web-1", ready=LONG)]
    serve(server, *both)
    serve_pages(server, both[:1], both[1:])
    gone = status(410, "Expired", "The provided continue parameter is too old")
    query = {"labelSelector": "app=web", "limit": "500", "continue": "page/1"}
    server.serve(f"{PODS}?{urlencode(query)}", gone, 410)
    assert labelled_pods(cluster, "shop", "app=web") == Ready(("web-0", "web-1"), ())
    assert server.asked[-1][0] == f"{PODS}?labelSelector=app%3Dweb"


def test_of_each_pod_no_more_is_kept_than_is_asked(server: ApiServer, cluster: Cluster) -> None:
    """A hundred bytes of a Pod are of use, and it may have a hundred thousand."""
    document = pod("web-0", ready=LONG)
    document["metadata"]["managedFields"] = document["metadata"]["annotations"] = {"x": "y" * 9999}
    document["spec"]["containers"][0]["env"] = [{"name": "X", "value": "y" * 9999}]
    document["status"]["containerStatuses"][0]["resources"] = {"x": "y" * 9999}
    serve(server, document)
    (kept,) = objects.pods_with(cluster, "shop", "app=web")
    assert len(json.dumps(kept)) < 999
    assert take(cluster) == "web-0"


def test_labels_that_no_pod_has_are_named(server: ApiServer, cluster: Cluster) -> None:
    serve(server)
    with pytest.raises(PodNotFound, match='no Pod in namespace "shop" has the labels app=web'):
        labelled_pods(cluster, "shop", "app=web")
    serve(server, pod("web-0", "Pending"))
    with pytest.raises(PodNotRunning) as caught:
        labelled_pods(cluster, "shop", "app=web")
    assert caught.value.happened == (
        'no Pod of namespace "shop" with the labels app=web is ready: web-0 is Pending'
    )
