"""Unusual objects as nodes and inputs: their methods count, not their types."""

from __future__ import annotations

import asyncio
import collections
import functools
from unittest import mock

import pytest

from remotemedia import Node, Pipeline, execute_pipeline_with_input, with_options
from remotemedia.exceptions import PipelineError
from remotemedia.nodes import CalculatorNode, PassThroughNode


class Words(collections.Counter):
    """A node that is also a dict, empty at first, so that it is false and equal to others."""

    def process(self, text):
        self.update(text.split())
        return len(self)


class Named(Node, dict):
    def process(self, item):
        self[item] = True
        return len(self)


class TestDicts:
    @pytest.mark.parametrize("kind", [Words, Named])
    def test_one_is_a_node_of_a_list(self, run, kind):
        assert run([kind()], ["a b", "a b", "b c"])[-1] in {2, 3}

    def test_one_is_a_node_of_a_pipeline(self, use_rust):
        first, second = Words(), Words()
        pipeline = Pipeline("w").add_node(first, after=[]).add_node(second, after=[])
        pipeline.add_node(PassThroughNode(), after=[second])

        assert asyncio.run(pipeline.run(["a b", "b c"], use_rust=use_rust)) == [2, 2, 3, 3]
        assert pipeline.get_node("Words_1") is second

    def test_one_stands_beside_entries_of_manifests(self, run):
        entry = {"node_type": "CalculatorNode", "params": {"operand": 10}}

        assert run([Words(), entry], ["a b", "b c"]) == [12, 13]
        assert run([with_options(Words(), retries=1), entry], ["a"]) == [11]

    def test_one_runs_in_a_worker(self):
        nodes = [with_options(Words(), placement="process")]

        assert asyncio.run(execute_pipeline_with_input(nodes, ["a b", "b c"])) == [2, 3]

    def test_one_alone_is_not_a_pipeline(self, run):
        with pytest.raises(TypeError, match=r"put the node into a list: \[node\]"):
            run(Words())

    def test_a_manifest_in_a_subclass_of_dict_is_one(self, run):
        entry = collections.OrderedDict(node_type="CalculatorNode", params={"operand": 1})

        assert run([entry], [1]) == [2]


class Remote:
    """Every attribute is a remote procedure, as in `xmlrpc.client.ServerProxy`."""

    def __getattr__(self, name):
        if name.startswith("__") and name != "__name__":
            raise AttributeError(name)
        return lambda *args: None if name != "process" else ("returned", *args)


class Proxy:
    """A proxy for another object, like those of wrapt and lazy loaders."""

    def __init__(self, wrapped):
        object.__setattr__(self, "_wrapped", wrapped)

    @property
    def __class__(self):
        return type(self._wrapped)

    def __getattr__(self, name):
        return getattr(self._wrapped, name)

    def __setattr__(self, name, value):
        raise RuntimeError("it cannot be changed from here")


class TestProxies:
    @pytest.mark.parametrize("count", [1, 300])
    def test_one_that_has_every_attribute_runs(self, run, count):
        assert run([Remote()], range(count)) == [("returned", item) for item in range(count)]

    def test_one_runs_in_sessions_and_pictures(self):
        pipeline = Pipeline([Remote()])
        with pipeline.open(placement="thread") as session:
            assert session.call(1) == ("returned", 1)

        assert "Remote" in pipeline.to_mermaid()

    def test_one_of_another_node_runs(self, run):
        node = CalculatorNode("add", 1)

        assert run([Proxy(node), Proxy(Words())][:1], [1, 2]) == [2, 3]
        assert node.is_initialized is False

    def test_one_of_a_dict_runs(self, run):
        assert run([Proxy(Words())], ["a b"]) == [2]

    @pytest.mark.parametrize("kind", [mock.Mock, mock.MagicMock, mock.NonCallableMock])
    def test_a_mock_runs(self, run, kind):
        node = kind()
        node.process.side_effect = lambda item: -item
        node.flush = None

        assert run([node], [1, 2]) == [-1, -2]
        assert node.cleanup.call_count == 1

    def test_a_mock_that_is_async_runs(self, run):
        node = mock.Mock(process=mock.AsyncMock(side_effect=lambda item: -item), flush=None)

        assert run([node], [1, 2]) == [-1, -2]

    @pytest.mark.parametrize("name", [5, None, "", b"name", mock.Mock()])
    def test_a_name_that_is_not_a_text_is_not_used(self, name):
        node = PassThroughNode()
        node.__name__ = node.name = name

        (entry,) = Pipeline([node]).to_graph().entries
        assert (entry.id, entry.node_type) == ("PassThroughNode_0", "PassThroughNode")


