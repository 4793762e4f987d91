"""The schema as clients see it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    build_schema,
    is_introspection_type,
    is_specified_scalar_type,
)

from nexus_graph.api.graphql.engine.documents import Documents
from nexus_graph.api.graphql.engine.refusal import RequestError
from nexus_graph.api.graphql.schema import schema, sdl
from nexus_graph.config import Settings
from nexus_graph.statements import GRAPHQL_SCHEMA


def test_the_committed_schema_is_the_codes() -> None:
    assert GRAPHQL_SCHEMA.read_text(encoding="utf-8") == sdl(), "run `make schema` and look at the difference"


def named_types() -> Iterator[GraphQLNamedType]:
    for type_ in schema().type_map.values():
        if not is_introspection_type(type_) and not is_specified_scalar_type(type_):
            yield type_


def descriptions(type_: GraphQLNamedType) -> Iterator[tuple[str, str | None]]:
    yield type_.name, type_.description
    if isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
        for name, field in type_.fields.items():
            yield f"{type_.name}.{name}", field.description
            for argument_name, argument in field.args.items():
                yield f"{type_.name}.{name}({argument_name}:)", argument.description
    if isinstance(type_, GraphQLInputObjectType):
        for name, input_field in type_.fields.items():
            yield f"{type_.name}.{name}", input_field.description
    if isinstance(type_, GraphQLEnumType):
        for name, value in type_.values.items():
            yield f"{type_.name}.{name}", value.description


def test_everything_is_described() -> None:
    told = [pair for type_ in named_types() for pair in descriptions(type_)]
    assert len(told) > 60
    assert [name for name, description in told if not description] == []


def deprecations(served: GraphQLSchema) -> Iterator[tuple[str, str]]:
    for type_ in served.type_map.values():
        members = {**getattr(type_, "fields", {}), **getattr(type_, "values", {})}
        for name, member in members.items():
            for path, what in ((name, member), *((f"{name}.{arg}", arg_) for arg, arg_ in _arguments(member))):
                if what.deprecation_reason is not None:
                    yield f"{type_.name}.{path}", what.deprecation_reason


def _arguments(member: object) -> Iterator[tuple[str, Any]]:
    yield from getattr(member, "args", {}).items()


def undated(served: GraphQLSchema) -> list[str]:
    """What is deprecated without its successor and the day it will go."""
    told = re.compile(r"^Use `\w+`.* It goes on \d{4}-\d\d-\d\d\.$")
    return [path for path, reason in deprecations(served) if not told.match(reason)]


def test_deprecations_name_successor_and_date() -> None:
    planted = build_schema("""
        type Query {
          good: Int @deprecated(reason: "Use `better`. It goes on 2027-05-01.")
          bad: Int @deprecated(reason: "Old.")
          better(bad: Int @deprecated(reason: "Use `good`.")): Odd
        }
        enum Odd { BAD @deprecated(reason: "It goes on 2027-05-01.") EVEN }
    """)
    assert undated(planted) == ["Query.bad", "Query.better.bad", "Odd.BAD"]
    assert undated(schema()) == []


def test_names_that_clients_rely_on() -> None:
    def fields(name: str) -> dict[str, str]:
        type_ = schema().type_map[name]
        assert isinstance(type_, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType)
        return {field: str(found.type) for field, found in type_.fields.items()}

    assert fields("Query") == {
        "contactFamily": "ContactFamily",
        "contact": "Contact",
        "node": "Node",
        "nodes": "[Node]!",
        "contacts": "ListedContactConnection!",
        "identityEvents": "IdentityEventConnection!",
        "rateLimit": "RateLimit",
    }
    assert fields("Mutation") == {"identify": "IdentifyResult!"}
    assert fields("IdentifyInput") == {"email": "EmailAddress", "phoneNumber": "PhoneNumber"}
    assert fields("FamilyLookup") == {"contactId": "ID", "email": "EmailAddress", "phoneNumber": "PhoneNumber"}
    assert fields("IdentifySuccess") == {
        "outcome": "IdentifyOutcome!",
        "reason": "RefusalReason",
        "family": "ContactFamily!",
        "version": "BigInt!",
        "dropped": "[DroppedPart!]!",
    }
    assert fields("ContactFamily") == {
        "id": "ID!",
        "mergedInto": "ContactFamily",
        "version": "BigInt!",
        "source": "FamilySource!",
        "emails": "[String!]!",
        "phoneNumbers": "[String!]!",
        "primaryContact": "Contact!",
        "secondaryContacts": "ContactConnection!",
        "identityEvents": "IdentityEventConnection!",
    }
    assert fields("Contact") == {
        "id": "ID!",
        "databaseId": "BigInt!",
        "email": "String",
        "phoneNumber": "String",
        "linkPrecedence": "LinkPrecedence!",
        "createdAt": "DateTime!",
        "family": "ContactFamily",
    }
    assert fields("ContactConnection") == {
        "nodes": "[Contact!]!",
        "edges": "[ContactEdge!]!",
        "pageInfo": "PageInfo!",
        "totalCount": "Int!",
    }
    assert fields("UserError") == {"code": "UserErrorCode!", "message": "String!", "field": "String"}
    assert fields("TemporarilyUnavailableError") == {**fields("UserError"), "retryAfterSeconds": "Int!"}


@pytest.mark.parametrize(
    ("document", "allowed"),
    [
        ("mutation ($email: String) {identify(input: {email: $email}) {__typename}}", True),
        ("mutation ($email: String!) {identify(input: {email: $email}) {__typename}}", True),
        ("mutation ($phone: Int) {identify(input: {phoneNumber: $phone}) {__typename}}", True),
        ("mutation ($email: EmailAddress) {identify(input: {email: $email}) {__typename}}", True),
        ("query ($email: String!) {contactFamily(by: {email: $email}) {id}}", True),
        ("query ($email: String) {contactFamily(by: {email: $email}) {id}}", False),
        ("mutation ($email: Int) {identify(input: {email: $email}) {__typename}}", False),
        ("mutation ($email: [String]) {identify(input: {email: $email}) {__typename}}", False),
        ("query ($id: Boolean!) {contact(id: $id) {id}}", False),
        ("query ($at: String) {contactFamily(by: {contactId: 1}, atLeast: $at) {id}}", False),
    ],
)
def test_strings_may_stand_for_identifiers_and_for_nothing_else(document: str, allowed: bool) -> None:  # noqa: FBT001
    documents = Documents(schema(), Settings())
    if allowed:
        documents.prepare(document)
    else:
        with pytest.raises(RequestError):
            documents.prepare(document)
