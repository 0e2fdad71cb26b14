"""The ends of a pipeline as older programs call them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remotemedia.core.node import Node
from remotemedia.nodes._builtin import OutputNode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["DataSinkNode", "DataSourceNode"]


class DataSourceNode(Node):
    """Makes the input of its pipeline: gives what it was made with, one item after the other.

    Subclasses may define `process(self)` to make the items themselves.
    """

    def __init__(self, data: Iterable[Any] = (), name: str | None = None, **config: Any) -> None:
        """Take the items.

        Args:
            data: The items; any iterable.
            name: What the node is called.
            **config: Of subclasses, kept in `config`.
        """
        super().__init__(name, **config)
        self.data = data

    def process(self) -> Iterator[Any]:
        """Each item."""
        yield from self.data


class DataSinkNode(OutputNode):
    """Takes what leaves a pipeline: hands each item to a callback, and passes it on."""
