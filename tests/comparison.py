"""docs/comparison.md: our options beside those of other tools, made from the parser's own.

``python -m tests.comparison`` writes the table anew; a unit test compares it. What the other tools
have is written down here, by our option's longest name: an option without an entry fails the test.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

from kubectl_podcp import arguments

PATH = Path(__file__).parents[1] / "docs" / "comparison.md"

TOOLS = ("kubectl cp", "oc rsync", "docker cp", "scp", "rsync")

NOBODY = dict[str, str]()


def kubectls(name: str, **others: str) -> dict[str, str]:
    """Return the entry of an option that kubectl and oc have for all of their commands."""
    return {"kubectl cp": f"`{name}`", "oc rsync": f"`{name}`", **others}


PEERS: dict[str, dict[str, str]] = {
    "--namespace": kubectls("-n"),
    "--container": {
        "kubectl cp": "`-c`",
        "oc rsync": "`-c`",
        "docker cp": "in the path",
    },
    "--context": kubectls("--context") | {"docker cp": "`docker --context`"},
    "--no-target-directory": {
        "kubectl cp": "always, from a Pod",
        "oc rsync": "`SOURCE/`",
        "docker cp": "`SOURCE/.`",
        "rsync": "`SOURCE/`",
    },
    "--retries": {"kubectl cp": "`--retries`, from a Pod"},
    "--partial": {"rsync": "`--partial`"},
    "--update": {"oc rsync": "always, where it uses rsync", "rsync": "always"},
    "--checksum": {"rsync": "`-c`"},
    "--verify": {"rsync": "a checksum, as it writes"},
    "--quiet": {"oc rsync": "`-q`", "docker cp": "`-q`", "scp": "`-q`", "rsync": "`-q`"},
    "--v": kubectls("-v") | {"docker cp": "`docker -D`", "scp": "`-v`", "rsync": "`-v`"},
    "--version": {
        "kubectl cp": "`kubectl version`",
        "oc rsync": "`oc version`",
        "docker cp": "`docker -v`",
        "scp": "`ssh -V`",
        "rsync": "`-V`",
    },
    "--help": kubectls("-h") | {"docker cp": "`--help`", "rsync": "`--help`"},
    "--help-all": {"kubectl cp": "`kubectl options`", "oc rsync": "`oc options`"},
    "--stall-timeout": {"scp": "`-o ServerAliveInterval=`", "rsync": "`--timeout`"},
    # one end only
    "--source-container": NOBODY,
    "--dest-container": NOBODY,
    "--source-context": NOBODY,
    "--dest-context": NOBODY,
    "--source-kubeconfig": NOBODY,
    "--dest-kubeconfig": NOBODY,
    # as kubectl has them
    "--kubeconfig": kubectls("--kubeconfig"),
    "--cluster": kubectls("--cluster"),
    "--user": kubectls("--user"),
    "--token": kubectls("--token"),
    "--server": kubectls("-s")
    | {"docker cp": "`docker -H`", "scp": "in the path", "rsync": "in the path"},
    "--certificate-authority": kubectls("--certificate-authority")
    | {"docker cp": "`docker --tlscacert`"},
    "--client-certificate": kubectls("--client-certificate") | {"docker cp": "`docker --tlscert`"},
    "--client-key": kubectls("--client-key")
    | {"docker cp": "`docker --tlskey`", "scp": "`-i`", "rsync": "`-e 'ssh -i …'`"},
    "--tls-server-name": kubectls("--tls-server-name"),
    "--insecure-skip-tls-verify": kubectls("--insecure-skip-tls-verify")
    | {"docker cp": "`docker --tls`", "scp": "`-o StrictHostKeyChecking=no`"},
    "--as": kubectls("--as"),
    "--as-group": kubectls("--as-group"),
    "--as-uid": kubectls("--as-uid"),
    "--request-timeout": kubectls("--request-timeout")
    | {"scp": "`-o ConnectTimeout=`", "rsync": "`--contimeout`, to a daemon"},
    # many sources, many destinations
    "--to": NOBODY,
    "--selector": NOBODY,
    "--all-pods": NOBODY,
    "--exclude": {"oc rsync": "`--exclude`", "rsync": "`--exclude`"},
    "--exclude-from": {"rsync": "`--exclude-from`"},
    "--files-from": {"rsync": "`--files-from`"},
    "--null": {"rsync": "`-0`"},
    # control
    "--dry-run": {"rsync": "`-n`"},
    "--output": NOBODY,
    "--itemize": {"rsync": "`-i`"},
    "--progress": {
        "oc rsync": "`--progress`",
        "docker cp": "always, on a terminal",
        "scp": "always, on a terminal",
        "rsync": "`--progress`, `--info=progress2`",
    },
    "--timeout": {"rsync": "`--stop-after`"},
    "--bwlimit": {"scp": "`-l`", "rsync": "`--bwlimit`"},
    "--compress": {"oc rsync": "`--compress`", "scp": "`-C`", "rsync": "`-z`"},
    # what of a file is kept
    "--preserve": {
        "docker cp": "`-a`: owners",
        "scp": "`-p`: modes and times",
        "rsync": "`-a`, `-p`, `-o`, `-g`, `-t`, `-H`, `-X`",
    },
    "--no-preserve": {
        "kubectl cp": "`--no-preserve`, to a Pod",
        "oc rsync": "`--no-perms`",
        "rsync": "`--no-perms`, `--no-owner`, …",
    },
    "--dereference": {"docker cp": "`-L`: SOURCE itself", "scp": "always", "rsync": "`-L`"},
    "--chown": {"rsync": "`--chown`"},
    "--chmod": {"rsync": "`--chmod`"},
    # what is overwritten
    "--no-clobber": {"rsync": "`--ignore-existing`"},
    "--interactive": NOBODY,
    "--backup": {"rsync": "`-b`"},
    "--suffix": {"rsync": "`--suffix`"},
}

HEAD = f"| option | what it does | {' | '.join(f'`{tool}`' for tool in TOOLS)} |"
LINE = "|---" * (2 + len(TOOLS)) + "|"


def options() -> Iterator[argparse.Action]:
    """Return the parser's options, as its whole help lists them."""
    for action in arguments.parser("kubectl podcp", everything=True)._actions:
        if action.option_strings and action.help != argparse.SUPPRESS:
            yield action


def name(option: argparse.Action) -> str:
    """Return an option's longest name."""
    return max(option.option_strings, key=len)


def row(option: argparse.Action, peers: dict[str, str]) -> str:
    """Return the table's row for an option."""
    names = ", ".join(f"`{each}`" for each in option.option_strings)
    cells = (names, option.help or "", *(peers.get(tool, "") for tool in TOOLS))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def table(of: Iterable[argparse.Action]) -> list[str]:
    """Return the lines of the table of these options."""
    return [HEAD, LINE, *(row(option, PEERS[name(option)]) for option in of)]


def renewed(text: str, lines: Iterable[str]) -> str:
    """Return the document with these lines for the table that it has."""
    before, head, after = text.partition("| option | what it does |")
    assert head, f"{PATH.name} has no table"
    return "\n".join((before + "\n".join(lines), "", after.partition("\n\n")[2]))


if __name__ == "__main__":
    PATH.write_text(renewed(PATH.read_text("utf-8"), table(options())), "utf-8")
