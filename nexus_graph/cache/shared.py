"""The second level: Redis, shared by all processes. Its trouble is never a caller's: it is left alone for a moment.

Families are kept by their ids, and pointers lead there from what readers ask by. Identifiers are in no key: a pointer's
name is a hash with a secret of this installation.
"""

import asyncio
import random
from collections.abc import Collection, Iterable, Sequence
from hashlib import blake2b
from time import monotonic
from typing import Any, Final, cast

import msgspec
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError

from nexus_graph import telemetry
from nexus_graph.addresses import where
from nexus_graph.config import Settings
from nexus_graph.errors import Unavailable, UnusableAddress
from nexus_graph.gather.bounds import bounds_within
from nexus_graph.gather.gatherer import Gatherer
from nexus_graph.model import Contact, Family, FamilyKey, Source
from nexus_graph.secret_files import secret_of
from nexus_graph.statements import lua

TIMEOUT_SECONDS: Final = 0.1
"""Seconds that Redis has to answer: the graph answers in less when it is well."""

AWAY_SECONDS: Final = 1.0
"""Seconds that Redis is left alone after a failure, so that few readers wait for it."""

PENDING_MAX: Final = 10_000
"""Families, and pointers to them, that may wait to be written; past it the oldest is dropped."""


_LOG = telemetry.log("cache")
_DIGITS: Final = 20
_JITTER: Final = 0.2
"""Lives differ by so much either way: what was kept together does not end together."""
_TROUBLE: Final = (RedisError, OSError, TimeoutError)


def open_redis(settings: Settings, *, timeout_seconds: float) -> Redis:
    """A client that connects at its first use. The caller closes it. Raises UnusableAddress."""
    try:
        given: dict[str, Any] = {**parse_url(settings.redis_url.get_secret_value())}
        if settings.redis_url_file is not None:
            given.pop("username", None)
            given.pop("password", None)
            given["credential_provider"] = _Login(settings)
        pool = ConnectionPool(
            **given,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 1),  # a connection that the server closed while it was idle is no sign of trouble
        )
        return Redis.from_pool(pool)
    except ValueError as error:
        place = where(settings, "redis_url")
        raise UnusableAddress(f"Redis cannot be found at {place}: that is no redis:// URL") from error


class _Login(CredentialProvider):
    """User and password as the file of REDIS_URL_FILE has them when a connection opens."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Of the redis library, which sends no AUTH for an empty answer."""
        now = parse_url(secret_of(self._settings, "redis_url"))
        found = tuple(now[part] for part in ("username", "password") if now.get(part))
        return cast("tuple[str] | tuple[str, str]", found)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """Of the redis library."""
        return self.get_credentials()


class _Encoded(msgspec.Struct, array_like=True):
    source: Source
    contacts: tuple[Contact, ...]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Encoded).decode


