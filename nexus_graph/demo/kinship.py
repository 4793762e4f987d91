"""A family as a tree: each contact below a contact with a shared identifier."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from nexus_graph.model import Contact, Family


@dataclass(frozen=True, slots=True)
class Pairing:
    """An email and a phone that one row of the file names together."""

    line: int
    email: str
    phone: str


@dataclass(slots=True)
class Kin:
    """A contact, its tie to the contact above ("" for the primary), and the contacts below it."""

    contact: Contact
    tie: str
    below: list["Kin"] = field(default_factory=list)


def kinship(family: Family, pairings: Iterable[Pairing]) -> Kin:
    """The family as a tree from its primary, breadth first, every contact once.

    Where no shared identifier leads on, a pairing that no contact holds ties two contacts. Contacts that neither ties
    stand below the primary.
    """
    top = Kin(family.primary, "")
    tree, outside = [top], list(family.secondaries)
    evidence = _evidence(family, pairings)
    _attach_sharers(tree, outside)
    while outside:
        kin, contact, tie = _bridge(evidence, tree, outside) or (
            top,
            outside[0],
            "by a request that is not in the file",
        )
        below = Kin(contact, tie)
        kin.below.append(below)
        tree.append(below)
        outside.remove(contact)
        _attach_sharers(tree, outside)
    return top


def _attach_sharers(tree: list[Kin], outside: list[Contact]) -> None:
    """Move every contact that shares an identifier, also indirectly, from `outside` to `tree`."""
    waiting = deque(tree)
    while waiting:
        kin = waiting.popleft()
        for contact in list(outside):
            shared = _shared(kin.contact, contact)
            if shared is not None:
                below = Kin(contact, f"by the {shared} of #{kin.contact.id}")
                kin.below.append(below)
                tree.append(below)
                waiting.append(below)
                outside.remove(contact)


def _shared(one: Contact, other: Contact) -> str | None:
    if one.phone is not None and one.phone == other.phone:
        return "phone"
    return "email" if one.email is not None and one.email == other.email else None


def _evidence(family: Family, pairings: Iterable[Pairing]) -> list[Pairing]:
    held = {(contact.email, contact.phone) for contact in family.contacts}
    emails, phones = set(family.emails), set(family.phones)
    return [
        pairing
        for pairing in pairings
        if pairing.email in emails and pairing.phone in phones and (pairing.email, pairing.phone) not in held
    ]


def _bridge(evidence: list[Pairing], tree: list[Kin], outside: list[Contact]) -> tuple[Kin, Contact, str] | None:
    """The first pairing between a contact of the tree and one outside: both contacts, and the tie in words."""
    for pairing in evidence:
        sides = (pairing.email, pairing.phone)
        for kin in tree:
            for contact in outside:
                if sides in ((kin.contact.email, contact.phone), (contact.email, kin.contact.phone)):
                    return kin, contact, f"by line {pairing.line:,}, which named {pairing.email} with {pairing.phone}"
    return None
