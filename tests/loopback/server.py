"""The server of the embedded cluster, to be used as a context manager.

What goes in: nothing, or a directory. What comes out: two API servers on 127.0.0.1, one that
speaks the exec protocols v5 and v4 and one that speaks v4 alone, and a kubeconfig for both::

    with Server() as server:
        subprocess.run(["kubectl", "--kubeconfig", server.kubeconfig, "get", "pods"])

Raises :class:`tests.loopback.isolation.CannotIsolate` on a machine that cannot run Pods. When
the block is left, nothing is left: no process, no mount, no thread, no directory of ours.

Any thread may call :meth:`Server.inject` and :meth:`Server.pod`.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests import userlands
from tests.loopback import access, isolation, kubeconfig, pods, web
from tests.loopback.api import Api, Refused, refused, unauthorized
from tests.loopback.connection import Connection, WebSocket
from tests.loopback.exec_session import ExecSession, Transport
from tests.loopback.faults import Fault
from tests.loopback.spdy import SpdyStreams
from tests.loopback.statuses import V4, V5

_SERVERS = {"v5": (V5, V4), "v4": (V4,)}
"""The servers by their names in the kubeconfig, with what they speak: as 1.30, and before."""

_BACKLOG = 128


def _always(_command: Sequence[str]) -> bool:
    return True


@dataclass(slots=True)
class _Injection:
    """A fault, and the sessions that it is meant for."""

    namespace: str
    pod: str
    fault: Fault
    command: Callable[[Sequence[str]], bool]
    session: int | None
    seen: int = 0

    def meets(self, pod: pods.Pod, command: Sequence[str]) -> bool:
        """Return whether this session is meant. Each session asks once: they are counted."""
        if (pod.namespace, pod.name) != (self.namespace, self.pod) or not self.command(command):
            return False
        self.seen += 1
        return self.session in (None, self.seen - 1)


class Server:
    """The embedded cluster."""

    def __init__(self, directory: Path | None = None) -> None:
        """Prepare a cluster.

        :param directory: where the Pods and the kubeconfig shall be, and the kubeconfig shall
            stay; a temporary directory if it is left out.
        """
        self._given = directory
        self._lock = threading.Lock()  # guards the lists below
        self._listeners: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._connections: set[Connection] = set()
        self._sessions: list[ExecSession] = []
        self._injections: list[_Injection] = []
        self._stopping = False

    def __enter__(self) -> Server:
        """Start."""
        isolation.best()
        self.directory = self._make_directory()
        self.kubeconfig = self.directory / "kubeconfig"
        self._pods_directory = self.directory / "pods"
        pods.remove_tree(self._pods_directory)  # what a server left that was killed
        self.tokens = access.Tokens()
        self.authority = kubeconfig.Authority()
        self._context = self.authority.server_context()
        self._pods = pods.catalogue(self._pods_directory, userlands.available())
        self._api = Api(self._pods)
        self.ports = {version: self._listen(spoken) for version, spoken in _SERVERS.items()}
        kubeconfig.write(self.kubeconfig, self.authority, self.tokens, self.ports)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop, and leave nothing behind."""
        self.stop()

    def stop(self) -> None:
        """End all sessions, kill all processes of the Pods, remove their directories.

        A thread of ours blocks in accept, in a TLS connection, in a pipe of a process, or until
        a process ends: closed listeners, aborted connections and dead processes wake them all.
        May be called twice.
        """
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
        for listener in self._listeners:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            connection.abort()
        for pod in self._pods:
            for container in pod.containers:
                container.stop()
        with self._lock:
            sessions, threads = list(self._sessions), list(self._threads)
        for session in sessions:
            session.stop()
        for thread in threads:
            thread.join()
        pods.remove_tree(self._pods_directory)
        if self._given is None:
            shutil.rmtree(self.directory)

    def pod(self, name: str, namespace: str = pods.NAMESPACE) -> pods.Pod:
        """Return a Pod; its directory is ``server.pod("gnu-0").containers[0].root``."""
        for pod in self._pods:
            if (pod.namespace, pod.name) == (namespace, name):
                return pod
        raise KeyError(f"no Pod {namespace}/{name}: is its userland installed?")

    def inject(
        self,
        pod: str,
        fault: Fault,
        *,
        namespace: str = pods.NAMESPACE,
        command: Callable[[Sequence[str]], bool] = _always,
        session: int | None = None,
    ) -> None:
        """Let the coming sessions of a Pod suffer a fault.

        :param command: which command lines are meant, as ``faults.runs("tar xf")``.
        :param session: the number of the one session that is meant, counted from 0 among those
            whose command line is; all of them if it is left out.
        """
        with self._lock:
            self._injections.append(_Injection(namespace, pod, fault, command, session))

    def delete(self, pod: pods.Pod) -> None:
        """Delete a Pod: its processes are killed, its files are gone, nobody finds it any more."""
        with self._lock:
            self._pods.remove(pod)
        for container in pod.containers:
            container.restart()

    def create(self, pod: pods.Pod) -> None:
        """Make a Pod anew that was deleted."""
        with self._lock:
            self._pods.append(pod)

    def clear_faults(self) -> None:
        """Let the coming sessions run as they should."""
        with self._lock:
            self._injections.clear()

    def _make_directory(self) -> Path:
        if self._given is None:
            return Path(tempfile.mkdtemp(prefix="loopback-")).resolve()
        self._given.mkdir(parents=True, exist_ok=True)
        return self._given.resolve()

    def _listen(self, spoken: Sequence[str]) -> int:
        listener = socket.create_server((kubeconfig.ADDRESS, 0), backlog=_BACKLOG)
        self._listeners.append(listener)
        self._spawn(self._accept, listener, spoken)
        port: int = listener.getsockname()[1]
        return port

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        with self._lock:
            self._threads = [each for each in self._threads if each.is_alive()]
            self._threads.append(thread)
            thread.start()

    def _accept(self, listener: socket.socket, spoken: Sequence[str]) -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return  # closed by stop()
            self._spawn(self._serve, accepted, spoken)

    def _serve(self, accepted: socket.socket, spoken: Sequence[str]) -> None:
        """Answer the requests of one connection."""
        try:
            connection = Connection(accepted, self._context)
        except OSError:
            accepted.close()
            return
        with self._lock:
            if self._stopping:
                connection.abort()
            self._connections.add(connection)
        try:
            self._answer_all(connection, spoken)
        except (ConnectionError, web.BadRequest):
            pass
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def _answer_all(self, connection: Connection, spoken: Sequence[str]) -> None:
        while (request := web.read_request(connection)) is not None:
            try:
                if request.path.endswith("/exec"):
                    self._exec(connection, request, spoken)
                    return
                response = self._answer(request)
            except Refused as error:
                response = error.response
            connection.sendall(response.serialize())
            if response.headers.get("Connection") == "close":
                connection.finish()
                return

    def _answer(self, request: web.Request) -> web.Response:
        if request.method != "GET":
            message = f"the embedded cluster only answers GET, not {request.method}"
            raise refused(405, "MethodNotAllowed", message)
        return self._api.get(request, self._user(request))

    def _exec(self, connection: Connection, request: web.Request, spoken: Sequence[str]) -> None:
        pod, wanted = self._api.exec_request(request, self._user(request), spoken)
        with self._lock:
            fault = self._fault_for(pod, wanted.command)
        if (answer := fault.answer()) is not None:
            raise Refused(answer)
        transport: Transport
        if web.is_spdy(request):
            connection.sendall(web.switching_to_spdy(wanted.protocol).serialize())
            transport = SpdyStreams(connection, wanted.channels)
        else:
            connection.sendall(web.switching_protocols(request, wanted.protocol).serialize())
            transport = WebSocket(connection)
        with self._lock:
            session = ExecSession(wanted, transport, fault)
            self._sessions = [each for each in self._sessions if not each.ended]
            self._sessions.append(session)
        session.run()

    def _fault_for(self, pod: pods.Pod, command: Sequence[str]) -> Fault:
        for injection in self._injections:
            if injection.meets(pod, command):
                return injection.fault
        return Fault()

    def _user(self, request: web.Request) -> access.User:
        try:
            return self.tokens.user(request.headers)
        except access.Unauthorized:
            raise unauthorized() from None
