"""What has Pods: for each label ``app`` of a Pod there is one object of each kind, of that name.

What goes in: a path's parts. What comes out: a :class:`Kind`, and its documents. No I/O; any
thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object that has Pods."""

    kind: str
    plural: str
    group: str
    short: str

    @property
    def resource(self) -> str:
        """The name of the resource, as RBAC has it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def document(self, namespace: str, name: str) -> dict[str, Any]:
        """Return the object of that name, which is that of the Pods' label."""
        labels = {"app": name}
        return {
            "kind": self.kind,
            "apiVersion": f"{self.group}/v1" if self.group else "v1",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"matchLabels": labels} if self.group else labels},
        }


KINDS = (
    Kind("Deployment", "deployments", "apps", "deploy"),
    Kind("StatefulSet", "statefulsets", "apps", "sts"),
    Kind("DaemonSet", "daemonsets", "apps", "ds"),
    Kind("ReplicaSet", "replicasets", "apps", "rs"),
    Kind("Job", "jobs", "batch", ""),
    Kind("ReplicationController", "replicationcontrollers", "", "rc"),
    Kind("Service", "services", "", "svc"),
)

GROUPS = ("apps", "batch")


def kind(root: str, group: Sequence[str], plural: str) -> Kind | None:
    """Return the kind below ``/api/v1`` or ``/apis/GROUP/v1``; None where there is none."""
    for each in KINDS:
        if ([each.group] if each.group else []) == [*group] and each.plural == plural:
            return each if root == ("apis" if each.group else "api") else None
    return None


def group(name: str) -> dict[str, Any]:
    """Return a group as discovery lists it."""
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"name": name, "versions": [version], "preferredVersion": version}
