"""What the embedded cluster answers to plain requests, and whom it lets in."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator

import pytest

from tests.loopback.access import NOBODY, VIEWER
from tests.loopback.client import bearer, exec_path, get
from tests.loopback.kubeconfig import ADDRESS
from tests.loopback.server import Server

PODS = "/api/v1/namespaces/podcp-test/pods"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """One cluster for this module; nothing here changes it."""
    with Server() as server:
        yield server


def test_discovery_names_pods_and_exec(server: Server) -> None:
    resources = get(server, "/api/v1").document["resources"]
    names = {resource["name"] for resource in resources}
    assert names == {"pods", "pods/exec", "namespaces", "services", "replicationcontrollers"}
    groups = [group["name"] for group in get(server, "/apis").document["groups"]]
    assert groups == ["apps", "batch"]
    jobs = get(server, "/apis/batch/v1").document["resources"]
    assert [resource["name"] for resource in jobs] == ["jobs"]
    assert get(server, "/api").document["versions"] == ["v1"]
    assert get(server, "/version").document["major"] == "1"


def test_pods_are_listed_by_namespace_and_all_together(server: Server) -> None:
    names = {pod["metadata"]["name"] for pod in get(server, PODS).document["items"]}
    assert {"gnu-0", "gnu-1", "user-0", "done-0", "pending-0"} <= names
    assert "web-0" not in names
    everywhere = get(server, "/api/v1/pods").document["items"]
    assert "web-0" in {pod["metadata"]["name"] for pod in everywhere}


def test_a_workload_has_the_selector_of_its_pods(server: Server) -> None:
    found = get(server, "/apis/apps/v1/namespaces/podcp-test/statefulsets/gnu").document
    assert found["spec"]["selector"] == {"matchLabels": {"app": "gnu"}}
    found = get(server, "/api/v1/namespaces/shop/services/web").document
    assert found["spec"]["selector"] == {"app": "web"}
    listed = get(server, f"{PODS}?labelSelector=app%3Dgnu").document["items"]
    assert [pod["metadata"]["name"] for pod in listed] == ["gnu-0", "gnu-1"]


def test_a_list_comes_in_pages_where_that_is_asked(server: Server) -> None:
    whole = [pod["metadata"]["name"] for pod in get(server, PODS).document["items"]]
    names, token = list[str](), ""
    while True:
        page = get(server, f"{PODS}?limit=3&continue={token}").document
        names += (pod["metadata"]["name"] for pod in page["items"])
        token = page["metadata"].get("continue", "")
        if not token:
            break
        assert len(page["items"]) == 3
    assert names == whole
    refused = get(server, f"{PODS}?continue=nonsense")
    assert (refused.status, refused.document["message"]) == (400, "continue key is not valid")


def test_workloads_that_are_not_there_and_kinds_that_are_not_known(server: Server) -> None:
    missing = get(server, "/apis/apps/v1/namespaces/podcp-test/deployments/web")
    assert (missing.status, missing.document["reason"]) == (404, "NotFound")
    assert get(server, "/api/v1/namespaces/podcp-test/deployments/gnu").body.startswith(b"404 page")
    assert get(server, "/apis/apps/v1/namespaces/podcp-test/jobs/gnu").body.startswith(b"404 page")


def test_a_viewer_may_not_read_workloads(server: Server) -> None:
    path = "/apis/apps/v1/namespaces/podcp-test/deployments/gnu"
    answer = get(server, path, bearer(server, VIEWER))
    assert answer.status == 403
    assert 'cannot get resource "deployments" in API group "apps"' in answer.document["message"]


def test_a_running_pod_has_containers_with_ids(server: Server) -> None:
    pod = get(server, f"{PODS}/gnu-0").document
    assert pod["status"]["phase"] == "Running"
    assert [container["name"] for container in pod["spec"]["containers"]] == ["main", "side"]
    statuses = pod["status"]["containerStatuses"]
    assert all(status["containerID"].startswith("containerd://") for status in statuses)
    assert statuses[0]["containerID"] != statuses[1]["containerID"]
    assert "running" in statuses[0]["state"]


@pytest.mark.parametrize(
    ("name", "phase", "state"),
    [("done-0", "Succeeded", "terminated"), ("pending-0", "Pending", "waiting")],
)
def test_other_pods_say_their_phase(server: Server, name: str, phase: str, state: str) -> None:
    status = get(server, f"{PODS}/{name}").document["status"]
    assert status["phase"] == phase
    assert state in status["containerStatuses"][0]["state"]


@pytest.mark.parametrize("namespace", ["podcp-test", "nowhere"])
def test_a_missing_pod_and_a_missing_namespace_look_alike(server: Server, namespace: str) -> None:
    answer = get(server, f"/api/v1/namespaces/{namespace}/pods/nope")
    assert answer.status == 404
    assert answer.document["reason"] == "NotFound"
    assert answer.document["message"] == 'pods "nope" not found'


def test_namespaces_tell_the_two_apart(server: Server) -> None:
    assert get(server, "/api/v1/namespaces/shop").document["metadata"]["name"] == "shop"
    assert get(server, "/api/v1/namespaces/nowhere").status == 404
    listed = get(server, "/api/v1/namespaces").document["items"]
    assert {"backup", "default", "podcp-test", "shop"} == {n["metadata"]["name"] for n in listed}


def test_an_unknown_path_is_plain_text(server: Server) -> None:
    answer = get(server, "/api/v2")
    assert (answer.status, answer.body) == (404, b"404 page not found\n")


def test_a_wrong_token_is_401(server: Server) -> None:
    answer = get(server, PODS, {"Authorization": "Bearer wrong"})
    assert answer.status == 401
    assert answer.document["reason"] == "Unauthorized"


def test_no_token_is_the_anonymous_user(server: Server) -> None:
    answer = get(server, PODS, {})
    assert answer.status == 403
    assert "system:anonymous" in answer.document["message"]


def test_a_user_without_rights_is_refused_in_the_words_of_rbac(server: Server) -> None:
    answer = get(server, f"{PODS}/gnu-0", bearer(server, NOBODY))
    assert answer.status == 403
    assert answer.headers["Content-Length"] == str(len(answer.body))
    assert answer.document["message"] == (
        'pods "gnu-0" is forbidden: User "nobody" cannot get resource "pods" in API group "" '
        'in the namespace "podcp-test"'
    )


def test_a_viewer_sees_pods_but_may_not_exec(server: Server) -> None:
    viewer = bearer(server, VIEWER)
    assert get(server, f"{PODS}/gnu-0", viewer).status == 200
    answer = get(server, exec_path("gnu-0", ["id"]), viewer)
    assert answer.status == 403
    assert 'cannot get resource "pods/exec"' in answer.document["message"]


def test_an_administrator_may_ask_in_anothers_name(server: Server) -> None:
    headers = bearer(server) | {"Impersonate-User": "nobody"}
    assert 'User "nobody"' in get(server, PODS, headers).document["message"]
    headers = bearer(server) | {"Impersonate-User": "stranger"}
    assert 'User "stranger"' in get(server, PODS, headers).document["message"]
    headers = bearer(server, NOBODY) | {"Impersonate-User": "admin"}
    assert get(server, PODS, headers).status == 403


def test_exec_without_an_upgrade_is_a_bad_request(server: Server) -> None:
    answer = get(server, exec_path("gnu-1", ["id"]))
    assert (answer.status, answer.document["message"]) == (400, "Upgrade request required")


def test_a_client_that_does_not_know_the_ca_gets_nothing(server: Server) -> None:
    stranger = http.client.HTTPSConnection(
        ADDRESS, server.ports["v5"], context=ssl.create_default_context(), timeout=10
    )
    with pytest.raises(ssl.SSLCertVerificationError):
        stranger.request("GET", PODS)
    stranger.close()


def test_one_connection_answers_many_requests(server: Server) -> None:
    connection = http.client.HTTPSConnection(
        ADDRESS,
        server.ports["v4"],
        context=ssl.create_default_context(cadata=server.authority.certificate.decode()),
        timeout=10,
    )
    for _ in range(3):
        connection.request("GET", f"{PODS}/gnu-0", headers=bearer(server))
        local = connection.sock.getsockname()
        assert connection.getresponse().read()
        assert connection.sock.getsockname() == local
    connection.close()


def test_no_token_is_in_what_the_server_shows_of_itself(server: Server) -> None:
    for token in server.tokens.users:
        assert token not in repr(server.tokens)
    assert server.kubeconfig.stat().st_mode & 0o077 == 0
