"""Compiled chains that end at an error or a lazy result: what was in progress is found."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from kernel_nodes import Add, AsyncAdd, AsyncTwice, Calls, NoTurns, Returns, Twice

from remotemedia._compiled.failures import NO_NODE, close_all, find
from remotemedia._compiled.kernels import LazyResultError, build_async
from remotemedia._core import is_lazy
from remotemedia.nodes import PassThroughNode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from remotemedia._compiled.failures import Found
    from remotemedia._compiled.kernels import Kernel


class FailAt:
    def __init__(self, number: int) -> None:
        self.number = number

    def process(self, item: int) -> int:
        if item == self.number:
            raise ValueError(item)
        return item


async def stream_of(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


def failure_of(kernel: Kernel, *args: Any) -> tuple[BaseException, Found]:
    try:
        asyncio.run(kernel.function(*args))
    except Exception as error:  # noqa: BLE001 - Returned.
        return error, find(error, kernel)
    raise AssertionError("the kernel did not fail")


@pytest.mark.parametrize("before", [Add(0), AsyncAdd(0), Twice(), AsyncTwice()])
def test_the_node_and_the_item_of_an_error_are_found(before: Any) -> None:
    kernels = build_async([before, FailAt(7), Add()])
    items = iter(range(100))
    outputs: list[int] = []

    error, found = failure_of(kernels.many, items, outputs)

    assert (type(error), found.node, items.__length_hint__()) == (ValueError, 1, 92)
    assert outputs[-1] == 7

    error, found = failure_of(kernels.stream, stream_of(range(100)), [], NoTurns())

    assert (error.args, found.node, found.position) == ((7,), 1, 7)


def test_the_traceback_of_an_error_begins_in_the_node() -> None:
    kernels = build_async([Add(), FailAt(3)])

    error, found = failure_of(kernels.one, 2)

    assert found.node == 1
    assert error.__traceback__.tb_frame.f_code is FailAt.process.__code__


def test_an_error_of_the_input_belongs_to_no_node() -> None:
    async def items() -> AsyncIterator[int]:
        yield 1
        raise ValueError("input")

    kernels = build_async([Add()])

    _, found = failure_of(kernels.stream, items(), [], NoTurns())

    assert (found.node, found.position) == (NO_NODE, 1)


def test_open_generators_are_found_the_innermost_first_and_can_be_closed() -> None:
    first, second, third = Twice(), AsyncTwice(), Twice()
    kernels = build_async([first, second, FailAt(1), third])

    async def main() -> tuple[list[int], list[Any]]:
        try:
            await kernels.many.function(iter([0, 1]), [])
        except ValueError as error:
            found = find(error, kernels.many)
        assert not first.closed
        return [node for node, _ in found.opened], await close_all(found.opened)

    nodes, failures = asyncio.run(main())

    assert (nodes[-2:], failures) == ([1, 0], [])
    assert (first.closed, second.closed, third.closed) == ([1], [1], [])


def test_what_a_generator_raises_when_it_is_closed_is_returned() -> None:
    def process(item: int) -> Iterable[int]:
        try:
            yield item
        finally:
            raise KeyError("closing")

    kernels = build_async([Calls(process), FailAt(1)])

    async def main() -> list[Any]:
        try:
            await kernels.many.function(iter([1]), [])
        except ValueError as error:
            found = find(error, kernels.many)
        return await close_all(found.opened)

    [(node, failure)] = asyncio.run(main())

    assert (node, failure.args) == (0, ("closing",))


def test_a_cancellation_reaches_the_node() -> None:
    cancelled: list[Any] = []

    async def wait(item: int) -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            cancelled.append(item)
            raise

    kernels = build_async([Twice(), Calls(wait)])

    async def main() -> Found:
        task = asyncio.create_task(kernels.many.function(iter([5]), []))
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as error:
            found = find(error, kernels.many)
        await close_all(found.opened)
        return found

    assert asyncio.run(main()).node == 1
    assert cancelled == [5]


@pytest.mark.parametrize("node", [Calls(lambda item: (item for _ in "ab")), Returns(item for item in "ab")])
def test_a_generator_that_a_node_returns_ends_the_kernel(node: Any) -> None:
    kernels = build_async([Add(), node, Add()])
    items = iter([0, 1, 2])

    error, found = failure_of(kernels.many, items, [])

    assert (type(error), found.node, list(items)) == (LazyResultError, 1, [1, 2])
    assert hasattr(error.args[0], "__next__")


def test_an_item_that_is_lazy_ends_the_kernel_at_the_node_that_passes_it_on() -> None:
    kernels = build_async([PassThroughNode(), Add()])

    error, found = failure_of(kernels.one, (item for item in "ab"))

    assert (type(error), found.node) == (LazyResultError, 0)


@pytest.mark.parametrize("item", [Add(), object(), SimpleNamespace(), b""])
def test_that_an_object_is_not_lazy_is_found_out_without_python_code(item: object) -> None:
    called: list[str] = []
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None)
    try:
        is_it = is_lazy(item)
    finally:
        sys.setprofile(None)

    assert (is_it, called) == (False, [])


def test_a_generator_continues_after_a_lazy_result() -> None:
    kernels = build_async([Twice(), Calls(lambda item: (item for _ in "ab"))])

    _, found = failure_of(kernels.many, iter([4]), [])

    [(node, generator)] = found.opened
    assert (node, list(generator)) == (0, [4])
