"""The document of ``-o json`` is what its schema says, however a copy ends."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from kubectl_podcp import document, errors
from kubectl_podcp.errors import Interrupted, PodcpError, SourceFailed, UsageError
from kubectl_podcp.report import Failure, Report

DOCS = Path(__file__).parents[2] / "docs"
SCHEMA = json.loads((DOCS / "report.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

REPORT = Report(
    status="partial",
    source="web-0:/a",
    destination="web-1:/b",
    target=b"/b\xff",
    files=1,
    directories=2,
    size=1024,
    seconds=1.23456,
    protocols=("v4.channel.k8s.io", "v5.channel.k8s.io"),
    received=4096,
    sent=2048,
    retries=3,
    up_to_date=4,
    kept=5,
    backed_up=6,
    notices=("a\x1b: left out",),
    stderr=b"tar: x\xff\ntar: y\n",
    verified=True,
)
FAILURE = Failure(
    "a",
    "b",
    SourceFailed("it broke\x1b", left="b was\nnot changed", advice="again", stderr=b"x\x00\ny"),
)


def checked(told: dict[str, object]) -> dict[str, object]:
    """Return a document as it is read, after a look at the schema."""
    read = json.loads(json.dumps(told))
    VALIDATOR.validate(read)
    assert isinstance(read, dict)
    return read


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$id"] == document.SCHEMA


def test_a_report() -> None:
    told = checked(document.whole(3, [document.one(REPORT)]))
    assert told["copies"] == [
        {
            "source": "web-0:/a",
            "destination": "web-1:/b",
            "status": "partial",
            "target": "/b\\xff",
            "files": 1,
            "directories": 2,
            "bytes": 1024,
            "sent": 2048,
            "received": 4096,
            "seconds": 1.235,
            "protocols": ["v4.channel.k8s.io", "v5.channel.k8s.io"],
            "retries": 3,
            "up_to_date": 4,
            "kept": 5,
            "backed_up": 6,
            "verified": True,
            "notices": ["a\\x1b: left out"],
            "stderr": ["tar: x\\xff", "tar: y"],
            "error": None,
        }
    ]


def test_a_failure() -> None:
    told = checked(document.whole(1, [document.one(FAILURE)]))
    assert told == {
        "schema": "kubectl-podcp/report/v1",
        "status": "failed",
        "exit_code": 1,
        "copies": [
            {
                "source": "a",
                "destination": "b",
                "status": "failed",
                "error": {
                    "code": "source-failed",
                    "message": "it broke\\x1b",
                    "left": "b was\nnot changed",
                    "advice": "again",
                    "stderr": ["x\\x00", "y"],
                },
            }
        ],
        "error": None,
    }


@pytest.mark.parametrize(
    ("code", "status"), [(0, "complete"), (3, "partial"), (1, "failed"), (130, "failed")]
)
def test_the_status_is_that_of_the_exit_code(code: int, status: str) -> None:
    assert checked(document.whole(code, []))["status"] == status


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError("no"), "usage"), (Interrupted(2), "interrupted"), (KeyError("x"), "bug")],
)
def test_an_error_before_there_was_a_copy(error: Exception, code: str) -> None:
    told = checked(document.whole(2, [], error))["error"]
    assert isinstance(told, dict)
    assert told["code"] == code


def test_a_schema_that_accepts_all_would_be_none() -> None:
    for lacking in ("target", "files", "seconds"):
        copy = document.one(REPORT)
        del copy[lacking]
        with pytest.raises(jsonschema.ValidationError):
            checked(document.whole(0, [copy]))
    failed = {**document.one(FAILURE), "error": None}
    with pytest.raises(jsonschema.ValidationError):
        checked(document.whole(1, [failed]))


def test_every_code_is_documented_and_no_other() -> None:
    text = (DOCS / "output.md").read_text("utf-8").split("### Error codes", 1)[1]
    documented = re.findall(r"^\| `([\w-]+)` \|", text.split("\n## ", 1)[0], re.M)
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    codes = {each.code for each in kinds if issubclass(each, PodcpError)} - {PodcpError.code}
    assert sorted(documented) == sorted({*codes, "bug"})


def test_the_documents_example_is_one() -> None:
    (example,) = re.findall(
        r"```json\n(\{\n.*?\n\})\n```", (DOCS / "output.md").read_text("utf-8"), re.S
    )
    VALIDATOR.validate(json.loads(example))
