"""Every setting and every limit of nexus_graph, read once from the environment and checked at start.

The server addresses keep their customary names (`DATABASE_URL`, `REDIS_URL`, `NEO4J_*`); all else begins with `NEXUS_`.
Units stand last in the names.
"""

from functools import cache
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Frozen settings. Raises `pydantic.ValidationError` naming the variable when one is wrong."""

    model_config = SettingsConfigDict(env_prefix="NEXUS_", frozen=True, extra="ignore", populate_by_name=True)

    # Servers
    database_url: SecretStr = Field(
        SecretStr("postgresql://postgres@127.0.0.1:5432/nexus"), validation_alias=AliasChoices("DATABASE_URL")
    )
    redis_url: SecretStr = Field(SecretStr("redis://127.0.0.1:6379/0"), validation_alias=AliasChoices("REDIS_URL"))
    neo4j_uri: str = Field("bolt://127.0.0.1:7687", validation_alias=AliasChoices("NEO4J_URI"))
    neo4j_user: str = Field("neo4j", validation_alias=AliasChoices("NEO4J_USER"))
    neo4j_password: SecretStr = Field(SecretStr("neo4j"), validation_alias=AliasChoices("NEO4J_PASSWORD"))

    # Who may call
    auth: Literal["auto", "off"] = "auto"
    """`auto`: open on a loopback address, refused elsewhere until credentials are configured. `off`: open anywhere."""
    rate_limit: str = "100/minute"

    # Normalisation
    phone_region: str | None = None
    """ISO country for phone numbers without a leading `+`; none is assumed when unset."""

    # identify
    family_limit_contacts: int = Field(1_000, ge=2, le=100_000, validation_alias=AliasChoices("NEXUS_FAMILY_LIMIT"))
    """A union or a link past this many contacts is refused."""
    batch_max_requests: int = Field(64, ge=1, le=256)
    """At most this many requests share one call of `identify_batch`: past 64 sub-transactions a snapshot overflows."""
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

    # HTTP
    body_max_bytes: int = Field(64 * 1024, ge=1_024)
    json_depth_max: int = Field(32, ge=1)
    graphql_document_max_tokens: int = Field(1_000, ge=10)
    page_max: int = Field(100, ge=1, le=1_000)
    shutdown_grace_seconds: float = Field(10.0, gt=0)

    # Freshness of graph reads
    graph_wait_max_seconds: float = Field(0.5, ge=0)
    """How long a reader that demands `atLeast` waits for the graph before the record answers."""
    graph_wait_step_seconds: float = Field(0.02, gt=0)
    graph_timeout_seconds: float = Field(2.0, gt=0)
    """A graph read that takes longer is answered by the record."""
    graph_away_seconds: float = Field(1.0, gt=0)
    """After the graph failed to answer, readers go straight to the record for this long."""
    graph_batch_max_reads: int = Field(50, ge=1, le=1_000)
    graph_read_batches: int = Field(2, ge=1, le=32)
    graph_queue_max_reads: int = Field(4_096, ge=1)

    # Relay
    relay_poll_seconds: float = Field(0.2, gt=0)
    relay_batch_rows: int = Field(500, ge=1, le=10_000)
    relay_tries_max: int = Field(5, ge=1)
    relay_retry_base_seconds: float = Field(0.5, gt=0)
    relay_retry_max_seconds: float = Field(30.0, gt=0)
    rebuild_batch_families: int = Field(200, ge=1, le=10_000)
    verify_batch_families: int = Field(500, ge=1, le=10_000)
    drift_check_seconds: float = Field(60.0, gt=0)
    """How often the relay samples families to keep the drift gauge honest."""
    drift_sample_families: int = Field(500, ge=0)

    # Operation
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("phone_region")
    @classmethod
    def _region_is_an_iso_code(cls, region: str | None) -> str | None:
        if region is None or region == "":
            return None
        if len(region) != 2 or not region.isalpha():
            raise ValueError("must be a two-letter ISO country code")
        return region.upper()


@cache
def settings() -> Settings:
    """The settings of this process."""
    return Settings()
