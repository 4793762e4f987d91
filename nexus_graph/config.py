"""The settings: what an operator may turn, read once from the environment and checked at start.

All other bounds are constants next to the code that they bound. The addresses of the servers keep their customary names
(`DATABASE_URL`, `REDIS_URL`, `NEO4J_*`); all other names begin with `NEXUS_`. A name ends in its unit.
`make settings` writes `docs/settings.md` from this file.
"""

import ipaddress
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

METRICS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder that processes count in together. prometheus_client reads it when it is imported."""

INTEGER_MAX: Final = 2**31 - 1
"""No whole number may be larger: PostgreSQL, sockets and queues count no further."""

SECONDS_MAX: Final = 1_000_000.0
"""No time may be longer, which is eleven days: PostgreSQL counts its timeouts in milliseconds, up to 24 days."""

SCHEMES: Final = {
    "database_url": ("postgresql", "postgres"),
    "database_replica_url": ("postgresql", "postgres"),
    "database_direct_url": ("postgresql", "postgres"),
    "redis_url": ("redis", "rediss", "unix"),
    "neo4j_uri": ("bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc"),
}
"""How the addresses of the servers may begin."""


_PORTS: Final = {"http": 80, "https": 443}
_is_header_name = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch
_split_list = re.compile(r"[,\s]+").split


def _items(given: object) -> object:
    """The items of a list that was given as text: with commas between, or as JSON."""
    if not isinstance(given, str):
        return given
    if given.lstrip().startswith("["):
        try:
            return json.loads(given)
        except ValueError:
            raise ValueError("begins as a list in JSON, and is none; items with commas between will do") from None
    return [item for item in (part.strip("\"'") for part in _split_list(given)) if item]


Listed = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_items)]


class Settings(BaseSettings):
    """Frozen settings. A variable that is empty counts as not set.

    Raises `pydantic.ValidationError`, which `nexus_graph.variables` puts in words.
    """

    model_config = SettingsConfigDict(
        env_prefix="NEXUS_", env_ignore_empty=True, frozen=True, extra="forbid", populate_by_name=True
    )

    # Servers
    database_url: SecretStr = Field(
        SecretStr("postgresql://postgres@127.0.0.1:5432/nexus"), validation_alias=AliasChoices("DATABASE_URL")
    )
    """PostgreSQL, the record."""
    database_replica_url: SecretStr | None = Field(None, validation_alias=AliasChoices("DATABASE_REPLICA_URL"))
    """A streaming replica of the record, for reads that may be a little behind; none when unset."""
    database_direct_url: SecretStr | None = Field(None, validation_alias=AliasChoices("DATABASE_DIRECT_URL"))
    """The same database without a pooler in between, for migrations, relay and notices; DATABASE_URL when unset."""
    pgbouncer: bool = False
    """DATABASE_URL and DATABASE_REPLICA_URL lead to pgbouncer in transaction mode: statements are not prepared ahead,
    and the login itself carries the session's settings (`deploy/pgbouncer/login.sql`)."""
    redis_url: SecretStr = Field(SecretStr("redis://127.0.0.1:6379/0"), validation_alias=AliasChoices("REDIS_URL"))
    """Valkey or Redis, the cache."""
    neo4j_uri: str = Field("bolt://127.0.0.1:7687", validation_alias=AliasChoices("NEO4J_URI"))
    """Neo4j, the graph."""
    neo4j_user: str = Field("neo4j", validation_alias=AliasChoices("NEO4J_USER"))
    """The login's name in Neo4j."""
    neo4j_password: SecretStr = Field(SecretStr("neo4j"), validation_alias=AliasChoices("NEO4J_PASSWORD"))
    """The login's password in Neo4j."""

    # Operation
    auth: Literal["auto", "off"] = "auto"
    """`auto`: open on a loopback address, refused elsewhere until credentials are configured. `off`: open anywhere."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least severe events that are logged."""
    slow_request_seconds: float = Field(1.0, gt=0)
    """A request that takes longer is logged."""

    # identify
    phone_region: str | None = None
    """ISO code of the country of phone numbers without a leading `+`; no country is assumed when unset."""
    family_limit_contacts: int = Field(1_000, ge=2, le=100_000, validation_alias=AliasChoices("NEXUS_FAMILY_LIMIT"))
    """A union or a link that would make a larger family is refused."""
    identify_wait_max_seconds: float = Field(2.0, gt=0)
    """A request with a longer estimated wait gets 503 with Retry-After at once."""
    identify_timeout_seconds: float = Field(10.0, gt=0)
    """A request without an answer by then gets 503; while it waits in the queue, it is not sent any more."""

    # Connections to the servers
    read_connections: int = Field(4, ge=1, le=64)
    """Connections to PostgreSQL for reads of families and lists."""
    connect_timeout_seconds: float = Field(5.0, gt=0)
    """The longest that a new connection to PostgreSQL or Neo4j may take."""
    statement_timeout_seconds: float = Field(8.0, gt=0)
    """The longest that a statement may take."""
    graph_connections: int = Field(16, ge=2, le=1_000)
    """Connections to Neo4j."""

    # HTTP
    direct: Literal["on", "off"] = "on"
    """Whether plain POSTs to `/identify` and `/graphql` go past ASGI (`nexus_graph/api/http/direct.py`), which costs a
    fraction. The responses are the same."""
    body_max_bytes: int = Field(64 * 1024, ge=1_024)
    """The largest body of a request; a larger one gets 413."""
    page_max: int = Field(100, ge=1, le=1_000)
    """Items of a page that a client may ask for at most."""
    connections_max: int | None = Field(None, ge=1)
    """Connections of one process. Past it the longest idle connection is closed, or else the new one gets 503. Unset:
    10,000, or what the limit on descriptors leaves room for."""
    keep_alive_seconds: int = Field(75, ge=1)
    """An idle connection is closed after so long: longer than usual load balancers wait, so that they close first."""
    cors_origins: Listed = ()
    """Origins whose pages may call the API from a browser: `https://app.example,https://b.example`; `*` for all."""
    cors_headers: Listed = ()
    """Headers that these pages may send besides those of `nexus_graph/api/http/cors.py`; `*` for all."""
    shutdown_delay_seconds: float = Field(0.0, ge=0)
    """A server that is told to stop serves for so long as before, while /readyz says 503: a load balancer that asks
    /readyz sends no more requests by then."""
    shutdown_grace_seconds: float = Field(10.0, gt=0)
    """The longest that a stopping server works on requests that it has accepted."""

    # GraphQL: what one document may ask for, fragments spread out
    graphql_document_max_bytes: int = Field(15_000, ge=100)
    """The largest document."""
    graphql_depth_max: int = Field(8, ge=1)
    """Levels of fields."""
    graphql_cost_max: int = Field(5_000, ge=1)
    """Objects that a response may hold, pages at their full size; a write counts as ten more."""
    graphql_get: bool = True
    """Serve queries (never mutations) by GET as well."""
    graphql_cache_control: str = Field("private, no-cache", pattern=r'^[A-Za-z0-9_=",* -]+$')
    """Cache-Control of responses to queries by GET. By default only the caller's own cache keeps a response, and asks
    each time whether it still holds. Responses hold personal data: `public` lets a shared cache give them to anyone."""
    graphql_federation: bool = False
    """Serve as a subgraph of an Apollo federation as well: contacts and families are entities, by their ids."""
    graphql_persisted: bool = True
    """Let clients send a document once and its hash from then on. Redis keeps the documents."""
    trusted_documents: Path | None = None
    """A JSON file of documents by id, as graphql-codegen's client-preset, Relay or Apollo writes it. Requests name a
    `documentId`, or `extensions.persistedQuery.sha256Hash`."""
    trusted_documents_mode: Literal["off", "log", "enforce"] = "off"
    """Documents that are not in that file are executed (`off`), executed and logged (`log`), or refused (`enforce`)."""

    # Subscriptions
    sockets_max: int = Field(1_000, ge=1)
    """WebSockets and event streams of one process."""
    sockets_owed_max_bytes: int = Field(16 * 1024 * 1024, ge=1_024)
    """Bytes that the clients of a process have not taken yet; past it the client that was slow for longest is
    disconnected."""
    feed_catch_up_share: float = Field(0.1, gt=0, le=1)
    """Part of a process's time that all followers that are behind may take together; requests have the rest."""

    # Reads of families
    graph_timeout_seconds: float = Field(2.0, gt=0)
    """The longest that a read of the graph may take, for a reader who insists on the graph."""
    graph_patience_seconds: float = Field(0.1, gt=0)
    """The longest that any other reader waits for the graph, or twice as long where walks usually take longer; then the
    record answers. Raise it where Neo4j is far away."""
    graph_write_timeout_seconds: float = Field(30.0, gt=0)
    """The longest that one transaction of the relay, of a rebuild or of repair may write to the graph."""
    cache: Literal["off", "process", "both"] = "off"
    """Keep families for readers: `process`, in the memory of each process; `both`, in Redis as well, for all processes.
    identify is never answered from the cache."""
    cache_seconds: float = Field(30.0, ge=1)
    """How long Redis keeps a family, a fifth more or less: the staleness of a read if Redis misses a change."""
    cache_process_seconds: float = Field(1.0, gt=0)
    """How long a process keeps a family: the staleness of a read once Redis knows of a change; not above
    NEXUS_CACHE_SECONDS."""

    # Relay and graph
    relay_metrics_port: int | None = Field(None, ge=0, le=65_535)
    """The port where the relay shows its own metrics to Prometheus; nowhere when unset."""
    relay_metrics_host: str = "127.0.0.1"
    """The address where the relay shows its own metrics."""

    # Files
    load_tries_max: int = Field(6, ge=1)
    """Tries of a row, or of an import's chunk, while the record is away or overloaded, before the load stops. Six take
    a quarter of a minute, each further one ten seconds: raise it where a failover takes longer."""
    import_chunk_rows: int = Field(10_000, ge=1, le=200_000)
    """Rows that an import writes in one transaction, while identify waits: lower it beside busy callers. Three such
    chunks are in memory."""

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, but raises TypeError for a name of no setting, which pydantic would add in silence."""
        if strangers := set(update or ()) - set(type(self).model_fields):
            raise TypeError(f"not a setting: {', '.join(sorted(strangers))}")
        return super().model_copy(update=update, deep=deep)

    @field_validator("*")
    @classmethod
    def _is_a_number_in_reach(cls, value: Any) -> Any:
        if isinstance(value, float) and not value <= SECONDS_MAX:  # not a number is no less, either
            raise ValueError(f"must be at most {SECONDS_MAX:.0f}")
        if isinstance(value, int) and value > INTEGER_MAX:
            raise ValueError(f"must be at most {INTEGER_MAX}")
        return value

    @field_validator(*SCHEMES)
    @classmethod
    def _is_an_address(cls, url: SecretStr | str | None, info: ValidationInfo) -> SecretStr | str | None:
        if url is not None and info.field_name is not None:
            _check_address(url if isinstance(url, str) else url.get_secret_value(), SCHEMES[info.field_name])
        return url

    @field_validator("relay_metrics_host")
    @classmethod
    def _is_a_host(cls, host: str) -> str:
        try:
            host.encode("idna")
        except UnicodeError:
            raise ValueError("must be an address or the name of a host") from None
        return host

    @field_validator("cors_origins")
    @classmethod
    def _origins_as_browsers_send_them(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(origin if origin in ("*", "null") else _origin(origin) for origin in origins)

    @field_validator("cors_headers")
    @classmethod
    def _headers_have_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(_is_header_name, names)):
            raise ValueError("must be names of headers with commas between, such as X-Tenant,X-Build; or *")
        return names

    @field_validator("pgbouncer")
    @classmethod
    def _pgbouncer_has_a_way_past(cls, pgbouncer: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - as pydantic calls
        if pgbouncer and info.data.get("database_direct_url") is None:
            raise ValueError("needs DATABASE_DIRECT_URL as well: notices and session locks go past pgbouncer")
        return pgbouncer

    @field_validator("phone_region")
    @classmethod
    def _region_is_an_iso_code(cls, region: str | None) -> str | None:
        if not region:
            return None
        from phonenumbers import SUPPORTED_REGIONS  # noqa: PLC0415 - most processes never ask

        if region.upper() not in SUPPORTED_REGIONS:
            raise ValueError("must be the two-letter ISO code of a country with telephone numbers, such as GB or DE")
        return region.upper()


def _origin(text: str) -> str:
    """An origin as a browser sends it: in lower case, with no slash at its end and no port that its scheme implies."""
    try:
        parts = urlsplit(text.lower())
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    host = parts.hostname
    rest = parts.path.strip("/") or parts.query or parts.fragment or parts.username
    if not parts.scheme or not host or rest or "*" in host or not text.isascii():
        raise ValueError("must be origins such as https://app.example,https://b.example:8443, in ASCII; or * for all")
    named = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{named}" + ("" if port in (None, _PORTS.get(parts.scheme)) else f":{port}")


def _check_address(url: str, schemes: tuple[str, ...]) -> None:
    """Raises ValueError. It quotes no more than the scheme: the rest may be part of a password."""
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    if scheme not in schemes:
        given = f": it begins with {scheme}://" if re.fullmatch(r"[a-z][a-z0-9+.-]{0,20}", scheme) else ""
        raise ValueError(f"is no {schemes[0]}:// address{given}")
    try:
        hosts = urlsplit(url).netloc.rpartition("@")[2].split(",")  # PostgreSQL takes several
    except ValueError:
        raise ValueError(f"is no {schemes[0]}:// address: its host cannot be read") from None
    for host in hosts:
        found = re.fullmatch(r"(\[[^\[\]]*\]|[^:]*)(?::(\d{0,5}))?", host, re.ASCII)
        if found is None or not int(found[2] or 1) < 65_536:
            raise ValueError(
                f"is no {schemes[0]}:// address: its port must be a number up to 65535 "
                "(in a password, write / as %2F, # as %23, ? as %3F and @ as %40)"
            )
        if not found[1] and scheme in SCHEMES["neo4j_uri"]:
            raise ValueError(f"is no {schemes[0]}:// address: it names no host")
    if scheme.startswith("bolt") and urlsplit(url).query:
        raise ValueError("is no bolt:// address: what stands after ? is for neo4j:// alone")
    if schemes == SCHEMES["redis_url"] and not _has_known_options(url):
        raise ValueError("is no redis:// address: an option after ? is none of Redis's, or has a wrong value")


def _has_known_options(url: str) -> bool:
    """Tell whether Redis's client could make a connection of it; none is made."""
    from redis.asyncio import Redis  # noqa: PLC0415 - most of what reads a setting opens no Redis

    try:
        Redis.from_url(url).connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError):
        return False
    return True


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can reach a server that listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
