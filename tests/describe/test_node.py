"""The base class of nodes, and objects that do not use it."""

from __future__ import annotations

import abc
import copy
import dataclasses
import gc
import inspect
import pickle
import weakref
from typing import Any

import pytest

from remotemedia import Node, with_options
from remotemedia._graph.constructor_args import _records
from remotemedia.core.node import NodeSpec
from remotemedia.exceptions import PipelineError, SerializationError


class Keeper(Node):
    def __init__(self, first, second=2, *, third=3, **config):
        super().__init__(**config)
        self.given = (first, second, third)

    def process(self, data):
        return data


class Watched(Node):
    def __init__(self):
        super().__init__()
        self.calls = []

    def initialize(self):
        super().initialize()
        self.calls.append("initialize")

    def process(self, data):
        return data + 1

    def cleanup(self):
        super().cleanup()
        self.calls.append("cleanup")


class TestNames:
    def test_the_name_is_that_of_the_class_by_default(self):
        assert Keeper(1).name == "Keeper"

    def test_a_given_name_is_kept(self):
        assert Keeper(1, name="keep").name == "keep"

    def test_a_class_may_set_the_name_of_its_instances(self):
        class Named(Node):
            name = "detector"

        assert Named().name == "detector"
        assert Named(name="other").name == "other"

    def test_a_node_that_does_not_call_its_base_still_has_a_name(self):
        class Forgetful(Node):
            def __init__(self):
                pass

        assert Forgetful().name == "Forgetful"


class TestNothingOfOursOnSelf:
    def test_only_name_and_config_are_set(self):
        assert vars(Node(name="x", rate=16)) == {"name": "x", "config": {"rate": 16}}

    def test_a_subclass_may_own_every_common_name(self):
        class Owner(Node):
            def __init__(self):
                self.config = "mine"
                self.state = self.logger = self.id = self.options = self.graph = "mine too"
                super().__init__(rate=16)

            def process(self, data):
                return data

        owner = Owner()

        assert owner.config == "mine"
        assert owner.to_manifest()["params"] == {}

    def test_a_config_is_respected_in_all_objects_of_a_class(self):
        """Whether a class has its own is remembered, so the second object takes another way."""

        class Some(Node):
            def __init__(self, config=None):
                if config:
                    self.config = config
                super().__init__(rate=16)

        class Computed(Node):
            config = property(lambda _self: 1 / 0)

        class Asking(Node):
            def __getattr__(self, name):
                return f"no {name}"

        assert [Some().config, Some("mine").config, Some().config] == [{"rate": 16}, "mine", {"rate": 16}]
        assert [vars(Computed()), vars(Computed())] == [{}, {}]
        assert [Asking(rate=8).config, Asking(rate=8).config] == [{"rate": 8}] * 2

    def test_a_subclass_may_have_slots(self):
        class Slotted(Node):
            __slots__ = ("rate",)

            def __init__(self, rate):
                self.rate = rate

        assert Slotted(3).to_manifest()["params"] == {"rate": 3}

    def test_a_subclass_may_compute_is_initialized(self):
        class Computed(Node):
            model = None

            @property
            def is_initialized(self):
                return self.model is not None

            def initialize(self):
                super().initialize()
                self.model = "loaded"

        node = Computed()
        node.initialize()

        assert node.is_initialized is True

    def test_an_unhashable_node_is_recorded(self):
        @dataclasses.dataclass
        class Data(Node):
            rate: int
            label: str = "x"

        assert Data(8).to_manifest()["params"] == {"rate": 8}

    def test_an_abstract_node_needs_no_metaclass_of_ours(self):
        class Abstract(Node, abc.ABC):
            @abc.abstractmethod
            def process(self, data): ...

        with pytest.raises(TypeError, match="abstract"):
            Abstract()

    def test_the_signature_of_a_class_is_that_of_its_constructor(self):
        assert str(inspect.signature(Keeper)) == "(first, second=2, *, third=3, **config)"

    def test_the_base_has_no_flush_and_no_process(self):
        assert not hasattr(Node, "flush")
        assert not hasattr(Node, "process")


class TestLifecycle:
    def test_initialize_and_cleanup_set_the_flag(self):
        node = Node()
        before = node.is_initialized
        node.initialize()
        during = node.is_initialized
        node.cleanup()

        assert [before, during, node.is_initialized] == [False, True, False]


