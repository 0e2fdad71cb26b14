"""Notations of options: in `add_node`, in manifests, in drawings, and the errors for wrong ones."""

from __future__ import annotations

import json

import pytest
from stream_nodes import Add, Fails, Noting

from remotemedia import Batch, Node, Pipeline, with_options
from remotemedia.exceptions import (
    NodeError,
    PipelineError,
    SerializationError,
)
from remotemedia.nodes import register_node


class Source:
    def process(self):
        yield from range(3)


class OptionsNode(Node):
    """Registered, so that manifests can name it."""

    def process(self, items):
        return items


register_node(OptionsNode)

ALL = {
    "placement": "process",
    "replicas": 1,
    "ordered": True,
    "concurrency": 1,
    "batch": {"size": 4, "max_wait": 0.5},
    "queue_size": 8,
    "when_full": "wait",
    "on_error": "skip",
    "retries": 1,
    "retry_delay": 0.1,
    "timeout": 5.0,
    "max_restarts": 2,
    "restart_window": 30.0,
    "initialize_timeout": 20.0,
    "snapshot_every": 10,
}


class TestVocabulary:
    def test_manifests_have_the_same_words(self):
        written = Pipeline("p").add_node(OptionsNode(), **{**ALL, "batch": Batch(4, max_wait=0.5)})
        manifest = {
            "version": "v1",
            "nodes": [{"id": "OptionsNode_0", "node_type": "OptionsNode", "options": ALL}],
        }

        text = json.loads(written.serialize())
        read = Pipeline.from_manifest(manifest)

        assert text["nodes"][0]["options"] == ALL
        assert json.loads(read.serialize())["nodes"][0]["options"] == ALL

    @pytest.mark.parametrize("name", ["on_error", "dead_letter"])
    def test_a_callable_cannot_be_written_to_a_manifest(self, name):
        pipeline = Pipeline("p").add_node(OptionsNode(), **{name: print})

        with pytest.raises(SerializationError, match=f"the option {name} is a function"):
            pipeline.serialize()

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"replica": 2}, "Unknown option 'replica'; did you mean 'replicas'?"),
            ({"queue_size": 0}, "queue_size=0 is not valid; use a whole number from 1 to 1000000"),
            ({"when_full": "drop"}, "use one of 'wait', 'drop_oldest', 'drop_newest'"),
            ({"timeout": 0}, "timeout=0 is not valid; use a number of seconds above 0, or None"),
            ({"retries": -1}, "use a whole number from 0 to 1000000"),
            ({"batch": "many"}, "use a number of items, or Batch(size, max_wait=seconds)"),
            ({"batch": {"size": 2, "max_wait": "1"}}, "'max_wait': '1'} is not valid; use a number of items"),
            ({"concurrency": 2, "batch": 2}, "batch and concurrency cannot be combined; use one of them"),
            ({"placement": "proces"}, "use one of 'inline', 'thread', 'process'; did you mean 'process'?"),
            ({"max_restart": 2}, "Unknown option 'max_restart'; did you mean 'max_restarts'?"),
            ({"max_restarts": -1}, "max_restarts=-1 is not valid; use a whole number from 0 to"),
            ({"restart_window": 0}, "restart_window=0 is not valid; use a number of seconds above 0"),
            ({"initialize_timeout": None}, "initialize_timeout=None is not valid; use a number of"),
            ({"snapshot_every": 0}, "snapshot_every=0 is not valid; use a whole number from 1 to"),
        ],
    )
    def test_impossible_options_are_refused_by_every_way_to_set_them(self, options, text):
        ways = [
            lambda: with_options(Noting(), **options),
            lambda: Pipeline("p").add_node(Noting(), **options),
            lambda: Pipeline([Noting()]).open(**options),
        ]
        ways = ways[:2] if "queue_size" in options else ways

        for way in ways:
            with pytest.raises(PipelineError) as caught:
                way()
            assert text in str(caught.value)

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"retries": 2}, "Node 'Source_0': retries applies to failed items; a source receives no items"),
            (
                {"on_error": "skip"},
                "Node 'Source_0': on_error applies to failed items; a source receives no items",
            ),
            (
                {"dead_letter": print},
                "Node 'Source_0': dead_letter applies to failed items; a source receives no items",
            ),
            (
                {"queue_size": 2},
                "Node 'Source_0': a source has no input queue and runs once; remove its queue options",
            ),
        ],
    )
    def test_a_source_has_no_options_for_items(self, options, text):
        with pytest.raises(PipelineError) as caught:
            Pipeline([with_options(Source(), **options), Add()])

        assert str(caught.value) == text

    def test_defaults_of_a_session_are_for_the_nodes_after_a_source(self):
        with Pipeline([Source(), Fails(1)]).open(
            on_error="skip", when_full="drop_oldest", retries=1
        ) as session:
            outputs = list(session)

        assert outputs == [0, 2]

    def test_defaults_of_a_session_apply_to_nodes_without_the_option(self):
        letters = []
        nodes = [Fails(1), with_options(Fails(2), on_error="stop")]

        with Pipeline(nodes).open(on_error="skip") as session:
            first = session.call(1)
            with pytest.raises(NodeError, match="Node 'Fails_1' failed"):
                session.call(2)

        assert first is None
        assert letters == []


def test_an_unknown_option_of_a_session_is_refused_with_all_that_there_are():
    with pytest.raises(
        PipelineError, match="the options are: enable_metrics, queue_size, stall_warning, placement"
    ):
        Pipeline([Add()]).open(bogus=1)
