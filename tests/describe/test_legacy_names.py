"""Names that code written against the earlier SDK uses."""

from __future__ import annotations

import asyncio
import importlib
import sys

import pytest

import remotemedia
from remotemedia import Node, Pipeline
from remotemedia._graph.graph import resolve
from remotemedia.nodes import DataSinkNode, DataSourceNode


class Echo(Node):
    def process(self, data):
        return data


class Watched(Echo):
    def __init__(self, log, **config):
        super().__init__(**config)
        self.log = log

    def initialize(self):
        super().initialize()
        self.log.append("initialize")

    def cleanup(self):
        super().cleanup()
        self.log.append("cleanup")


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("Pipeline", "remotemedia.core.pipeline"),
        ("Node", "remotemedia.core.node"),
        ("execute_pipeline", "remotemedia.runtime"),
        ("execute_pipeline_with_input", "remotemedia.runtime"),
        ("is_rust_runtime_available", "remotemedia.runtime"),
        ("get_loaded_nodes", "remotemedia.nodes"),
    ],
)
def test_the_package_has_the_objects_of_its_modules(name, module):
    assert getattr(remotemedia, name) is getattr(importlib.import_module(module), name)


class TestRuntime:
    def test_it_is_available(self):
        assert remotemedia.is_rust_runtime_available() is True
        assert remotemedia.try_load_rust_runtime() == (True, remotemedia.get_rust_runtime(), None)

    def test_the_reason_is_returned_when_it_is_not_loaded(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "remotemedia._core", None)
        monkeypatch.delattr(remotemedia, "_core", raising=False)

        loaded, module, error = remotemedia.try_load_rust_runtime()

        assert (loaded, module) == (False, None)
        assert isinstance(error, ImportError)
        assert not remotemedia.is_rust_runtime_available()
        with pytest.raises(
            ImportError, match="^Rust runtime not available: .*; reinstall it with .* or pass use_rust=False$"
        ):
            remotemedia.get_rust_runtime()

    def test_a_missing_extension_is_an_error(self, monkeypatch):
        for package, name in ((remotemedia, "_core"), (remotemedia._session, "run")):
            monkeypatch.setitem(sys.modules, f"{package.__name__}.{name}", None)
            monkeypatch.delattr(package, name, raising=False)

        with pytest.raises(ImportError, match="^Rust runtime not available"):
            asyncio.run(Pipeline([Echo()]).run([1]))


class TestPipeline:
    def test_it_counts_and_iterates_over_its_nodes(self):
        nodes = [Echo(), Echo()]
        pipeline = Pipeline(nodes, name="p")

        assert list(pipeline) == nodes
        assert (len(pipeline), pipeline.node_count) == (2, 2)
        assert Pipeline("empty")

    def test_get_node_takes_a_name_or_an_id(self):
        node = Echo(name="echo")
        pipeline = Pipeline([Echo(), node])

        assert pipeline.get_node("echo") is node
        assert pipeline.get_node("echo_1") is node
        assert pipeline.get_node("other") is None

    def test_remove_node_returns_whether_it_removed_a_node(self):
        pipeline = Pipeline([Echo(name="echo")])

        assert (pipeline.remove_node("echo"), pipeline.remove_node("echo"), len(pipeline)) == (True, False, 0)

    def test_process_takes_a_stream(self, use_rust):
        async def main():
            async def stream():
                yield 1
                yield 2

            return [output async for output in Pipeline([Echo()]).process(stream(), use_rust=use_rust)]

        assert asyncio.run(main()) == [1, 2]

    def test_managed_execution_keeps_the_nodes_initialized(self, use_rust):
        log = []

        async def main():
            pipeline = Pipeline([Watched(log)])
            async with pipeline.managed_execution() as same:
                assert same is pipeline
                outputs = [output async for output in pipeline.process([1, 2], use_rust=use_rust)]
                outputs += await pipeline.run([3], use_rust=use_rust)
                log.append("end")
            return outputs

        assert asyncio.run(main()) == [1, 2, 3]
        assert log == ["initialize", "end", "cleanup"]

    def test_managed_execution_keeps_plain_objects_too(self, use_rust):
        log = []

        class Plain:
            def initialize(self):
                log.append("initialize")

            def process(self, data):
                return data

            async def cleanup(self):
                log.append("cleanup")

        async def main():
            pipeline = Pipeline([Plain()])
            async with pipeline.managed_execution():
                await pipeline.run([1], use_rust=use_rust)
                await pipeline.run([2], use_rust=use_rust)

        asyncio.run(main())

        assert log == ["initialize", "cleanup"]

    def test_managed_execution_cleans_up_after_an_error(self):
        log = []

        class Fails(Watched):
            def initialize(self):
                super().initialize()
                raise StopIteration

        async def main():
            with pytest.raises(remotemedia.exceptions.NodeError, match="failed in initialize"):
                async with Pipeline([Watched(log), Fails(log)]).managed_execution():
                    log.append("never")

        asyncio.run(main())

        assert log == ["initialize", "initialize", "cleanup", "cleanup"]


