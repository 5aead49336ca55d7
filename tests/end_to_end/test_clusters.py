"""Between two clusters, and with kubectl's flags; each cluster has its own authority and tokens."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubectl_podcp.cluster import kubeconfig
from tests.end_to_end import trees
from tests.end_to_end.conftest import ClusterUnderTest
from tests.end_to_end.pods import TestPod, wait_until
from tests.loopback.access import ADMIN, NOBODY
from tests.loopback.server import Server


@pytest.fixture(scope="module")
def other() -> Iterator[Server]:
    """A second cluster, which has Pods of the same names."""
    with Server() as server:
        yield server


@pytest.fixture
def there(other: Server) -> TestPod:
    """A Pod of the second cluster; of the first one there is a Pod of that name too."""
    pod = TestPod(kubeconfig.load(str(other.kubeconfig), "podcp-v5"), "gnu-1")
    pod.fresh("/data", "/srv")
    return pod


@pytest.fixture
def here(cluster: ClusterUnderTest, server: Server) -> TestPod:
    """Its namesake."""
    assert server.kubeconfig == cluster.kubeconfig
    pod = cluster.pod("gnu-1")
    pod.fresh("/data", "/srv")
    return pod


def merged(place: Path, *servers: Server) -> Path:
    """Write one kubeconfig of several clusters: their contexts get the number as a prefix."""
    document: dict[str, object] = {"apiVersion": "v1", "kind": "Config"}
    for kind in ("clusters", "users", "contexts"):
        entries = []
        for number, server in enumerate(servers):
            for entry in json.loads(server.kubeconfig.read_text())[kind]:
                entry["name"] = f"{number}-{entry['name']}"
                if kind == "contexts":
                    entry["context"]["cluster"] = f"{number}-{entry['context']['cluster']}"
                    entry["context"]["user"] = f"{number}-{entry['context']['user']}"
                entries.append(entry)
        document[kind] = entries
    file = place / "merged"
    file.write_text(json.dumps(document))
    return file


def test_from_one_cluster_to_another(
    cluster: ClusterUnderTest, version: str, here: TestPod, there: TestPod, other: Server
) -> None:
    """Both ends are called the same, down to the path."""
    trees.put_big_tree(here, "/data", "tree", files=300)
    place = ("--dest-kubeconfig", str(other.kubeconfig))
    cluster.copy(version, *place, "gnu-1:/data/tree", "gnu-1:/data/tree").complete()
    sent, came = trees.look(here, "/data", "tree"), trees.look(there, "/data", "tree")
    assert came == sent
    assert len(sent.entries) > 300
    assert here.names("/data") == there.names("/data") == ["tree"]


@pytest.mark.parametrize("versions", [("v5", "v4"), ("v4", "v5")], ids="-".join)
def test_the_contexts_of_one_kubeconfig(
    cluster: ClusterUnderTest,
    server: Server,
    other: Server,
    here: TestPod,
    there: TestPod,
    versions: tuple[str, str],
    tmp_path: Path,
) -> None:
    here.sh("echo here >/data/file")
    there.sh("echo there >/data/file")
    file = str(merged(tmp_path, server, other))
    one, two = (f"{number}-podcp-{version}" for number, version in enumerate(versions))
    options = ("--kubeconfig", file, "--source-context", one, "--dest-context", two)
    cluster.copy("v5", *options, "gnu-1:/data/file", "gnu-1:/srv").complete()
    assert there.sh("cat /srv/file") == b"here\n"
    assert here.names("/srv") == []
    options = ("--kubeconfig", file, "--context", two, "--dest-context", one)
    cluster.copy("v5", *options, "gnu-1:/data/file", "gnu-1:/srv").complete()
    assert here.sh("cat /srv/file") == b"there\n"


@pytest.mark.usefixtures("here", "there")
def test_an_error_says_in_which_of_the_clusters(cluster: ClusterUnderTest, other: Server) -> None:
    options = ("--dest-kubeconfig", str(other.kubeconfig), "--dest-context", "podcp-v4")
    done = cluster.copy("v5", *options, "gnu-1:/data", "gnu-9:/srv")
    done.failed(1, 'no Pod "gnu-9" in namespace "podcp-test" (context "podcp-v4")')
    done = cluster.copy("v5", *options, "gnu-9:/data", "gnu-1:/srv")
    done.failed(1, 'no Pod "gnu-9" in namespace "podcp-test" (context "podcp-v5")')


@pytest.mark.usefixtures("server")
def test_two_contexts_of_one_cluster_are_one_container(cluster: ClusterUnderTest) -> None:
    """That it would be a copy into itself is seen all the same."""
    cluster.pod("gnu-1").sh("mkdir -p /data/tree")
    done = cluster.copy("v5", "--dest-context=podcp-v4", "gnu-1:/data/tree", "gnu-1:/data/tree/x")
    done.failed(1, "into itself")
    cluster.pod("gnu-1").fresh("/data")


def test_a_signal_leaves_nothing_in_either_cluster(
    cluster: ClusterUnderTest, here: TestPod, there: TestPod, other: Server
) -> None:
    here.sh("fallocate -l 4G /data/file")
    place = ("--dest-kubeconfig", str(other.kubeconfig))
    with cluster.start("v5", *place, "gnu-1:/data/file", "gnu-1:/srv") as process:
        wait_until(lambda: bool(there.names("/srv")), 60, "nothing arrived")
        process.terminate()
        assert process.wait(60) == 143
    wait_until(lambda: not here.ours() and not there.ours(), 10, "a process is left")
    assert there.names("/srv") == []


# --- kubectl's flags ------------------------------------------------------------------------


def flags(server: Server, version: str, place: Path) -> list[str]:
    """Everything that a kubeconfig would say."""
    (place / "ca.pem").write_bytes(server.authority.certificate)
    return [
        f"--server=https://127.0.0.1:{server.ports[version]}",
        f"--certificate-authority={place}/ca.pem",
        f"--token={server.tokens.of(ADMIN)}",
        "--namespace=podcp-test",
    ]


def test_a_copy_without_a_kubeconfig(
    cluster: ClusterUnderTest,
    other: Server,
    there: TestPod,
    version: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To a server that no kubeconfig names; --server wins over the one that there is."""
    there.sh("echo new >/data/file")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    words = ["gnu-1:/data/file", "gnu-1:/srv/new"]
    argv = [*cluster.command, *flags(other, version, tmp_path), *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert there.sh("cat /srv/new") == b"new\n"
    there.fresh("/srv")
    cluster.copy("v5", *flags(other, version, tmp_path), *words).complete()
    assert there.sh("cat /srv/new") == b"new\n"


def test_who_is_trusted_and_who_we_are(
    cluster: ClusterUnderTest, server: Server, here: TestPod, other: Server, tmp_path: Path
) -> None:
    here.sh("echo new >/data/file")
    words = ("gnu-1:/data/file", "gnu-1:/srv")
    (tmp_path / "other.pem").write_bytes(other.authority.certificate)
    nobody = f"--token={server.tokens.of(NOBODY)}"
    strange = f"--certificate-authority={tmp_path}/other.pem"
    localhost = f"--server=https://localhost:{server.ports['v5']}"
    for options, code, word in (
        ((strange,), 4, "certificate"),
        ((strange, "--insecure-skip-tls-verify"), 4, "exclude each other"),
        (("--tls-server-name=elsewhere.test",), 4, "certificate"),
        ((nobody,), 4, 'User "nobody"'),
        (("--token=wrong-one",), 4, "does not accept our credentials"),
        (("--as=viewer",), 4, 'User "viewer"'),
        (("--as-group=admins",), 4, "need an as"),
        (("--user=viewer",), 4, 'User "viewer"'),
        (("--cluster=v6",), 4, 'no cluster "v6"'),
        (("--as=viewer", "--dest-context=podcp-v4"), 4, 'User "viewer"'),
        ((nobody, "--dest-context=podcp-v4"), 2, "--token does not say"),
    ):
        done = cluster.copy("v5", *options, *words)
        done.failed(code, word)
        assert here.names("/srv") == []
        assert server.tokens.of(NOBODY) not in done.stderr
        assert "wrong-one" not in done.stderr
    for options in (
        ("--insecure-skip-tls-verify",),
        ("--insecure-skip-tls-verify=true",),
        (localhost, "--tls-server-name=127.0.0.1"),
        ("--cluster=v4", "--as=admin"),
        ("--request-timeout=30s",),
        ("--context=podcp-nobody-v5", f"--token={server.tokens.of(ADMIN)}"),
    ):
        cluster.copy("v5", *options, *words).complete()
        assert here.sh("cat /srv/file; rm /srv/file") == b"new\n"
