"""How each fault is brought about: context managers around one copy.

Each acts at a moment that is known by the bytes that have passed, while the network holds its
breath; none sleeps and hopes. What makes a fault last (five seconds without an API server, a reader
that pauses for a minute) is timed, and ended, by a thread of its own.
"""

from __future__ import annotations

import json
import random
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import yaml  # type: ignore[import-untyped]

from kubectl_podcp.errors import PodcpError
from tests.cluster import daemons
from tests.cluster import pods as real_pods
from tests.end_to_end.breaker import Link
from tests.end_to_end.conftest import ClusterUnderTest
from tests.end_to_end.faults.run import SOME, Cause, Run
from tests.end_to_end.pods import CommandFailed, TestPod, wait_until
from tests.loopback import faults, statuses, web
from tests.loopback.access import ADMIN
from tests.loopback.server import Server

BACK_AFTER = 5.0
"""Seconds after which what was killed is started again."""

SENDS, RECEIVES = "tar cf - --numeric-owner", "tar xpf -"


@contextmanager
def nothing(_run: Run) -> Iterator[None]:
    """The copy as it is: the tree has a file name with a newline, for one thing."""
    yield


def embedded(run: Run) -> Server:
    """Return the embedded cluster, which the fault needs."""
    assert run.cluster.server is not None
    return run.cluster.server


