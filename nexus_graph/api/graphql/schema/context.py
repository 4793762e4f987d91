"""What every resolver of one request gets."""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import strawberry

from nexus_graph.config import Settings

if TYPE_CHECKING:  # so that the schema can be exported without a driver
    from nexus_graph.identity.families import Families
    from nexus_graph.identity.feed import Feed
    from nexus_graph.identity.identify import Identify
    from nexus_graph.identity.listing import Listing


@dataclass(frozen=True, slots=True)
class Context:
    """The verbs, the settings, and the id of the request, which the record keeps with its events."""

    identify: "Identify"
    families: "Families"
    listing: "Listing"
    feed: "Feed"
    settings: Settings
    request_id: UUID


ContextInfo = strawberry.Info[Context, None]
