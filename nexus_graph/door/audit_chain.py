"""The chain of the audit trail: what the hash of an entry covers, and a walk that finds what was tampered with.

PostgreSQL computes the hashes when entries are stored (`0009_audit_log.sql`); this module computes them from what is
stored, and shares no code with it.

Who owns the database can write a whole chain anew, and every check inside of the database then passes. A head that is
kept elsewhere (`NEXUS_AUDIT_HEAD_FILE`, the output of `audit verify`, the metrics) shows it.
"""

import os
import re
from collections.abc import AsyncIterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from fcntl import LOCK_EX, flock
from hashlib import sha256
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple
from uuid import UUID

FINDINGS_MAX: Final = 100
"""Findings that a report holds; further ones are counted. One hole needs one line, so more lines help nobody."""

RETAINED: Final = "audit-retain"
"""What the entry of a retention says; its amount is the last entry that was dropped."""

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_DIGEST_BYTES: Final = 6
"""Of a hash, as many as a metric's float64 shows exactly."""

# Numbers of PostgreSQL's types.
_BIGINT, _TEXT, _MOMENT, _UUID, _BIGINTS = 20, 25, 1184, 2950, 1016
_FIELDS: Final = Struct(">i").pack(10)
_INTEGER: Final = Struct(">iiq")
_LENGTH: Final = Struct(">ii")
_ARRAY: Final = Struct(">iiiii")
_ITEM: Final = Struct(">iq")
_NO_ITEMS: Final = _LENGTH.pack(_BIGINTS, 12) + Struct(">iii").pack(0, 0, _BIGINT)


class StoredEntry(NamedTuple):
    """A row of audit_log."""

    seq: int
    stored_at: datetime
    at: datetime
    who: str
    what: str
    outcome: str
    subject: str | None
    request_id: UUID | None
    family_ids: Sequence[int]
    amount: int | None
    hash: bytes


class Head(NamedTuple):
    """The chain up to and including an entry."""

    seq: int
    hash: bytes

    @property
    def digest(self) -> int:
        """The first 48 bits of the hash: a number that a metric shows exactly."""
        return int.from_bytes(self.hash[:_DIGEST_BYTES])


class Fault(StrEnum):
    """The kind of a finding, and its sentence."""

    CHANGED = "changed, or the entry before is: the hash does not follow"
    MISSING = "missing"
    MISPLACED = "there a second time, or moved to another place"
    CUT = "missing at the end of the chain"
    FORGED = "past the head of the chain: appended by no process"
    HEAD_DIFFERS = "the head of the chain has another hash"
    HEAD_MISSING = "the head of the chain is missing"
    FILE_AHEAD = "known to the head file, gone from the chain"
    FILE_DIFFERS = "the head file has another hash: the chain was written anew"
    FILE_OLD = "the head file ends here, and a retention dropped the entry: the file proves nothing"
    FILE_UNREADABLE = "the head file is missing or holds no head"
    STUB_ALONE = "the chain was cut here, and no entry tells of a retention"


class Finding(NamedTuple):
    """What was tampered with: a fault of these entries, from the first to the last; 0, 0 for a fault of no entry."""

    fault: Fault
    first: int
    last: int

    def line(self) -> str:
        """For people."""
        if not self.last:
            return self.fault.value
        one = self.first == self.last
        return (
            f"entry {self.first:,}: {self.fault}" if one else f"entries {self.first:,} to {self.last:,}: {self.fault}"
        )


