"""Coroutines and generators of other compilers: detected by their methods, not by their types.

`Compiled…` do as the objects of Cython, mypyc and Nuitka do.
"""

from __future__ import annotations

import asyncio
import collections.abc
import inspect
import types

import pytest

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia._graph.node_kinds import classify
from remotemedia.exceptions import NodeError

LONG = 300


class CompiledGenerator(collections.abc.Generator):
    def __init__(self, generator):
        self.generator = generator

    def send(self, value):
        return self.generator.send(value)

    def throw(self, *parts):
        return self.generator.throw(*parts)


class CompiledCoroutine(collections.abc.Coroutine):
    def __init__(self, coroutine):
        self.coroutine = coroutine

    def send(self, value):
        return self.coroutine.send(value)

    def throw(self, *parts):
        return self.coroutine.throw(*parts)

    def close(self):
        return self.coroutine.close()

    def __await__(self):
        return self.coroutine.__await__()


class CompiledAsyncGenerator:
    """Recognizable by its methods alone, without the abstract class."""

    def __init__(self, generator):
        self.generator = generator

    def __aiter__(self):
        return self

    def __anext__(self):
        return self.generator.__anext__()

    def asend(self, value):
        return self.generator.asend(value)

    def athrow(self, *parts):
        return self.generator.athrow(*parts)

    def aclose(self):
        return self.generator.aclose()


class Awaitable:
    """Has only `__await__`."""

    def __init__(self, coroutine):
        self.coroutine = coroutine

    def __await__(self):
        return self.coroutine.__await__()


@types.coroutine
def older(item):
    yield from asyncio.sleep(0).__await__()
    return item + 1


async def later(item):
    await asyncio.sleep(0)
    return item + 1


def twice(item):
    yield item
    yield item + 1


async def twice_later(item):
    yield item
    await asyncio.sleep(0)
    yield item + 1


class Making:
    """Converts each item by a function without visible code."""

    def __init__(self, make):
        self.make = make

    def process(self, item):
        return self.make(item)


MAKERS = {
    "coroutine": lambda item: CompiledCoroutine(later(item)),
    "older coroutine": older,
    "awaitable": lambda item: Awaitable(later(item)),
    "coroutine of an awaitable": lambda item: CompiledCoroutine(nested(item)),
}
STREAMS = {
    "generator": lambda item: CompiledGenerator(twice(item)),
    "async generator": lambda item: CompiledAsyncGenerator(twice_later(item)),
}


async def nested(item):
    return Awaitable(later(item))


@pytest.fixture(params=MAKERS)
def awaited(request):
    return Making(MAKERS[request.param])


@pytest.mark.parametrize("count", [2, LONG])
def test_awaitables_are_awaited(run, awaited, count):
    assert run([awaited, Making(lambda item: -item)], range(count)) == [-item - 1 for item in range(count)]


@pytest.mark.parametrize("count", [2, LONG])
@pytest.mark.parametrize("kind", STREAMS)
def test_generators_are_drained(run, kind, count):
    expected = [output for item in range(count) for output in (item, item + 1)]

    assert run([Making(STREAMS[kind])], range(count)) == expected


@pytest.mark.parametrize("count", [2, LONG])
def test_items_that_can_be_awaited_are_awaited_when_they_are_passed_on(run, count):
    def items():
        yield from range(count - 1)
        yield Awaitable(later(0))

    assert run([Making(lambda item: item)], list(items())) == [*range(count - 1), 1]


def test_a_future_of_the_loop_is_awaited(use_rust):
    class Inline:
        async def process(self, item):
            return asyncio.ensure_future(later(item))

    call = execute_pipeline_with_input([Inline()], [1], use_rust=use_rust)

    assert asyncio.run(call) == [2]


@pytest.mark.parametrize(
    "options",
    [{"placement": "thread"}, {"timeout": 10.0}, {"batch": 2}, {"retries": 1}, {"placement": "process"}],
)
def test_options_see_them(options):
    making = (lambda items: CompiledCoroutine(sums(items))) if "batch" in options else MAKERS["coroutine"]
    node = Making(making)

    assert asyncio.run(execute_pipeline_with_input([with_options(node, **options)], [1, 2])) == [2, 3]


async def sums(items):
    return [item + 1 for item in items]


class Marked:
    """A plain function that is marked as returning coroutines."""

    def process(self, item):
        return CompiledCoroutine(later(item))

    marker = getattr(inspect, "markcoroutinefunction", None)
    if marker is not None:
        process = marker(process)
    else:
        process._is_coroutine = asyncio.coroutines._is_coroutine