class TestNode:
    def test_to_manifest_has_id_type_and_params(self):
        assert Echo(name="e", rate=8).to_manifest() == {
            "id": "e",
            "node_type": f"{__name__}:Echo",
            "params": {"name": "e", "rate": 8},
        }

    def test_config_is_kept_and_copied(self):
        node = Echo(rate=8)
        config = node.get_config()
        config["rate"] = 16

        assert node.config == {"rate": 8}

    def test_is_initialized_reports_the_state(self):
        node = Echo()
        node.initialize()

        assert node.is_initialized

    def test_its_older_name_can_be_read(self):
        node = Echo()
        states = [node._is_initialized]
        node.initialize()

        assert [*states, node._is_initialized] == [False, True]

    def test_a_subclass_may_have_an_attribute_of_that_name(self):
        class Own(Echo):
            def __init__(self):
                super().__init__()
                self._is_initialized = "own"

        assert Own()._is_initialized == "own"


class TestNodes:
    @pytest.mark.parametrize(
        ("module", "name", "home"),
        [
            ("calculator", "CalculatorNode", "remotemedia.nodes"),
            ("passthrough", "PassThroughNode", "remotemedia.nodes"),
            ("base", "Node", "remotemedia"),
            ("base", "PassThroughNode", "remotemedia.nodes"),
            ("base", "DataSourceNode", "remotemedia.nodes"),
            ("base", "DataSinkNode", "remotemedia.nodes"),
            ("audio", "AudioFrame", "remotemedia.audio"),
        ],
    )
    def test_older_modules_have_the_same_classes(self, module, name, home):
        older = importlib.import_module(f"remotemedia.nodes.{module}")

        assert getattr(older, name) is getattr(importlib.import_module(home), name)

    def test_a_data_source_and_a_data_sink_are_the_ends_of_a_pipeline(self, run):
        seen = []
        source, sink = DataSourceNode([1, 2]), DataSinkNode(seen.append)

        assert run([source, Echo(), sink]) == [1, 2] == seen

    def test_a_subclass_of_a_data_source_makes_the_items_itself(self, run):
        class Numbers(DataSourceNode):
            async def process(self):
                for number in range(3):
                    yield number

        assert run([Numbers(), Echo()]) == [0, 1, 2]

    def test_manifests_know_both(self, run):
        nodes = [{"node_type": "DataSource", "params": {"data": [1, 2]}}, {"node_type": "DataSinkNode"}]

        assert run(nodes) == [1, 2]


def test_register_node_class_is_a_decorator(monkeypatch):
    from remotemedia._graph import registry

    monkeypatch.setattr(registry, "_classes", dict(registry._classes))

    @remotemedia.register_node_class
    class Registered:
        def process(self, data): ...

    assert remotemedia.get_loaded_nodes()["Registered"] is Registered


def test_multiprocess_places_each_node_in_a_worker():
    graph = resolve([Echo(), remotemedia.with_options(Echo(), placement="thread")], executor="multiprocess")

    assert [entry.options for entry in graph.entries] == [{"placement": "process"}, {"placement": "thread"}]
