"""The condition of a server, as health checks report it."""

from typing import Final, Literal, NamedTuple


class Condition(NamedTuple):
    """`degraded`: a part does not work, or works slowly; `down`: its main task does not work."""

    status: Literal["ok", "degraded", "down"]
    reason: str | None = None
    """The fault, as a predicate of the server: "refuses the login"."""


WELL: Final = Condition("ok")
