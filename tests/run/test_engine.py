"""Effects of a run on the program around it: its objects, its event loop, its threads."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from pathlib import Path

import pytest
from leftovers import wait_until

from remotemedia import _core, execute_pipeline, execute_pipeline_with_input
from remotemedia._graph.graph import of_list
from remotemedia.exceptions import NodeError
from remotemedia.nodes import PassThroughNode

USER = contextvars.ContextVar("user", default="nobody")


class Item:
    """An object with an identity, which accepts weak references."""


class Counting:
    def __init__(self):
        self.count = 0

    def process(self, item):
        self.count += 1
        return (self.count, item)


class TestObjects:
    @pytest.mark.parametrize("count", [1, 1000])
    def test_an_item_stays_the_same_object(self, run, count):
        items = [Item() for _ in range(count)]
        nodes = [PassThroughNode(), Same(), AsyncSame(), GeneratingSame()]

        outputs = run(nodes, items)

        assert all(output is item for output, item in zip(outputs, items, strict=True))

    def test_a_compiled_chain_passes_the_same_objects(self):
        items = [Item() for _ in range(5000)]

        outputs = asyncio.run(execute_pipeline_with_input([PassThroughNode(), Same(), Same()], items))

        assert all(output is item for output, item in zip(outputs, items, strict=True))

    def test_the_user_s_own_node_object_runs(self, run):
        node = Seeing()

        assert run([node], [1, 2]) == [node, node]
        assert node.seen == [1, 2]

    def test_state_lasts_over_runs(self, run):
        node = Counting()

        assert run([node], ["a", "b"]) == [(1, "a"), (2, "b")]
        assert run([node], ["c"]) == [(3, "c")]


class Same:
    def process(self, item):
        return item


class AsyncSame:
    async def process(self, item):
        return item


class GeneratingSame:
    def process(self, item):
        yield item


class Seeing:
    def __init__(self):
        self.seen = []

    def process(self, item):
        self.seen.append(item)
        return self


class TestEventLoop:
    def test_it_beats_on_while_nodes_release_the_lock(self):
        """Each item waits for five turns of the loop, which a blocked loop would never make."""
        beats = 0
        beaten = threading.Condition()

        class Waiting:
            def process(self, item):
                with beaten:
                    goal = beats + 5
                    beaten.wait_for(lambda: beats >= goal)
                return item

        async def tick():
            nonlocal beats
            while True:
                await asyncio.sleep(0.001)
                with beaten:
                    beats += 1
                    beaten.notify_all()

        async def main():
            ticker = asyncio.create_task(tick())
            outputs = await execute_pipeline_with_input([Waiting(), Waiting()], range(10))
            ticker.cancel()
            return outputs

        assert asyncio.run(main()) == list(range(10))
        assert beats >= 100

    def test_it_beats_on_while_python_code_computes(self):
        beats = 0
        enough = threading.Event()

        class Busy:
            def process(self, item):
                while not enough.is_set():
                    item += 1
                return item

        async def main():
            nonlocal beats
            run = asyncio.create_task(execute_pipeline_with_input([Busy()], [0]))
            while not run.done():
                await asyncio.sleep(0)
                beats += 1
                if beats == 100:
                    enough.set()
            return await run

        assert len(asyncio.run(main())) == 1
        assert beats > 100

    @pytest.mark.parametrize("method", ["initialize", "process", "flush", "cleanup"])
    def test_coroutines_run_on_the_loop_of_the_caller(self, run, method):
        loops = []

        async def note(*_item):
            loops.append((asyncio.get_running_loop(), threading.current_thread()))

        async def main():
            node = Same()
            setattr(node, method, note)
            await execute_pipeline_with_input([node], [1])
            return asyncio.get_running_loop()

        loop = asyncio.run(main())

        assert loops == [(loop, threading.main_thread())]

    def test_other_nodes_run_beside_it(self):
        threads = []

        class Noting:
            def process(self, item):
                threads.append(threading.current_thread())
                return item

        asyncio.run(execute_pipeline_with_input([Noting()], [1]))

        assert threads != [threading.main_thread()]

    def test_nodes_see_the_context_of_the_caller(self, run):
        class Names:
            def process(self, item):
                return (item, USER.get())

        class AsyncNames:
            async def process(self, item):
                yield (*item, USER.get())

        token = USER.set("ada")

        assert run([Names(), AsyncNames()], [1]) == [(1, "ada", "ada")]
        USER.reset(token)

    def test_a_context_that_a_node_sets_stays_inside(self):
        class Setting:
            def process(self, item):
                USER.set("eve")
                return item

        async def main():
            await execute_pipeline_with_input([Setting()], [1])
            return USER.get()

        assert asyncio.run(main()) == "nobody"

    def test_calls_run_side_by_side(self):
        """Both calls are inside their nodes at once; otherwise the barrier breaks."""
        barrier = threading.Barrier(2, timeout=30)

        class Meeting:
            def process(self, item):
                barrier.wait()
                return item

        async def main():
            calls = [execute_pipeline_with_input([Meeting()], [item]) for item in (1, 2)]
            return await asyncio.gather(*calls)

        assert asyncio.run(main()) == [[1], [2]]

    def test_two_hundred_calls_run_side_by_side(self):
        async def main():
            return await asyncio.gather(*(execute_pipeline([AsyncSame(), Flushes(n)]) for n in range(200)))

        assert asyncio.run(main()) == list(range(200))

    def test_a_timeout_inside_an_async_node_works(self):
        class Impatient:
            async def process(self, item):
                try:
                    async with asyncio.timeout(0):
                        await asyncio.Event().wait()
                except TimeoutError:
                    return f"{item} was late"

        assert asyncio.run(execute_pipeline_with_input([Impatient()], ["a"])) == ["a was late"]


class Flushes:
    def __init__(self, output):
        self.output = output

    def flush(self):
        return self.output

    def process(self, item):
        return None


class TestPlainThread:
    def test_coroutines_get_a_loop_of_the_run(self):
        outputs, metrics = _core.run(of_list([AsyncSame(), GeneratingSame()]), [1, 2], False)

        assert (outputs, metrics) == ([1, 2], None)
        assert threading.enumerate() == [threading.main_thread()]

    def test_tasks_that_coroutines_left_running_are_cancelled(self):
        ended = []

        class Leaving:
            async def process(self, item):
                self.task = asyncio.create_task(self.stay())
                await asyncio.sleep(0)
                return item

            async def stay(self):
                try:
                    await asyncio.Event().wait()
                finally:
                    ended.append("stay")

        assert _core.run(of_list([Leaving()]), [1], False)[0] == [1]
        assert ended == ["stay"]


class TestInput:
    @pytest.mark.parametrize("at", [0, 1, 100, 1000])
    @pytest.mark.parametrize("is_async", [False, True])
    def test_an_error_of_the_input_passes_as_itself(self, run, at, is_async):
        error = OSError("the microphone is gone")
        node = Closing()

        def items():
            yield from range(at)
            raise error

        async def async_items():
            for item in items():
                yield item

        with pytest.raises(OSError, match="gone") as caught:
            run([node], async_items() if is_async else items())

        assert caught.value is error
        assert node.calls == ["process"] * at + ["cleanup"]

    def test_it_is_read_as_the_nodes_take_it(self):
        """Items that are processed singly are read singly."""
        calls = []

        def items():
            for item in range(3):
                calls.append(f"read {item}")
                yield item

        class Taking:
            def process(self, item):
                calls.append(f"take {item}")

        asyncio.run(execute_pipeline_with_input([Taking()], items()))

        assert calls == [f"{verb} {item}" for item in range(3) for verb in ("read", "take")]


class Closing:
    def __init__(self):
        self.calls = []

    def process(self, item):
        self.calls.append("process")

    def cleanup(self):
        self.calls.append("cleanup")


class TestNothingIsLeft:
    """After a run its threads and tasks have ended, and it keeps no references."""

    @pytest.mark.parametrize("kind", [Same, AsyncSame, GeneratingSame])
    @pytest.mark.parametrize("fails", [False, True])
    def test_threads_and_tasks_have_ended(self, kind, fails):
        nodes = [kind(), Asking(), Failing() if fails else Same()]

        async def main():
            before = tasks_of_the_process()
            try:
                await execute_pipeline_with_input(nodes, [1, 2, 3])
            except NodeError:
                assert fails
            return before, threading.enumerate(), asyncio.all_tasks()

        before, threads, tasks = asyncio.run(main())

        # For the system, a thread ends a little later than for Python.
        assert wait_until(lambda: tasks_of_the_process() <= before)
        assert threads == [threading.main_thread()]
        assert len(tasks) == 1

    @pytest.mark.parametrize("count", [3, 3000])
    @pytest.mark.parametrize("kind", [Same, AsyncSame, GeneratingSame])
    @pytest.mark.parametrize("fails", [False, True])
    def test_nodes_and_items_are_free(self, count, kind, fails):
        if kind is AsyncSame:
            count = min(count, 100)

        def go():
            nodes = [kind(), Failing(count - 1) if fails else Same()]
            items = [Item() for _ in range(count)]
            watched = [weakref.ref(thing) for thing in (*nodes, *items)]
            try:
                asyncio.run(execute_pipeline_with_input(nodes, items))
            except NodeError:
                assert fails
            return watched

        watched = go()
        gc.collect()

        assert [ref() for ref in watched] == [None] * (count + 2)


class Asking:
    def process(self, item):
        return threading.current_thread() and item


class Failing:
    def __init__(self, at=0):
        self.left = at

    def process(self, item):
        if not self.left:
            raise ValueError("bad item")
        self.left -= 1
        return item


def tasks_of_the_process():
    return len(list(Path("/proc/self/task").iterdir()))
