"""Where everything stands, and the one error of this package.

All state is below ``.cache/cluster`` of the checkout, which git ignores, so that several clones
on one machine do not meet. Inside its namespaces (see machine.py) the cluster sees ``STATE`` as
``INSIDE``: a short path, because a unix socket's may have 108 bytes at most.
"""

from __future__ import annotations

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = CHECKOUT / "tests" / "cluster"
CACHE = CHECKOUT / ".cache" / "cluster"
BINARIES = CACHE / "bin"
STATE = CACHE / "state"
LOGS = STATE / "log"
KUBECONFIG = STATE / "kubeconfig"

INSIDE = Path("/run/podcp")
"""`STATE` as the daemons see it."""

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
"""All that the daemons get of an environment: a proxy setting, say, must not reach them."""


class ClusterError(Exception):
    """The cluster cannot be built, started or changed; the text says why.

    :param log: the log whose end tells more; it is read at once, for it may not be there long.
    """

    def __init__(self, text: str, log: Path | None = None) -> None:
        super().__init__(text)
        self.log = log
        self.tail = _last_lines(log) if log is not None and log.exists() else ""


def _last_lines(path: Path, count: int = 25) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-count:])
