"""A visit: one request or one socket of a caller whom the door let in, and what that caller may still do."""

import asyncio
from collections.abc import Collection
from http import HTTPStatus
from math import inf
from time import time
from typing import TYPE_CHECKING, Final

from nexus_graph.door import security_log
from nexus_graph.door.audit import Entry, Outcome, What, now
from nexus_graph.door.permissions import Permission
from nexus_graph.door.principal import ANYONE, Principal
from nexus_graph.door.standing import Standing
from nexus_graph.errors import Forbidden, NexusError, RateLimited, Unavailable

if TYPE_CHECKING:
    from uuid import UUID

    from nexus_graph.door.door import Door


LOOK_SECONDS: Final = 5.0
"""Seconds between two looks at the credential of an open socket or stream. It has to close within 30."""


class Visit:
    """What a request's caller may do, what it costs, and what is remembered of it. One a request, or a socket."""

    __slots__ = ("_door", "_peer", "_prepaid", "_standing", "has_noted", "principal", "request_id")

    def __init__(
        self,
        door: "Door | None",
        principal: Principal,
        peer: str,
        request_id: "UUID | None",
        standing: Standing | None,
    ) -> None:
        """`door` is None where the door stands open: then nothing is counted or remembered."""
        self._door = door
        self._peer = peer
        self._prepaid = 1
        """The door counts each request as one operation before it knows how many it has."""
        self.principal = principal
        self.request_id = request_id
        self._standing = standing
        self.has_noted = False
        """The audit trail has an entry of this visit."""

    @property
    def standing(self) -> Standing | None:
        """The caller's rate limit after the last charge; None where there is none."""
        return None if self._standing is None or not self._standing.policy else self._standing

    @property
    def is_open(self) -> bool:
        """True where the door stands open to everybody."""
        return self._door is None

    @property
    def client(self) -> str:
        """As metrics name the caller: `open` where nobody is asked for credentials, else `Principal.client`."""
        return "open" if self._door is None else self.principal.client

    @property
    def sees_masked(self) -> bool:
        """True if the caller reads identifiers masked."""
        return self.principal.sees_masked

    def require(self, permission: Permission, what: What) -> None:
        """Raises Forbidden unless one of the caller's roles has the permission; the refusal is remembered."""
        if permission in self.principal.grants:
            return
        security_log.denied(self.principal.name, permission.value, what.value)
        self.note(what, Outcome.FORBIDDEN)
        raise Forbidden

    async def charge(self, cost: int) -> None:
        """Count further operations, or cost. Raises RateLimited."""
        if self._door is not None and cost > 0:
            self._standing = await self._door.spend(self.principal, self._peer, cost, self.request_id)

    def affordable(self, most: int) -> int:
        """How many of so many operations the caller's limit still holds; at least one, which `charge` may refuse."""
        left = most if self._standing is None or not self._standing.policy else self._standing.remaining
        return max(1, min(most, left))

    async def charge_operation(self, price: int) -> None:
        """Count a GraphQL operation of this price. Raises RateLimited."""
        if self._door is not None:
            cost, self._prepaid = price - self._prepaid, 0
            await self.charge(cost)

    def note(self, what: What, outcome: Outcome, family_ids: Collection[int] = ()) -> None:
        """Put an entry on the audit trail. Raises Overloaded, Unavailable where the trail is strict and cannot be kept:
        then the caller must not be answered.
        """
        if self._door is not None:
            self.has_noted = True
            entry = Entry(self.principal.name, what, outcome, self.request_id, tuple(family_ids), now())
            self._door.audit.record(entry)

    def note_failure(self, what: What, error: Exception) -> None:
        """Put on the audit trail that a call ended in this error. What the door itself refused stands there already.
        Raises as `note`.
        """
        if not isinstance(error, Forbidden | RateLimited):
            self.note(what, outcome_of(error))

    def identified(self, family_id: int, *, changed: bool) -> None:
        """The caller identified this family: a service may read it by id from now on."""
        if self._door is None:
            return
        if Permission.READ_ALL not in self.principal.grants:
            self._door.sight.note(self.principal.name, family_id)
        self.note(What.IDENTIFY, Outcome.CHANGED if changed else Outcome.ANSWERED, (family_id,))

    async def in_sight(self, family_ids: Collection[int]) -> Collection[int]:
        """Those of the families that the caller may read by id. Raises Unavailable."""
        if self._door is None or Permission.READ_ALL in self.principal.grants:
            return family_ids
        return await self._door.sight.among(self.principal.name, family_ids)

    async def count_families(self, family_ids: Collection[int], what: What) -> None:
        """Count the families that the caller is about to read (NEXUS_FAMILY_QUOTA). Raises RateLimited."""
        if self._door is None:
            return
        try:
            counting = self._door.limits.read_families(self.principal, self._peer, family_ids)
            if counting is not None:
                await counting
        except RateLimited:
            security_log.scraping(self.principal.name)
            self.note(what, Outcome.LIMITED)
            raise

    def of_operation(self, request_id: "UUID") -> "Visit":
        """The visit of one operation on a socket, which this visit opened."""
        if self._door is None:
            return self
        visit = Visit(self._door, self.principal, self._peer, request_id, self._standing)
        visit._prepaid = 0
        return visit

    async def ended(self) -> None:
        """Return once the credential that let the caller in no longer does, LOOK_SECONDS later at most. For sockets and
        streams, where the door is not open to everybody. Raises KeysUnavailable once nobody can tell; and as `note`.
        """
        assert self._door is not None
        expires_at = self.principal.expires_at or inf
        while self._door.is_live(self.principal):  # noqa: ASYNC110 - an expiry tells no one
            await asyncio.sleep(min(LOOK_SECONDS, max(0.0, expires_at - time())))
        self.note(What.SOCKET, Outcome.UNAUTHENTICATED)


def outcome_of(error: Exception) -> Outcome:
    """What the audit trail says of a call that ended in this error."""
    if isinstance(error, Unavailable):
        return Outcome.UNAVAILABLE
    is_callers = isinstance(error, NexusError) and error.status < HTTPStatus.INTERNAL_SERVER_ERROR
    return Outcome.REFUSED if is_callers else Outcome.FAILED


OPEN: Final = Visit(None, ANYONE, "", None, None)
"""Every visit, where the door stands open."""
