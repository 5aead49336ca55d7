"""The command line: argv becomes a request, the report becomes a line and an exit code.

The only place that prints, and the only one that knows exit codes.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from kubectl_podcp._version import __version__
from kubectl_podcp.errors import AccessError, Interrupted, PodcpError, UsageError, printable
from kubectl_podcp.report import Report, Tally
from kubectl_podcp.request import RETRIES, STALL_TIMEOUT, CopyRequest, pod_paths

COMPLETE = 0
"""Everything was copied, and that is proved."""
FAILED = 1
"""The copy failed; the error says why, and what is on the destination."""
USAGE = 2
"""The command line cannot be carried out as it stands."""
PARTIAL = 3
"""The source could not read some of what was asked for; the rest is complete."""
REFUSED = 4
"""The API server could not be reached, or did not let us in."""
SIGNALLED = 128
"""Plus the signal's number: 130 after Ctrl-C, 143 after SIGTERM."""

EXAMPLES = """\
Both containers need sh and tar (GNU, busybox, bsdtar or toybox).

A destination that is a directory receives the source under its own name, as
with GNU cp -r; -T makes the destination be the source, and SOURCE/. copies the
contents of a directory.

examples:
  # copy a tree from one Pod to another, into /srv/photos or as /srv/photos
  {prog} shop/web-0:/data/photos backup/store-0:/srv/photos

  # copy a file under another name
  {prog} -n shop web-0:/etc/hosts web-1:/tmp/hosts.web-0

  # copy the contents of a directory
  {prog} web-0:/data/. web-1:/data

exit codes:
  0 complete, 1 failed, 2 usage, 3 partial (some of the source was unreadable),
  4 no access to the API server, 130 and 143 after a signal
"""


def main(argv: Sequence[str]) -> int:
    """Carry out a command line and return its exit code; errors go to stderr, nothing is raised.

    :param argv: the program's name, then its arguments.
    """
    try:
        with _signals():
            return _run(argv)
    except PodcpError as error:
        print(f"error: {error}", file=sys.stderr)
        return exit_code(error)
    except Exception as error:
        print(f"error: a bug in kubectl-podcp: {type(error).__name__}: {error}", file=sys.stderr)
        return FAILED


def exit_code(error: PodcpError) -> int:
    """Return the exit code for an error."""
    if isinstance(error, Interrupted):
        return SIGNALLED + error.signum
    if isinstance(error, UsageError):
        return USAGE
    return REFUSED if isinstance(error, AccessError) else FAILED


class Parser(argparse.ArgumentParser):
    """Raises :class:`UsageError` instead of printing usage and leaving."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, advice=f"see '{self.prog} --help'")


def parser(prog: str) -> Parser:
    """Return the parser of the command line."""
    made = Parser(
        prog=prog,
        usage="%(prog)s [options] SOURCE DESTINATION",
        description="Copy files between Pods, and say complete only when that is proved.",
        epilog=EXAMPLES.format(prog=prog),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("source", metavar="SOURCE", help="[namespace/]pod:path")
    made.add_argument("destination", metavar="DESTINATION", help="[namespace/]pod:path")
    add = made.add_argument
    add("-n", "--namespace", metavar="NAME", help="namespace of a Pod whose path names none")
    add("-c", "--container", metavar="NAME", help="container in both Pods")
    add("--context", metavar="NAME", help="context of the kubeconfig")
    add("--kubeconfig", metavar="FILE", help="kubeconfig file")
    add(
        "-T",
        "--no-target-directory",
        action="store_true",
        help="let DESTINATION be the source, even where a directory of that name exists",
    )
    add(
        "--stall-timeout",
        metavar="SECONDS",
        type=float,
        default=STALL_TIMEOUT,
        help="fail when nothing moves for so long (60; 0 is never)",
    )
    add(
        "--retries",
        metavar="N",
        type=int,
        default=RETRIES,
        help="try so often again after a failure that may pass (0)",
    )
    add(
        "--partial",
        action="store_true",
        help="keep what arrived when the copy fails; the same command then goes on",
    )
    add("-q", "--quiet", action="store_true", help="print errors only")
    add("--version", action="version", version=f"%(prog)s {__version__}")
    return made


def _run(argv: Sequence[str]) -> int:
    is_plugin = Path(argv[0]).name.startswith("kubectl-")
    options = parser("kubectl podcp" if is_plugin else "kubectl-podcp").parse_args(argv[1:])
    from kubectl_podcp import progress
    from kubectl_podcp.copy import carry_out

    request = CopyRequest(
        *pod_paths(options.source, options.destination),
        namespace=options.namespace,
        container=options.container,
        context=options.context,
        kubeconfig=options.kubeconfig,
        no_target_directory=options.no_target_directory,
        stall_timeout=options.stall_timeout,
        retries=options.retries,
        partial=options.partial,
    )
    tally = Tally()
    bar = sys.stderr.isatty() and not options.quiet
    with progress.shown(tally, sys.stderr) if bar else nullcontext():
        report = carry_out(request, tally, _ignore if options.quiet else _notice)
    return _conclude(report, options.quiet)


def _conclude(report: Report, quiet: bool) -> int:
    partial = report.status == "partial"
    if partial:
        for line in report.stderr.splitlines():
            print(f"  {printable(line)}", file=sys.stderr)
    if partial or not quiet:
        print(report.summary(), file=sys.stderr)
    return PARTIAL if partial else COMPLETE


def _notice(text: str) -> None:
    erase = "\r\x1b[K" if sys.stderr.isatty() else ""  # the bar is drawn anew below it
    print(f"{erase}{text}", file=sys.stderr)


def _ignore(_text: str) -> None:
    """Say nothing."""


@contextmanager
def _signals() -> Iterator[None]:
    """Turn the signals that ask a program to end into :class:`Interrupted`, in the main thread."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for each in before:  # a second one ends us at once: both containers clean up by themselves
            signal.signal(each, signal.SIG_DFL)
        raise Interrupted(number)

    before = {}
    with suppress(ValueError):  # not the main thread: somebody else takes care of signals
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
