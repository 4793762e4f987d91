"""The gate: what it measures, what it refuses, and that it is quick whatever the document."""

from contextlib import suppress

import pytest
from graphql import OperationDefinitionNode, get_introspection_query, parse
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus_graph.api.graphql.engine import gate
from nexus_graph.api.graphql.engine.documents import Documents
from nexus_graph.api.graphql.engine.refusal import RequestError
from nexus_graph.api.graphql.schema import schema
from nexus_graph.config import Settings
from tests.stage.counting import lines_run

DOCUMENTS = Documents(schema(), Settings())
PAGES = ("list",)
SETTINGS = Settings(graphql_depth_max=4)
SMALL = {
    "FIELDS_MAX": 20,
    "ALIASES_MAX": 3,
    "INTROSPECTION_DEPTH_MAX": 6,
    "ROOT_FIELDS_MAX": 2,
    "DIRECTIVES_MAX": 3,
    "FRAGMENTS_MAX": 3,
}


def passed_limit(document: str, settings: Settings = SETTINGS) -> str | None:
    with pytest.MonkeyPatch.context() as patched:
        for name, most in SMALL.items():
            patched.setattr(gate, name, most)
        try:
            gate.check(parse(document), settings, PAGES)
        except RequestError as refusal:
            limit: str = refusal.errors[0]["extensions"]["limit"]
            return limit
    return None


def bomb(fragments: int) -> str:
    """Each fragment spreads the next one twice."""
    chain = " ".join(f"fragment F{n} on Query {{...F{n + 1} ...F{n + 1}}}" for n in range(fragments))
    return f"{{...F0}} {chain} fragment F{fragments} on Query {{__typename}}"


def lines_to_prepare(document: str) -> int:
    """Lines of Python that a new process runs for the document, once its schema is made."""
    documents = Documents(schema(), Settings())

    def prepare() -> None:
        with suppress(RequestError):
            documents.prepare(document)

    return lines_run(prepare)


@pytest.mark.parametrize(
    ("document", "variables", "cost"),
    [
        ("{a}", {}, 0),
        ("{a{b c}}", {}, 1),
        ("{a{list(first: 3){nodes{x} pageInfo{x}}}}", {}, 2 + 3 * 1),
        ("{a{list{nodes{x}}}}", {}, 2 + 20),
        ("{a{list(first: 100000000000){nodes{x}}}}", {}, 2 + 100),
        ("{a{list(first: -5){nodes{x}}}}", {}, 2),
        ("{list(first: 10){nodes{list(first: 10){nodes{x}}}}}", {}, 1 + 10 * (1 + 1 + 10)),
        ("{...F} fragment F on Q {a{...G ...G}} fragment G on Q {list(first: 2){nodes{x}}}", {}, 1 + 2 * 3),
        ("query ($n: Int) {list(first: $n){nodes{x}}}", {"n": 7}, 8),
        ("query ($n: Int) {list(first: $n){nodes{x}}}", {"n": 7.0}, 8),
        ("query ($n: Int = 6) {list(first: $n){nodes{x}}}", {}, 7),
        ("query ($n: Int = 6) {list(first: $n){nodes{x}}}", {"n": None}, 21),
        ("query ($n: Int) {list(first: $n){nodes{x}}}", {"n": "many"}, 21),
        ("query ($ids: [ID!]!) {nodes(ids: $ids){a{x}}}", {"ids": ["1", "2", "3"]}, 6),
        ('{nodes(ids: ["1", "2"]){a{x}}}', {}, 4),
        ("mutation {identify{a{x}}}", {}, 12),
    ],
)
def test_the_cost_is_what_the_answer_may_hold(document: str, variables: dict[str, object], cost: int) -> None:
    ast = parse(document)
    (operation,) = (node for node in ast.definitions if isinstance(node, OperationDefinitionNode))
    assert gate.cost(ast, operation, variables, Settings(), PAGES) == cost
    (measure,) = gate.check(ast, Settings(), PAGES)
    assert measure.cost <= cost
    assert measure.cost_varies is ("$" in document)