def canonical(entry: StoredEntry) -> bytes:
    """What the hash covers of the entry itself: its fields in PostgreSQL's binary format of a row.

    That is the number of fields, and of each its type, its length (-1: null) and its bytes; moments in microseconds.
    Equal bytes mean equal entries.
    """
    return b"".join((
        _FIELDS,
        _INTEGER.pack(_BIGINT, 8, entry.seq),
        _INTEGER.pack(_MOMENT, 8, (entry.stored_at - _EPOCH) // _MICROSECOND),
        _INTEGER.pack(_MOMENT, 8, (entry.at - _EPOCH) // _MICROSECOND),
        _sized(_TEXT, entry.who.encode()),
        _sized(_TEXT, entry.what.encode()),
        _sized(_TEXT, entry.outcome.encode()),
        _sized(_TEXT, None if entry.subject is None else entry.subject.encode()),
        _sized(_UUID, None if entry.request_id is None else entry.request_id.bytes),
        _integers(entry.family_ids),
        _sized(_BIGINT, None) if entry.amount is None else _INTEGER.pack(_BIGINT, 8, entry.amount),
    ))  # fmt: skip


def linked(link: bytes, entry: StoredEntry) -> bytes:
    """The hash that the entry must have after the one whose hash is `link`."""
    return sha256(link + canonical(entry)).digest()


def _sized(kind: int, value: bytes | None) -> bytes:
    return _LENGTH.pack(kind, -1) if value is None else _LENGTH.pack(kind, len(value)) + value


def _integers(values: Sequence[int]) -> bytes:
    """Of an array: its dimensions, nulls, type, length and lower bound, then each value with its length."""
    if not values:
        return _NO_ITEMS
    head = _LENGTH.pack(_BIGINTS, _ARRAY.size + _ITEM.size * len(values)) + _ARRAY.pack(1, 0, _BIGINT, len(values), 1)
    return head + b"".join([_ITEM.pack(8, value) for value in values])


@dataclass
class Report:
    """What a walk found."""

    head: Head
    """The last entry that was met."""
    entries: int = 0
    faults: int = 0
    findings: list[Finding] = field(default_factory=list)
    """The first ones, at most FINDINGS_MAX."""

    def add(self, fault: Fault, first: int = 0, last: int | None = None) -> None:
        """Add a finding. A fault that goes on extends the one before."""
        last = first if last is None else last
        newest = self.findings[-1] if self.findings else None
        if newest is not None and newest.fault is fault and newest.last + 1 == first and self.faults <= FINDINGS_MAX:
            self.findings[-1] = newest._replace(last=last)
            return
        self.faults += 1
        if self.faults <= FINDINGS_MAX:
            self.findings.append(Finding(fault, first, last))

    def lines(self) -> list[str]:
        """For people: the findings, then the head to keep."""
        more = [f"and {self.faults - len(self.findings):,} more"] if self.faults > len(self.findings) else []
        said = "faults" if self.faults != 1 else "fault"
        return [
            *(finding.line() for finding in self.findings),
            *more,
            f"{self.entries:,} entries verified, {self.faults:,} {said}",
            f"head: {self.head.seq} {self.head.hash.hex()}",
        ]

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {
            "entries": self.entries,
            "faults": self.faults,
            "findings": [{"fault": each.fault.name, "first": each.first, "last": each.last} for each in self.findings],
            "head": {"sequence": self.head.seq, "hash": self.head.hash.hex(), "digest": self.head.digest},
        }


class Walk:
    """A walk along the chain, entry after entry. It holds one hash, however long the chain is."""

    def __init__(self, stubs: Sequence[Head], kept: Head | None = None) -> None:
        """`stubs`: where the chain begins, and where retentions cut it, the newest first. `kept`: a head that was kept
        elsewhere.
        """
        self._stub = stubs[0] if stubs else Head(0, b"")
        self._kept = kept
        self._told = self._stub.seq == 0
        """An entry tells of the retention that left the newest stub. The first stub is the chain's beginning."""
        self.report = Report(self._stub)
        self._compare_stubs(stubs)

    def take(self, entry: StoredEntry) -> None:
        """The next entry, in the order of (stored_at, seq)."""
        self.report.entries += 1
        before = self.report.head
        if entry.seq <= before.seq:
            self.report.add(Fault.MISPLACED, entry.seq)
            return
        if entry.seq > before.seq + 1:
            self.report.add(Fault.MISSING, before.seq + 1, entry.seq - 1)
        elif linked(before.hash, entry) != entry.hash:
            self.report.add(Fault.CHANGED, entry.seq)
        # The walk goes on from the stored hash: one fault is one finding.
        self.report.head = Head(entry.seq, entry.hash)
        if self._kept is not None and entry.seq == self._kept.seq and entry.hash != self._kept.hash:
            self.report.add(Fault.FILE_DIFFERS, entry.seq)
        if entry.what == RETAINED and entry.amount == self._stub.seq:
            self._told = True

    def end(self, head: Head | None) -> Report:
        """The report, after the last entry; `head` is what the chain's own head says, None if there is none."""
        report, last = self.report, self.report.head
        if head is None:
            report.add(Fault.HEAD_MISSING)
        elif last.seq < head.seq:
            report.add(Fault.CUT, last.seq + 1, head.seq)
        elif last.seq > head.seq:
            report.add(Fault.FORGED, head.seq + 1, last.seq)
        elif last.hash != head.hash:
            report.add(Fault.HEAD_DIFFERS, last.seq)
        if self._kept is not None and self._kept.seq > last.seq:
            report.add(Fault.FILE_AHEAD, last.seq + 1, self._kept.seq)
        if not self._told:
            report.add(Fault.STUB_ALONE, self._stub.seq)
        return report

    def _compare_stubs(self, stubs: Sequence[Head]) -> None:
        if self._kept is None or self._kept.seq > self._stub.seq:
            return
        known = next((stub for stub in stubs if stub.seq == self._kept.seq), None)
        if known is None:
            self.report.add(Fault.FILE_OLD, self._kept.seq)
        elif known.hash != self._kept.hash:
            self.report.add(Fault.FILE_DIFFERS, self._kept.seq)


async def walked(walk: Walk, entries: AsyncIterable[StoredEntry]) -> None:
    """Take all entries."""
    async for entry in entries:
        walk.take(entry)


_is_head: Final = re.compile(r"(\d{1,19}) ([0-9a-f]{64})\n?", re.ASCII).fullmatch


def read_head(path: Path) -> Head | None:
    """The head that a file keeps; None if it holds none. Raises OSError."""
    found = _is_head(path.read_text(encoding="ascii", errors="replace"))
    return None if found is None else Head(int(found[1]), bytes.fromhex(found[2]))


def keep_head(path: Path, head: Head) -> None:
    """Write the head to a file, unless the file keeps a newer one. Raises OSError.

    The file is replaced as a whole, and is on the disk when this returns. Processes that keep one file take turns.
    """
    with (path.parent / f"{path.name}.lock").open("w") as lock:
        flock(lock, LOCK_EX)
        with suppress(FileNotFoundError):
            known = read_head(path)
            if known is not None and known.seq >= head.seq:
                return
        new = path.parent / f"{path.name}.new"
        with new.open("w", encoding="ascii") as file:
            file.write(f"{head.seq} {head.hash.hex()}\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
