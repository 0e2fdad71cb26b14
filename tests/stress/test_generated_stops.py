"""Generated pipelines that are cancelled, interrupted or closed while one of their nodes works.

A node chooses the moment: one of its calls cancels the task, or wakes the task that interrupts. Wherever the
nodes run, each input has one end, each node is cleaned up once, and nothing is left.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from contextlib import aclosing
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from leftovers import nothing_remains
from option_cases import origin_of
from placed_cases import FORMS, expected_of, input_of, is_lived_once, item_at, pipeline_of, stopped_cases

from remotemedia import execute_pipeline_with_input
from remotemedia._graph.output_shape import shape
from remotemedia.exceptions import SessionClosedError, SessionInterruptedError

NEW_ITEMS = 5
CALLS = 4


def arrange(case, moment, act, *, is_direct=False):
    """Return the pipeline of a case, one of whose nodes has `act` called on the event loop at the moment.

    If `is_direct`, a node on the event loop calls it itself, during `process`.
    """
    pipeline, nodes = pipeline_of(case)
    loop, thread = asyncio.get_running_loop(), threading.get_ident()

    def at_moment():
        if is_direct and threading.get_ident() == thread:
            act()
        else:
            loop.call_soon_threadsafe(act)

    nodes[moment.index].at_moment = at_moment
    nodes[moment.index].moment = moment.call
    return pipeline, nodes


def run_and_check(work, nodes_of):
    """Run a coroutine; check that no task, thread or file is left and that the nodes were cleaned up once."""

    async def main():
        result = await work
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    with nothing_remains():
        result = asyncio.run(main())
    assert all(is_lived_once(node) for node in nodes_of)
    return result


async def outcome_of(task):
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    return outcome


async def cancel_run(case, moment, form, kept, *, is_direct):
    def cancel():
        task.cancel()

    pipeline, nodes = arrange(case, moment, cancel, is_direct=is_direct)
    kept += nodes
    task = asyncio.create_task(execute_pipeline_with_input(pipeline, input_of(form, case.count)))
    return await outcome_of(task)


def check_cancelled_run(case, moment, form, is_direct):
    expected, nodes = asyncio.run(expected_of(case)), []

    outcome = run_and_check(cancel_run(case, moment, form, nodes, is_direct=is_direct), nodes)

    assert isinstance(outcome, asyncio.CancelledError) or outcome == expected.whole()


async def cancel_stream(case, moment, form, kept, *, is_direct):
    """Cancel a task that takes outputs; return how it ended, what it took, and the result of a later call."""
    taken = []

    def cancel():
        task.cancel()

    async def take(session):
        async with aclosing(session.map(input_of(form, case.count))) as outputs:
            async for output in outputs:
                taken.append(output)  # noqa: PERF401 - Those before the cancellation count.

    pipeline, nodes = arrange(case, moment, cancel, is_direct=is_direct)
    kept += nodes
    async with pipeline.open() as session:
        task = asyncio.create_task(take(session))
        outcome = await outcome_of(task)
        return outcome, taken, await session.call(item_at(0))


def check_cancelled_stream(case, moment, form, is_direct):
    expected, nodes = asyncio.run(expected_of(case)), []

    outcome, taken, later = run_and_check(
        cancel_stream(case, moment, form, nodes, is_direct=is_direct), nodes
    )

    whole = expected.whole()
    assert taken == (whole if outcome is None else whole[: len(taken)])
    assert outcome is None or isinstance(outcome, asyncio.CancelledError)
    assert later == shape(expected.of_items[0])


async def cancel_calls(case, moment, third, kept, *, is_direct):
    """Cancel every third call; return the ends of all calls, and the result of a later one."""

    def cancel():
        for task in tasks[third::3]:
            task.cancel()

    pipeline, nodes = arrange(case, moment, cancel, is_direct=is_direct)
    kept += nodes
    async with pipeline.open() as session:
        tasks = [asyncio.create_task(session.call(item_at(index))) for index in range(case.count)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        return results, await session.call(item_at(0))


def check_cancelled_calls(case, moment, third, is_direct):
    expected, nodes = asyncio.run(expected_of(case)), []

    results, later = run_and_check(cancel_calls(case, moment, third, nodes, is_direct=is_direct), nodes)

    for index, (result, outputs) in enumerate(zip(results, expected.of_items, strict=True)):
        is_victim = index % 3 == third
        assert result == shape(outputs) or (is_victim and isinstance(result, asyncio.CancelledError))
    assert later == shape(expected.of_items[0])


class Interrupted:
    """A session with a stream and some calls, which is interrupted at the moment."""

    def __init__(self, case, moment, *, with_metrics):
        self.with_metrics = with_metrics
        self.old_count = case.count
        self.moment_has_come = asyncio.Event()
        self.is_back = asyncio.Event()
        self.pipeline, self.nodes = arrange(case, moment, self.moment_has_come.set)
        self.begun = self.first_allowed = self.dropped = self.most_dropped = 0
        self.taken = []
        self.results = []
        self.metrics = {}

    async def run(self):
        async with self._open() as session, asyncio.TaskGroup() as group:
            group.create_task(self.interrupt(session))
            group.create_task(self.take(session))
            calls = [group.create_task(self.call(session, index)) for index in range(CALLS)]
            await self.produce(session, range(self.old_count))
            await asyncio.wait(calls)
            await session.drain()
            # Some pipelines never come so far.
            self.moment_has_come.set()
            await self.is_back.wait()
            await self.produce(session, range(self.old_count, self.old_count + NEW_ITEMS))
            session.end()
        self.metrics = session.metrics()

    def _open(self):
        return self.pipeline.open(enable_metrics=self.with_metrics)

    async def produce(self, session, indices):
        for index in indices:
            self.begun = index + 1
            await session.put(item_at(index))

    async def take(self, session):
        async for output in session:
            self.taken.append((self.is_back.is_set(), origin_of(output), output))

    async def call(self, session, index):
        try:
            self.results.append((index, await session.call(item_at(index))))
        except SessionInterruptedError:
            self.results.append((index, SessionInterruptedError))

    async def interrupt(self, session):
        await self.moment_has_come.wait()
        self.first_allowed = self.begun
        self.dropped = await session.interrupt()
        # On threads, it drops what comes in until it takes effect.
        self.most_dropped = self.begun + CALLS
        self.is_back.set()


def check_interrupted(case, moment, with_metrics):
    whole = replace(case, count=case.count + NEW_ITEMS)
    expected, nodes = asyncio.run(expected_of(whole)), []

    async def work():
        interrupted = Interrupted(case, moment, with_metrics=with_metrics)
        nodes.extend(interrupted.nodes)
        await interrupted.run()
        return interrupted

    seen = run_and_check(work(), nodes)

    late = [origin for is_late, origin, _ in seen.taken if is_late and origin >= 0]
    assert all(origin >= seen.first_allowed for origin in late)
    check_ends(case, seen, expected)


def check_ends(case, seen, expected):
    """Check that each item gave all of its outputs, or was dropped and gave the first of them."""
    *_, last = [0, *(index for index, (_, origin, _) in enumerate(seen.taken) if origin >= 0)]
    in_stream = [(origin, output) for _, origin, output in seen.taken[: last + 1] if origin >= 0]
    assert [origin for origin, _ in in_stream] == sorted(origin for origin, _ in in_stream)
    assert [output for _, origin, output in seen.taken if origin < 0] == expected.last

    groups = itertools.groupby(in_stream, key=lambda pair: pair[0])
    outputs_of = {origin: [output for _, output in pairs] for origin, pairs in groups}
    for index, outputs in enumerate(expected.of_items):
        found = outputs_of.get(index, [])
        assert found == outputs[: len(found)]
        assert index < case.count or found == outputs

    for index, result in seen.results:
        assert result in (shape(expected.of_items[index]), SessionInterruptedError)
    # Work that ends just before the interruption is dropped, too, but it is not counted.
    assert seen.dropped <= seen.most_dropped
    assert seen.metrics is None or seen.metrics["interrupted"] == seen.dropped


async def close_session(case, moment, kept):
    """Close the session of some calls and a stream; return the ends of the calls, and what was taken."""
    has_come, taken = asyncio.Event(), []

    async def take(session):
        async for output in session.map(input_of("list", case.count)):
            taken.append(output)  # noqa: PERF401 - Those before the end count.

    pipeline, nodes = arrange(case, moment, has_come.set)
    kept += nodes
    async with pipeline.open() as session:
        tasks = [asyncio.create_task(session.call(item_at(index))) for index in range(case.count)]
        tasks.append(asyncio.create_task(take(session)))
        ended = asyncio.gather(*tasks, return_exceptions=True)
        ended.add_done_callback(lambda _: has_come.set())
        await has_come.wait()
        await session.close()
        *results, stream = await ended
    return results, stream, taken


def check_closed(case, moment):
    expected, nodes = asyncio.run(expected_of(case)), []

    results, stream, taken = run_and_check(close_session(case, moment, nodes), nodes)

    for result, outputs in zip(results, expected.of_items, strict=True):
        assert isinstance(result, SessionClosedError) or result == shape(outputs)
    whole = expected.whole()
    assert taken == (whole if stream is None else whole[: len(taken)])
    assert stream is None or isinstance(stream, SessionClosedError)


@settings(max_examples=60)
@given(stopped_cases(), st.sampled_from(FORMS), st.booleans())
def test_a_cancelled_run_leaves_nothing(stopped, form, is_direct):
    check_cancelled_run(*stopped, form, is_direct)


@settings(max_examples=60)
@given(stopped_cases(), st.sampled_from(FORMS), st.booleans())
def test_a_cancelled_stream_leaves_its_session_usable(stopped, form, is_direct):
    check_cancelled_stream(*stopped, form, is_direct)


@settings(max_examples=60)
@given(stopped_cases(), st.integers(0, 2), st.booleans())
def test_cancelled_calls_leave_the_others_alone(stopped, third, is_direct):
    check_cancelled_calls(*stopped, third, is_direct)


@settings(max_examples=60)
@given(stopped_cases(), st.booleans())
def test_nothing_old_comes_after_an_interruption(stopped, with_metrics):
    check_interrupted(*stopped, with_metrics)


@settings(max_examples=60)
@given(stopped_cases())
def test_a_closed_session_ends_its_calls(stopped):
    check_closed(*stopped)


CHECKS = {
    "run": check_cancelled_run,
    "stream": check_cancelled_stream,
    "calls": check_cancelled_calls,
    "interrupt": check_interrupted,
    "close": check_closed,
}


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("what", CHECKS)
@settings(max_examples=1000)
@given(stopped_cases(), st.sampled_from(FORMS), st.integers(0, 2), st.booleans())
def test_many_cases_end_as_they_should(what, stopped, form, third, is_direct):
    more = {
        "run": (form, is_direct),
        "stream": (form, is_direct),
        "calls": (third, is_direct),
        "interrupt": (is_direct,),
    }
    CHECKS[what](*stopped, *more.get(what, ()))
