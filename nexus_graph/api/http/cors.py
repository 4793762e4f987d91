"""Which pages of other origins may call from a browser, and with which headers (the CORS protocol of fetch)."""

from typing import Final

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from nexus_graph.api.neo4j_browser.serving import FOLDER
from nexus_graph.config import Settings

_MAX_AGE_SECONDS: Final = 600
"""Seconds that a browser remembers what it may call: ten minutes after a change all browsers know of it."""

ALLOWED_HEADERS: Final = (
    # What this API reads, or will
    "Accept", "Authorization", "Cache-Control", "Content-Encoding", "Content-Type", "Idempotency-Key",
    "If-None-Match", "Last-Event-ID", "Pragma", "X-API-Key", "X-Correlation-ID", "X-Request-ID", "X-Requested-With",
    # Apollo's clients, and others that say who they are or ask for a preflight
    "Apollo-Require-Preflight", "ApolloGraphQL-Client-Name", "ApolloGraphQL-Client-Version", "GraphQL-Client-Name",
    "GraphQL-Client-Version", "GraphQL-Require-Preflight", "X-Apollo-Cache-Do-Not-Store",
    "X-Apollo-Cache-Fetch-Strategy", "X-Apollo-Cache-Key", "X-Apollo-Expire-After-Read", "X-Apollo-Expire-Timeout",
    "X-Apollo-Operation-ID", "X-Apollo-Operation-Name", "X-Apollo-Operation-Type", "X-GraphQL-Client-Name",
    "X-GraphQL-Client-Version",
    # Tracing: OpenTelemetry (W3C), Sentry, Zipkin, Jaeger, Datadog, New Relic, Elastic, AWS X-Ray, Google Cloud
    "Baggage", "Sentry-Trace", "Traceparent", "Tracestate", "B3", "X-B3-Flags", "X-B3-ParentSpanId", "X-B3-Sampled",
    "X-B3-SpanId", "X-B3-TraceId", "Elastic-Apm-Traceparent", "Newrelic", "Uber-Trace-Id", "X-Amzn-Trace-Id",
    "X-Cloud-Trace-Context", "X-Datadog-Origin", "X-Datadog-Parent-Id", "X-Datadog-Sampling-Priority",
    "X-Datadog-Tags", "X-Datadog-Trace-Id",
)  # fmt: skip
"""Headers that web clients are known to send. None of them changes what a request may do."""

EXPOSED_HEADERS: Final = (
    "Deprecation", "ETag", "Idempotent-Replayed", "Link", "Nexus-Ignored", "Nexus-Outcome", "Retry-After", "Sunset",
    "Traceparent",
    "X-Request-ID",
)  # fmt: skip


class Cors(CORSMiddleware):
    """Starlette's middleware by our settings. A refused preflight names the setting that would allow it."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        super().__init__(
            app,
            allow_origins=settings.cors_origins,
            allow_methods=("GET", "HEAD", "POST"),
            allow_headers=(*ALLOWED_HEADERS, *settings.cors_headers),
            expose_headers=EXPOSED_HEADERS,
            max_age=_MAX_AGE_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As Starlette's, except for files that every origin may read: these have headers of their own."""
        if scope["type"] == "http" and scope["path"].startswith(FOLDER):
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def preflight_response(self, request_headers: Headers) -> Response:
        """As Starlette's, except for the text of a refusal."""
        answer = super().preflight_response(request_headers)
        if answer.status_code < 400:
            return answer
        reasons = []
        if not self.is_allowed_origin(request_headers["origin"]):
            reasons.append("NEXUS_CORS_ORIGINS does not allow this origin")
        if request_headers["access-control-request-method"] not in self.allow_methods:
            reasons.append(f"the methods are {', '.join(self.allow_methods)}")
        asked = request_headers.get("access-control-request-headers", "").lower().split(",")
        if not self.allow_all_headers and not {name.strip() for name in asked if name}.issubset(self.allow_headers):
            reasons.append("NEXUS_CORS_HEADERS does not add all of these headers to those that are allowed")
        text = "; ".join(reasons) or "a private network is not reached from a public one"
        headers = {name: value for name, value in answer.headers.items() if not name.startswith("content-")}
        return PlainTextResponse(text, status_code=answer.status_code, headers=headers)
