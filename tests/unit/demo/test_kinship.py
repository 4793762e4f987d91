"""A family as a tree: by what its contacts share, and by what the file named together."""

from datetime import UTC, datetime

from nexus_graph.demo.kinship import Kin, Pairing, kinship
from nexus_graph.model import Contact, Family

_Branch = tuple[int, str, list["_Branch"]]


def _family(*named: tuple[str | None, str | None]) -> Family:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return Family(1, tuple(Contact(number, email, phone, at) for number, (email, phone) in enumerate(named, 1)))


def _drawn(kin: Kin) -> _Branch:
    return kin.contact.id, kin.tie, [_drawn(below) for below in kin.below]


def test_a_lone_contact() -> None:
    assert _drawn(kinship(_family(("a", "1")), [])) == (1, "", [])


def test_a_chain_goes_down_link_by_link_whatever_the_order_of_the_contacts() -> None:
    family = _family(("a", "1"), ("c", "2"), ("b", "2"), ("b", "1"))
    assert _drawn(kinship(family, [])) == (
        1,
        "",
        [(4, "by the phone of #1", [(3, "by the email of #4", [(2, "by the phone of #3", [])])])],
    )


def test_those_who_share_one_phone_hang_under_its_first() -> None:
    family = _family(("a", "1"), ("b", "1"), (None, "1"), ("a", None))
    assert _drawn(kinship(family, [])) == (
        1,
        "",
        [(2, "by the phone of #1", []), (3, "by the phone of #1", []), (4, "by the email of #1", [])],
    )


def test_evidence_ties_what_nothing_shared_does() -> None:
    family = _family(("a", "1"), ("b", "2"), ("c", "2"), ("d", None))
    pairings = [Pairing(2, "a", "1"), Pairing(7, "x", "1"), Pairing(9, "d", "1"), Pairing(2_406, "a", "2")]
    assert _drawn(kinship(family, pairings)) == (
        1,
        "",
        [
            (4, "by line 9, which named d with 1", []),
            (2, "by line 2,406, which named a with 2", [(3, "by the phone of #2", [])]),
        ],
    )


def test_no_contact_is_left_out_if_nothing_known_ties_it() -> None:
    family = _family(("a", "1"), ("b", "2"), ("c", "2"))
    assert _drawn(kinship(family, [])) == (
        1,
        "",
        [(2, "by a request that is not in the file", [(3, "by the phone of #2", [])])],
    )
