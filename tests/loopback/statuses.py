"""The Status documents of Kubernetes, in the shapes that real servers give them.

A Status answers a refused request, and it is the last word of an exec session, on channel 3.
What goes in: the facts. What comes out: JSON as dictionaries. No I/O, raises nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

V4 = "v4.channel.k8s.io"
V5 = "v5.channel.k8s.io"

Status = dict[str, Any]


def success() -> Status:
    """Return the status of a process that ended with exit code 0."""
    return {"metadata": {}, "status": "Success"}


def exit_code(code: int, command: Sequence[str], protocol: str) -> Status:
    """Return the status of a process that ended with another exit code.

    On v4 the kubelet writes it and names the command line; on v5 the API server does, and it
    knows the code alone (client-go, remotecommand: CodeExitError).
    """
    if code == 0:
        return success()
    error = f"command terminated with exit code {code}"
    if protocol == V4:
        error = f"error executing command [{' '.join(command)}], exit code {code}"
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: {error}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def not_started(why: str, protocol: str) -> Status:
    """Return the status of a process that could not be started.

    :param why: the words of the container runtime, as runc says them.
    """
    twice = "Internal error occurred: " if protocol == V5 else ""
    error = (
        "error executing command in container: failed to exec in container: failed to start "
        'exec "0": OCI runtime exec failed: exec failed: unable to start container process: '
    )
    cause = f"{twice}{error}{why}"
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {cause}",
        "reason": "InternalError",
        "details": {"causes": [{"message": cause}]},
        "code": 500,
    }


def refusal(code: int, reason: str, message: str, details: Status | None = None) -> Status:
    """Return the document of a request that was refused."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        **({"details": details} if details else {}),
        "code": code,
    }
