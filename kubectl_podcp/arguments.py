"""The command line's words and flags, and its help.

In: arguments. Out: a namespace of what was said, and the :class:`Options` in it. Raises
:class:`UsageError`. The name of a flag is that of the option's field.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import NoReturn

from kubectl_podcp import fidelity, lists, modes
from kubectl_podcp._version import __version__
from kubectl_podcp.bandwidth import rate
from kubectl_podcp.errors import UsageError, printable
from kubectl_podcp.hints import hint
from kubectl_podcp.overrides import Overrides, seconds
from kubectl_podcp.paths import GRAMMAR
from kubectl_podcp.request import AUTO, BACKUPS, COMPRESSIONS, NONE, RETRIES, STALL_TIMEOUT, Options

PATHS = f"""\
Copy files between Pods, or a Pod and this machine; complete means proved.

paths:
  SOURCE                     {GRAMMAR}; or deploy/web for pod
  DESTINATION                the same; a directory where there are more SOURCEs
  -                          stdin as SOURCE, stdout as DESTINATION
"""

EXAMPLES = """\
Both ends need sh and tar (GNU, busybox, bsdtar or toybox).
A destination that is a directory receives the source under its own name, as
with GNU cp -r; -T makes the destination be the source, as kubectl cp does from
a Pod, and SOURCE/. copies the contents of a directory.

examples:
  # copy a tree from one Pod to another, into /srv/photos or as /srv/photos
  {prog} shop/web-0:/data/photos backup/store-0:/srv/photos
  # copy a file under another name
  {prog} -n shop web-0:/etc/hosts web-1:/tmp/hosts.web-0
  # from this machine to a Pod, and back
  {prog} ./photos shop/web-0:/data
  {prog} shop/web-0:/data/photos ~/backup
  # copy the contents of a directory
  {prog} web-0:/data/. web-1:/data
"""

EXIT_CODES = """
exit codes:
  0 complete, 1 failed, 2 usage, 3 partial (some of it could not be copied),
  4 no access to the API server, 129, 130, 143 after a signal, 141 output unread
"""


class Told(Exception):
    """What was asked for is a text: the help, or the version."""


class Parser(argparse.ArgumentParser):
    """Raises :class:`UsageError` instead of printing usage and leaving."""

    def error(self, message: str) -> NoReturn:
        meant = hint(message, self._option_string_actions, self.prog)
        see = f"see '{self.prog} --help'"
        raise UsageError(message, advice=f"{meant}; {see}" if meant else see)

    def _print_message(self, message: str, _file: object = None) -> NoReturn:
        raise Told(message)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Shows a list that may be left out as what it is: a part of the option's own word."""

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if action.option_strings and action.option_strings[0] in _WITH_LIST:
            return f"{action.option_strings[0]}[={action.metavar}]"
        return super()._format_action_invocation(action)


class _HelpAll(argparse.Action):
    """``--help-all``."""

    def __call__(self, made: argparse.ArgumentParser, *_: object) -> NoReturn:
        raise Told(parser(made.prog, everything=True).format_help())


def parse(prog: str, words: Sequence[str]) -> argparse.Namespace:
    """Return what the command line says; flags may stand before, between and behind the paths.

    :raises UsageError: it cannot be understood.
    :raises Told: it asks for help, or the version.
    """
    made = parser(prog)
    words = list(words)
    end = words.index("--") if "--" in words else len(words)
    _check_values(words[:end])
    # As in GNU cp, a list is part of the word: what follows is a path.
    words[:end] = [f"{word}=" if word in _WITH_LIST else word for word in words[:end]]
    # argparse would give all of the sources to the first path, or take them in one piece.
    said, paths = made.parse_known_args(words[:end])
    unknown = [word for word in paths if word.startswith("-") and word != "-"]
    if unknown:
        made.error(f"unrecognized arguments: {printable(' '.join(unknown))}")
    paths += words[end + 1 :]
    needed = ["SOURCE"] if said.to else ["SOURCE", "DESTINATION"]
    if len(paths) < len(needed):
        made.error(f"the following arguments are required: {', '.join(needed[len(paths) :])}")
    said.destinations = said.to or [paths.pop()]
    said.sources = paths
    if "-" in said.destinations and (said.itemize or said.output):
        raise UsageError(
            "stdout is where the copy goes, and nothing else can be told there",
            advice=f"leave out {'--itemize' if said.itemize else '-o'}; "
            "--progress json tells scripts on stderr how far it is",
        )
    return said


