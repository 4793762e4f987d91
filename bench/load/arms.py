"""The arms that are driven over HTTP: what each asks, and what makes an answer right."""

import json
import random
from collections.abc import Sequence
from typing import Final, Protocol, TypeVar

from bench.load.client import request_bytes, request_head
from bench.load.workload import OUTCOMES, Crowd, Hotspot, Pairing, Request, Workload

Asked = TypeVar("Asked")
OK: Final = 200
_SHOWN_BYTES: Final = 300

_FAMILY_FIELDS: Final = (
    "id emails phoneNumbers primaryContact { databaseId } secondaryContacts(first: 20) { nodes { databaseId } }"
)
IDENTIFY: Final = (
    "mutation Identify($input: IdentifyInput!) { identify(input: $input) { __typename "
    f"... on IdentifySuccess {{ outcome version family {{ {_FAMILY_FIELDS} }} }} }} }}"
)
WHOLE_FAMILY: Final = (
    "query Whole($id: ID!) { contactFamily(by: {contactId: $id}) "
    "{ id version source emails phoneNumbers primaryContact { databaseId } } }"
)
PAGE_OF_FAMILY: Final = (
    "query Page($id: ID!) { contactFamily(by: {contactId: $id}) { id version source primaryContact { databaseId } "
    "secondaryContacts(first: 100) { totalCount pageInfo { hasNextPage endCursor } "
    "nodes { databaseId email phoneNumber createdAt } } } }"
)
CONTACT_FAMILY: Final = (
    f"query Family($id: ID!) {{ contactFamily(by: {{contactId: $id}}) {{ version source {_FAMILY_FIELDS} }} }}"
)


_ANSWER_WITHOUT_NAME: Final = '{"data":{"":"Query"},"extensions":{"cost":{"requested":1,"max":5000}}}'


class Arm(Protocol[Asked]):
    """One kind of load. It is asked for requests and shown the answers by many connections in turn."""

    def next(self) -> tuple[bytes, Asked]:
        """The bytes to send, and what to remember them by."""

    def problem(self, asked: Asked, status: int, head: bytes, body: bytes) -> str | None:
        """What is wrong with the answer; None if it is right."""


class Rest:
    """POST /identify."""

    def __init__(
        self, workload: "Workload | Crowd | Hotspot", *, host: str, path: str = "/identify", key: str | None = None
    ) -> None:
        """`key`: the API key, for a server that asks for one."""
        self._workload = workload
        self._head = request_head("POST", path, host=host, key=key)

    def next(self) -> tuple[bytes, Request]:
        asked = self._chosen()
        return request_bytes(self._head, identifiers_body(asked.pairing)), asked

    def problem(self, asked: Request, status: int, head: bytes, body: bytes) -> str | None:
        if status == OK and _names(body, asked.pairing) and self._says_what_happened(asked, head):
            self._workload.acknowledge(asked)
            return None
        return f"{asked.kind} {asked.pairing.identifiers}: {status} {shown(head, body)}"

    def _chosen(self) -> Request:
        return self._workload.next()

    def _says_what_happened(self, asked: Request, head: bytes) -> bool:
        return b"nexus-outcome: %b" % OUTCOMES[asked.kind].encode() in head


class Known(Rest):
    """POST /identify for identities that are known: the fast path alone."""

    def __init__(self, workload: Workload, *, host: str, key: str | None = None) -> None:
        super().__init__(workload, host=host, key=key)
        self._population = workload

    def _chosen(self) -> Request:
        return self._population.repeat()


class Original(Rest):
    """POST /identify of the original design. It tells no outcome; that an answer names both identifiers shows for every
    kind of request that it was done, a union's being those of different people.
    """

    def _says_what_happened(self, asked: Request, head: bytes) -> bool:  # noqa: ARG002 - it overrides
        return True


class GraphQL:
    """The same requests as an `identify` mutation."""

    def __init__(self, workload: Workload, *, host: str) -> None:
        self._workload = workload
        self._head = request_head("POST", "/graphql", host=host)
        self._body = _graphql(IDENTIFY) + b'{"input":%b}}'

    def next(self) -> tuple[bytes, Request]:
        asked = self._workload.next()
        return request_bytes(self._head, self._body % identifiers_body(asked.pairing)), asked

    def problem(self, asked: Request, status: int, head: bytes, body: bytes) -> str | None:
        outcome = b'"%b"' % OUTCOMES[asked.kind].encode()
        if status == OK and _names(body, asked.pairing) and outcome in body and b'"errors"' not in body:
            self._workload.acknowledge(asked)
            return None
        return f"{asked.kind} {asked.pairing.identifiers}: {status} {shown(head, body)}"


