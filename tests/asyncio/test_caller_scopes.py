"""What surrounds a call in the caller's code holds inside its nodes: timeouts, task groups, cancellation."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from loop_nodes import Same

from remotemedia import Pipeline, execute_pipeline_with_input, with_options

GROUP = contextvars.ContextVar("GROUP")
NAME = contextvars.ContextVar("NAME", default="lost")


class Hangs:
    """Waits for ever, and records how it ends."""

    def __init__(self):
        self.has_begun = asyncio.Event()
        self.ends = []

    async def wait(self):
        self.has_begun.set()
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            self.ends.append(type(error))
            raise

    async def process(self, item):
        await self.wait()

    def cleanup(self):
        self.ends.append("cleanup")


class HangsGenerating(Hangs):
    async def process(self, item):
        yield item
        await self.wait()


class HangsStreaming(Hangs):
    is_streaming = True

    async def process(self, items):
        async for item in items:
            yield item
            await self.wait()


async def run(nodes):
    return await execute_pipeline_with_input(nodes, [1, 2])


async def call(nodes):
    async with Pipeline(nodes).open() as session:
        return await session.call(1)


async def map_items(nodes):
    async with Pipeline(nodes).open() as session:
        return [output async for output in session.map([1, 2])]


async def put(nodes):
    async with Pipeline(nodes).open() as session:
        await session.put(1)
        return [output async for output in session]


async def in_task(work, node):
    task = asyncio.create_task(work)
    await node.has_begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def in_timeout(work, node):
    async def work_in_time():
        async with asyncio.timeout(None) as limit:
            expiring = asyncio.create_task(expire(limit, node))
            try:
                await work
            finally:
                await expiring

    with pytest.raises(TimeoutError):
        await work_in_time()


async def expire(limit, node):
    await node.has_begun.wait()
    limit.reschedule(asyncio.get_running_loop().time())


async def in_group(work, node):
    async def work_beside():
        async with asyncio.TaskGroup() as group:
            group.create_task(work)
            group.create_task(fail(node))

    with pytest.raises(ExceptionGroup) as raised:
        await work_beside()
    assert raised.group_contains(LookupError)


async def fail(node):
    await node.has_begun.wait()
    raise LookupError("a neighbour")


@pytest.mark.parametrize("kind", [Hangs, HangsGenerating, HangsStreaming])
@pytest.mark.parametrize("order", ["alone", "behind", "before"])
@pytest.mark.parametrize("scope", [in_task, in_timeout, in_group])
@pytest.mark.parametrize("way", [run, call, map_items, put])
def test_the_end_of_a_scope_cancels_the_node(way, scope, order, kind):
    async def main():
        node = kind()
        nodes = {"alone": [node], "behind": [Same(), node], "before": [node, Same()]}[order]
        await scope(way(nodes), node)
        return node.ends

    assert asyncio.run(main()) == [asyncio.CancelledError, "cleanup"]


@pytest.mark.parametrize("way", [run, call, map_items, put])
def test_a_node_may_start_tasks_in_the_group_of_its_caller(way):
    log = []

    async def note(item):
        await asyncio.sleep(0)
        log.append(item)

    class Starts:
        async def process(self, item):
            GROUP.get().create_task(note(item))

    async def main():
        async with asyncio.TaskGroup() as group:
            GROUP.set(group)
            if way is put:
                async with Pipeline([Starts()]).open() as session:
                    await session.put(1)
            else:
                await way([Starts()])

    asyncio.run(main())

    assert log == ([1, 2] if way in (run, map_items) else [1])


@pytest.mark.parametrize("way", [run, map_items])
def test_a_timeout_inside_a_node_ends_only_its_own_wait(way):
    class Impatient:
        async def process(self, item):
            try:
                async with asyncio.timeout(0):
                    await asyncio.Event().wait()
            except TimeoutError:
                return (item, asyncio.current_task().cancelling())

    assert asyncio.run(way([Impatient()])) == [(1, 0), (2, 0)]


class Reads:
    def process(self, item):
        return NAME.get()


class ReadsGenerating:
    def process(self, item):
        yield NAME.get()


@pytest.mark.parametrize("kind", [Reads, ReadsGenerating])
@pytest.mark.parametrize("neighbour", [Same, None])
def test_inline_nodes_see_the_variables_of_each_caller(kind, neighbour):
    async def call_as(session, name):
        NAME.set(name)
        return await session.call(name)

    async def main():
        node = with_options(kind(), placement="inline")
        async with Pipeline([*([neighbour()] if neighbour else []), node]).open() as session:
            NAME.set("stream")
            stream = [output async for output in session.map([1, 2])]
            calls = await asyncio.gather(*(call_as(session, name) for name in "abc"))
            return stream, calls, NAME.get()

    assert asyncio.run(main()) == (["stream", "stream"], ["a", "b", "c"], "stream")
