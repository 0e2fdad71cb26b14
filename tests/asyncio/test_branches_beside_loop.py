"""Branches with nodes on the event loop and on the thread beside it."""

from __future__ import annotations

import asyncio
import threading

import pytest
from branch_nodes import LATE, Coroutine, Unusual, counts
from hypothesis import given
from hypothesis import strategies as st
from stream_nodes import TIMEOUT_SECS

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia._loop.stages.threads import NodeThread
from remotemedia._session.loop.session import LoopSession
from remotemedia.exceptions import NodeError, SessionInterruptedError

PLACES = [{}, {"placement": "inline"}]


@st.composite
def mixed_graphs(draw):
    """Draw for each node its class, kind of results, nodes before it and place, and whether it joins."""
    nodes = []
    for index in range(draw(st.integers(2, 6))):
        ids = [f"n{one}" for one in range(index)]
        after = draw(st.lists(st.sampled_from(ids), max_size=3, unique=True)) if ids else []
        nodes.append(
            (
                draw(st.sampled_from([Unusual, Unusual, Coroutine])),
                draw(st.sampled_from(["plain", "plain", "drops", "fails", *LATE])),
                after,
                draw(st.sampled_from(PLACES)),
                bool(after) and draw(st.booleans()),
            )
        )
    return nodes


def pipeline_of(graph, log):
    pipeline = Pipeline("mixed")
    for index, (node_class, kind, after, place, join) in enumerate(graph):
        name = f"n{index}"
        pipeline.add_node(node_class(kind, name, log), id=name, after=after, join=join, **place)
    return pipeline


async def seen(graph, inputs, *, use_rust, enable_metrics):
    """Run a graph; return its outputs and counts or its error, and the calls."""
    log = []
    options = {"use_rust": use_rust, "enable_metrics": enable_metrics}
    try:
        outputs = await execute_pipeline_with_input(pipeline_of(graph, log), inputs, **options)
    except NodeError as error:
        return (error.node_id, error.item_index, error.phase, str(error)), log
    return (outputs["outputs"], counts(outputs["metrics"])) if enable_metrics else outputs, log


@given(mixed_graphs(), st.integers(1, 4), st.booleans())
def test_a_run_is_as_in_the_reference(graph, count, enable_metrics):
    inputs = [*range(count)]

    engine, calls = asyncio.run(seen(graph, inputs, use_rust=True, enable_metrics=enable_metrics))
    reference, wanted = asyncio.run(seen(graph, inputs, use_rust=False, enable_metrics=enable_metrics))

    assert engine == reference
    if count == 1:
        # Of several items, each goes as far as it can in one place before the next.
        assert calls == wanted


@given(mixed_graphs(), st.booleans())
def test_a_session_gives_to_each_item_what_a_run_does(graph, enable_metrics):
    async def results_of_calls():
        results = []
        async with pipeline_of(graph, []).open(enable_metrics=enable_metrics) as session:
            for item in range(3):
                try:
                    result = await session.call(item)
                except NodeError as error:
                    return [*results, error.node_id]
                results += result if type(result) is list else [] if result is None else [result]
        return results

    results = asyncio.run(results_of_calls())

    outputs, _ = asyncio.run(seen(graph, [*range(3)], use_rust=False, enable_metrics=False))
    if type(outputs) is tuple:
        # The run has no outputs; an error in `flush` is none of a call.
        assert outputs[2] == "flush" or results[-1] == outputs[0]
    else:
        assert results == outputs[: len(results)]


class Notes:
    """Records the threads of its calls."""

    def __init__(self):
        self.threads = set()

    def process(self, item):
        self.threads.add(threading.get_ident())
        return item


class NotesLater(Notes):
    async def process(self, item):
        return super().process(item)


def diamond(*nodes, last=None):
    """Return a pipeline of a first node, branches, and a last node that joins them."""
    first, *branches = nodes
    pipeline = Pipeline("diamond").add_node(first, id="first")
    for index, branch in enumerate(branches):
        pipeline.add_node(branch, id=f"b{index}", after="first")
    ids = [f"b{index}" for index in range(len(branches))]
    return pipeline.add_node(last or Notes(), id="last", after=ids, join=True)


