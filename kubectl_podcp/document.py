"""The document of ``-o json``: how each copy ended, for machines.

In: results. Out: plain values, as docs/report.schema.json describes them. No I/O, raises nothing.
Bytes that are no UTF-8, and control characters, are escaped by
:func:`~kubectl_podcp.errors.printable`.
"""

from __future__ import annotations

from collections.abc import Sequence

from kubectl_podcp.errors import PodcpError, printable
from kubectl_podcp.report import Report, Result

SCHEMA = "kubectl-podcp/report/v1"
"""A later document with this name may have more fields, and has all of these."""

_STATUS = {0: "complete", 3: "partial"}

Fields = dict[str, object]


def whole(
    exit_code: int, copies: Sequence[Fields], error: PodcpError | Exception | None = None
) -> Fields:
    """Return the document.

    :param exit_code: with which the command ends.
    :param copies: see :func:`one`.
    :param error: what went wrong before there was a copy, or beside all of them.
    """
    planned = exit_code == 0 and any(copy["status"] == "planned" for copy in copies)
    return {
        "schema": SCHEMA,
        "status": "planned" if planned else _STATUS.get(exit_code, "failed"),
        "exit_code": exit_code,
        "copies": list(copies),
        "error": _error(error) if error else None,
    }


def one(result: Result, items: Sequence[Fields] | None = None) -> Fields:
    """Return what the document says of one copy.

    :param items: of ``--itemize``; None where nobody asked for them.
    """
    told = _of_report(result) if isinstance(result, Report) else _of_failure(result.error)
    asked = {"source": printable(result.source), "destination": printable(result.destination)}
    return {**asked, **told, **({} if items is None else {"items": list(items)})}


def _of_report(report: Report) -> Fields:
    return {
        "status": report.status,
        "target": printable(report.target),
        "files": report.files,
        "directories": report.directories,
        "bytes": report.size,
        "sent": report.sent,
        "received": report.received,
        "seconds": round(report.seconds, 3),
        "protocols": [protocol for protocol in report.protocols if protocol],
        "retries": report.retries,
        "up_to_date": report.up_to_date,
        "kept": report.kept,
        "backed_up": report.backed_up,
        "verified": report.verified,
        "notices": [printable(notice) for notice in report.notices],
        "stderr": _lines(report.stderr),
        "error": None,
    }


def _of_failure(error: PodcpError) -> Fields:
    return {"status": "failed", "error": _error(error)}


def _error(error: PodcpError | Exception) -> Fields:
    if not isinstance(error, PodcpError):
        said = printable(f"{type(error).__name__}: {error}")
        return {"code": "bug", "message": said, "left": "", "advice": "", "stderr": []}
    return {
        "code": error.code,
        "message": printable(error.happened),
        "left": "\n".join(map(printable, error.left.split("\n"))),
        "advice": "\n".join(map(printable, error.advice.split("\n"))),
        "stderr": _lines(error.stderr),
    }


def _lines(said: bytes) -> list[str]:
    return [printable(line) for line in said.splitlines()]