@contextmanager
def later(seconds: float) -> Iterator[Callable[[Callable[[], None]], None]]:
    """Give what does something so many seconds after it was told to; it is awaited at the end."""
    timers: list[threading.Timer] = []
    errors: list[BaseException] = []

    def start(do: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                do()
            except BaseException as error:
                errors.append(error)

        timers.append(threading.Timer(seconds, guarded))
        timers[-1].start()

    try:
        yield start
    finally:
        for timer in timers:
            timer.join()
    if errors:
        raise errors[0]


# --- processes -----------------------------------------------------------------------------


def source_tar_killed(run: Run) -> AbstractContextManager[object]:
    """Kill it when some of its archive has come."""
    return run.once(lambda _: run.signal_tar(run.source, "KILL"), down=SOME)


def destination_tar_killed(run: Run) -> AbstractContextManager[object]:
    """Kill it when it has got some of the archive."""
    return run.once(lambda _: run.signal_tar(run.destination, "KILL"), up=SOME)


def pausing(seconds: float) -> Cause:
    """Let the destination's tar take nothing for a while."""

    @contextmanager
    def cause(run: Run) -> Iterator[None]:
        with later(seconds) as start:

            def pause(_: Link) -> None:
                run.signal_tar(run.destination, "STOP")
                start(lambda: run.signal_tar(run.destination, "CONT"))

            with run.once(pause, up=SOME):
                yield

    return cause


def lacking_option(end: Callable[[Run], TestPod]) -> Cause:
    """Put a tar in front of the real one that does not know ``--numeric-owner``."""

    @contextmanager
    def cause(run: Run) -> Iterator[None]:
        pod, path = end(run), "/usr/local/bin/tar"
        script = """#!/bin/sh
case "$*" in *--numeric-owner*)
  echo "tar: unrecognized option '--numeric-owner'" >&2; exit 64 ;;
esac
exec "$(PATH=/usr/bin:/bin command -v tar)" "$@"
"""
        pod.sh(
            f"mkdir -p {path.rpartition('/')[0]}; cat >{path}; chmod 755 {path}", script.encode()
        )
        yield
        pod.sh(f"rm {path}")

    return cause


# --- the network ---------------------------------------------------------------------------


def breaking_link(do: Callable[[Link], None], *, up: int = 0, down: int = 0) -> Cause:
    """Do something to the destination's connection (``up``), or to the source's (``down``)."""
    return lambda run: run.once(do, up=up, down=down)


@contextmanager
def slow_network(run: Run) -> Iterator[None]:
    """Hold each piece back for 200 ms, in both directions."""
    run.breaker.delay = 0.2
    yield


@contextmanager
def other_pieces(run: Run) -> Iterator[None]:
    """Cut what passes anew, into pieces of random sizes, whatever it is."""
    run.breaker.pieces = random.Random(7)
    yield


# --- the files -----------------------------------------------------------------------------


def at_the_source(script: str) -> Cause:
    """Run a script beside the file that is copied, when some of it has come."""

    def cause(run: Run) -> AbstractContextManager[object]:
        run.is_changed = True
        place, _, run_name = run.source_path.rpartition("/")
        assert run_name == "big"
        return run.once(lambda _: run.source.sh(f"cd {place}; {script}"), down=SOME)

    return cause


@contextmanager
def unreadable(run: Run) -> Iterator[None]:
    """Take away the right to read one file; nobody who copies is root here."""
    run.arranged = lambda: run.source.sh(f"chmod 0 {run.source_path}/f2")
    yield


@contextmanager
def missing(run: Run) -> Iterator[None]:
    """Ask for what is not there."""
    run.arranged = lambda: run.source.sh(f"rm -r {run.source_path}")
    yield


@contextmanager
def full(run: Run) -> Iterator[None]:
    """Let the destination have a few MiB: a disk of its own."""
    if run.cluster.is_real:
        run.destination.sh("rm -rf /small/* /small/.podcp-*")  # of other tests; we are alone here
        run.place = run.base.replace("/tmp/faults", "/small")
        run.at_end.callback(lambda: run.destination.sh(f"rm -rf {run.place}"))
        yield
        return
    mount(run)
    yield


@contextmanager
def read_only(run: Run) -> Iterator[None]:
    """Let the destination be a file system that nobody may write."""
    if run.cluster.is_real:
        run.place, run.is_foreign = "/sys", True
        yield
        return
    mount(run)
    run.arranged = lambda: run.destination.sh(f"mount -o remount,ro {run.place}")
    yield


def mount(run: Run) -> None:
    """Have a file system of its own at the embedded cluster's destination."""
    run.destination.sh(f"mkdir -p {run.place}; mount -t tmpfs -o size=2m faults {run.place}")
    run.at_end.callback(lambda: run.destination.sh(f"umount {run.place}"))


@contextmanager
def no_directory(run: Run) -> Iterator[None]:
    """Copy to below a file."""
    run.target = f"{run.place}/big/below"
    yield


@contextmanager
def no_permission(run: Run) -> Iterator[None]:
    """Copy to where the user may not write."""
    run.place, run.is_foreign = "/etc", True
    yield


# --- what a server may say: the embedded one alone -----------------------------------------


def said_by(end: Callable[[Run], TestPod], word: str, make: Callable[[], faults.Fault]) -> Cause:
    """Let one session suffer a fault of the embedded cluster, the first of those that copy."""

    @contextmanager
    def cause(run: Run) -> Iterator[None]:
        fault = make()
        embedded(run).inject(end(run).name, fault, command=run.meant(word), session=0)
        yield

    return cause


def always_said_by(
    end: Callable[[Run], TestPod], word: str, make: Callable[[], faults.Fault]
) -> Cause:
    """The same for each session that copies."""

    @contextmanager
    def cause(run: Run) -> Iterator[None]:
        embedded(run).inject(end(run).name, make(), command=run.meant(word))
        yield

    return cause


def redirect() -> faults.Fault:
    """Answer with the way to somewhere else."""
    headers = {"Location": "https://elsewhere.invalid/", "Content-Length": "0"}
    return faults.Refuse(web.Response(302, headers=headers))


def status(code: int, reason: str, message: str) -> Callable[[], faults.Fault]:
    """Answer with a Status document."""
    document = statuses.refusal(code, reason, message)
    return lambda: faults.Refuse(web.json_response(document, code))


@contextmanager
def everybody_hears_success(run: Run) -> Iterator[None]:
    """End both sessions with Success in mid-copy, as a dying kubelet does."""
    fault = faults.EndAll(SOME, faults.Ending.SUCCESS)
    server = embedded(run)
    server.inject(run.source.name, fault, command=run.meant(SENDS), session=0)
    server.inject(run.destination.name, fault, command=run.meant(RECEIVES), session=0)
    yield


@contextmanager
def expired_token(run: Run) -> Iterator[None]:
    """Let the token expire in mid-copy, and the connection break; a plugin has the next one."""
    tokens = embedded(run).tokens.users
    assert isinstance(tokens, dict)
    first, second = (f"token-{secrets.token_hex(16)}" for _ in range(2))
    run.secrets += [first, second]
    answer = run.scratch / "credential.json"

    def hand_out(token: str) -> None:
        tokens[token] = ADMIN
        credential = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": {"token": token},
        }
        answer.write_text(json.dumps(credential))

    def expire(link: Link) -> None:
        del tokens[first]
        hand_out(second)
        link.reset()

    hand_out(first)
    _use_plugin(run, [sys.executable, "-S", "-c", f"print(open({str(answer)!r}).read())"])
    with run.once(expire, up=SOME):
        yield
    del tokens[second]


def _use_plugin(run: Run, command: list[str]) -> None:
    document = yaml.safe_load(run.through.read_text("utf-8"))
    plugin = {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": command[0],
        "args": command[1:],
        "interactiveMode": "Never",
    }
    for user in document["users"]:
        user["user"] = {"exec": plugin}
    run.through.write_text(yaml.safe_dump(document), "utf-8")


