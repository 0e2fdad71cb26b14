"""An async generator, of a node or of the input, runs as in an `async for`: in one task and one context."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from remotemedia import execute_pipeline_with_input
from remotemedia.exceptions import NodeError
from remotemedia.nodes import PassThroughNode

DEPTH = contextvars.ContextVar("depth", default=0)


async def with_timeout(item):
    """Exceeds its timeout after its first output."""
    try:
        async with asyncio.timeout(0.01):
            yield item
            await asyncio.Event().wait()
    except TimeoutError:
        yield "late"


async def with_task_group(item):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(asyncio.sleep(0, "from a task"))
        yield item
        yield await task


async def with_context_variable(item):
    """A token can be reset only in its own context."""
    token = DEPTH.set(1)
    try:
        yield item
        yield DEPTH.get()
    finally:
        DEPTH.reset(token)


async def with_task(item):
    task = asyncio.current_task()
    yield item
    yield asyncio.current_task() is task


CASES = [
    (with_timeout, "late"),
    (with_task_group, "from a task"),
    (with_context_variable, 1),
    (with_task, True),
]


class Generating:
    def __init__(self, generator):
        self.process = generator


@pytest.mark.parametrize(("generator", "second"), CASES)
def test_scopes_across_a_yield_work_in_a_node(run, generator, second):
    assert run([Generating(generator), PassThroughNode()], ["a", "b"]) == ["a", second, "b", second]


@pytest.mark.parametrize(("generator", "second"), CASES)
def test_scopes_across_a_yield_work_in_the_input(run, generator, second):
    assert run([PassThroughNode()], generator("a")) == ["a", second]


@pytest.mark.parametrize("generator", [with_timeout, with_context_variable, with_task])
def test_it_is_closed_where_it_ran(run, generator):
    """If another node fails, it releases its resources without another error."""

    class Failing:
        def process(self, item):
            raise ValueError("bad item")

    with pytest.raises(NodeError, match="bad item") as caught:
        run([Generating(generator), Failing()], ["a"])

    assert caught.value.__context__ is None


def test_an_input_that_is_not_read_to_its_end_stays_open(use_rust):
    """It belongs to the caller, who may continue to read it."""
    log = []

    async def items():
        try:
            for item in range(3):
                yield item
        finally:
            log.append("closed")

    class Failing:
        def process(self, item):
            raise ValueError("bad item")

    async def main():
        stream = items()
        with pytest.raises(NodeError):
            await execute_pipeline_with_input([Failing()], stream, use_rust=use_rust)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return [item async for item in stream], list(log)

    assert asyncio.run(main()) == ([1, 2], ["closed"])


def test_an_input_may_return_a_new_iterator(run):
    class Items:
        async def __aiter__(self):
            yield 1
            yield 2

    assert run([PassThroughNode()], Items()) == [1, 2]


def test_one_that_waits_for_the_nodes_after_it_is_closed_before_any_cleanup(run):
    """The reference executor never awaited `aclose`, so the event loop closed the generator at its end."""
    log = []

    class Waiting:
        async def process(self, item):
            try:
                yield item
            finally:
                await asyncio.sleep(0)
                log.append("closed")

        def cleanup(self):
            log.append("cleanup")

    class Failing:
        def process(self, item):
            raise ValueError("bad item")

    with pytest.raises(NodeError):
        run([Waiting(), Failing()], ["a"])

    assert log == ["closed", "cleanup"]


def test_a_stream_continues_only_after_its_output_was_processed(run):
    """An output that the end of input released was taken, and the next one was requested at once."""
    log = []

    class Holding:
        is_streaming = True

        async def process(self, items):
            held = [item async for item in items]
            for item in held:
                log.append(f"yield {item}")
                yield item
            log.append("end")

    class Taking:
        async def process(self, item):
            log.append(f"take {item}")

    run([Holding(), Taking()], [1, 2])

    assert log == ["yield 1", "take 1", "yield 2", "take 2", "end"]
