"""Run the suite on any cluster that a contributor has::

python -m tests.end_to_end.anywhere CONTEXT [pytest's options]

Makes a namespace of its own with Pods of public images (GNU and busybox userlands; the other two
have none), runs the suite there, and deletes the namespace, whatever happened. kubectl does it
all, so that nothing of the product is needed to arrange its test. ``PODCP_IMAGES`` may name other
images, as ``gnu=NAME busybox=NAME``; ``PODCP_HOST_NETWORK=1`` is for clusters without a network.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NAMESPACE = f"podcp-test-{int(time.time())}"
IMAGES = {"gnu": "debian:stable-slim", "busybox": "busybox:stable-musl"}
PODS = {
    "gnu-0": ("main", "side"),
    "gnu-1": ("main",),
    "busybox-0": ("main",),
    "busybox-1": ("main",),
}
READY_WITHIN = "180s"


def main(context: str, options: list[str]) -> int:
    """Run the suite; return pytest's exit code."""
    images = IMAGES | dict(
        pair.split("=", 1) for pair in os.environ.get("PODCP_IMAGES", "").split()
    )
    with tempfile.TemporaryDirectory(prefix="podcp-") as folder:
        kubeconfig = Path(folder) / "kubeconfig"
        kubeconfig.write_text(json.dumps(_kubeconfig(context)), encoding="utf-8")
        kubeconfig.chmod(0o600)
        try:
            _kubectl(context, "create", "namespace", NAMESPACE)
            manifest = {"apiVersion": "v1", "kind": "List", "items": _pods(images)}
            _kubectl(context, "apply", "-f", "-", given=json.dumps(manifest))
            wait = ["wait", "--for=condition=Ready", f"--timeout={READY_WITHIN}", "pod", "--all"]
            _kubectl(context, *wait)
            return _suite(kubeconfig, options)
        finally:
            _kubectl(context, "delete", "namespace", NAMESPACE, "--wait=false")


def _suite(kubeconfig: Path, options: list[str]) -> int:
    environment = {
        **os.environ,
        "PODCP_TEST_KUBECONFIG": str(kubeconfig),
        "PODCP_TEST_PODS": " ".join(PODS),
        "PODCP_TEST_VERSIONS": "v5",
    }
    argv = [sys.executable, "-m", "pytest", "tests/end_to_end", *options]
    return subprocess.run(argv, env=environment, check=False).returncode


def _kubeconfig(context: str) -> dict[str, Any]:
    """Return a kubeconfig with that context alone, under the name that the suite knows."""
    said = _kubectl(context, "config", "view", "--raw", "--minify", "--flatten", "-o", "json")
    document: dict[str, Any] = json.loads(said)
    entry = document["contexts"][0]
    entry["name"] = document["current-context"] = "podcp-v5"
    entry["context"]["namespace"] = NAMESPACE
    return document


def _pods(images: dict[str, str]) -> list[dict[str, Any]]:
    return [_pod(name, containers, images) for name, containers in PODS.items()]


def _pod(name: str, containers: tuple[str, ...], images: dict[str, str]) -> dict[str, Any]:
    """A Pod that sleeps; an init container brings the witness, which is a static busybox."""
    witness = [{"name": "witness", "mountPath": "/opt/witness"}]
    empty = [{"name": each, "mountPath": f"/{each}"} for each in ("data", "srv")]
    bring = {
        "name": "witness",
        "image": images["busybox"],
        "imagePullPolicy": "IfNotPresent",
        "command": ["cp", "/bin/busybox", "/opt/witness/busybox"],
        "volumeMounts": witness,
    }
    sleeping = [
        {
            "name": container,
            "image": images[name.partition("-")[0]],
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", "trap exit TERM; while :; do sleep 3600 & wait; done"],
            "volumeMounts": witness + empty,
        }
        for container in containers
    ]
    names = ("witness", "data", "srv")
    volumes: list[dict[str, Any]] = [{"name": each, "emptyDir": {}} for each in names]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "initContainers": [bring],
            "containers": sleeping,
            "volumes": volumes,
            "hostNetwork": bool(os.environ.get("PODCP_HOST_NETWORK")),
            "terminationGracePeriodSeconds": 0,
        },
    }


def _kubectl(context: str, *arguments: str, given: str | None = None) -> str:
    argv = ["kubectl", "--context", context, *arguments]
    if arguments[0] in ("apply", "wait"):
        argv += ["--namespace", NAMESPACE]
    done = subprocess.run(argv, input=given, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m tests.end_to_end.anywhere CONTEXT [pytest's options]")
    try:
        sys.exit(main(sys.argv[1], sys.argv[2:]))
    except subprocess.CalledProcessError as error:
        sys.exit(f"error: {' '.join(error.cmd)} failed")
