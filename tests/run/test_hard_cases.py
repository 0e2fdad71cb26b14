"""Misbehaving nodes: each case has one defined result, and all nodes are cleaned up."""

from __future__ import annotations

import asyncio
import json

import pytest

from remotemedia import execute_pipeline_with_input
from remotemedia.exceptions import NodeError
from remotemedia.nodes import PassThroughNode

INTERRUPTS = [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError]
PHASES = ["initialize", "process", "flush", "cleanup"]


def outcome(nodes, items=(1,), **options):
    """Return what a call raised, caught inside of the event loop, which some exceptions would end."""

    async def main():
        try:
            return await execute_pipeline_with_input(nodes, list(items), **options)
        except BaseException as error:  # noqa: BLE001 - Whatever it is.
            return error

    return asyncio.run(main())


class Noting:
    """Counts its cleanups."""

    def __init__(self):
        self.cleanups = 0

    def process(self, item):
        return item

    def cleanup(self):
        self.cleanups += 1


def raising(form, error):
    """A method that raises as a plain function, a generator, a coroutine or an async generator."""

    def throw(*_item):
        raise error

    def generate(*_item):
        yield 1
        raise error

    async def wait(*_item):
        raise error

    async def generate_async(*_item):
        yield 1
        raise error

    return {"def": throw, "generator": generate, "async def": wait, "async generator": generate_async}[form]


def forms(phase):
    return ["def", "async def"] + (["generator", "async generator"] if phase in {"process", "flush"} else [])


CASES = [(phase, form) for phase in PHASES for form in forms(phase)]


@pytest.mark.parametrize(("phase", "form"), CASES)
@pytest.mark.parametrize("kind", INTERRUPTS)
def test_an_order_to_stop_passes_as_itself(use_rust, kind, phase, form):
    before, node, after = Noting(), Noting(), Noting()
    error = kind()
    setattr(node, phase, raising(form, error))

    # Python does not pass GeneratorExit and CancelledError unchanged through all of these.
    assert type(outcome([before, node, after], use_rust=use_rust)) is kind
    assert before.cleanups == 1
    assert after.cleanups == (phase != "initialize")


@pytest.mark.parametrize(("phase", "form"), CASES)
@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
def test_the_end_of_an_iteration_is_an_error_of_its_node(use_rust, kind, phase, form):
    before, node = Noting(), Noting()
    error = kind("over")
    setattr(node, phase, raising(form, error))

    found = outcome([before, node], use_rust=use_rust)

    assert (type(found), found.node_id, found.phase) == (NodeError, "Noting_1", phase)
    # Generators and coroutines turn their own end exception into a RuntimeError.
    assert error in {found.__cause__, found.__cause__.__cause__}
    assert before.cleanups == 1


class TestTwoFailures:
    def test_a_cleanup_that_fails_after_process_shows_both(self, run):
        node = Noting()
        node.process = raising("def", ValueError("bad item"))
        node.cleanup = raising("def", OSError("disk full"))

        with pytest.raises(NodeError, match="disk full") as caught:
            run([node], [1])

        later, earlier = caught.value, caught.value.__context__
        assert (later.phase, str(later.__cause__)) == ("cleanup", "disk full")
        assert (earlier.phase, str(earlier.__cause__)) == ("process", "bad item")
        assert later.__cause__.__context__ is earlier

    def test_all_failed_cleanups_are_in_the_chain(self, run):
        nodes = [Noting() for _ in range(4)]
        for index, node in enumerate(nodes):
            node.cleanup = raising("def", OSError(f"disk {index}"))

        with pytest.raises(NodeError) as caught:
            run(nodes, [1])

        chain = [caught.value]
        while chain[-1].__context__ is not None:
            chain.append(chain[-1].__context__)
        assert [error.node_id for error in chain] == [f"Noting_{index}" for index in range(4)]

    def test_an_order_to_stop_stays_on_top(self, use_rust):
        node = Noting()
        node.process = raising("def", KeyboardInterrupt())
        node.cleanup = raising("def", OSError("disk full"))

        found = outcome([node], use_rust=use_rust)

        assert type(found) is KeyboardInterrupt
        assert str(found.__context__.__cause__) == "disk full"


class TestDeepRecursion:
    @pytest.mark.parametrize("count", [1, 200])
    def test_it_is_an_error_of_the_node(self, run, count):
        class Deep(Noting):
            def process(self, item):
                return self.process(item) if item == count - 1 else item

        node = Deep()

        with pytest.raises(NodeError, match="RecursionError: maximum recursion depth") as caught:
            run([node], range(count))

        assert (caught.value.item_index, type(caught.value.__cause__)) == (count - 1, RecursionError)
        assert node.cleanups == 1

    def test_it_may_go_through_pipelines(self):
        """Each pipeline has its own thread, and its own stack."""

        class Nesting:
            def process(self, depth):
                return (
                    asyncio.run(execute_pipeline_with_input([Nesting()], [depth - 1])) if depth else "bottom"
                )

        outputs = asyncio.run(execute_pipeline_with_input([Nesting()], [20]))

        for _ in range(20):
            (outputs,) = outputs
        assert outputs == ["bottom"]


class TestPipelinesInside:
    def test_a_plain_node_runs_one(self):
        class Outer:
            def process(self, item):
                return asyncio.run(execute_pipeline_with_input([PassThroughNode(), Noting()], [item, item]))

        assert asyncio.run(execute_pipeline_with_input([Outer()], [1, 2])) == [[1, 1], [2, 2]]

    def test_an_async_node_awaits_one(self, use_rust):
        class Outer:
            async def process(self, item):
                return await execute_pipeline_with_input([PassThroughNode()], [item, item], use_rust=use_rust)

        assert outcome([Outer()], [1, 2], use_rust=use_rust) == [[1, 1], [2, 2]]

    def test_the_failure_of_one_call_is_the_cause_of_the_other(self, use_rust):
        inner = Noting()
        inner.process = raising("def", ValueError("bad item"))

        class Outer:
            async def process(self, item):
                return await execute_pipeline_with_input([inner], [item], use_rust=use_rust)

        error = outcome([Outer()], use_rust=use_rust)

        assert [error.node_id, error.__cause__.node_id] == ["Outer_0", "Noting_0"]
        assert str(error.__cause__.__cause__) == "bad item"
        assert inner.cleanups == 1


@pytest.mark.parametrize(
    "item",
    [
        {"__reduce__": ["os.system", ["exit 1"]]},
        {"py/object": "os.system", "py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["exit 1"]}]},
        {"$type": "System.Diagnostics.Process"},
        {"__class__": "subprocess.Popen", "__module__": "subprocess", "args": ["false"]},
        {"__pickle__": "gASVFAAAAAAAAACMAm9zlIwGc3lzdGVtlJOULg=="},
        {"!!python/object/apply:os.system": ["exit 1"]},
        {"node_type": "CalculatorNode", "params": {}},
    ],
    ids=lambda item: next(iter(item)),
)
def test_a_dict_is_a_dict_whatever_its_keys(run, item):
    before = json.dumps(item)

    assert run([PassThroughNode(), Noting()], [item])[0] is item
    assert json.dumps(item) == before