def _check_values(words: Sequence[str]) -> None:
    """Refuse a value of a flag that may have none, and whose value is a part of its own word.

    :raises UsageError: it would be taken for a path.
    """
    for flag, value in itertools.pairwise(words):
        if any(
            flag in flags and values.issuperset(value.split(",")) for flags, values in _WITH_VALUE
        ):
            raise UsageError(
                f"{flag} {value} is not one word, and '{value}' would be a file",
                advice=f"write {_LONG.get(flag, flag)}={value}, or ./{value} for a file of that "
                "name",
            )


def parser(prog: str, *, everything: bool = False) -> Parser:
    """Return the parser of the command line.

    :param everything: whether its help has what few need, too.
    """
    made = Parser(
        prog=prog,
        usage="%(prog)s [options] SOURCE... DESTINATION",
        description=PATHS,
        epilog=EXAMPLES.format(prog=prog) + (EXIT_CODES if everything else ""),
        formatter_class=functools.partial(_Formatter, max_help_position=32),
        allow_abbrev=False,
    )
    add = made.add_argument
    add("-n", "--namespace", metavar="NAME", help="namespace of a Pod whose path names none")
    add("-c", "--container", metavar="NAME", help="container in both Pods")
    add("--context", metavar="NAME", help="context of the kubeconfig")
    add(
        "-T",
        "--no-target-directory",
        action="store_true",
        help="never copy into DESTINATION, but as it",
    )
    add(
        "--retries",
        metavar="N",
        type=int,
        default=RETRIES,
        help="try again after a failure (3; -1 is no end)",
    )
    add(
        "--partial",
        action="store_true",
        help="after a failure, keep what arrived",
    )
    add(
        "--update",
        action="store_true",
        help="leave out files that look the same there",
    )
    add(
        "--checksum",
        action="store_true",
        help="leave out files of the same contents there",
    )
    add(
        "--verify",
        action="store_true",
        help="read all again there, and compare the sha256",
    )
    add("-q", "--quiet", action="store_true", help="print errors only")
    add("-v", "--v", metavar="N", type=int, default=0, help="log level, 0 to 9 (0)")
    add("--version", action="version", version=f"%(prog)s {__version__}")
    add("--help-all", action=_HelpAll, nargs=0, help="show all options, and the exit codes")
    _add_rare(made, shown=everything)
    # argparse takes -0 for a number, and with it no other option could be given a negative one.
    made._has_negative_number_optionals.clear()
    return made


_WITH_LIST = ("--preserve", "--no-preserve")

_WITH_VALUE = (
    (("-z", "--compress"), frozenset(COMPRESSIONS)),
    (("-b", "--backup"), frozenset(BACKUPS)),
    (_WITH_LIST, fidelity.WORDS),
    (("--insecure-skip-tls-verify",), frozenset(("true", "false"))),
)
_LONG = {"-z": "--compress", "-b": "--backup"}

_ENDS = """
--source-container NAME  container in the source's Pod
--dest-container NAME    container in the destination's Pod
--source-context NAME    context of the source
--dest-context NAME      context of the destination
--source-kubeconfig FILE  kubeconfig of the source
--dest-kubeconfig FILE   kubeconfig of the destination
"""

_KUBECTLS = """
--kubeconfig FILE        kubeconfig file
--cluster NAME           cluster of the kubeconfig
--user NAME              user of the kubeconfig
--token TOKEN            bearer token
-s --server URL          address of the API server
--certificate-authority FILE  who may vouch for the API server
--client-certificate FILE  certificate to show it
--client-key FILE        the certificate's key
--tls-server-name NAME   name that its certificate must have
"""


