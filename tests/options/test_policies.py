"""Failure policies are the same in sessions and runs, in plain Python and asyncio, for all kinds of nodes."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from stream_nodes import Add

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia.exceptions import NodeError, NodeTimeoutError


class Fails:
    """Fails `failures` times on each odd item."""

    def __init__(self, failures):
        self.failures = failures
        self.tries = Counter()

    def process(self, item):
        self.tries[item] += 1
        if item % 2 and self.tries[item] <= self.failures:
            raise ValueError(f"try {self.tries[item]} of {item}")
        return item


class FailsLater(Fails):
    async def process(self, item):
        await asyncio.sleep(0)
        return super().process(item)


class FailsAtOnce(Fails):
    async def process(self, item):
        return super().process(item)


class Hangs:
    """Waits for ever for odd items."""

    async def process(self, item):
        if item % 2:
            await asyncio.Event().wait()
        return item


KINDS = {
    "def": (Fails, {}),
    "inline": (Fails, {"placement": "inline"}),
    "def on a thread": (Fails, {"placement": "thread"}),
    "coroutine": (FailsLater, {}),
    "coroutine that never suspends": (FailsAtOnce, {}),
    "coroutine on a thread": (FailsLater, {"placement": "thread"}),
}


def by_session(nodes, items):
    with Pipeline(nodes).open() as session:
        return list(session.map(items))


def by_calls(nodes, items):
    with Pipeline(nodes).open() as session:
        results = [session.call(item) for item in items]
    return [result for result in results if result is not None]


def by_async_session(nodes, items):
    async def main():
        async with Pipeline(nodes).open() as session:
            return [output async for output in session.map(items)]

    return asyncio.run(main())


def by_async_calls(nodes, items):
    async def main():
        async with Pipeline(nodes).open() as session:
            results = [await session.call(item) for item in items]
        return [result for result in results if result is not None]

    return asyncio.run(main())


def by_puts(nodes, items):
    async def main():
        async with Pipeline(nodes).open() as session:
            for item in items:
                await session.put(item)
            session.end()
            return [output async for output in session]

    return asyncio.run(main())


def by_run(nodes, items):
    return asyncio.run(execute_pipeline_with_input(nodes, items))


def by_reference(nodes, items):
    return asyncio.run(execute_pipeline_with_input(nodes, items, use_rust=False))


WAYS = [by_session, by_calls, by_async_session, by_async_calls, by_puts, by_run, by_reference]

everywhere = pytest.mark.parametrize("way", WAYS)
for_every_kind = pytest.mark.parametrize("kind", KINDS)


def made(kind, failures, **options):
    """Return a node, and the pipeline of the node and another one."""
    make, place = KINDS[kind]
    node = make(failures)
    return node, [with_options(node, **place, **options), Add()]


@everywhere
@for_every_kind
def test_skip_drops_items(way, kind):
    node, nodes = made(kind, 9, on_error="skip")

    assert way(nodes, [0, 1, 2, 3, 4]) == [1, 3, 5]
    assert node.tries == {0: 1, 1: 1, 2: 1, 3: 1, 4: 1}


@everywhere
@for_every_kind
@pytest.mark.parametrize("option", ["on_error", "dead_letter"])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_function_receives_items_and_their_errors(way, kind, option, is_async):
    letters = []

    def take(item, error):
        cause = error.__cause__
        letters.append((item, type(error), error.node_id, error.item_index, error.phase, repr(cause)))

    async def take_later(item, error):
        await asyncio.sleep(0)
        take(item, error)

    node, nodes = made(kind, 9, **{option: take_later if is_async else take})
    name = f"{type(node).__name__}_0"

    assert way(nodes, [0, 1, 2, 3]) == [1, 3]
    assert letters == [
        (item, NodeError, name, item, "process", f"ValueError('try 1 of {item}')") for item in (1, 3)
    ]


@everywhere
@for_every_kind
def test_an_item_is_tried_again(way, kind):
    node, nodes = made(kind, 2, retries=2, retry_delay=0.0001)

    assert way(nodes, [0, 1, 2, 3]) == [1, 2, 3, 4]
    assert node.tries == {0: 1, 1: 3, 2: 1, 3: 3}


@everywhere
@for_every_kind
def test_the_last_error_is_raised(way, kind):
    node, nodes = made(kind, 9, retries=2)

    with pytest.raises(
        NodeError, match="_0' failed in process.* on item 1: ValueError: try 3 of 1$"
    ) as caught:
        way(nodes, [0, 1])

    assert repr(caught.value.__cause__) == "ValueError('try 3 of 1')"
    assert caught.value.__cause__.__context__ is None
    assert node.tries == {0: 1, 1: 3}


@everywhere
@for_every_kind
def test_items_are_skipped_after_their_last_try(way, kind):
    node, nodes = made(kind, 9, retries=1, on_error="skip")

    assert way(nodes, [1, 2, 3]) == [3]
    assert node.tries == {1: 2, 2: 1, 3: 2}


@everywhere
@for_every_kind
def test_a_function_that_raises_fails_the_item(way, kind):
    def refuse(item, error):
        raise OSError("the disk is full")

    _, nodes = made(kind, 9, dead_letter=refuse)

    with pytest.raises(NodeError, match="_0' failed in process.* on item 1: OSError: the disk is full$"):
        way(nodes, [0, 1])


@everywhere
@for_every_kind
def test_a_function_that_raises_the_error_again_has_it_as_its_cause(way, kind):
    letters = []

    def refuse(item, error):
        letters.append(error)
        raise error

    _, nodes = made(kind, 9, dead_letter=refuse)

    with pytest.raises(NodeError, match="on item 1: NodeError: Node .*: ValueError: try 1 of 1$") as caught:
        way(nodes, [0, 1])

    assert [caught.value.__cause__] == letters


@everywhere
def test_what_takes_too_long_is_skipped(way):
    assert way([with_options(Hangs(), timeout=0.05, on_error="skip"), Add()], [0, 1, 2]) == [1, 3]


@everywhere
def test_what_takes_too_long_raises_an_error(way):
    with pytest.raises(NodeTimeoutError, match="'Hangs_0' took longer than 0.05 s in process.* on item 1$"):
        way([with_options(Hangs(), timeout=0.05, retries=1), Add()], [0, 1])
