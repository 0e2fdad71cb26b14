"""Compiled chains as coroutine functions: each kind of node, and what is found out after an error."""

from __future__ import annotations

import asyncio
import functools
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from remotemedia._compiled.failures import NO_NODE, close_all, find
from remotemedia._compiled.kernels import LazyResultError, build, build_async
from remotemedia._core import is_lazy
from remotemedia.nodes import CalculatorNode, FilterNode, PassThroughNode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from remotemedia._compiled.failures import Found
    from remotemedia._compiled.kernels import Kernel


class Add:
    def __init__(self, amount: int = 1) -> None:
        self.amount = amount

    def process(self, item: int) -> int:
        return item + self.amount


class AsyncAdd(Add):
    async def process(self, item: int) -> int:
        await asyncio.sleep(0)
        return item + self.amount


class Twice:
    def __init__(self) -> None:
        self.closed: list[Any] = []

    def process(self, item: Any) -> Any:
        try:
            yield item
            yield item
        except GeneratorExit:
            self.closed.append(item)
            raise


class AsyncTwice(Twice):
    async def process(self, item: Any) -> Any:
        try:
            yield item
            yield item
        except GeneratorExit:
            self.closed.append(item)
            raise


class FailAt:
    def __init__(self, number: int) -> None:
        self.number = number

    def process(self, item: int) -> int:
        if item == self.number:
            raise ValueError(item)
        return item


class Calls:
    """A node whose `process` is any callable."""

    def __init__(self, process: Any) -> None:
        self.process = process


class Returns:
    def __init__(self, result: Any) -> None:
        self.result = result

    def process(self, item: int) -> Any:
        return self.result


class Streaming:
    is_streaming = True

    async def process(self, items: AsyncIterator[int]) -> AsyncIterator[int]:
        async for item in items:
            yield item


class Source:
    def process(self) -> Iterable[int]:
        yield 1


async def double(item: int) -> int:
    return 2 * item


def run_many(nodes: list[Any], items: Iterable[Any]) -> list[Any]:
    kernels = build_async(nodes)
    assert kernels is not None
    outputs: list[Any] = []
    asyncio.run(kernels.many.function(iter(items), outputs))
    return outputs


async def stream_of(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


def failure_of(kernel: Kernel, *args: Any) -> tuple[BaseException, Found]:
    try:
        asyncio.run(kernel.function(*args))
    except Exception as error:  # noqa: BLE001 - Returned.
        return error, find(error, kernel)
    raise AssertionError("the kernel did not fail")


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        ([Add(), Add(10)], [11, 12, 13]),
        ([AsyncAdd(), Add(10)], [11, 12, 13]),
        ([Add(), Twice()], [1, 1, 2, 2, 3, 3]),
        ([Twice(), AsyncAdd()], [1, 1, 2, 2, 3, 3]),
        ([AsyncTwice(), FilterNode(threshold=1)], [1, 1, 2, 2]),
        ([Calls(functools.partial(pow, 2)), Calls(double)], [2, 4, 8]),
        ([FilterNode(threshold=1), CalculatorNode("multiply", 3), PassThroughNode()], [3, 6]),
        ([Returns(None)], []),
    ],
)
def test_each_kind_of_node_processes_items(nodes: list[Any], outputs: list[Any]) -> None:
    assert run_many(nodes, range(3)) == outputs


def test_outputs_of_a_generator_pass_through_before_it_continues() -> None:
    seen: list[Any] = []

    def process(item: int) -> Iterable[str]:
        for letter in "ab":
            seen.append(letter)
            yield f"{letter}{item}"

    run_many([Calls(process), Calls(seen.append)], [1, 2])

    assert seen == ["a", "a1", "b", "b1", "a", "a2", "b", "b2"]


def test_none_that_a_generator_yields_is_an_output() -> None:
    def process(item: int) -> Iterable[None]:
        yield None

    seen: list[Any] = []

    assert run_many([Calls(process)], [1]) == [None]
    assert run_many([Calls(process), Calls(seen.append)], [1]) == []
    assert seen == [None]


class NoTurns:
    """The only user of its nodes."""

    is_shared = False

    async def breathe(self) -> None:
        pass


