"""Calls that share a node object take turns; the first initializes it, the last cleans it up."""

from __future__ import annotations

import asyncio
import functools
import threading

from remotemedia import execute_pipeline, execute_pipeline_with_input
from remotemedia.nodes import PassThroughNode


class Shared:
    """Detects that two threads are inside of `process`."""

    def __init__(self):
        self.calls = []
        self.inside = threading.Lock()
        self.was_entered_twice = False

    def initialize(self):
        self.calls.append("initialize")

    def process(self, item):
        if not self.inside.acquire(blocking=False):
            self.was_entered_twice = True
            return None
        # Other threads run while the interpreter lock is released.
        threading.Event().wait(0.0001)
        self.inside.release()
        return item

    def cleanup(self):
        self.calls.append("cleanup")


class TestSharedInstances:
    def test_tasks_take_turns(self):
        node = Shared()

        async def main():
            return await asyncio.gather(*(execute_pipeline_with_input([node], [n] * 20) for n in range(5)))

        assert asyncio.run(main()) == [[n] * 20 for n in range(5)]
        assert not node.was_entered_twice
        assert node.calls == ["initialize", "cleanup"] * (len(node.calls) // 2)

    def test_the_first_initializes_and_the_last_cleans_up(self, use_rust):
        node = Shared()

        async def main():
            is_taken, may_end = asyncio.Event(), asyncio.Event()

            async def items():
                yield "first"
                is_taken.set()
                await may_end.wait()
                yield "last"

            run = functools.partial(execute_pipeline_with_input, [node], use_rust=use_rust)
            long = asyncio.create_task(run(items()))
            await is_taken.wait()
            short = await run(["between"])
            calls = list(node.calls)
            may_end.set()
            return short, calls, await long

        assert asyncio.run(main()) == (["between"], ["initialize"], ["first", "last"])
        assert node.calls == ["initialize", "cleanup"]

    def test_threads_take_turns(self):
        node = Shared()
        results = {}
        start = threading.Barrier(3)

        def work(n):
            start.wait()
            results[n] = asyncio.run(execute_pipeline_with_input([node], [n] * 20))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert results == {n: [n] * 20 for n in range(3)}
        assert not node.was_entered_twice
        assert node.calls == ["initialize", "cleanup"] * (len(node.calls) // 2)

    def test_an_instance_in_two_places_is_entered_for_both(self, run):
        node = Shared()

        assert run([node, PassThroughNode(), node], [1, 2]) == [1, 2]
        assert node.calls == ["initialize", "cleanup"]
        assert not node.was_entered_twice


class TestCancellation:
    """A cancelled call that waits for its turn ends at once, and does not affect the call in progress."""

    def test_of_a_call_that_waits_for_another(self):
        class Blocking(Shared):
            is_inside = threading.Event()
            may_leave = threading.Event()

            def process(self, item):
                self.is_inside.set()
                self.may_leave.wait()
                return item

        node = Blocking()

        async def main():
            inside = asyncio.create_task(execute_pipeline_with_input([node], [1]))
            await asyncio.to_thread(node.is_inside.wait)
            is_read = asyncio.Event()

            async def items():
                is_read.set()
                yield 2

            waiting = asyncio.create_task(execute_pipeline_with_input([node], items()))
            await is_read.wait()
            waiting.cancel()
            await asyncio.wait([waiting])
            calls = list(node.calls)
            node.may_leave.set()
            return waiting.cancelled(), calls, await inside

        assert asyncio.run(main()) == (True, ["initialize"], [1])
        assert node.calls == ["initialize", "cleanup"]

    def test_of_a_node_that_waits_for_itself(self):
        class Selfish(Shared):
            async def process(self, item):
                self.is_there.set()
                return await execute_pipeline_with_input([self], [item])

        node = Selfish()

        async def main():
            node.is_there = asyncio.Event()
            call = asyncio.create_task(execute_pipeline_with_input([node], [1]))
            await node.is_there.wait()
            call.cancel()
            await asyncio.wait([call])
            return call.cancelled()

        assert asyncio.run(main())
        assert node.calls == ["initialize", "cleanup"]


def test_a_source_is_entered_by_one_at_a_time():
    class Source(Shared):
        def process(self):
            for item in range(20):
                yield Shared.process(self, item)

    node = Source()

    async def main():
        return await asyncio.gather(*(execute_pipeline([node]) for _ in range(4)))

    assert asyncio.run(main()) == [list(range(20))] * 4
    assert not node.was_entered_twice
