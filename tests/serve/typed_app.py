"""Pipelines whose nodes say what their items are."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NotRequired, TypedDict

import pydantic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nowhere import Unknown


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(NamedTuple):
    width: int
    height: float = 1.0


@dataclass
class User:
    """Somebody who orders."""

    name: str
    age: int
    friends: list[User] = field(default_factory=list)

    def __post_init__(self):
        if self.age < 0:
            raise ValueError("nobody is younger than 0")


@dataclass(frozen=True)
class Order:
    user: User
    color: Color = Color.RED
    kind: Literal["new", "old"] = "new"
    size: Size | None = None
    tags: tuple[str, ...] = ()
    weights: dict[int, float] = field(default_factory=dict)
    picture: bytes = b""
    number: int = field(init=False, default=7)


class Note(TypedDict):
    text: str
    author: NotRequired[User]


class Point(pydantic.BaseModel):
    x: int
    y: int = pydantic.Field(ge=0, alias="why")
    label: str | None = None

    @pydantic.computed_field
    @property
    def total(self) -> int:
        return self.x + self.y


class Same:
    """Returns an item, which must be an instance of its class."""

    def check(self, item, kind):
        assert type(item) is kind, item
        return item


class Orders(Same):
    def process(self, item: Order) -> Order:
        return self.check(item, Order)


class Notes(Same):
    def process(self, item: Note) -> str:
        return type(item.get("author")).__name__


class Points(Same):
    async def process(self, item: Point) -> Point:
        return self.check(item, Point)


class Lists(Same):
    def process(self, item: list[Point | User]) -> Iterator[Point | User]:
        yield from item


class Numbers:
    def process(self, item: int | None) -> float:
        return (item or 0) / 2


class Encode:
    def process(self, item: dict[str, Any]) -> bytes:
        return repr(item).encode()


class Bare:
    def process(self, item):
        return item


class Unresolved:
    def process(self, item: Unknown) -> list[Unknown]:
        return [item]


orders = [Orders()]
notes = [Notes()]
points = [Points()]
lists = [Lists()]
numbers = [Numbers()]
encode = [Encode()]
bare = [Bare()]
unresolved = [Unresolved()]
