"""Valid pipelines, errors that are raised before any node is initialized, and the order of items."""

from __future__ import annotations

import asyncio

import pytest

from remotemedia import Node, Pipeline, execute_pipeline_with_input
from remotemedia._graph.graph import resolve
from remotemedia._graph.plan_order import plan_order
from remotemedia.exceptions import PipelineError
from remotemedia.nodes import PassThroughNode


class Tag:
    """Puts its label in front of each item."""

    def __init__(self, label):
        self.label = label

    def process(self, item):
        return f"{self.label}{item}"


class Untouched:
    """Fails the test if a run calls it."""

    def initialize(self):
        raise AssertionError

    def process(self, item):
        raise AssertionError


class Twice:
    def process(self, item):
        yield f"{item}1"
        yield f"{item}2"


class Drop:
    def process(self, item):
        return None


class Last:
    def process(self, item):
        return None

    def flush(self):
        return "last"


class Source:
    def process(self):
        yield from (1, 2)


def diamond(join=False):
    pipeline = Pipeline("diamond")
    pipeline.add_node(Tag("s"), id="start")
    pipeline.add_node(Tag("l"), id="left", after="start")
    pipeline.add_node(Tag("r"), id="right", after="start")
    return pipeline.add_node(PassThroughNode(), id="end", after=["right", "left"], join=join)


class TestRefused:
    @pytest.mark.parametrize("pipeline", [[], (), Pipeline("p"), Pipeline([])])
    def test_an_empty_pipeline(self, run, pipeline):
        with pytest.raises(PipelineError, match="is empty"):
            run(pipeline, [1])

    def test_an_empty_input(self, run):
        with pytest.raises(
            PipelineError, match="^The input of pipeline 'pipeline' is empty; pass at least one item$"
        ):
            run([Untouched()], [])

    @pytest.mark.parametrize(
        ("pipeline", "text"),
        [
            (None, "A pipeline must be a Pipeline, a list of nodes or a manifest, not None"),
            (5, "A pipeline must be a Pipeline, a list of nodes or a manifest, not an int"),
            (b"{}", "A pipeline must be a Pipeline, a list of nodes or a manifest, not a bytes"),
        ],
    )
    def test_an_object_that_is_not_a_pipeline_is_refused(self, run, pipeline, text):
        with pytest.raises(TypeError) as caught:
            run(pipeline, [1])

        assert str(caught.value) == text

    def test_the_error_for_a_single_node_suggests_a_list(self, run):
        with pytest.raises(TypeError, match=r"put the node into a list: \[node\]$"):
            run(Untouched(), [1])

    def test_every_wrong_entry_is_named_with_its_position(self, run):
        with pytest.raises(TypeError) as caught:
            run([Untouched(), 3, Tag, "x"], [1])

        neither = "neither a node (an object with a process method) nor a manifest entry"
        assert str(caught.value).splitlines() == [
            f"Entry 1 of the pipeline is an int, {neither}",
            "Entry 2 of the pipeline is the class Tag, not an instance; write Tag(…)",
            f"Entry 3 of the pipeline is a str, {neither}",
        ]

    def test_a_node_without_process(self, run):
        class Lame(Node):
            pass

        with pytest.raises(PipelineError, match=r"^Node 'x' missing required process\(\) method; define"):
            run([Untouched(), Lame(name="x")], [1])

    def test_a_process_that_cannot_be_called(self, run):
        class Wrong:
            process = "no method"

        with pytest.raises(PipelineError, match=r"^Node 'Wrong' missing required process\(\) method"):
            run([Wrong()], [1])

    def test_equal_ids(self):
        pipeline = Pipeline("p").add_node(Untouched(), id="a")

        with pytest.raises(PipelineError, match="^Two nodes have the id 'a'; give each node its own id$"):
            pipeline.add_node(Untouched(), id="a")

    def test_a_connection_to_a_missing_node(self, run):
        pipeline = (
            Pipeline("p").add_node(Untouched(), id="first").add_node(Untouched(), id="b", after="frist")
        )

        with pytest.raises(
            PipelineError,
            match="^Node 'b' comes after 'frist', but no node has that id; did you mean 'first'\\?$",
        ):
            run(pipeline, [1])

    def test_a_connection_to_an_object_outside(self, run):
        pipeline = Pipeline("p").add_node(Untouched(), id="a", after=PassThroughNode(name="out"))

        with pytest.raises(PipelineError, match="which is not a node of pipeline 'p'$"):
            run(pipeline, [1])

    def test_a_cycle(self, run):
        pipeline = (
            Pipeline("p").add_node(Untouched(), id="in").add_node(Untouched(), id="a", after=["in", "c"])
        )
        pipeline.add_node(Untouched(), id="b").add_node(Untouched(), id="c")

        with pytest.raises(PipelineError, match="^The connections form a cycle: a → b → c → a$"):
            run(pipeline, [1])

    def test_a_node_after_itself(self, run):
        with pytest.raises(PipelineError, match="cycle: a → a$"):
            run(Pipeline("p").add_node(Untouched(), id="a", after="a"), [1])

    def test_a_source_that_is_not_first(self, run):
        with pytest.raises(
            PipelineError,
            match=r"^Node 'Source_1' is a source \(its process\(\) takes no item\), so it must be",
        ):
            run([Untouched(), Source()], [1])

    def test_a_source_beside_another_start(self, run):
        pipeline = Pipeline("p").add_node(Source()).add_node(Untouched(), after=[])

        with pytest.raises(PipelineError, match="must be the only node at the start"):
            run(pipeline)

    def test_input_for_a_source(self, run):
        with pytest.raises(
            PipelineError,
            match="^Pipeline 'pipeline' starts with a source, node 'Source_0', and takes no input; run",
        ):
            run([Source()], [1])

    def test_a_single_item_in_place_of_a_list(self, run):
        with pytest.raises(TypeError, match=r"not one str; put it into a list: \[item\]$"):
            run([Untouched()], "text")

    def test_no_input_where_there_must_be_some(self, use_rust):
        with pytest.raises(TypeError, match=r"not None; call execute_pipeline\(\) to run without input$"):
            asyncio.run(execute_pipeline_with_input([Untouched()], None, use_rust=use_rust))

    def test_join_is_a_truth_value(self):
        with pytest.raises(TypeError, match="^join must be True or False, not 'yes'$"):
            Pipeline("p").add_node(Untouched(), join="yes")

    def test_an_executor_that_is_not_available(self, run):
        with pytest.raises(
            PipelineError,
            match="^executor='multiproces' is not valid; use 'multiprocess'; did you mean 'multip",
        ):
            run([Untouched()], [1], executor="multiproces")

    def test_an_option_of_a_node(self):
        with pytest.raises(PipelineError, match="^Node 'a': placement='inlin' is not valid; .*mean 'inline'"):
            Pipeline("p").add_node(Untouched(), id="a", placement="inlin")


