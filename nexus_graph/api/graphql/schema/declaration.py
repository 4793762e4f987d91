"""How types are declared: fields that mypy still sees as the methods they are, what all objects have, and what every
resolver of one request gets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import UUID

import strawberry

from nexus_graph.config import Settings
from nexus_graph.door.visit import OPEN, Visit

if TYPE_CHECKING:  # so that the schema can be exported without a driver
    from nexus_graph.door.visited import VisitedIdentity
    from nexus_graph.identity.opening import Identity

Method = TypeVar("Method", bound=Callable[..., Any])


def described(description: str, *, name: str | None = None) -> Callable[[Method], Method]:
    """Declare the method that follows as a field, under another name if one is given. Every field has a description."""
    return cast("Callable[[Method], Method]", strawberry.field(description=description, name=name))


def followed(description: str) -> Callable[[Method], Method]:
    """Declare the asynchronous generator that follows as a subscription."""
    return cast("Callable[[Method], Method]", strawberry.subscription(description=description))


@strawberry.interface(description="An object that can be fetched again by its global id.")
class Node:
    @described("The global id: opaque, and unique among all objects.")
    def id(self) -> strawberry.ID:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Context:
    """The verbs, as this caller may use them; the settings; the id of the request, which the record keeps with its
    events; and the caller.
    """

    identity: "Identity | VisitedIdentity"
    settings: Settings
    request_id: UUID
    visit: Visit = OPEN


ContextInfo = strawberry.Info[Context, None]
