"""`AsyncSession`: an open pipeline for asyncio."""

from __future__ import annotations

import asyncio
import itertools
import threading

import pytest
from stream_nodes import (
    Add,
    AsyncAdd,
    AsyncHold,
    Count,
    Endless,
    Fails,
    Hold,
    Noting,
    Odd,
    Twice,
    arrived,
)

from remotemedia import Pipeline, with_options
from remotemedia.exceptions import NodeError, SessionClosedError

PLACEMENTS = pytest.mark.parametrize("placement", ["inline", "thread"])


class TestCall:
    @PLACEMENTS
    def test_results_have_the_shapes_of_execute_pipeline(self, placement):
        async def main():
            async with Pipeline([Odd(), Add()]).open(placement=placement) as session:
                nothing, one = await session.call(2), await session.call(3)
            async with Pipeline([Twice()]).open(placement=placement) as session:
                return nothing, one, await session.call(1)

        assert asyncio.run(main()) == (None, 4, [1, 1])

    def test_coroutines_run_on_the_loop_of_the_caller(self):
        class Where:
            async def process(self, item):
                return asyncio.get_running_loop()

        async def main():
            async with Pipeline([Where()]).open() as session:
                return await session.call(1) is asyncio.get_running_loop()

        assert asyncio.run(main())

    def test_the_event_loop_runs_while_a_node_works(self):
        async def main():
            hold = Hold()
            async with Pipeline([hold]).open() as session:
                call = asyncio.create_task(session.call("item"))
                await arrived(hold.is_there)
                for _ in range(100):
                    await asyncio.sleep(0)
                is_done = call.done()
                hold.go.set()
                return is_done, await call

        assert asyncio.run(main()) == (False, "item")

    def test_nodes_are_initialized_and_cleaned_up_beside_the_loop(self):
        threads = []

        class Where(Add):
            def initialize(self):
                threads.append(threading.get_ident())

            def cleanup(self):
                threads.append(threading.get_ident())

        async def main():
            async with Pipeline([Where()]).open() as session:
                await session.call(1)

        asyncio.run(main())

        assert len(threads) == 2
        assert threading.get_ident() not in threads

    @PLACEMENTS
    def test_an_error_is_raised_by_its_call_and_the_session_continues(self, placement):
        async def main():
            async with Pipeline([Fails(1)]).open(placement=placement) as session:
                return await asyncio.gather(*map(session.call, range(3)), return_exceptions=True)

        first, error, last = asyncio.run(main())

        assert (first, last) == (0, 2)
        assert isinstance(error, NodeError)
        assert str(error) == "Node 'Fails_0' failed in process() on item 1: ValueError: bad 1"

    @pytest.mark.parametrize("placement", ["inline", "thread"])
    def test_many_tasks_get_their_own_results(self, placement):
        pipeline = Pipeline("fork")
        pipeline.add_node(AsyncAdd(), id="in")
        pipeline.add_node(Odd(), id="odd", after="in", placement=placement)
        pipeline.add_node(Twice(), id="twice", after="in")
        pipeline.add_node(Noting(), id="both", after=["odd", "twice"], join=True)

        async def main():
            async with pipeline.open() as session:
                return await asyncio.gather(*map(session.call, range(64)))

        results = asyncio.run(main())

        assert results == [
            {"odd": number if number % 2 else None, "twice": [number, number]} for number in range(1, 65)
        ]

    def test_a_cancelled_call_cancels_the_coroutine_of_its_node(self):
        async def main():
            hold = AsyncHold("held")
            async with Pipeline([hold]).open() as session:
                call = asyncio.create_task(session.call("held"))
                await arrived(hold.is_there)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                return await session.call("next"), hold.cancelled

        assert asyncio.run(main()) == ("next", ["held"])

    def test_a_cancelled_call_among_many_leaves_the_others_alone(self):
        async def main():
            hold = AsyncHold("held")
            async with Pipeline([with_options(hold, concurrency=8)]).open() as session:
                calls = [asyncio.create_task(session.call(item)) for item in ("held", 1, 2)]
                await arrived(hold.is_there)
                calls[0].cancel()
                return await asyncio.gather(*calls, return_exceptions=True), hold.cancelled

        results, cancelled = asyncio.run(main())

        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1:] == [1, 2]
        assert cancelled == ["held"]

    def test_a_cancelled_call_ends_the_generator_of_its_node(self):
        async def main():
            node = Endless()
            async with Pipeline([node, with_options(Noting(), placement="thread")]).open() as session:
                call = asyncio.create_task(session.call("item"))
                await arrived(node.has_begun)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                await session.drain()
                return node.closed

        assert asyncio.run(main()) == ["item"]

    def test_nothing_is_taken_after_the_block(self):
        async def main():
            async with Pipeline([Add()]).open() as session:
                pass
            await session.call(1)

        with pytest.raises(SessionClosedError, match="The session is closed"):
            asyncio.run(main())


