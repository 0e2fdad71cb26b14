"""Compiled chains as coroutine functions: each kind of node, the turns of streams, and the code."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

import pytest
from kernel_nodes import Add, AsyncAdd, AsyncTwice, Calls, NoTurns, Returns, Twice

from remotemedia._compiled.kernels import build, build_async
from remotemedia.nodes import CalculatorNode, FilterNode, PassThroughNode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable


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


async def outer(item: int) -> Any:
    return double(item)


@pytest.mark.parametrize("process", [lambda item: double(item + 0), outer, lambda item: outer(item + 0)])
def test_a_coroutine_that_a_node_returns_is_awaited(process: Any) -> None:
    assert run_many([Add(), Calls(process), Add()], range(3)) == [3, 5, 7]


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
