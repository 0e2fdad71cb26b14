"""Passes items through nodes without compiled code, depth first; the caller requests each output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remotemedia._compiled.failures import close_all
from remotemedia._compiled.pushed import END
from remotemedia._errors import throw
from remotemedia._graph.node_kinds import return_kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from remotemedia._loop.streaming.run_stage import StreamingStage

__all__ = ["Machine"]


class Machine:
    """The nodes of a part of a chain, up to `end`.

    Attributes:
        end: The index behind the last node.
        opened: The open generators, each with its node and phase, the innermost last.
    """

    def __init__(self, stage: StreamingStage, end: int) -> None:
        """Start without open generators."""
        self._stage = stage
        self.end = end
        self.opened: list[tuple[int, str, Any]] = []

    async def flush(self, node: int) -> Any:
        """Flush a node, and return the first output of the part, or `END`."""
        flush = getattr(self._stage.nodes[node], "flush", None)
        if not callable(flush):
            return END
        return await self.next(await self.take(node, flush, phase="flush"))

    async def take(self, node: int, method: Callable[..., Any], *args: Any, phase: str = "process") -> Any:
        """Call a method of a node, and pass its output on; return what becomes of it, or `END`.

        If that is a generator, it is left open.

        Raises:
            NodeError: If a node fails.
        """
        while True:
            result = await self._ask(node, phase, method, *args)
            if return_kind(result) != "plain":
                self.opened.append((node, phase, result))
                return END
            node += 1
            if result is None:
                return END
            if node == self.end:
                return result
            phase, method, args = "process", self._stage.nodes[node].process, (result,)

    async def next(self, output: Any = END) -> Any:
        """Return this output, or else the next one of the open generators; `END` if none is left.

        Raises:
            NodeError: If a node fails.
        """
        while output is END and self.opened:
            node, phase, generator = self.opened[-1]
            output = (await self._ask(node, phase, self._stage.draw, node, generator))[0]
            if output is END:
                self.opened.pop()
            elif node + 1 < self.end:
                output = await self.take(node + 1, self._stage.nodes[node + 1].process, output)
        return output

    async def close(self) -> list[BaseException]:
        """Close the open generators; return what they raised."""
        failures: list[BaseException] = []
        while self.opened:
            node, phase, generator = self.opened.pop()
            for _, error in await close_all([(node, generator)]):
                failures.append(self._stage.failure(node, phase, None, error))
        return failures

    async def _ask(self, node: int, phase: str, method: Callable[..., Any], *args: Any) -> Any:
        """Return the result of a call; a coroutine is awaited."""
        stage = self._stage
        stage.node = node
        try:
            result = method(*args)
            while return_kind(result) == "coroutine":
                result = await result
        except BaseException as error:  # noqa: BLE001 - Raised below, without another context.
            failure = stage.failure(node, phase, stage.item_index(), error)
        else:
            return result
        try:
            throw(failure)
        finally:
            # Its traceback refers to this frame.
            del failure
