"""The door: checks who comes, counts how often, and lets a visit begin."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from time import time
from typing import Any, Final
from uuid import UUID

from nexus_graph.config import Settings
from nexus_graph.door import security_log
from nexus_graph.door.audit import Audit, Entry, Outcome, What, now
from nexus_graph.door.credentials import Credential, Kind, presented, presented_by_socket
from nexus_graph.door.keys import ApiKeys, Check
from nexus_graph.door.principal import STRANGER, Principal
from nexus_graph.door.rate_limits import RateLimits
from nexus_graph.door.sight import Sight
from nexus_graph.door.standing import Standing
from nexus_graph.door.tokens import Tokens
from nexus_graph.door.visit import Visit
from nexus_graph.errors import InvalidRequest, RateLimited, Unauthenticated

_KEY_BEGINS: Final = b"Bearer nxk_"
_KEY: Final = slice(len("Bearer "), None)


class Door:
    """One a process. Use `opened`."""

    def __init__(self, settings: Settings, fetch: Callable[..., Awaitable[list[Any]]]) -> None:
        """`fetch` runs a statement of the record."""
        self.limits = RateLimits(settings)
        self.audit = Audit(settings)
        self.sight = Sight(fetch)
        self._keys = ApiKeys(settings, on_refused=self._key_refused)
        self._tokens = Tokens(settings)
        self.stranger = Visit(self, STRANGER, "", None, None)
        """The visit of callers without credentials, where none are asked for."""

    @classmethod
    @asynccontextmanager
    async def opened(cls, settings: Settings, fetch: Callable[..., Awaitable[list[Any]]]) -> AsyncIterator["Door"]:
        """A door that checks. Raises Unavailable if the record is away."""
        door = cls(settings, fetch)
        async with AsyncExitStack() as closing:
            for part in (door.audit, door._keys, door.limits, door._tokens):
                await part.start()
                closing.push_async_callback(part.close)
            closing.push_async_callback(door.sight.close)
            yield door

    def enter_at_once(self, headers: Mapping[bytes, bytes], request_id: UUID) -> Visit | None:
        """The visit of a caller with an API key whose call is counted ahead; None: `enter` decides, and says why.

        A shortcut of `enter`, which waits for nothing. Raises what the audit trail raises.
        """
        authorization = headers.get(b"authorization")
        if authorization is None or not authorization.startswith(_KEY_BEGINS) or b"x-api-key" in headers:
            return None
        self.audit.check_room()
        principal = self._keys.holder(authorization[_KEY])
        standing = None if principal is None else self.limits.spend_ahead(principal)
        return None if principal is None or standing is None else Visit(self, principal, "", request_id, standing)

    async def enter(
        self, headers: Mapping[bytes, bytes], address: str, request_id: UUID, *, said: object = None
    ) -> Visit:
        """The visit of a request with these headers from this address. `said`: what the first message of a socket
        presents as its authorization.

        Raises Unauthenticated, KeysUnavailable, RateLimited; InvalidRequest for more than one credential; Overloaded or
        Unavailable where the audit trail is strict and cannot be kept.
        """
        self.audit.check_room()
        try:
            credential = presented(headers) if said is None else presented_by_socket(headers, said)
            if credential is None:
                raise Unauthenticated("this needs credentials", sent=False)
            principal = await self._principal(credential)
        except (Unauthenticated, InvalidRequest):
            await self._turn_away(headers, address, request_id)
            raise
        return Visit(self, principal, "", request_id, await self.spend(principal, "", request_id=request_id))

    async def _principal(self, credential: Credential) -> Principal:
        if credential.kind is Kind.KEY:
            return self._keys.principal(credential.text)
        return self._tokens.remembered(credential.text) or await self._tokens.principal(credential.text)

    async def spend(self, principal: Principal, peer: str, cost: int = 1, request_id: UUID | None = None) -> Standing:
        """Count a call of this cost. Raises RateLimited; the refusal is remembered."""
        try:
            standing = self.limits.spend(principal, peer, cost)
            return standing if isinstance(standing, Standing) else await standing
        except RateLimited:
            security_log.limited(principal.name)
            record = self.audit.record_stranger if principal is STRANGER else self.audit.record
            record(Entry(principal.name, What.OTHER, Outcome.LIMITED, request_id, (), now()))
            raise

    def is_live(self, principal: Principal) -> bool:
        """Whether the principal's credential still opens the door. Raises KeysUnavailable if nobody can tell."""
        if principal.name.startswith("key:"):
            return self._keys.is_live(principal)
        return principal.expires_at is None or time() < principal.expires_at

    async def _turn_away(self, headers: Mapping[bytes, bytes], address: str, request_id: UUID) -> None:
        """A failed login counts for the address that it comes from. Raises RateLimited instead, past its limit."""
        peer = self.limits.peer_of(address, headers)
        await self.spend(STRANGER, peer, request_id=request_id)
        security_log.login_failed("credentials", self.limits.alias_of(peer))
        self.audit.record_stranger(Entry(STRANGER.name, What.ENTER, Outcome.UNAUTHENTICATED, request_id, (), now()))

    def _key_refused(self, check: Check, key_id: str | None) -> None:
        if key_id is not None:
            security_log.used_after_end(check.value, key_id)