def test_a_stream_enters_shared_nodes_for_each_item() -> None:
    kernels = build_async([FilterNode(threshold=1), Twice()])
    outputs: list[int] = []
    steps: list[str] = []

    class Turns(NoTurns):
        async def enter(self) -> None:
            steps.append("enter")

        def leave(self) -> None:
            steps.append("leave")

    async def items() -> AsyncIterator[int]:
        for index in range(4):
            Turns.is_shared = index in {1, 2}
            yield index

    asyncio.run(kernels.stream.function(items(), outputs, Turns()))

    assert outputs == [1, 1, 2, 2, 3, 3]
    assert steps == ["enter", "leave", "enter", "leave"]


def test_a_stream_breathes_after_every_64_items_and_before_the_next() -> None:
    kernels = build_async([FilterNode(threshold=1), Twice()])
    outputs: list[int] = []
    breaths: list[int] = []
    requested: list[int] = []

    async def items() -> AsyncIterator[int]:
        for index in range(130):
            requested.append(index)
            yield index

    class Turns(NoTurns):
        async def breathe(self) -> None:
            breaths.append(len(outputs))
            assert requested[-1] == 64 * len(breaths) - 1

    asyncio.run(kernels.stream.function(items(), outputs, Turns()))

    assert outputs == [index for index in range(1, 130) for _ in range(2)]
    assert breaths == [126, 254]


def test_one_item_has_one_output_or_none() -> None:
    kernels = build_async([Add(), AsyncAdd(), FilterNode(threshold=5)])

    assert asyncio.run(kernels.one.function(3)) == 5
    assert asyncio.run(kernels.one.function(2)) is None
    assert build_async([Add(), Twice()]).one is None


@pytest.mark.parametrize("node", [Streaming(), Source()])
def test_streaming_nodes_and_sources_are_not_compiled(node: Any) -> None:
    assert build_async([node]) is None
    assert build_async([Add(), node]) is None


@pytest.mark.parametrize("node", [AsyncAdd(), AsyncTwice(), Calls(abs)])
def test_only_methods_of_def_nodes_run_in_a_chunk(node: Any) -> None:
    assert build([Add(), node]) is None
    assert build([Add(), Twice()]) is not None


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


async def outer(item: int) -> Any:
    return double(item)


@pytest.mark.parametrize("process", [lambda item: double(item + 0), outer, lambda item: outer(item + 0)])
def test_a_coroutine_that_a_node_returns_is_awaited(process: Any) -> None:
    assert run_many([Add(), Calls(process), Add()], range(3)) == [3, 5, 7]


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


def test_a_source_contains_nothing_of_the_user() -> None:
    secret = type("Secret", (), {"process": lambda self, item: "secret" + item})
    calculator = CalculatorNode("add", 987654321)
    kernels = build_async([secret(), calculator, Calls(abs)])

    for kernel in (kernels.many, kernels.stream, kernels.one):
        code = kernel.function.__code__
        names = {*code.co_names, *code.co_varnames, *code.co_freevars}
        assert not any("ecret" in name for name in names)
        assert not {987654321, "secret", "add"} & {*code.co_consts}


def test_chains_of_the_same_classes_share_their_code() -> None:
    first, second = (build_async([Add(1), Add(2)]).many for _ in "ab")
    other = build_async([Add(), Returns(1)]).many

    assert first.function.__code__ is second.function.__code__
    assert first.function.__code__ is not other.function.__code__


def test_each_result_goes_through_the_function_that_measures_the_call() -> None:
    noted: list[tuple[str, Any]] = []

    def timer(name: str) -> Any:
        return lambda result: noted.append((name, result)) or result

    kernel = build([Add(), FilterNode(threshold=2)], None, ["a", "b"], [timer("a"), timer("b")])
    outputs: list[Any] = []

    kernel.function(iter([0, 5]), outputs)

    assert noted == [("a", 1), ("b", None), ("a", 6), ("b", 6)]
    assert [output for output in outputs if output is not None] == [6]
    assert build([Twice()], None, ["a"], [timer("a")]) is None
