"""The settings: what an operator may turn, read once from the environment and checked at start.

All other bounds are constants next to the code that they bound. The addresses of the servers keep their customary names
(`DATABASE_URL`, `REDIS_URL`, `NEO4J_*`); all other names begin with `NEXUS_`. A name ends in its unit.
`make settings` writes `docs/settings.md` from this file.
"""

import ipaddress
import json
import os
import re
import stat
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from nexus_graph.rate import parse_rate

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

Secret = Literal["database_url", "database_replica_url", "database_direct_url", "redis_url", "neo4j_password"]
"""A setting that is, or holds, a password."""

SECRETS: Final[dict[Secret, str]] = {
    "database_url": "DATABASE_URL_FILE",
    "database_replica_url": "DATABASE_REPLICA_URL_FILE",
    "database_direct_url": "DATABASE_DIRECT_URL_FILE",
    "redis_url": "REDIS_URL_FILE",
    "neo4j_password": "NEO4J_PASSWORD_FILE",
}
"""The variables that name a file in place of a secret."""

SECRET_MAX_BYTES: Final = 64 * 1024
"""The largest file of a secret; some passwords are tokens of several kilobytes."""

RATES: Final = {
    "reader": "6000/minute",
    "service": "60000/minute",
    "steward": "6000/minute",
    "privacy": "600/minute",
    "operator": "6000/minute",
    "admin": "6000/minute",
}
"""What each role may call, unless NEXUS_RATE_LIMITS says otherwise: a service calls for its customers, people read."""

API_VERSIONS: Final = ("v1", "v1.1", "v2")
"""The versions of REST, oldest first."""

JWT_ALGORITHMS: Final = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519",
)  # fmt: skip
"""Signatures with a public key (RFC 7518, RFC 9864)."""

CLAIM_MAX_CHARS: Final = 1_024
"""No issuer or audience is longer, as tokens have 8 kB."""

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_PLACE_OF_KEYS: Final = "must be the path of a file, or an https:// address"
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


def _rates(given: object) -> object:
    """The limits of all roles: those given, as JSON, in place of the usual ones."""
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            given = None
    if not isinstance(given, dict) or not all(isinstance(rate, str) for rate in given.values()):
        raise ValueError('must be limits by role in JSON, such as {"service": "60000/minute", "admin": "off"}')
    if unknown := [role for role in given if role not in RATES]:
        raise ValueError(f"names {len(unknown)} unknown roles; the roles are {', '.join(RATES)}")
    for rate in given.values():
        parse_rate(rate)
    return {**RATES, **given}


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise ValueError("must be addresses and networks, such as 10.0.0.7,192.168.0.0/16,fd00::/8") from None


