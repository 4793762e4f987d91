"""Plans answer as graphql-core does: for any document, any family, and whatever goes wrong."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from inspect import iscoroutinefunction
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from graphql import (
    ExecutionResult,
    GraphQLError,
    GraphQLObjectType,
    get_argument_values,
    get_named_type,
    get_variable_values,
    is_abstract_type,
    is_leaf_type,
)
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from msgspec.json import decode

from nexus_graph.api.graphql.engine import gate
from nexus_graph.api.graphql.engine.documents import Documents, PreparedOperation
from nexus_graph.api.graphql.engine.execution import Executing
from nexus_graph.api.graphql.engine.refusal import RequestError
from nexus_graph.api.graphql.schema import Context, schema
from nexus_graph.api.http.answer import encode
from nexus_graph.config import Settings
from nexus_graph.errors import Overloaded, RowRejected, Unavailable
from nexus_graph.model import Contact, Family, Identification, Outcome, Source

SETTINGS = Settings(page_max=5, graphql_depth_max=12)
START = datetime(2026, 9, 1, tzinfo=UTC)
VARIABLES = {"n": 2, "input": {"email": "ada@example.com", "phoneNumber": 123456}, "id": "1"}


@pytest.fixture(scope="module", autouse=True)
def many_aliases() -> Iterator[None]:
    """Documents of chance have more aliases than those of clients."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gate, "ALIASES_MAX", 500)
        yield


@dataclass
class Canned:
    """Verbs that answer as they are told, and count how often they were asked."""

    answer: Any
    asked: int = 0

    async def __call__(self, _request: object) -> Identification:
        return Identification(Outcome.LINKED, cast("Family", await self.family()))

    async def family(self, *_: object, **__: object) -> Family | None:
        self.asked += 1
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return cast("Family | None", self.answer)


def family(*phones: str | None) -> Family:
    contacts = [
        Contact(
            number, f"user{number}@example.com" if number % 2 else None, phone, START + timedelta(microseconds=number)
        )
        for number, phone in enumerate(phones, start=1)
    ]
    return Family(7, tuple(contacts), Source.GRAPH)


ANSWERS = st.sampled_from(
    [
        family("111111"),
        family("111111", "222222", None, "444444", "555555", "666666", "777777"),
        Family(7, ()),  # broken: no primary
        Family(cast("int", None), family("111111", "222222").contacts),  # broken: no version
        None,
        Unavailable("away"),
        Overloaded("full"),
        RowRejected("no"),
        ValueError("unexpected"),
    ]
)


async def executed(document: str, answer: object, *, planned: bool, n: int = 2) -> tuple[object, int]:
    """What is told of the document, and how often the verbs were asked."""
    prepared = DOCUMENTS.prepare(document)
    operation = prepared.operation(None)
    assert operation.plan is not None
    operation.came_before = planned
    verbs = Canned(answer)
    identity: Any = SimpleNamespace(identify=verbs, families=verbs, listing=verbs, feed=verbs)
    context = Context(identity, SETTINGS, UUID(int=0))
    result = await Executing(schema()).execute(
        PreparedOperation(prepared, operation, {**VARIABLES, "n": n}, 0), context
    )
    return told(result), verbs.asked


def told(result: ExecutionResult) -> object:
    """Fields of a query are answered in any order, and so are their errors."""
    return decode(encode(result.data)), sorted(str(error.formatted) for error in result.errors or ())


DOCUMENTS = Documents(schema(), SETTINGS)


@st.composite
def selections(draw: st.DrawFn, type_name: str, fragments: dict[str, str], depth: int) -> str:
    """A selection set of the type; fragments that it spreads are added to `fragments`."""
    parts = [draw(selection(type_name, fragments, depth)) for _ in range(draw(st.integers(1, 4)))]
    return "{" + " ".join(parts) + "}"


@st.composite
def selection(draw: st.DrawFn, type_name: str, fragments: dict[str, str], depth: int) -> str:
    type_ = schema().type_map[type_name]
    kinds = ["__typename", "field", "field", "field"] if not is_abstract_type(type_) or hasattr(type_, "fields") else []
    if depth:
        kinds += ["inline", "spread", "bare"]
    kind = draw(st.sampled_from(kinds or ["__typename"]))
    if kind == "__typename":
        return "__typename"
    if kind == "field":
        return draw(field(type_name, fragments, depth))
    if kind == "bare":
        return "... " + draw(selections(type_name, fragments, depth - 1))
    condition = draw(st.sampled_from(conditions(type_name)))
    if kind == "inline":
        return f"... on {condition} " + draw(selections(condition, fragments, depth - 1))
    name = f"F{len(fragments)}"
    fragments[name] = ""
    fragments[name] = f"fragment {name} on {condition} " + draw(selections(condition, fragments, depth - 1))
    return f"...{name}"


