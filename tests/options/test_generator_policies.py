"""Failure policies of generators: an item is tried again until its first output, which stays."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from policy_nodes import Flaky, Generates, GeneratesLater, Letters, let_timers_run, skip_time
from stream_nodes import TIMEOUT_SECS

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia._graph.graph import resolve
from remotemedia._loop.places import on_loop
from remotemedia._session.loop.session import LoopSession
from remotemedia.exceptions import NodeError, NodeTimeoutError, SessionInterruptedError

KINDS = pytest.mark.parametrize("node_class", [Generates, GeneratesLater])
INLINE = {"placement": "inline"}


@pytest.mark.parametrize(
    ("node", "options", "is_there"),
    [
        (Generates(), {"retries": 1, "dead_letter": print, **INLINE}, True),
        (Generates(), {"timeout": 1, **INLINE}, False),
        (Generates(), {"on_error": "skip"}, False),
        (GeneratesLater(), {"retries": 1, "on_error": "skip"}, True),
        (GeneratesLater(), {"timeout": 1, **INLINE}, True),
    ],
)
def test_a_generator_is_on_the_loop_if_nothing_of_it_has_to_be_stopped(node, options, is_there):
    graph = resolve([with_options(node, **options)])

    assert (on_loop(graph, is_run=False) is not None) is is_there


@pytest.mark.parametrize("use_rust", [True, False])
@KINDS
class TestFailures:
    def test_an_item_is_tried_again_until_its_first_output(self, node_class, use_rust):
        node = node_class(fails_at={1: 0, 2: 0, 4: 0})
        nodes = [with_options(node, retries=2, retry_delay=0.0001, **INLINE)]

        outputs = asyncio.run(execute_pipeline_with_input(nodes, ["a", "b"], use_rust=use_rust))

        assert outputs == ["a1", "a2", "b1", "b2"]
        assert node.tries == ["a", "a", "a", "b", "b"]

    def test_outputs_before_a_failure_stay_and_are_not_made_again(self, node_class, use_rust):
        node, letters = node_class(fails_at={1: 1, 2: 1}), Letters()
        nodes = [with_options(node, retries=5, dead_letter=letters, **INLINE), Flaky(0)]

        outputs = asyncio.run(execute_pipeline_with_input(nodes, ["a", "b", "c"], use_rust=use_rust))

        assert outputs == ["a1", "b1", "c1", "c2"]
        assert letters.taken == [("a", 0, "ValueError('try 1')"), ("b", 1, "ValueError('try 2')")]
        assert node.tries == ["a", "b", "c"]

    def test_an_item_without_a_successful_attempt_is_skipped(self, node_class, use_rust):
        node = node_class(fails_at={1: 0, 2: 0})
        nodes = [with_options(node, retries=1, on_error="skip", **INLINE)]

        assert asyncio.run(execute_pipeline_with_input(nodes, ["a", "b"], use_rust=use_rust)) == ["b1", "b2"]

    def test_a_failure_that_is_not_handled_has_the_index_of_its_item(self, node_class, use_rust):
        nodes = [with_options(node_class(fails_at={2: 1}), retries=1, **INLINE), Flaky(0)]

        with pytest.raises(NodeError, match="process.* on item 1: ValueError: try 2") as caught:
            asyncio.run(execute_pipeline_with_input(nodes, ["a", "b"], use_rust=use_rust))

        assert type(caught.value.__cause__) is ValueError

    def test_an_attempt_without_outputs_has_succeeded(self, node_class, use_rust):
        node = node_class(count=0)
        nodes = [with_options(node, retries=3, **INLINE)]

        assert asyncio.run(execute_pipeline_with_input(nodes, ["a", "b"], use_rust=use_rust)) == []
        assert node.tries == ["a", "b"]

    def test_a_generator_is_closed_when_a_node_behind_it_fails(self, node_class, use_rust):
        node = node_class()
        nodes = [with_options(node, retries=1, dead_letter=print, **INLINE), Flaky(9)]

        with pytest.raises(NodeError, match="Flaky_1"):
            asyncio.run(execute_pipeline_with_input(nodes, ["a"], use_rust=use_rust))

        assert node.ends == 1

    def test_what_it_raises_when_it_is_closed_is_not_handled(self, node_class, use_rust):
        node, letters = node_class(raises_at_end=True), Letters()
        nodes = [with_options(node, dead_letter=letters, **INLINE), Flaky(9)]

        with pytest.raises(NodeError, match="at the end") as caught:
            asyncio.run(execute_pipeline_with_input(nodes, ["a"], use_rust=use_rust))

        assert "Flaky_1" in str(caught.value.__context__)
        assert letters.taken == []


class TestTimes:
    def test_each_output_has_its_own_time(self):
        class Slow(GeneratesLater):
            async def process(self, item):
                loop = asyncio.get_running_loop()
                async for output in super().process(item):
                    skip_time(loop, 60)
                    await let_timers_run()
                    yield output

        nodes = [with_options(Slow(count=3), timeout=100)]

        assert asyncio.run(Pipeline(nodes).run(["a", "b"])) == ["a1", "a2", "a3", "b1", "b2", "b3"]

    @pytest.mark.parametrize("use_rust", [True, False])
    def test_a_first_output_that_takes_too_long_is_tried_again(self, use_rust):
        node = GeneratesLater(hangs_at={1: 0, 2: 0})
        nodes = [with_options(node, timeout=0.02, retries=2)]

        assert asyncio.run(Pipeline(nodes).run(["a"], use_rust=use_rust)) == ["a1", "a2"]
        assert node.tries == ["a", "a", "a"]

    @pytest.mark.parametrize("use_rust", [True, False])
    def test_a_later_output_that_takes_too_long_is_dead_lettered(self, use_rust):
        letters = Letters()
        nodes = [with_options(GeneratesLater(hangs_at={1: 1}), timeout=0.02, retries=2, dead_letter=letters)]

        assert asyncio.run(Pipeline(nodes).run(["a", "b"], use_rust=use_rust)) == ["a1", "b1", "b2"]
        assert letters.taken == [("a", 0, "CallTimeoutError('longer than 0.02 s')")]

    def test_a_session_continues_after_it(self):
        async def main():
            nodes = [with_options(GeneratesLater(hangs_at={1: 1}), timeout=0.02)]
            async with Pipeline(nodes).open() as session:
                assert isinstance(session, LoopSession)
                with pytest.raises(NodeTimeoutError, match="longer than 0.02 s"):
                    await session.call("a")
                return asyncio.current_task().cancelling(), await session.call("b")

        assert asyncio.run(main()) == (0, ["b1", "b2"])


class TestStops:
    @pytest.mark.parametrize("step", [0, 1])
    @pytest.mark.parametrize(
        ("stop", "error"), [("cancel", asyncio.CancelledError), ("interrupt", SessionInterruptedError)]
    )
    def test_a_stopped_item_is_neither_tried_again_nor_dead_lettered(self, stop, error, step):
        async def main():
            node, letters = GeneratesLater(hangs_at={1: step}), Letters()
            options = {"timeout": TIMEOUT_SECS, "retries": 3, "dead_letter": letters}
            async with Pipeline([with_options(node, **options)]).open() as session:
                call = asyncio.create_task(session.call("a"))
                await node.is_inside.wait()
                if stop == "cancel":
                    call.cancel()
                else:
                    await session.interrupt()
                with pytest.raises(error):
                    await call
                return letters.taken, node.ends, await session.call("b")

        assert asyncio.run(main()) == ([], 1, ["b1", "b2"])

    @pytest.mark.parametrize("step", [0, 1])
    def test_what_a_cancelled_generator_raises_is_not_handled(self, step):
        async def main():
            node, letters = GeneratesLater(hangs_at={1: step}, raises_at_end=True), Letters()
            async with Pipeline([with_options(node, retries=3, dead_letter=letters)]).open() as session:
                call = asyncio.create_task(session.call("a"))
                await node.is_inside.wait()
                call.cancel()
                with pytest.raises(NodeError, match="at the end"):
                    await call
            return node.tries, letters.taken

        assert asyncio.run(main()) == (["a"], [])

    @pytest.mark.parametrize("step", [0, 1])
    def test_a_generator_that_fails_before_it_is_cancelled_does_not_hide_the_cancellation(self, step):
        class Cancels(GeneratesLater):
            def fail(self):
                asyncio.current_task().cancel()
                super().fail()

        async def main():
            node, letters = Cancels(fails_at={1: step}), Letters()
            nodes = [with_options(node, retries=3, dead_letter=letters)]
            run = asyncio.create_task(execute_pipeline_with_input(nodes, ["a"]))
            await asyncio.wait([run])
            return run.cancelled(), node.tries, letters.taken

        assert asyncio.run(main()) == (True, ["a"], [])

    def test_a_generator_waits_for_its_reader_and_ends_with_it(self):
        class Counts(GeneratesLater):
            made = 0

            async def process(self, item):
                async with aclosing(super().process(item)) as outputs:
                    async for output in outputs:
                        self.made += 1
                        yield output

        async def main():
            node = Counts(count=200)
            async with Pipeline([with_options(node, retries=1)]).open(queue_size=2) as session:
                outputs = session.map(["a"])
                assert await anext(outputs) == "a1"
                for _ in range(50):
                    await asyncio.sleep(0)
                made = node.made
                await outputs.aclose()
            return made, node.ends

        assert asyncio.run(main()) == (3, 1)
