"""The errors of nexus_graph, and the one table that turns them into answers.

REST answers `application/problem+json` from `code` and `status`; GraphQL answers the same `code` as data where the
schema says so, else in `extensions.code`. What is not a NexusError is masked: code INTERNAL and a correlation id.
`Code` lists every code with its HTTP status, also those of requests that are refused before any of these errors can be
raised, and `CloseCode` every reason to close a WebSocket.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import ClassVar, Self


class Code(StrEnum):
    """The kind of a failure, as a client reads it, and the HTTP status of its answer."""

    status: int

    def __new__(cls, value: str, status: int) -> Self:
        code = str.__new__(cls, value)
        code._value_ = value
        code.status = status
        return code

    INTERNAL = "INTERNAL", 500
    BAD_REQUEST = "BAD_REQUEST", 400
    BODY_TOO_LARGE = "BODY_TOO_LARGE", 413
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE", 415
    NOT_ACCEPTABLE = "NOT_ACCEPTABLE", 406
    HEADERS_TOO_LARGE = "HEADERS_TOO_LARGE", 431
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT", 408
    BAD_USER_INPUT = "BAD_USER_INPUT", 400
    PAGE_TOO_LARGE = "PAGE_TOO_LARGE", 400
    VERSION_UNKNOWN = "VERSION_UNKNOWN", 400
    ROW_REJECTED = "ROW_REJECTED", 422
    UNAVAILABLE = "UNAVAILABLE", 503
    OVERLOADED = "OVERLOADED", 503
    RATE_LIMITED = "RATE_LIMITED", 429
    IDEMPOTENCY_KEY_BUSY = "IDEMPOTENCY_KEY_BUSY", 409
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED", 422
    MIGRATION = "MIGRATION", 500

    # Of HTTP: no endpoint answers this path, this method or this page.
    NOT_FOUND = "NOT_FOUND", 404
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED", 405
    UNAUTHENTICATED = "UNAUTHENTICATED", 401
    FORBIDDEN = "FORBIDDEN", 403

    # Of GraphQL: the document, its operation or its variables cannot be executed.
    PARSE_FAILED = "GRAPHQL_PARSE_FAILED", 400
    VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED", 422
    OPERATION_UNKNOWN = "OPERATION_RESOLUTION_FAILURE", 422
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED", 422
    SUBSCRIPTION_NOT_SERVED_HERE = "SUBSCRIPTION_NOT_SERVED_HERE", 422
    PERSISTED_QUERY_NOT_FOUND = "PERSISTED_QUERY_NOT_FOUND", 404
    PERSISTED_QUERY_NOT_SUPPORTED = "PERSISTED_QUERY_NOT_SUPPORTED", 422
    DOCUMENT_NOT_FOUND = "DOCUMENT_NOT_FOUND", 404
    DOCUMENT_NOT_TRUSTED = "DOCUMENT_NOT_TRUSTED", 403


class CloseCode(IntEnum):
    """Why the server closes a WebSocket (RFC 6455; from 4400 on the protocol graphql-transport-ws)."""

    GOING_AWAY = 1001
    TRY_AGAIN_LATER = 1013
    BAD_REQUEST = 4400
    UNAUTHORIZED = 4401
    FORBIDDEN = 4403
    SUBPROTOCOL_NOT_ACCEPTABLE = 4406
    INITIALISATION_TIMEOUT = 4408
    SUBSCRIBER_EXISTS = 4409
    TOO_MANY_INITIALISATIONS = 4429


class NexusError(Exception):
    """An error that a caller may see. `message` never holds an identifier or a driver's text."""

    code: ClassVar[Code] = Code.INTERNAL
    retry_after_seconds: int | None = None

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return self.code.status

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the request that are at fault, if known."""
        return () if self.field is None else (self.field,)

    @property
    def facts(self) -> Mapping[str, int]:
        """Further members of the answer, by name."""
        return {}

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Headers of the answer by HTTP, besides Retry-After."""
        return ()


class InvalidRequest(NexusError):
    """The request as a whole cannot be read."""

    code = Code.BAD_REQUEST


class BodyTooLarge(InvalidRequest):
    """The body is longer than `NEXUS_BODY_MAX_BYTES`."""

    code = Code.BODY_TOO_LARGE


class UnsupportedMediaType(InvalidRequest):
    """The content type is not JSON."""

    code = Code.UNSUPPORTED_MEDIA_TYPE