@st.composite
def field(draw: st.DrawFn, type_name: str, fragments: dict[str, str], depth: int) -> str:
    fields = cast("GraphQLObjectType", schema().type_map[type_name]).fields
    planned = {name: found for name, found in fields.items() if not iscoroutinefunction(found.resolve)}
    readable = [name for name, found in planned.items() if depth or is_leaf_type(get_named_type(found.type))]
    if not readable:
        return "__typename"
    name = draw(st.sampled_from(readable))
    inner = get_named_type(fields[name].type)
    below = "" if is_leaf_type(inner) else draw(selections(inner.name, fragments, depth - 1))
    arguments, suffix = "", ""
    if name == "secondaryContacts":
        first = draw(st.sampled_from(["", "$n", "1", "5", "6", "-1"]))
        arguments = f"(first: {first})" if first else ""
        suffix = f"_{first.strip('$').replace('-', 'minus')}" if first else ""
    alias = draw(st.sampled_from(["", "x"]))
    return f"{alias}{name}{suffix}: {name}{arguments} {below}" if alias or suffix else f"{name}{arguments} {below}"


def conditions(type_name: str) -> list[str]:
    """Types that a fragment may stand on, within the type."""
    type_ = schema().type_map[type_name]
    possible = schema().get_possible_types(type_) if is_abstract_type(type_) else [cast("GraphQLObjectType", type_)]
    return [type_name, *(one.name for one in possible), *(over.name for one in possible for over in one.interfaces)]


@st.composite
def documents(draw: st.DrawFn) -> str:
    fragments: dict[str, str] = {}
    query = draw(st.booleans())
    roots = {
        "contactFamily(by: {contactId: $id})": "ContactFamily",
        "contact(id: $id)": "Contact",
        'node(id: "Q29udGFjdEZhbWlseTox")': "Node",
        'nodeOfNothing: node(id: "x")': "Node",
    }
    if not query:
        roots = {"identify(input: $input)": "IdentifyResult", "again: identify(input: {})": "IdentifyResult"}
    chosen = draw(st.lists(st.sampled_from(list(roots)), min_size=1, max_size=3, unique=True))
    body = " ".join(f"{root} {draw(selections(roots[root], fragments, 3))}" for root in chosen)
    # Every variable is used somewhere, as validation wants it.
    secondaries = "secondaryContacts(first: $n) {pageInfo {endCursor}}"
    if query:
        header = "($n: Int, $id: ID!)"
        uses = f"v1: contact(id: $id) {{id}} v2: contactFamily(by: {{contactId: 1}}) {{v3: {secondaries}}}"
    else:
        header = "($n: Int, $input: IdentifyInput!)"
        uses = f"v1: identify(input: $input) {{... on IdentifySuccess {{v2: family {{v3: {secondaries}}}}}}}"
    return f"{'query' if query else 'mutation'} {header} {{{body} {uses}}} " + " ".join(fragments.values())


@given(documents(), ANSWERS)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
async def test_plans_answer_as_graphql_core_does(document: str, answer: object) -> None:
    try:
        DOCUMENTS.prepare(document)
    except RequestError:
        assume(False)
    for n in (2, 1):  # of one family: what it was told by is not told where another answer is asked for
        planned = await executed(document, answer, planned=True, n=n)
        assert planned == await executed(document, answer, planned=False, n=n)


async def test_a_family_is_written_out_once_for_all_who_ask_the_same() -> None:
    known = family("111111", "222222")
    one = "{ contactFamily(by: {contactId: 1}) { version primaryContact { id } } }"
    other = "{ contactFamily(by: {contactId: 1}) { emails } }"
    first, _ = await executed(one, known, planned=True)
    kept = dict(known.answers)
    assert len(kept) == 1
    again, asked = await executed(one, known, planned=True)
    assert (again, asked, known.answers) == (first, 1, kept)
    assert (await executed(other, known, planned=True))[0] != first
    assert len(known.answers) == 1
    assert known.answers != kept


ASKED = [
    ("query ($id: ID!) { contactFamily(by: {contactId: $id}) { version } }", {"id": "Q29udGFjdDox"}),
    ("query ($id: ID!) { contactFamily(by: {contactId: $id}) { version } }", {"id": 7}),
    ("query ($e: EmailAddress!) { contactFamily(by: {email: $e}) { version } }", {"e": "Ada@X.example"}),
    ("query ($p: PhoneNumber!) { contactFamily(by: {phoneNumber: $p}) { version } }", {"p": "+1 (415) 555-0132"}),
    ('query ($id: ID! = "2") { contactFamily(by: {contactId: $id}) { version } }', {}),
    (
        "query ($id: ID!, $v: BigInt) { contactFamily(by: {contactId: $id}, atLeast: $v) { version } }",
        {"id": "1", "v": 3},
    ),
    ("query ($id: ID!) { contactFamily(by: {contactId: $id}, source: RECORD) { version } }", {"id": "1"}),
    ("query ($by: FamilyLookup!) { contactFamily(by: $by) { version } }", {"by": {"contactId": "1"}}),
    ('{ contactFamily(by: {contactId: "1"}) { version } }', {}),
]


@pytest.mark.parametrize(("document", "variables"), ASKED)
def test_arguments_are_those_of_graphql_core(document: str, variables: dict[str, Any]) -> None:
    operation = DOCUMENTS.prepare(document).operation(None)
    assert operation.plan is not None
    (field,) = operation.plan.fields
    coerced = get_variable_values(schema(), operation.node.variable_definitions or (), variables)
    assert not isinstance(coerced, list)
    try:
        expected = get_argument_values(field.definition, field.node, coerced)
    except GraphQLError as error:
        with pytest.raises(GraphQLError, match=re.escape(error.message)):
            field.arguments(coerced)
        return
    assert field.arguments(coerced) == expected
