"""What kernels call for a node that takes the whole stream, but receives one item at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable

__all__ = ["END", "SUSPENDED", "Pushed"]

END: Any = object()
"""Stands for an output where there is none."""

SUSPENDED: Any = object()
"""Stands for an output that the event loop has to wait for."""


class Pushed(ABC):
    """A streaming node. For each item: `push` it, then `step` until the result is `END`."""

    @abstractmethod
    def push(self, item: Any) -> None:
        """Store the item that the node reads next."""

    @abstractmethod
    def step(self) -> Any:
        """Let the node continue, and return its next output.

        Returns:
            The output, `SUSPENDED` if the caller must await `resume`, or `END` if the node requests an item.
        """

    @abstractmethod
    def resume(self) -> Awaitable[Any]:
        """Await what the node awaits; return its next output or `END`."""

    @abstractmethod
    async def aclose(self) -> None:
        """Stop the node, because an item was dropped; the next one starts it again."""

    async def outputs(self) -> AsyncGenerator[Any, None]:
        """Yield the outputs until the node requests an item; stop it if they are not all taken."""
        is_over = False
        try:
            while True:
                output = self.step()
                if output is SUSPENDED:
                    output = await self.resume()
                if output is END:
                    break
                yield output
            is_over = True
        finally:
            if not is_over:
                await self.aclose()
