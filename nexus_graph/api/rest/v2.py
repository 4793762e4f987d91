"""The routes of v2."""

from nexus_graph.api.http.followers import Places
from nexus_graph.api.rest import shapes
from nexus_graph.api.rest.contacts import ContactsRoute
from nexus_graph.api.rest.decisions import BATCH_MAX_BYTES, Decisions
from nexus_graph.api.rest.events import EventRoutes
from nexus_graph.api.rest.families import FamilyRoutes
from nexus_graph.api.rest.route import RestRoute
from nexus_graph.config import Settings


def routes(settings: Settings, places: Places) -> tuple[RestRoute, ...]:
    """All of them. `places` bounds how many clients follow at once."""
    decisions, families, events = Decisions(settings), FamilyRoutes(settings), EventRoutes(settings, places)
    return (
        RestRoute("POST", "/identify", decisions.identify, shapes.Identified, body=shapes.IdentifyBody, is_direct=True),
        RestRoute(
            "POST",
            "/identify/batch",
            decisions.batch,
            shapes.BatchAnswer,
            body=shapes.BatchBody,
            body_max_bytes=BATCH_MAX_BYTES,
        ),
        RestRoute("GET", "/families", families.found, shapes.Family, query=shapes.FamilyQuery),
        RestRoute("GET", "/families/{contactId}", families.family, shapes.Family, query=shapes.AtLeast),
        RestRoute("GET", "/contacts", ContactsRoute(settings).answer, shapes.ContactPage, query=shapes.ContactsQuery),
        RestRoute("GET", "/contacts/{id}", families.contact, shapes.Contact, query=shapes.AtLeast),
        RestRoute("GET", "/events", events.page, shapes.EventPage, query=shapes.EventsQuery),
        RestRoute("GET", "/events/stream", events.stream, shapes.Event, query=shapes.StreamQuery),
    )
