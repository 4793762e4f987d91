"""The table of REST: which routes each version holds, and which of them this process serves (NEXUS_API_VERSIONS).

Paths without a version are those of before there were versions. They answer as v1, and `/products/search` as v1.1; they
say that they will end, when, and what takes their place.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from email.utils import format_datetime
from typing import Final, NamedTuple, Protocol

from nexus_graph.api.http.answer import Header
from nexus_graph.api.http.asgi import Endpoint
from nexus_graph.api.http.followers import Places
from nexus_graph.api.ops import HealthReport, health
from nexus_graph.api.rest import v2
from nexus_graph.api.rest.identify import Identified, IdentifiedSo, Identifiers, IdentifyRoute
from nexus_graph.api.rest.products import FoundProducts, ProductPage, ProductsQuery, ProductsRoute, SearchQuery
from nexus_graph.api.rest.route import RestRoute, announcing, counted, with_options
from nexus_graph.config import Settings
from nexus_graph.store.products import Product

UNVERSIONED: Final = {"/identify": "v1", "/health": "v1", "/products": "v1", "/products/search": "v1.1"}
"""Paths that are served without a version too, each with the version that it answers as."""

_ALWAYS: Final = "/health"
"""Of every process, whatever its versions: probes of load balancers ask for it."""


class Behind(Protocol):
    """Puts the endpoint of a path behind the door."""

    def __call__(self, path: str | None, endpoint: Endpoint) -> Endpoint: ...


class Mounted(NamedTuple):
    """A route as it is served: behind the door, under its whole path."""

    path: str
    endpoint: Endpoint
    route: RestRoute
    methods: tuple[str, ...]


def table(settings: Settings, places: Places | None = None) -> dict[str, tuple[RestRoute, ...]]:
    """All versions with their routes, served or not. `places` bounds how many clients follow at once; None: those of
    this table alone.
    """
    products = ProductsRoute(settings)
    of_all = (
        RestRoute("GET", "/health", health, HealthReport),
        RestRoute("GET", "/products", products.page, ProductPage, query=ProductsQuery),
    )
    one = RestRoute("GET", "/products/{productId}", products.product, Product)
    search = RestRoute("GET", "/products/search", products.search, FoundProducts, query=SearchQuery)
    return {
        "v1": (_identify(IdentifyRoute(settings), Identified), *of_all, one),
        "v1.1": (_identify(IdentifyRoute(settings, says_outcome=True), IdentifiedSo), *of_all, search, one),
        "v2": (*v2.routes(settings, places or Places(settings.sockets_max)), *of_all, search, one),
    }


def mounted(settings: Settings, behind: Behind, places: Places) -> Iterator[Mounted]:
    """The routes that this process serves. Raises KeyError for a route without a right."""
    every = table(settings, places)
    versions = {name: routes for name, routes in every.items() if name in settings.api_versions}
    for version, routes in versions.items():
        for route in routes:
            endpoint = counted(version, route.endpoint)
            methods: tuple[str, ...] = (route.method,)
            if version == "v2":  # of older versions, clients were told that they have no OPTIONS
                endpoint, methods = with_options(route.method, endpoint)
            yield Mounted(f"/{version}{route.path}", behind(route.path, endpoint), route, methods)
    newest = {route.path: f"/{version}{route.path}" for version, routes in versions.items() for route in routes}
    for path, version in UNVERSIONED.items():
        routes = versions.get(version, ()) or (every[version] if path == _ALWAYS else ())
        for route in routes:
            if route.path == path:
                endpoint = behind(path, counted("unversioned", route.endpoint))
                yield Mounted(path, announcing(end_of(settings, newest.get(path)), endpoint), route, (route.method,))


def end_of(settings: Settings, successor: str | None) -> tuple[Header, ...]:
    """The headers that announce a path's end (RFC 9745, RFC 8594) and the path that takes its place."""
    since, until = _midnight(settings.unversioned_deprecated_on), _midnight(settings.unversioned_sunset_on)
    headers = ((b"deprecation", b"@%d" % since.timestamp()), (b"sunset", format_datetime(until, usegmt=True).encode()))
    if successor is None:
        return headers
    return *headers, (b"link", f'<{successor}>; rel="successor-version"'.encode())


def _identify(identify: IdentifyRoute, answer: type) -> RestRoute:
    return RestRoute("POST", "/identify", identify.answer, answer, body=Identifiers, is_direct=True)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