class TestSignatures:
    @pytest.mark.parametrize(
        ("process", "text"),
        [
            ("def process(self, *, data): ...", "the parameter 'data' of process() is keyword-only"),
            ("def process(self, item, *, rate): ...", "the parameter 'rate' of process() is keyword-only"),
            (
                "async def process(self, *items, rate): ...",
                "the parameter 'rate' of process() is keyword-only",
            ),
            (
                "process = staticmethod(lambda *, data: data)",
                "the parameter 'data' of process() is keyword-only",
            ),
            (
                "def process(self, item, rate): ...",
                "process() requires 2 arguments (item, rate), but receives one item",
            ),
            ("def process(): ...", "process() takes no self"),
        ],
    )
    def test_an_object_that_cannot_be_called_is_refused_before_anything_starts(self, run, process, text):
        scope = {}
        exec(f"class Odd:\n    {process}", scope)
        started = []
        first = PassThroughNode()
        first.initialize = lambda: started.append(1)

        with pytest.raises(PipelineError) as caught:
            run([first, scope["Odd"]()], [1])

        assert str(caught.value).startswith(f"Node 'Odd_1': {text}")
        assert started == []

    def test_a_pipeline_checks_it(self):
        class Odd:
            def process(self, *, data): ...

        assert Pipeline("p").add_node(Odd(), id="x").check() == [
            "Node 'x': the parameter 'data' of process() is keyword-only; define process(self, data)"
        ]

    def test_those_that_can_be_called_run(self, run):
        class Injecting:
            def process(self, item, scale=2, *, rate=3):
                return item * scale * rate

            def injected(self, item, database):
                return item, database

        node, decorated = Injecting(), Injecting()
        decorated.process = functools.wraps(Injecting.injected)(lambda item: decorated.injected(item, "db"))
        bound = Injecting()
        bound.process = functools.partial(bound.injected, database="db")

        assert run([node], [1]) == [6]
        assert run([decorated], [1]) == run([bound], [1]) == [(1, "db")]


class Dataset:
    """Has positions, like data sets of torch: no `__iter__`."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if index >= 3:
            raise IndexError(index)
        return index


class Endless(Dataset):
    """Returns an item for every number."""

    def __getitem__(self, index):
        return index


class Shorter(Dataset):
    def __len__(self):
        return 1000


class OnlyPlaces:
    __getitem__ = Dataset.__getitem__


class Record:
    """Returns values by names."""

    def keys(self):
        return ["a"]

    def __len__(self):
        return 1

    def __getitem__(self, name):
        return {"a": 1}[name]


DATASETS = [Dataset, Endless, Shorter]


class TestDatasets:
    @pytest.mark.parametrize("kind", DATASETS)
    def test_calls_take_the_items(self, use_rust, run, kind):
        pipeline = Pipeline([PassThroughNode()])

        async def process():
            return [output async for output in pipeline.process(kind(), use_rust=use_rust)]

        for outputs in (
            run(pipeline, kind()),
            asyncio.run(pipeline.run(kind(), use_rust=use_rust)),
            asyncio.run(process()),
        ):
            assert outputs == [0, 1, 2]

    @pytest.mark.parametrize("kind", [*DATASETS, OnlyPlaces])
    @pytest.mark.parametrize("options", [{}, {"placement": "thread"}])
    def test_sessions_take_the_items(self, kind, options):
        async def main():
            async with Pipeline([PassThroughNode()]).open(**options) as session:
                return [output async for output in session.map(kind())]

        with Pipeline([PassThroughNode()]).open(**options) as session:
            assert list(session.map(kind())) == asyncio.run(main()) == [0, 1, 2]

    def test_an_empty_one_is_refused(self, run):
        class Empty(Dataset):
            def __len__(self):
                return 0

        with pytest.raises(PipelineError, match="empty"):
            run([PassThroughNode()], Empty())

    def test_an_object_with_values_by_name_is_one_item(self, use_rust):
        record = Record()

        assert asyncio.run(Pipeline([PassThroughNode()]).run(record, use_rust=use_rust)) is record
        with pytest.raises(TypeError, match="not one int"):
            asyncio.run(execute_pipeline_with_input([PassThroughNode()], 5, use_rust=use_rust))

    def test_an_error_of_the_dataset_is_raised(self, run):
        class Broken(Dataset):
            def __getitem__(self, index):
                raise OSError("the disk is gone")

        with pytest.raises(OSError, match="the disk is gone"):
            run([PassThroughNode()], Broken())
