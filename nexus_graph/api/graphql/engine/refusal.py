"""A request that cannot be executed: the errors that its client gets, without the values that the client sent."""

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from graphql import GraphQLError

from nexus_graph.errors import Code

# Where graphql-core quotes values of the document or its variables. A value may be an identifier.
_quoted_value = re.compile(
    r"(?:, but encountered error|[,;.] ?[fF]ound:).*"
    r"|(cannot represent [^:]+): .*"
    r"|\b(String|BlockString|Int|Float) ['\"].*",
    re.DOTALL,
)
_quoted_choice = re.compile(r"(?<=Value )'.*' (?=does not exist)", re.DOTALL)

_OF_HTTP: Final = (Code.BAD_REQUEST, Code.METHOD_NOT_ALLOWED, Code.FORBIDDEN)
_UNPROCESSABLE: Final = (Code.BAD_REQUEST, Code.BAD_USER_INPUT)
"""Of a request that can be read: GraphQL over HTTP has 422 for it, where REST has 400."""


class RequestError(Exception):
    """The request cannot be executed. `errors`: GraphQL errors of one code, in their JSON form."""

    def __init__(self, code: Code, *errors: dict[str, Any]) -> None:
        super().__init__()
        self.errors = errors
        self.status: int = HTTPStatus.UNPROCESSABLE_ENTITY if code in _UNPROCESSABLE else code.status
        self.of_document = code not in _OF_HTTP
        """The document, its operation or its variables are at fault, not the HTTP request around them."""


def refused(code: Code, message: str, **facts: Any) -> RequestError:
    """A refusal with one error about the request as a whole; `facts`: further members of `extensions`."""
    return RequestError(code, {"message": message, "extensions": {"code": code, **facts}})


def refused_by_core(code: Code, errors: Iterable[GraphQLError]) -> RequestError:
    """A refusal with graphql-core's errors."""
    return RequestError(code, *(located(error, code) for error in errors))


def limit_passed(message: str, *, limit: str, most: int) -> RequestError:
    """The document asks for more than a limit allows: `limit` is its name, `most` its value."""
    return refused(Code.LIMIT_EXCEEDED, message, limit=limit, max=most)


def located(error: GraphQLError, code: Code) -> dict[str, Any]:
    """graphql-core's error, without quoted values."""
    message = _quoted_value.sub(r"\1\2.", _quoted_choice.sub("", error.message))
    # A variable may hold any name of a field, even one without UTF-8.
    formatted: dict[str, Any] = {"message": message.encode(errors="replace").decode(), "extensions": {"code": code}}
    if error.locations:
        formatted["locations"] = [{"line": line, "column": column} for line, column in error.locations]
    return formatted