class FamilyQuery:
    """`contactFamily` by the id of any of its contacts; the graph must answer."""

    def __init__(self, families: Sequence[Sequence[int]], *, host: str, seed: int) -> None:
        """`families` are the contact ids of each."""
        self._asked = [(contact, len(family)) for family in families for contact in family]
        self._random = random.Random(seed)  # noqa: S311 - it guards nothing
        self._head = request_head("POST", "/graphql", host=host)
        self._body = _graphql(CONTACT_FAMILY) + b'{"id":"%d"}}'

    def next(self) -> tuple[bytes, tuple[int, int]]:
        asked = self._asked[int(self._random.random() * len(self._asked))]
        return request_bytes(self._head, self.body(asked[0])), asked

    def body(self, contact: int) -> bytes:
        """The question about the family of this contact."""
        return self._body % contact

    def problem(self, asked: tuple[int, int], status: int, head: bytes, body: bytes) -> str | None:
        contact, size = asked
        whole = body.count(b'"databaseId"') == size and b"%d" % contact in body
        if status == OK and whole and b'"GRAPH"' in body and b'"errors"' not in body:
            return None
        return f"family of contact {contact}, {size} contacts: {status} {shown(head, body)}"


class OneFamily:
    """Questions about one family, by any of its contacts; the graph must answer."""

    def __init__(self, document: str, contacts: Sequence[int], *, host: str, counted: bytes, count: int) -> None:
        """`document` takes `$id`. An answer is right if it holds `counted` just `count` times."""
        self._contacts = contacts
        self._place = 0
        self._head = request_head("POST", "/graphql", host=host)
        self._body = _graphql(document) + b'{"id":"%d"}}'
        self._counted = counted
        self._count = count

    def next(self) -> tuple[bytes, int]:
        self._place = (self._place + 1) % len(self._contacts)
        contact = self._contacts[self._place]
        return request_bytes(self._head, self._body % contact), contact

    def problem(self, asked: int, status: int, head: bytes, body: bytes) -> str | None:
        whole = body.count(self._counted) == self._count
        if status == OK and whole and b'"GRAPH"' in body and b'"errors"' not in body:
            return None
        return f"a question about contact {asked}: {status} {shown(head, body)}"


class Repeats:
    """POST /identify of pairings that are known."""

    def __init__(self, pairings: Sequence[Pairing], *, host: str) -> None:
        self._pairings = pairings
        self._place = 0
        self._head = request_head("POST", "/identify", host=host)

    def next(self) -> tuple[bytes, Pairing]:
        self._place = (self._place + 1) % len(self._pairings)
        pairing = self._pairings[self._place]
        return request_bytes(self._head, identifiers_body(pairing)), pairing

    def problem(self, asked: Pairing, status: int, head: bytes, body: bytes) -> str | None:
        if status == OK and _names(body, asked) and b"nexus-outcome: MATCHED" in head:
            return None
        return f"{asked.identifiers}: {status} {shown(head, body)}"


class Typename:
    """`{ __typename }`: what GraphQL costs before it is asked for anything."""

    def __init__(self, *, host: str, answer_bytes: int | None = None) -> None:
        """`answer_bytes`: how long the answer is to be. One long alias makes it so: still one field, and the same query
        each time, so that the length is read and written and costs nothing else.
        """
        alias = "" if answer_bytes is None else "a" * max(1, answer_bytes - len(_ANSWER_WITHOUT_NAME))
        self._key = (alias or "__typename").encode()
        document = f"{{ {alias}: __typename }}" if alias else "{ __typename }"
        body = json.dumps({"query": document}).encode()
        self._request = request_bytes(request_head("POST", "/graphql", host=host), body)

    def next(self) -> tuple[bytes, None]:
        return self._request, None

    def problem(self, asked: None, status: int, head: bytes, body: bytes) -> str | None:  # noqa: ARG002 - as Arm
        if status == OK and b'"%b":"Query"' % self._key in body and b'"errors"' not in body:
            return None
        return f"__typename: {status} {shown(head, body)}"


class Echo:
    """Requests like those of `Rest`, to the server that only reads JSON and writes it."""

    def __init__(self, workload: Workload, *, host: str) -> None:
        self._workload = workload
        self._head = request_head("POST", "/echo", host=host)

    def next(self) -> tuple[bytes, Request]:
        asked = self._workload.repeat()
        return request_bytes(self._head, identifiers_body(asked.pairing)), asked

    def problem(self, asked: Request, status: int, head: bytes, body: bytes) -> str | None:
        if status == OK and _names(body, asked.pairing):
            return None
        return f"echo {asked.pairing.identifiers}: {status} {shown(head, body)}"


def shown(head: bytes, body: bytes) -> str:
    """The beginning of an answer, for a message."""
    return (head + b" | " + body[:_SHOWN_BYTES]).decode(errors="replace").replace("\r\n", " | ")


def identify_body(pairing: Pairing) -> bytes:
    """The `identify` mutation."""
    return _graphql(IDENTIFY).replace(b"%%", b"%") + b'{"input":%b}}' % identifiers_body(pairing)


def identifiers_body(pairing: Pairing) -> bytes:
    return b'{"email":"p%d@bench.example","phoneNumber":"+%d"}' % pairing


def _names(body: bytes, pairing: Pairing) -> bool:
    return b'"p%d@bench.example"' % pairing.email in body and b'"+%d"' % pairing.phone in body


def _graphql(document: str) -> bytes:
    """The beginning of a request's body, up to the value of its variables; a template of %."""
    return b'{"query":%b,"variables":' % json.dumps(document).encode().replace(b"%", b"%%")
