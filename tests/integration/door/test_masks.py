"""A reader never learns an identifier: every field of every root field, on every transport, made from the schema."""

import json
import re
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from graphql import (
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
    is_required_argument,
)

from nexus_graph.api.cursors import encode_id
from nexus_graph.api.graphql.engine import gate
from nexus_graph.api.graphql.schema import schema
from nexus_graph.api.graphql.schema.rights import RIGHTS
from nexus_graph.config import Settings
from nexus_graph.door.permissions import GRANTS, Role
from tests.stage.callers import calling, guarded_api, key_for
from tests.stage.running import ApiServer
from tests.stage.transports import ONE_ANSWER, STREAMS, told

EMAILS = ("ada@lovelace.example", "countess@analytical.example", "ada.king@engine.example")
PHONES = ("+447900900461", "+12025550143")
PLAIN = [*EMAILS, *(phone.removeprefix("+") for phone in PHONES)]
MASKED = {"a***@l***.example", "c***@a***.example", "a***@e***.example", "+44******0461", "+1******0143"}
REQUESTS = (
    {"email": EMAILS[0], "phoneNumber": PHONES[0]},
    {"email": EMAILS[1], "phoneNumber": PHONES[0]},
    {"email": EMAILS[2], "phoneNumber": PHONES[0]},
    {"email": EMAILS[0], "phoneNumber": PHONES[1]},
)
LEVELS = 3
"""So deep a document goes below a root field: family, page of contacts, contact."""
ROOM = {
    "graphql_depth_max": 20,
    "graphql_cost_max": 10**9,
    "graphql_document_max_bytes": 1_000_000,
    "body_max_bytes": 2_000_000,
}


class Family(NamedTuple):
    """The database ids of a family's contacts."""

    ids: list[int]


def everything(of: GraphQLOutputType, levels: int) -> str:
    """A selection of every field, so deep. Arguments are left out; pages are as long as they are."""
    named = get_named_type(of)
    if is_leaf_type(named):
        return ""
    assert isinstance(named, GraphQLObjectType | GraphQLInterfaceType)
    parts = []
    for name, field in named.fields.items():
        if levels > 0 or is_leaf_type(get_named_type(field.type)):
            parts.append(f"{name} {everything(field.type, levels - 1)}")
    return "{ __typename " + " ".join(parts) + " }"


def on_any(served: GraphQLSchema, of: GraphQLInterfaceType | GraphQLUnionType, levels: int) -> str:
    """The same of an object of any of the types."""
    types = served.get_possible_types(of)
    return "{ " + " ".join(f"... on {one.name} {everything(one, levels)}" for one in types) + " }"


def documents(served: GraphQLSchema, family: Family) -> dict[str, list[str]]:
    """By root field: documents that ask for all that a reader of this family can ask."""
    ids = [encode_id("Contact", one) for one in family.ids] + [encode_id("ContactFamily", family.ids[0])]
    quoted = ", ".join(f'"{one}"' for one in ids)
    lookups = [f'email: "{EMAILS[0]}"', f'phoneNumber: "{PHONES[1]}"', f'contactId: "{family.ids[-1]}"']
    arguments = {
        "Query.contactFamily": [f"(by: {{{by}}})" for by in lookups]
        + [f"(by: {{{lookups[0]}}}, source: {source})" for source in ("RECORD",)],
        "Query.contact": [f'(id: "{one}")' for one in family.ids],
        "Query.node": [f'(id: "{one}")' for one in ids],
        "Query.nodes": [f"(ids: [{quoted}])"],
        "Query.contacts": ["", "(first: 2)"],
        "Query.identityEvents": ["", f'(contactId: "{family.ids[0]}")'],
        "Query.rateLimit": [""],
        "Query._service": [""],
        "Query._entities": [f'(representations: [{{__typename: "Contact", id: "{one}"}}])' for one in ids[:-1]],
        "Subscription.identityEvents": ["(after: 0)"],
        "Subscription.familyChanged": [f'(contactId: "{family.ids[0]}")'],
    }
    found: dict[str, list[str]] = {}
    for root in (served.query_type, served.subscription_type):
        assert root is not None
        for name, field in root.fields.items():
            path = f"{root.name}.{name}"
            found[path] = [
                f"{root.name.lower()} {{ {name}{given} {_selected(served, field)} }}" for given in arguments[path]
            ]
    return found


def _selected(served: GraphQLSchema, field: GraphQLField) -> str:
    named = get_named_type(field.type)
    if isinstance(named, GraphQLInterfaceType | GraphQLUnionType):
        return on_any(served, named, LEVELS)
    return everything(field.type, LEVELS)


def opaque(text: str) -> Iterator[str]:
    """What base64 in the answer says: ids and cursors."""
    for coded in re.findall(r'"([A-Za-z0-9+/]{8,}={0,2})"', text):
        with suppress(ValueError):
            yield b64decode(coded, validate=True).decode()


def learned(text: str) -> list[str]:
    """The identifiers that an answer tells."""
    told = [text, *opaque(text)]
    return [one for one in PLAIN if any(one in part for part in told)]


@pytest.fixture
async def keys(settings: Settings) -> dict[Role, str]:
    return {role: await key_for(settings, role) for role in (Role.READER, Role.STEWARD)}


