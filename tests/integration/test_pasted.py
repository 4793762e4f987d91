"""Identifiers that are not canonical, on every way in: dropped parts are named, lost digits are refused."""

import httpx2
import pytest

JSON = {"Content-Type": "application/json"}
IDENTIFY = """
mutation ($phone: PhoneNumber) {
  identify(input: {phoneNumber: $phone}) {
    ... on IdentifySuccess { dropped family { phoneNumbers } }
    ... on UserError { code field }
  }
}
"""


async def _by_graphql(api: httpx2.AsyncClient, phone: object) -> object:
    response = await api.post("/graphql", json={"query": IDENTIFY, "variables": {"phone": phone}})
    return response.json()["data"]["identify"]


@pytest.mark.parametrize(
    ("number", "part", "enum"),
    [
        ("+1 (415) 555-2671 x12", "extension", "PHONE_EXTENSION"),
        ("tel:+1-415-555-2671;ext=12", "extension", "PHONE_EXTENSION"),
        ("sms:+14155552671?body=hello", "parameters", "PHONE_PARAMETERS"),
    ],
)
async def test_what_is_left_away_is_said(api: httpx2.AsyncClient, number: str, part: str, enum: str) -> None:
    response = await api.post("/identify", json={"phoneNumber": number})
    assert response.json()["contact"]["phoneNumbers"] == ["+14155552671"]
    assert response.headers["nexus-ignored"] == f"phoneNumber;dropped={part}"
    assert await _by_graphql(api, number) == {"dropped": [enum], "family": {"phoneNumbers": ["+14155552671"]}}


async def test_nothing_is_said_where_nothing_is_left_away(api: httpx2.AsyncClient) -> None:
    response = await api.post("/identify", json={"phoneNumber": "tel:+1-415-555-2671"})
    assert "nexus-ignored" not in response.headers
    told = await _by_graphql(api, "'+14155552671'")
    assert told == {"dropped": [], "family": {"phoneNumbers": ["+14155552671"]}}


@pytest.mark.parametrize("written", ["447900900201.0", "4.47900900201E11", "4.47901E+11", "447900900201.5"])
async def test_a_number_of_json_is_read_where_no_digit_can_be_lost(api: httpx2.AsyncClient, written: str) -> None:
    rest = await api.post("/identify", content=f'{{"phoneNumber": {written}}}', headers=JSON)
    literal = await api.post(
        "/graphql",
        json={
            "query": f"mutation {{ identify(input: {{phoneNumber: {written}}}) {{ ... on UserError {{ field }} }} }}"
        },
    )
    query = IDENTIFY.replace("\n", " ")
    variable = await api.post(
        "/graphql", content=f'{{"query": "{query}", "variables": {{"phone": {written}}}}}', headers=JSON
    )
    whole = written in ("447900900201.0", "4.47900900201E11")
    assert rest.status_code == (200 if whole else 400)
    assert literal.json()["data"]["identify"] == ({} if whole else {"field": "phoneNumber"})
    assert ("family" in variable.json()["data"]["identify"]) is whole


async def test_a_family_is_found_by_any_spelling(api: httpx2.AsyncClient) -> None:
    await api.post("/identify", json={"email": "ada@bücher.example", "phoneNumber": "+5215512345601"})
    for by in (
        {"email": "Ada@XN--BCHER-KVA.example."},
        {"email": "<ada@bücher.example>"},
        {"phoneNumber": "tel:+52-55-1234-5601"},
    ):
        query = "query ($by: FamilyLookup!) { contactFamily(by: $by, source: RECORD) { emails phoneNumbers } }"
        response = await api.post("/graphql", json={"query": query, "variables": {"by": by}})
        family = {"emails": ["ada@xn--bcher-kva.example"], "phoneNumbers": ["+525512345601"]}
        assert response.json()["data"]["contactFamily"] == family
