"""How failure policies on the event loop end: stopped calls, dead letters, results that come later."""

from __future__ import annotations

import asyncio
import threading

import pytest
from policy_nodes import Flaky, Hangs, Letters, Promises, Raises, fail
from stream_nodes import TIMEOUT_SECS

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia.exceptions import (
    NodeError,
    SessionClosedError,
    SessionInterruptedError,
)


class TestStops:
    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
    def test_requests_to_stop_are_no_failures(self, error):
        class Stops:
            calls = 0

            async def process(self, item):
                self.calls += 1
                raise error

        async def main():
            async with Pipeline([with_options(node, retries=3, on_error="skip")]).open() as session:
                await session.call(1)

        node = Stops()
        with pytest.raises(error):
            asyncio.run(main())

        assert node.calls == 1

    def test_what_a_cancelled_node_raises_is_neither_tried_again_nor_dead_lettered(self):
        async def main():
            node, letters = Hangs(end=fail, times=9), Letters()
            options = {"timeout": TIMEOUT_SECS, "retries": 3, "dead_letter": letters}
            async with Pipeline([with_options(node, **options)]).open() as session:
                call = asyncio.create_task(session.call("hang"))
                await node.is_inside.wait()
                call.cancel()
                with pytest.raises(NodeError, match="because it was cancelled"):
                    await call
            return node.calls, letters.taken

        assert asyncio.run(main()) == (1, [])

    def test_a_node_that_fails_before_it_is_cancelled_does_not_hide_the_cancellation(self):
        class Cancels:
            calls = 0

            async def process(self, item):
                self.calls += 1
                asyncio.current_task().cancel()
                raise ValueError(item)

        async def main():
            node, letters = Cancels(), Letters()
            nodes = [with_options(node, retries=3, dead_letter=letters)]
            run = asyncio.create_task(execute_pipeline_with_input(nodes, [1]))
            await asyncio.wait([run])
            return run.cancelled(), node.calls, letters.taken

        assert asyncio.run(main()) == (True, 1, [])

    def test_a_call_from_a_task_that_is_being_cancelled_is_tried_again(self):
        async def call_at_the_end(session):
            try:
                await asyncio.Event().wait()
            finally:
                results.append(await session.call(1))

        async def main():
            async with Pipeline([with_options(Flaky(1), retries=1)]).open() as session:
                task = asyncio.create_task(call_at_the_end(session))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])

        results = []
        asyncio.run(main())

        assert results == [1]


class TestDeadLetters:
    def test_they_are_awaited_in_the_task_of_the_caller(self):
        async def main():
            letters = Letters()
            async with Pipeline([with_options(Flaky(2), retries=1, dead_letter=letters)]).open() as session:
                results = [await session.call(item) for item in "ab"]
            return results, letters.taken, letters.tasks == [asyncio.current_task()]

        assert asyncio.run(main()) == ([None, "b"], [("a", 0, "ValueError('try 2')")], True)

    @pytest.mark.parametrize(
        ("stop", "error"), [("interrupt", SessionInterruptedError), ("close", SessionClosedError)]
    )
    @pytest.mark.parametrize("place", [{}, {"placement": "inline"}])
    def test_one_that_hangs_can_be_stopped(self, stop, error, place):
        async def main():
            has_begun = asyncio.Event()

            async def hang(item, error):
                has_begun.set()
                await asyncio.Event().wait()

            async with Pipeline([with_options(Raises(), dead_letter=hang, **place)]).open() as session:
                call = asyncio.create_task(session.call(1))
                await has_begun.wait()
                await getattr(session, stop)()
                with pytest.raises(error):
                    await call

        asyncio.run(main())

    def test_other_branches_receive_the_item(self):
        pipeline = Pipeline("p").add_node(Flaky(9), id="fails", dead_letter=Letters())
        pipeline.add_node(Flaky(0), id="behind", after="fails")
        pipeline.add_node(Flaky(0), id="beside", after=[])

        assert asyncio.run(execute_pipeline_with_input(pipeline, [1, 2])) == [1, 2]

    @pytest.mark.parametrize("way", ["call", "map"])
    @pytest.mark.parametrize("place", [{}, {"placement": "inline"}, {"placement": "thread"}])
    def test_one_that_is_cancelled_stops_its_stream(self, way, place):
        async def main():
            has_begun = asyncio.Event()

            async def hang(item, error):
                has_begun.set()
                await asyncio.Event().wait()

            async def use(session):
                if way == "call":
                    return await session.call(1)
                return [output async for output in session.map([1, 2])]

            nodes = [Raises(), Flaky(0)]
            nodes[0] = with_options(nodes[0], dead_letter=hang, **place)
            async with Pipeline(nodes).open() as session:
                task = asyncio.create_task(use(session))
                await has_begun.wait()
                task.cancel()
                await asyncio.wait([task], timeout=TIMEOUT_SECS)
                return task.cancelled()

        assert asyncio.run(main())


