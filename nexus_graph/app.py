"""The composition root: opens the resources, mounts the APIs, serves them."""

import asyncio
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from itertools import count
from types import FrameType
from typing import Any, Final, NamedTuple, cast

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp

from nexus_graph.api.front import front
from nexus_graph.api.graphql.engine import Answering, UnusableManifest
from nexus_graph.api.graphql.schema import schema
from nexus_graph.api.graphql.transport import GraphQLRoute, GraphQLSockets, asset
from nexus_graph.api.guard import NOWHERE, RIGHTS, guarded, nowhere
from nexus_graph.api.http.asgi import AsgiEndpoint, Endpoint, RequestMiddleware
from nexus_graph.api.http.connections import LOOK_TICKS, Connection, Connections
from nexus_graph.api.http.cors import Cors
from nexus_graph.api.http.direct import DirectProtocol, DirectRoutes
from nexus_graph.api.http.followers import Places
from nexus_graph.api.http.internals import differences
from nexus_graph.api.http.listening import BACKLOG
from nexus_graph.api.http.protocol import HttpProtocol
from nexus_graph.api.http.tls import Certificate, UnusableCertificate
from nexus_graph.api.http.write_buffers import SocketProtocol, WriteBuffers
from nexus_graph.api.neo4j_browser.serving import browser_file
from nexus_graph.api.ops import (
    MIGRATIONS,
    OUTBOX,
    RECORD,
    Check,
    Health,
    Migrated,
    livez,
    metrics,
    readyz,
)
from nexus_graph.api.rest.versions import Mounted, mounted
from nexus_graph.cache.shared import open_redis
from nexus_graph.config import Settings, is_loopback
from nexus_graph.door.door import Door
from nexus_graph.failures import say, why
from nexus_graph.gc_freeze import freeze_gc
from nexus_graph.identity.opening import open_identity
from nexus_graph.store.outbox import outbox_gauges
from nexus_graph.store.record import HEALTH_SECONDS
from nexus_graph.telemetry import configure_logging, count_together, log

_LOG = log("app")

STOPPED: Final = 0
CANNOT_START: Final = 1
CANNOT_BE_USED_SO: Final = 2

_DESCRIPTORS_MAX: Final = 65_536
"""The most files and sockets of one process."""
_BROWSER: Final = "/neo4j/{name}"
_TICK_SECONDS: Final = 0.1
"""As uvicorn's, which ends as the server stops."""


class App(Starlette):
    """Starlette's router and lifespan, with our own middleware in place of its two."""

    settings: Settings
    direct: DirectRoutes
    connections: Connections
    leaving: asyncio.Event
    """Set when the process got the signal to stop: /readyz says so."""
    stopping: asyncio.Event
    """Set when the process stops: streams and sockets end."""
    certificate: Certificate | None = None
    """None for plain HTTP."""
    cannot_start: str | None = None
    """Why the application did not start."""

    def build_middleware_stack(self) -> ASGIApp:
        wrapped = RequestMiddleware(self.router, routes=self.routes, settings=self.settings)
        return Cors(wrapped, self.settings) if self.settings.cors_origins else wrapped


