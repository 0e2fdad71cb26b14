"""Runs and sessions whose engine is the caller's event loop."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import logging
import threading
import time

import pytest
from loop_nodes import Same
from stream_nodes import TIMEOUT_SECS, Fails, arrived

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia.exceptions import NodeError, SessionInterruptedError
from remotemedia.nodes import OutputNode


class NameOfTask:
    """Returns the name of the task that it is called in."""

    async def process(self, _item):
        return asyncio.current_task().get_name()


class Blocks:
    """A `def` node that waits until `may_return` is set."""

    def __init__(self, *items):
        self.items = items
        self.is_there = threading.Event()
        self.may_return = threading.Event()
        self.log = []

    def process(self, item):
        self.log.append(f"begin {item}")
        if item in self.items:
            self.is_there.set()
            assert self.may_return.wait(TIMEOUT_SECS)
        self.log.append(f"end {item}")
        return item


class Later:
    """A `def` node that returns what has yet to run."""

    def process(self, item):
        return self.answer(item) if item % 2 else self.answers(item)

    async def answer(self, item):
        await asyncio.sleep(0)
        return item * 10

    def answers(self, item):
        yield item
        yield item + 1


def test_coroutines_run_in_the_task_of_the_caller():
    async def main():
        (of_run,) = await execute_pipeline_with_input([NameOfTask()], [1])
        async with Pipeline([NameOfTask()]).open() as session:
            of_call = await session.call(1)
        return {asyncio.current_task().get_name(), of_run, of_call}

    assert len(asyncio.run(main())) == 1


def test_a_variable_that_a_node_sets_is_set_for_the_caller():
    variable = contextvars.ContextVar("variable", default=0)

    class Sets:
        async def process(self, item):
            variable.set(item)

    async def main():
        await execute_pipeline_with_input([Sets()], [1])
        of_run = variable.get()
        async with Pipeline([Sets()]).open() as session:
            await session.call(2)
        return of_run, variable.get()

    assert asyncio.run(main()) == (1, 2)


class FailsLater(Fails):
    async def process(self, item):
        return super().process(item)


@pytest.mark.parametrize(
    "nodes",
    [
        [Fails(5), Same()],
        [Same(), Fails(5)],
        [Same(), Fails(5), Same()],
        [FailsLater(5), Fails()],
        [Fails(), FailsLater(5), Fails()],
    ],
)
def test_an_error_in_a_part_of_a_chain_has_the_index_of_its_item(nodes):
    async def main():
        taken, errors = [], []
        async with Pipeline(nodes).open() as session:
            for item in range(10):
                await session.put(item)
            session.end()
            outputs = aiter(session)
            while True:
                try:
                    taken.append(await anext(outputs))
                except NodeError as error:
                    errors.append((error.item_index, len(taken), type(error.__cause__)))
                except StopAsyncIteration:
                    return taken, errors

    assert asyncio.run(main()) == ([item for item in range(10) if item != 5], [(5, 5, ValueError)])


@pytest.mark.parametrize("enable_metrics", [False, True])
def test_an_inline_node_that_raises_stop_iteration_beside_a_thread_is_named(enable_metrics):
    """A coroutine around the node replaced its error, which then had the wrong node."""

    class Stops:
        def process(self, item):
            raise StopIteration

    nodes = [Same(), with_options(Stops(), placement="inline"), Same()]
    with pytest.raises(NodeError, match="Stops_1") as caught:
        asyncio.run(execute_pipeline_with_input(nodes, [1], enable_metrics=enable_metrics))

    assert type(caught.value.__cause__) is StopIteration


@pytest.mark.parametrize("placement", [{}, {"placement": "inline"}])
def test_each_of_several_errors_has_the_index_of_its_item(placement):
    async def main():
        failures = []
        async with Pipeline([with_options(Fails(*range(0, 50, 5)), **placement)]).open() as session:
            for item in range(50):
                await session.put(item)
            session.end()
            outputs = aiter(session)
            while True:
                try:
                    await anext(outputs)
                except NodeError as error:
                    failures.append(error.item_index)
                except StopAsyncIteration:
                    return failures

    assert asyncio.run(main()) == [*range(0, 50, 5)]


@pytest.mark.parametrize("others", [[], [Same()]])
def test_what_a_def_node_returns_late_continues_in_the_chain(others):
    async def main():
        outputs = await execute_pipeline_with_input([Later(), *others, Same()], range(4))
        async with Pipeline([*others, Later()]).open() as session:
            return outputs, [output async for output in session.map(range(4))]

    expected = [0, 1, 10, 2, 3, 30]
    assert asyncio.run(main()) == (expected, expected)


def test_items_that_wait_cross_together():
    """The first part takes several items before the second one begins."""
    log = []

    class Logs:
        def process(self, item):
            log.append("first")
            return item

    class LogsLater:
        async def process(self, item):
            log.append("second")
            return item

    outputs = asyncio.run(execute_pipeline_with_input([Logs(), LogsLater()], range(1000)))

    assert outputs == [*range(1000)]
    crossings = sum(before == "second" and after == "first" for before, after in itertools.pairwise(log))
    assert crossings < 500


class Name:
    """Returns the name of the thread that it is called on."""

    def process(self, _item):
        return threading.current_thread().name


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([Name()], "remotemedia"),
        ([Same(), Name()], threading.main_thread().name),
        ([], threading.main_thread().name),
    ],
    ids=["before a def node", "before a coroutine", "alone"],
)
def test_a_built_in_node_runs_with_its_neighbour(others, expected):
    names = []
    output = OutputNode(lambda _item: names.append(threading.current_thread().name))

    async def main():
        async with Pipeline([output, *others]).open() as session:
            await session.call(1)

    asyncio.run(main())
    assert names == [expected]


def test_a_cancelled_call_returns_before_its_def_node_and_the_next_call_waits():
    node = Blocks("old")

    async def main():
        async with Pipeline([node]).open() as session:
            call = asyncio.create_task(session.call("old"))
            await arrived(node.is_there)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            following = asyncio.create_task(session.call("new"))
            await asyncio.sleep(0.01)
            log = [*node.log]
            node.may_return.set()
            return log, await following

    assert asyncio.run(main()) == (["begin old"], "new")
    assert node.log == ["begin old", "end old", "begin new", "end new"]


def test_an_interruption_waits_for_a_def_node_and_drops_its_result():
    node = Blocks("old")

    async def main():
        async with Pipeline([node, Same()]).open() as session:
            call = asyncio.create_task(session.call("old"))
            await arrived(node.is_there)
            interruption = asyncio.create_task(session.interrupt())
            with pytest.raises(SessionInterruptedError):
                await call
            is_over = interruption.done()
            node.may_return.set()
            return is_over, await interruption, await session.call("new")

    assert asyncio.run(main()) == (False, 1, "new")


def test_an_interruption_between_streams_drops_nothing():
    async def main():
        async with Pipeline([Same()]).open() as session:
            outputs = session.map([1, 2])
            taken = [output async for output in outputs]
            return taken, await session.interrupt()

    assert asyncio.run(main()) == ([1, 2], 0)


class Yields:
    async def process(self, item):
        yield item


@pytest.mark.parametrize("count", [1, 20])
def test_nodes_that_never_suspend_give_other_tasks_turns_during_a_long_input(count):
    """Also without a kernel, whose loops may not be nested so deeply."""

    async def main():
        turns = 0

        async def numbers():
            # Takes some ten milliseconds.
            for number in range(20_000 // count):
                yield number

        async def take_turns():
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        other = asyncio.create_task(take_turns())
        await execute_pipeline_with_input([Yields() for _ in range(count)], numbers())
        other.cancel()
        return turns

    assert asyncio.run(main()) > 3


def test_a_run_that_waits_for_input_leaves_its_nodes_to_others():
    async def main():
        node, may_end = Same(), asyncio.Event()
        has_begun = asyncio.Event()

        async def slow():
            yield 1
            has_begun.set()
            await may_end.wait()
            yield 2

        run = asyncio.create_task(execute_pipeline_with_input([node], slow()))
        await has_begun.wait()
        other = await asyncio.wait_for(execute_pipeline_with_input([node], [3]), TIMEOUT_SECS)
        may_end.set()
        return await run, other

    assert asyncio.run(main()) == ([1, 2], [3])


class Waits:
    async def process(self, item):
        await asyncio.sleep(item)


class HoldsUp:
    async def process(self, item):
        time.sleep(item)  # noqa: ASYNC251 - It holds up the event loop.


@pytest.mark.parametrize(
    "node",
    [Waits(), HoldsUp(), with_options(HoldsUp(), placement="inline")],
    ids=["awaits", "blocks", "blocks inline"],
)
def test_a_node_that_stalls_is_named(node, caplog):
    async def main():
        async with Pipeline([node]).open(stall_warning=0.05) as session:
            await session.call(0)
            # Sessions are not watched from the first moment on.
            await asyncio.sleep(0.05)
            await session.call(0.4)

    with caplog.at_level(logging.WARNING, "remotemedia"):
        asyncio.run(main())

    (record,) = caplog.records
    name = type(getattr(node, "node", node)).__name__
    assert record.getMessage().startswith(f"node '{name}_0' has been busy with item 1 for 0.")
    assert "in process\n" in record.getMessage()


def test_a_node_that_waits_for_room_does_not_stall(caplog):
    class Many:
        async def process(self, item):
            for output in range(item):
                yield output

    async def main():
        async with Pipeline([Many()]).open(stall_warning=0.05, queue_size=2) as session:
            await session.put(4)
            await asyncio.sleep(0.3)
            session.end()
            return [output async for output in session]

    with caplog.at_level(logging.WARNING, "remotemedia"):
        assert asyncio.run(main()) == [0, 1, 2, 3]
    assert caplog.records == []
