"""The whole text of each kind of error on both executors.

`docs/errors.md` explains them. The tests of single checks contain further details.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from remotemedia import Node, Pipeline
from remotemedia.exceptions import ManifestError, NodeError, PipelineError, SerializationError
from remotemedia.nodes import PassThroughNode


class Failing:
    """Raises in the given phases."""

    def __init__(self, *phases: str) -> None:
        self.phases = phases

    def initialize(self) -> None:
        self.enter("initialize")

    def process(self, item: Any) -> Any:
        if item == "bad":
            self.enter("process")
        return item

    def flush(self) -> None:
        self.enter("flush")

    def cleanup(self) -> None:
        self.enter("cleanup")

    def enter(self, phase: str) -> None:
        if phase in self.phases:
            raise LookupError(f"no {phase} today")


class Lame(Node):
    """Has no `process`."""


class Source:
    def process(self) -> int:
        return 1


class Sluggish:
    is_streaming = True

    async def process(self, items: Any) -> Any:
        return items


def linked(first: str, second: str) -> Pipeline:
    """Two nodes, `one` after `first` and `two` after `second`."""
    pipeline = Pipeline("p").add_node(PassThroughNode(), id="one", after=first)
    return pipeline.add_node(PassThroughNode(), id="two", after=second)


REFUSED: dict[str, tuple[Any, Any, type[Exception], str]] = {
    "no pipeline": (
        {"a", "b"},
        [1],
        TypeError,
        "A pipeline must be a Pipeline, a list of nodes or a manifest, not a set",
    ),
    "no list entry": (
        [PassThroughNode(), 3],
        [1],
        TypeError,
        (
            "Entry 1 of the pipeline is an int, "
            "neither a node (an object with a process method) nor a manifest entry"
        ),
    ),
    "a function": (
        [str.upper],
        [1],
        TypeError,
        (
            "Entry 0 of the pipeline is a method_descriptor, "
            "neither a node (an object with a process method) "
            "nor a manifest entry; define it as process(self, data) of a class"
        ),
    ),
    "a pipeline in a list": (
        [PassThroughNode(), Pipeline([PassThroughNode()])],
        [1],
        TypeError,
        "Entry 1 of the pipeline is a Pipeline, not a node; unpack its nodes: *pipeline",
    ),
    "a path": (
        Path("voice.yaml"),
        [1],
        TypeError,
        (
            "A pipeline must be a Pipeline, a list of nodes or a manifest, not a PosixPath; "
            "read the file with Pipeline.from_manifest()"
        ),
    ),
    "one item": (
        [PassThroughNode()],
        b"ab",
        TypeError,
        "The input must be a list or another iterable of items, not one bytes; put it into a list: [item]",
    ),
    "empty list": ([], [1], PipelineError, "The pipeline is empty; add at least one node"),
    "empty pipeline": (Pipeline("p"), [1], PipelineError, "Pipeline 'p' is empty; add at least one node"),
    "empty input": (
        Pipeline("p").add_node(PassThroughNode()),
        [],
        PipelineError,
        "The input of pipeline 'p' is empty; pass at least one item",
    ),
    "no process": (
        [Lame(name="x")],
        [1],
        PipelineError,
        "Node 'x' missing required process() method; define process(self, data) in Lame",
    ),
    "no stream": (
        [Sluggish()],
        [1],
        PipelineError,
        (
            "Node 'Sluggish_0' has is_streaming = True, but its process() is not an async generator; "
            "define async def process(self, items) with yield, or remove is_streaming"
        ),
    ),
    "unknown id": (
        linked("twoo", "one"),
        [1],
        PipelineError,
        "Node 'one' comes after 'twoo', but no node has that id; did you mean 'two'?",
    ),
    "cycle": (linked("two", "one"), [1], PipelineError, "The connections form a cycle: one → two → one"),
    "source": (
        [PassThroughNode(), Source()],
        [1],
        PipelineError,
        (
            "Node 'Source_1' is a source (its process() takes no item), "
            "so it must be the only node at the start of its pipeline"
        ),
    ),
    "input for a source": (
        Pipeline("p").add_node(Source()),
        [1],
        PipelineError,
        "Pipeline 'p' starts with a source, node 'Source_0', and takes no input; run it without input",
    ),
    "manifest": (
        "version: v1\nnodes:\n- node_type: CalculatorNod\n",
        [1],
        ManifestError,
        "Line 3, nodes[0].node_type: unknown node type 'CalculatorNod'; did you mean 'CalculatorNode'?",
    ),
    "version": (
        '{"version": "v2", "nodes": []}',
        [1],
        ManifestError,
        "Line 1, version: expected \"v1\", found the string 'v2'",
    ),
}


@pytest.mark.parametrize(("pipeline", "inputs", "kind", "text"), REFUSED.values(), ids=REFUSED)
def test_a_pipeline_that_cannot_run(
    run: Any, pipeline: Any, inputs: Any, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind) as caught:
        run(pipeline, inputs)

    assert type(caught.value) is kind
    assert str(caught.value) == text


def test_the_page_explains_each_text() -> None:
    page = Path(__file__).parents[2].joinpath("docs/errors.md").read_text(encoding="utf-8")

    texts = [text for *_, kind, text in REFUSED.values() if kind is PipelineError]

    assert [text for text in texts if text not in page] == []


def test_two_nodes_with_one_id() -> None:
    pipeline = Pipeline("p").add_node(PassThroughNode(), id="one")

    with pytest.raises(PipelineError) as caught:
        pipeline.add_node(PassThroughNode(), id="one")

    assert str(caught.value) == "Two nodes have the id 'one'; give each node its own id"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"placment": "inline"}, "Node 'n': Unknown option 'placment'; did you mean 'placement'?"),
        (
            {"placement": "moon"},
            "Node 'n': placement='moon' is not valid; use one of 'inline', 'thread', 'process'",
        ),
    ],
)
def test_an_option_that_does_not_exist(options: dict[str, Any], text: str) -> None:
    with pytest.raises(PipelineError) as caught:
        Pipeline("p").add_node(PassThroughNode(), id="n", **options)

    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("phase", "item_index", "text"),
    [
        ("initialize", None, "Node 'f_0' failed in initialize(): LookupError: no initialize today"),
        ("process", 1, "Node 'f_0' failed in process() on item 1: LookupError: no process today"),
        ("flush", None, "Node 'f_0' failed in flush(): LookupError: no flush today"),
        ("cleanup", None, "Node 'f_0' failed in cleanup(): LookupError: no cleanup today"),
    ],
)
def test_a_node_that_raises(run: Any, phase: str, item_index: int | None, text: str) -> None:
    node = Failing(phase)
    node.name = "f"  # type: ignore[attr-defined]

    with pytest.raises(NodeError) as caught:
        run([node, PassThroughNode()], ["good", "bad"])

    error = caught.value
    assert str(error) == text
    assert (error.node_id, error.item_index, error.phase) == ("f_0", item_index, phase)
    assert repr(error.__cause__) == f"LookupError('no {phase} today')"
    assert error.__cause__.__traceback__ is not None


def test_a_cleanup_that_raises_after_a_process_that_raised(run: Any) -> None:
    with pytest.raises(NodeError) as caught:
        run([Failing("process", "cleanup")], ["bad"])

    assert caught.value.phase == "cleanup"
    earlier = caught.value.__context__
    assert isinstance(earlier, NodeError)
    assert (earlier.phase, repr(earlier.__cause__)) == ("process", "LookupError('no process today')")


def test_a_node_that_no_manifest_can_say() -> None:
    class Model(Node):
        def __init__(self, weights: object, **config: Any) -> None:
            super().__init__(**config)

        process = staticmethod(str)

    with pytest.raises(SerializationError) as caught:
        Pipeline([Model(object())]).serialize()

    assert str(caught.value) == (
        "Cannot serialize Node 'Model': argument 'weights' has the type 'object', "
        "which JSON cannot represent.\n"
        "Suggestion: Run the node objects directly, or pass only JSON values to the constructor."
    )
    assert (caught.value.node_name, caught.value.attribute) == ("Model", "weights")
