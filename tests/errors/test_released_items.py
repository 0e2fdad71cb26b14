"""An item whose call has failed is freed as soon as the error is handled, without the garbage collector.

Items may be batches of images: a reference that lives until a collection can fill the memory of a machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref

import pytest

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia.exceptions import NodeError


class Item:
    """An object that accepts weak references."""


class Fails:
    def process(self, item):
        raise ValueError("no")


class FailsLater:
    async def process(self, item):
        await asyncio.sleep(0)
        raise ValueError("no")


class FailsInTurn:
    def process(self, item):
        yield 1
        raise ValueError("no")


class FailsInTurnLater:
    async def process(self, item):
        yield 1
        await asyncio.sleep(0)
        raise ValueError("no")


class FailsStreaming:
    is_streaming = True

    async def process(self, items):
        async for _item in items:
            yield 1
            raise ValueError("no")


class FailsBatch:
    def process(self, items):
        raise ValueError("no")


NODES = {
    "plain": (Fails, {}),
    "coroutine": (FailsLater, {}),
    "generator": (FailsInTurn, {}),
    "async generator": (FailsInTurnLater, {}),
    "streaming": (FailsStreaming, {}),
    "thread": (Fails, {"placement": "thread"}),
    "coroutine on a thread": (FailsLater, {"placement": "thread"}),
    "concurrency": (FailsLater, {"concurrency": 2}),
    "concurrent generator": (FailsInTurnLater, {"concurrency": 2}),
    "batch": (FailsBatch, {"batch": 2}),
    "retries": (Fails, {"retries": 1, "retry_delay": 0.0}),
    "retried coroutine": (FailsLater, {"retries": 1, "retry_delay": 0.0}),
    "concurrent retries": (FailsLater, {"concurrency": 2, "retries": 1, "retry_delay": 0.0}),
    "timeout": (FailsLater, {"timeout": 10.0}),
    "skipped": (FailsLater, {"on_error": "skip"}),
    "inline retries": (Fails, {"placement": "inline", "retries": 1}),
    "inline generator with a policy": (FailsInTurn, {"placement": "inline", "retries": 1}),
    "async generator with a policy": (FailsInTurnLater, {"timeout": 10.0, "retries": 1}),
    "skipped generator": (FailsInTurnLater, {"on_error": "skip"}),
    "dead letter": (Fails, {"dead_letter": lambda _item, _error: None}),
    "dead letter that fails": (FailsLater, {"dead_letter": lambda _item, _error: 1 / 0}),
    "worker": (Fails, {"placement": "process"}),
}


def every(way, *ways):
    """Return each kind of node with one way, and a few of them with the others."""
    few = ("plain", "coroutine", "streaming", "timeout")
    return [(name, way) for name in NODES] + [(name, other) for name in few for other in ways]


def made(name):
    kind, options = NODES[name]
    return with_options(kind(), **options)


@pytest.fixture(autouse=True)
def without_collector():
    gc.disable()
    yield
    gc.enable()


async def settle(life):
    """Wait for threads and callbacks that are about to end."""
    for _ in range(100):
        if life() is None:
            return True
        await asyncio.sleep(0.005)
    return False


def is_released(life):
    return asyncio.run(settle(life))


async def fail_by_call(session, item):
    await session.call(item)


async def fail_by_map(session, item):
    async for _output in session.map([item]):
        pass


async def fail_by_put(session, item):
    await session.put(item)
    session.end()
    async for _output in session:
        pass


@pytest.mark.parametrize("enable_metrics", [False, True])
@pytest.mark.parametrize(("name", "fail"), every(fail_by_call, fail_by_map, fail_by_put))
def test_by_an_async_session(name, fail, enable_metrics):
    async def main():
        async with Pipeline([made(name)]).open(enable_metrics=enable_metrics) as session:
            item = Item()
            life = weakref.ref(item)
            with contextlib.suppress(NodeError):
                await fail(session, item)
            del item
            return await settle(life)

    assert asyncio.run(main())


class Pass:
    async def process(self, item):
        await asyncio.sleep(0)
        return item


class Promises:
    def process(self, item):
        return FailsLater().process(item)


@pytest.mark.parametrize("enable_metrics", [False, True])
@pytest.mark.parametrize("fail", [fail_by_call, fail_by_map, fail_by_put])
@pytest.mark.parametrize("options", [{}, {"placement": "inline"}, {"on_error": "skip"}])
@pytest.mark.parametrize("kind", [Fails, FailsLater, Promises])
def test_by_branches_on_the_loop_and_beside_it(kind, options, fail, enable_metrics):
    async def main():
        pipeline = Pipeline().add_node(Pass(), id="first").add_node(Pass(), id="a", after="first")
        pipeline.add_node(kind(), id="b", after="first", **options)
        pipeline.add_node(Promises(), id="c", after="a", on_error="skip")
        async with pipeline.open(enable_metrics=enable_metrics) as session:
            item = Item()
            life = weakref.ref(item)
            with contextlib.suppress(NodeError):
                await fail(session, item)
            del item
            return await settle(life)

    assert asyncio.run(main())


def call(session, item):
    session.call(item)


def map_(session, item):
    for _output in session.map([item]):
        pass


def put(session, item):
    session.put(item)
    session.end()
    for _output in session:
        pass


@pytest.mark.parametrize(("name", "fail"), every(call, map_, put))
def test_by_a_session(name, fail):
    with Pipeline([made(name)]).open() as session:
        item = Item()
        life = weakref.ref(item)
        with contextlib.suppress(NodeError):
            fail(session, item)
        del item
        assert is_released(life)


async def execute(node, item, use_rust):
    await execute_pipeline_with_input([node], [item], use_rust=use_rust)


async def execute_with_metrics(node, item, use_rust):
    await execute_pipeline_with_input([node], [item], True, use_rust=use_rust)


async def run_one(node, item, use_rust):
    await Pipeline([node]).run(item, use_rust)


async def process(node, item, use_rust):
    async for _output in Pipeline([node]).process([item], use_rust=use_rust):
        pass


async def within_block(node, item, use_rust):
    pipeline = Pipeline([node])
    async with pipeline.managed_execution():
        await pipeline.run([item], use_rust)


@pytest.mark.parametrize(
    ("name", "fail"), every(execute, execute_with_metrics, run_one, process, within_block)
)
def test_by_a_run(name, use_rust, fail):
    node = made(name)

    async def main():
        item = Item()
        life = weakref.ref(item)
        with contextlib.suppress(NodeError):
            await fail(node, item, use_rust)
        del item
        return await settle(life)

    assert asyncio.run(main())
