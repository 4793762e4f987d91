"""A request that cannot be executed: the errors that its client gets, without the values that the client sent."""

import re
from typing import Any

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


class RequestError(Exception):
    """The request cannot be executed: `errors` are GraphQL errors in their JSON form, `status` is the HTTP status.

    `of_document`: the document, its operation or its variables are at fault, not the HTTP request around them.
    """

    def __init__(self, status: int, errors: list[dict[str, Any]], *, of_document: bool = False) -> None:
        super().__init__()
        self.status = status
        self.errors = errors
        self.of_document = of_document


def unexecutable(errors: list[dict[str, Any]], *, status: int = 422) -> RequestError:
    """The error of a document, of the choice of its operation, or of its variables."""
    return RequestError(status, errors, of_document=True)


def request_error(message: str, code: Code) -> dict[str, Any]:
    """An error about the request as a whole."""
    return {"message": message, "extensions": {"code": code}}


def located(error: GraphQLError, code: Code) -> dict[str, Any]:
    """graphql-core's error about the request, without quoted values."""
    message = _quoted_value.sub(r"\1\2.", _quoted_choice.sub("", error.message))
    # A variable may hold any name of a field, even one without UTF-8.
    formatted: dict[str, Any] = request_error(message.encode(errors="replace").decode(), code)
    if error.locations:
        formatted["locations"] = [{"line": line, "column": column} for line, column in error.locations]
    return formatted
