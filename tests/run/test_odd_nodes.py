"""Unusual nodes and items: they work as a Python programmer expects."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import threading
import traceback
import types

import pytest

from remotemedia import execute_pipeline_with_input
from remotemedia.core.node import Node
from remotemedia.exceptions import NodeError
from remotemedia.nodes import CalculatorNode, FilterNode, PassThroughNode

LONG = 2000
"""Enough items that the compiled chain processes most of them."""


class Double:
    def process(self, item):
        return 2 * item


class TestProcess:
    @pytest.mark.parametrize("count", [1, LONG])
    def test_one_that_is_set_on_the_instance_runs(self, run, count):
        node = Double()
        node.process = lambda item: -item

        assert run([node], range(count)) == [-item for item in range(count)]

    @pytest.mark.parametrize("count", [1, LONG])
    def test_one_that_is_chosen_in_initialize_runs(self, run, count):
        class Choosing:
            def initialize(self):
                self.process = self.negate

            def process(self, item):
                raise AssertionError("another one was chosen")

            def negate(self, item):
                return -item

        assert run([Choosing()], range(count)) == [-item for item in range(count)]

    def test_one_that_is_set_on_the_class_runs_in_the_next_call(self, run, monkeypatch):
        node = Double()

        assert run([node], [1]) == [2]
        monkeypatch.setattr(Double, "process", lambda _self, item: -item)
        assert run([node], [1]) == [-1]

    @pytest.mark.parametrize("count", [1, LONG])
    def test_any_callable_is_one(self, run, count):
        class Negative:
            def __call__(self, item):
                return -item

        class Node:
            partial = functools.partial(lambda factor, item: factor * item, -1)

            @staticmethod
            def static(item):
                return -item

            @classmethod
            def of_class(cls, item):
                return -item

        for process in (Negative(), Node.partial, Node.static, Node.of_class, int.__neg__):
            node = Node()
            node.process = process
            assert run([node], range(count)) == [-item for item in range(count)]

    def test_a_method_of_another_object_is_one(self, run):
        node, other = Double(), CalculatorNode("add", 1)
        node.process = other.process

        assert run([node], range(LONG)) == list(range(1, LONG + 1))

    def test_one_with_more_parameters_than_the_item(self, run):
        class Scaling:
            def process(self, item, factor=3, *, offset=1):
                return factor * item + offset

        assert run([Scaling()], range(LONG)) == [3 * item + 1 for item in range(LONG)]

    def test_a_subclass_of_a_built_in_node_runs_its_own(self, run):
        class Negating(CalculatorNode):
            def process(self, item):
                return -super().process(item)

        class Loud(PassThroughNode):
            def process(self, item):
                return str(super().process(item))

        assert run([Negating("add", 1), Loud()], range(LONG)) == [str(-item - 1) for item in range(LONG)]


class TestResults:
    def test_a_decorated_coroutine_function_is_awaited(self, run):
        def decorated(function):
            @functools.wraps(function)
            def call(*args):
                return function(*args)

            return call

        class Node:
            @decorated
            async def process(self, item):
                await asyncio.sleep(0)
                return -item

        assert run([Node(), Double()], range(100)) == [-2 * item for item in range(100)]

    def test_a_coroutine_of_the_older_kind_is_awaited(self, run):
        class Node:
            @types.coroutine
            def process(self, item):
                yield from asyncio.sleep(0).__await__()
                return -item

        assert run([Node()], [1, 2]) == [-1, -2]

    @pytest.mark.parametrize("position", [0, 1, 2])
    @pytest.mark.parametrize("form", ["generator", "coroutine", "async generator"])
    def test_results_may_change_their_form_late(self, run, position, form):
        """From item 200 on, this node returns another form; its chain was compiled long before."""

        def generate(item):
            yield from (item, -item)

        async def wait(item):
            return -item

        async def generate_async(item):
            yield item
            yield -item

        make = {"generator": generate, "coroutine": wait, "async generator": generate_async}[form]

        class Changing:
            def process(self, item):
                return item if item < 200 else make(item)

        nodes = [PassThroughNode(), PassThroughNode()]
        nodes.insert(position, Changing())
        late = [[-item] if form == "coroutine" else [item, -item] for item in range(200, 300)]

        assert run(nodes, range(300)) == [*range(200), *(output for outputs in late for output in outputs)]

    def test_a_failure_after_a_late_generator_names_its_item(self, run):
        class Changing:
            def process(self, item):
                if item == 250:
                    raise ValueError("bad item")
                return (part for part in [item]) if item == 200 else item

        with pytest.raises(NodeError) as caught:
            run([Changing(), Double()], range(300))

        assert (caught.value.node_id, caught.value.item_index) == ("Changing_0", 250)

    @pytest.mark.parametrize("first", [1, 2])
    def test_a_coroutine_that_is_returned_after_a_cancellation_is_cancelled(self, first):
        """The first coroutine of a run creates the bridge to the event loop, too late for `cancel`."""
        log = []
        is_inside, may_leave = threading.Event(), threading.Event()

        class Promising:
            def process(self, item):
                if item == 2:
                    is_inside.set()
                    may_leave.wait()
                return self.wait(item)

            async def wait(self, item):
                log.append(item)
                if item == 2:
                    await asyncio.Event().wait()

            def cleanup(self):
                log.append("cleanup")

        async def main():
            call = asyncio.create_task(execute_pipeline_with_input([Promising()], range(first, 3)))
            await asyncio.to_thread(is_inside.wait)
            call.cancel()
            await asyncio.sleep(0)
            may_leave.set()
            await asyncio.wait([call])
            return call.cancelled()

        assert asyncio.run(main())
        assert log == [*range(first, 2), "cleanup"]

    @pytest.mark.parametrize("value", [0, "", b"", [], (), {}, False, 0.0])
    def test_a_false_value_is_an_output(self, run, value):
        class Returning:
            def process(self, item):
                return value

        assert run([Returning(), PassThroughNode()], range(200)) == [value] * 200

    def test_an_object_that_can_be_iterated_is_one_item(self, run):
        items = iter([1, 2])

        class Returning:
            def process(self, item):
                return items

        assert run([Returning()], [0])[0] is items
        assert list(items) == [1, 2]

    def test_an_object_that_is_equal_to_everything_is_an_output(self, run):
        class Equal:
            def __eq__(self, other):
                return True

            __hash__ = None

        items = [Equal() for _ in range(200)]

        outputs = run([PassThroughNode(), FilterNode(predicate=lambda _: True)], items)

        assert [id(output) for output in outputs] == [id(item) for item in items]


class TestItems:
    @pytest.mark.parametrize("count", [1, LONG])
    def test_none_is_passed_to_the_first_node(self, run, count):
        class Naming:
            def process(self, item):
                return "nothing" if item is None else item

        assert run([Naming(), PassThroughNode()], [None] * count) == ["nothing"] * count

    @pytest.mark.parametrize("count", [1, LONG])
    @pytest.mark.parametrize("nodes", [1, 2])
    def test_none_that_is_passed_on_is_not_an_output(self, run, count, nodes):
        """The compiled chain used to pass it on through built-in nodes."""
        assert run([PassThroughNode() for _ in range(nodes)], [None] * count + [1]) == [1]

    def test_a_huge_text_passes_unchanged(self, run):
        text = "ä" * 50_000_000

        assert run([PassThroughNode(), Node_()], [text])[0] is text

    def test_a_huge_text_of_an_error_is_kept(self, run):
        text = "x" * 1_000_000

        class Failing:
            def process(self, item):
                raise ValueError(text)

        with pytest.raises(NodeError) as caught:
            run([Failing()], [1])

        assert str(caught.value).endswith(text)

    def test_text_that_no_encoding_can_write_passes(self, run):
        assert run([PassThroughNode(), Node_()], ["\ud800", "\0"]) == ["\ud800", "\0"]

    @pytest.mark.parametrize("text", ["\ud800", "\0", "%s %d {}", "line\nline"])
    def test_an_error_with_any_text_is_reported(self, run, text):
        class Failing:
            def process(self, item):
                raise ValueError(text)

        with pytest.raises(NodeError) as caught:
            run([Failing()], [1])

        assert caught.value.__cause__.args == (text,)
        assert str(caught.value).endswith(f"ValueError: {text}")

    def test_a_list_that_grows_while_it_is_read_is_read_to_its_end(self, run):
        items = [0]

        class Growing:
            def process(self, item):
                if item < LONG:
                    items.append(item + 1)
                return item

        assert run([Growing()], items) == list(range(LONG + 1))


class Node_(Node):  # noqa: N801 - A node without a word of its own.
    def process(self, item):
        return item


class TestErrors:
    @pytest.mark.parametrize("phase", ["initialize", "process", "flush", "cleanup"])
    def test_an_error_without_a_text_is_reported_by_its_type(self, run, phase):
        class BrokenError(Exception):
            def __str__(self):
                raise RuntimeError("no text")

        def fail(*_item):
            raise BrokenError

        node = Node_()
        setattr(node, phase, fail)

        with pytest.raises(NodeError, match=rf"^Node 'Node__0' failed in {phase}\(\).*: BrokenError$"):
            run([node], [1])

    @pytest.mark.parametrize("index", [0, 63, 64, 65, LONG - 1])
    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_the_item_and_node_are_named_wherever_it_is(self, run, index, position):
        class Failing:
            def process(self, item):
                return 1 // item and item

        nodes = [Double(), Double()]
        nodes.insert(position, Failing())

        with pytest.raises(NodeError) as caught:
            run(nodes, range(-index, LONG - index))

        error = caught.value
        assert (error.node_id, error.item_index) == (f"Failing_{position}", index)
        assert type(error.__cause__) is ZeroDivisionError

    @pytest.mark.parametrize("count", [1, LONG])
    def test_the_traceback_begins_in_the_node(self, count):
        class Failing:
            def process(self, item):
                return 1 // (count - 1 - item)

        with pytest.raises(NodeError) as caught:
            asyncio.run(execute_pipeline_with_input([Double(), Failing()], [n / 2 for n in range(count)]))

        frames = traceback.extract_tb(caught.value.__cause__.__traceback__)
        assert [frame.name for frame in frames] == ["process"]

    def test_one_object_that_is_raised_again_and_again(self, run):
        error = ValueError("the same")

        def fail(*_item):
            raise error

        node = Node_()
        node.process = node.cleanup = fail

        for _ in range(3):
            with pytest.raises(NodeError, match="the same") as caught:
                run([node], [1])
            assert caught.value.__cause__ is error


PANICKING = """
import asyncio
from remotemedia import execute_pipeline_with_input

class Panicking:
    cleanups = 0

    def process(self, item):
        raise item()

    def cleanup(self):
        self.cleanups += 1

async def main():
    node = Panicking()
    for kind in (ValueError, lambda: next(panics())("out of order")):
        try:
            await execute_pipeline_with_input([node], [kind])
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
    print(node.cleanups)

def panics():
    return (kind for kind in BaseException.__subclasses__() if kind.__name__ == "PanicException")

asyncio.run(main())
"""


def test_a_panic_of_the_engine_is_an_error():
    """PyO3 has an exception for panics, created at its first use. Raised by a node, it is a panic again."""
    ended = subprocess.run([sys.executable, "-c", PANICKING], capture_output=True, text=True, check=True)

    assert ended.stdout.splitlines() == [
        "NodeError: Node 'Panicking_0' failed in process() on item 0: ValueError",
        "RuntimeError: the engine stopped because of an internal error; please report it: out of order",
        "2",
    ]
    assert "PyO3 is resuming a panic" in ended.stderr
