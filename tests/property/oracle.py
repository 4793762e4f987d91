"""What identify must do, said again in the plainest way: a walk over ties in memory; no lock, no link, no SQL."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

Token = tuple[str, str]
"""("email", value) or ("phone", value)."""


@dataclass(frozen=True)
class Expected:
    """The answer a sequential identify gives; contacts by their place in the order of creation."""

    outcome: str
    contacts: tuple[int, ...]
    emails: tuple[str, ...]
    phones: tuple[str, ...]


@dataclass
class Oracle:
    """A sequential model of the record. Seniority is the order of creation, as for all live rows."""

    rows: list[tuple[str | None, str | None]] = field(default_factory=list)
    live: set[int] = field(default_factory=set)
    carriers: dict[Token, set[int]] = field(default_factory=lambda: defaultdict(set))
    """The live contacts that carry an identifier."""
    ties: dict[Token, set[Token]] = field(default_factory=lambda: defaultdict(set))
    """Identifiers once named together, by a contact or by a request."""

    def identify(self, email: str | None, phone: str | None) -> Expected:
        asked = _tokens(email, phone)
        families = {family for token in asked if (family := self.family(token))}
        brings_news = any(not self.carriers[token] for token in asked)
        if brings_news:
            place = len(self.rows)
            self.rows.append((email, phone))
            self.live.add(place)
            for token in asked:
                self.carriers[token].add(place)
        for token in asked:
            self.ties[token].update(asked)
        outcome = "CREATED" if not families else "LINKED" if brings_news else "MATCHED"
        return self._answer("MERGED" if len(families) == 2 else outcome, asked[0])

    def delete(self, place: int) -> None:
        """Soft-delete a contact: its tie remains, unless its family is gone with it."""
        tokens = _tokens(*self.rows[place])
        reached = self._reach(tokens[0])
        self.live.discard(place)
        for token in tokens:
            self.carriers[token].discard(place)
        if not any(self.carriers[token] for token in reached):
            for token in reached:
                self.ties.pop(token, None)

    def family(self, token: Token) -> frozenset[int]:
        """The live contacts that the ties reach from an identifier."""
        return frozenset(place for reached in self._reach(token) for place in self.carriers[reached])

    def families(self) -> set[frozenset[int]]:
        """All families."""
        return {self.family(_tokens(*self.rows[place])[0]) for place in self.live}

    def _reach(self, start: Token) -> set[Token]:
        reached, edge = {start}, [start]
        while edge:
            found = self.ties[edge.pop()] - reached
            reached |= found
            edge.extend(found)
        return reached

    def _answer(self, outcome: str, token: Token) -> Expected:
        contacts = tuple(sorted(self.family(token)))
        emails = (self.rows[place][0] for place in contacts)
        phones = (self.rows[place][1] for place in contacts)
        return Expected(outcome, contacts, _distinct(emails), _distinct(phones))


def _tokens(email: str | None, phone: str | None) -> list[Token]:
    named = (("email", email), ("phone", phone))
    return [(kind, value) for kind, value in named if value is not None]


def _distinct(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value is not None))