class SharedFamilies:
    """Families in Redis: reads are gathered across callers, writes go out behind their backs."""

    def __init__(self, settings: Settings, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Redis has `timeout_seconds` for each answer: readers wait for it, while a command may be patient."""
        self._timeout_seconds = timeout_seconds
        self._redis = open_redis(settings, timeout_seconds=timeout_seconds)
        self._settings = settings
        self._secret = blake2b(settings.database_url.get_secret_value().encode()).digest()
        self._keep_newer = self._redis.register_script(lua("keep_newer"))
        self._away_until = 0.0
        self._values: dict[int, bytes] = {}
        self._pointers: dict[str, int] = {}
        self._writing: asyncio.Task[None] | None = None
        self._reads = Gatherer("cache", self._fetch, bounds_within(timeout_seconds))

    @property
    def is_away(self) -> bool:
        """It failed a moment ago."""
        return monotonic() < self._away_until

    async def find(self, key: FamilyKey) -> Family | None:
        """The family that is kept by this key; None if there is none, or Redis is in trouble."""
        if self.is_away:
            return None
        try:
            return await self._reads.ask(key)
        except Unavailable:
            return None

    async def again(self, ids: Collection[int]) -> dict[int, Family | None]:
        """The families of these ids, None where none is kept any more; empty if Redis is in trouble."""
        if self.is_away:
            return {}
        try:
            return await self._families(ids)
        except Unavailable:
            return {}

    def keep(self, keys: Sequence[FamilyKey], family: Family) -> None:
        """Remember the family under these keys, soon, unless a newer one is known."""
        value = _version(family.version) + _encode(_Encoded(family.source, family.contacts))
        if self._values.get(family.id, b"")[:_DIGITS] <= value[:_DIGITS]:
            self._values[family.id] = value
        for key in keys:
            self._pointers[self._pointer(key)] = family.id
        self._write_soon()

    def forget(self, family_id: int, version: int) -> None:
        """Families of this id older than the version are stale: tell Redis soon."""
        tombstone = _version(version)
        if self._values.get(family_id, b"")[:_DIGITS] < tombstone:
            self._values[family_id] = tombstone
        self._write_soon()

    async def written(self) -> None:
        """Return when all that was to be written is, or was given up."""
        while self._writing is not None:
            await asyncio.shield(self._writing)

    async def close(self) -> None:
        """Answer what was asked, write what is to be written, then stop."""
        await self._reads.close()
        await self.written()
        await self._redis.aclose()

    async def _fetch(self, keys: list[FamilyKey]) -> list[Family | None]:
        found = await self._read([self._pointer(key) for key in keys])
        ids = [None if family_id is None else int(family_id) for family_id in found]
        families = await self._families([family_id for family_id in ids if family_id is not None])
        return [None if family_id is None else families[family_id] for family_id in ids]

    async def _families(self, ids: Iterable[int]) -> dict[int, Family | None]:
        wanted = list(dict.fromkeys(ids))
        return dict(zip(wanted, map(_family, await self._read([_key(one) for one in wanted])), strict=True))

    async def _read(self, names: list[str]) -> list[bytes | None]:
        """What is kept by these names. Raises Unavailable."""
        if not names:
            return []
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return cast("list[bytes | None]", await self._redis.mget(names))
        except _TROUBLE as error:
            self._left_alone("cache_not_read", error)
            raise Unavailable("the cache does not answer") from error

    def _write_soon(self) -> None:
        if len(self._values) > PENDING_MAX:
            self._values.pop(next(iter(self._values)))
        if len(self._pointers) > PENDING_MAX:
            self._pointers.pop(next(iter(self._pointers)))
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write())

    async def _write(self) -> None:
        """What has come together while the last was on its way goes out together."""
        try:
            while self._values or self._pointers:
                values, self._values = self._values, {}
                pointers, self._pointers = self._pointers, {}
                if self.is_away:
                    continue
                keys = [*map(_key, values), *pointers]
                arguments: list[bytes | int] = [len(values)]
                for value in values.values():
                    arguments += [value, self._life_ms()]
                for family_id in pointers.values():
                    arguments += [family_id, self._life_ms()]
                try:
                    async with asyncio.timeout(self._timeout_seconds):
                        await self._keep_newer(keys=keys, args=arguments)
                except _TROUBLE as error:
                    self._left_alone("cache_not_written", error)
        finally:
            self._writing = None

    def _left_alone(self, what: str, error: Exception) -> None:
        self._away_until = monotonic() + AWAY_SECONDS
        _LOG.warning(what, error=telemetry.error_name(error))

    def _life_ms(self) -> int:
        return round(1000 * self._settings.cache_seconds * random.uniform(1 - _JITTER, 1 + _JITTER))  # noqa: S311

    def _pointer(self, key: FamilyKey) -> str:
        named = blake2b(f"{key.kind}:{key.value}".encode(errors="surrogatepass"), key=self._secret, digest_size=16)
        return f"nexus:key:{named.hexdigest()}"


def _key(family_id: int) -> str:
    return f"nexus:family:{family_id}"


def _version(version: int) -> bytes:
    return b"%020d" % version


def _family(value: bytes | None) -> Family | None:
    """The family of a kept value; None for a tombstone, and for whatever is not ours."""
    if value is None or len(value) <= _DIGITS:
        return None
    try:
        encoded = _decode(value[_DIGITS:])
        return Family(int(value[:_DIGITS]), encoded.contacts, encoded.source)
    except (msgspec.MsgspecError, ValueError):
        return None
