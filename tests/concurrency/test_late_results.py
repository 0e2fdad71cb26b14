"""What nodes with `concurrency` return that has yet to run."""

from __future__ import annotations

import asyncio

import pytest
from concurrent_nodes import ENGINES, all_of, opened
from stream_nodes import TIMEOUT_SECS

from remotemedia import Pipeline, with_options

pytestmark = pytest.mark.timeout(TIMEOUT_SECS)


class Late:
    """Returns something that is not a plain value yet."""

    def __init__(self, how):
        self.how = how

    async def twice(self, item):
        for _ in range(2):
            await asyncio.sleep(0)
            yield item

    async def once(self, item):
        return item

    async def process(self, item):
        await asyncio.sleep(0)
        return getattr(self, self.how)(item)


@pytest.mark.parametrize(("how", "count"), [("twice", 2), ("once", 1)])
def test_late_results_are_awaited(how, count):
    async def main():
        async with opened(with_options(Late(how), concurrency=3)) as session:
            return await all_of(session.map(range(3))), await session.call(3)

    stream, result = asyncio.run(main())

    assert stream == [item for item in range(3) for _ in range(count)]
    assert result == ([3, 3] if count == 2 else 3)


async def tens_of(item):
    await asyncio.sleep(0)
    return item * 10


async def tens_later(item):
    return tens_of(item)


class ReturnsCoroutines:
    def __init__(self, make):
        self.make = make

    async def process(self, item):
        return self.make(item)


@pytest.mark.parametrize("make", [tens_of, tens_later])
@ENGINES
def test_a_coroutine_that_a_node_returns_is_awaited(options, make):
    """The event loop waited for itself."""

    async def main():
        node = with_options(ReturnsCoroutines(make), concurrency=2, **options)
        async with Pipeline([node]).open() as session:
            return [output async for output in session.map([1, 2, 3])], await session.call(4)

    assert asyncio.run(main()) == ([10, 20, 30], 40)


@pytest.mark.parametrize("make", [tens_of, tens_later])
def test_in_plain_python_a_coroutine_that_a_node_returns_is_awaited(make):
    with Pipeline([with_options(ReturnsCoroutines(make), concurrency=2)]).open() as session:
        assert (list(session.map([1, 2, 3])), session.call(4)) == ([10, 20, 30], 40)
