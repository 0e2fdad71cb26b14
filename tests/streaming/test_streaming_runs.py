"""Runs with streaming nodes on the caller's event loop: each pulls its items from the nodes before it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from loop_nodes import Logs, Same, Sums, run

from remotemedia import execute_pipeline_with_input, with_options
from remotemedia._graph.graph import resolve
from remotemedia._loop.places import on_loop
from remotemedia.exceptions import NodeError, PipelineError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE")


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield number


def test_all_is_in_the_task_of_the_caller() -> None:
    class Looks:
        is_streaming = True

        async def process(self, items: AsyncIterator[int]) -> AsyncIterator[Any]:
            async for _ in items:
                await asyncio.sleep(0)
                yield asyncio.all_tasks() == {asyncio.current_task()}, threading.active_count()

    before = threading.active_count()

    assert run([Same(), Looks(), Same()], [1, 2]) == [(True, before)] * 2


@pytest.mark.parametrize(
    ("kinds", "outputs"),
    [
        ([Sums], [0, 1, 3]),
        ([Same, Sums], [0, 1, 3]),
        ([Sums, Same], [0, 1, 3]),
        ([Sums, Sums], [0, 1, 4]),
        ([Sums, Same, Sums], [0, 1, 4]),
    ],
)
@pytest.mark.parametrize("make_items", [lambda: [0, 1, 2], lambda: range(3), lambda: numbers(3)])
def test_it_may_be_anywhere_in_a_chain(
    kinds: list[Callable[[], Any]], outputs: list[int], make_items: Callable[[], Any]
) -> None:
    assert run([kind() for kind in kinds], make_items()) == outputs


def test_other_tasks_have_turns_while_a_node_takes_all_items() -> None:
    class Counts:
        is_streaming = True

        async def process(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
            count = 0
            async for _ in items:
                count += 1
                spin_until = time.perf_counter() + 0.0001
                while time.perf_counter() < spin_until:
                    pass
            yield count

    async def main() -> tuple[Any, int]:
        turns = 0

        async def take_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(take_turns())
        outputs = await execute_pipeline_with_input([Counts()], range(640))
        task.cancel()
        return outputs, turns

    outputs, turns = asyncio.run(main())

    assert outputs == [640]
    assert turns >= 8


def test_it_is_called_with_its_first_item() -> None:
    """It was called before the first item had passed the nodes before it."""
    log = Logs()

    class Begins:
        is_streaming = True

        async def process(self, items: AsyncIterator[int]) -> AsyncIterator[Any]:
            log.log.append("begins")
            yield "first"
            async for item in items:
                yield item

    assert run([log, Begins()], [1, 2]) == ["first", 1, 2]
    assert log.log == [1, "begins", 2, "cleanup"]


def test_runs_that_share_a_streaming_node_take_turns() -> None:
    class Alone(Sums):
        inside = 0
        most = 0

        async def process(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
            async for item in items:
                self.inside += 1
                self.most = max(self.most, self.inside)
                await asyncio.sleep(0)
                yield item
                await asyncio.sleep(0)
                self.inside -= 1

    async def main() -> None:
        node = Alone()
        calls = [execute_pipeline_with_input([Same(), node, Same()], range(5)) for _ in range(4)]
        assert await asyncio.gather(*calls) == [[0, 1, 2, 3, 4]] * 4
        assert node.most == 1

    asyncio.run(main())


def test_a_run_that_waits_for_its_input_leaves_its_nodes_to_others() -> None:
    async def main() -> None:
        is_read, is_over = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[int]:
            yield 1
            is_read.set()
            await is_over.wait()
            yield 2

        nodes = [Same(), Sums(), Same()]
        first = asyncio.create_task(execute_pipeline_with_input(nodes, slow()))
        await is_read.wait()
        assert await execute_pipeline_with_input(nodes, [10, 20]) == [10, 30]
        is_over.set()
        assert await first == [1, 3]

    asyncio.run(asyncio.wait_for(main(), 10))


def test_runs_that_share_nodes_in_another_order_do_not_wait_for_each_other() -> None:
    class Spreads:
        async def process(self, item: int) -> AsyncIterator[int]:
            yield item
            await asyncio.sleep(0)
            yield item

    async def main() -> None:
        first, last = Spreads(), Spreads()
        chains = [[first, Sums(), last], [last, Sums(), first]]
        calls = [execute_pipeline_with_input(chain, numbers(3)) for chain in chains for _ in range(2)]
        assert await asyncio.gather(*calls) == [[0, 0, 0, 0, 1, 1, 2, 2, 4, 4, 6, 6]] * 4

    asyncio.run(asyncio.wait_for(main(), 10))


@pytest.mark.parametrize("position", [0, 1])
def test_a_run_of_itself_is_refused(position: int) -> None:
    class Runs:
        is_streaming = True

        async def process(self, items: AsyncIterator[int]) -> AsyncIterator[Any]:
            async for item in items:
                yield await execute_pipeline_with_input([self], [item])

    nodes: list[Any] = [Same()]
    nodes.insert(position, Runs())

    with pytest.raises(NodeError) as error:
        run(nodes, [1])

    assert error.value.node_id == f"Runs_{position}"
    assert isinstance(error.value.__cause__, PipelineError)


def test_it_has_the_context_of_its_caller() -> None:
    class Reads:
        is_streaming = True

        async def process(self, items: AsyncIterator[int]) -> AsyncIterator[str]:
            async for _ in items:
                yield VARIABLE.get()

    class Sets:
        async def process(self, item: int) -> int:
            if item == 2:
                VARIABLE.set("of a node")
            return item

    async def main() -> Any:
        VARIABLE.set("of the caller")
        return await execute_pipeline_with_input([Sets(), Reads()], [1, 2])

    assert asyncio.run(main()) == ["of the caller", "of a node"]


@pytest.mark.parametrize("count", [*range(13, 21), 30])
def test_any_number_of_generators_may_be_between(count: int) -> None:
    class Once:
        async def process(self, item: int) -> AsyncIterator[int]:
            yield item

    nodes = [*(Once() for _ in range(count)), Sums(), *(Once() for _ in range(count))]

    assert run(nodes, [1, 2]) == [1, 3]


class Reads:
    is_streaming = True

    async def first_alone(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in items:
            yield item
            break
        async for item in items:
            yield item

    async def all_at_once(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        for item in [item async for item in items]:
            yield item

    async def one(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        yield await anext(items)

    async def in_time(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        async with asyncio.timeout(10):
            async for item in items:
                yield item

    async def in_a_block(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        with contextlib.suppress(LookupError):
            async for item in items:
                yield item

    async def in_a_task(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        async def read() -> list[int]:
            return [item async for item in items]

        for item in await asyncio.create_task(read()):
            yield item

    async def later(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        doubled = (2 * item async for item in items)
        async for item in doubled:
            yield item


@pytest.mark.parametrize(
    ("name", "is_here", "is_here_in_session"),
    [
        ("first_alone", True, True),
        ("all_at_once", True, True),
        ("in_a_block", True, False),
        ("one", False, False),
        ("in_time", False, False),
        ("in_a_task", False, False),
        ("later", False, False),
    ],
)
def test_only_nodes_that_iterate_over_their_items_pull_them(
    name: str, is_here: bool, is_here_in_session: bool
) -> None:
    node = type("Node", (), {"is_streaming": True, "process": getattr(Reads, name)})()

    assert (on_loop(resolve([node]), is_run=True) is not None) is is_here
    assert (on_loop(resolve([node]), is_run=False) is not None) is is_here_in_session
    assert asyncio.run(execute_pipeline_with_input([node], [1]))


def test_beside_nodes_of_a_thread_it_has_no_block_that_could_belong_to_a_task() -> None:
    class Plain:
        def process(self, item: int) -> int:
            return item

    class Limits(Sums):
        async def process(self, items: Any) -> Any:
            async for item in items:
                with contextlib.suppress(KeyError):
                    yield item

    assert on_loop(resolve([Plain(), Sums()]), is_run=True) is not None
    assert on_loop(resolve([Plain(), Limits()]), is_run=True) is None
    assert on_loop(resolve([with_options(Plain(), placement="inline"), Limits()]), is_run=True) is not None
    assert asyncio.run(execute_pipeline_with_input([Plain(), Sums()], [1, 2])) == [1, 3]
    assert asyncio.run(execute_pipeline_with_input([Plain(), Limits()], [1, 2])) == [1, 2]