@pytest.mark.parametrize("is_session", [False, True])
def test_each_node_runs_in_its_place(is_session):
    async def main():
        here, beside, last = NotesLater(), Notes(), Notes()
        pipeline = diamond(with_options(Notes(), placement="inline"), here, beside, last=last)
        if is_session:
            async with pipeline.open() as session:
                assert isinstance(session, LoopSession)
                assert [output async for output in session.map([1])] == [{"b0": 1, "b1": 1}]
        else:
            assert await pipeline.run([1]) == [{"b0": 1, "b1": 1}]
        return here.threads, beside.threads, last.threads

    here, beside, last = asyncio.run(main())

    assert here == {threading.get_ident()}
    assert beside == last != here


@pytest.mark.parametrize("way", ["run", "map"])
def test_items_that_wait_cross_together(monkeypatch, way):
    jobs, begin = [], NodeThread.begin
    monkeypatch.setattr(NodeThread, "begin", lambda thread, work: jobs.append(1) or begin(thread, work))

    async def main():
        pipeline = diamond(Notes(), NotesLater(), Notes())
        if way == "run":
            return await pipeline.run(range(1000))
        async with pipeline.open() as session:
            return [output async for output in session.map(range(1000))]

    assert len(asyncio.run(main())) == 1000
    assert len(jobs) < 300


@pytest.mark.parametrize("stop", ["cancel", "interrupt"])
def test_a_stopped_item_leaves_nothing_in_its_branches(stop):
    class Holds(Notes):
        def __init__(self):
            super().__init__()
            self.is_inside, self.may_go, self.items = threading.Event(), threading.Event(), []

        def process(self, item):
            self.items.append(item)
            if item == 1:
                self.is_inside.set()
                assert self.may_go.wait(TIMEOUT_SECS)
            return item

    class Records(Notes):
        def __init__(self):
            self.items = []

        def process(self, item):
            self.items.append(item)
            return item

    async def main():
        holds, behind = Holds(), Records()
        async with diamond(Notes(), NotesLater(), Notes(), holds, behind).open() as session:
            call = asyncio.create_task(session.call(1))
            await asyncio.to_thread(holds.is_inside.wait)
            if stop == "cancel":
                call.cancel()
                stopping = None
            else:
                stopping = asyncio.create_task(session.interrupt())
            # The call is stopped before its node returns.
            for _ in range(10):
                await asyncio.sleep(0)
            holds.may_go.set()
            with pytest.raises(asyncio.CancelledError if stopping is None else SessionInterruptedError):
                await call
            if stopping is not None:
                assert await stopping == 1
            return await session.call(2), holds.items, behind.items

    result, held, behind = asyncio.run(main())

    assert result == {"b0": 2, "b1": 2, "b2": 2, "b3": 2}
    # What had not begun did not begin.
    assert (held, behind) == ([1, 2], [2])


def test_a_late_result_that_is_not_needed_is_closed():
    """Python would warn about a coroutine that is never awaited."""

    class Promises:
        def process(self, item):
            return self.later(item)

        async def later(self, item):
            if item == 9:
                is_inside.set()
                await asyncio.Event().wait()
            return item

    async def main():
        nonlocal is_inside
        is_inside = asyncio.Event()
        run = asyncio.create_task(diamond(Promises(), NotesLater(), Promises()).run(range(200)))
        await is_inside.wait()
        run.cancel()
        await asyncio.wait([run])
        return run.cancelled()

    is_inside = None
    assert asyncio.run(main())


def test_an_item_that_fails_in_a_branch_is_skipped_there_alone():
    class Fails(Notes):
        def process(self, item):
            if item == 1:
                raise ValueError(item)
            return item

    async def main():
        pipeline = diamond(NotesLater(), with_options(Fails(), on_error="skip"), Notes())
        return await pipeline.run(range(3))

    assert asyncio.run(main()) == [{"b0": 0, "b1": 0}, {"b0": None, "b1": 1}, {"b0": 2, "b1": 2}]


@pytest.mark.parametrize("is_session", [False, True])
@pytest.mark.parametrize("last", [Notes, NotesLater])
def test_items_and_outputs_are_counted(is_session, last):
    async def main():
        pipeline = diamond(Notes(), NotesLater(), Notes(), last=last())
        if not is_session:
            return (await pipeline.run(range(3), enable_metrics=True))["metrics"]
        async with pipeline.open(enable_metrics=True) as session:
            assert isinstance(session, LoopSession)
            for item in range(3):
                await session.call(item)
            return session.metrics()

    of_pipeline, of_nodes = counts(asyncio.run(main()))

    assert of_pipeline[:2] == [3, 3]
    assert [(node["items_in"], node["items_out"]) for node in of_nodes] == [(3, 3)] * 4
