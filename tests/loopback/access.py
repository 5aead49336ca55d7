"""Who may do what: the users of the embedded cluster, and how a request says who it is from.

What goes in: the headers of a request. What comes out: a :class:`User`, or
:class:`Unauthorized` is raised. No I/O; any thread.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message

from tests.loopback import workloads


class Unauthorized(Exception):
    """The request carries a token, and it is none of ours."""


@dataclass(frozen=True, slots=True)
class User:
    """A user and the rights that RBAC would give: pairs of verb and resource."""

    name: str
    rights: frozenset[tuple[str, str]] = frozenset()

    def may(self, verb: str, resource: str) -> bool:
        """Return whether the user may, for instance, ``get`` ``pods/exec``."""
        return (verb, resource) in self.rights


_LOOKING = frozenset((verb, what) for verb in ("get", "list") for what in ("pods", "namespaces"))
_NAMING = frozenset(("get", kind.resource) for kind in workloads.KINDS)
_EXECUTING = frozenset((verb, "pods/exec") for verb in ("get", "create"))

ADMIN = User("admin", _LOOKING | _NAMING | _EXECUTING)
VIEWER = User("viewer", _LOOKING)
NOBODY = User("nobody")
ANONYMOUS = User("system:anonymous")


def _new_tokens() -> dict[str, User]:
    return {secrets.token_hex(16): user for user in (ADMIN, VIEWER, NOBODY)}


@dataclass(frozen=True, slots=True)
class Tokens:
    """The bearer tokens of one server; each server makes its own."""

    users: Mapping[str, User] = field(default_factory=_new_tokens, repr=False)

    def of(self, user: User) -> str:
        """Return the token of a user."""
        return next(token for token, owner in self.users.items() if owner == user)

    def user(self, headers: Message) -> User:
        """Return whose request it is; an administrator may ask in somebody else's name.

        :raises Unauthorized: a token that is not ours.
        """
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        if not scheme:
            return ANONYMOUS
        if scheme != "Bearer" or token not in self.users:
            raise Unauthorized
        user = self.users[token]
        name = headers.get("Impersonate-User")
        if name is None or user != ADMIN:
            return user
        known = {user.name: user for user in self.users.values()}
        return known.get(name, User(name))
