"""One entry of a kubeconfig, read so that every error names the entry and its file.

In: a mapping as YAML gave it. Out: text, flags, paths, bytes. Raises
:class:`~kubectl_podcp.errors.KubeconfigError` alone. Immutable, so any thread may read it.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubectl_podcp.errors import KubeconfigError

CORRECT_IT = "Correct it, in the kubeconfig or on the command line."
"""What helps where nothing better is known."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A named cluster, context or user, and the file that it stands in.

    :param kind: ``cluster``, ``context`` or ``user``.
    :param name: its name in the kubeconfig.
    :param origin: the kubeconfig file; relative paths in the entry start at its folder.
    :param values: the entry's fields; not in ``repr``, for they may be secret.
    """

    kind: str
    name: str
    origin: Path
    values: Mapping[str, Any] = field(repr=False)

    def error(self, happened: str, *, advice: str = CORRECT_IT) -> KubeconfigError:
        """Return an error about this entry, for the caller to raise."""
        return KubeconfigError(
            f'{happened} ({self.kind} "{self.name}" in {self.origin})', advice=advice
        )

    def has(self, key: str) -> bool:
        """Whether the field is there and not empty."""
        return self.values.get(key) not in (None, "", [], {})

    def text(self, key: str) -> str:
        """Return a field as text; empty where there is none.

        YAML reads an unquoted account number as an int; what was written is what is meant.
        """
        value = self.values.get(key)
        if value is None:
            return ""
        if isinstance(value, (dict, list)):
            raise self.error(f"{key} should be text")
        return str(value).lower() if isinstance(value, bool) else str(value)

    def texts(self, key: str) -> list[str]:
        """Return a field that is a list of text."""
        value = self.values.get(key) or []
        if not isinstance(value, list):
            raise self.error(f"{key} should be a list")
        return [str(item) for item in value]

    def flag(self, key: str) -> bool:
        """Return a boolean field; ``False`` where there is none."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.error(f"{key} should be true or false")
        return bool(value)

    def section(self, key: str) -> Entry:
        """Return a nested mapping, under the same name for errors."""
        value = self.values.get(key) or {}
        if not isinstance(value, dict):
            raise self.error(f"{key} should be a mapping")
        return Entry(self.kind, self.name, self.origin, value)

    def path(self, key: str) -> Path | None:
        """Return a field that names a file: relative to the kubeconfig, as kubectl has it."""
        name = self.text(key)
        if "\0" in name:
            raise self.error(f"{key} should name a file, and holds a NUL")
        return self.origin.parent / name if name else None

    def material(self, key: str) -> bytes | Path | None:
        """Return ``<key>-data``, decoded, else the path in ``<key>``: in kubectl the data wins."""
        data = self.text(f"{key}-data")
        if not data:
            return self.path(key)
        try:
            # Not strict: files written by hand break the lines.
            return base64.b64decode(data)
        except ValueError as cause:  # binascii.Error is one; so is what is not ASCII
            raise self.error(f"{key}-data is not base64") from cause

    def contents(self, key: str) -> bytes | None:
        """Return what :meth:`material` stands for, read."""
        material = self.material(key)
        return self.read(material) if isinstance(material, Path) else material

    def read(self, path: Path) -> bytes:
        """Return the contents of a file that this entry names."""
        try:
            return path.read_bytes()
        except OSError as cause:
            raise self.error(f"cannot read {path}: {cause.strerror}") from cause
