"""Source and sink under the names of older programs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remotemedia.core.node import Node
from remotemedia.nodes._builtin import OutputNode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["DataSinkNode", "DataSourceNode"]


class DataSourceNode(Node):
    """Produces the input of its pipeline: each item of `data`, in order.

    Subclasses may define `process(self)` to produce other items.
    """

    def __init__(self, data: Iterable[Any] = (), name: str | None = None, **config: Any) -> None:
        """Set the items.

        Args:
            data: The items; any iterable.
            name: The name of the node.
            **config: Arguments of subclasses, stored in `config`.
        """
        super().__init__(name, **config)
        self.data = data

    def process(self) -> Iterator[Any]:
        """Yield each item."""
        yield from self.data


class DataSinkNode(OutputNode):
    """Calls a callback with every item, and passes the item on; the same as `OutputNode`."""
