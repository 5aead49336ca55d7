"""What can go wrong, sorted by whose fault it is.

::

    PodcpError
    ├── UsageError              the command line                            (exit 2)
    ├── AccessError             the way to the API server                   (exit 4)
    │   ├── KubeconfigError         kubeconfig or its credential plugin
    │   ├── Unreachable             no connection within the deadline
    │   ├── CertificateError        TLS: unknown CA, wrong name, expired
    │   ├── Unauthorized            401: token missing, wrong or expired
    │   ├── Forbidden               403 with a Status: RBAC said no
    │   └── ProtocolRefused         403 without a body: no common exec protocol
    ├── ServerError             the API server or the kubelet               (exit 1)
    │   ├── PodNotFound             no such Pod, workload or namespace
    │   ├── PodNotRunning           a Pod or container that is not running
    │   ├── ContainerNotFound       no such container in the Pod
    │   ├── ServerUnavailable       5xx, 429: it may be well again soon
    │   ├── ExecFailed              the command could not be started (no sh, no tar)
    │   └── ConnectionLost          the session ended before its status
    ├── SourceError             what is copied                              (exit 1)
    │   ├── SourceNotFound          the path does not exist
    │   ├── SourceFailed            its tar failed
    │   │   └── SourceKilled            by a signal
    │   ├── IncompleteArchive       the archive ended before its end
    │   └── UnsafeMember            a member that no destination should unpack
    ├── DestinationError        where it goes                               (exit 1)
    │   ├── DestinationRefused      the target cannot receive the source
    │   │   └── NoDirectory             which several sources need
    │   ├── DestinationFailed       its tar failed, or placing the result did
    │   │   └── DestinationKilled       by a signal
    │   ├── Mismatch                it arrived, but is not what passed
    │   └── NotAcknowledged         no proof that everything arrived
    ├── OutputFailed            stdout could not be written                 (exit 1)
    └── Interrupted             a signal                                    (128 + n)
        └── TimedOut                or the limit of --timeout, which exits with 1

An error says three things: what happened, what is on the destination now, what to do next.
Text that came from a container or a server is escaped by :func:`printable` when it is printed,
never before: tests and callers see the bytes as they came.

Any other exception that leaves the library is a bug of ours, and the command line says so.
"""

from __future__ import annotations

from typing import ClassVar, TypeVar

Error = TypeVar("Error", bound="PodcpError")


class PodcpError(Exception):
    """The base of all errors of this package; raise one of its children.

    :param happened: what happened, one sentence without a final full stop.
    :param left: what is on the destination now; empty where no session to it was opened.
    :param advice: what the user can do next.
    :param stderr: what the remote process said, as it came.
    """

    code: ClassVar[str] = "error"
    """Stable name of the error for machines."""

    retryable: ClassVar[bool] = False
    """Whether the same copy may succeed when it is tried again as it is."""

    def __init__(
        self, happened: str, *, left: str = "", advice: str = "", stderr: bytes = b""
    ) -> None:
        super().__init__(happened)
        self.happened = happened
        self.left = left
        self.advice = advice
        self.stderr = stderr

    def twin(self: Error) -> Error:
        """Return an error that says the same: of copies that fail together, each one has its own
        ``left``."""
        made = type(self).__new__(type(self), *self.args)
        vars(made).update(vars(self))
        made.__cause__ = self.__cause__
        return made

    def __str__(self) -> str:
        said = [f"  {printable(line)}" for line in self.stderr.splitlines()]
        told = "\n".join(part for part in (self.happened, *said, self.left, self.advice) if part)
        # What happened may be in a server's own words, which quote the container's.
        return "\n".join(map(printable, told.split("\n")))


class UsageError(PodcpError):
    """The command line, or the library's caller, asks for something that cannot be done."""

    code = "usage"


class AccessError(PodcpError):
    """The API server could not be reached, or it did not let us in."""

    code = "access"


class KubeconfigError(AccessError):
    """The kubeconfig cannot be read or used, or its credential plugin failed."""

    code = "kubeconfig"


class Unreachable(AccessError):
    """No connection to the API server (or its proxy) within the deadline."""

    code = "unreachable"
    retryable = True


class CertificateError(AccessError):
    """The server's certificate was not accepted, or ours was not."""

    code = "certificate"


