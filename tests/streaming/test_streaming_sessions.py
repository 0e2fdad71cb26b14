"""Sessions with streaming nodes on the caller's event loop, which run in the tasks of their callers."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from typing import TYPE_CHECKING, Any

import pytest
from epoch_nodes import Pairs
from loop_nodes import Same, Sums, called, in_session, mapped

from remotemedia import Pipeline
from remotemedia._graph.graph import resolve
from remotemedia._loop.places import on_loop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="none")


class Last:
    """Has an output at the end."""

    is_streaming = True

    async def process(self, items: AsyncIterator[Any]) -> AsyncIterator[Any]:
        count = 0
        async for item in items:
            count += 1
            yield item
        yield f"{count} items"


def test_a_call_needs_no_other_task_and_no_thread() -> None:
    class Looks:
        is_streaming = True

        async def process(self, items: AsyncIterator[int]) -> AsyncIterator[Any]:
            async for _ in items:
                await asyncio.sleep(0)
                yield asyncio.all_tasks() == {asyncio.current_task()}, threading.active_count()

    before = threading.active_count()

    results = in_session([Same(), Looks(), Same()], lambda session: called(session, 1, 2))

    assert results == [(True, before)] * 2


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
def test_it_may_be_anywhere_in_a_chain(kinds: list[Callable[[], Any]], outputs: list[int]) -> None:
    async def all_ways(session: Any) -> list[Any]:
        ways = [await mapped(session, range(3)), await called(session, 0, 1, 2)]
        for item in range(3):
            await session.put(item)
        session.end()
        return [*ways, [output async for output in session]]

    by_map, by_call, by_put = in_session([kind() for kind in kinds], all_ways)

    # The stream of `map` has ended; `put` goes on where the calls were.
    assert (by_map, by_call) == (outputs, outputs)
    assert by_put == ([3, 4, 6] if kinds.count(Sums) == 1 else [7, 11, 17])


def test_the_end_of_a_stream_flushes_it_and_the_next_item_starts_it_again() -> None:
    async def main(session: Any) -> list[Any]:
        return [*await mapped(session, "ab"), *await mapped(session, ""), *await called(session, "c")]

    assert in_session([Last()], main) == ["a", "b", "2 items", "c"]


@pytest.mark.parametrize("has_one_end", [False, True])
def test_branches_with_streaming_nodes_meet_in_order(*, has_one_end: bool) -> None:
    pipeline = Pipeline("branches").add_node(Same(), id="in")
    pipeline.add_node(Sums(), id="sums", after="in").add_node(Last(), id="last", after="in")
    if has_one_end:
        pipeline.add_node(Same(), id="out", after=["sums", "last"])

    async def main() -> list[Any]:
        async with pipeline.open() as session:
            return await mapped(session, [1, 2])

    assert on_loop(resolve(pipeline), is_run=False) is not None
    assert asyncio.run(main()) == [1, 1, 3, 2, "2 items"]


def test_each_caller_receives_the_outputs_after_its_item() -> None:
    async def main(session: Any) -> list[Any]:
        stream = session.map(range(0, 100, 10))
        results: list[Any] = [await anext(stream)]
        results += await asyncio.gather(*map(session.call, "abcd"))
        return results

    results = in_session([Pairs()], main)

    assert results[-3:] == [("a", "b"), ("b", "c"), ("c", "d")]


@pytest.mark.parametrize("is_at_the_end", [False, True])
def test_it_waits_for_room(*, is_at_the_end: bool) -> None:
    class Endless:
        is_streaming = True
        made = 0

        async def process(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
            async for item in items:
                while not is_at_the_end:
                    self.made += 1
                    yield item
            while True:
                self.made += 1
                yield 0

    node = Endless()

    async def main(session: Any) -> int:
        async with contextlib.aclosing(session.map([0])) as stream:
            for _ in range(3):
                assert await anext(stream) == 0
            for _ in range(10):
                await asyncio.sleep(0)
            return node.made

    assert 3 <= in_session([node], main, queue_size=4) <= 3 + 4 + 1


def test_its_calls_and_outputs_are_measured() -> None:
    async def main(session: Any) -> Any:
        await mapped(session, [1, 2])
        await called(session, 3)
        return session.metrics()

    metrics = in_session([Same(), Last()], main, enable_metrics=True)

    counts = [(node["items_in"], node["items_out"]) for node in metrics["node_metrics"]]
    assert (metrics["items_in"], metrics["items_out"], counts) == (3, 4, [(3, 3), (3, 4)])


def test_its_variables_are_those_of_the_caller_and_its_own() -> None:
    class Names:
        is_streaming = True

        async def process(self, items: AsyncIterator[str]) -> AsyncIterator[tuple[str, str]]:
            own.set("own")
            token = VARIABLE.set("of the node")
            async for _ in items:
                yield VARIABLE.get(), own.get()
            # Only the context in which it was made knows the token.
            VARIABLE.reset(token)
            yield VARIABLE.get(), own.get()

    own: contextvars.ContextVar[str] = contextvars.ContextVar("own", default="none")

    async def call_as(session: Any, name: str) -> Any:
        VARIABLE.set(name)
        result = await session.call(1)
        assert (VARIABLE.get(), own.get()) == (name, "none")
        return result

    async def main(session: Any) -> list[Any]:
        tasks = [asyncio.create_task(call_as(session, name)) for name in ("a", "b")]
        results = await asyncio.gather(*tasks)
        return [*results, *await mapped(session, [2])]

    assert [name for name, _ in in_session([Names()], main)][1] == "b"
    assert [name for _, name in in_session([Names()], main)] == ["own"] * 4


def test_two_sessions_of_one_node_have_streams_of_their_own() -> None:
    async def main() -> list[Any]:
        node = Sums()
        async with Pipeline([node]).open() as one, Pipeline([Same(), node]).open() as other:
            return [await one.call(1), await other.call(10), await one.call(2), await other.call(20)]

    assert asyncio.run(main()) == [1, 10, 3, 30]
