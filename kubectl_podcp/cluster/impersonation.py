"""``as``, ``as-uid``, ``as-groups`` and ``as-user-extra`` of a user, as headers.

In: the user's entry. Out: headers. Raises :class:`~kubectl_podcp.errors.KubeconfigError`. Pure.
Source: client-go ``transport/round_trippers.go``.
"""

from __future__ import annotations

from collections.abc import Sequence

from kubectl_podcp.cluster.entries import Entry

_LEGAL = frozenset(b"!#$&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""What a header's name may hold (RFC 9110, section 5.6.2), but for ``%``, which escapes."""


def headers(user: Entry) -> dict[str, str]:
    """Return the Impersonate headers; none where the user acts in its own name."""
    found: dict[str, str] = {}
    if user.has("as"):
        found["Impersonate-User"] = user.text("as")
    if user.has("as-uid"):
        found["Impersonate-Uid"] = user.text("as-uid")
    found.update(_repeated("Impersonate-Group", user.texts("as-groups")))
    extra = user.section("as-user-extra")
    for key in extra.values:
        found.update(_repeated(f"Impersonate-Extra-{_escaped(str(key))}", extra.texts(key)))
    if found and "Impersonate-User" not in found:
        raise user.error("as-uid, as-groups and as-user-extra need an as beside them")
    return found


def _repeated(name: str, values: Sequence[str]) -> dict[str, str]:
    """Return one header for each value, under spellings of ``name`` that differ in case.

    The API server wants these headers repeated, but a mapping has each key once. Names of
    headers are the same in any case (RFC 9110, section 5.1); keys of a mapping are not.
    """
    letters = [at for at, character in enumerate(name) if character.isalpha()]
    found = {}
    for number, value in enumerate(values):
        swapped = {at for bit, at in enumerate(letters) if number >> bit & 1}
        spelled = [c.swapcase() if at in swapped else c for at, c in enumerate(name)]
        found["".join(spelled)] = value
    return found


def _escaped(key: str) -> str:
    return "".join(chr(byte) if byte in _LEGAL else f"%{byte:02X}" for byte in key.encode())
