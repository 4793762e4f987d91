"""renormalize: rewrite the identifiers of a record from older rules to today's canonical forms.

`normalize` judges each identifier. An identifier with another form today is changed wherever it stands, under the write
lock. If another family carries the new form already, both families unite as in identify; of two contacts with the same
email and phone afterwards the junior is soft-deleted. An identifier without a canonical form stays, and is listed.
Contacts that were soft-deleted before stay unchanged.

A transaction changes few identifiers, so that identify goes on between transactions. An interrupted run leaves a
correct record, and the next run continues; a run over a canonical record changes nothing.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, NamedTuple
from uuid import uuid4

from nexus_graph.config import Settings
from nexus_graph.errors import InvalidIdentifier
from nexus_graph.identifiers import normalize
from nexus_graph.statements import sql
from nexus_graph.store.database import Pool

PAGE_IDENTIFIERS: Final = 2_000
"""Identifiers read and judged at once: some ten milliseconds of both."""
CHANGES_AT_ONCE: Final = 200
"""Changes of one transaction. identify waits for the transaction, about a fifth of a second where families unite."""
_CONTACTS_LISTED: Final = 1_000
"""Contacts that a finding names."""
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
    on_finding: Callable[[Finding], None] = field(default=lambda _: None, repr=False)
    """Gets each finding, with its identifier."""
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
        self.on_finding(finding)

    def _leave(self, reason: str, finding: Finding) -> None:
        left = self.left.setdefault(reason, Left())
        left.identifiers += 1
        left.first_contacts += finding.contacts[: _IDS_SHOWN - len(left.first_contacts)]


class Change(NamedTuple):
    """An identifier and its canonical form of today."""

    old: str
    new: str


class _Kind(NamedTuple):
    """Emails, or phones."""

    name: str
    is_email: bool
    canonical: Callable[[str], str | None]
    scan: str
    """The statement that reads the values."""


async def renormalize(
    pool: Pool, settings: Settings, *, dry_run: bool, on_finding: Callable[[Finding], None] = lambda _: None
) -> Report:
    """Change each identifier that is not canonical; with `dry_run`, only report. Calls `on_finding` for each.

    `pool` must act as nexus_import. Raises the errors of asyncpg; starting again is safe.
    """
    report = Report(dry_run, on_finding)
    work = _Prediction(pool, settings, report) if dry_run else _Rewrite(pool, settings, report)
    for kind in _kinds(settings.phone_region):
        async for values in _pages(pool, kind.scan):
            report.tallies[kind.name].judged += len(values)
            changes, invalid = _judged(values, kind)
            if invalid:
                await _list_invalid(pool, kind, invalid, report)
            for start in range(0, len(changes), CHANGES_AT_ONCE):
                await work.take(kind, changes[start : start + CHANGES_AT_ONCE])
    return report


def _kinds(region: str | None) -> Iterator[_Kind]:
    yield _Kind("email", True, normalize.email, "renormalize_emails")
    yield _Kind("phoneNumber", False, lambda value: normalize.phone(value, region), "renormalize_phones")


async def _pages(pool: Pool, scan: str) -> AsyncIterator[list[str]]:
    after = ""
    while values := [row[0] for row in await pool.fetch(sql(scan), after, PAGE_IDENTIFIERS)]:
        yield values
        after = values[-1]


def _judged(values: Iterable[str], kind: _Kind) -> tuple[list[Change], dict[str, str]]:
    """The changes, and the values without a canonical form, each with the rule that it breaks."""
    changes, invalid = [], {}
    for value in values:
        try:
            today = kind.canonical(value)
        except InvalidIdentifier as error:
            invalid[value] = error.message
            continue
        if today is None:
            invalid[value] = f"{kind.name} is blank"
        elif today != value:
            changes.append(Change(value, today))
    return changes, invalid


async def _list_invalid(pool: Pool, kind: _Kind, invalid: dict[str, str], report: Report) -> None:
    carriers = await pool.fetch(sql("renormalize_carriers"), list(invalid), _CONTACTS_LISTED)
    for (value, reason), (_, family, contacts) in zip(invalid.items(), carriers, strict=True):
        report.note(Finding(kind.name, "INVALID", family, contacts, value, reason=reason))


class _Rewrite:
    """Writes changes to the record."""

    def __init__(self, pool: Pool, settings: Settings, report: Report) -> None:
        self._pool = pool
        self._family_limit = settings.family_limit_contacts
        self._report = report
        self._request_id = uuid4()
        """All events of one run carry this id."""

    async def take(self, kind: _Kind, changes: list[Change]) -> None:
        """Make these changes, all or none."""
        olds, news = zip(*changes, strict=True)
        carriers = await self._pool.fetch(sql("renormalize_carriers"), olds, _CONTACTS_LISTED)
        rows = await self._pool.fetch(
            sql("renormalize_identifiers"),
            [kind.is_email] * len(changes),
            olds,
            news,
            self._request_id,
            self._family_limit,
        )
        for change, carrier, (outcome, home, other, retired) in zip(changes, carriers, rows, strict=True):
            self._report.contacts_retired += retired
            self._report.note(
                Finding(kind.name, outcome, home, carrier[2], change.old, canonical=change.new, other=other)
            )


class _Prediction:
    """Predicts outcomes, upon the changes predicted before; writes nothing."""

    def __init__(self, pool: Pool, settings: Settings, report: Report) -> None:
        self._pool = pool
        self._family_limit = settings.family_limit_contacts
        self._report = report
        self._survivors: dict[int, int] = {}
        self._sizes: dict[int, int] = {}
        self._homes: dict[str, int] = {}
        """The family of each canonical value that changes bring."""
        self._canonical = {kind.is_email: kind.canonical for kind in _kinds(settings.phone_region)}
        self._seen: set[int] = set()
        self._pairings: set[tuple[str, str]] = set()
        """The emails and phones that changed contacts will have."""

    async def take(self, kind: _Kind, changes: list[Change]) -> None:
        """Predict the outcomes of these changes."""
        olds, news = zip(*changes, strict=True)
        here = await self._pool.fetch(sql("renormalize_carriers"), olds, _CONTACTS_LISTED)
        there = await self._pool.fetch(sql("renormalize_carriers"), news, 1)
        known = {row[1] for row in (*here, *there)} - self._sizes.keys() - {None}
        for family, _, _, contacts in await self._pool.fetch(sql("import_families"), list(known), self._family_limit):
            self._sizes[family] = contacts
        for change, (_, family, contacts), (_, carrying, _) in zip(changes, here, there, strict=True):
            outcome, home, other = self._outcome(change, family, carrying)
            self._report.note(
                Finding(kind.name, outcome, home, contacts, change.old, canonical=change.new, other=other)
            )
        await self._count_twins(olds)

    async def _count_twins(self, olds: Iterable[str]) -> None:
        """Count the contacts that will have the email and phone of another: all but one of each pairing."""
        pairings = []
        for contact, email, phone in await self._pool.fetch(sql("renormalize_contacts"), list(olds)):
            if contact in self._seen:
                continue
            self._seen.add(contact)
            pairing = (self._today(email, is_email=True), self._today(phone, is_email=False))
            if pairing in self._pairings:
                self._report.contacts_retired += 1
            else:
                self._pairings.add(pairing)
                pairings.append(pairing)
        emails, phones = [email for email, _ in pairings], [phone for _, phone in pairings]
        self._report.contacts_retired += len(await self._pool.fetchval(sql("renormalize_twins"), emails, phones))

    def _today(self, value: str | None, *, is_email: bool) -> str:
        try:
            return "" if value is None else self._canonical[is_email](value) or value
        except InvalidIdentifier:
            return value or ""

    def _outcome(self, change: Change, family: int | None, carrying: int | None) -> tuple[str, int | None, int | None]:
        if family is None:
            return "GONE", None, None
        home = self._survivor(family)
        carrying = self._homes.get(change.new, carrying)
        other = home if carrying is None else self._survivor(carrying)
        if home == other:
            self._homes[change.new] = home
            return "CHANGED", home, None
        if self._sizes[home] + self._sizes[other] > self._family_limit:
            return "REFUSED", home, other
        # The counts do not depend on which of the two survives.
        self._survivors[other] = home
        self._sizes[home] += self._sizes[other]
        self._homes[change.new] = home
        return "MERGED", home, other

    def _survivor(self, family: int) -> int:
        while family in self._survivors:
            family = self._survivors[family]
        return family
