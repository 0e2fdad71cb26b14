"""The stage of a session with streaming nodes, which receive one item at a time."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from remotemedia import _log
from remotemedia._graph.node_kinds import classify
from remotemedia._loop.stages.stage import Stage
from remotemedia._loop.streaming.session_node import SessionNode

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from remotemedia._graph.graph import Graph
    from remotemedia._loop.stages.members import Members
    from remotemedia._loop.stages.singly import Outputs, Room

__all__ = ["SessionStage"]


class SessionStage(Stage):
    """Nodes on the current event loop, some of them streaming nodes."""

    def __init__(self, graph: Graph, neighbour: Members | None = None) -> None:
        """Claim the nodes; none is called yet."""
        super().__init__(graph, neighbour)
        self._streaming: dict[int, SessionNode] = {
            index: SessionNode(node) for index, node in enumerate(self.nodes) if classify(node) == "streaming"
        }
        self.called = [self._streaming.get(index, node) for index, node in enumerate(self.nodes)]
        self._must_forget = False

    def forget_soon(self) -> None:
        """Let streaming nodes begin again before the next item: some items so far are no longer needed."""
        self._must_forget = True

    async def _forget(self) -> None:
        self._must_forget = False
        for node in self._streaming.values():
            try:
                await node.aclose()
            except Exception as error:  # noqa: BLE001 - It belongs to no input.
                _log.log_ignored_error(error)

    def take_whole(
        self, chunk: Sequence[Any], first: int, outputs: Outputs, room: Room | None = None
    ) -> Coroutine[Any, Any, None]:
        """Pass items through the nodes, as in `Stage.take_whole`."""
        work = super().take_whole(chunk, first, outputs, room)
        return self._forget_before(work) if self._must_forget else work

    async def flush(self, outputs: Outputs, base: int = 0, room: Room | None = None) -> None:
        """Pass on the last outputs of each node."""
        work = super().flush(outputs, base, room)
        await (self._forget_before(work) if self._must_forget else work)

    async def _forget_before(self, work: Coroutine[Any, Any, None]) -> None:
        with closing(work):
            await self._forget()
            await work

    async def interrupt(self) -> None:
        """Stop the streaming nodes, which hold items, and call `interrupt` of all nodes, in order."""
        await self._forget()
        await super().interrupt()

    async def clean_up(self) -> list[BaseException]:
        """Stop the streaming nodes, then clean up all nodes; return what they raised."""
        failures: list[BaseException] = []
        for index in reversed([*self._streaming]):
            if self._streaming[index].is_open and not self.is_abandoned:
                failures += await self._stop(index)
        return failures + await super().clean_up()

    async def _stop(self, index: int) -> list[BaseException]:
        await self.lock(index)
        call = self.core.enter(0, index)
        self.node, self.phase = index, "cleanup"
        try:
            await self._streaming[index].aclose()
        except BaseException as error:  # noqa: BLE001 - Returned.
            return [self.failure(index, "cleanup", None, error)]
        finally:
            self.phase = "process"
            call.leave()
        return []

    def clean_up_at_once(self) -> bool:
        """Clean up the nodes as far as that takes only a moment; return whether these are all."""
        return not self._is_open() and super().clean_up_at_once()

    def may_wait_in_cleanup(self) -> bool:
        """Whether `clean_up` may suspend, and so be cancelled."""
        return self._is_open() or super().may_wait_in_cleanup()

    def _is_open(self) -> bool:
        return any(node.is_open for node in self._streaming.values())

    def at_work(self) -> tuple[str, str, Any]:
        """Return the id of the node that is called or awaited, its phase, and its coroutine."""
        node_id, phase, coroutine = super().at_work()
        node = self._streaming.get(self.index_at_work())
        return node_id, phase, coroutine if node is None or node.stream is None else node.stream
