"""How the contacts of a family hang together: each under the one that it shares an identifier with."""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from nexus_graph.identity.model import Contact, Family


@dataclass(frozen=True, slots=True)
class Pairing:
    """An email and a phone that one row of the file names together."""

    line: int
    email: str
    phone: str


@dataclass(slots=True)
class Kin:
    """A contact, what ties it to the one above it ("" for the primary), and the contacts below it."""

    contact: Contact
    tie: str
    below: list["Kin"] = field(default_factory=list)


def kinship(family: Family, pairings: Iterable[Pairing]) -> Kin:
    """The family as a tree from its primary, the nearest first.

    A pairing that no contact holds ties contacts too; it is used where no shared identifier leads on. `pairings` must
    tie what the contacts do not, or the tree lacks contacts.
    """
    top = Kin(family.primary, "")
    above, apart = [top], list(family.secondaries)
    evidence = _evidence(family, pairings)
    while True:
        _attach_sharers(above, apart)
        for pairing in evidence:
            bridge = _bridge(pairing, above, apart)
            if bridge is not None:
                break
        else:
            return top
        kin, contact = bridge
        below = Kin(contact, f"by line {pairing.line:,}, which named {pairing.email} with {pairing.phone}")
        kin.below.append(below)
        above.append(below)
        apart.remove(contact)


def _attach_sharers(above: list[Kin], apart: list[Contact]) -> None:
    """Move every contact that shares an identifier, however indirectly, from `apart` to `above`."""
    waiting = deque(above)
    while waiting:
        kin = waiting.popleft()
        for contact in list(apart):
            shared = _shared(kin.contact, contact)
            if shared is not None:
                below = Kin(contact, f"by the {shared} of #{kin.contact.id}")
                kin.below.append(below)
                above.append(below)
                waiting.append(below)
                apart.remove(contact)


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


def _bridge(pairing: Pairing, above: list[Kin], apart: list[Contact]) -> tuple[Kin, Contact] | None:
    """Who carries one side of the pairing above, and who the other side apart."""
    for kin in above:
        for contact in apart:
            if (kin.contact.email, contact.phone) == (pairing.email, pairing.phone) or (
                contact.email,
                kin.contact.phone,
            ) == (pairing.email, pairing.phone):
                return kin, contact
    return None
