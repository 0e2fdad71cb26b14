"""Building pipelines, and the shapes of their results."""

from __future__ import annotations

import array
import asyncio

import pytest

from remotemedia import Node, Pipeline, execute_pipeline_with_input
from remotemedia.exceptions import NodeError, PipelineError
from remotemedia.nodes import CalculatorNode, PassThroughNode


class Echo(Node):
    def process(self, data):
        return data


class Twice(Node):
    def process(self, data):
        yield data
        yield data


class Drop(Node):
    def process(self, data):
        return None


class TestBuilding:
    def test_ids_are_name_and_index(self):
        pipeline = Pipeline("p").add_node(Echo(name="a")).add_node(Echo()).add_node(Echo(), id="own")

        assert repr(pipeline) == "Pipeline(['a_0', 'Echo_1', 'own'], name='p')"

    def test_add_node_chains_and_connects_to_the_node_before(self):
        pipeline = Pipeline("p").add_node(Echo(), id="a").add_node(Echo(), id="b")

        assert [entry.after for entry in pipeline.to_graph().entries] == [[], ["a"]]

    def test_after_takes_ids_nodes_and_lists(self):
        first, second = Echo(), Echo()
        pipeline = Pipeline("p").add_node(first, id="a").add_node(second, id="b", after=first)
        pipeline.add_node(Echo(), id="c", after=["a", second])

        assert [entry.after for entry in pipeline.to_graph().entries] == [[], ["a"], ["a", "b"]]

    def test_a_hundred_thousand_nodes_follow_node_objects(self):
        pipeline = Pipeline("p")
        nodes = [Echo() for _ in range(100_000)]
        for before, node in zip([[], *nodes], nodes, strict=False):
            pipeline.add_node(node, after=before)

        entries = pipeline.to_graph().entries

        assert [entry.after for entry in entries] == [[], *([entry.id] for entry in entries[:-1])]

    def test_after_may_name_a_node_that_is_added_later(self):
        pipeline = Pipeline("p").add_node(Echo(), id="b", after="a").add_node(Echo(), id="a", after=[])

        assert pipeline.check() == []

    def test_a_removed_node_is_replaced_by_its_predecessor(self):
        pipeline = Pipeline([Echo(name="a"), Echo(name="b"), Echo(name="c")])

        assert pipeline.remove_node("b") is True
        assert [(entry.id, entry.after) for entry in pipeline.to_graph().entries] == [
            ("a_0", []),
            ("c_2", ["a_0"]),
        ]

    def test_an_id_is_not_given_twice_after_a_removal(self):
        pipeline = Pipeline([Echo(), Echo()])
        pipeline.remove_node("Echo_0")
        pipeline.add_node(Echo())

        assert [entry.id for entry in pipeline.to_graph().entries] == ["Echo_1", "Echo_2"]

    def test_options_of_a_spec_and_of_the_call_are_merged(self):
        pipeline = Pipeline("p").add_node(Echo().with_options(placement="inline"), placement="inline")

        assert pipeline.to_graph().entries[0].options == {"placement": "inline"}

    def test_a_list_takes_specs(self):
        node = Echo()

        assert list(Pipeline([node.with_options(placement="inline")])) == [node]

    @pytest.mark.parametrize(("arguments", "name"), [((), "pipeline"), (("p",), "p"), (([], "p"), "p")])
    def test_a_pipeline_has_a_name(self, arguments, name):
        assert Pipeline(*arguments).name == name

    def test_two_names_are_refused(self):
        with pytest.raises(TypeError):
            Pipeline("p", name="q")

    def test_check_reports_problems(self):
        assert Pipeline("p").check() == ["Pipeline 'p' is empty; add at least one node"]

    def test_a_changed_pipeline_is_checked_again(self):
        pipeline = Pipeline([Echo()])
        before = pipeline.check()
        pipeline.add_node(Echo(), after="nothing")

        assert before == []
        assert len(pipeline.check()) == 1


