"""The built-in nodes, their registry, and audio frames."""

from __future__ import annotations

import pickle

import pytest

from remotemedia import nodes
from remotemedia._graph import registry as node_registry
from remotemedia.audio import AudioFrame
from remotemedia.exceptions import NodeError, PipelineError
from remotemedia.nodes import (
    CalculatorNode,
    FilterNode,
    OutputNode,
    PassThroughNode,
    get_loaded_nodes,
    register_node,
)

np = pytest.importorskip("numpy")


@pytest.fixture
def registry(monkeypatch):
    """Remove the nodes that a test registers afterwards."""
    monkeypatch.setattr(node_registry, "_classes", dict(node_registry._classes))


class TestCalculator:
    @pytest.mark.parametrize(
        ("operation", "result"),
        [("add", 10), ("subtract", 4), ("multiply", 21), ("divide", 7 / 3), ("power", 343), ("modulo", 1)],
    )
    def test_a_number_is_calculated_with_the_operand(self, run, operation, result):
        assert run([CalculatorNode(operation, 3)], [7]) == [result]

    @pytest.mark.parametrize("key", ["args", "operands"])
    def test_a_dict_brings_its_own_numbers(self, run, key):
        assert run([CalculatorNode()], [{"operation": "multiply", key: [2, 3, 4]}]) == [{"result": 24}]

    def test_a_dict_without_operation_uses_that_of_the_node(self):
        assert CalculatorNode("subtract").process({"args": [5, 3]}) == {"result": 2}

    def test_an_unknown_operation_is_refused_with_the_nearest(self):
        with pytest.raises(PipelineError, match="^Unknown operation 'ad'; did you mean 'add'\\?$"):
            CalculatorNode("ad")

    @pytest.mark.parametrize("item", ["text", b"x", [1], (1,), None])
    def test_an_item_that_is_not_a_number_is_refused(self, run, item):
        with pytest.raises(
            NodeError, match="TypeError: expected a number or a dict with 'operation' and 'args', not"
        ):
            run([CalculatorNode("multiply", 2)], [item])

    @pytest.mark.parametrize("item", [{}, {"args": []}, {"args": 3}, {"operation": "x", "args": [1]}])
    def test_a_dict_without_a_calculation_is_refused(self, item):
        with pytest.raises(ValueError, match="expected a list of numbers|Unknown operation"):
            CalculatorNode().process(item)

    def test_the_operand_may_change_while_the_node_lives(self, run):
        node = CalculatorNode("add", 1)
        before = run([node], [1])
        node.operand = 5

        assert (before, run([node], [1])) == ([2], [6])


class TestParameters:
    @pytest.mark.parametrize(
        ("kind", "name", "message"),
        [
            (PassThroughNode, "nmae", "PassThroughNode has no parameter 'nmae'; did you mean 'name'?"),
            (
                CalculatorNode,
                "op",
                "CalculatorNode has no parameter 'op'; its parameters are: operation, ope",
            ),
            (FilterNode, "thresold", "FilterNode has no parameter 'thresold'; did you mean 'threshold'?"),
            (OutputNode, "calback", "OutputNode has no parameter 'calback'; did you mean 'callback'?"),
        ],
    )
    def test_the_error_for_an_unknown_one_names_the_nearest(self, kind, name, message):
        with pytest.raises(PipelineError) as caught:
            kind(**{name: 5})

        assert str(caught.value).startswith(message)

    @pytest.mark.parametrize(("kind", "name"), [(FilterNode, "predicate"), (OutputNode, "callback")])
    def test_callbacks_must_be_callable(self, kind, name):
        with pytest.raises(TypeError, match=f"^the {name} must be a function of one item, not 3$"):
            kind(**{name: 3})

    def test_a_subclass_keeps_unknown_arguments(self):
        class Softer(FilterNode):
            pass

        assert Softer(5, knee=3).config == {"knee": 3}