@pytest.fixture
async def server(
    settings: Settings, tmp_path: Path, keys: dict[Role, str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ApiServer]:
    monkeypatch.setattr(gate, "FIELDS_MAX", 20_000)
    family, served = Family([1, 2, 3, 4]), schema(federated=True)
    texts = {
        f"{path}/{place}": text
        for path, all_of in documents(served, family).items()
        for place, text in enumerate(all_of)
    }
    trusted = tmp_path / "trusted.json"
    trusted.write_text(json.dumps(texts), encoding="utf-8")
    async with guarded_api(settings, trusted_documents=trusted, graphql_federation=True, **ROOM) as server:
        async with calling(server, keys[Role.STEWARD]) as steward:
            for request in REQUESTS:
                contact = (await steward.post("/identify", json=request)).raise_for_status().json()["contact"]
        assert [contact["primaryContactId"], *contact["secondaryContactIds"]] == family.ids
        yield server


async def test_a_reader_learns_no_identifier_from_any_field_on_any_transport(
    server: ApiServer, keys: dict[Role, str]
) -> None:
    served = schema(federated=True)
    wrong, masks = [], dict.fromkeys(RIGHTS, False)
    for path, texts in documents(served, Family([1, 2, 3, 4])).items():
        transports = STREAMS if path.startswith("Subscription") else (*ONE_ANSWER, *STREAMS)
        for place, text in enumerate(texts):
            for transport in transports if place == 0 else transports[:1]:
                answer = await told(server, transport, text, keys[Role.READER], document_id=f"{path}/{place}")
                if answer.status != 200 or answer.codes or learned(answer.text):
                    wrong.append((path, transport, answer.status, answer.codes, learned(answer.text)))
                masks[path] |= any(mask in answer.text for mask in MASKED)
            full = await told(server, transports[0], text, keys[Role.STEWARD])
            assert bool(learned(full.text)) == masks[path], f"{path} tells the same to all"
    assert wrong == []
    shows = {path for path, shown in masks.items() if shown}
    assert shows == {
        "Query.contactFamily", "Query.contact", "Query.node", "Query.nodes", "Query.contacts", "Query._entities",
        "Subscription.familyChanged",
    }  # fmt: skip


def test_every_readable_field_is_asked_for() -> None:
    """A field that needs an argument would be missing above."""
    served = schema(federated=True)
    for named in served.type_map.values():
        if not named.name.startswith("__") and named not in (
            served.query_type,
            served.mutation_type,
            served.subscription_type,
        ):
            for name, field in getattr(named, "fields", {}).items():
                given = getattr(field, "args", {})
                assert not any(map(is_required_argument, given.values())), f"{named.name}.{name}"


async def test_masks_are_stable_and_whole(server: ApiServer, keys: dict[Role, str]) -> None:
    query = f'{{ contactFamily(by: {{email: "{EMAILS[1]}"}}, source: RECORD) {{ emails phoneNumbers }} }}'
    answers = [(await told(server, way, query, keys[Role.READER])).json["data"] for way in ("POST", "GET", "WebSocket")]
    assert answers == [answers[0]] * 3
    family = answers[0]["contactFamily"]
    assert {*family["emails"], *family["phoneNumbers"]} == MASKED


async def test_caches_keep_masked_and_full_answers_apart(server: ApiServer, keys: dict[Role, str]) -> None:
    query = "{ contacts { nodes { email } } }"
    masked = await told(server, "GET", query, keys[Role.READER])
    full = await told(server, "GET", query, keys[Role.STEWARD])
    assert masked.headers["etag"] != full.headers["etag"]
    assert {"authorization", "x-api-key"} <= {name.strip() for name in masked.headers["vary"].lower().split(",")}
    crossed = {"if-none-match": full.headers["etag"]}
    again = await told(server, "GET", query, keys[Role.READER], **crossed)
    assert (again.status, learned(again.text)) == (200, [])
    own = {"if-none-match": masked.headers["etag"]}
    assert (await told(server, "GET", query, keys[Role.READER], **own)).status == 304
    assert (await told(server, "GET", query, None, **own)).status == 401


async def test_a_document_that_others_prepared_tells_a_reader_no_more(server: ApiServer, keys: dict[Role, str]) -> None:
    """The plan of a document, its family in the cache and its persisted text come from a steward; variables differ."""
    query = "query($email: EmailAddress) { contactFamily(by: {email: $email}) { emails primaryContact { email } } }"
    async with calling(server, keys[Role.STEWARD]) as steward, calling(server, keys[Role.READER]) as reader:
        for email in (*EMAILS, *EMAILS):
            request = {"query": query, "variables": {"email": email}}
            assert learned((await steward.post("/graphql", json=request)).text)
            shown = await reader.post("/graphql", json=request)
            assert learned(shown.text) == []
            assert "a***@l***.example" in shown.text


async def test_a_reader_finds_no_contact_by_the_beginning_of_an_identifier(
    server: ApiServer, keys: dict[Role, str]
) -> None:
    assert Role.READER in GRANTS
    for asked in ('emailPrefix: "ada"', 'phonePrefix: "+44"'):
        query = f"{{ contacts(filter: {{{asked}}}) {{ totalCount nodes {{ id }} edges {{ cursor }} }} }}"
        for way in (*ONE_ANSWER[:3], *STREAMS):
            answer = await told(server, way, query, keys[Role.READER])
            assert answer.codes == ["FORBIDDEN"], way
        assert (await told(server, "POST", query, keys[Role.STEWARD])).codes == []