class TestLazyResults:
    """What a `def` node returns may still be something that fails."""

    @pytest.mark.parametrize("kind", ["coroutine", "generator", "async_generator"])
    def test_it_is_tried_again(self, kind, use_rust):
        node = with_options(Promises(kind), placement="inline", retries=1)
        outputs = asyncio.run(Pipeline([node]).run(["a", "b"], use_rust=use_rust))

        assert outputs == (["a", "b"] if kind == "coroutine" else ["a", ("a", 2), "b", ("b", 2)])

    @pytest.mark.parametrize("place", [{}, {"placement": "inline"}, {"placement": "thread"}])
    @pytest.mark.parametrize("kind", ["coroutine", "generator", "async_generator", "broken_generator"])
    def test_it_is_dead_lettered(self, kind, place, use_rust):
        letters = Letters()
        nodes = [with_options(Promises(kind), dead_letter=letters, **place), Flaky(0)]
        outputs = asyncio.run(execute_pipeline_with_input(nodes, ["a", "b"], use_rust=use_rust))

        if kind == "broken_generator":
            assert (outputs, len(letters.taken)) == (["a", "b"], 2)
        else:
            assert outputs[0] == "b"
            assert letters.taken == [("a", 0, "ValueError('once')")]

    @pytest.mark.parametrize("place", [{}, {"placement": "inline", "retries": 1}])
    @pytest.mark.parametrize("kind", ["closing_generator", "closing_async_generator"])
    def test_a_generator_is_closed_when_a_node_behind_it_fails(self, kind, place, use_rust):
        async def main():
            node = Promises(kind)
            nodes = [with_options(node, dead_letter=print, **place), Flaky(9)]
            with pytest.raises(NodeError, match="Flaky_1"):
                await execute_pipeline_with_input(nodes, ["a"], use_rust=use_rust)
            return node.is_closed

        assert asyncio.run(main())

    def test_a_coroutine_is_closed_that_comes_after_the_cancellation(self):
        class Promising:
            def __init__(self):
                self.is_inside, self.may_go = threading.Event(), threading.Event()

            def process(self, item):
                self.is_inside.set()
                assert self.may_go.wait(TIMEOUT_SECS)
                return Flaky(0).process(item)

        async def main():
            node = Promising()
            async with Pipeline([with_options(node, dead_letter=print)]).open() as session:
                call = asyncio.create_task(session.call(1))
                await asyncio.to_thread(node.is_inside.wait)
                call.cancel()
                await asyncio.sleep(0)
                node.may_go.set()
                await asyncio.wait([call])
            return call.cancelled()

        # Python would warn about a coroutine that is not awaited.
        assert asyncio.run(main())

    def test_outputs_before_a_failure_stay(self, use_rust):
        node = with_options(Promises("broken_generator"), placement="inline", retries=3, on_error="skip")

        assert asyncio.run(Pipeline([node]).run(["a", "b"], use_rust=use_rust)) == ["a", "b"]