class TestFilter:
    def test_an_item_equal_to_the_threshold_passes(self, run):
        assert run([FilterNode(threshold=2)], [1, 2, 3]) == [2, 3]

    def test_a_predicate_decides(self, run):
        assert run([FilterNode(predicate=str.isalpha)], ["a", "1"]) == ["a"]

    def test_both_are_refused(self):
        with pytest.raises(PipelineError):
            FilterNode(1, predicate=bool)


def test_output_hands_each_item_to_its_callback(run):
    received = []

    assert run([OutputNode(received.append)], [1, 2]) == [1, 2]
    assert received == [1, 2]


def test_pass_through_passes_the_very_item(run):
    item = object()

    assert run([PassThroughNode()], [item])[0] is item


@pytest.mark.usefixtures("registry")
class TestRegistry:
    def test_it_has_the_built_in_nodes(self):
        assert {"CalculatorNode", "FilterNode", "OutputNode", "PassThroughNode"} <= set(get_loaded_nodes())

    def test_the_suffix_does_not_matter(self):
        class Shout:
            def process(self, item):
                return item.upper()

        assert register_node(Shout) is Shout
        assert node_registry.find_class("ShoutNode") is Shout
        assert node_registry.find_class("Calculator") is CalculatorNode
        assert node_registry.aliases_of("Shout") == ["ShoutNode"]

    def test_a_class_may_have_another_name(self, run):
        class Shout:
            def process(self, item):
                return item.upper()

        register_node(Shout, name="loud")

        assert run([{"node_type": "loud"}], ["a"]) == ["A"]

    def test_a_class_may_be_defined_again(self):
        def define():
            class Again:
                def process(self, item): ...

            return Again

        register_node(define())
        latest = register_node(define())

        assert node_registry.find_class("Again") is latest

    @pytest.mark.parametrize("name", ["CalculatorNode", "Calculator"])
    def test_the_name_of_another_class_is_refused(self, name):
        class Mine:
            def process(self, item): ...

        with pytest.raises(
            ValueError,
            match=f"^The name '{name}' is already registered for remotemedia.nodes._builtin:CalculatorNode",
        ):
            register_node(Mine, name=name)

    @pytest.mark.parametrize("thing", [object(), object, "x"])
    def test_an_object_that_is_not_a_node_class_is_refused(self, thing):
        with pytest.raises(TypeError, match="takes a class with a process"):
            register_node(thing)


def test_all_lists_existing_names():
    assert all(hasattr(nodes, name) for name in nodes.__all__)


class TestAudioFrame:
    def test_samples_of_the_right_form_are_not_copied(self):
        samples = np.zeros((4, 2), dtype=np.float32)

        assert AudioFrame(samples, 16_000).samples is samples

    def test_one_channel_may_lack_its_dimension(self):
        frame = AudioFrame(np.zeros(160), 16_000, 1.5)

        assert frame.samples.shape == (160, 1)
        assert frame.samples.dtype == np.float32
        assert (frame.channels, frame.duration, frame.end, len(frame)) == (1, 0.01, 1.51, 160)

    def test_whole_numbers_are_refused(self):
        with pytest.raises(TypeError, match="divide them by the full scale"):
            AudioFrame(np.zeros(4, dtype=np.int16), 16_000)

    @pytest.mark.parametrize(("shape", "rate"), [((1, 2, 3), 16_000), ((4, 1), 0)])
    def test_other_shapes_and_rates_are_refused(self, shape, rate):
        with pytest.raises(ValueError, match="shape|sample rate"):
            AudioFrame(np.zeros(shape), rate)

    def test_frames_with_equal_contents_are_equal(self):
        frame = AudioFrame(np.ones((2, 1)), 8000, 0.5)

        assert pickle.loads(pickle.dumps(frame)) == frame
        assert AudioFrame(np.ones((2, 1)), 8000, 0.6) != frame
        assert frame != "frame"
        assert repr(frame) == "AudioFrame(2 x 1 samples, sample_rate=8000, start=0.500)"

    def test_an_empty_frame_is_true(self):
        assert AudioFrame(np.zeros((0, 1)), 8000)
