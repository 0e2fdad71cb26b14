"""Failure policies of nodes on the event loop: timeouts, retries and dead letters in the caller's task."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
from policy_nodes import (
    LONG_PAUSE,
    Flaky,
    Hangs,
    HangsInTask,
    Letters,
    Waits,
    fail,
    let_timers_run,
    skip_time,
)
from stream_nodes import TIMEOUT_SECS, Add

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia._graph.graph import resolve
from remotemedia._loop.places import on_loop
from remotemedia._session.loop.session import LoopSession
from remotemedia.exceptions import (
    NodeTimeoutError,
    SessionClosedError,
    SessionInterruptedError,
)


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