class UnacceptableMediaType(InvalidRequest):
    """The service has no media type that the caller accepts."""

    code = Code.NOT_ACCEPTABLE


class HeadersTooLarge(InvalidRequest):
    """The header block is too long, or has too many lines."""

    code = Code.HEADERS_TOO_LARGE


class RequestTimedOut(InvalidRequest):
    """The client sent the request too slowly."""

    code = Code.REQUEST_TIMEOUT


class Unauthenticated(NexusError):
    """No credential came along, or one that opens nothing. Bad credentials of every kind get one identical answer."""

    code = Code.UNAUTHENTICATED

    def __init__(
        self, message: str = "the credentials are not valid", *, field: str | None = None, sent: bool = True
    ) -> None:
        """`sent`: the caller did present a credential."""
        super().__init__(message, field=field)
        self.sent = sent
        self.challenge = 'Bearer error="invalid_token"' if sent else "Bearer"
        """The value of WWW-Authenticate (RFC 6750, section 3)."""

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        return ((b"www-authenticate", self.challenge.encode()),)


class Forbidden(NexusError):
    """None of the caller's roles has the permission that this needs. Whether the object exists does not matter."""

    code = Code.FORBIDDEN

    def __init__(self, message: str = "your roles do not allow this", *, field: str | None = None) -> None:
        super().__init__(message, field=field)


class InvalidIdentifier(NexusError):
    """An email or phone that has no canonical form; `field` says which."""

    code = Code.BAD_USER_INPUT


class IdentifierMissing(InvalidIdentifier):
    """Neither an email nor a phone was given."""

    @property
    def fields(self) -> tuple[str, ...]:
        return ("email", "phoneNumber")


class InvalidArgument(NexusError):
    """An argument that is not an identifier has a value outside its contract; `field` says which."""

    code = Code.BAD_USER_INPUT


class PageTooLarge(InvalidArgument):
    """`first` is more than `NEXUS_PAGE_MAX`."""

    code = Code.PAGE_TOO_LARGE


class VersionUnknown(InvalidArgument):
    """`atLeast` is greater than every event's version: another deployment's, or from before a restore. Waiting would
    not help.
    """

    code = Code.VERSION_UNKNOWN

    def __init__(self, message: str, *, field: str | None = None, newest: int = 0) -> None:
        super().__init__(message, field=field)
        self.newest = newest

    @property
    def facts(self) -> dict[str, int]:
        return {"newestVersion": self.newest}


class NotFound(NexusError):
    """No endpoint answers this path."""

    code = Code.NOT_FOUND


class MethodNotAllowed(NexusError):
    """The endpoint of this path does not answer this method."""

    code = Code.METHOD_NOT_ALLOWED


class RateLimited(NexusError):
    """The caller has used up a limit: NEXUS_RATE_LIMIT, NEXUS_RATE_LIMITS or NEXUS_FAMILY_QUOTA."""

    code = Code.RATE_LIMITED

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        retry_after_seconds: int = 1,
        headers: Sequence[tuple[bytes, bytes]] = (),
        facts: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """`headers` and `facts` say where the caller stands."""
        super().__init__(message, field=field)
        self.retry_after_seconds = retry_after_seconds
        self._headers = headers
        self._facts = facts

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        return self._headers

    @property
    def facts(self) -> Mapping[str, int]:
        return self._facts


class RowRejected(NexusError):
    """The database refused this request's row for its data, and only this one."""

    code = Code.ROW_REJECTED


class IdempotencyKeyBusy(NexusError):
    """A request with this Idempotency-Key is being decided. Its answer can be had by the same request soon."""

    code = Code.IDEMPOTENCY_KEY_BUSY
    retry_after_seconds = 1


class IdempotencyKeyReused(NexusError):
    """The Idempotency-Key came with another path or body before. Nothing was done."""

    code = Code.IDEMPOTENCY_KEY_REUSED


class Unavailable(NexusError):
    """A server that this answer needs is away; the caller may send the same request again."""

    code = Code.UNAVAILABLE
    retry_after_seconds = 1


class UnusableAddress(Unavailable):
    """The URL of a server cannot be parsed. A retry would not help."""


class Overloaded(Unavailable):
    """More callers wait than the service can answer in time."""

    code = Code.OVERLOADED


class KeysUnavailable(Unavailable):
    """What this credential is checked against could not be read for too long: it may hold no more."""