def test_a_cost_past_the_limit_is_refused_before_and_after_variables_are_known() -> None:
    assert passed_limit("{list(first: 100){nodes{list(first: 100){nodes{x}}}}}", Settings()) == "cost"
    ast = parse("query ($n: Int) {list(first: $n){nodes{list(first: $n){nodes{x}}}}}")
    (operation,) = (node for node in ast.definitions if isinstance(node, OperationDefinitionNode))
    with pytest.raises(RequestError):
        gate.cost(ast, operation, {"n": 100}, Settings(), PAGES)


@pytest.mark.parametrize(
    ("document", "limit"),
    [
        ("{a{b{c{d}}}}", None),
        ("{a{b{c{d{e}}}}}", "depth"),
        ("{...A} fragment A on Q {a{...B}} fragment B on Q {b{c{d}}}", None),
        ("{...A} fragment A on Q {a{...B}} fragment B on Q {b{c{d{e}}}}", "depth"),
        # B is met near the root first: what is remembered of it must hold further down too.
        ("{...B a{b{...B}}} fragment B on Q {c{d}}", None),
        ("{...B a{b{c{...B}}}} fragment B on Q {c{d}}", "depth"),
        ("{a{... on Q {b{... on Q {c{d}}}}}}", None),
        ("{a b}", None),
        ("{a b c}", "rootFields"),
        ("{...A ...A} fragment A on Q {a b}", "rootFields"),
        ("{a{x: b y: c z: d}}", None),
        ("{a{w: b x: b y: c z: d}}", "aliases"),
        ("{a{...A ...A}} fragment A on Q {x: b y: c}", "aliases"),
        ("{a @x @x @x}", None),
        ("{a @x @x @x @x}", "directives"),
        ("query @x {a @x ...A @x} fragment A on Q @x {b}", "directives"),
        ("query ($a: A @x @x @x @x) {a}", "directives"),
        ("{a{" + "b " * 19 + "}}", None),
        ("{a{" + "b " * 20 + "}}", "fields"),
        ("{a{" + "...A " * 7 + "}} fragment A on Q {b c d}", "fields"),
        ("{...A} fragment A on Q {...B} fragment B on Q {...A}", "fragmentCycles"),
        ("{a} fragment A on Q {...A}", "fragmentCycles"),
        ("{a}" + "".join(f"fragment F{n} on Q {{a}}" for n in range(4)), "fragments"),
        ("{...Undefined}", None),
        ("query A {a} query B {a{b{c{d{e}}}}}", "depth"),
        ("{__schema{a{b{c{d{e}}}}}}", None),
        ("{__schema{a{b{c{d{e{f}}}}}}}", "introspectionDepth"),
        ("{__schema{...T}} fragment T on T {a{b{c{d{e{f}}}}}}", "introspectionDepth"),
    ],
)
def test_limits(document: str, limit: str | None) -> None:
    assert passed_limit(document) == limit


def test_the_usual_introspection_passes_the_usual_limits() -> None:
    Documents(schema(), Settings()).prepare(get_introspection_query())


@pytest.mark.parametrize("fragments", [5, 14, 30, 60])
def test_doubling_fragments_cost_arithmetic(fragments: int) -> None:
    assert lines_to_prepare(bomb(fragments)) < 1_500 * (fragments + 1)
    with pytest.raises(RequestError) as caught:
        DOCUMENTS.prepare(bomb(fragments))
    assert caught.value.status == 422
    assert caught.value.errors[0]["extensions"]["code"] == "LIMIT_EXCEEDED"


