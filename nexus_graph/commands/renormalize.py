"""`nexus-graph renormalize`: its report; identifiers only in the CSV list that the operator requests."""

import asyncio
import csv
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Final

import msgspec

from nexus_graph.bulk.import_file import import_pool
from nexus_graph.bulk.renormalize import Finding, Report, renormalize
from nexus_graph.config import Settings
from nexus_graph.errors import NexusError
from nexus_graph.failures import CANNOT_GO_ON, say

_COLUMNS: Final = ("field", "finding", "family_id", "other_family_id", "contact_ids", "reason", "value", "canonical")


def run(settings: Settings, *, dry_run: bool, list_to: Path | None, as_json: bool) -> int:
    """Print the report. Returns 0, or 1 if interrupted. Raises UnwritableList, and what `renormalize` raises."""

    async def work(on_finding: Callable[[Finding], None]) -> Report:
        async with import_pool(settings) as pool:
            return await renormalize(pool, settings, dry_run=dry_run, on_finding=on_finding)

    try:
        with _listing(list_to) as on_finding:
            report = asyncio.run(work(on_finding))
    except KeyboardInterrupt:
        say("interrupted; run the command again to finish: changes so far are kept")
        return CANNOT_GO_ON
    sys.stdout.write((_as_json(report) if as_json else _as_text(report)) + "\n")
    return 0


class UnwritableList(NexusError):
    """The list of findings cannot be written."""


@contextmanager
def _listing(file: Path | None) -> Iterator[Callable[[Finding], None]]:
    """Writes findings, with their values, to a CSV file that only its owner may read. Raises UnwritableList."""
    if file is None:
        yield lambda _: None
        return
    with _unwritable():
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    stream = os.fdopen(descriptor, "w", buffering=1, newline="", encoding="utf-8")
    writer = csv.writer(stream)

    def write(found: Finding) -> None:
        contacts = " ".join(map(str, found.contacts))
        ids = (found.family, found.other, contacts)
        with _unwritable():
            writer.writerow((found.field, found.outcome, *ids, found.reason, found.value, found.canonical))

    try:
        with _unwritable():
            writer.writerow(_COLUMNS)
        yield write
    finally:
        with _unwritable():
            stream.close()


@contextmanager
def _unwritable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnwritableList(f"the list cannot be written: {error.strerror}") from None


def _as_json(report: Report) -> str:
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


def _as_text(report: Report) -> str:
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
