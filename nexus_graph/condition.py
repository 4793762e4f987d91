"""How a server is, as health checks tell it."""

from typing import Final, Literal, NamedTuple


class Condition(NamedTuple):
    """`degraded`: a part does not work, or works slowly; `down`: what it is there for does not work."""

    status: Literal["ok", "degraded", "down"]
    reason: str | None = None
    """What the matter is, as a predicate of the server: "refuses the login"."""


WELL: Final = Condition("ok")
