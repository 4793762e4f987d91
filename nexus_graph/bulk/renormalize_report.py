"""The findings of a renormalisation: counts, rules and ids."""

from dataclasses import dataclass, field
from time import monotonic
from typing import Final, NamedTuple

_IDS_SHOWN: Final = 20
"""Contacts, and unions, that the report names for each kind of finding; the CSV list names all."""


class Finding(NamedTuple):
    """One identifier that is not canonical."""

    field: str
    outcome: str
    """INVALID, or the outcome of the change: CHANGED, MERGED, REFUSED, GONE."""
    family: int | None
    contacts: list[int]
    value: str
    canonical: str | None = None
    reason: str | None = None
    other: int | None = None


@dataclass
class Tally:
    """Counts of distinct emails, or phones. A scan may judge a changed value again, at its new position."""

    judged: int = 0
    changed: int = 0
    invalid: int = 0


@dataclass
class Left:
    """Identifiers that were left as they are, for one reason."""

    identifiers: int = 0
    first_contacts: list[int] = field(default_factory=list)


@dataclass
class Report:
    """Counts, rules and ids; never an identifier."""

    dry_run: bool
    tallies: dict[str, Tally] = field(default_factory=lambda: {"email": Tally(), "phoneNumber": Tally()})
    families_joined: int = 0
    first_joined: list[tuple[int | None, int | None]] = field(default_factory=list)
    """The families of the first unions: the survivor, and the loser."""
    unions_refused: int = 0
    contacts_retired: int = 0
    """Contacts soft-deleted because a senior contact has the same email and phone."""
    left: dict[str, Left] = field(default_factory=dict)
    """By the broken rule."""
    started: float = field(default_factory=monotonic)

    def note(self, finding: Finding) -> None:
        """Count a finding."""
        tally = self.tallies[finding.field]
        tally.changed += finding.outcome in ("CHANGED", "MERGED")
        tally.invalid += finding.outcome == "INVALID"
        if finding.outcome == "MERGED":
            self.families_joined += 1
            if len(self.first_joined) < _IDS_SHOWN:
                self.first_joined.append((finding.family, finding.other))
        elif finding.outcome == "REFUSED":
            self.unions_refused += 1
            self._leave("the union would pass the family limit", finding)
        elif finding.reason is not None:
            self._leave(finding.reason, finding)

    def _leave(self, reason: str, finding: Finding) -> None:
        left = self.left.setdefault(reason, Left())
        left.identifiers += 1
        left.first_contacts += finding.contacts[: _IDS_SHOWN - len(left.first_contacts)]
