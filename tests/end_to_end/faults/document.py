"""docs/faults.md: a table with a row for each fault, cluster and protocol.

In go rows that runs gave; out comes Markdown, and rows again. A run on one cluster replaces that
cluster's rows and keeps the other's. No I/O but the one file; one thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

PATH = Path(__file__).parents[3] / "docs" / "faults.md"

_BEGIN = (
    "| fault | cluster | exec | what the user sees | exit code | on the destination "
    "| with `--retries 3` |"
)
_LINE = "|---|---|---|---|---|---|---|"

_VARIES = (
    (r"/tmp/faults/[\w-]+|/small/[\w-]+", "/…"),
    (r"\.podcp-[0-9a-f]{32}", ".podcp-…"),
    (r"127\.0\.0\.1:\d+", "127.0.0.1:PORT"),
    (r"in [\d,.]+ s\b", "in N s"),
    (r"[\d,.]+ [KMG]?i?B\b", "N MiB"),
    (r"after [\d,]+ of", "after N of"),
    (r"[\d,]+ bytes", "N bytes"),
    (r"\([\d.]+ \w+/s", "(N MiB/s"),
    (r"/proc/\d+|process \d+", "process N"),
)


@dataclass(frozen=True)
class Row:
    """What one fault came to, on one cluster over one protocol.

    :ivar sees: what stands on stderr where it is not tried again.
    :ivar code: the exit code then.
    :ivar left: what is on the destination then.
    :ivar again: what ``--retries 3`` makes of it.
    """

    fault: str
    cluster: str
    version: str
    sees: str
    code: str
    left: str
    again: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells the row from all others."""
        return self.fault, self.cluster, self.version

    @property
    def verdict(self) -> tuple[str, str]:
        """What a later run must come to again: exit code, and whether it recovered."""
        return self.code, self.again


def words(stderr: str) -> str:
    """Return what a user sees, with placeholders for what varies, as a cell."""
    text = stderr.strip()
    for pattern, placeholder in _VARIES:
        text = re.sub(pattern, placeholder, text)
    text = text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
    return "<br>".join(line.strip() for line in text.splitlines())


def read(path: Path = PATH) -> list[Row]:
    """Return the rows of the document; none where there is no document yet."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("| ") and line != _BEGIN:
            fault, cluster, version, *rest = (
                cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]
            )
            rows += [Row(fault, cluster, each, *rest) for each in version.split(", ")]
    return rows


def write(rows: Iterable[Row], order: Sequence[str], path: Path = PATH) -> None:
    """Put rows into the document's table, in place of those that they replace.

    :param order: the names of the faults that there are; rows of others go.
    """
    merged = {row.key: row for row in [*read(path), *rows]}
    kept = [row for row in merged.values() if row.fault in order]
    kept.sort(key=lambda row: (order.index(row.fault), row.cluster, row.version != "v5"))
    head = path.read_text("utf-8").split(_BEGIN)[0]
    lines = ["| " + " | ".join(cells) + " |" for cells in _joined(kept)]
    path.write_text("\n".join([head + _BEGIN, _LINE, *lines, ""]), "utf-8")


def _joined(rows: Iterable[Row]) -> list[tuple[str, ...]]:
    """Return the cells of all rows; two that differ in the protocol alone become one."""
    cells: list[tuple[str, ...]] = []
    for row in rows:
        new = astuple(row)
        if cells and cells[-1][:2] == new[:2] and cells[-1][3:] == new[3:]:
            new = (*new[:2], f"{cells.pop()[2]}, {row.version}", *new[3:])
        cells.append(new)
    return cells
