"""The forms of kernels: what they are called with and how they pass outputs on."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from remotemedia._compiled.steps import Item

__all__ = ["ALIGNED", "CHUNK", "LIMITED", "MANY", "ONE", "SENT", "STREAM", "TIMED_CHUNK", "Form"]


class Form(NamedTuple):
    """What a kernel is called with and how it passes outputs on."""

    head: str
    parameters: tuple[str, ...]
    loop: str | None
    """The line that reads the next item, if the kernel takes several."""
    item: Item
    """What is known of the items."""
    end: str = "outputs.append(x)"
    """The statements that pass an output on, a line each."""
    leave: str = "continue"
    """The statement that ends an item without an output."""
    keeps_none: bool = False
    """Whether the kernel may append the `None` of the last node, which the caller then removes."""
    counts: bool = False
    """Whether it counts the items, and lets the caller take turns with others."""
    remembers: bool = False
    """Whether it remembers types of results from one call to the next."""
    is_timed: bool = False
    """Whether each result goes through a function that measures the call."""
    yields: bool = False
    """Whether it is an async generator, which yields its first output twice."""
    can_stop: bool = False
    """Whether loops over generators end when the variable `stop` is set."""

    @property
    def is_async(self) -> bool:
        """Whether the kernel can await."""
        return self.head == "async def"


CHUNK = Form("def", ("items", "outputs"), "for x in items:", "not lazy", keeps_none=True, can_stop=True)
"""A chunk of items that are not lazy, without await."""

ALIGNED = CHUNK._replace(leave="outputs.append(None); continue", keeps_none=False, can_stop=False)
"""The same with `None` for each item without an output, so outputs have the positions of their items."""

TIMED_CHUNK = CHUNK._replace(is_timed=True)

SENT = Form("def", (), "while True:", "not lazy", end="continue", leave="x = None; continue")
"""Items that are not lazy, each sent to a generator, which yields the output. It is cheaper than a call."""

MANY = Form("async def", ("items", "outputs"), "for x in items:", "unknown")
LIMITED = MANY._replace(
    parameters=("items", "outputs", "room"), end="outputs.append(x)\nif room.is_full(): await room.wait()"
)
STREAM = Form("async def", ("items", "outputs", "turns"), "async for x in items:", "unknown", counts=True)
ONE = Form("async def", ("x",), None, "unknown", end="return x", leave="return None", remembers=True)

PULL = Form(
    "async def",
    ("items", "turns", "first"),
    "async for x in items:",
    "unknown",
    end="if first: first = yield x\nyield x",
    counts=True,
    yields=True,
)
"""An async generator for the node behind, which is called only when the first output is known."""

PULL_ALL = PULL._replace(loop="for x in items:")