class TestPictures:
    def test_mermaid_names_the_nodes(self):
        picture = Pipeline([Echo(name="first"), Echo(name="second")]).to_mermaid()

        assert picture.startswith("flowchart")
        assert "first" in picture

    def test_notebooks_get_a_drawing(self):
        pipeline = Pipeline([Echo()])

        assert pipeline._repr_html_().startswith("<svg")
        assert set(pipeline._repr_mimebundle_(include=None, exclude=None)) == {"text/plain", "image/svg+xml"}

    def test_a_pipeline_that_cannot_run_is_shown_as_text(self):
        assert Pipeline("p")._repr_html_() is None
        assert Pipeline("p")._repr_mimebundle_() == {"text/plain": "Pipeline([], name='p')"}


class TestShapes:
    @pytest.mark.parametrize(
        ("node", "result"), [(Drop(), None), (CalculatorNode("add", 10), 10), (Twice(), ["", ""])]
    )
    def test_a_call_without_input(self, run, node, result):
        assert run([node]) == result

    @pytest.mark.parametrize(("node", "result"), [(Drop(), []), (Echo(), [1]), (Twice(), [1, 1])])
    def test_a_call_with_input_returns_a_list(self, run, node, result):
        assert run([node], [1]) == result

    @pytest.mark.parametrize("item", ["text", b"bytes", {"a": 1}, 5, array.array("i", [1, 2]), 2.5])
    def test_a_single_item_returns_a_single_output(self, use_rust, item):
        assert asyncio.run(Pipeline([Echo()]).run(item, use_rust=use_rust)) == item

    def test_a_numpy_array_is_one_item(self, use_rust):
        np = pytest.importorskip("numpy")
        item = np.zeros(3)

        assert asyncio.run(Pipeline([Echo()]).run(item, use_rust=use_rust)) is item

    @pytest.mark.parametrize("stream", [list, tuple, iter, set])
    def test_any_iterable_is_a_stream(self, use_rust, stream):
        assert asyncio.run(Pipeline([Echo()]).run(stream([1, 2]), use_rust=use_rust)) == [1, 2]

    def test_generators_and_async_generators_are_streams(self, use_rust):
        async def feed():
            yield 1
            await asyncio.sleep(0)
            yield 2

        async def main():
            pipeline = Pipeline([Echo()])
            plain = await pipeline.run((n for n in (1, 2)), use_rust=use_rust)
            return plain, await pipeline.run(feed(), use_rust=use_rust)

        assert asyncio.run(main()) == ([1, 2], [1, 2])

    def test_a_list_of_one_returns_a_list(self, use_rust):
        assert asyncio.run(Pipeline([Echo()]).run([1], use_rust=use_rust)) == [1]

    def test_an_empty_list_is_refused(self, use_rust):
        with pytest.raises(PipelineError, match="is empty"):
            asyncio.run(Pipeline([Echo()]).run([], use_rust=use_rust))

    def test_a_stream_that_turns_out_empty_has_no_outputs(self, use_rust):
        assert asyncio.run(Pipeline([Echo()]).run(iter(()), use_rust=use_rust)) == []

    def test_an_error_of_the_input_passes_as_itself(self, run):
        def feed():
            yield 1
            raise KeyError("feed")

        with pytest.raises(KeyError, match="feed"):
            run([Echo()], feed())


COUNTS = "items_in items_out errors failures retries skipped dead_lettered"
RUN_KEYS = f"pipeline total_duration_us overhead_us {COUNTS} dropped interrupted node_metrics advice"
NODE_KEYS = (
    f"node_id node_type placement {COUNTS} interrupted restarts total_duration_us avg_duration_us "
    "min_duration_us max_duration_us p50_duration_us p95_duration_us p99_duration_us "
    "initialize_duration_us queue_wait_us peak_queue_len dropped"
)