class Server(uvicorn.Server):
    """Logs its address once it serves, and returns after a signal to stop, while uvicorn's server would die of the
    signal.
    """

    def __init__(self, config: uvicorn.Config, beat: Callable[[], None] | None = None) -> None:
        """`beat` is called twice a second; None where no other process shares the sockets."""
        super().__init__(config)
        self._beat = beat
        self._keeping: asyncio.Task[None] | None = None

    @property
    def _app(self) -> App:
        return cast("App", self.config.app)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])  # opens the application; our `Acceptor` accepts the connections
        make = partial(
            cast("type[DirectProtocol]", self.config.http_protocol_class),
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        certificate = self._app.certificate
        if certificate is not None:
            self._keeping = asyncio.create_task(certificate.keep())
        for listener in sockets or ():
            host, port, *_ = listener.getsockname()
            self._app.connections.listen(listener, make, shared=self._beat is not None, certificate=certificate)
            tls = {} if certificate is None else {"tls": True}
            _LOG.info("serving", host=host, port=port, connections_max=self._app.connections.most, **tls)

    async def on_tick(self, counter: int) -> bool:
        self._look(counter)
        return await super().on_tick(counter)

    def _look(self, counter: int) -> None:
        self._app.connections.tick()
        if self._beat is not None and counter % LOOK_TICKS == 0:
            self._beat()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - they are closed by then
        """Stop in order: say so to load balancers; take the connections that wait, and no more; answer what comes on
        those that are open, and close each behind its answer; end.
        """
        ticking = asyncio.create_task(self._tick())
        try:
            self._app.leaving.set()
            await asyncio.sleep(self._app.settings.shutdown_delay_seconds)
            self._app.stopping.set()
            await self._app.connections.stop()
            await super().shutdown([])
        finally:
            ticking.cancel()
            if self._keeping is not None:
                self._keeping.cancel()

    async def _tick(self) -> None:
        for counter in count():
            self._look(counter)
            await asyncio.sleep(_TICK_SECONDS)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a signal handler
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def create_app(settings: Settings) -> App:
    """The application. Its lifespan opens the servers that the settings name, and closes them in order.

    Raises UnusableManifest, UnusableCertificate.
    """

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with AsyncExitStack() as closing:
            try:
                state = await closing.enter_async_context(_opened(settings))
            except Exception as error:
                app.cannot_start = why(error, settings)
                _LOG.error("cannot_start", reason=app.cannot_start)
                raise
            yield {**state, "stopping": app.stopping, "leaving": app.leaving}

    answering = Answering(schema(federated=settings.graphql_federation), settings)
    places = Places(settings.sockets_max)
    behind = _Behind(is_guarded=settings.auth == "on")
    faces = list(mounted(settings, behind, places))
    graphql = behind("/graphql", GraphQLRoute(answering, settings, places).answer, passes_faults=True)
    sockets = GraphQLSockets(answering, settings, places)
    app = App(routes=_routes(faces, graphql, sockets, behind, settings), lifespan=lifespan)
    app.router.default = AsgiEndpoint(behind(None, nowhere), settings)
    app.router.redirect_slashes = False  # `RequestMiddleware` leaves a slash at the end away
    app.settings = settings
    if settings.tls_cert is not None and settings.tls_key is not None:
        app.certificate = Certificate(settings.tls_cert, settings.tls_key)
    direct = {face.path: face.endpoint for face in faces if face.route.is_direct}
    app.direct = DirectRoutes({**direct, "/graphql": graphql}, settings)
    app.connections = Connections(settings, descriptors=resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    app.leaving, app.stopping = asyncio.Event(), asyncio.Event()
    return app


def serve(settings: Settings, *, host: str, port: int, workers: int = 1) -> int:
    """Serve until SIGINT or SIGTERM; the exit code. Answers what was accepted before it stops."""
    is_off = settings.auth == "off"
    if settings.auth == "auto":
        settings = settings.model_copy(update={"auth": "off" if is_loopback(host) else "on"})
    try:
        listener = listen(host, port, backlog=BACKLOG)
    except OSError as error:
        return _cannot(CANNOT_START, f"cannot listen on {host} port {port}: {error.strerror}")
    configure_logging(settings.log_level)
    if is_off:
        _LOG.warning("auth_off", host=host, reason="NEXUS_AUTH=off: whoever reaches it reads and writes all identities")
    with listener:
        if workers == 1:
            return serve_on(settings, listener)
        from nexus_graph.workers import Workers  # noqa: PLC0415 - one process needs none of it

        return Workers(serve_on, settings, listener, count=workers).run()


def serve_on(settings: Settings, listener: socket.socket, beat: Callable[[], None] | None = None) -> int:
    """Serve from a socket that listens; the exit code. Where other processes serve from it too, `beat` is called twice
    a second as a sign of life.
    """
    configure_logging(settings.log_level)
    count_together()
    allow_descriptors()
    try:
        app = create_app(settings)
    except (UnusableManifest, UnusableCertificate) as error:
        return _cannot(CANNOT_BE_USED_SO, str(error))
    freeze_gc()
    try:
        Server(server_config(app, settings), beat).run(sockets=[listener])
    except SystemExit:  # uvicorn's, when the application could not open what it needs
        return _cannot(CANNOT_START, app.cannot_start or "the server could not start")
    return STOPPED


def listen(host: str, port: int, *, backlog: int) -> socket.socket:
    """A listening socket; port 0 means any free one. Raises OSError."""
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.create_server((str(address[0]), port), family=family, backlog=backlog)
    # Connections inherit it. asyncio does not set it on a socket that it did not make. Without it an answer of several
    # writes, as an event stream is, would wait up to 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def allow_descriptors() -> None:
    """Raise the limit on open files and sockets as far as this process may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS_MAX)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(OSError, ValueError):  # it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def server_config(app: Starlette, settings: Settings) -> uvicorn.Config:
    """How uvicorn serves the application. It logs nothing of requests: they hold identifiers."""
    http = _protocol(app, settings) if isinstance(app, App) else HttpProtocol
    has_hsts = settings.tls_cert is not None and settings.hsts_seconds > 0
    sockets = partial(SocketProtocol, app.connections.write_buffers if isinstance(app, App) else WriteBuffers(settings))
    return uvicorn.Config(
        app,
        http=cast("type[asyncio.Protocol]", http),
        ws=cast("type[asyncio.Protocol]", sockets),
        ws_max_size=settings.body_max_bytes,
        ws_per_message_deflate=False,  # it would hold a compressor a socket, for messages of a few hundred bytes
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=[("strict-transport-security", f"max-age={settings.hsts_seconds}")] if has_hsts else [],
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=round(settings.shutdown_grace_seconds),
    )


def _protocol(app: App, settings: Settings) -> Callable[..., asyncio.Protocol]:
    """Connections with the direct way; or without, where a setting or a uvicorn unlike the one we know says so."""
    found = differences() if settings.direct == "on" else []
    if found:
        _LOG.warning("direct_way_off", uvicorn=uvicorn.__version__, differences=found)
    if found or settings.direct == "off":
        return partial(Connection, app.connections)
    return partial(DirectProtocol, app.direct, app.connections)


class _Behind(NamedTuple):
    """Puts endpoints behind the door, where it asks for credentials. Raises KeyError for a route without a right."""

    is_guarded: bool

    def __call__(self, path: str | None, endpoint: Endpoint, *, passes_faults: bool = False) -> Endpoint:
        right = NOWHERE if path is None else RIGHTS[path]
        return guarded(endpoint, right, passes_faults=passes_faults) if self.is_guarded else endpoint


def _routes(
    faces: Sequence[Mounted], graphql: Endpoint, sockets: GraphQLSockets, behind: _Behind, settings: Settings
) -> list[BaseRoute]:
    got: dict[str, Endpoint] = {
        "/": front([face.path for face in faces if face.route.path == "/identify"]),
        "/graphql/assets/{name}": asset,
        "/livez": livez,
        "/readyz": readyz,
        "/metrics": metrics,
    }
    return [
        *(_route_of(face, settings) for face in faces),
        Route("/graphql", AsgiEndpoint(graphql, settings)),
        WebSocketRoute("/graphql", sockets),
        Route(_BROWSER, AsgiEndpoint(behind(_BROWSER, browser_file), settings), methods=["GET", "OPTIONS"]),
        *(
            Route(path, AsgiEndpoint(behind(path, endpoint), settings), methods=["GET"])
            for path, endpoint in got.items()
        ),
    ]


def _route_of(face: Mounted, settings: Settings) -> Route:
    route = face.route
    endpoint = AsgiEndpoint(face.endpoint, settings, body_max_bytes=route.body_max_bytes)
    return Route(face.path, endpoint, methods=face.methods)


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[dict[str, Any]]:
    """What requests find in their scope's state. Raises Unavailable if the record is away."""
    async with AsyncExitStack() as closing:
        identity = await closing.enter_async_context(open_identity(settings))
        redis = open_redis(settings, timeout_seconds=HEALTH_SECONDS)
        closing.push_async_callback(redis.aclose)

        async def redis_up() -> bool:
            return bool(await redis.ping())

        checks: dict[str, Check] = {
            RECORD: identity.record_condition,
            "neo4j": identity.graph_condition,
            "redis": redis_up,
            "relay": identity.relay_condition,
        }
        if identity.replica is not None:
            checks["replica"] = identity.replica.up
        checks[MIGRATIONS] = Migrated(identity.identify.resolving)
        checks[OUTBOX] = partial(outbox_gauges, identity.record)
        servers = Health(checks)
        closing.push_async_callback(servers.close)
        state = {"identity": identity, "health": servers, "redis": redis}
        if settings.auth == "on":
            state["door"] = await closing.enter_async_context(Door.opened(settings, identity.record.fetch))
        yield state


def _cannot(exit_code: int, reason: str) -> int:
    say(reason)
    return exit_code