@pytest.mark.parametrize(
    "document",
    [
        "{" * 333 + "a" + "}" * 333,
        "{a" * 300 + "}" * 300,
        "{contactFamily(by:{contactId:1}){" + "version " * 900 + "}}",
        "{contactFamily(by:{contactId:1}){" + "id version " * 450 + "}}",
        "query{" + " ".join(f"__typename @include(if: true) #{n}\n" for n in range(150)) + "}",
        "{a(b:" + "[" * 450 + "]" * 450 + ")}",
        "".join(f"query Q{n} {{__typename}} " for n in range(180)),
        "#" * 14_000 + "\n{__typename}",
        "#\n" * 7_000 + "{__typename}",
        '{a(b: "' + "\\u0041" * 2_000 + '")}',
        "{...F0}" + "".join(f"fragment F{n} on Query{{...F{n + 1}}}" for n in range(120)),
        "{...F0}" + "".join(f"fragment F{n} on Query{{...F{n + 1}}}" for n in range(49)),
        "{"
        + " ".join(f"...F{n}" for n in range(50))
        + "}"
        + "".join(f"fragment F{n} on Query{{__typename}}" for n in range(50)),
    ],
    ids=lambda document: document[:24],
)
def test_no_document_of_the_allowed_size_is_slow(document: str) -> None:
    """A million lines are some fifty milliseconds."""
    assert lines_to_prepare(document) < 1_000_000


def test_prepared_documents_are_remembered_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexus_graph.api.graphql.engine.documents.REMEMBERED_MAX", 2)
    documents = Documents(schema(), Settings())
    first = documents.prepare("{__typename}")
    assert documents.prepare("{__typename}") is first
    documents.prepare("{a: __typename}")
    documents.prepare("{b: __typename}")
    assert documents.prepare("{__typename}") is not first


@pytest.mark.parametrize(
    ("document", "status", "code"),
    [
        ("{", 400, "GRAPHQL_PARSE_FAILED"),
        ("{a: 5}", 400, "GRAPHQL_PARSE_FAILED"),
        ("{unknown}", 422, "GRAPHQL_VALIDATION_FAILED"),
        ("{__typename} #" + "x" * 15_000, 422, "LIMIT_EXCEEDED"),
    ],
)
def test_documents_that_cannot_be_executed(document: str, status: int, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        Documents(schema(), Settings()).prepare(document)
    assert caught.value.status == status
    assert caught.value.errors[0]["extensions"]["code"] == code


@pytest.mark.parametrize(
    "document",
    [
        '{contact(id: "ada@example.com" "ada@example.com")}',
        '{contactFamily(by: {contactId: {a: "ada@example.com"}}) {id}}',
        '{contactFamily(by: {email: "ada@example.com", contactId: "ada@example.com"}) {id}}',
        '{contactFamily(by: "ada@example.com") {id}}',
        'mutation {identify(input: {emial: "ada@example.com"}) {__typename}}',
        '{contactFamily(by: {contactId: "1"}, atLeast: "ada@example.com") {id}}',
        '{contactFamily(by: {contactId: "1"}, source: "ada@example.com") {id}}',
        'query ($id: ID! = ["ada@example.com"]) {contact(id: $id) {id}}',
        '{contact(id: """ada@example.com""" """ada@example.com""") {id}}',
    ],
)
def test_refusals_repeat_no_value_and_suggest_nothing(document: str) -> None:
    with pytest.raises(RequestError) as caught:
        Documents(schema(), Settings()).prepare(document)
    told = str(caught.value.errors)
    assert "ada" not in told
    assert "Did you mean" not in told


TOKENS = """
    { } ( ) : ... on query mutation fragment F Query Contact contact id $ ! [ ] = @ include if true "
    1 -1 1.5 __typename __schema \"\"\"
"""
GRAPHQL_LIKE = st.lists(st.sampled_from(TOKENS.split()), max_size=60).map(" ".join)


@given(GRAPHQL_LIKE | st.text(max_size=80))
@settings(deadline=None)
def test_any_text_is_prepared_or_refused(text: str) -> None:
    with suppress(RequestError):
        DOCUMENTS.prepare(text)
