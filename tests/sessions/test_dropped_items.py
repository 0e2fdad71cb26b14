"""Outputs of a dropped item reach no caller, and each other caller receives exactly its own.

Generated scripts of calls that are cancelled, fail or are interrupted, and of streams that are left early,
for each kind of node and placement. Each item says who has put it in, so that a stray output is found.
"""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from epoch_nodes import KINDS, Pairs, node_of, outputs_of, result_of
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_nodes import AsyncHold, arrived

from remotemedia import Pipeline, with_options
from remotemedia.exceptions import NodeError, SessionClosedError, SessionInterruptedError

EXAMPLES = settings.default.max_examples

PAUSES = st.sampled_from([0, 0, 0.0002, 0.001])

STEPS = st.tuples(
    st.sampled_from(["calls", "cancelled", "interrupted", "failed", "left", "stream"]),
    st.lists(st.booleans(), min_size=1, max_size=4),
    PAUSES,
)

SCRIPTS = st.lists(STEPS, min_size=2, max_size=5)


def near(test):
    """For every kind of node in this process."""
    test = settings(max_examples=max(EXAMPLES // 20, 1))(given(SCRIPTS)(test))
    test = pytest.mark.parametrize("placement", ["inline", "thread"])(test)
    return pytest.mark.parametrize("kind", KINDS)(test)


def far(*kinds):
    """The same in workers, whose start takes longer than a script."""

    def decorate(test):
        test = settings(max_examples=max(EXAMPLES // 100, 1))(given(SCRIPTS)(test))
        return pytest.mark.parametrize("kind", kinds)(test)

    return decorate


class Script:
    """One session, and a caller with its own name for each step."""

    def __init__(self, kind, steps, placement):
        self.kind = kind
        self.steps = [step for step in steps if not (kind == "batch" and step[0] == "failed")]
        self.placement = placement

    def open(self):
        return Pipeline([node_of(self.kind)]).open(placement=self.placement)

    def check(self, item, result):
        """A result is that of the item, or an error of a kind that the step allows."""
        if not isinstance(result, BaseException):
            assert result == result_of(self.kind, item)

    def check_stream(self, items, outputs, *, is_whole):
        expected = [output for item in items for output in outputs_of(self.kind, item)]
        assert outputs == (expected if is_whole else expected[: len(outputs)])


async def run_async(script):
    async with asyncio.timeout(50), script.open() as session:
        for number, (step, flags, pause) in enumerate(script.steps):
            await ASYNC_STEPS[step](script, session, f"caller {number}", flags, pause)
        late = [asyncio.create_task(session.call(("late", number))) for number in range(3)]
        await asyncio.sleep(0)
        await session.close()
        for number, result in enumerate(await asyncio.gather(*late, return_exceptions=True)):
            assert isinstance(result, SessionClosedError) or result == result_of(
                script.kind, ("late", number)
            )


async def begin_calls(session, caller, flags, pause):
    items = [(caller, number) for number in range(len(flags))]
    calls = [asyncio.create_task(session.call(item)) for item in items]
    await asyncio.sleep(pause)
    return items, calls


async def all_get_their_own(script, session, caller, flags, pause):
    items, calls = await begin_calls(session, caller, flags, pause)
    for item, result in zip(items, await asyncio.gather(*calls), strict=True):
        script.check(item, result)


async def cancel_some(script, session, caller, flags, pause):
    items, calls = await begin_calls(session, caller, flags, pause)
    for call, is_cancelled in zip(calls, flags, strict=True):
        if is_cancelled:
            call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    for item, result, is_cancelled in zip(items, results, flags, strict=True):
        assert is_cancelled or not isinstance(result, BaseException), result
        assert not isinstance(result, BaseException) or isinstance(result, asyncio.CancelledError)
        script.check(item, result)
    await all_get_their_own(script, session, f"after {caller}", flags[:1], 0)


async def interrupt_some(script, session, caller, flags, pause):
    items, calls = await begin_calls(session, caller, flags, pause)
    await session.interrupt()
    for item, result in zip(items, await asyncio.gather(*calls, return_exceptions=True), strict=True):
        assert not isinstance(result, BaseException) or isinstance(result, SessionInterruptedError)
        script.check(item, result)
    await all_get_their_own(script, session, f"after {caller}", flags[:1], 0)


async def fail_some(script, session, caller, flags, pause):
    items = [(caller, -1 - number if fails else number) for number, fails in enumerate(flags)]
    calls = [asyncio.create_task(session.call(item)) for item in items]
    for item, result in zip(items, await asyncio.gather(*calls, return_exceptions=True), strict=True):
        assert isinstance(result, NodeError) == (item[1] < 0), result
        script.check(item, result)


async def leave_a_stream(script, session, caller, flags, pause):
    items = [(caller, number) for number in range(40)]
    async with contextlib.aclosing(session.map(items)) as stream:
        outputs = [await anext(stream) for _ in flags]
        await asyncio.sleep(pause)
    script.check_stream(items, outputs, is_whole=False)
    await all_get_their_own(script, session, f"after {caller}", flags[:1], 0)


async def take_a_stream(script, session, caller, flags, pause):
    items = [(caller, number) for number in range(len(flags))]
    script.check_stream(items, [output async for output in session.map(items)], is_whole=True)


ASYNC_STEPS = {
    "calls": all_get_their_own,
    "cancelled": cancel_some,
    "interrupted": interrupt_some,
    "failed": fail_some,
    "left": leave_a_stream,
    "stream": take_a_stream,
}


@near
def test_dropped_items_reach_no_caller(kind, placement, steps):
    asyncio.run(run_async(Script(kind, steps, placement)))


@far(*KINDS)
def test_dropped_items_reach_no_caller_from_a_worker(kind, steps):
    asyncio.run(run_async(Script(kind, steps, "process")))


def run_sync(script):
    with ThreadPoolExecutor(4) as threads, script.open() as session:
        for number, (step, flags, _) in enumerate(script.steps):
            caller = f"caller {number}"
            items = [(caller, number) for number in range(40)]
            if step == "left":
                with contextlib.closing(session.map(items)) as stream:
                    outputs = [next(stream) for _ in flags]
                script.check_stream(items, outputs, is_whole=False)
            elif step == "stream":
                script.check_stream(items, list(session.map(items)), is_whole=True)
            else:
                fails = [step == "failed" and flag for flag in flags]
                items = [(caller, -1 - number if fail else number) for number, fail in enumerate(fails)]
                calls = [(item, threads.submit(session.call, item)) for item in items]
                if step == "interrupted":
                    session.interrupt()
                check_calls(script, calls, may_be_interrupted=step == "interrupted")
            script.check(("after", number), session.call(("after", number)))


def check_calls(script, calls, *, may_be_interrupted):
    for item, call in calls:
        error = call.exception()
        assert isinstance(error, NodeError) == (item[1] < 0), error
        assert not isinstance(error, SessionInterruptedError) or may_be_interrupted
        script.check(item, error or call.result())


@near
def test_threads_get_exactly_their_own(kind, placement, steps):
    run_sync(Script(kind, steps, placement))


@far("def", "streaming", "concurrency")
def test_threads_get_exactly_their_own_from_a_worker(kind, steps):
    run_sync(Script(kind, steps, "process"))


NEAR = pytest.mark.parametrize("placement", ["inline", "thread"])

PLACEMENTS = pytest.mark.parametrize("placement", ["inline", "thread", "process"])


@PLACEMENTS
def test_pending_outputs_of_a_closed_stream_are_dropped(placement):
    with Pipeline([Pairs()]).open(placement=placement) as session:
        with contextlib.closing(session.map(["a", "b", "c", "d"])) as stream:
            first = next(stream)
        held = session.call("new")
        pair = session.call("newer")

    assert (first, held, pair) == (("a", "b"), None, ("new", "newer"))


@NEAR
def test_pending_outputs_of_a_cancelled_call_are_dropped(placement):
    async def main():
        hold = AsyncHold(("old 1", "old 2"))
        async with Pipeline([Pairs(), with_options(hold, placement="thread")]).open(
            placement=placement
        ) as session:
            await session.call("old 1")
            call = asyncio.create_task(session.call("old 2"))
            await arrived(hold.is_there)
            call.cancel()
            # The cancellation takes effect at the next turn of the task.
            with contextlib.suppress(asyncio.CancelledError):
                await call
            return await session.call("new 1"), await session.call("new 2")

    assert asyncio.run(main()) == (None, ("new 1", "new 2"))


@PLACEMENTS
def test_a_streaming_node_restarts_after_a_failure(placement):
    """It had ended with the failure, and all later items were lost without an error."""
    with Pipeline([node_of("streaming")]).open(placement=placement) as session:
        with pytest.raises(NodeError):
            session.call(("one", -1))

        assert session.call(("other", 1)) == result_of("streaming", ("other", 1))


@NEAR
def test_a_call_that_is_dropped_while_it_waits_ends_no_run(placement):
    """A run that has not received an item keeps nothing of it."""

    class Waits(Pairs):
        async def process(self, items):
            async with contextlib.aclosing(super().process(self.held_up(items))) as pairs:
                async for pair in pairs:
                    yield pair

        async def held_up(self, items):
            async for item in items:
                if item == "a":
                    has_begun.set()
                    await may_continue.wait()
                yield item

    async def main():
        async with Pipeline([Waits()]).open(placement=placement) as session:
            first, waiting = (asyncio.create_task(session.call(item)) for item in "ab")
            await has_begun.wait()
            waiting.cancel()
            await asyncio.wait([waiting])
            may_continue.set()
            await first
            return await session.call("c")

    has_begun, may_continue = asyncio.Event(), asyncio.Event()

    assert asyncio.run(main()) == ("a", "c")
