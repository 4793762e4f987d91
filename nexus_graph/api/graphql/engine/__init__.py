"""From a request to its answers, whatever carried the request.

In the order of a request: `persisted` finds the text of the document, `documents` parses and validates the text once,
`gate` bounds what the document may ask for, `plans` and `completion` compile the operation, `execution` executes it, by
its plan or by graphql-core. A request that is not executed ends in a `refusal`.
The door: `Answering`, with the values that go in and out of it.
"""

from nexus_graph.api.graphql.engine.answering import (
    OBJECTS,
    TEXTS,
    Answering,
    Request,
    error_of,
    read_request,
)
from nexus_graph.api.graphql.engine.documents import PreparedOperation
from nexus_graph.api.graphql.engine.persisted import UnusableManifest, read_manifest
from nexus_graph.api.graphql.engine.refusal import RequestError, refused

__all__ = [
    "OBJECTS",
    "TEXTS",
    "Answering",
    "PreparedOperation",
    "Request",
    "RequestError",
    "UnusableManifest",
    "error_of",
    "read_manifest",
    "read_request",
    "refused",
]