def test_marks_of_inspect_count():
    nodes = [with_options(Marked(), concurrency=2, retries=1)]

    assert classify(Marked()) == "coroutine"
    assert asyncio.run(execute_pipeline_with_input(nodes, [1, 2, 3])) == [2, 3, 4]


class FunctionLike:
    """Like the functions of Cython: not a Python function, but with code."""

    def __init__(self, function):
        self.function = function
        self.__code__ = function.__code__

    def __get__(self, instance, owner):
        return self if instance is None else types.MethodType(self, instance)

    def __call__(self, *arguments):
        return self.function(*arguments)


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda self, item: later(item), "plain"),
        (lambda self, item: (yield item), "generator"),
        (later, "coroutine"),
        (twice_later, "async_generator"),
    ],
)
def test_functions_are_known_by_their_code(function, kind):
    class Node:
        process = FunctionLike(function)

    assert classify(Node()) == kind


def test_a_streaming_node_without_visible_code_is_accepted(run):
    async def negate(items):
        async for item in items:
            yield -item

    class Opaque:
        is_streaming = True
        # A method of C, which calls the function.
        process = {1: negate}.get(1).__call__

    assert run([Opaque()], [1, 2]) == [-1, -2]


class Living:
    """All its methods are compiled coroutines."""

    def __init__(self):
        self.log = []

    def _later(self, word, result=None):
        async def do():
            await asyncio.sleep(0)
            self.log.append(word)
            return result

        return CompiledCoroutine(do())

    def initialize(self):
        return self._later("initialize")

    def process(self, item):
        return self._later("process", item)

    def flush(self):
        return self._later("flush", "flushed")

    def interrupt(self):
        return self._later("interrupt")

    def cleanup(self):
        return self._later("cleanup")


def test_all_of_a_life_is_awaited(run):
    node = Living()

    assert run([node], [1]) == [1, "flushed"]
    assert node.log == ["initialize", "process", "flush", "cleanup"]


def test_an_interrupt_is_awaited():
    node = Living()
    with Pipeline([node]).open() as session:
        session.interrupt()

    assert node.log[:2] == ["initialize", "interrupt"]


def test_managed_blocks_await_them():
    node = Living()

    async def main():
        async with Pipeline([node]).managed_execution():
            pass

    asyncio.run(main())

    assert node.log == ["initialize", "cleanup"]


class Snapping:
    """Counts, and keeps its count after its worker dies."""

    def __init__(self):
        self.count = 0

    def process(self, item):
        self.count += 1
        if item == "die" and self.count < 10:
            import os

            os._exit(1)
        return self.count

    def snapshot(self):
        async def take():
            return 10 * self.count

        return CompiledCoroutine(take())

    def restore(self, state):
        async def set_back():
            self.count = state

        return Awaitable(set_back())


def test_snapshots_are_awaited():
    node = with_options(Snapping(), placement="process", snapshot_every=1)

    with Pipeline([node]).open() as session:
        assert [session.call(item) for item in (1, 2, "die")] == [1, 2, 21]


def test_a_failing_one_raises_node_error(run):
    async def fail(item):
        raise LookupError(item)

    with pytest.raises(NodeError) as caught:
        run([Making(lambda item: CompiledCoroutine(fail(item)))], range(LONG))

    assert (type(caught.value.__cause__), caught.value.item_index) == (LookupError, 0)


def test_one_that_is_cancelled_is_closed():
    closed = []

    class Closing(CompiledCoroutine):
        def close(self):
            closed.append(True)
            return super().close()

    async def main():
        has_begun = asyncio.Event()

        async def wait(_item):
            has_begun.set()
            await asyncio.Event().wait()

        call = execute_pipeline_with_input([Making(lambda item: Closing(wait(item)))], [1])
        task = asyncio.create_task(call)
        await has_begun.wait()
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(main())

    assert closed


def test_iterators_that_are_not_generators_stay_values(run):
    values = [iter([1]), map(str, [1]), zip([1]), enumerate([1])]

    assert run([Making(lambda item: item)], [*values, *range(LONG)])[:4] == values


def test_types_with_odd_metaclasses_are_values(run):
    class Meta(type):  # noqa: PLW1641 - That is the point.
        """Cannot be hashed, and has methods that instances do not have."""

        def __eq__(cls, other):
            return True

        def __await__(cls): ...

        send = throw = close = __next__ = __iter__ = __await__

    class Odd(metaclass=Meta):
        pass

    odd = Odd()
    assert run([Making(lambda item: odd if item % 2 else item)], range(LONG))[1] is odd