Listed = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_items)]
Rates = Annotated[dict[str, str], NoDecode, BeforeValidator(_rates)]


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
    database_url_file: Path | None = Field(None, validation_alias=AliasChoices("DATABASE_URL_FILE"))
    """A file that holds DATABASE_URL, in place of that variable, as Kubernetes and Docker mount secrets. It is read
    again for each new connection, so that a rotated password counts without a restart. Ends of line at its end are left
    away. The same holds for the other files here."""
    database_replica_url: SecretStr | None = Field(None, validation_alias=AliasChoices("DATABASE_REPLICA_URL"))
    """A streaming replica of the record, for reads that may be a little behind; none when unset."""
    database_replica_url_file: Path | None = Field(None, validation_alias=AliasChoices("DATABASE_REPLICA_URL_FILE"))
    """A file that holds DATABASE_REPLICA_URL."""
    database_direct_url: SecretStr | None = Field(None, validation_alias=AliasChoices("DATABASE_DIRECT_URL"))
    """The same database without a pooler in between, for migrations, relay and notices; DATABASE_URL when unset."""
    database_direct_url_file: Path | None = Field(None, validation_alias=AliasChoices("DATABASE_DIRECT_URL_FILE"))
    """A file that holds DATABASE_DIRECT_URL."""
    pgbouncer: bool = False
    """DATABASE_URL and DATABASE_REPLICA_URL lead to pgbouncer in transaction mode: statements are not prepared ahead,
    and the login itself carries the session's settings (`deploy/pgbouncer/login.sql`)."""
    redis_url: SecretStr = Field(SecretStr("redis://127.0.0.1:6379/0"), validation_alias=AliasChoices("REDIS_URL"))
    """Valkey or Redis, the cache."""
    redis_url_file: Path | None = Field(None, validation_alias=AliasChoices("REDIS_URL_FILE"))
    """A file that holds REDIS_URL. Of a URL that was read again, user and password count."""
    neo4j_uri: str = Field("bolt://127.0.0.1:7687", validation_alias=AliasChoices("NEO4J_URI"))
    """Neo4j, the graph."""
    neo4j_user: str = Field("neo4j", validation_alias=AliasChoices("NEO4J_USER"))
    """The login's name in Neo4j."""
    neo4j_password: SecretStr = Field(SecretStr("neo4j"), validation_alias=AliasChoices("NEO4J_PASSWORD"))
    """The login's password in Neo4j."""
    neo4j_password_file: Path | None = Field(None, validation_alias=AliasChoices("NEO4J_PASSWORD_FILE"))
    """A file that holds NEO4J_PASSWORD. It is read again each second."""

    # Operation
    auth: Literal["auto", "on", "off"] = "auto"
    """Whether callers need credentials. `auto`: not on a loopback address, elsewhere they do. `on`: everywhere. `off`:
    nowhere."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least severe events that are logged."""
    slow_request_seconds: float = Field(1.0, gt=0)
    """A request that takes longer is logged."""

    # Tokens of users
    jwt_issuer: str | None = None
    """Who issues the tokens (JWT) of users: exactly their claim `iss`. Tokens are taken if NEXUS_JWT_ISSUER,
    NEXUS_JWT_AUDIENCE and NEXUS_JWT_JWKS are set, and none is when all are unset."""
    jwt_audience: str | None = None
    """Whom the tokens are for: their claim `aud`, or one item of it."""
    jwt_jwks: str | None = None
    """The issuer's public keys, a JWK set: the path of a file, which is read again when it changes; or an https://
    address, which is read every five minutes, without proxy and redirects, and only at public IP addresses. A loopback
    address that stands here itself may be read, and by http:// too."""
    jwt_algorithms: Listed = ("RS256", "ES256", "Ed25519")
    """Signatures that are accepted, of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 and Ed25519. The
    older name EdDSA is Ed25519."""
    jwt_roles_claim: str = "roles"
    """The claim with the names of roles, as a list or as text with spaces between; a path such as
    `realm_access.roles` leads into objects."""
    jwt_jwks_max_age_seconds: float = Field(3_600.0, ge=60)
    """How long the keys count after they were last read. When their address is away for longer, tokens get 503."""

    # Limits
    rate_limit: str = "100/minute"
    """What a caller without credentials may call, counted by address; also a caller whose role is none of ours. An
    amount and a time (`10/second`, `5000/30m`); `off`: as much as they want."""
    rate_limits: Rates = RATES
    """What callers of a role may call, as JSON: `{"service": "120000/minute", "admin": "off"}`. Roles that are left out
    keep their defaults. Of several roles the highest limit counts."""
    family_quota_families: int | None = Field(None, ge=1, validation_alias=AliasChoices("NEXUS_FAMILY_QUOTA"))
    """Different families that a caller may read in a day (UTC); as many as they want when unset."""
    trusted_proxies: Listed = ()
    """Proxies whose X-Forwarded-For and Forwarded are believed: `10.0.0.7,192.168.0.0/16,fd00::/8`. List every proxy
    that stands between callers and the API, and nothing else."""

    # Versions of REST
    api_versions: Listed = API_VERSIONS
    """The versions that are served, of v1, v1.1 and v2. Paths without a version answer as v1 where v1 is served
    (`/products/search` as v1.1); `/health` always."""
    unversioned_deprecated_on: date = date(2026, 12, 1)
    """Since when paths without a version are deprecated: their header `Deprecation` (RFC 9745)."""
    unversioned_sunset_on: date = date(2027, 12, 1)
    """When paths without a version may end: their header `Sunset` (RFC 8594). They do not end by themselves."""

    # identify
    phone_region: str | None = None
    """ISO code of the country of phone numbers without a leading `+`; no country is assumed when unset."""
    family_limit_contacts: int = Field(1_000, ge=2, le=100_000, validation_alias=AliasChoices("NEXUS_FAMILY_LIMIT"))
    """A union or a link that would make a larger family is refused."""
    identify_wait_max_seconds: float = Field(2.0, gt=0)
    """A request with a longer estimated wait gets 503 with Retry-After at once."""
    identify_timeout_seconds: float = Field(10.0, gt=0)
    """A request without an answer by then gets 503; while it waits in the queue, it is not sent any more."""
    idempotency_seconds: float = Field(86_400.0, ge=60)
    """How long the answer to a call with an Idempotency-Key is kept, for whoever sends the same call again. It holds
    the identifiers of its families."""

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
    tls_cert: Path | None = None
    """The certificate chain, in PEM, by which `serve` speaks TLS (https, wss); `--tls-cert`. Certificate and key are
    read again when their files change, and open connections go on. Without one, plain HTTP."""
    tls_key: Path | None = None
    """The certificate's private key, in PEM, without a passphrase; `--tls-key`."""
    hsts_seconds: int = Field(31_536_000, ge=0)
    """With TLS: how long browsers call this host by https alone (Strict-Transport-Security); 0 does not ask them to."""
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

    # Audit trail
    audit: Literal["off", "on", "strict"] = "on"
    """Calls that cannot be audited, as PostgreSQL is away or slow and the queue is full, are answered, counted and told
    of in the trail later (`on`), or refused with 503 (`strict`; without valid credentials once the queue is half full).
    `off`: no call is audited."""
    audit_queue_max_entries: int = Field(50_000, ge=1)
    """Entries of a process that wait to be stored, about 300 bytes each: ten seconds of 5,000 calls a second."""
    audit_head_file: Path | None = None
    """A file, on another machine or disk than PostgreSQL's, that keeps the newest entry's number and hash for `audit
    verify`: who owns the database could write the whole trail anew, and only the file would show it."""

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

    @model_validator(mode="before")
    @classmethod
    def _secrets_stand_in_files(cls, given: dict[str, Any]) -> dict[str, Any]:
        found = dict(given)
        for name, variable in SECRETS.items():
            if name in given and f"{name}_file" not in given:
                found.pop(variable, None)  # the caller replaces what the environment says
                continue
            path = given.get(variable) or given.get(f"{name}_file")
            if not path:
                continue
            if name in given or name.upper() in given:
                raise ValueError(f"{name.upper()} and {variable} are both set: unset one of them")
            try:
                found[name] = read_secret(name, Path(path))
            except UnreadableSecret as error:
                raise ValueError(f"{variable} {error}") from None
        return found

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

    @field_validator("api_versions")
    @classmethod
    def _are_versions(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        if not given or not set(given) <= set(API_VERSIONS):
            raise ValueError(f"must name versions of {', '.join(API_VERSIONS)}, with commas between")
        return tuple(version for version in API_VERSIONS if version in given)

    @field_validator("unversioned_deprecated_on", "unversioned_sunset_on")
    @classmethod
    def _is_a_day_that_headers_can_tell(cls, day: date) -> date:
        if not 1970 <= day.year <= 9998:
            raise ValueError("must be a day after 1970")
        return day

    @field_validator("rate_limit")
    @classmethod
    def _is_a_rate(cls, rate: str) -> str:
        parse_rate(rate)
        return rate

    @field_validator("trusted_proxies")
    @classmethod
    def _are_networks(cls, listed: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_network, listed))

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

    @field_validator("jwt_issuer", "jwt_audience", "jwt_roles_claim")
    @classmethod
    def _is_a_claim(cls, text: str | None) -> str | None:
        if text is not None and (
            not text.isprintable() or text != text.strip() or not 0 < len(text) <= CLAIM_MAX_CHARS
        ):
            raise ValueError(f"must be 1 to {CLAIM_MAX_CHARS} printable characters without space around")
        return text

    @field_validator("jwt_jwks")
    @classmethod
    def _is_a_place_of_keys(cls, place: str | None) -> str | None:
        if place is not None and "://" in place:
            _check_address_of_keys(place)
        elif place is not None and (not place.strip() or not place.isprintable()):
            raise ValueError(_PLACE_OF_KEYS)
        return place

    @field_validator("jwt_algorithms")
    @classmethod
    def _algorithms_are_asymmetric(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names or not set(names) <= {*JWT_ALGORITHMS, "EdDSA"}:
            raise ValueError(f"must be names of signatures with a public key: {', '.join(JWT_ALGORITHMS)}")
        return tuple(dict.fromkeys("Ed25519" if name == "EdDSA" else name for name in names))

    @model_validator(mode="after")
    def _nothing_ends_before_it_is_deprecated(self) -> Self:
        if self.unversioned_sunset_on < self.unversioned_deprecated_on:
            raise ValueError("NEXUS_UNVERSIONED_SUNSET_ON must not be before NEXUS_UNVERSIONED_DEPRECATED_ON")
        return self

    @model_validator(mode="after")
    def _tokens_have_issuer_audience_and_keys(self) -> Self:
        given = {
            "NEXUS_JWT_ISSUER": self.jwt_issuer,
            "NEXUS_JWT_AUDIENCE": self.jwt_audience,
            "NEXUS_JWT_JWKS": self.jwt_jwks,
        }
        missing = [name for name, value in given.items() if value is None]
        if 0 < len(missing) < len(given):
            (first, *_) = (name for name in given if name not in missing)
            raise ValueError(f"{first} needs {' and '.join(missing)} as well")
        return self

    @model_validator(mode="after")
    def _certificate_has_a_key(self) -> Self:
        if (self.tls_cert is None) is not (self.tls_key is None):
            given, missing = ("CERT", "KEY") if self.tls_key is None else ("KEY", "CERT")
            raise ValueError(f"NEXUS_TLS_{given} needs NEXUS_TLS_{missing} as well")
        return self

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


class UnreadableSecret(ValueError):
    """A file holds no usable secret: why, as a predicate that quotes nothing of the file."""


def read_secret(name: Secret, path: Path) -> str:
    """The secret that stands in a file. Raises UnreadableSecret."""
    try:
        with os.fdopen(os.open(path.expanduser(), os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UnreadableSecret("names no file")
            content = file.read(SECRET_MAX_BYTES + 1)
        text = content.decode().rstrip("\r\n")
    except OSError as error:
        raise UnreadableSecret(f"cannot be read: {os.strerror(error.errno or 0)}") from None
    except UnicodeDecodeError:
        raise UnreadableSecret("names a file that is not text in UTF-8") from None
    if not text or not text.isprintable():
        raise UnreadableSecret(f"names a file that {'holds several lines' if text else 'is empty'}")
    if len(content) > SECRET_MAX_BYTES:
        raise UnreadableSecret(f"names a file of more than {SECRET_MAX_BYTES} bytes")
    if name in SCHEMES:
        try:
            _check_address(text, SCHEMES[name])
        except ValueError as error:
            raise UnreadableSecret(f"names a file whose content {error}") from None
    return text


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


def _check_address_of_keys(url: str) -> None:
    """Raises ValueError. Which addresses the host's name leads to is checked at each connection (`door/jwks.py`)."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(_PLACE_OF_KEYS) from None
    if parts.scheme not in _PORTS or not host or port == 0 or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(_PLACE_OF_KEYS)
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("must be an address without user, password and fragment")
    if is_loopback(host):
        return
    if parts.scheme == "http":
        raise ValueError("must be an https:// address: http:// is for a loopback address alone")
    if is_ip_address(host) and not is_public(host):
        raise ValueError("must not lead to an address of a private network: put the keys in a file")


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


def is_ip_address(host: str) -> bool:
    """Tell an IP address from the name of a host."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Tell whether an IP address is of the public internet, also where an IPv6 address stands for one of IPv4."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
        else:
            ip = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else ip)
    return ip.is_global and not ip.is_multicast
