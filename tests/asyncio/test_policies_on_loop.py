"""Failure policies of nodes on the event loop: timeouts, retries and dead letters in the caller's task."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest
from stream_nodes import TIMEOUT_SECS, Add

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia._graph.graph import resolve
from remotemedia._loop.places import on_loop
from remotemedia._session.loop_session import LoopSession
from remotemedia.exceptions import (
    NodeError,
    NodeTimeoutError,
    SessionClosedError,
    SessionInterruptedError,
)

LONG_PAUSE = {"retries": 9, "retry_delay": 50}


class Flaky:
    """Fails the first times; records its calls."""

    def __init__(self, failures):
        self.failures = failures
        self.tries = []
        self.has_failed = asyncio.Event()

    async def process(self, item):
        self.tries.append(item)
        if len(self.tries) <= self.failures:
            self.has_failed.set()
            raise ValueError(f"try {len(self.tries)}")
        return item


class Hangs:
    """Waits for ever for the item `hang`, the first times; what follows its cancellation depends on `end`."""

    def __init__(self, end=None, times=1):
        self.end = end
        self.times = times
        self.calls = 0
        self.is_inside = asyncio.Event()

    async def process(self, item):
        self.calls += 1
        if item == "hang" and self.calls <= self.times:
            self.is_inside.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if self.end is None:
                    raise
                return self.end()
        return item


class Promises:
    """A `def` whose results say only when they are made that they are lazy."""

    def __init__(self, kind):
        self.make = getattr(self, kind)
        self.calls = 0
        self.is_closed = False

    def process(self, item):
        self.calls += 1
        # It does not end by itself because nothing refers to it.
        self.result = self.make(item, self.calls)
        return self.result

    async def coroutine(self, item, call):
        await asyncio.sleep(0)
        if call == 1:
            raise ValueError("once")
        return item

    def generator(self, item, call):
        if call == 1:
            raise ValueError("once")
        yield item
        yield (item, 2)

    async def async_generator(self, item, call):
        if call == 1:
            raise ValueError("once")
        yield item
        await asyncio.sleep(0)
        yield (item, 2)

    def closing_generator(self, item, call):
        try:
            yield item
        finally:
            self.is_closed = True

    async def closing_async_generator(self, item, call):
        try:
            yield item
        finally:
            self.is_closed = True

    def broken_generator(self, item, call):
        yield item
        raise ValueError(f"after the first output, call {call}")


class Generates:
    def process(self, item):
        yield item


class GeneratesLater:
    async def process(self, item):
        yield item


class Raises:
    def process(self, item):
        raise ValueError(item)


class HangsInTask:
    """Waits for a task of its own, so that a cancellation takes several turns of the event loop."""

    def __init__(self):
        self.is_inside = asyncio.Event()

    async def process(self, item):
        if item == "hang":
            self.is_inside.set()
            await asyncio.create_task(asyncio.Event().wait())
        return item


class Waits:
    """Waits until `may_go` is set for the item `wait`."""

    def __init__(self):
        self.is_inside, self.may_go = asyncio.Event(), asyncio.Event()

    async def process(self, item):
        if item == "wait":
            self.is_inside.set()
            await self.may_go.wait()
        return item


class Letters:
    """Takes failed items, in a coroutine."""

    def __init__(self):
        self.taken = []
        self.tasks = []

    async def __call__(self, item, error):
        await asyncio.sleep(0)
        self.taken.append((item, error.item_index, repr(error.__cause__)))
        self.tasks.append(asyncio.current_task())


def skip_time(loop, secs=2 * TIMEOUT_SECS):
    """Let the clock of an event loop show a later time."""
    now = loop.time
    loop.time = lambda: now() + secs


async def let_timers_run():
    for _ in range(3):
        await asyncio.sleep(0)


def fail():
    raise ValueError("because it was cancelled")


async def opened(node, options):
    async with Pipeline([with_options(node, **options)]).open() as session:
        return session


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 30, "retries": 2},
        {"timeout": 30, "placement": "thread"},
        {"on_error": "skip"},
        {"dead_letter": print, "placement": "inline"},
    ],
)
def test_a_session_of_a_coroutine_with_a_policy_is_on_the_loop(options):
    assert isinstance(asyncio.run(opened(Flaky(0), options)), LoopSession)


@pytest.mark.parametrize(
    ("options", "is_there"),
    [
        ({"placement": "inline", "retries": 1, "dead_letter": print}, True),
        ({"placement": "thread", "on_error": "skip"}, True),
        ({"on_error": print}, True),
        ({"retries": 1}, False),
        ({"placement": "inline", "timeout": 1}, False),
        ({"concurrency": 1, "retries": 1}, False),
    ],
)
def test_a_def_node_is_if_nothing_of_it_has_to_be_stopped(options, is_there):
    graph = resolve([with_options(Add(), **options)])

    assert (on_loop(graph, is_run=False) is not None) is is_there


@pytest.mark.parametrize("node", [Generates(), GeneratesLater()])
def test_generators_with_policies_are_not(node):
    assert on_loop(resolve([with_options(node, placement="inline", retries=1)]), is_run=False) is None


class TestPauses:
    @pytest.mark.parametrize(
        ("stop", "error"), [("interrupt", SessionInterruptedError), ("close", SessionClosedError)]
    )
    def test_a_pause_ends_when_the_session_is_stopped(self, stop, error):
        async def main():
            node = Flaky(9)
            async with Pipeline([with_options(node, **LONG_PAUSE)]).open() as session:
                call = asyncio.create_task(session.call(1))
                await node.has_failed.wait()
                async with asyncio.timeout(TIMEOUT_SECS):
                    await getattr(session, stop)()
                with pytest.raises(error):
                    await call
            return node.tries

        assert asyncio.run(main()) == [1]

    def test_a_cancelled_call_ends_in_its_pause_and_the_session_continues(self):
        async def main():
            node = Flaky(1)
            async with Pipeline([with_options(node, **LONG_PAUSE)]).open() as session:
                call = asyncio.create_task(session.call(1))
                await node.has_failed.wait()
                call.cancel()
                await asyncio.wait([call], timeout=TIMEOUT_SECS)
                return call.cancelled(), await session.call(2)

        assert asyncio.run(main()) == (True, 2)

    def test_a_cancelled_run_ends_in_its_pause(self):
        async def main():
            node = Flaky(9)
            run = asyncio.create_task(execute_pipeline_with_input([with_options(node, **LONG_PAUSE)], [1]))
            await node.has_failed.wait()
            run.cancel()
            await asyncio.wait([run], timeout=TIMEOUT_SECS)
            return run.cancelled(), node.tries

        assert asyncio.run(main()) == (True, [1])

    def test_a_stream_continues_after_an_interruption_in_a_pause(self):
        async def main():
            node, outputs = Flaky(1), []

            async def take(session):
                outputs.extend([output async for output in session])

            async with Pipeline([with_options(node, **LONG_PAUSE)]).open() as session:
                taking = asyncio.create_task(take(session))
                await session.put(1)
                await node.has_failed.wait()
                dropped = await session.interrupt()
                await session.put(2)
                session.end()
                await taking
            return dropped, outputs

        assert asyncio.run(main()) == (1, [2])

    def test_a_consumer_that_stops_waiting_does_not_cancel_a_node(self):
        class Inline(Flaky):
            def process(self, item):
                self.tries.append(item)
                if len(self.tries) == 1:
                    self.has_failed.set()
                    raise ValueError
                return item

        async def main():
            node = Inline(1)
            options = {"placement": "inline", "retries": 1, "retry_delay": 0.02}
            async with Pipeline([with_options(node, **options)]).open() as session:
                outputs = session.map([1, 2])
                waiting = asyncio.create_task(anext(outputs))
                await node.has_failed.wait()
                waiting.cancel()
                await asyncio.wait([waiting])
                return [output async for output in outputs], node.tries

        assert asyncio.run(main()) == ([1, 2], [1, 1, 2])


class TestTimeouts:
    def test_a_call_that_takes_too_long_is_cancelled_and_the_session_continues(self):
        async def main():
            async with Pipeline("p").add_node(Hangs(times=99), id="n", timeout=0.02).open() as session:
                for item in range(50):
                    assert await session.call(item) == item
                with pytest.raises(
                    NodeTimeoutError, match="'n' took longer than 0.02 s in process.* 50$"
                ) as caught:
                    await session.call("hang")
                # Its traceback shows where the node waited.
                assert type(caught.value.__cause__.__cause__) is asyncio.CancelledError
                return asyncio.current_task().cancelling(), await session.call("next")

        assert asyncio.run(main()) == (0, "next")

    def test_each_call_has_its_own_time(self):
        async def main():
            loop, node = asyncio.get_running_loop(), Waits()
            async with Pipeline([with_options(node, timeout=100)]).open() as session:
                await session.call("quick")
                skip_time(loop, 60)
                call = asyncio.create_task(session.call("wait"))
                await node.is_inside.wait()
                skip_time(loop, 60)
                await let_timers_run()
                was_done = call.done()
                skip_time(loop, 60)
                with pytest.raises(NodeTimeoutError):
                    await call
                return was_done

        assert asyncio.run(main()) is False

    def test_a_pipeline_keeps_nothing_of_an_earlier_event_loop(self):
        async def main(item):
            async with pipeline.open() as session:
                return await session.call(item)

        pipeline = Pipeline("p").add_node(Hangs(times=9), timeout=0.02, retries=1)

        assert asyncio.run(main(1)) == 1
        with pytest.raises(NodeTimeoutError):
            asyncio.run(main("hang"))

    @pytest.mark.parametrize("use_rust", [True, False])
    def test_each_attempt_has_its_own_time(self, use_rust):
        node = Hangs(times=2)
        run = Pipeline([with_options(node, timeout=0.02, retries=2)]).run(["hang"], use_rust=use_rust)

        assert asyncio.run(run) == ["hang"]
        assert node.calls == 3

    def test_a_late_call_is_skipped_or_dead_lettered(self):
        letters = Letters()
        node = with_options(Hangs(times=9), timeout=0.02, dead_letter=letters)

        assert asyncio.run(Pipeline([node]).run([1, "hang", 2])) == [1, 2]
        assert letters.taken == [("hang", 1, "CallTimeoutError('longer than 0.02 s')")]

    def test_each_output_of_a_generator_that_a_coroutine_returns_has_its_own_time(self):
        class Returns:
            async def process(self, item):
                return self.outputs(item)

            async def outputs(self, item):
                loop = asyncio.get_running_loop()
                for number in range(item):
                    skip_time(loop, 60)
                    await let_timers_run()
                    yield number

        node = with_options(Returns(), timeout=100, retries=1)

        assert asyncio.run(Pipeline([node]).run([3, 2])) == [0, 1, 2, 0, 1]

    @pytest.mark.parametrize("use_rust", [True, False])
    def test_what_a_node_returns_when_it_is_cancelled_counts(self, use_rust):
        async def main():
            node = with_options(Hangs(end=lambda: "late"), timeout=0.02, retries=1)
            outputs = await Pipeline([node]).run(["hang", 2], use_rust=use_rust)
            return outputs, asyncio.current_task().cancelling()

        assert asyncio.run(main()) == (["late", 2], 0)

    @pytest.mark.parametrize("use_rust", [True, False])
    def test_what_it_raises_then_is_a_timeout(self, use_rust):
        node = with_options(Hangs(end=fail), timeout=0.02)

        with pytest.raises(NodeTimeoutError, match="took longer than 0.02 s"):
            asyncio.run(Pipeline([node]).run(["hang"], use_rust=use_rust))

    @pytest.mark.parametrize(
        ("stop", "error"), [("cancel", asyncio.CancelledError), ("interrupt", SessionInterruptedError)]
    )
    def test_a_stop_that_has_begun_when_the_time_is_over_wins(self, stop, error):
        async def main():
            loop = asyncio.get_running_loop()
            node = HangsInTask()
            options = {"timeout": TIMEOUT_SECS, "on_error": "skip", **LONG_PAUSE}
            async with Pipeline([with_options(node, **options)]).open() as session:
                call = asyncio.create_task(session.call("hang"))
                await node.is_inside.wait()
                stopping = asyncio.create_task(stopped(call, session))
                loop.call_soon(skip_time, loop)
                with pytest.raises(error):
                    await call
                await stopping
                return call.cancelling(), await session.call(1)

        async def stopped(call, session):
            if stop == "cancel":
                call.cancel()
            else:
                await session.interrupt()

        assert asyncio.run(main()) == (1 if stop == "cancel" else 0, 1)

    def test_a_timeout_of_the_caller_holds_inside(self):
        async def main():
            node = with_options(Hangs(times=9), timeout=TIMEOUT_SECS, retries=9)
            async with Pipeline([node]).open() as session:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.02):
                        await session.call("hang")
                return await session.call(1)

        assert asyncio.run(main()) == 1

    def test_the_timer_does_not_keep_the_node_of_a_closed_session(self):
        async def main():
            node = Hangs()
            life = weakref.ref(node)
            async with Pipeline([with_options(node, timeout=500)]).open() as session:
                await session.call(1)
            del session, node
            gc.collect()
            return life()

        assert asyncio.run(main()) is None


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