def _add_rare(made: Parser, *, shown: bool) -> None:
    """Add the options that few need; the help has them only where they are ``shown``."""

    def told(text: str) -> str:
        return text if shown else argparse.SUPPRESS

    made.add_argument(
        "--stall-timeout",
        metavar="SECONDS",
        type=float,
        default=STALL_TIMEOUT,
        help=told("fail when nothing moves for so long (60)"),
    )
    _add_selection(made.add_argument_group("some of a source"), told)
    _add_fidelity(made.add_argument_group("what is kept of a file"), told)
    _add_destinations(made.add_argument_group("several destinations"), told)
    _add_overwriting(made.add_argument_group("files that are there already"), told)
    telling = made.add_argument_group("what is told")
    telling.add_argument(
        "--dry-run",
        action="store_true",
        help=told("ask and say what would be done, and create nothing"),
    )
    telling.add_argument(
        "-o",
        "--output",
        metavar="json",
        choices=("json",),
        help=told("one JSON document on stdout at the end"),
    )
    telling.add_argument(
        "--itemize",
        action="store_true",
        help=told("a line on stdout for all that is copied"),
    )
    telling.add_argument(
        "--progress",
        metavar="KIND",
        choices=("auto", "plain", "none", "json"),
        default="auto",
        help=told("auto (a bar on a terminal), plain, none or json"),
    )
    made.add_argument(
        "--timeout",
        metavar="DURATION",
        type=functools.partial(seconds, flag="--timeout"),
        help=told("limit of the whole copy: 90, 1m30s"),
    )
    made.add_argument(
        "--bwlimit",
        metavar="RATE",
        type=rate,
        help=told("bytes per second that may be sent: 500K, 10M"),
    )
    compress = functools.partial(made.add_argument, dest="compress", action="store_const")
    compress(
        "-z",
        "--compress",
        const=AUTO,
        default=NONE,
        help=told("compress what passes where that is quicker"),
    )
    for kind in COMPRESSIONS:  # argparse lets no flag have a value that may be left out
        compress(f"--compress={kind}", const=kind, help=argparse.SUPPRESS)
    ends = made.add_argument_group("one end only")
    kubectls = made.add_argument_group("as kubectl has them")
    for group, table in ((ends, _ENDS), (kubectls, _KUBECTLS)):
        for line in table.strip().splitlines():
            names, _, text = line.partition("  ")
            *flags, metavar = names.split()
            group.add_argument(*flags, metavar=metavar, help=told(text.strip()))
    add = kubectls.add_argument
    insecure = "--insecure-skip-tls-verify"
    add(insecure, action="store_true", help=told("trust whatever API server answers"))
    for value in ("true", "false"):  # argparse lets no flag have a value that may be left out
        add(
            f"{insecure}={value}",
            dest="insecure_skip_tls_verify",
            action="store_const",
            const=value == "true",
            help=argparse.SUPPRESS,
        )
    add("--as", dest="as_user", metavar="USER", help=told("user to act as, at both ends"))
    add(
        "--as-group",
        dest="as_groups",
        metavar="GROUP",
        action="append",
        default=[],
        help=told("group to act as; may be repeated"),
    )
    add("--as-uid", metavar="UID", help=told("uid to act as"))
    add(
        "--request-timeout",
        metavar="DURATION",
        type=seconds,
        help=told("limit of a request to the API server (8s)"),
    )


def _add_destinations(group: argparse._ArgumentGroup, told: Callable[[str], str]) -> None:
    add = group.add_argument
    add(
        "--to",
        metavar="DEST",
        action="append",
        default=[],
        help=told("a destination, instead of DESTINATION; repeat it"),
    )
    add(
        "-l",
        "--selector",
        metavar="LABELS",
        help=told("copy to each ready Pod with these labels, as :path"),
    )
    add(
        "--all-pods",
        action="store_true",
        help=told("of deploy/web, copy to each ready Pod, not to one"),
    )


