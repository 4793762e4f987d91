"""How the contacts of a family hang together: each under the one that it shares an identifier with."""

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
    """A contact, what ties it to the one above it ("" for the primary), and the contacts below it."""

    contact: Contact
    tie: str
    below: list["Kin"] = field(default_factory=list)


def kinship(family: Family, pairings: Iterable[Pairing]) -> Kin:
    """The family as a tree from its primary, the nearest first, every contact once.

    A pairing that no contact holds ties contacts too; it is used where no shared identifier leads on. What neither
    explains hangs from the primary.
    """
    top = Kin(family.primary, "")
    above, apart = [top], list(family.secondaries)
    evidence = _evidence(family, pairings)
    _attach_sharers(above, apart)
    while apart:
        kin, contact, tie = _bridge(evidence, above, apart) or (top, apart[0], "by a request that is not in the file")
        below = Kin(contact, tie)
        kin.below.append(below)
        above.append(below)
        apart.remove(contact)
        _attach_sharers(above, apart)
    return top


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


def _bridge(evidence: list[Pairing], above: list[Kin], apart: list[Contact]) -> tuple[Kin, Contact, str] | None:
    """The first pairing with one side carried above and the other apart: by whom, and what it says."""
    for pairing in evidence:
        sides = (pairing.email, pairing.phone)
        for kin in above:
            for contact in apart:
                if sides in ((kin.contact.email, contact.phone), (contact.email, kin.contact.phone)):
                    return kin, contact, f"by line {pairing.line:,}, which named {pairing.email} with {pairing.phone}"
    return None
