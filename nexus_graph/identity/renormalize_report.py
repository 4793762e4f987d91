"""The findings of a renormalisation: counts, rules and ids; identifiers only in a file that was asked for."""

import csv
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Final, NamedTuple

import msgspec

from nexus_graph.errors import NexusError

_IDS_SHOWN: Final = 20
"""Contacts, and unions, that the report names for each kind of finding; the list names all."""
_COLUMNS: Final = ("field", "finding", "family_id", "other_family_id", "contact_ids", "reason", "value", "canonical")


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
    """Distinct emails, or phones. One that a run has changed may be judged again, in its new place of the order."""

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
    """The families of the first unions: that which lives on, and that which it took in."""
    unions_refused: int = 0
    contacts_retired: int = 0
    """Contacts that have the email and phone of another, its senior, and are soft-deleted."""
    left: dict[str, Left] = field(default_factory=dict)
    """By the rule that they break."""
    started: float = field(default_factory=monotonic)

    def note(self, finding: Finding) -> None:
        """Count it."""
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


class UnwritableList(NexusError):
    """The list of findings cannot be written."""


@contextmanager
def listing(file: Path | None) -> Iterator[Callable[[Finding], None]]:
    """Writes findings, with their values, to a CSV file that only its owner may read. Raises UnwritableList."""
    if file is None:
        yield lambda _: None
        return
    with _said_plainly():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    stream = os.fdopen(descriptor, "w", buffering=1, newline="", encoding="utf-8")
    writer = csv.writer(stream)

    def write(found: Finding) -> None:
        contacts = " ".join(map(str, found.contacts))
        ids = (found.family, found.other, contacts)
        with _said_plainly():
            writer.writerow((found.field, found.outcome, *ids, found.reason, found.value, found.canonical))

    try:
        with _said_plainly():
            writer.writerow(_COLUMNS)
        yield write
    finally:
        with _said_plainly():
            stream.close()


@contextmanager
def _said_plainly() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnwritableList(f"the list cannot be written: {error.strerror}") from None


def as_json(report: Report) -> str:
    """The report for programs."""
    answer = {
        "dryRun": report.dry_run,
        "emails": report.tallies["email"],
        "phoneNumbers": report.tallies["phoneNumber"],
        "familiesJoined": report.families_joined,
        "firstJoined": report.first_joined,
        "unionsRefused": report.unions_refused,
        "contactsRetired": report.contacts_retired,
        "left": [
            {"reason": reason, "identifiers": left.identifiers, "firstContacts": left.first_contacts}
            for reason, left in report.left.items()
        ],
        "seconds": round(monotonic() - report.started, 3),
    }
    return msgspec.json.format(msgspec.json.encode(answer)).decode()


def as_text(report: Report) -> str:
    """The report for people."""
    would = "would be " if report.dry_run else ""
    lines = [
        f"{name}: {tally.judged:,} judged; {tally.changed:,} {would}changed; {tally.invalid:,} invalid, left alone"
        for name, tally in (("emails", report.tallies["email"]), ("phone numbers", report.tallies["phoneNumber"]))
    ]
    lines.append(f"families {would}joined: {report.families_joined:,}{_shown(report.first_joined)}")
    lines.append(f"contacts {would}soft-deleted, as another has the same email and phone: {report.contacts_retired:,}")
    if report.unions_refused:
        lines.append(f"unions {would}refused: {report.unions_refused:,}")
    for reason, left in report.left.items():
        lines.append(f"left: {left.identifiers:,}: {reason} (contacts {', '.join(map(str, left.first_contacts))})")
    return "\n".join(lines)


def _shown(joined: list[tuple[int | None, int | None]]) -> str:
    return f" ({', '.join(f'{home} took {other}' for home, other in joined)})" if joined else ""
