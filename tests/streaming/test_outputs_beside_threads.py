"""Nodes with any number of outputs beside `def` nodes: their outputs go on while they make more of them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from typing import TYPE_CHECKING, Any

import pytest
from loop_nodes import Sums, called, in_session, mapped, run

from remotemedia import Pipeline, execute_pipeline_with_input
from remotemedia.exceptions import NodeError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CAPACITY = 8
SECONDS = 20


class Adds:
    """Adds one on a thread."""

    def process(self, item: int) -> int:
        return item + 1


class Names:
    """Returns the name of its thread."""

    def process(self, item: int) -> str:
        return threading.current_thread().name


class Repeats:
    """Yields an item as often as it says."""

    async def process(self, item: int) -> AsyncIterator[int]:
        for _ in range(item):
            await asyncio.sleep(0)
            yield item


class Doubles:
    """Yields each item twice, and one more at the end."""

    is_streaming = True

    async def process(self, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for item in items:
            yield item
            yield item
        yield -1


class Endless:
    """Counts without end, until it is closed."""

    def __init__(self) -> None:
        self.made = 0
        self.log: list[str] = []

    async def process(self, item: int) -> AsyncIterator[int]:
        try:
            for count in itertools.count(item):
                self.made += 1
                yield count
        finally:
            self.log.append(f"closed {item}")


class Refuses:
    """Fails on some items."""

    def __init__(self, *items: int) -> None:
        self._items = items
        self.seen: list[int] = []

    def process(self, item: int) -> int:
        self.seen.append(item)
        if item in self._items:
            raise ValueError(item)
        return item


async def taken(session: Any) -> list[Any]:
    """Return outputs, and the indices of items that fail, until the end."""
    outputs: list[Any] = []
    while True:
        try:
            async for output in session:
                outputs.append(output)  # noqa: PERF401 - Those before an error count.
        except NodeError as error:
            outputs.append(f"failed {error.item_index}")
        else:
            return outputs


@pytest.mark.parametrize("count", [1, 10, 500])
def test_outputs_keep_their_order_in_each_way_in(count: int) -> None:
    expected = [item + 1 for index in range(count) for item in [index % 4 + 1] for _ in range(2 * item)]

    async def all_ways(session: Any) -> list[Any]:
        items = [index % 4 for index in range(count)]
        by_map = await mapped(session, items)
        results = await called(session, *items)
        for item in items:
            await session.put(item)
        session.end()
        return [by_map, results, await taken(session)]

    nodes = [Adds(), Repeats(), Doubles(), Adds()]
    by_map, by_call, by_put = in_session(nodes, all_ways, queue_size=2 * 8 * count)

    assert by_map == [*expected, 0]
    assert list(itertools.chain.from_iterable(by_call)) == expected
    assert by_put == [*expected, 0]


def test_a_run_takes_the_same_way() -> None:
    nodes = [Adds(), Repeats(), Adds(), Doubles(), Names()]

    assert run(nodes, [0, 1]) == ["remotemedia"] * 7


def test_all_def_nodes_share_one_thread() -> None:
    async def main(session: Any) -> set[str]:
        before = threading.active_count()
        names = {*await mapped(session, range(10))}
        mine = [thread.name for thread in threading.enumerate() if thread.name != "remotemedia-watch"]
        assert len(mine) == before + 1
        return names

    assert in_session([Adds(), Repeats(), Adds(), Repeats(), Names()], main) == {"remotemedia"}


def test_an_output_arrives_before_the_next_one_is_made() -> None:
    class Waits:
        def __init__(self) -> None:
            self.has_arrived = asyncio.Event()

        async def process(self, item: int) -> AsyncIterator[int]:
            yield item
            await self.has_arrived.wait()
            yield item + 1

    node = Waits()

    async def main(session: Any) -> list[int]:
        outputs = []
        async for output in session.map([1]):
            outputs.append(output)
            node.has_arrived.set()
        return outputs

    assert in_session([Adds(), node, Adds()], main) == [3, 4]


@pytest.mark.parametrize("placed", ["no node", "the last node"])
def test_a_node_waits_while_its_outputs_are_not_taken(placed: str) -> None:
    node = Endless()

    async def main() -> list[int]:
        pipeline = Pipeline()
        pipeline.add_node(node)
        pipeline.add_node(Adds(), **({} if placed == "no node" else {"placement": "thread"}))
        async with asyncio.timeout(SECONDS), pipeline.open(queue_size=CAPACITY) as session:
            outputs = session.map([0])
            first = [await anext(outputs) for _ in range(3)]
            await asyncio.sleep(0.1)
            made = node.made
            await asyncio.sleep(0.1)
            assert node.made == made <= 4 * CAPACITY
            await outputs.aclose()
        return first

    assert asyncio.run(main()) == [1, 2, 3]
    assert node.log == ["closed 0"]


def test_an_item_that_fails_behind_a_node_stops_only_what_the_node_makes_of_it() -> None:
    endless, refuses = Endless(), Refuses(12)

    async def main(session: Any) -> list[Any]:
        await session.put(10)
        await session.put(20)
        session.end()
        outputs: list[Any] = []
        with contextlib.suppress(NodeError):
            async for output in session:
                outputs.append(output)  # noqa: PERF401 - Those before the error count.
        async for output in session:
            outputs.append(output)
            if output > 30:
                break
        return outputs

    outputs = in_session([Adds(), endless, refuses], main, queue_size=CAPACITY)

    assert outputs == [11, *range(21, 32)]
    assert endless.log[0] == "closed 11"


def test_errors_have_the_index_of_their_item_and_come_in_order() -> None:
    async def main(session: Any) -> list[Any]:
        for item in (1, 2, 3):
            await session.put(item)
        session.end()
        return await taken(session)

    class Fails:
        async def process(self, item: int) -> AsyncIterator[int]:
            yield item
            if item == 3:
                raise ValueError(item)
            yield item

    nodes = [Adds(), Fails(), Refuses(4), Doubles(), Adds()]

    assert in_session(nodes, main) == [3, 3, 3, 3, 4, 4, "failed 1", "failed 2", 0]


def test_an_interruption_drops_what_a_node_has_made() -> None:
    node = Endless()

    async def main(session: Any) -> list[Any]:
        await session.put(0)
        await anext(aiter(session))
        assert await session.interrupt() == 1
        assert node.log == ["closed 1"]
        await session.put(100)
        return [await anext(aiter(session)) for _ in range(3)]

    assert in_session([Adds(), node, Adds()], main, queue_size=CAPACITY) == [102, 103, 104]


def test_what_an_item_has_made_after_an_error_is_dropped() -> None:
    class Spaces:
        """Yields outputs slowly, so that each one goes alone."""

        async def process(self, item: int) -> AsyncIterator[int]:
            for number in range(4):
                yield 10 * item + number
                await asyncio.sleep(0.02)

    async def main(session: Any) -> list[Any]:
        await session.put(0)
        await session.put(1)
        session.end()
        return await taken(session)

    nodes = [Adds(), Spaces(), Refuses(11, 12), Adds()]

    assert in_session(nodes, main) == [11, "failed 0", 21, 22, 23, 24]


def test_a_stream_that_is_closed_early_is_forgotten_by_nodes_of_later_stages() -> None:
    async def main(session: Any) -> tuple[int, int]:
        outputs = session.map([1, 1, 1])
        first = await anext(outputs)
        await outputs.aclose()
        return first, await session.call(9)

    assert in_session([Adds(), Sums()], main) == (2, 10)


def test_draining_waits_for_all_that_a_node_makes() -> None:
    seen = Refuses()

    async def main(session: Any) -> None:
        for item in range(5):
            await session.put(item)
        await session.drain()

    in_session([Adds(), Repeats(), seen], main, queue_size=100)

    assert seen.seen == [1, 2, 2, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 5]


def test_closing_in_the_middle_leaves_nothing_behind() -> None:
    node = Endless()

    async def main() -> None:
        async with asyncio.timeout(SECONDS):
            session = await Pipeline([Adds(), node, Adds()]).open(queue_size=CAPACITY).__aenter__()
            outputs = session.map([0, 0])
            await anext(outputs)
            await session.close()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    before = threading.active_count()
    asyncio.run(main())

    assert node.log == ["closed 1"]
    assert threading.active_count() == before


def test_the_end_of_input_passes_through_a_bounded_queue() -> None:
    class AtEnd:
        def __init__(self) -> None:
            self.ahead = 0

        async def process(self, item: int) -> AsyncIterator[int]:
            yield item

        async def flush(self) -> AsyncIterator[int]:
            for count in range(100):
                self.ahead += 1
                yield count

    node = AtEnd()
    ahead = []

    async def main(session: Any) -> list[int]:
        outputs = []
        async for output in session.map([7]):
            outputs.append(output)
            ahead.append(node.ahead - len(outputs))
        return outputs

    assert in_session([node, Adds()], main, queue_size=CAPACITY) == [8, *range(1, 101)]
    assert max(ahead) <= 4 * CAPACITY


def test_a_failure_ends_a_run_and_no_node_is_flushed() -> None:
    class Flushes(Adds):
        def __init__(self) -> None:
            self.log: list[str] = []

        def flush(self) -> None:
            self.log.append("flush")

    flushes, node = Flushes(), Endless()

    async def main() -> None:
        with pytest.raises(NodeError, match="'Refuses_2' failed in process\\(\\) on item 0"):
            await execute_pipeline_with_input([Adds(), node, Refuses(5), flushes], [0, 1])

    asyncio.run(asyncio.wait_for(main(), SECONDS))

    assert flushes.log == []
    # The second item may have begun meanwhile.
    assert node.log == ["closed 1", "closed 2"][: len(node.log)]


@pytest.mark.parametrize("phase", ["process", "flush"])
@pytest.mark.parametrize("kind", [GeneratorExit, SystemExit, KeyboardInterrupt])
def test_a_request_to_stop_ends_a_run_and_is_raised(kind: type[BaseException], phase: str) -> None:
    class Stops:
        async def process(self, item: int) -> AsyncIterator[int]:
            if phase == "process":
                raise kind
            yield item

        async def flush(self) -> None:
            raise kind

    async def main() -> str:
        try:
            await execute_pipeline_with_input([Adds(), Stops(), Adds()], [0, 1])
        except kind:
            return "raised"
        return "lost"

    assert asyncio.run(asyncio.wait_for(main(), SECONDS)) == "raised"
