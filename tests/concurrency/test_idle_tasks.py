"""Coroutines behind a thread: a callback of the loop does their first step, and an idle task the rest."""

from __future__ import annotations

import asyncio
import contextvars
import time

import pytest

from remotemedia import Pipeline, with_options
from remotemedia._loop.sessions.streams.idle_tasks import IdleTask
from remotemedia._loop.sessions.streams.staged import StagedStream
from remotemedia.exceptions import NodeError

ITEMS = range(6)

noted = contextvars.ContextVar("noted", default=-1)


class Slow:
    """Takes longer than the loop waits for."""

    def process(self, item):
        time.sleep(0.001)
        return item


class Behaves:
    """A node with one of the behaviours below."""

    def __init__(self, behave):
        self.behave = behave
        self.has_ended = asyncio.Event()

    async def process(self, item):
        try:
            return await self.behave(item)
        finally:
            self.has_ended.set()


async def at_once(item):
    return item + 1


async def filters(item):
    return item if item % 2 else None


async def sleeps(item):
    await asyncio.sleep(0)
    return item


async def sleeps_after_the_first_step(item):
    await asyncio.sleep(0.001 * (item % 2))
    return asyncio.current_task() in asyncio.all_tasks()


async def fails(item):
    if item % 3 == 1:
        raise ValueError(item)
    return item


async def fails_later(item):
    await asyncio.sleep(0)
    return await fails(item)


async def waits_for_others(item):
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(sleeps(item + place)) for place in range(2)]
    return [task.result() for task in tasks]


async def runs_out_of_time(item):
    try:
        async with asyncio.timeout(0 if item % 2 else 10):
            await asyncio.sleep(0.001 if item % 2 == 0 else 10)
    except TimeoutError:
        return "late"
    return item


async def sets_a_variable(item):
    before = noted.get()
    if item > 1:
        noted.set(item)
    return before


async def returns_something_to_await(item):
    return sleeps(item)


async def raises_a_cancellation(item):
    if item == 2:
        raise asyncio.CancelledError
    return item


BEHAVIOURS = [
    at_once,
    filters,
    sleeps,
    sleeps_after_the_first_step,
    fails,
    fails_later,
    waits_for_others,
    runs_out_of_time,
    sets_a_variable,
    returns_something_to_await,
    raises_a_cancellation,
]


def behind_thread(node):
    return Pipeline([with_options(Slow(), placement="thread"), node])


async def outcomes(behave):
    """Return what becomes of items of which each comes when the one before is done."""
    node = Behaves(behave)

    async def items():
        for item in ITEMS:
            node.has_ended.clear()
            yield item
            await node.has_ended.wait()

    found = []
    async with behind_thread(node).open() as session:
        for _ in range(3):
            try:
                async for output in session.map(items()):
                    found.append(output)  # noqa: PERF401 - Those before a failure, too.
            except NodeError as error:
                found.append((error.node_id, error.item_index, repr(error.__cause__)))
            except asyncio.CancelledError:
                found.append("cancelled")
    return found


@pytest.mark.parametrize("behave", BEHAVIOURS)
def test_the_first_step_in_a_callback_changes_no_outcome(behave, monkeypatch):
    begun = []
    begin = IdleTask.begin

    def counted(idle, work):
        begun.append(work)
        return begin(idle, work)

    monkeypatch.setattr(IdleTask, "begin", counted)
    in_callbacks = asyncio.run(outcomes(behave))
    monkeypatch.setattr(StagedStream, "_go_on_at_once", lambda *_: False)

    assert (asyncio.run(outcomes(behave)), begun != []) == (in_callbacks, True)


FAILURE = ("Behaves_1", 1, "ValueError(1)")


