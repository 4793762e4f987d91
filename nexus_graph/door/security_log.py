"""The security log: who was refused, and why, on a logger of its own. No token, key, address, email or phone."""

from nexus_graph import telemetry
from nexus_graph.telemetry import SECURITY_EVENTS

_LOG = telemetry.log("security")


def login_failed(reason: str, peer: str) -> None:
    """A credential opened nothing. `peer`: the name under which its address is counted."""
    _note("login_failed", reason=reason, peer=peer)


def used_after_end(reason: str, key_id: str) -> None:
    """The bearer of a key knew its secret, but the key was revoked or has expired."""
    _note("key_used_after_end", reason=reason, key=key_id)


def denied(principal: str, permission: str, what: str) -> None:
    """A caller asked for what its roles do not allow."""
    _note("denied", principal=principal, permission=permission, what=what)


def limited(principal: str) -> None:
    """A caller met its rate limit."""
    _note("limited", principal=principal)


def scraping(principal: str) -> None:
    """A caller has read as many families today as its quota allows."""
    _note("family_quota_reached", principal=principal)


def _note(event: str, **facts: str) -> None:
    SECURITY_EVENTS.labels(event).inc()
    _LOG.warning(event, **facts)
