"""How types are declared: fields that mypy still sees as the methods they are, and what all objects have."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import strawberry

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
