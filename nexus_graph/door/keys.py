"""API keys: how one is written, and whether the bearer of one may come in.

A key is `nxk_<id>_<secret><checksum>`, 89 characters of ASCII. The id has 12 hexadecimal digits, the secret 64 (256
random bits), the checksum 8: the CRC-32 of all before it. Digits are in lower case: a key has one spelling, no two of
its characters look alike, and a double click selects all of it. One mistyped character, or two neighbours swapped,
break the checksum: such a key is refused before it is looked up, and a scanner can tell a key from other text.

The record holds the SHA-256 of the secret's 64 digits. 256 random bits need no slow hash: nobody can try them all.

Every process holds all keys that work, and never remembers a verdict: each check hashes the secret that was presented.
One task looks twice a second, and at each notice of the record, whether a key has changed. So a change works in every
process within a second, and no other server has a part in it. Keys expire by the clock of this machine.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest
from math import inf
from secrets import token_bytes, token_hex
from time import monotonic, time
from typing import Any, Final, NamedTuple
from zlib import crc32

from nexus_graph import telemetry
from nexus_graph.config import Settings
from nexus_graph.door.permissions import Role, roles_named
from nexus_graph.door.principal import Principal
from nexus_graph.errors import KeysUnavailable, NexusError, Unauthenticated, Unavailable
from nexus_graph.statements import sql
from nexus_graph.store import database
from nexus_graph.store.database import Pool, PoolConnection
from nexus_graph.tasks import raise_if_cancelled

KEYS_HELD_MAX: Final = 10_000
"""Keys that a process holds, about 7 MB: those that work, then those that ended last, which the security log tells
apart from keys that never were.
"""

KEPT_SECONDS: Final = 60.0
"""How long a process goes on with the keys it holds while it cannot ask the record; then callers with keys get 503. A
failover of the record takes half a minute; twice that lets callers read on meanwhile. For as long, a process that alone
is cut off from the record may let a revoked key in.
"""

_ID_DIGITS: Final = 12
_SECRET_BYTES: Final = 32
_ID: Final = slice(4, 16)
_SECRET: Final = slice(17, 81)
_CHECKED: Final = slice(0, 81)
_CHECKSUM: Final = slice(81, 90)
"""One character more than it has, so that an over-long key has a wrong one."""

_POLL_SECONDS: Final = 0.5
"""Seconds between looks for a change without a notice: a lost notice delays a revocation by no more."""
_LOOK_SECONDS: Final = 2.0
"""The longest that the record may take for one look; one that takes longer counts as away."""
_RETRY_SECONDS: Final = 0.5
"""Seconds before the next try while the record is away."""
_REST_SECONDS: Final = 0.1
"""Seconds between two readings of all keys, however fast they change: the time of the process belongs to requests."""
_SLICE: Final = 500
"""Rows that are read between two turns of the loop: a millisecond of work."""
_NOTE_USE_SECONDS: Final = 5.0
"""Seconds between two batches of keys whose use is noted."""
_HOUR: Final = 3600

_CHANNEL: Final = "api_keys"
_LOG = telemetry.log("keys")


class Check(StrEnum):
    """What came of a check. The caller sees whether it was LIVE, and no more."""

    LIVE = "live"
    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    WRONG_SECRET = "wrong_secret"  # noqa: S105 - no secret
    REVOKED = "revoked"
    EXPIRED = "expired"
    RECORD_AWAY = "record_away"


_CHECKS: Final = {check: telemetry.KEY_CHECKS.labels(check.value) for check in Check}


class NewKey(NamedTuple):
    """A key as it is made. `text` is shown once, to its holder."""

    id: str
    text: str
    secret_hash: bytes


def new_key() -> NewKey:
    """A key that nobody has."""
    key_id, secret = token_hex(_ID_DIGITS // 2), token_hex(_SECRET_BYTES)
    return NewKey(key_id, key_text(key_id, secret), sha256(secret.encode()).digest())


def key_text(key_id: str, secret: str) -> str:
    """The key as its holder presents it."""
    checked = f"nxk_{key_id}_{secret}"
    return f"{checked}{crc32(checked.encode()):08x}"


@dataclass(slots=True)
class _Held:
    """A key as the record has it."""

    secret_hash: bytes
    principal: Principal
    ends_at: float
    """Seconds since 1970; infinite if it never expires."""
    revoked: bool
    used_hour: int = 0
    """The last hour, counted from 1970, whose use was noted."""

    def works(self) -> bool:
        """Neither revoked nor expired."""
        return not self.revoked and time() < self.ends_at


_NOBODY: Final = _Held(token_bytes(sha256().digest_size), Principal("key:", frozenset()), 0.0, revoked=True)
"""What keys of no known id are compared with: a check then takes the same time, and no secret has this hash."""


class _Session(NamedTuple):
    """A connection to the record, and what is set at each notice of a change."""

    pool: Pool
    connection: PoolConnection
    notice: asyncio.Event


class ApiKeys:
    """The API keys of the record, held by one process."""

    def __init__(
        self, settings: Settings, *, on_refused: Callable[[Check, str | None], None] = lambda _check, _key_id: None
    ) -> None:
        """`on_refused` gets the reason why a key was refused, for the security log, and the id of a key that was
        revoked or has expired, as its bearer knew the secret; of other keys None: anyone can write an id.
        """
        self._settings = settings
        self._on_refused = on_refused
        self._keys: dict[bytes, _Held] = {}
        self._version: int | None = None
        """Of the keys held; None: unknown."""
        self._good_until = -inf
        """By the monotonic clock."""
        self._hour = 0
        self._used: set[str] = set()
        """Ids of keys whose use in this hour is still to be noted; no more than are held."""
        self._use_noted_at = -inf
        self._let_in = 0
        """Checks that are still to be counted."""
        self._session: _Session | None = None
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read all keys, and follow their changes from now on. Raises Unavailable if the record is away."""
        try:
            await self._look(await self._connected())
        except Exception as error:
            self._disconnect()
            if not database.is_servers_trouble(error):
                raise
            raise database.away(self._settings, "direct", error) from error
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        """Stop, and note which keys were used."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        self._count()
        if self._session is not None:
            await self._note_use(self._session.connection)
        self._disconnect()

    def principal(self, presented: bytes) -> Principal:
        """The holder of the key. Raises Unauthenticated, one and the same whatever is wrong with the key, after the
        same work; KeysUnavailable once the record has been away for too long.
        """
        if monotonic() > self._good_until:
            raise self._refusal(Check.RECORD_AWAY, None)
        sound, key, right = self._judged(presented)
        if right and sound and key.works():
            return self._noted(presented, key)
        raise self._refusal(*_why(presented, key, sound=sound, right=right))

    def holder(self, presented: bytes) -> Principal | None:
        """The holder of the key; None if `principal` would refuse it, after the same work."""
        sound, key, right = self._judged(presented)
        if right and sound and key.works() and monotonic() <= self._good_until:
            return self._noted(presented, key)
        return None

    def _judged(self, presented: bytes) -> tuple[bool, _Held, bool]:
        """Whether it is written as a key, the key of its id, and whether it has that key's secret."""
        sound = _is_sound(presented)
        key = self._keys.get(presented[_ID], _NOBODY)
        return sound, key, compare_digest(sha256(presented[_SECRET]).digest(), key.secret_hash)

    def _noted(self, presented: bytes, key: _Held) -> Principal:
        self._let_in += 1
        if key.used_hour != self._hour:
            key.used_hour = self._hour
            self._used.add(presented[_ID].decode())
        return key.principal

    def is_live(self, principal: Principal) -> bool:
        """Whether the key that let this principal in still does, with the same roles. Raises KeysUnavailable once the
        record has been away for too long: nobody can tell.
        """
        if monotonic() > self._good_until:
            raise _unavailable()
        key = self._keys.get(principal.name.removeprefix("key:").encode(), _NOBODY)
        return key.works() and key.principal.roles == principal.roles

    def _refusal(self, check: Check, key_id: str | None) -> NexusError:
        _CHECKS[check].inc()
        self._on_refused(check, key_id)
        return _unavailable() if check is Check.RECORD_AWAY else Unauthenticated()

    async def _watch(self) -> None:
        """Follow changes until cancelled; while the record is away, retry after a pause."""
        while True:
            try:
                session = self._session or await self._connected()
                while True:
                    raise_if_cancelled()
                    if await self._look(session):
                        await asyncio.sleep(_REST_SECONDS)
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_POLL_SECONDS):
                            await session.notice.wait()
            except Exception as error:  # noqa: BLE001 - every request with a key relies on this task
                raise_if_cancelled()
                _LOG.warning("keys_interrupted", error=telemetry.error_name(error))
                self._disconnect()
                await asyncio.sleep(_RETRY_SECONDS)

    async def _look(self, session: _Session) -> bool:
        """Hold the keys as the record has them now; True if any had changed. Raises what the driver raises."""
        began = monotonic()
        session.notice.clear()
        ((version, standby),) = await session.connection.fetch(sql("api_keys_version"), timeout=_LOOK_SECONDS)
        if standby:
            raise Unavailable("the record is a standby, which may not know of a revocation")
        changed = bool(version != self._version)
        if changed:
            # Rows are read after the version, so they are as new, or newer: then the next look reads them again.
            await self._hold(await session.connection.fetch(sql("api_keys_held"), KEYS_HELD_MAX, timeout=_LOOK_SECONDS))
            self._version = version
        self._good_until = began + KEPT_SECONDS
        self._hour = int(time() // _HOUR)
        self._count()
        if self._used and monotonic() - self._use_noted_at >= _NOTE_USE_SECONDS:
            await self._note_use(session.connection)
        return changed

    async def _hold(self, rows: list[Any]) -> None:
        held: dict[bytes, _Held] = {}
        named: dict[tuple[str, ...], frozenset[Role]] = {}
        for number, (key_id, names, secret_hash, expires_at, revoked) in enumerate(rows, 1):
            roles = named.get(tuple(names)) or named.setdefault(tuple(names), roles_named(names))
            principal = Principal(f"key:{key_id}", roles, expires_at)
            ends_at = inf if expires_at is None else expires_at
            held[key_id.encode()] = _Held(secret_hash, principal, ends_at, revoked=revoked)
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        for key_id, key in held.items():
            key.used_hour = self._keys.get(key_id, key).used_hour
        self._keys = held

    async def _note_use(self, connection: PoolConnection) -> None:
        """Keys whose use could not be noted stay due: a record that takes no writes can still tell who may come in."""
        self._use_noted_at = monotonic()
        due = list(self._used)
        try:
            await connection.execute(sql("api_keys_used"), due, timeout=_LOOK_SECONDS)
        except Exception as error:  # noqa: BLE001 - the next look finds out if the record is away
            _LOG.warning("key_use_not_noted", error=telemetry.error_name(error))
        else:
            self._used.difference_update(due)

    def _count(self) -> None:
        if self._let_in:
            _CHECKS[Check.LIVE].inc(self._let_in)
            self._let_in = 0

    async def _connected(self) -> _Session:
        """A session of its own, past a pooler: reads of others do not delay it. Raises Unavailable."""
        pool = await database.connect_pool(self._settings, role="nexus_api", size=1, server="direct")
        notice = asyncio.Event()
        try:
            connection = await pool.acquire()
            await connection.add_listener(_CHANNEL, lambda *_: notice.set())
        except BaseException:
            pool.terminate()
            raise
        self._session = _Session(pool, connection, notice)
        self._version = None  # another server may count versions otherwise
        return self._session

    def _disconnect(self) -> None:
        if self._session is not None:
            self._session.pool.terminate()
            self._session = None


def _is_sound(presented: bytes) -> bool:
    """Whether it is written as a key; it never reads more of it than a key has."""
    checksum = b"%08x" % crc32(presented[_CHECKED])
    return presented[_CHECKSUM] == checksum and presented[:4] == b"nxk_" and presented[16:17] == b"_"


def _why(presented: bytes, key: _Held, *, sound: bool, right: bool) -> tuple[Check, str | None]:
    """Why the key was refused, and its id where the bearer knew the secret."""
    if not sound:
        return Check.MALFORMED, None
    if key is _NOBODY:
        return Check.UNKNOWN, None
    if not right:
        return Check.WRONG_SECRET, None
    return Check.REVOKED if key.revoked else Check.EXPIRED, presented[_ID].decode()


def _unavailable() -> KeysUnavailable:
    return KeysUnavailable("API keys cannot be checked now; the same request may be sent again")