# --- containers and Pods -------------------------------------------------------------------


def restarted(end: Callable[[Run], TestPod], *, down: int = 0, up: int = 0) -> Cause:
    """Kill the first process of a container; it is started anew, from its image."""

    @contextmanager
    def cause(run: Run) -> Iterator[None]:
        pod = end(run)
        _loses_all(run, pod)
        with run.once(lambda _: restart(run, pod), down=down, up=up):
            yield
        if run.cluster.is_real:
            real_pods.await_ready()
            # Or the next restart of this container would be put off.
            run.at_end.callback(lambda: real_pods.recreate(pod.name))

    return cause


@contextmanager
def source_restarted_with_a_volume(run: Run) -> Iterator[None]:
    """Restart the source's container; what is copied is on a volume, and there again."""
    run.data = f"/kept/{run.version}"
    run.source.fresh(run.data)
    run.source_path = f"{run.data}/tree"
    run.at_end.callback(lambda: run.source.fresh(run.data))
    with restarted(lambda _: run.source, down=SOME)(run):
        yield


def restart(run: Run, pod: TestPod) -> None:
    """Restart the main container of a Pod."""
    if run.cluster.is_real:
        real_pods.kill_container(pod.name, pod.container)
    else:
        container = embedded(run).pod(pod.name).container(pod.container)
        assert container is not None
        container.restart()


def deleted(end: Callable[[Run], TestPod], *, again: bool, down: int = 0, up: int = 0) -> Cause:
    """Delete a Pod, and make it again, at once or after the copy."""

    @contextmanager
    def cause(run: Run) -> Iterator[None]:
        pod = end(run)
        _loses_all(run, pod)
        back: list[Callable[[], None]] = []

        def delete(_: Link) -> None:
            back.append(delete_pod(run.cluster, pod.name))
            if again:
                back.pop()()

        with run.once(delete, down=down, up=up):
            yield
        for create in back:
            create()
        if run.cluster.is_real:
            real_pods.await_ready()

    return cause


def delete_pod(cluster: ClusterUnderTest, name: str) -> Callable[[], None]:
    """Delete a Pod; return what makes it again."""
    if cluster.is_real:
        real_pods.delete(name)
        return lambda: real_pods.create_one(name)
    assert cluster.server is not None
    server, gone = cluster.server, cluster.server.pod(name)
    server.delete(gone)
    return lambda: server.create(gone)


def _loses_all(run: Run, pod: TestPod) -> None:
    run.place = "/srv"
    run.destination.fresh("/srv")
    run.destination.sh("chmod 755 /srv")  # as it is in the image, whatever tests have made of it
    run.is_wiped = pod is run.destination


# --- daemons -------------------------------------------------------------------------------


@contextmanager
def no_server_for_a_while(run: Run) -> Iterator[None]:
    """Break every connection and take no new one for a while: what a client sees of a restart."""
    with later(BACK_AFTER) as start:

        def down(_: Link) -> None:
            run.breaker.refuses.set()
            for each in list(run.breaker.links):
                each.finish()
            start(run.breaker.refuses.clear)

        with run.once(down, up=SOME):
            yield


def terminated(name: str) -> None:
    """Ask a daemon to end; one that still takes leave of its clients after 5 s is killed."""
    daemons.terminate(name)
    end = time.monotonic() + BACK_AFTER
    while daemons.alive(name) and time.monotonic() < end:
        time.sleep(0.05)
    daemons.kill(name)


def killed(daemon: str, how: Callable[[str], None], back_after: float = 0.0) -> Cause:
    """End a daemon of the real cluster in mid-copy, and start it again later."""

    @contextmanager
    def cause(run: Run) -> Iterator[None]:
        name = f"{daemon}-v4" if (daemon, run.version) == ("api-server", "v4") else daemon
        run.is_orphaned = daemon == "containerd"  # it never closes the stdin of what it ran
        with later(back_after) as start:

            def end(_: Link) -> None:
                how(name)
                start(lambda: daemons.start(name))

            with run.once(end, up=SOME):
                yield
        real_pods.await_ready()
        for pod in (run.source, run.destination):
            wait_until(partial(answers, pod), 60, f"nothing can be run in {pod.name}")

    return cause


def answers(pod: TestPod) -> bool:
    """Return whether something can be run in a Pod again."""
    try:
        return pod.sh("echo yes") == b"yes\n"
    except (CommandFailed, PodcpError):
        return False
