"""The one table of rights: what each role may do. Routes, fields and commands name the permission that they need."""

from enum import StrEnum
from functools import cache
from typing import Final


class Permission(StrEnum):
    """What a route, a GraphQL field or a command asks of its caller."""

    IDENTIFY = "identify"
    """Name an email or a phone, and have its family decided."""
    FAMILY_BY_IDENTIFIER = "family-by-identifier"
    """Read the family of an email or a phone that the caller knows."""
    READ = "read"
    """Read families and contacts by id, lists, events, subscriptions: those of families that the caller identified."""
    READ_ALL = "read-all"
    """Read these of every family, not only of those that the caller identified."""
    UNMASKED = "unmasked"
    """See emails and phones in full; find contacts by the beginning of one."""
    CORRECT = "correct"
    """Split, link, block, and take these back; decide review items."""
    EXPORT = "export"
    """Export all that is held about a person."""
    ERASE = "erase"
    """Erase a person or an identifier."""
    OPERATE = "operate"
    """Metrics, health in detail, verify, caches."""
    AUDIT = "audit"
    """Read and verify the audit trail."""
    KEYS = "keys"
    """Create, revoke and rotate API keys."""


class Role(StrEnum):
    """What an API key or a token says of its holder."""

    READER = "reader"
    SERVICE = "service"
    STEWARD = "steward"
    PRIVACY = "privacy"
    OPERATOR = "operator"
    ADMIN = "admin"


_P = Permission
GRANTS: Final[dict[Role, frozenset[Permission]]] = {
    Role.READER: frozenset({_P.FAMILY_BY_IDENTIFIER, _P.READ, _P.READ_ALL}),
    Role.SERVICE: frozenset({_P.IDENTIFY, _P.FAMILY_BY_IDENTIFIER, _P.READ, _P.UNMASKED}),
    Role.STEWARD: frozenset({_P.IDENTIFY, _P.FAMILY_BY_IDENTIFIER, _P.READ, _P.READ_ALL, _P.UNMASKED, _P.CORRECT}),
    Role.PRIVACY: frozenset({_P.EXPORT, _P.ERASE}),
    Role.OPERATOR: frozenset({_P.OPERATE, _P.AUDIT}),
    Role.ADMIN: frozenset(Permission),
}
"""A holder of several roles may do what any of them may."""


def roles_named(names: list[str]) -> frozenset[Role]:
    """The roles among these names; unknown names are left out, as a token may name roles of other systems."""
    return frozenset(role for role in Role if role.value in names)


@cache
def grants_of(roles: frozenset[Role]) -> frozenset[Permission]:
    """What a holder of these roles may do."""
    return frozenset().union(*(GRANTS[role] for role in roles))
