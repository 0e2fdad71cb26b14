"""Pipelines as text, and back."""

from __future__ import annotations

import contextlib
import gc
import json

import pytest

from remotemedia import Node, Pipeline
from remotemedia.exceptions import ManifestError, SerializationError
from remotemedia.nodes import CalculatorNode, PassThroughNode


class Scale(Node):
    def __init__(self, factor, *, labels=(), **config):
        super().__init__(**config)
        self.factor, self.labels = factor, labels

    def process(self, data):
        return data * self.factor


class Plain:
    def process(self, data):
        return -data


class Fails:
    def __init__(self, code):
        raise KeyError(code)

    def process(self, data): ...


def manifest(*nodes, **fields):
    return {"version": "v1", "nodes": list(nodes), **fields}


def line_by_line(*nodes):
    return '{"version": "v1",\n"nodes": [\n' + ",\n".join(map(json.dumps, nodes)) + "\n]}"


class TestRoundTrips:
    def test_a_manifest_has_the_same_outputs_as_its_instances(self, run):
        pipeline = Pipeline("p").add_node(Scale(3, labels=["a"], name="scale"), id="s")
        pipeline.add_node(Plain(), placement="inline").add_node(CalculatorNode("add", 10), after=["s"])
        pipeline.add_node(PassThroughNode(), after=["Plain_1", "CalculatorNode_2"], join=True)

        assert run(pipeline.serialize(), [1, 2]) == run(pipeline, [1, 2])

    def test_a_pipeline_is_the_same_after_a_round_trip(self):
        pipeline = (
            Pipeline("p").add_node(Scale(3, name="scale"), id="s").add_node(Plain(), placement="inline")
        )
        text = pipeline.serialize()

        assert Pipeline.from_manifest(text).serialize() == text
        assert Pipeline.from_manifest(json.loads(text)).name == "p"

    def test_the_text_is_that_of_the_contract(self):
        text = Pipeline([CalculatorNode(name="add", operation="add", operand=5)], name="p").serialize()

        assert json.loads(text) == {
            "version": "v1",
            "metadata": {"name": "p"},
            "nodes": [
                {
                    "id": "add_0",
                    "node_type": "CalculatorNode",
                    "params": {"name": "add", "operation": "add", "operand": 5},
                }
            ],
            "connections": [],
        }

    def test_a_class_inside_a_function_is_found_in_the_same_program(self, run):
        class Local(Node):
            def process(self, data):
                return data + 1

        assert run(Pipeline([Local()]).serialize(), [1]) == [2]

    @pytest.mark.parametrize("as_text", [str, lambda path: path])
    def test_files_are_read(self, tmp_path, as_text):
        path = tmp_path / "pipeline.json"
        path.write_text(Pipeline([Plain()], name="p").serialize())

        assert Pipeline.from_manifest(as_text(path)).name == "p"

    def test_a_missing_file_raises_file_not_found_error(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            Pipeline.from_manifest(str(tmp_path / "nothing.yaml"))

    def test_an_argument_that_json_cannot_represent_is_named(self):
        with pytest.raises(SerializationError) as caught:
            Pipeline([Scale(2, labels=[print], name="s")]).serialize()

        assert (caught.value.node_name, caught.value.attribute) == ("s", "labels[0]")

    def test_an_object_whose_arguments_were_not_recorded_is_refused(self):
        class Foreign:
            def __init__(self, rate=1): ...

            def process(self, data): ...

        with pytest.raises(
            SerializationError, match="were not recorded; derive its class from Node, which records them"
        ):
            Pipeline([Foreign()]).serialize()


class TestForms:
    def test_yaml(self, run):
        text = (
            "version: v1\nnodes:\n  - node_type: Calculator\n    params: {operation: multiply, operand: 2}\n"
        )

        assert run(text, [3]) == [6]

    def test_a_dict(self, run):
        assert run(manifest({"node_type": "CalculatorNode", "params": {"operand": 2}}), [3]) == [5]

    def test_missing_connections_mean_a_chain(self, run):
        add = {"node_type": "Calculator", "params": {"operand": 1}}

        assert run(manifest(add, add, add), [0]) == [3]

    def test_a_class_by_its_module(self, run):
        assert run(manifest({"node_type": f"{__name__}:Scale", "params": {"factor": 4}}), [2]) == [8]

    def test_nodes_and_entries_mix_in_a_list(self, run):
        entry = {"node_type": "CalculatorNode", "params": {"operand": 1}}

        assert run([Scale(2), entry, Plain()], [3]) == [-7]
        assert run(Pipeline([entry, Plain()]), [3]) == [-4]
        assert run(Pipeline("p").add_node(Plain()).add_node(entry), [3]) == [-2]

    def test_ids_of_entries_are_their_own_or_name_and_index(self):
        entry = {"node_type": "CalculatorNode"}
        pipeline = Pipeline([Plain(), entry, {**entry, "id": "own"}])

        assert [node.id for node in pipeline.to_graph().entries] == ["Plain_0", "CalculatorNode_1", "own"]

    def test_a_hundred_thousand_nodes_run(self):
        pipeline = Pipeline.from_manifest(manifest(*[{"node_type": "PassThrough"}] * 100_000))

        assert pipeline.node_count == 100_000


class TestRefused:
    @pytest.mark.parametrize(
        ("node", "path", "what"),
        [
            (
                {"node_type": "PasThrough"},
                "nodes[1].node_type",
                "unknown node type 'PasThrough'; did you mean 'PassThroughNode'?",
            ),
            (
                {"node_type": f"{__name__}:Fails", "params": {"code": 7}},
                "nodes[1].params",
                "Fails cannot be created from its params: KeyError: 7",
            ),
            (
                {"node_type": "FilterNode", "params": {"thresold": 7}},
                "nodes[1].params",
                "FilterNode has no parameter 'thresold'; did you mean 'threshold'?",
            ),
            (
                {"node_type": "no_module:Class"},
                "nodes[1].node_type",
                "cannot import 'no_module:Class': ModuleNotFoundError: No module named 'no_module'",
            ),
            (
                {"node_type": "json:Class"},
                "nodes[1].node_type",
                "unknown node type 'json:Class'; the module 'json' has no such class",
            ),
            (
                {"node_type": "pathlib:Path"},
                "nodes[1].node_type",
                "'pathlib:Path' is not a node type: it has no process() method",
            ),
            ({"node_type": 3}, "nodes[1].node_type", "expected a string, found the number 3"),
        ],
    )
    def test_errors_name_path_and_line(self, run, node, path, what):
        with pytest.raises(ManifestError) as caught:
            run(line_by_line({"node_type": "PassThrough"}, node), [1])

        assert str(caught.value) == f"Line 4, {path}: {what}"
        assert (caught.value.path, caught.value.line) == (path, 4)

    @pytest.mark.parametrize(
        ("field", "line"),
        [("node_type: Filte", 4), ("params: {thresold: 1}", 5), ("params: {a: 1, b: 2}", 5)],
    )
    def test_errors_name_the_line_of_the_field(self, field, line):
        fields = {"node_type: Filte": [field, "params: {}"]}.get(field, ["node_type: Filter", field])
        text = "version: v1\nnodes:\n  - id: a\n    " + "\n    ".join(fields)

        with pytest.raises(ManifestError) as caught:
            Pipeline.from_manifest(text)

        assert caught.value.line == line

    def test_a_dict_has_no_lines(self, run):
        with pytest.raises(ManifestError) as caught:
            run(manifest({"node_type": 3}), [1])

        assert str(caught.value) == "nodes[0].node_type: expected a string, found the number 3"
        assert (caught.value.path, caught.value.line) == ("nodes[0].node_type", None)

    def test_a_value_that_json_cannot_represent_is_named(self, run):
        with pytest.raises(ManifestError) as caught:
            run(manifest({"node_type": "PassThrough", "params": {"x": [object()]}}), [1])

        assert (
            str(caught.value)
            == "nodes[0].params.x[0]: the value has the type 'object', which JSON cannot represent"
        )

    def test_an_empty_text(self, run):
        with pytest.raises(ManifestError, match="^Line 1: the text is empty; a manifest has a version"):
            run("", [1])

    def test_the_name_of_a_file(self, run):
        with pytest.raises(ManifestError) as caught:
            run("voice.yaml", [1])

        assert str(caught.value) == (
            "'voice.yaml' is the name of a file, not a manifest; read it with Pipeline.from_manifest()"
        )

    def test_an_error_of_a_constructor_is_the_cause(self, run):
        with pytest.raises(ManifestError) as caught:
            run(manifest({"node_type": f"{__name__}:Fails", "params": {"code": 7}}), [1])

        assert repr(caught.value.__cause__) == "KeyError(7)"

    def test_an_entry_of_a_list_is_counted_as_in_the_list(self, run):
        with pytest.raises(ManifestError, match=r"^nodes\[1\]\.node_type: unknown node type 'Nothing'"):
            run([Plain(), {"node_type": "Nothing"}], [1])

    def test_a_dict_that_is_not_an_entry_is_refused(self, run):
        with pytest.raises(ManifestError, match=r"^nodes\[0\]\.kind: unknown field"):
            run([{"kind": "PassThrough"}], [1])

    @pytest.mark.parametrize("thing", [5, None, b"{}"])
    def test_an_object_that_is_not_a_manifest_is_refused(self, thing):
        with pytest.raises(TypeError, match="^A manifest must be a str, a dict or a path, not"):
            Pipeline.from_manifest(thing)

    def test_a_deep_dict_is_an_error_and_not_a_crash(self, run):
        deep = {}
        for _ in range(100_000):
            deep = {"x": deep}

        with pytest.raises(ManifestError):
            run(manifest({"node_type": "PassThrough", "params": deep}), [1])


@pytest.mark.parametrize("node_type", ["PassThroughNode", "NoSuchNode"])
@pytest.mark.parametrize("is_enabled", [True, False])
def test_the_garbage_collector_is_as_it_was(node_type, is_enabled):
    """It is paused while the nodes of a manifest are made."""
    was_enabled = gc.isenabled()
    (gc.enable if is_enabled else gc.disable)()
    try:
        with contextlib.suppress(ManifestError):
            Pipeline.from_manifest({"version": "v1", "nodes": [{"node_type": node_type}]})
        assert gc.isenabled() is is_enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()