class TestPlanOrder:
    def test_nodes_follow_their_upstream_nodes(self):
        pipeline = Pipeline("p").add_node(Tag("c"), id="c", after="b").add_node(Tag("b"), id="b", after="a")
        entries = resolve(pipeline.add_node(Tag("a"), id="a", after=[])).entries

        assert [entries[position].id for position in plan_order(entries)] == ["a", "b", "c"]

    def test_a_hundred_thousand_nodes_are_ordered(self):
        node = PassThroughNode()
        entries = resolve([node] * 100_000).entries

        assert plan_order(entries) == list(range(100_000))


class TestFlow:
    def test_a_merge_orders_by_input_and_then_by_its_upstreams(self, run):
        assert run(diamond(), ["a", "b"]) == ["rsa", "lsa", "rsb", "lsb"]

    def test_a_join_returns_one_dict_per_input(self, run):
        assert run(diamond(join=True), ["a"]) == [{"right": "rsa", "left": "lsa"}]

    def test_a_join_contains_none_or_a_list_for_a_branch_with_no_or_several_outputs(self, run):
        pipeline = Pipeline("p").add_node(PassThroughNode(), id="start")
        pipeline.add_node(Drop(), id="drop", after="start").add_node(Twice(), id="twice", after="start")
        pipeline.add_node(PassThroughNode(), after=["drop", "twice"], join=True)

        assert run(pipeline, ["a"]) == [{"drop": None, "twice": ["a1", "a2"]}]

    def test_a_join_of_an_input_that_reached_no_branch_has_no_output(self, run):
        pipeline = Pipeline("p").add_node(Drop(), id="start")
        pipeline.add_node(Tag("l"), id="left").add_node(Tag("r"), id="right", after="start")
        pipeline.add_node(PassThroughNode(), after=["left", "right"], join=True)

        assert run(pipeline, ["a"]) == []

    def test_a_join_at_the_end_of_input_needs_an_output(self, run):
        pipeline = Pipeline("p").add_node(Last(), id="last").add_node(Drop(), id="drop", after=[])
        pipeline.add_node(PassThroughNode(), after=["last", "drop"], join=True)

        assert run(pipeline, ["a"]) == [{"last": None, "drop": None}, {"last": "last", "drop": None}]

    def test_each_branch_gets_the_same_object(self, run):
        pipeline = Pipeline("p").add_node(PassThroughNode(), id="s")
        pipeline.add_node(PassThroughNode(), after="s").add_node(PassThroughNode(), after="s")
        item = object()

        assert [output is item for output in run(pipeline, [item])] == [True, True]

    def test_outputs_of_several_ends_are_ordered_by_input_and_plan(self, run):
        pipeline = Pipeline("p").add_node(Twice(), id="twice").add_node(Tag("t"), id="tag", after=[])

        assert run(pipeline, ["a", "b"]) == ["a1", "a2", "ta", "b1", "b2", "tb"]

    def test_an_output_is_processed_by_all_nodes_before_the_next_one(self, run):
        log = []

        class Making:
            def process(self, item):
                for index in range(2):
                    log.append(f"make {index}")
                    yield index

        class Taking:
            def process(self, item):
                log.append(f"take {item}")

        run([Making(), Taking()], ["a"])

        assert log == ["make 0", "take 0", "make 1", "take 1"]

    def test_flushes_follow_the_plan_and_are_processed_downstream(self, run):
        assert run([Last(), Tag("t"), Last()], ["a"]) == ["last"]
        assert run([Last(), Tag("t")], ["a"]) == ["tlast"]

    def test_the_items_of_a_source_are_the_input(self, run):
        assert run([Source(), Tag("t")]) == ["t1", "t2"]

    def test_a_plain_source_is_called_once(self, run):
        class Once:
            def process(self):
                return "once"

        assert run([Once(), Tag("t")]) == "tonce"

    def test_a_yielded_none_is_an_output(self, run):
        class Yields:
            def process(self, item):
                yield None
                yield item

        assert run([Yields()], [1]) == [None, 1]

    def test_a_returned_generator_is_drained(self, run):
        class Returns:
            def process(self, item):
                return (item + step for step in range(2))

        assert run([Returns()], [1]) == [1, 2]

    def test_the_generator_that_a_coroutine_returns_is_drained(self, run):
        class Returns:
            async def process(self, item):
                return (item + step for step in range(2))

        assert run([Returns()], [1]) == [1, 2]
