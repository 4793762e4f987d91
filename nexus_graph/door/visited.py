"""The verbs of identity as one visit may use them: families in sight only, masked where they must be, all remembered.

Where the door stands open, callers use the verbs themselves.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from nexus_graph.door.audit import Outcome, What
from nexus_graph.door.masking import masked_contact, masked_family
from nexus_graph.door.permissions import Permission
from nexus_graph.door.visit import Visit
from nexus_graph.identity.families import Families
from nexus_graph.identity.feed import Feed
from nexus_graph.identity.identify import Identify
from nexus_graph.identity.listing import Listing
from nexus_graph.identity.opening import Identity
from nexus_graph.identity.ordered import Decided, Key, Once, Ordered
from nexus_graph.model import (
    ContactFilter,
    ContactPlace,
    Family,
    FamilyKey,
    Identification,
    IdentifyRequest,
    IdentityEvent,
    ListedContact,
    Source,
)
from nexus_graph.model import (
    Outcome as Identified,
)


def visited(identity: Identity, visit: Visit) -> "Identity | VisitedIdentity":
    """The verbs for this visit."""
    if visit.is_open:
        return identity
    families = VisitedFamilies(identity.families, visit)
    listing = VisitedListing(identity.listing, visit)
    return VisitedIdentity(
        VisitedIdentify(identity.identify, visit),
        families,
        listing,
        VisitedFeed(identity.feed, families, visit),
    )


def visited_ordered(identity: Identity, visit: Visit) -> "Ordered | VisitedOrdered":
    """Lists of identify calls for this visit."""
    return identity.ordered if visit.is_open else VisitedOrdered(identity.ordered, visit)


def visited_identify(identity: Identity, visit: Visit) -> "Identify | VisitedIdentify":
    """Only identify, for a caller that needs no other verb: as `visited`, for less."""
    return identity.identify if visit.is_open else VisitedIdentify(identity.identify, visit)


class VisitedIdentify:
    """identify, by a caller that has the right to it."""

    def __init__(self, identify: Identify, visit: Visit) -> None:
        self._identify = identify
        self._visit = visit

    async def __call__(self, request: IdentifyRequest) -> Identification:
        """As `Identify`. A service may read the family by id from now on."""
        try:
            found = await self._identify(request)
        except Exception as error:
            self._visit.note_failure(What.IDENTIFY, error)
            raise
        self._visit.identified(found.family.id, changed=found.outcome is not Identified.MATCHED)
        return found


class VisitedOrdered:
    """Lists of identify calls, by a caller that has the right to it. Each request counts as one operation."""

    def __init__(self, ordered: Ordered, visit: Visit) -> None:
        self._ordered = ordered
        self._visit = visit

    async def in_order(self, requests: Sequence[IdentifyRequest]) -> list[Decided]:
        """As `Ordered.in_order`. Raises RateLimited before anything is decided."""
        await self._visit.charge(len(requests) - 1)
        answers = await self._ordered.in_order(requests)
        self._remember(answers)
        return answers

    async def once(self, key: Key, requests: Sequence[IdentifyRequest]) -> Once:
        """As `Ordered.once`. Raises RateLimited before anything is decided."""
        await self._visit.charge(len(requests) - 1)
        found = await self._ordered.once(key, requests)
        self._remember(found.answers)
        return found

    def _remember(self, answers: Sequence[Decided]) -> None:
        for answer in answers:
            if isinstance(answer, Identification):
                self._visit.identified(answer.family.id, changed=answer.outcome is not Identified.MATCHED)


class VisitedFamilies:
    """Family reads. A family out of sight is answered as one that does not exist, after the same work."""

    def __init__(self, families: Families, visit: Visit) -> None:
        self._families = families
        self._visit = visit
        self.reach = families.reach

    async def family(
        self, key: FamilyKey, *, at_least: int | None = None, source: Source | None = None
    ) -> Family | None:
        """As `Families.family`. Raises RateLimited past the quota of families."""
        try:
            family = await self._families.family(key, at_least=at_least, source=source)
            return await self.shown(key, family)
        except Exception as error:
            self._visit.note_failure(_read_by(key), error)
            raise

    async def shown(self, key: FamilyKey, family: Family | None) -> Family | None:
        """What the caller may see of a family that was read by this key."""
        what = _read_by(key)
        if key.kind == "contact":
            asked = int(key.value) if family is None else family.id
            if asked not in await self._visit.in_sight([asked]):
                family = None
        if family is None:
            self._visit.note(what, Outcome.ABSENT)
            return None
        await self._visit.count_families([family.id], what)
        self._visit.note(what, Outcome.ANSWERED, [family.id])
        return family.serialised_by(masked_family, family) if self._visit.sees_masked else family


class VisitedListing:
    """Lists. Those of all families are for callers who may read all; a service reads those of families in its sight."""

    def __init__(self, listing: Listing, visit: Visit) -> None:
        self._listing = listing
        self._visit = visit

    async def contacts(self, wanted: ContactFilter, *, after: ContactPlace | None, limit: int) -> list[ListedContact]:
        """As `Listing.contacts`. Raises Forbidden; RateLimited past the quota of families."""
        self._require(wanted)
        try:
            found = await self._listing.contacts(wanted, after=after, limit=limit)
            family_ids = {one.family_id for one in found}
            await self._visit.count_families(family_ids, What.LIST)
        except Exception as error:
            self._visit.note_failure(What.LIST, error)
            raise
        self._visit.note(What.LIST, Outcome.ANSWERED, family_ids)
        if self._visit.sees_masked:
            return [replace(one, contact=masked_contact(one.contact)) for one in found]
        return found

    async def count_contacts(self, wanted: ContactFilter) -> int | None:
        """As `Listing.count_contacts`. Raises Forbidden."""
        self._require(wanted)
        return await self._listing.count_contacts(wanted)

    async def events(
        self, family_id: int | None, *, after: int, limit: int, at_least: int | None = None
    ) -> list[IdentityEvent]:
        """As `Listing.events`. Raises Forbidden."""
        try:
            if not await self._is_shown(family_id):
                self._visit.note(What.EVENTS, Outcome.ABSENT)
                return []
            found = await self._listing.events(family_id, after=after, limit=limit, at_least=at_least)
        except Exception as error:
            self._visit.note_failure(What.EVENTS, error)
            raise
        self._visit.note(What.EVENTS, Outcome.ANSWERED, () if family_id is None else (family_id,))
        return found

    async def count_events(self, family_id: int | None) -> int | None:
        """As `Listing.count_events`. Raises Forbidden."""
        return await self._listing.count_events(family_id) if await self._is_shown(family_id) else 0

    async def events_at(self, sequences: Sequence[int]) -> dict[int, IdentityEvent]:
        """As `Listing.events_at`, without events of families out of sight."""
        try:
            found = await self._listing.events_at(sequences)
            seen = await self._visit.in_sight({event.family_id for event in found.values()})
        except Exception as error:
            self._visit.note_failure(What.EVENTS, error)
            raise
        self._visit.note(What.EVENTS, Outcome.ANSWERED, seen)
        return {sequence: event for sequence, event in found.items() if event.family_id in seen}

    def _require(self, wanted: ContactFilter) -> None:
        self._visit.require(Permission.READ_ALL, What.LIST)
        if wanted.email_prefix is not None or wanted.phone_prefix is not None:
            self._visit.require(Permission.UNMASKED, What.LIST)

    async def _is_shown(self, family_id: int | None) -> bool:
        if family_id is None:
            self._visit.require(Permission.READ_ALL, What.EVENTS)
            return True
        return family_id in await self._visit.in_sight([family_id])


class VisitedFeed:
    """What is followed. Each event that is delivered counts as one operation."""

    def __init__(self, feed: Feed, families: VisitedFamilies, visit: Visit) -> None:
        self._feed = feed
        self._families = families
        self._visit = visit

    async def events(self, after: int | None) -> AsyncGenerator[Sequence[IdentityEvent], None]:
        """As `Feed.events`. Raises Forbidden, RateLimited."""
        self._visit.require(Permission.READ_ALL, What.SUBSCRIBE)
        self._visit.note(What.SUBSCRIBE, Outcome.ANSWERED)
        async with aclosing(self._feed.events(after)) as batches:
            async for batch in batches:
                told = 0
                while told < len(batch):
                    part = self._visit.affordable(len(batch) - told)
                    await self._visit.charge(part)
                    yield batch[told : told + part]
                    told += part

    async def family(self, contact_id: int) -> AsyncGenerator[Family | None, None]:
        """As `Feed.family`. Raises RateLimited."""
        key = FamilyKey("contact", contact_id)
        self._visit.note(What.SUBSCRIBE, Outcome.ANSWERED)
        told_absent = False
        async with aclosing(self._feed.family(contact_id)) as families:
            async for family in families:
                shown = await self._families.shown(key, family)
                if shown is None and told_absent:
                    continue  # a change of a family out of sight
                told_absent = shown is None
                await self._visit.charge(1)
                yield shown


def _read_by(key: FamilyKey) -> What:
    return What.FAMILY if key.kind == "contact" else What.FAMILY_BY_IDENTIFIER


@dataclass(frozen=True, slots=True)
class VisitedIdentity:
    """The verbs, in the place of `Identity`."""

    identify: VisitedIdentify
    families: VisitedFamilies
    listing: VisitedListing
    feed: VisitedFeed
