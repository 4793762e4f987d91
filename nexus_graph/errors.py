"""The errors of nexus_graph, and the one table that turns them into answers.

NexusError
├── InvalidRequest      the request cannot be read: 400
│   ├── BodyTooLarge    413
│   └── UnsupportedMediaType 415
├── InvalidIdentifier   one field of it is wrong: 400
├── NotFound            404
├── Unavailable         try again later: 503 with Retry-After
│   └── Overloaded      the queue is full
└── RowRejected         the database refused this row for its data: 422

REST answers `application/problem+json` from `code` and `status`; GraphQL answers the same `code` as data where the
schema says so, else in `extensions.code`. What is not a NexusError is masked: code INTERNAL and a correlation id.
"""

from typing import ClassVar


class NexusError(Exception):
    """An error a caller may see. `message` is safe to show: it never holds an identifier or a driver's text."""

    code: ClassVar[str] = "INTERNAL"
    status: ClassVar[int] = 500
    retry_after_seconds: ClassVar[int | None] = None

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class InvalidRequest(NexusError):
    """The request as a whole cannot be understood."""

    code = "BAD_REQUEST"
    status = 400


class BodyTooLarge(InvalidRequest):
    """The body is longer than `NEXUS_BODY_MAX_BYTES`."""

    code = "BODY_TOO_LARGE"
    status = 413


class UnsupportedMediaType(InvalidRequest):
    """The content type is not JSON."""

    code = "UNSUPPORTED_MEDIA_TYPE"
    status = 415


class InvalidIdentifier(NexusError):
    """An email or phone that has no canonical form; `field` says which."""

    code = "BAD_USER_INPUT"
    status = 400


class RowRejected(NexusError):
    """The database refused this request's row for its data, and only this one."""

    code = "ROW_REJECTED"
    status = 422


class NotFound(NexusError):
    """Nothing has this id or identifier."""

    code = "NOT_FOUND"
    status = 404


class Unavailable(NexusError):
    """A server needed for this answer is away; the same request may be sent again."""

    code = "UNAVAILABLE"
    status = 503
    retry_after_seconds = 1


class Overloaded(Unavailable):
    """More is waiting than can be answered in time."""

    code = "OVERLOADED"
