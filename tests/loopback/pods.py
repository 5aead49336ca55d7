"""The Pods of the embedded cluster: what they are called, and the directories that they are.

What goes in: nothing but a place for the directories. What comes out: :class:`Pod` objects with
their containers. A container is made when it is first used: its root file system is unpacked and
its first process started. Raises :class:`NotStarted` for a command that is not in the container,
with the words of the container runtime.

Any thread may run commands; :meth:`Container.stop` is for the thread that ends the server.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tests.loopback import demo, images, isolation
from tests.loopback.process import Process

NAMESPACE = "podcp-test"
"""The namespace of all Pods but those of the demonstration."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LONGEST_CHAIN = 40
"""Symlinks that are followed in one path, as in Linux."""

KEPT = ("/kept",)
"""Where the Pods that are sources have a volume."""


class NotStarted(Exception):
    """A command could not be started; the text is what runc says."""


class Container:
    """A root file system, and the processes that run in it."""

    def __init__(
        self,
        pod: str,
        name: str,
        userland: str,
        root: Path,
        *,
        user: int = 0,
        populate: Callable[[Path], None] | None = None,
        kind: str = "",
        volumes: Sequence[str] = (),
    ) -> None:
        """Prepare a container.

        :param kind: ``init`` or ``ephemeral``; neither of them where it is empty.
        :param volumes: paths of directories that anybody may write to, and that are the Pod's: the
            container may be restarted, and has them again.
        """
        self.name = name
        self.kind = kind
        self.userland = userland
        self.id = hashlib.sha256(os.fsencode(root)).hexdigest()
        self._root = root
        self._user = user
        self._populate = populate
        self._volumes = [
            (root / path.strip("/"), Path(f"{root}:{path.strip('/')}")) for path in volumes
        ]
        self._environment = {
            "PATH": _PATH,
            "HOSTNAME": pod,
            "HOME": "/tmp" if user else "/root",
        }
        self._starts = 1
        self._starting = threading.Lock()
        self._sandbox: isolation.Sandbox | None = None
        self._stopped = False

    @property
    def root(self) -> Path:
        """The directory that is the container's root; the container is started for it."""
        self._start()
        return self._root

    def run(self, command: Sequence[str], *, stdin: bool, stdout: bool, stderr: bool) -> Process:
        """Start a command inside.

        :raises NotStarted: there is no such program, or it may not be executed.
        """
        try:
            sandbox = self._start()
        except isolation.CannotIsolate as error:
            raise NotStarted(str(error)) from error
        program = _find_executable(self._root, command[0])
        user = self._user if os.geteuid() == 0 else 0
        return Process(
            sandbox.enter(program, command, user),
            self._environment,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )

    def restart(self) -> None:
        """Kill all processes inside, and begin anew: another id, and the image's own files."""
        with self._starting:
            if self._sandbox is not None:
                self._sandbox.stop()
                self._sandbox = None
                for inside, aside in self._volumes:
                    inside.rename(aside)
            remove_tree(self._root)
            self._starts += 1
            self.id = hashlib.sha256(b"%b %d" % (os.fsencode(self._root), self._starts)).hexdigest()

    def stop(self) -> None:
        """Kill all processes inside; none is started any more."""
        with self._starting:
            self._stopped = True
            if self._sandbox is not None:
                self._sandbox.stop()

    def _start(self) -> isolation.Sandbox:
        with self._starting:
            if self._stopped:
                raise NotStarted("the container has been stopped")
            if self._sandbox is None:
                images.unpack(self.userland, self._root)
                for inside, aside in self._volumes:
                    if aside.exists():
                        aside.rename(inside)
                    else:
                        inside.mkdir()
                        inside.chmod(0o777)
                if self._populate is not None:
                    self._populate(self._root)
                self._sandbox = isolation.Sandbox(self._root, isolation.best())
            return self._sandbox


