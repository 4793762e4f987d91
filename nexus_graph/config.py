"""Every setting and every limit of nexus_graph, read once from the environment and checked at start.

The server addresses keep their customary names (`DATABASE_URL`, `REDIS_URL`, `NEO4J_*`); all else begins with `NEXUS_`.
Units stand last in the names.
"""

import ipaddress
import json
import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from nexus_graph.gather.bounds import Bounds

METRICS_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder that processes count in together. prometheus_client reads it when it is imported."""

PHONES_REMEMBERED: Final = 8_192
"""Canonical phone numbers kept by each process: parsing one costs more than all else that identify does here."""

CONSTRAINTS_WAIT_MAX_SECONDS: Final = 60
"""How long a process waits for the graph's indexes to answer when it starts."""

OUTBOX_COUNT_MAX: Final = 100_000
"""The outbox's depth is counted no further: past it the exact number helps nobody and counting costs."""

LISTED_COUNT_MAX: Final = 10_000
"""A list is counted no further: past it the exact number helps nobody and counting costs."""

PAGE_DEFAULT: Final = 20
"""Items of a page when a client does not say; the GraphQL schema shows it, so it is the same everywhere."""

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
        env_prefix="NEXUS_", env_ignore_empty=True, frozen=True, extra="ignore", populate_by_name=True
    )

    # Servers
    database_url: SecretStr = Field(
        SecretStr("postgresql://postgres@127.0.0.1:5432/nexus"), validation_alias=AliasChoices("DATABASE_URL")
    )
    database_replica_url: SecretStr | None = Field(None, validation_alias=AliasChoices("DATABASE_REPLICA_URL"))
    """A streaming replica of that server, for reads that may be a little behind; none when unset."""
    database_direct_url: SecretStr | None = Field(None, validation_alias=AliasChoices("DATABASE_DIRECT_URL"))
    """The same database with no pooler between; DATABASE_URL when unset. Migrations, relay and notices need that."""
    redis_url: SecretStr = Field(SecretStr("redis://127.0.0.1:6379/0"), validation_alias=AliasChoices("REDIS_URL"))
    neo4j_uri: str = Field("bolt://127.0.0.1:7687", validation_alias=AliasChoices("NEO4J_URI"))
    neo4j_user: str = Field("neo4j", validation_alias=AliasChoices("NEO4J_USER"))
    neo4j_password: SecretStr = Field(SecretStr("neo4j"), validation_alias=AliasChoices("NEO4J_PASSWORD"))

    # Who may call
    auth: Literal["auto", "off"] = "auto"
    """`auto`: open on a loopback address, refused elsewhere until credentials are configured. `off`: open anywhere."""

    # Normalisation
    phone_region: str | None = None
    """ISO country for phone numbers without a leading `+`; none is assumed when unset."""

    # identify
    family_limit_contacts: int = Field(1_000, ge=2, le=100_000, validation_alias=AliasChoices("NEXUS_FAMILY_LIMIT"))
    """A union or a link past this many contacts is refused."""
    batch_max_requests: int = Field(64, ge=1, le=256)
    """At most this many requests share one call, and so one commit. A call holds the write lock for some 30 µs a
    request: 64 are 2 ms, and 256 the most that others should have to wait for."""
    identify_queue_max_requests: int = Field(4_096, ge=1)
    identify_wait_max_seconds: float = Field(2.0, gt=0)
    """A request whose estimated wait is longer is refused at once with 503 and Retry-After."""
    identify_timeout_seconds: float = Field(10.0, gt=0)
    """A request that has waited this long in the queue is dropped before it is sent."""
    resolve_connections: int = Field(2, ge=1, le=32)
    """Connections (so: statements at once) of the fast path, which resolves known identifiers without a lock."""
    read_connections: int = Field(4, ge=1, le=64)

    # PostgreSQL
    connect_timeout_seconds: float = Field(5.0, gt=0)
    lock_timeout_seconds: float = Field(5.0, gt=0)
    statement_timeout_seconds: float = Field(8.0, gt=0)
    pgbouncer: bool = False
    """DATABASE_URL and DATABASE_REPLICA_URL lead to pgbouncer in transaction mode: statements are not prepared ahead,
    and the session's settings are the login's own (deploy/pgbouncer/login.sql)."""
    replica_timeout_seconds: float = Field(1.0, gt=0)
    """A replica that takes longer over one read is left alone, and the primary answers."""
    replica_away_seconds: float = Field(1.0, gt=0)
    """How long it is left alone before it is looked for again; no reader waits for that."""

    # HTTP
    direct: Literal["on", "off"] = "on"
    """Whether plain POSTs to `/identify` and `/graphql` go past ASGI (`nexus_graph/api/http/direct.py`), which costs a
    fraction. The answers are the same."""
    body_max_bytes: int = Field(64 * 1024, ge=1_024)
    json_depth_max: int = Field(32, ge=1)
    headers_max_bytes: int = Field(16 * 1024, ge=1_024)
    headers_max_count: int = Field(100, ge=10)
    page_max: int = Field(100, ge=1, le=1_000)
    keep_alive_seconds: int = Field(75, ge=1)
    """Longer than the idle time of the usual load balancers, so that they close first."""
    first_byte_seconds: float = Field(10.0, gt=0)
    """A new connection that sends nothing for so long is closed."""
    header_seconds: float = Field(10.0, gt=0)
    """A request's line and headers that take longer from their first byte to their last are answered with 408."""
    body_seconds: float = Field(30.0, gt=0)
    """And so is a body that takes longer from the end of its headers."""
    send_seconds: float = Field(30.0, gt=0)
    """A client that takes no answer for so long is cut."""
    connections_max: int | None = Field(None, ge=1)
    """Connections of one process. Unset: as many as its limit on descriptors leaves room for, 10,000 at most. Past it
    the connection that has been waited for longest is closed, or else the new one is answered with 503."""
    cors_origins: Listed = ()
    """Origins whose pages may call the API from a browser: `https://app.example,https://b.example`; `*` for all."""
    cors_headers: Listed = ()
    """Headers that they may send besides those of `nexus_graph/api/http/cors.py`; `*` for all."""
    cors_max_age_seconds: int = Field(600, ge=0)
    """How long a browser remembers what it may call."""
    accept_backlog: int = Field(2_048, ge=1)
    slow_request_seconds: float = Field(1.0, gt=0)
    """A request that takes longer gets a line in the log."""
    health_timeout_seconds: float = Field(1.0, gt=0)
    health_remembered_seconds: float = Field(0.5, ge=0)
    shutdown_grace_seconds: float = Field(10.0, gt=0)
    shutdown_delay_seconds: float = Field(0.0, ge=0)
    """How long a server that was told to stop goes on as before, but for /readyz, which says 503: a load balancer that
    asks it sends no more by then."""
    shutdown_idle_seconds: float = Field(1.0, ge=0)
    """How long a stopping server waits for a request on a connection that is idle."""

    # Worker processes of `serve`
    worker_young_seconds: float = Field(10.0, gt=0)
    """A worker that dies younger makes the pause before the next start longer."""
    worker_restart_base_seconds: float = Field(0.5, gt=0)
    worker_restart_max_seconds: float = Field(30.0, gt=0)
    worker_stop_seconds: float = Field(5.0, gt=0)
    """A worker that takes so much longer than its grace to stop is killed."""
    worker_stopped_seconds: float = Field(0.5, gt=0)
    """A worker that a signal has stopped (SIGSTOP) for longer is killed and replaced: its clients wait with it. Raise
    it to look at a stopped worker at leisure; one that a debugger holds is left alone."""
    worker_silent_seconds: float = Field(30.0, gt=0)
    """And so is one that runs, and whose loop has not come round for so long: far more than any busy machine takes."""

    # GraphQL: what one document may ask for, fragments spread out
    graphql_document_max_bytes: int = Field(15_000, ge=100)
    graphql_document_max_tokens: int = Field(1_000, ge=10)
    graphql_documents_remembered: int = Field(256, ge=1, le=10_000)
    graphql_depth_max: int = Field(8, ge=1)
    graphql_introspection_depth_max: int = Field(20, ge=1)
    """Introspection describes types of types; its documents are deeper than any question about contacts."""
    graphql_fields_max: int = Field(500, ge=1)
    graphql_fragments_max: int = Field(50, ge=1)
    """Validation compares them with each other."""
    graphql_aliases_max: int = Field(15, ge=0)
    graphql_root_fields_max: int = Field(5, ge=1)
    graphql_directives_max: int = Field(50, ge=0)
    graphql_cost_max: int = Field(5_000, ge=1)
    """Objects that an answer may hold, pages at their full size; a write counts ten more."""
    graphql_get: bool = True
    """Serve queries (never mutations) by GET as well, as urql sends them."""
    graphql_cache_control: str = Field("private, no-cache", pattern=r'^[A-Za-z0-9_=",* -]+$')
    """What caches are told of answers to queries by GET. By default only the caller's own keeps them, and asks each
    time whether they still hold. Answers hold personal data: `public` hands them to everybody behind a shared cache."""
    graphql_federation: bool = False
    """Be a subgraph of an Apollo federation as well: contacts and families are entities, by their ids."""
    graphql_persisted: bool = True
    """Let clients send a document once, and its hash from then on. They are kept in Redis."""
    graphql_persisted_seconds: int = Field(7 * 24 * 3600, ge=1)
    graphql_persisted_timeout_seconds: float = Field(0.02, gt=0)
    """Redis slower than this is taken to know no document: the client sends it again. After that it is left alone for
    `cache_away_seconds`."""
    trusted_documents: Path | None = None
    """A JSON file of documents by id, as graphql-codegen's client-preset, Relay or Apollo writes it. Requests name a
    `documentId`, or `extensions.persistedQuery.sha256Hash`."""
    trusted_documents_mode: Literal["off", "log", "enforce"] = "off"
    """What becomes of documents that are not in that file: executed; executed and logged; refused."""
    graphql_errors_max: int = Field(10, ge=1)

    # Subscriptions
    sockets_max: int = Field(1_000, ge=1)
    """WebSockets and event streams of one process."""
    socket_operations_max: int = Field(10, ge=1)
    socket_init_seconds: float = Field(5.0, gt=0)
    """How long a socket may take to introduce itself."""
    socket_send_seconds: float = Field(5.0, gt=0)
    """A client that takes longer to take one message is told where to go on, and cut."""
    socket_owed_max_bytes: int = Field(64 * 1024, ge=1_024)
    """What a connection may have been sent and not taken before it is sent no more."""
    sockets_owed_max_bytes: int = Field(16 * 1024 * 1024, ge=1_024)
    """And all that are sent no more together, in one process: past it the one that waited longest is cut."""
    stream_keep_alive_seconds: float = Field(12.0, gt=0)
    feed_recent_events: int = Field(10_000, ge=1)
    """The newest events, kept for all followers; who is further behind reads from the record."""
    feed_catch_up_share: float = Field(0.1, gt=0, le=1)
    """The part of a process's time that followers who are behind may take together; requests have the rest."""
    feed_page_events: int = Field(500, ge=1, le=10_000)
    feed_poll_seconds: float = Field(0.5, gt=0)
    """How often the feed looks for new events without having heard of any."""
    feed_retry_seconds: float = Field(1.0, gt=0)

    # Caching of family reads (nexus_graph/cache); identify is never answered from it
    cache: Literal["off", "process", "both"] = "off"
    """`process`: in the memory of each process. `both`: in Redis as well, for all of them."""
    cache_seconds: float = Field(30.0, ge=1)
    """How long Redis keeps a family, a fifth more or less: the bound on staleness if nobody can tell it of a change."""
    cache_process_seconds: float = Field(1.0, gt=0)
    """How long a process keeps a family: the bound on staleness once Redis has heard of a change."""
    cache_process_families: int = Field(2_000, ge=1)
    cache_process_keys: int = Field(20_000, ge=1)
    """Contacts, emails and phones that a process finds its families by: a family is asked for by any of them."""
    cache_family_max_contacts: int = Field(200, ge=1)
    """Larger families are not kept."""
    cache_timeout_seconds: float = Field(0.1, gt=0)
    cache_away_seconds: float = Field(1.0, gt=0)
    """Redis in trouble is left alone for so long."""
    cache_batches: int = Field(2, ge=1, le=16)
    cache_pending_max: int = Field(10_000, ge=1)
    """Families, and pointers to them, that may wait to be written; past it the oldest are given up."""
    cache_warm_families: int = Field(10_000, ge=1)
    """How many families `nexus-graph cache warm` keeps: those that changed last."""

    # Freshness of graph reads
    graph_wait_max_seconds: float = Field(0.5, ge=0)
    """How long a reader who insists on the graph waits until it shows the version `atLeast`."""
    graph_wait_step_seconds: float = Field(0.02, gt=0)
    graph_timeout_seconds: float = Field(2.0, gt=0)
    """No graph read takes longer; a reader who insists on the graph waits for it."""
    graph_patience_seconds: float = Field(0.1, gt=0)
    """Any other reader waits as long as walks usually take and four deviations, but at least so long and at most twice
    that; then the record answers."""
    graph_warm_seconds: float = Field(30.0, gt=0)
    """At its start the API lets the graph plan the walk; a cold server may take this long."""
    graph_away_seconds: float = Field(0.25, gt=0)
    """A graph that did not answer in time is looked for this often; no reader waits for that."""
    graph_batch_max_reads: int = Field(50, ge=1, le=1_000)
    graph_read_batches: int = Field(2, ge=1, le=32)
    graph_queue_max_reads: int = Field(4_096, ge=1)

    # The graph
    graph_connections: int = Field(16, ge=2, le=1_000)
    graph_write_timeout_seconds: float = Field(30.0, gt=0)
    graph_retry_seconds: float = Field(5.0, ge=0)
    """How long a write that lost a race or a deadlock is repeated."""
    graph_retry_base_seconds: float = Field(0.02, gt=0)
    graph_batch_contacts: int = Field(5_000, ge=1, le=100_000)
    """A transaction takes no further family once it holds this many contacts and evidence rows."""

    # Relay
    relay_poll_seconds: float = Field(0.2, gt=0)
    relay_batch_rows: int = Field(150, ge=1, le=10_000)
    """Rows of the outbox in one batch while the relay is in step."""
    relay_batch_rows_max: int = Field(1_200, ge=1, le=10_000)
    """A relay that is behind doubles its batches up to this."""
    relay_tries_max: int = Field(5, ge=1)
    relay_retry_base_seconds: float = Field(0.5, gt=0)
    relay_retry_max_seconds: float = Field(30.0, gt=0)
    relay_pace_seconds: float = Field(0.02, ge=0)
    """Under load the relay begins no batch sooner than this after the last: fuller batches cost less."""
    relay_away_max_seconds: float = Field(5.0, gt=0)
    """The longest pause before the relay asks again for a server that was away."""
    relay_lease_seconds: float = Field(3.0, gt=0)
    """A relay that does not say for so long that it is at work is replaced by one that waits."""
    graph_behind_seconds: float = Field(5.0, gt=0)
    """`/health` and `doctor` call a graph degraded that has still to show a change as old as this."""
    relay_gauge_seconds: float = Field(1.0, gt=0)
    relay_metrics_port: int | None = Field(None, ge=0, le=65_535)
    """Where the relay shows its own metrics to Prometheus; nowhere when unset."""
    relay_metrics_host: str = "127.0.0.1"
    rebuild_batch_families: int = Field(500, ge=1, le=10_000)
    rebuild_lanes: int = Field(2, ge=1, le=16)
    """Batches that a rebuild writes at once."""
    verify_batch_families: int = Field(1_000, ge=1, le=10_000)
    verify_batch_ids: int = Field(10_000, ge=1, le=1_000_000)
    verify_lanes: int = Field(2, ge=1, le=16)
    verify_timeout_seconds: float = Field(60.0, gt=0)
    verify_settle_seconds: float = Field(10.0, ge=0)
    """How long verify waits for the relay before it calls a difference drift."""
    verify_settle_step_seconds: float = Field(0.05, gt=0)
    verify_findings_max: int = Field(10_000, ge=1)
    """Findings that one pass remembers and repair mends; where there are more, repair makes another pass."""
    repair_batch_families: int = Field(50, ge=1, le=10_000)
    repair_passes_max: int = Field(10, ge=1)
    drift_check_seconds: float = Field(60.0, gt=0)
    """How often the relay samples families to keep the drift gauge honest."""
    drift_first_check_seconds: float = Field(3.0, gt=0)
    """And how soon after it became the active one."""
    drift_sample_families: int = Field(500, ge=0)

    # load, import and demo
    load_in_flight_max: int = Field(256, ge=1, le=4_096)
    """Rows of a file that are under way at once."""
    load_line_max_bytes: int = Field(64 * 1024, ge=256)
    load_tries_max: int = Field(6, ge=1)
    """A row that found the record away or overloaded is sent this often before the load stops."""
    load_retry_base_seconds: float = Field(0.5, ge=0)
    load_retry_max_seconds: float = Field(10.0, ge=0)
    load_rate_slack_seconds: float = Field(0.05, ge=0)
    """With --rate, how much lost time may be made up for at once."""
    load_report_seconds: float = Field(5.0, gt=0)
    """How often progress is printed where there is no terminal for a bar."""
    load_lines_shown: int = Field(5, ge=1)
    """Line numbers that the summary gives for each kind of fault."""
    import_chunk_rows: int = Field(10_000, ge=1, le=200_000)
    """Rows that an import takes in at once: as long as that takes, identify waits. Three such chunks are in memory."""
    import_statement_timeout_seconds: float = Field(60.0, gt=0)
    demo_graph_wait_seconds: float = Field(60.0, ge=0)
    """How long the demo waits for the relay to bring its families to the graph."""

    # Operation
    start_max_seconds: float = Field(900.0, gt=0)
    """The longest that `up` waits for a server that is at work on its start; one that stands still is given up."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    def resolve_bounds(self) -> Bounds:
        """Of identify's fast path."""
        return self._identify_bounds(self.resolve_connections)

    def write_bounds(self) -> Bounds:
        """Of identify's write path. The write lock admits one batch at a time: a second would wait on the server."""
        return self._identify_bounds(1)

    def read_bounds(self) -> Bounds:
        """Of family reads from the record, or from its replica."""
        return Bounds(
            batch_max=self.graph_batch_max_reads,
            batches_max=self.read_connections,
            queue_max=self.graph_queue_max_reads,
            wait_max_seconds=self.identify_wait_max_seconds,
            timeout_seconds=self.identify_timeout_seconds,
        )

    def walk_bounds(self) -> Bounds:
        """Of family reads from the graph."""
        return self._read_bounds(self.graph_read_batches, self.graph_timeout_seconds)

    def cache_bounds(self) -> Bounds:
        """Of family reads from Redis."""
        return self._read_bounds(self.cache_batches, self.cache_timeout_seconds)

    def _identify_bounds(self, batches_max: int) -> Bounds:
        return Bounds(
            batch_max=self.batch_max_requests,
            batches_max=batches_max,
            queue_max=self.identify_queue_max_requests,
            wait_max_seconds=self.identify_wait_max_seconds,
            timeout_seconds=self.identify_timeout_seconds,
        )

    def _read_bounds(self, batches_max: int, timeout_seconds: float) -> Bounds:
        return Bounds(
            batch_max=self.graph_batch_max_reads,
            batches_max=batches_max,
            queue_max=self.graph_queue_max_reads,
            wait_max_seconds=timeout_seconds,
            timeout_seconds=timeout_seconds,
        )

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