class TestMap:
    @PLACEMENTS
    @pytest.mark.parametrize("is_async", [False, True])
    def test_outputs_are_in_order_and_the_nodes_are_flushed(self, placement, is_async):
        async def items():
            for number in range(5):
                await asyncio.sleep(0)
                yield number

        async def main():
            async with Pipeline([Odd(), Twice(), Count()]).open(placement=placement) as session:
                return [output async for output in session.map(items() if is_async else range(5))]

        assert asyncio.run(main()) == [1, 1, 3, 3, "4 items"]

    @pytest.mark.parametrize("is_async", [False, True])
    def test_not_more_is_read_ahead_than_the_queues_hold(self, is_async):
        read = 0

        def count():
            nonlocal read
            for number in itertools.count():
                read += 1
                yield number

        async def count_async():
            for number in count():
                yield number

        async def main():
            ahead = []
            async with Pipeline([Add()]).open(placement="thread", queue_size=4) as session:
                async for output in session.map(count_async() if is_async else count()):
                    ahead.append(read - output)
                    if output == 1000:
                        break
            return max(ahead)

        # The stage holds two beside its queue, and the reader has one.
        assert asyncio.run(main()) <= 4 + 2 + 1

    @pytest.mark.parametrize("is_async", [False, True])
    def test_a_consumer_that_stops_early_stops_the_producer(self, is_async):
        is_closed = asyncio.Event()

        def count():
            try:
                yield from itertools.count()
            finally:
                is_closed.set()

        async def count_async():
            try:
                for number in itertools.count():
                    yield number
            finally:
                is_closed.set()

        async def main():
            async with Pipeline([Add()]).open(placement="thread") as session:
                outputs = session.map(count_async() if is_async else count())
                first = await anext(outputs)
                await outputs.aclose()
                # The event loop closes an async generator without references.
                await is_closed.wait()
                return first, await session.call(1)

        assert asyncio.run(main()) == (1, 2)

    @PLACEMENTS
    def test_an_error_is_raised_after_the_earlier_outputs(self, placement):
        outputs = []

        async def main():
            async with Pipeline([Fails(2)]).open(placement=placement) as session:
                with pytest.raises(NodeError, match="bad 2"):
                    await take_all(session.map(range(4)))
                return [output async for output in session.map([4, 5])]

        async def take_all(stream):
            async for output in stream:
                outputs.append(output)  # noqa: PERF401 - The test checks the outputs before the error.

        assert asyncio.run(main()) == [4, 5]
        assert outputs == [0, 1]

    @PLACEMENTS
    def test_an_error_of_the_input_passes_as_itself_after_the_outputs_before_it(self, placement):
        outputs = []

        async def items():
            yield 1
            raise OSError("unplugged")

        async def main():
            async with Pipeline([Add()]).open(placement=placement) as session:
                async for output in session.map(items()):
                    outputs.append(output)  # noqa: PERF401 - The test checks the outputs before the error.

        with pytest.raises(OSError, match="unplugged"):
            asyncio.run(main())
        assert outputs == [2]

    def test_an_input_that_waits_does_not_delay_outputs(self):
        async def main():
            taken = asyncio.Event()

            async def items():
                yield 1
                await taken.wait()
                yield 2

            async with Pipeline([Add()]).open() as session:
                outputs = []
                async for output in session.map(items()):
                    outputs.append(output)
                    taken.set()
                return outputs

        assert asyncio.run(main()) == [2, 3]


class TestPut:
    @PLACEMENTS
    def test_outputs_of_items_that_were_put_are_returned_by_the_iteration(self, placement):
        async def main():
            async with Pipeline([Odd(), Count()]).open(placement=placement) as session:
                for number in range(4):
                    await session.put(number)
                session.end()
                return [output async for output in session]

        assert asyncio.run(main()) == [1, 3, "2 items"]

    @PLACEMENTS
    def test_a_producer_waits_for_a_slow_consumer(self, placement):
        put = 0

        async def produce(session):
            nonlocal put
            for number in range(200):
                await session.put(number)
                put += 1
            session.end()

        async def main():
            ahead = []
            async with Pipeline([Add()]).open(placement=placement, queue_size=4) as session:
                producer = asyncio.create_task(produce(session))
                ahead += [put - output async for output in session]
                await producer
            return ahead

        ahead = asyncio.run(main())

        assert len(ahead) == 200
        # Items in the queue, in the stage, and for the consumer.
        assert max(ahead) <= 4 + 2 + 4 + 2

    def test_a_cancelled_put_leaves_the_session_usable(self):
        async def main():
            hold = Hold(0)
            async with Pipeline([hold]).open(queue_size=1) as session:
                puts = [asyncio.create_task(session.put(number)) for number in range(20)]
                await arrived(hold.is_there)
                waiting = [task for task in puts if not task.done()]
                for task in waiting:
                    task.cancel()
                await asyncio.gather(*puts, return_exceptions=True)
                hold.go.set()
                session.end()
                outputs = [output async for output in session]
                return len(waiting), outputs

        waiting, outputs = asyncio.run(main())

        assert waiting > 0
        assert outputs[0] == 0
        assert outputs == sorted(outputs)

    @PLACEMENTS
    def test_leaving_the_block_finishes_all_items(self, placement):
        node = Noting()

        async def main():
            async with Pipeline([node]).open(placement=placement) as session:
                for number in range(50):
                    await session.put(number)

        asyncio.run(main())

        assert node.log == ["initialize node", *range(50), "cleanup node"]