@pytest.mark.parametrize(
    ("behave", "outputs"),
    [
        (at_once, [1, 2, 3, 4, 5, 6]),
        (filters, [1, 3, 5]),
        (returns_something_to_await, [0, 1, 2, 3, 4, 5]),
        (fails, [0, FAILURE]),
        (fails_later, [0, FAILURE]),
    ],
)
def test_each_item_has_its_outcome(behave, outputs):
    assert asyncio.run(outcomes(behave))[: len(outputs)] == outputs


def test_an_interruption_cancels_what_a_node_awaits():
    cancelled = []

    async def run():
        reached = asyncio.Event()

        async def awaits_another_task(item):
            if item:
                child = asyncio.ensure_future(asyncio.sleep(10))
                child.add_done_callback(lambda child: cancelled.append(child.cancelled()))
                reached.set()
                await child
            return item

        async with behind_thread(Behaves(awaits_another_task)).open() as session:
            outputs = aiter(session)
            await session.put(0)
            assert await anext(outputs) == 0
            await session.put(1)
            await reached.wait()
            await session.interrupt()
            await session.put(0)
            assert await anext(outputs) == 0

    asyncio.run(run())
    assert cancelled == [True]


class Work:
    """Work for an idle task, and what became of it."""

    def __init__(self):
        self.log = []

    async def do(self, awaited):
        try:
            self.log.append(await awaited)
        except BaseException as error:
            self.log.append(type(error).__name__)
            raise


async def idle_for_ever(found, context):
    """Be an idle task that is given work once."""
    idle = IdleTask(context)
    found.append(idle)
    error = None
    try:
        await idle.chunk
    except BaseException as raised:
        if not idle.has_begun:
            raise
        error = raised
    await idle.rest(error)


async def idle_task():
    context = contextvars.copy_context()
    found = []
    task = asyncio.get_running_loop().create_task(idle_for_ever(found, context), context=context)
    await asyncio.sleep(0)
    return task, found[0]


def in_callback(function):
    """Call a function where no task runs."""
    is_done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: is_done.set_result(function()))
    return is_done


class TestRests:
    """The rest of work whose first step a callback has done."""

    def test_nothing_begins_where_another_task_runs(self):
        async def run():
            task, idle = await idle_task()
            work = Work().do(task)
            assert idle.begin(work) is None
            work.close()
            task.cancel()

        asyncio.run(run())

    def test_a_task_that_is_cancelled_before_it_goes_on_cancels_what_the_work_awaits(self):
        async def run():
            work, child = Work(), asyncio.ensure_future(asyncio.sleep(10))
            task, idle = await idle_task()
            await in_callback(lambda: (idle.begin(work.do(child)), task.cancel()))
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (work.log, child.cancelled()) == (["CancelledError"], True)

        asyncio.run(run())

    def test_a_task_that_is_cancelled_before_it_goes_on_stops_work_that_gives_a_turn(self):
        async def run():
            work = Work()
            task, idle = await idle_task()
            await in_callback(lambda: (idle.begin(work.do(asyncio.sleep(0))), task.cancel()))
            with pytest.raises(asyncio.CancelledError):
                await task
            assert work.log == ["CancelledError"]

        asyncio.run(run())

    def test_what_ends_meanwhile_is_not_missed(self):
        async def run():
            work, awaited = Work(), asyncio.get_running_loop().create_future()
            task, idle = await idle_task()
            await in_callback(lambda: (idle.begin(work.do(awaited)), awaited.set_result("value")))
            await task
            assert work.log == ["value"]

        asyncio.run(run())

    def test_a_loop_that_no_longer_runs_closes_the_work(self):
        work = Work()

        async def run():
            awaited = asyncio.get_running_loop().create_future()
            task, idle = await idle_task()
            await in_callback(lambda: idle.begin(work.do(awaited)))
            await asyncio.sleep(0)
            task.get_coro().close()
            task._log_destroy_pending = False

        loop = asyncio.new_event_loop()
        loop.run_until_complete(run())
        loop.close()
        assert work.log == ["GeneratorExit"]
