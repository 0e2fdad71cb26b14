"""`interrupt()`: the session continues, in plain Python and in asyncio."""

from __future__ import annotations

import asyncio
import itertools
import threading

import pytest
from stream_nodes import (
    TIMEOUT_SECS,
    Add,
    AsyncHold,
    Count,
    Fails,
    Hold,
    Noting,
    Twice,
    Worker,
    arrived,
)

from remotemedia import Pipeline, with_options
from remotemedia.exceptions import SessionInterruptedError

PLACEMENTS = pytest.mark.parametrize("placement", ["inline", "thread"])


class Naps:
    async def process(self, item):
        await asyncio.sleep(item % 5 / 10_000)
        return item


class TestAfterInterruption:
    @PLACEMENTS
    def test_nodes_keep_their_state_and_are_notified(self, placement):
        node = Noting()

        with Pipeline([node, Count()]).open(placement=placement) as session:
            session.call("a")
            session.interrupt()
            session.call("b")
            rest = list(session.map([]))

        assert node.log == ["initialize node", "a", "interrupt node", "b", "cleanup node"]
        assert rest == ["2 items"]

    def test_a_node_is_notified_after_the_call_in_progress(self):
        class Watched(Hold):
            def process(self, item):
                super().process(item)
                self.seen.append("back")
                return item

            def interrupt(self):
                self.seen.append("interrupt")

        node = Watched("old")

        with Pipeline([node]).open(placement="thread") as session:
            session.put("old")
            assert node.is_there.wait(TIMEOUT_SECS)
            interrupting = Worker(session.interrupt)
            node.go.set()
            interrupting.result()

        assert node.seen == ["old", "back", "interrupt"]

    @PLACEMENTS
    def test_a_call_during_an_interruption_waits_for_its_end(self, placement):
        class Notified(Hold):
            def process(self, item):
                return item

            def interrupt(self):
                super().process("interrupt")

        node = Notified()

        with Pipeline([node]).open(placement=placement) as session:
            interrupting = Worker(session.interrupt)
            assert node.is_there.wait(TIMEOUT_SECS)
            calling = Worker(lambda: session.call("new"))
            calling.join(0.05)
            node.go.set()
            interrupting.result()

            assert calling.result() == "new"

    def test_interrupts_of_a_coroutine_in_a_worker_cancel_no_later_item(self):
        """A cancellation that reached the loop late cancelled the call of the next item."""
        outcomes = []

        def call():
            for number in range(1000):
                try:
                    outcomes.append(session.call(number) == number)
                except SessionInterruptedError:
                    outcomes.append(True)

        with Pipeline([Naps()]).open(placement="process") as session:
            calling = Worker(call)
            while calling.is_alive():
                session.interrupt()
            calling.result()

        assert outcomes == [True] * 1000

    @PLACEMENTS
    def test_a_stream_continues_with_its_next_item(self, placement):
        with Pipeline([Add()]).open(placement=placement, queue_size=2) as session:
            outputs = session.map(itertools.count())
            first = next(outputs)
            session.interrupt()
            later = [next(outputs), next(outputs)]

        assert first == 1
        assert later == sorted(later)
        assert later[0] > first

    def test_an_earlier_error_is_raised_after_an_interruption(self):
        with Pipeline([Fails(1), with_options(Noting(), placement="thread")]).open() as session:
            session.put(1)
            session.drain()
            session.interrupt()
            session.end()

            with pytest.raises(RuntimeError, match="bad 1"):
                list(session)

    def test_several_may_interrupt_at_once(self):
        with Pipeline([Twice(), with_options(Add(), placement="thread")]).open(
            enable_metrics=True
        ) as session:
            for number in range(100):
                session.put(number)
            dropped = sum(worker.result() for worker in [Worker(session.interrupt) for _ in range(8)])
            result = session.call(1)
            metrics = session.metrics()

        assert result == [2, 2]
        assert metrics["interrupted"] == dropped

    def test_interrupts_among_calls_leave_each_call_with_a_result_or_an_error(self):
        is_over = threading.Event()

        def call(start):
            results = []
            for number in range(start, start + 300):
                try:
                    results.append((number, session.call(number)))
                except SessionInterruptedError:
                    results.append((number, number + 1))
            return results

        def interrupt():
            while not is_over.is_set():
                session.interrupt()

        with Pipeline([Add(), with_options(Noting(), placement="thread")]).open() as session:
            interrupting = Worker(interrupt)
            workers = [Worker(lambda start=start: call(start)) for start in range(0, 1200, 300)]
            results = [result for worker in workers for result in worker.result()]
            is_over.set()
            interrupting.result()

        assert results == [(number, number + 1) for number in range(1200)]


class TestAsync:
    def test_calls_and_streams_of_tasks(self):
        async def main():
            hold = AsyncHold("old")
            async with Pipeline([hold]).open() as session:
                await session.put("old")
                call = asyncio.create_task(session.call("old"))
                await arrived(hold.is_there)
                dropped = await session.interrupt()
                with pytest.raises(SessionInterruptedError):
                    await call
                session.end()
                return dropped, [output async for output in session], await session.call("new")

        dropped, outputs, result = asyncio.run(main())

        assert (dropped, outputs, result) == (2, [], "new")

    def test_it_returns_before_thousands_of_waiting_tasks_are_notified(self):
        log = []

        async def main():
            hold = AsyncHold("old")
            async with Pipeline([hold]).open() as session:

                async def put():
                    await session.put("old")
                    log.append("put")

                puts = [asyncio.create_task(put()) for _ in range(5000)]
                await arrived(hold.is_there)
                log.clear()
                dropped = await session.interrupt()
                log.append("interrupt")
                await asyncio.gather(*puts)
            return dropped

        dropped = asyncio.run(main())

        assert dropped == 5000
        assert log.index("interrupt") < 1000

    @pytest.mark.parametrize("options", [{}, {"placement": "thread"}])
    def test_a_task_calls_again_while_a_thread_still_works_on_the_dropped_item(self, options):
        async def main():
            hold = Hold("old")
            async with Pipeline([with_options(hold, **options)]).open() as session:

                async def call_again():
                    with pytest.raises(SessionInterruptedError):
                        await session.call("old")
                    calls_again.set()
                    return await session.call("new")

                calls_again = asyncio.Event()
                calling = asyncio.create_task(call_again())
                await arrived(hold.is_there)
                interrupting = asyncio.create_task(session.interrupt())
                await calls_again.wait()
                hold.go.set()
                return await calling, await interrupting

        assert asyncio.run(main()) == ("new", 1)

    def test_barge_in(self):
        """A listener starts to speak: the current reply stops, and the next one is complete."""

        class Speaks:
            async def process(self, text):
                for word in itertools.count() if text == "long" else range(3):
                    await asyncio.sleep(0)
                    yield (text, word)

        async def main():
            spoken = []
            async with Pipeline([Speaks()]).open() as session:
                await session.put("long")
                async for word in session:
                    spoken.append(word)
                    if word == ("long", 5):
                        await session.interrupt()
                        await session.put("short")
                        session.end()
            return spoken

        spoken = asyncio.run(main())

        assert spoken == [*(("long", word) for word in range(6)), *(("short", word) for word in range(3))]
