"""Classes and functions in place of nodes: each run and each session makes nodes of its own."""

from __future__ import annotations

import asyncio

import pytest

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia.exceptions import PipelineError


class Count:
    made = 0

    def __init__(self):
        type(self).made += 1
        self.count = 0

    def process(self, item):
        self.count += 1
        return self.count


class AsyncCount(Count):
    async def process(self, item):
        return super().process(item)


class Named:
    def __init__(self, name):
        self.name = name

    def process(self, item):
        return self.name


def make():
    return Count()


@pytest.mark.parametrize("factory", [Count, AsyncCount, make])
@pytest.mark.parametrize("placement", ["inline", "thread", "process"])
def test_every_session_has_nodes_of_its_own(factory, placement):
    pipeline = Pipeline("p").add_node(with_options(factory, placement=placement), id="count")

    with pipeline.open() as first, pipeline.open() as second:
        assert [first.call(0) for _ in range(3)] == [1, 2, 3]
        assert second.call(0) == 1


@pytest.mark.parametrize("factory", [Count, AsyncCount])
def test_every_asynchronous_session_too(factory):
    pipeline = Pipeline([factory], name="p")

    async def main():
        async with pipeline.open() as first, pipeline.open() as second:
            return [await first.call(0), await first.call(0), await second.call(0)]

    assert asyncio.run(main()) == [1, 2, 1]


@pytest.mark.parametrize("use_rust", [True, False])
def test_every_run_makes_nodes(use_rust):
    async def main():
        return [
            await execute_pipeline_with_input([Count, lambda: Named("x")], [1, 2], use_rust=use_rust)
            for _ in range(2)
        ]

    before = Count.made
    assert asyncio.run(main()) == [["x", "x"]] * 2
    assert Count.made == before + 2


def test_a_block_makes_nodes_once():
    pipeline = Pipeline([Count], name="p")

    async def main():
        async with pipeline.managed_execution():
            return [await pipeline.run([0]), await pipeline.run([0])]

    assert asyncio.run(main()) == [[1], [2]]


def test_a_class_that_needs_arguments_is_refused():
    with pytest.raises(TypeError, match=r"is the class Named, not an instance; write Named\(…\)$"):
        Pipeline([Named], name="p")


def test_a_function_that_needs_arguments_is_not_a_factory():
    with pytest.raises(TypeError, match=r"define it as process\(self, data\) of a class$"):
        Pipeline([lambda item: item], name="p")


def test_a_function_must_return_a_node():
    pipeline = Pipeline("p").add_node(lambda: 3, id="x")

    with pytest.raises(PipelineError, match=r"^Node 'x' could not be made: the function returned an int$"):
        pipeline.open()


def test_the_error_of_a_function_is_the_cause():
    def fail():
        raise OSError("no model")

    with pytest.raises(PipelineError, match=r"^Node 'x' could not be made: OSError: no model$") as caught:
        Pipeline("p").add_node(fail, id="x").open()

    assert isinstance(caught.value.__cause__, OSError)


def test_a_source_must_be_an_object():
    class Source:
        def process(self):
            yield 1

    def make_source():
        return Source()

    with pytest.raises(PipelineError, match=r"^Node 'x': a source must be an object"):
        Pipeline("p").add_node(make_source, id="x").open()


def test_options_are_checked_when_a_node_is_made():
    pipeline = Pipeline("p").add_node(make, id="x", concurrency=2)

    with pytest.raises(PipelineError, match=r"^Node 'x': concurrency requires an async process\(\)$"):
        pipeline.open()


def test_a_function_that_makes_a_node_is_not_async():
    async def make_later():
        return Count()

    with pytest.raises(PipelineError, match=r"^Node 'x': the factory is async; create the object"):
        Pipeline("p").add_node(make_later, id="x").open()
