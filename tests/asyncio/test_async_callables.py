"""Async callables are awaited wherever a callable is accepted, on every placement and both executors."""

from __future__ import annotations

import asyncio
import functools
import threading

import pytest

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia.exceptions import NodeError, PipelineError
from remotemedia.nodes import FilterNode, OutputNode, PassThroughNode

LONG = 300


async def is_even(item, *, later=0):
    await asyncio.sleep(later)
    return item % 2 == 0


class IsEven:
    async def __call__(self, item):
        return await is_even(item)


class Awaitable:
    def __init__(self, coroutine):
        self.coroutine = coroutine

    def __await__(self):
        return self.coroutine.__await__()


PREDICATES = {
    "async def": is_even,
    "object": IsEven(),
    "method": IsEven().__call__,
    "partial": functools.partial(is_even, later=0),
    "lambda": lambda item: is_even(item),  # noqa: PLW0108 - That is the point.
    "awaitable": lambda item: Awaitable(is_even(item)),
}


@pytest.mark.parametrize("count", [3, LONG])
@pytest.mark.parametrize("form", PREDICATES)
def test_a_predicate_is_awaited(run, form, count):
    node = FilterNode(predicate=PREDICATES[form])

    assert run([node, PassThroughNode()], range(count)) == list(range(0, count, 2))


@pytest.mark.parametrize(
    "options", [{"placement": "thread"}, {"timeout": 10.0}, {"retries": 1}, {"placement": "process"}]
)
def test_a_predicate_is_awaited_in_every_placement(options):
    node = with_options(FilterNode(predicate=is_even), **options)

    assert asyncio.run(execute_pipeline_with_input([node], range(5))) == [0, 2, 4]


def test_a_predicate_is_awaited_in_sessions():
    pipeline = Pipeline([FilterNode(predicate=is_even)])

    async def main():
        async with pipeline.open() as session:
            return await session.call(1), [output async for output in session.map(range(5))]

    with pipeline.open() as session:
        assert (session.call(1), list(session.map(list(range(LONG))))[:2]) == (None, [0, 2])
    assert asyncio.run(main()) == (None, [0, 2, 4])


def test_a_predicate_that_fails_raises_node_error(run):
    async def fail(item):
        raise LookupError(item)

    with pytest.raises(NodeError, match="LookupError: 0") as caught:
        run([FilterNode(predicate=fail)], range(LONG))

    assert caught.value.item_index == 0


@pytest.mark.parametrize("count", [2, LONG])
def test_a_callback_ends_before_the_item_is_passed_on(run, count):
    log = []

    async def take(item):
        await asyncio.sleep(0)
        log.append(item)

    def note(item):
        log.append(-item)

    assert run([OutputNode(take), OutputNode(note)], range(count)) == list(range(count))
    assert log == [number for item in range(count) for number in (item, -item)]


class Failing:
    def process(self, item):
        if item % 2:
            raise ValueError(item)
        return item


class FailingLater(Failing):
    async def process(self, item):
        await asyncio.sleep(0)
        return super().process(item)


class FailingStream:
    def process(self, item):
        yield item
        raise ValueError(item)


class FailingBatch:
    def process(self, items):
        raise ValueError(items)


class Letters:
    """Records failed items."""

    def __init__(self):
        self.taken = []

    async def __call__(self, item, error):
        await asyncio.sleep(0)
        self.taken.append((item, type(error.__cause__)))


class TestDeadLetters:
    @pytest.mark.parametrize("option", ["dead_letter", "on_error"])
    @pytest.mark.parametrize(
        "wrap", [lambda letters: letters, functools.partial, lambda letters: letters.__call__]
    )
    def test_they_are_awaited(self, run, option, wrap):
        letters = Letters()
        node = with_options(Failing(), **{option: wrap(letters)})

        assert run([node], range(4)) == [0, 2]
        assert letters.taken == [(1, ValueError), (3, ValueError)]

    @pytest.mark.parametrize(
        ("node", "options", "outputs", "taken"),
        [
            (FailingStream(), {}, [0, 1, 2], [0, 1, 2]),
            (FailingBatch(), {"batch": 3}, [], [0, 1, 2]),
            (FailingLater(), {}, [0, 2], [1]),
            (FailingLater(), {"concurrency": 3}, [0, 2], [1]),
            (FailingLater(), {"concurrency": 3, "retries": 1, "retry_delay": 0.0}, [0, 2], [1]),
            (Failing(), {"placement": "thread"}, [0, 2], [1]),
            (Failing(), {"placement": "process"}, [0, 2], [1]),
            (FailingLater(), {"placement": "process", "concurrency": 3}, [0, 2], [1]),
            (FailingStream(), {"placement": "process"}, [0, 1, 2], [0, 1, 2]),
        ],
    )
    def test_they_are_awaited_for_every_kind_of_node(self, node, options, outputs, taken):
        letters = Letters()
        guarded = with_options(node, dead_letter=letters, **options)

        assert asyncio.run(execute_pipeline_with_input([guarded, PassThroughNode()], range(3))) == outputs
        assert [item for item, _ in letters.taken] == taken

    @pytest.mark.parametrize("options", [{}, {"placement": "thread"}, {"placement": "process"}])
    def test_they_are_awaited_in_sessions(self, options):
        letters = Letters()
        pipeline = Pipeline("p").add_node(Failing(), dead_letter=letters, **options)

        async def main():
            async with pipeline.open() as session:
                await asyncio.gather(session.call(3), session.call(4))

        with pipeline.open(enable_metrics=True) as session:
            assert (session.call(1), session.call(2)) == (None, 2)
            counts = session.metrics()["node_metrics"][0]
        asyncio.run(main())

        assert [item for item, _ in letters.taken] == [1, 3]
        assert (counts["dead_lettered"], counts["errors"]) == (1, 1)

    def test_they_run_on_the_loop_of_the_caller(self):
        threads = []

        async def take(item, error):
            threads.append(threading.get_ident())

        node = with_options(FailingLater(), dead_letter=take, concurrency=2)
        asyncio.run(execute_pipeline_with_input([node], [1, 3]))

        assert threads == [threading.get_ident()] * 2

    @pytest.mark.parametrize("options", [{}, {"placement": "thread"}])
    def test_one_that_fails_fails_the_item(self, options):
        async def refuse(item, error):
            raise OSError("the disk is full")

        node = with_options(Failing(), dead_letter=refuse, **options)
        with pytest.raises(NodeError, match="OSError: the disk is full") as caught:
            asyncio.run(execute_pipeline_with_input([node], [0, 1]))

        assert caught.value.item_index == 1

    def test_the_reference_fails_the_item_too(self, run):
        async def refuse(item, error):
            raise OSError("the disk is full")

        with pytest.raises(NodeError, match="OSError: the disk is full"):
            run([with_options(Failing(), dead_letter=refuse)], [0, 1])

    def test_a_cancelled_one_leaves_nothing(self):
        async def main():
            has_begun = asyncio.Event()

            async def take(item, error):
                has_begun.set()
                await asyncio.Event().wait()

            node = with_options(Failing(), dead_letter=take)
            task = asyncio.create_task(execute_pipeline_with_input([node], [1]))
            await has_begun.wait()
            task.cancel()
            await asyncio.wait([task])
            return task.cancelled()

        assert asyncio.run(main())


def test_a_factory_that_is_async_is_refused():
    async def make():
        return PassThroughNode()

    with pytest.raises(
        PipelineError, match="the factory is async; create the object in a function without async"
    ):
        Pipeline("p").add_node(make, placement="thread", replicas=2)