class TestMetrics:
    def test_they_are_returned_with_the_outputs(self, run):
        result = run([CalculatorNode("add", 1, name="calc"), Twice()], [1, 2], enable_metrics=True)
        metrics = result["metrics"]
        nodes = metrics["node_metrics"]

        assert result["outputs"] == [2, 2, 3, 3]
        assert " ".join(metrics) == RUN_KEYS
        assert [" ".join(node) for node in nodes] == [NODE_KEYS] * 2
        assert [(node["node_id"], node["items_in"], node["items_out"]) for node in nodes] == [
            ("calc_0", 2, 2),
            ("Twice_1", 2, 4),
        ]
        assert (metrics["items_in"], metrics["items_out"], metrics["errors"]) == (2, 4, 0)

    def test_the_pipeline_keeps_those_of_its_last_measured_run(self, use_rust):
        pipeline = Pipeline([Echo()], name="kept")

        async def main():
            before = pipeline.get_metrics()
            await pipeline.run([1], use_rust=use_rust, enable_metrics=True)
            await pipeline.run([1, 2], use_rust=use_rust)
            return before, pipeline.get_metrics()

        before, after = asyncio.run(main())

        assert before is None
        assert (after["pipeline"], after["items_in"]) == ("kept", 1)


class TestStreams:
    def test_each_output_is_returned_before_the_next_item_is_requested(self, use_rust):
        """Nothing is read ahead: the third item is not created while the consumer has the first output."""
        made = []

        async def feed():
            for item in range(1000):
                made.append(item)
                yield item

        async def main():
            outputs = Pipeline([Echo()]).process(feed(), use_rust=use_rust)
            first = await anext(outputs)
            await outputs.aclose()
            return first

        assert asyncio.run(main()) == 0
        assert len(made) < 100

    def test_the_end_of_input_is_flushed(self, use_rust):
        class Sum(Node):
            total = 0

            def process(self, data):
                self.total += data

            def flush(self):
                return self.total

        async def main():
            return [output async for output in Pipeline([Sum()]).process([1, 2, 3], use_rust=use_rust)]

        assert asyncio.run(main()) == [6]

    def test_an_error_is_raised_after_the_earlier_outputs(self, use_rust):
        class Picky(Node):
            def process(self, data):
                return 1 / data

        async def main():
            outputs = Pipeline([Picky()]).process([1, 2, 0], use_rust=use_rust)
            first = [await anext(outputs), await anext(outputs)]
            with pytest.raises(NodeError) as caught:
                await anext(outputs)
            return first, caught.value.item_index

        assert asyncio.run(main()) == ([1.0, 0.5], 2)

    def test_leaving_early_cleans_the_nodes_up(self, use_rust):
        log = []

        class Watched(Node):
            def process(self, data):
                return data

            def cleanup(self):
                super().cleanup()
                log.append("cleanup")

        async def main():
            outputs = Pipeline([Watched()]).process(iter(int, 1), use_rust=use_rust)
            async for _ in outputs:
                break
            await outputs.aclose()
            return list(log)

        assert asyncio.run(main()) == ["cleanup"]


def test_runs_go_side_by_side(use_rust):
    class Meet(Node):
        async def process(self, data):
            await barrier.wait()
            return data

    async def main():
        nonlocal barrier
        barrier = asyncio.Barrier(3)
        runs = [execute_pipeline_with_input([Meet()], [n], use_rust=use_rust) for n in range(3)]
        return await asyncio.gather(*runs)

    barrier = None

    assert asyncio.run(main()) == [[0], [1], [2]]


def test_a_cancelled_run_cleans_up_and_passes_the_cancellation_on(use_rust):
    log = []

    class Hangs(Node):
        async def process(self, data):
            started.set()
            await asyncio.Event().wait()

        def cleanup(self):
            log.append("cleanup")

    async def main():
        nonlocal started
        started = asyncio.Event()
        task = asyncio.create_task(
            execute_pipeline_with_input([PassThroughNode(), Hangs()], [1], use_rust=use_rust)
        )
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    started = None
    asyncio.run(main())

    assert log == ["cleanup"]
