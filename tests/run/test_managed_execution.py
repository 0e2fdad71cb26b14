"""The block of `Pipeline.managed_execution`: its runs are like others, and use one session."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from remotemedia import Pipeline, with_options
from remotemedia.exceptions import NodeError, NodeTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Picky:
    """Refuses negative numbers; counts its items since it was initialized."""

    is_initialized = False

    def initialize(self) -> None:
        self.count = 0

    def process(self, number: int) -> int:
        if number < 0:
            raise ValueError(number)
        self.count += 1
        return self.count

    def cleanup(self) -> None:
        pass


async def index_of_failure(pipeline: Pipeline, items: list[int]) -> int | None:
    with pytest.raises(NodeError) as caught:
        await pipeline.run(items)
    assert f"on item {caught.value.item_index}:" in str(caught.value)
    return caught.value.item_index


@pytest.mark.parametrize("options", [{}, {"placement": "thread"}, {"placement": "process"}, {"retries": 1}])
def test_an_error_has_the_index_of_its_run(options: dict[str, Any]) -> None:
    """Not the index in the session, even beside other runs."""

    async def main() -> list[int | None]:
        pipeline = Pipeline([with_options(Picky(), **options)])
        async with pipeline.managed_execution():
            await pipeline.run([1, 2, 3])
            failures = [[-1], [1, 2, -1], [1, -1, 1]]
            return await asyncio.gather(*(index_of_failure(pipeline, items) for items in failures))

    assert asyncio.run(main()) == [0, 2, 1]


def test_a_worker_lasts_for_the_block() -> None:
    async def main() -> list[Any]:
        pipeline = Pipeline([with_options(Picky(), placement="process")])
        async with pipeline.managed_execution():
            return [await pipeline.run(1), await pipeline.run([1])]

    assert asyncio.run(main()) == [1, [2]]


def test_the_metrics_are_those_of_the_run() -> None:
    async def main() -> dict[str, Any]:
        pipeline = Pipeline([Picky()])
        async with pipeline.managed_execution():
            await pipeline.run([1, 2, 3])
            result: dict[str, Any] = await pipeline.run([1, 2], enable_metrics=True)
        return result

    result = asyncio.run(main())

    assert result["outputs"] == [4, 5]
    assert result["metrics"]["items_in"] == result["metrics"]["node_metrics"][0]["items_in"] == 2


def test_each_run_of_a_source_has_its_items(use_rust: bool) -> None:
    class Source:
        initialized = 0

        def initialize(self) -> None:
            self.initialized += 1

        def process(self) -> Iterator[int]:
            yield from (1, 2)

    source = Source()

    async def main() -> list[Any]:
        pipeline = Pipeline([source])
        async with pipeline.managed_execution():
            return [await pipeline.run(use_rust=use_rust), await pipeline.run(use_rust=use_rust)]

    assert asyncio.run(main()) == [[1, 2], [1, 2]]
    assert source.initialized == 1


def test_slow_items_do_not_block_the_event_loop() -> None:
    """An iterator may wait for another task."""
    is_out = threading.Event()
    readers = set()

    def items() -> Iterator[int]:
        for number in range(3):
            readers.add(threading.get_ident())
            yield number
            assert is_out.wait(10)

    async def main() -> list[int]:
        pipeline, outputs = Pipeline([Picky()]), []
        async with pipeline.managed_execution():
            async for output in pipeline.process(items()):
                is_out.set()
                outputs.append(output)
        return outputs

    assert asyncio.run(main()) == [1, 2, 3]
    assert len(readers) == 1
    assert threading.get_ident() not in readers


def test_errors_of_the_items_are_raised() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("no more")

    async def main() -> None:
        pipeline = Pipeline([Picky()])
        async with pipeline.managed_execution():
            with pytest.raises(KeyError, match="no more"):
                await pipeline.run(items())
            assert await pipeline.run([1]) == [2]

    asyncio.run(main())


def test_a_stream_may_be_closed_early_and_a_run_cancelled() -> None:
    class Slow:
        begun = asyncio.Event()

        async def process(self, number: int) -> int:
            if number < 0:
                self.begun.set()
                await asyncio.Event().wait()
            return number

    async def main() -> None:
        pipeline = Pipeline([Slow()])
        async with pipeline.managed_execution():
            async for output in pipeline.process([1, 2, 3]):
                assert output == 1
                break
            run = asyncio.create_task(pipeline.run([-1]))
            await Slow.begun.wait()
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            assert await pipeline.run([4, 5]) == [4, 5]

    asyncio.run(main())


def test_a_node_that_is_added_runs_too() -> None:
    async def main() -> Any:
        pipeline, added = Pipeline([Picky()]), Picky()
        async with pipeline.managed_execution():
            await pipeline.run([1, 2])
            pipeline.add_node(added)
            return await pipeline.run([1]), added.is_initialized

    assert asyncio.run(main()) == ([1], False)


def test_runs_continue_after_a_call_that_cannot_be_stopped() -> None:
    is_over = threading.Event()

    class Stuck:
        def process(self, number: int) -> int:
            assert number >= 0 or is_over.wait(20)
            return number

    async def main() -> Any:
        pipeline = Pipeline([with_options(Stuck(), timeout=0.2)])
        async with pipeline.managed_execution():
            await pipeline.run([1, 2])
            with pytest.raises(NodeTimeoutError, match="on item 1; the call cannot be stopped"):
                await pipeline.run([3, -1])
            is_over.set()
            return await pipeline.run([1])

    assert asyncio.run(main()) == [1]