class Unauthorized(AccessError):
    """HTTP 401."""

    code = "unauthorized"


class Forbidden(AccessError):
    """HTTP 403 with a Status document: RBAC, or an admission plugin, said no."""

    code = "forbidden"


class ProtocolRefused(AccessError):
    """HTTP 403 with an empty body: the server speaks none of the exec protocols we offered."""

    code = "exec-protocol"


class ServerError(PodcpError):
    """The API server or the kubelet answered with a failure of its own."""

    code = "server"


class PodNotFound(ServerError):
    """No such Pod, no such namespace, or no Pod of what was named instead of one."""

    code = "pod-not-found"


class PodNotRunning(ServerError):
    """The Pod or the container exists, but nothing can be run in it; or no Pod is ready."""

    code = "pod-not-running"
    retryable = True


class ContainerNotFound(ServerError):
    """The Pod has no such container; the message lists those that it has."""

    code = "container-not-found"


class ServerUnavailable(ServerError):
    """The API server or the kubelet failed with an error of its own, which may pass."""

    code = "server-unavailable"
    retryable = True


class ExecFailed(ServerError):
    """The command could not be started in the container: no ``sh``, no ``tar``."""

    code = "exec-failed"


class ConnectionLost(ServerError):
    """The connection ended before the remote process reported its status."""

    code = "connection-lost"
    retryable = True


class SourceError(PodcpError):
    """What is to be copied cannot be read as it should."""

    code = "source"


class SourceNotFound(SourceError):
    """The source path does not exist."""

    code = "source-not-found"


class SourceFailed(SourceError):
    """The source's tar reported a failure; the message quotes its stderr."""

    code = "source-failed"


class SourceKilled(SourceFailed):
    """The source's tar was ended by a signal."""

    code = "source-killed"
    retryable = True


class IncompleteArchive(SourceError):
    """The source's archive ended before its end-of-archive blocks or its trailer."""

    code = "incomplete-archive"
    retryable = True


class UnsafeMember(SourceError):
    """The source's archive has a member that is refused; nothing of it was sent on."""

    code = "unsafe-member"


class DestinationError(PodcpError):
    """The destination cannot take what is copied."""

    code = "destination"


class DestinationRefused(DestinationError):
    """The target, as it is now, cannot receive this source; nothing was written."""

    code = "destination-refused"


class NoDirectory(DestinationRefused):
    """The target must be a directory that exists, and is none."""

    code = "no-directory"


class DestinationFailed(DestinationError):
    """The destination's tar, or putting the result in place, failed."""

    code = "destination-failed"


class DestinationKilled(DestinationFailed):
    """The destination's tar was ended by a signal."""

    code = "destination-killed"
    retryable = True


class Mismatch(DestinationError):
    """What the destination unpacked is not what went through the relay; nothing was replaced."""

    code = "mismatch"


class NotAcknowledged(DestinationError):
    """The destination never proved that everything arrived."""

    code = "not-acknowledged"
    retryable = True


class OutputFailed(PodcpError):
    """What was asked for on stdout could not be written there."""

    code = "output"


class Interrupted(PodcpError):
    """A signal ended the copy.

    :param signum: the signal's number; the exit status is 128 more.
    """

    code = "interrupted"

    def __init__(self, signum: int, *, left: str = "") -> None:
        super().__init__("interrupted", left=left)
        self.signum = signum


class TimedOut(Interrupted):
    """The copy was not done within ``--timeout``; whoever waits is woken as by a signal."""

    code = "timed-out"
    ALARM = 14

    def __init__(self, seconds: float, *, left: str = "") -> None:
        super().__init__(self.ALARM, left=left)
        self.happened = f"not done within {seconds:g} s"
        self.advice = "give it more --timeout"


def printable(text: str | bytes) -> str:
    r"""Return ``text`` safe for a terminal: control and undecodable bytes as ``\xNN``, on one line.

    Names and stderr come from containers, which may send escape sequences.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "surrogateescape")
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is not UTF-8, kept by surrogateescape
        return f"\\x{number - 0xDC00:02x}"
    if character.isprintable():
        return character
    if number < 0x100:
        return f"\\x{number:02x}"
    return character.encode("unicode_escape").decode("ascii")
