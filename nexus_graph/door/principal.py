"""Who calls."""

from dataclasses import dataclass, field
from typing import Final

from nexus_graph.door.permissions import Permission, Role, grants_of


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller whose credentials were checked, or an anonymous one."""

    name: str
    """For audit, limits and logs: `key:<id>`, `user:<32 hexadecimal digits of a hash of issuer and subject>`, or
    `anonymous`. Never a personal name, an address or a secret."""
    roles: frozenset[Role]
    expires_at: float | None = None
    """Seconds since 1970 when the credential ends; None: never."""
    grants: frozenset[Permission] = field(init=False)
    client: str = field(init=False)
    """As metrics name the caller, of a closed set: `anonymous`, `key/service`, `user/several`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "grants", grants_of(self.roles))
        object.__setattr__(self, "client", _client(self.name.partition(":")[0], self.roles))

    def may(self, permission: Permission) -> bool:
        """True if one of the roles has the permission."""
        return permission in self.grants

    @property
    def sees_masked(self) -> bool:
        """True if emails and phones are masked in what the caller reads."""
        return Permission.UNMASKED not in self.grants


def _client(kind: str, roles: frozenset[Role]) -> str:
    if kind not in ("key", "user"):
        return kind
    role = "none" if not roles else "several" if len(roles) > 1 else next(iter(roles)).value
    return f"{kind}/{role}"


ANYONE: Final = Principal("anonymous", frozenset({Role.ADMIN}))
"""Every caller, where the door stands open (NEXUS_AUTH)."""

STRANGER: Final = Principal("anonymous", frozenset())
"""A caller without credentials, where the door asks for them."""