class TestArguments:
    def test_all_arguments_go_into_the_manifest_by_name(self):
        node = Keeper([1], third={"a": None}, name="keep", extra=True)

        assert node.to_manifest() == {
            "id": "keep",
            "node_type": f"{__name__}:Keeper",
            "params": {"first": [1], "third": {"a": None}, "name": "keep", "extra": True},
        }

    def test_config_contains_the_arguments_that_no_class_took(self):
        assert Keeper(1, extra=True).get_config() == {"extra": True}

    def test_a_copy_has_the_arguments_of_its_original(self):
        node = Keeper(1, third=4)

        copies = [copy.copy(node), copy.deepcopy(node), pickle.loads(pickle.dumps(node))]

        assert [one.to_manifest()["params"] for one in copies] == [{"first": 1, "third": 4}] * 3

    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    @pytest.mark.parametrize(
        ("node", "params"), [(Keeper(1, third=4), {"first": 1, "third": 4}), (Watched(), {})]
    )
    def test_every_pickle_has_the_arguments(self, node, params, protocol):
        copied = pickle.loads(pickle.dumps(node, protocol))

        assert copied.to_manifest()["params"] == params

    def test_a_copy_of_a_node_without_arguments_has_none(self):
        nodes = [Watched(), copy.copy(Watched()), copy.deepcopy(Watched())]

        assert [one.to_manifest()["params"] for one in nodes] == [{}, {}, {}]

    def test_a_class_that_creates_its_objects_itself_does_not_pretend_to_have_no_arguments(self):
        class Own(Node):
            def __new__(cls, *_args):
                return object.__new__(cls)

            def __init__(self, rate):
                super().__init__()
                self.rate = rate

        with pytest.raises(SerializationError, match="not recorded"):
            Own(16).to_manifest()

    def test_a_copy_of_a_node_with_other_arguments_does_not_pretend_to_have_none(self):
        copied = copy.copy(Keeper(print))

        with pytest.raises(SerializationError, match="not recorded"):
            copied.to_manifest()

    def test_an_argument_that_json_cannot_represent_is_named(self):
        node = Keeper(1, third={"handlers": [1, print]}, name="keep")

        with pytest.raises(SerializationError) as caught:
            node.to_manifest()

        assert caught.value.node_name == "keep"
        assert caught.value.attribute == "third['handlers'][1]"
        assert str(caught.value).startswith(
            "Cannot serialize Node 'keep': argument 'third['handlers'][1]' has the type "
            "'builtin_function_or_method', which JSON cannot represent.\nSuggestion: "
        )

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), {1: 2}, {1}, b"x"])
    def test_values_that_json_would_change_are_refused(self, value):
        with pytest.raises(SerializationError):
            Keeper(value).to_manifest()

    def test_arguments_without_a_name_are_refused(self):
        class Variadic(Node):
            def __init__(self, *parts):
                self.parts = parts

        with pytest.raises(SerializationError, match="is positional-only"):
            Variadic(1, 2).to_manifest()

    def test_arguments_that_json_cannot_represent_are_not_kept_alive(self):
        class Model:
            pass

        model = Model()
        gone = weakref.ref(model)
        node = Keeper(model)
        node.given = None
        del model
        gc.collect()

        assert gone() is None

    def test_the_record_is_freed_with_its_node(self):
        node = Keeper(1)
        key = id(node)
        assert key in _records
        del node
        gc.collect()

        assert key not in _records


class TestOptions:
    def test_with_options_keeps_the_same_object(self):
        node = Keeper(1)
        spec = node.with_options(placement="inline")

        assert isinstance(spec, NodeSpec)
        assert spec.node is node
        assert spec.options == {"placement": "inline"}

    def test_any_object_accepts_options(self):
        thing: Any = object()

        assert with_options(thing, placement="inline").node is thing

    def test_options_of_options_are_merged(self):
        spec = with_options(Keeper(1).with_options(placement="inline"))

        assert spec.options == {"placement": "inline"}
        assert isinstance(spec.node, Keeper)

    def test_an_unknown_option_is_refused_with_the_nearest_name(self):
        with pytest.raises(PipelineError, match="^Unknown option 'placment'; did you mean 'placement'\\?$"):
            Keeper(1).with_options(placment="inline")

    def test_a_placement_that_is_not_available_is_refused(self):
        with pytest.raises(
            PipelineError, match="^placement='moon' is not valid; use one of 'inline', 'thread', 'process'$"
        ):
            Keeper(1).with_options(placement="moon")


class TestRuns:
    def test_any_object_with_process_is_a_node(self, run):
        class Plain:
            def process(self, data):
                return data + 1

        assert run([Plain()], [1, 2]) == [2, 3]

    def test_the_very_object_runs_and_keeps_its_state(self, run):
        class Counter:
            count = 0

            def process(self, data):
                self.count += 1
                return self

        counter = Counter()
        outputs = run([counter], ["a", "b"])

        assert outputs[0] is counter
        assert counter.count == 2

    def test_items_pass_between_nodes_by_identity(self, run):
        item = object()

        assert run([Keeper(1), Keeper(2)], [item])[0] is item

    def test_a_tuple_is_one_item(self, run):
        class Pair:
            def process(self, data):
                return data, data

        assert run([Pair()], [1]) == [(1, 1)]

    def test_a_node_that_is_initialized_belongs_to_its_caller(self, run):
        node = Watched()
        node.initialize()
        run([node], [1])

        assert node.calls == ["initialize"]

    def test_a_cleanup_without_its_base_does_not_make_the_node_its_callers(self, run):
        """The flag that the base had set stayed, and the second run used a model that was released."""

        class Careless(Watched):
            def cleanup(self):
                self.calls.append("cleanup")

        node = Careless()
        run([node], [1])
        run([node], [1])

        assert node.calls == ["initialize", "cleanup"] * 2

    def test_an_object_in_two_places_is_initialized_once(self, run):
        node = Watched()

        assert run([node, node], [1]) == [3]
        assert node.calls == ["initialize", "cleanup"]

    def test_a_decorated_source_is_still_a_source(self, run):
        import functools

        def traced(function):
            @functools.wraps(function)
            def call(*args, **kwargs):
                return function(*args, **kwargs)

            return call

        class Source:
            @traced
            def process(self):
                return 7

        assert run([Source()]) == 7

    def test_a_function_bound_by_partial_is_a_process(self, run):
        import functools

        class Holder:
            def __init__(self, process):
                self.process = process

        assert run([Holder(functools.partial(max, 3))], [1, 5]) == [3, 5]