@dataclass(frozen=True, slots=True)
class Pod:
    """A Pod of the cluster; its first container is the default one."""

    namespace: str
    name: str
    containers: tuple[Container, ...]
    phase: str = "Running"

    @property
    def main_containers(self) -> tuple[Container, ...]:
        """The containers that are neither init nor ephemeral ones."""
        return self.of_kind("")

    def of_kind(self, kind: str) -> tuple[Container, ...]:
        """Return the containers of a kind."""
        return tuple(each for each in self.containers if each.kind == kind)

    def container(self, name: str) -> Container | None:
        """Return the container of that name; the first main one where the name is empty."""
        for container in self.containers if name else self.main_containers:
            if name in ("", container.name):
                return container
        return None

    def runs(self, container: Container) -> bool:
        """Return whether a container runs: the init ones do while the Pod is pending."""
        return self.phase == ("Pending" if container.kind == "init" else "Running")


def catalogue(directory: Path, userlands: Iterable[str]) -> list[Pod]:
    """Return the Pods for the given userlands, with their directories below `directory`."""
    pairs = [
        _pod(directory, f"{userland}-{number}", userland, volumes=KEPT if number == 0 else ())
        for userland in ("busybox", "bsdtar", "toybox")
        for number in (0, 1)
    ]
    pods = [
        _pod(directory, "gnu-0", "gnu", containers=("main", "side"), volumes=KEPT),
        _pod(directory, "gnu-1", "gnu"),
        *pairs,
        _pod(directory, "notar-0", "notar"),
        _pod(directory, "noshell-0", "noshell"),
        _pod(directory, "user-0", "gnu", user=1000),
        _pod(directory, "done-0", "gnu", phase="Succeeded"),
        _pod(directory, "pending-0", "gnu", phase="Pending"),
        _pod(directory, "init-0", "gnu", phase="Pending", init="setup"),
        _pod(directory, "debug-0", "gnu", ephemeral="debugger"),
        *_demo_pods(directory),
    ]
    known = frozenset(userlands)
    return [pod for pod in pods if pod.containers[0].userland in known]


def _pod(
    directory: Path,
    name: str,
    userland: str,
    *,
    containers: Sequence[str] = ("main",),
    user: int = 0,
    phase: str = "Running",
    volumes: Sequence[str] = (),
    **extra: str,
) -> Pod:
    """Return a Pod.

    :param extra: the name of one more container, by its kind.
    """
    kinds = {**dict.fromkeys(containers, ""), **{each: kind for kind, each in extra.items()}}
    made = tuple(
        Container(
            name,
            each,
            userland,
            directory / f"{name}.{each}",
            user=user,
            kind=kind,
            volumes=volumes if each == "main" else (),
        )
        for each, kind in kinds.items()
    )
    return Pod(NAMESPACE, name, made, phase)


def _demo_pods(directory: Path) -> list[Pod]:
    web = Container("web-0", "web", "gnu", directory / "web-0.web", populate=demo.populate)
    store = Container("store-0", "store", "gnu", directory / "store-0.store")
    return [Pod("shop", "web-0", (web,)), Pod("backup", "store-0", (store,))]


def _find_executable(root: Path, command: str) -> str:
    """Look for a command as the container runtime does: in PATH, or where its path says.

    :raises NotStarted: with the words of runc.
    """
    if "/" not in command:
        for directory in _PATH.split(":"):
            if _is_executable(root, f"{directory}/{command}"):
                return f"{directory}/{command}"
        raise NotStarted(f'exec: "{command}": executable file not found in $PATH')
    if _resolve(root, command) is None:
        raise NotStarted(f'exec: "{command}": stat {command}: no such file or directory')
    if not _is_executable(root, command):
        raise NotStarted(f'exec: "{command}": permission denied')
    return command


def _is_executable(root: Path, path: str) -> bool:
    found = _resolve(root, path)
    if found is None:
        return False
    mode = found.stat().st_mode
    return stat.S_ISREG(mode) and bool(mode & 0o111)


def _resolve(root: Path, path: str) -> Path | None:
    """Return the file that a path means to a process whose root is `root`, or None."""
    here = root
    rest = list(PurePosixPath(path).parts)
    links = 0
    while rest:
        part = rest.pop(0)
        if part == "/":
            here = root
        elif part == "..":
            here = here.parent if here != root else root
        elif (here / part).is_symlink():
            links += 1
            if links > _LONGEST_CHAIN:
                return None
            rest = [*(here / part).readlink().parts, *rest]
        else:
            here = here / part
    return here if here.exists() else None


def remove_tree(root: Path) -> None:
    """Remove a tree, if it is there, with the directories that a process made unreadable."""
    if not root.exists():
        return
    for directory, names, _ in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(root)
