"""The errors of nexus_graph, and the one table that turns them into answers.

REST answers `application/problem+json` from `code` and `status`; GraphQL answers the same `code` as data where the
schema says so, else in `extensions.code`. What is not a NexusError is masked: code INTERNAL and a correlation id.
`Code` lists every code, also those of requests that are refused before any of these errors can be raised.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar


class Code(StrEnum):
    """The kind of a failure, as a client reads it."""

    INTERNAL = "INTERNAL"
    BAD_REQUEST = "BAD_REQUEST"
    BODY_TOO_LARGE = "BODY_TOO_LARGE"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    NOT_ACCEPTABLE = "NOT_ACCEPTABLE"
    HEADERS_TOO_LARGE = "HEADERS_TOO_LARGE"
    REQUEST_TIMEOUT = "REQUEST_TIMEOUT"
    BAD_USER_INPUT = "BAD_USER_INPUT"
    PAGE_TOO_LARGE = "PAGE_TOO_LARGE"
    VERSION_UNKNOWN = "VERSION_UNKNOWN"
    ROW_REJECTED = "ROW_REJECTED"
    UNAVAILABLE = "UNAVAILABLE"
    OVERLOADED = "OVERLOADED"
    MIGRATION = "MIGRATION"

    # Of HTTP: no endpoint answers this path, this method or this page.
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    FORBIDDEN = "FORBIDDEN"

    # Of GraphQL: the document, its operation or its variables cannot be executed.
    PARSE_FAILED = "GRAPHQL_PARSE_FAILED"
    VALIDATION_FAILED = "GRAPHQL_VALIDATION_FAILED"
    OPERATION_UNKNOWN = "OPERATION_RESOLUTION_FAILURE"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    SUBSCRIPTION_NOT_SERVED_HERE = "SUBSCRIPTION_NOT_SERVED_HERE"
    PERSISTED_QUERY_NOT_FOUND = "PERSISTED_QUERY_NOT_FOUND"
    PERSISTED_QUERY_NOT_SUPPORTED = "PERSISTED_QUERY_NOT_SUPPORTED"
    DOCUMENT_NOT_FOUND = "DOCUMENT_NOT_FOUND"
    DOCUMENT_NOT_TRUSTED = "DOCUMENT_NOT_TRUSTED"


class NexusError(Exception):
    """An error that a caller may see. `message` never holds an identifier or a driver's text."""

    code: ClassVar[Code] = Code.INTERNAL
    status: ClassVar[int] = 500
    retry_after_seconds: ClassVar[int | None] = None

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the request that are at fault, if known."""
        return () if self.field is None else (self.field,)

    @property
    def facts(self) -> Mapping[str, int]:
        """Further members of the answer, by name."""
        return {}


class InvalidRequest(NexusError):
    """The request as a whole cannot be read."""

    code = Code.BAD_REQUEST
    status = 400


class BodyTooLarge(InvalidRequest):
    """The body is longer than `NEXUS_BODY_MAX_BYTES`."""

    code = Code.BODY_TOO_LARGE
    status = 413


class UnsupportedMediaType(InvalidRequest):
    """The content type is not JSON."""

    code = Code.UNSUPPORTED_MEDIA_TYPE
    status = 415


class UnacceptableMediaType(InvalidRequest):
    """The service has no media type that the caller accepts."""

    code = Code.NOT_ACCEPTABLE
    status = 406


class HeadersTooLarge(InvalidRequest):
    """The header block is longer than `NEXUS_HEADERS_MAX_BYTES`, or has too many lines."""

    code = Code.HEADERS_TOO_LARGE
    status = 431


class RequestTimedOut(InvalidRequest):
    """The client sent the request too slowly."""

    code = Code.REQUEST_TIMEOUT
    status = 408


class InvalidIdentifier(NexusError):
    """An email or phone that has no canonical form; `field` says which."""

    code = Code.BAD_USER_INPUT
    status = 400


class IdentifierMissing(InvalidIdentifier):
    """Neither an email nor a phone was given."""

    @property
    def fields(self) -> tuple[str, ...]:
        return ("email", "phoneNumber")


class InvalidArgument(NexusError):
    """An argument that is not an identifier has a value outside its contract; `field` says which."""

    code = Code.BAD_USER_INPUT
    status = 400


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


class RowRejected(NexusError):
    """The database refused this request's row for its data, and only this one."""

    code = Code.ROW_REJECTED
    status = 422


class Unavailable(NexusError):
    """A server that this answer needs is away; the caller may send the same request again."""

    code = Code.UNAVAILABLE
    status = 503
    retry_after_seconds = 1


class UnusableAddress(Unavailable):
    """The URL of a server cannot be parsed. A retry would not help."""


class Overloaded(Unavailable):
    """More callers wait than the service can answer in time."""

    code = Code.OVERLOADED
