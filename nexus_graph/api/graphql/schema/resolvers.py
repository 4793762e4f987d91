"""Queries, mutations and subscriptions: read the arguments, call the verb, map its answer."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Annotated

import strawberry
from msgspec import structs

from nexus_graph import model
from nexus_graph.api import cursors
from nexus_graph.api.graphql.schema.connections import PAGE_DEFAULT, After, First
from nexus_graph.api.graphql.schema.declaration import Context, ContextInfo, Node, described, followed
from nexus_graph.api.graphql.schema.events import IdentityEvent, IdentityEventConnection, events_page
from nexus_graph.api.graphql.schema.lists import Filter, ListedContactConnection, contacts_page
from nexus_graph.api.graphql.schema.scalars import BigInt
from nexus_graph.api.graphql.schema.types import (
    Contact,
    ContactFamily,
    FamilyLookup,
    FamilySource,
    IdentifyInput,
    IdentifyResult,
    IdentifySuccess,
    InvalidIdentifierError,
    LinkPrecedence,
    RateLimit,
    TemporarilyUnavailableError,
    UserErrorCode,
)
from nexus_graph.door.audit import What
from nexus_graph.errors import InvalidIdentifier, PageTooLarge, RowRejected, Unavailable
from nexus_graph.identifiers import normalize
from nexus_graph.model import Family, FamilyKey, Source

By = Annotated[FamilyLookup, strawberry.argument(description="What is known of the family.")]
AtLeast = Annotated[
    BigInt | None,
    strawberry.argument(
        description="Answer no older than this version, as a write returned it: read your own write. The version of "
        "another family will do as well: the answer is then no older than that event. A version past every event is "
        "refused at once, with `VERSION_UNKNOWN` in `extensions.code` and the newest in `extensions.newestVersion`."
    ),
]
FromSource = Annotated[
    FamilySource | None,
    strawberry.argument(description="Insist on this store. By default the graph answers, or the record if it is late."),
]
Identifiers = Annotated[IdentifyInput, strawberry.argument(description="The identifiers, at least one.")]
GlobalId = Annotated[strawberry.ID, strawberry.argument(description="A global id.")]
GlobalIds = Annotated[list[strawberry.ID], strawberry.argument(description="Global ids.")]
EventsOf = Annotated[
    strawberry.ID | None,
    strawberry.argument(description="Only those of this contact's family: its global id, or its number in the record."),
]
AfterSequence = Annotated[
    BigInt | None,
    strawberry.argument(description="Only events past this sequence, however long ago; without it, from now on."),
]
Followed = Annotated[
    strawberry.ID,
    strawberry.argument(description="A contact of the family: its global id, or its number in the record."),
]
ContactId = Annotated[
    strawberry.ID, strawberry.argument(description="The contact's global id, or its number in the record.")
]


@strawberry.type(description="Reading.")
class Query:
    @described("The family that an identifier or a contact belongs to; null if there is none.")
    async def contact_family(
        self, info: ContextInfo, by: By, at_least: AtLeast = None, source: FromSource = None
    ) -> ContactFamily | None:
        family = await info.context.identity.families.family(
            _key(by, info.context.settings.phone_region),
            at_least=at_least,
            source=None if source is None else Source[source.name],
        )
        return None if family is None else ContactFamily(family=family, at_least=at_least)

    @described("A contact; null if there is none.")
    async def contact(
        self,
        info: ContextInfo,
        id: ContactId,  # noqa: A002 - the field's name
        at_least: AtLeast = None,
    ) -> Contact | None:
        contact_id = cursors.contact_id(id, field="id")
        family = await info.context.identity.families.family(FamilyKey("contact", contact_id), at_least=at_least)
        return None if family is None else _contact_of(family, contact_id, at_least)

    @described(
        "The object that has this global id; null if there is none. A family's id that was merged away still names an "
        "object: the family that took it in, under the id that was asked for."
    )
    async def node(
        self,
        info: ContextInfo,
        id: GlobalId,  # noqa: A002 - the field's name
        at_least: AtLeast = None,
    ) -> Node | None:
        (found,) = await objects_of(info.context, [cursors.decode_id(id, field="id")], at_least)
        return found

    @described(
        "The objects that have these global ids, in their order, as `node` gives them; null where there is none. "
        "At most a page of them."
    )
    async def nodes(self, info: ContextInfo, ids: GlobalIds, at_least: AtLeast = None) -> list[Node | None]:
        if len(ids) > info.context.settings.page_max:
            raise PageTooLarge(f"ids must be at most {info.context.settings.page_max}", field="ids")
        return await objects_of(info.context, [cursors.decode_id(text, field="ids") for text in ids], at_least)

    @described("Contacts, by what an identifier begins with or by time, page by page.")
    async def contacts(
        self,
        info: ContextInfo,
        filter: Filter = None,  # noqa: A002 - the argument's name
        first: First = PAGE_DEFAULT,
        after: After = None,
    ) -> ListedContactConnection:
        return await contacts_page(info.context, filter, first, after)

    @described("What is left of the caller's rate limit; null where calls are not limited.")
    def rate_limit(self, info: ContextInfo) -> RateLimit | None:
        standing = info.context.visit.standing
        return None if standing is None else RateLimit(standing=standing)

    @described("What happened, the oldest first: to everybody, or to the family of one contact.")
    async def identity_events(
        self, info: ContextInfo, contact_id: EventsOf = None, first: First = PAGE_DEFAULT, after: After = None
    ) -> IdentityEventConnection:
        family_id = None
        if contact_id is not None:
            asked = cursors.contact_id(contact_id, field="contactId")
            family = await info.context.identity.families.family(FamilyKey("contact", asked), source=Source.RECORD)
            family_id = asked if family is None else family.id
        return await events_page(info.context, family_id, first, after)


@strawberry.type(description="Writing.")
class Mutation:
    @described(
        "Who is this? Finds the family of the identifiers, or starts one; ties what the request ties. "
        "The same request again changes nothing."
    )
    async def identify(
        self,
        info: ContextInfo,
        input: Identifiers,  # noqa: A002 - the argument's name
    ) -> IdentifyResult:
        context = info.context
        try:
            request = normalize.identify_request(
                _given(input.email),
                _given(input.phone_number),
                region=context.settings.phone_region,
                request_id=context.request_id,
            )
            return IdentifySuccess(
                identification=await context.identity.identify(request), parts_dropped=request.dropped
            )
        except Unavailable as error:
            return TemporarilyUnavailableError(
                code=UserErrorCode[error.code],
                message=error.message,
                field=None,
                retry_after_seconds=error.retry_after_seconds or 0,
            )
        except (InvalidIdentifier, RowRejected) as error:
            if isinstance(error, InvalidIdentifier):  # the verb did not begin, which notes its own failures
                context.visit.note_failure(What.IDENTIFY, error)
            return InvalidIdentifierError(code=UserErrorCode[error.code], message=error.message, field=error.field)


@strawberry.type(description="Following.")
class Subscription:
    @followed(
        "Every event as it is committed, in order and without a gap. To go on after an interruption, give the sequence "
        "of the last one as `after`."
    )
    async def identity_events(
        self, info: ContextInfo, after: AfterSequence = None
    ) -> AsyncGenerator[IdentityEvent, None]:
        async with aclosing(info.context.identity.feed.events(after)) as batches:
            async for batch in batches:
                for event in batch:
                    yield IdentityEvent(event=event)

    @followed(
        "The family of a contact: at once, and again after each change. Changes that come together are told together. "
        "null, once, when the contact leads to no family: the family is gone, or the contact was deleted and had never "
        "led it. A deleted contact that once led a family leads on to it."
    )
    async def family_changed(
        self, info: ContextInfo, contact_id: Followed
    ) -> AsyncGenerator[ContactFamily | None, None]:
        wanted = cursors.contact_id(contact_id, field="contactId")
        async with aclosing(info.context.identity.feed.family(wanted)) as families:
            async for family in families:
                yield None if family is None else ContactFamily(family=family)


async def objects_of(
    context: Context, wanted: Sequence[cursors.GlobalId], at_least: int | None = None
) -> list[Node | None]:
    """The objects that have these global ids, None where there is none. Raises VersionUnknown, Unavailable."""
    sequences = [one.database_id for one in wanted if one.type_name == cursors.EVENT]
    if sequences and at_least is not None:
        await context.identity.families.reach(at_least)
    events = await context.identity.listing.events_at(sequences) if sequences else {}
    ids = list(dict.fromkeys(one.database_id for one in wanted if one.type_name != cursors.EVENT))
    keys = (FamilyKey("contact", one) for one in ids)
    found = await asyncio.gather(*(context.identity.families.family(key, at_least=at_least) for key in keys))
    families = dict(zip(ids, found, strict=True))
    return [_object_of(one, events, families, at_least) for one in wanted]


def _object_of(
    wanted: cursors.GlobalId,
    events: Mapping[int, model.IdentityEvent],
    families: Mapping[int, Family | None],
    at_least: int | None,
) -> Node | None:
    if wanted.type_name == cursors.EVENT:
        event = events.get(wanted.database_id)
        return None if event is None else IdentityEvent(event=event)
    family = families[wanted.database_id]
    if family is None:
        return None
    if wanted.type_name == cursors.CONTACT:
        return _contact_of(family, wanted.database_id, at_least)
    if family.id == wanted.database_id:
        return ContactFamily(family=family, at_least=at_least)
    # A copy: the family memoises its encoded answers, and this one has another id.
    return ContactFamily(family=structs.replace(family), at_least=at_least, former_id=wanted.database_id)


def _given(value: object) -> object:
    return None if value is strawberry.UNSET else value


def _key(by: FamilyLookup, region: str | None) -> FamilyKey:
    if _given(by.contact_id) is not None:
        return FamilyKey("contact", cursors.contact_id(str(by.contact_id), field="contactId"))
    if by.email is not strawberry.UNSET:
        email = normalize.email(by.email)
        if email is None:
            raise InvalidIdentifier("email must not be blank", field="email")
        return FamilyKey("email", email)
    phone = normalize.phone(by.phone_number, region)
    if phone is None:
        raise InvalidIdentifier("phoneNumber must not be blank", field="phoneNumber")
    return FamilyKey("phone", phone)


def _contact_of(family: Family, contact_id: int, at_least: int | None) -> Contact | None:
    for contact in family.contacts:
        if contact.id == contact_id:
            precedence = LinkPrecedence.PRIMARY if contact is family.primary else LinkPrecedence.SECONDARY
            return Contact(contact=contact, precedence=precedence, at_least=at_least)
    return None