def _add_selection(group: argparse._ArgumentGroup, told: Callable[[str], str]) -> None:
    add = group.add_argument
    add(
        "--exclude",
        metavar="PATTERN",
        type=os.fsencode,  # so that it is not taken for a file with patterns
        action="append",
        default=[],
        help=told("leave out what matches, as in a .gitignore"),
    )
    add(
        "--exclude-from",
        dest="exclude",
        metavar="FILE",
        action="append",
        help=told("leave out what a pattern in FILE matches"),
    )
    add("--files-from", metavar="FILE", help=told("copy only what FILE names; - is stdin"))
    add("-0", "--null", action="store_true", help=told("in it, a NUL ends each name"))


def _add_fidelity(group: argparse._ArgumentGroup, told: Callable[[str], str]) -> None:
    add = group.add_argument
    texts = {
        "--preserve": "as in GNU cp: mode, with setuid; ownership, timestamps, links, xattr, all",
        "--no-preserve": "likewise; without LIST as in kubectl cp",
    }
    for flag, text in texts.items():
        add(
            flag,
            dest="preserve",
            metavar="LIST",
            type=functools.partial(_said, flag),  # of both, the later one wins
            action="append",
            default=[],
            help=told(text),
        )
    add(
        "-L",
        "--dereference",
        action="store_true",
        help=told("copy what symbolic links lead to"),
    )
    add(
        "--chown",
        metavar="UID[:GID]",
        type=fidelity.owner,
        help=told("owner of all that is copied"),
    )
    add(
        "--chmod",
        metavar="MODE",
        type=modes.parse,
        help=told("mode of all that is copied, as chmod has it"),
    )


def _said(flag: str, words: str) -> tuple[bool, str]:
    return flag == "--preserve", words


def _add_overwriting(group: argparse._ArgumentGroup, told: Callable[[str], str]) -> None:
    add = group.add_argument
    add("--no-clobber", action="store_true", help=told("keep each of them"))
    add("-i", "--interactive", action="store_true", help=told("ask before one is replaced"))
    backup = functools.partial(add, dest="backup", action="store_const")
    backup(
        "-b",
        "--backup",
        const="existing",
        default="",
        help=told("keep what is replaced, as file~ or file.~1~"),
    )
    for kind in BACKUPS:  # argparse lets no flag have a value that may be left out
        backup(f"--backup={kind}", const=kind, help=argparse.SUPPRESS)
    add(
        "-S",
        "--suffix",
        metavar="SUFFIX",
        type=os.fsencode,
        help=told("what --backup adds to a name (~)"),
    )


def wants_json(words: Sequence[str]) -> bool:
    """Whether ``-o json`` is among words that make no sense otherwise."""
    words = words[: words.index("--")] if "--" in words else words
    if {"-ojson", "-o=json", "--output=json"}.intersection(words):
        return True
    pairs = itertools.pairwise(words)
    return any(pair in (("-o", "json"), ("--output", "json")) for pair in pairs)


def options(said: argparse.Namespace) -> Options:
    """Return what the flags say of a copy; those that are left say how to talk about it."""
    values = vars(said)
    if said.null and said.files_from is None:
        raise UsageError("--null says how names end, and there are none", advice="see --files-from")
    over = {each.name: values[each.name] for each in fields(Overrides)}
    rest = {each.name: values[each.name] for each in fields(Options) if each.name in values}
    if [said.files_from, *said.exclude].count("-") > 1:
        raise UsageError(
            "--files-from and --exclude-from cannot both read standard input, nor one of them "
            "twice",
            advice="name a file for all but one",
        )
    rest["exclude"] = tuple(
        pattern
        for each in said.exclude
        for pattern in ([each] if isinstance(each, bytes) else lists.patterns(each))
    )
    if said.files_from is not None:
        rest["files_from"] = tuple(lists.names(said.files_from, null=said.null))
    rest["preserve"] = fidelity.preserved(said.preserve)
    rest["interactive"] = None  # whom to ask, who parses does not know
    overrides = Overrides(**{**over, "as_groups": tuple(over["as_groups"])})
    return Options(**rest, overrides=overrides)
