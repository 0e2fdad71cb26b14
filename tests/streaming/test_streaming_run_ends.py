"""Runs with streaming nodes on the caller's event loop that fail or are cancelled."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from loop_nodes import Logs, Same, Sums, run

from remotemedia import execute_pipeline_with_input
from remotemedia.exceptions import NodeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Fails:
    """Fails on the item 2."""

    async def process(self, item: int) -> int:
        if item == 2:
            raise ValueError("two")
        return item


@pytest.mark.parametrize("position", [0, 1, 2])
def test_cancelling_the_task_cancels_the_node_that_waits(position: int) -> None:
    log: list[str] = []

    class Waits:
        def __init__(self) -> None:
            self.has_begun = asyncio.Event()

        async def process(self, item: Any) -> Any:
            if item:
                self.has_begun.set()
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    log.append("cancelled")
                    raise
            return item

    class WaitsInStream(Waits):
        is_streaming = True

        async def process(self, items: Any) -> Any:
            waits = super().process
            try:
                async for item in items:
                    yield await waits(item)
            finally:
                log.append("closed")

    async def main() -> None:
        node = WaitsInStream() if position == 1 else Waits()
        nodes: list[Any] = [Same(), Sums(), Same(), Logs()]
        nodes[position] = node
        task = asyncio.create_task(execute_pipeline_with_input(nodes, [0, 1]))
        await node.has_begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert nodes[-1].log == [0, "cleanup"]

    asyncio.run(main())

    assert log == (["cancelled", "closed"] if position == 1 else ["cancelled"])


@pytest.mark.parametrize("steps", range(30))
def test_a_run_that_is_cancelled_at_any_step_closes_all(steps: int) -> None:
    log: list[str] = []

    class Steps:
        """Suspends in everything it does."""

        async def initialize(self) -> None:
            await asyncio.sleep(0)
            log.append("initialized")

        async def process(self, item: Any) -> AsyncIterator[Any]:
            log.append("open")
            try:
                await asyncio.sleep(0)
                yield item
                await asyncio.sleep(0)
            finally:
                log.append("closed")

        async def cleanup(self) -> None:
            await asyncio.sleep(0)
            log.append("cleanup")

    class StreamSteps(Steps):
        is_streaming = True

        async def process(self, items: Any) -> AsyncIterator[Any]:
            log.append("open")
            try:
                async for item in items:
                    await asyncio.sleep(0)
                    yield item
                    await asyncio.sleep(0)
            finally:
                log.append("closed")

    async def main() -> None:
        nodes = [Steps(), StreamSteps(), Steps(), StreamSteps(), Steps()]
        task = asyncio.create_task(execute_pipeline_with_input(nodes, [1, 2]))
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())

    assert log.count("open") == log.count("closed")
    assert log.count("initialized") <= log.count("cleanup") <= log.count("initialized") + 1
    assert "closed" not in log[log.index("cleanup") :] if "cleanup" in log else not log


@pytest.mark.parametrize("handled", [Exception, asyncio.CancelledError, BaseException])
def test_a_streaming_node_cannot_handle_failures_of_the_nodes_before(handled: type[BaseException]) -> None:
    class Handles:
        is_streaming = True

        async def process(self, items: AsyncIterator[int]) -> AsyncIterator[Any]:
            try:
                async for item in items:
                    yield item
            except handled:
                yield "handled"
                yield "twice"

    last = Logs()

    with pytest.raises(NodeError) as error:
        run([Fails(), Handles(), last], [1, 2, 3])

    assert (error.value.node_id, error.value.item_index) == ("Fails_0", 1)
    assert last.log == [1, "cleanup"]


def test_an_error_of_the_input_passes_as_itself() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise LookupError("input")

    with pytest.raises(LookupError, match="input"):
        run([Same(), Sums(), Same()], broken())


def test_a_failed_run_keeps_no_item() -> None:
    class Item:
        pass

    class Raises:
        async def process(self, item: Any) -> Any:
            raise ValueError

    async def main() -> None:
        item = Item()
        found = weakref.ref(item)
        with pytest.raises(NodeError):
            await execute_pipeline_with_input([Same(), passes, Raises()], [item])
        del item
        assert found() is None

    class Passes:
        is_streaming = True

        async def process(self, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
            async for item in items:
                yield item

    passes = Passes()
    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()
