"""Metrics of nodes on the event loop and on threads beside it: counts are those of the reference executor."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placed_cases import cases, input_of, is_lived_once, item_at, pipeline_of
from policy_nodes import LONG_PAUSE, Flaky, Hangs, fail
from stream_nodes import TIMEOUT_SECS

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia._session.loop.session import LoopSession
from remotemedia._session.threaded_session import ThreadedSession
from remotemedia.exceptions import NodeError, SessionInterruptedError

COUNTS = ("items_in", "items_out", "errors", "failures", "retries", "skipped", "dead_lettered")


def counts_of(metrics):
    """Return the metrics that do not depend on the clock, of the pipeline and of its nodes."""
    names = ("node_id", "node_type", "placement", *COUNTS, "interrupted", "dropped", "restarts")
    nodes = [tuple(node[name] for name in names) for node in metrics["node_metrics"]]
    return tuple(metrics[name] for name in COUNTS), nodes


async def by_run(pipeline, count, *, use_rust=True):
    items = input_of("list", count)
    result = await execute_pipeline_with_input(pipeline, items, enable_metrics=True, use_rust=use_rust)
    return counts_of(result["metrics"])


async def by_map(pipeline, count):
    async with pipeline.open(enable_metrics=True) as session:
        async for _ in session.map(input_of("async generator", count)):
            pass
        return counts_of(session.metrics())


async def by_put(pipeline, count):
    async def put_all(session):
        for index in range(count):
            await session.put(item_at(index))
        session.end()

    async with pipeline.open(enable_metrics=True) as session:
        putting = asyncio.create_task(put_all(session))
        async for _ in session:
            pass
        await putting
        return counts_of(session.metrics())


async def by_call(pipeline, count):
    async with pipeline.open(enable_metrics=True) as session:
        for index in range(count):
            await session.call(item_at(index))
        return counts_of(session.metrics())


WAYS = {"run": by_run, "map": by_map, "put": by_put, "call": by_call}


def check(case, way):
    # A call does not flush.
    wanted = replace(case, parts=tuple(replace(part, has_flush=False) for part in case.parts))
    wanted = wanted if way == "call" else case
    pipeline, _ = pipeline_of(wanted)
    reference = asyncio.run(by_run(pipeline, case.count, use_rust=False))

    pipeline, nodes = pipeline_of(case)
    engine = asyncio.run(WAYS[way](pipeline, case.count))

    assert engine == reference
    assert all(is_lived_once(node) for node in nodes)


def handled(case):
    """Return the same pipeline, in which no item fails without being skipped or dead-lettered."""
    parts = []
    for part in case.parts:
        if part.kind == "streaming":
            changed = replace(part, fails_on=frozenset())
        elif part.fails_on and not ("skip" in part.policy or "letter" in part.policy):
            changed = replace(part, policy="retry and skip" if "retry" in part.policy else "skip")
        else:
            changed = part
        parts.append(changed)
    return replace(case, parts=tuple(parts))


CASES = cases().map(handled)


@given(CASES, st.sampled_from(sorted(WAYS)))
def test_counts_are_those_of_the_reference(case, way):
    check(case, way)


@pytest.mark.long
@pytest.mark.timeout(1200)
@settings(max_examples=4000)
@given(CASES, st.sampled_from(sorted(WAYS)))
def test_counts_are_those_of_the_reference_in_many_cases(case, way):
    check(case, way)


ENGINES = pytest.mark.parametrize(
    ("options", "session_class"), [({}, LoopSession), ({"queue_size": 64}, ThreadedSession)]
)
"""An option that needs a queue lets all nodes run on threads."""


async def counted(node, items, session_class, **options):
    """Call a node of a session once for each item; return its counts that are not 0."""
    async with Pipeline([with_options(node, **options)]).open(enable_metrics=True) as session:
        assert isinstance(session, session_class)
        for item in items:
            await asyncio.gather(session.call(item), return_exceptions=True)
        return counts_of_one(session)


def counts_of_one(session):
    [node] = session.metrics()["node_metrics"]
    return {name: node[name] for name in (*COUNTS, "interrupted") if node[name]}


def raise_error(item, error):
    raise LookupError(item)


async def raise_later(item, error):
    await asyncio.sleep(0)
    raise LookupError(item)


async def stop(item, error):
    raise asyncio.CancelledError


class Raises:
    def __init__(self, error=ValueError):
        self.error = error

    def process(self, item):
        if item == "bad":
            raise self.error(item)
        return item


class RaisesLater(Raises):
    async def process(self, item):
        await asyncio.sleep(0)
        return super().process(item)


ITEMS = ["bad", "good", "bad"]


@ENGINES
class TestPolicies:
    @pytest.mark.parametrize("node_class", [Raises, RaisesLater])
    @pytest.mark.parametrize(
        ("policy", "handled"),
        [
            ({"on_error": "skip"}, {"skipped": 2}),
            ({"dead_letter": print}, {"dead_lettered": 2}),
            ({"dead_letter": raise_error}, {}),
            ({"dead_letter": raise_later}, {}),
        ],
    )
    def test_failures_that_are_handled_count_once(self, options, session_class, node_class, policy, handled):
        counts = asyncio.run(counted(node_class(), ITEMS, session_class, **policy, **options))

        assert counts == {"items_in": 3, "items_out": 1, "errors": 2, "failures": 2} | handled

    def test_a_dead_letter_that_is_stopped_is_an_interrupted_item(self, options, session_class):
        counts = asyncio.run(counted(RaisesLater(), ITEMS, session_class, dead_letter=stop, **options))

        assert counts == {"items_in": 3, "items_out": 1, "interrupted": 2}

    def test_each_attempt_counts(self, options, session_class):
        counts = asyncio.run(counted(Flaky(4), [1, 2, 3], session_class, retries=2, **options))

        assert counts == {"items_in": 3, "items_out": 2, "errors": 1, "failures": 4, "retries": 3}

    @pytest.mark.parametrize("end", [None, fail])
    def test_a_call_that_takes_too_long_is_a_failure(self, options, session_class, end):
        policy = {"timeout": 0.02, "retries": 1, "on_error": "skip"}
        counts = asyncio.run(
            counted(Hangs(end, times=3), ["hang", "hang"], session_class, **policy, **options)
        )

        assert counts == {
            "items_in": 2,
            "items_out": 1,
            "errors": 1,
            "failures": 3,
            "retries": 2,
            "skipped": 1,
        }


@ENGINES
@pytest.mark.parametrize("node_class", [Raises, RaisesLater])
def test_a_node_that_raises_a_request_to_stop_has_not_failed(options, session_class, node_class):
    async def main():
        node = node_class(asyncio.CancelledError)
        async with Pipeline([with_options(node, **options)]).open(enable_metrics=True) as session:
            await asyncio.gather(session.call("bad"), return_exceptions=True)
            return counts_of_one(session)

    assert asyncio.run(main()) == {"items_in": 1, "interrupted": 1}


def test_an_item_that_is_stopped_in_a_pause_has_not_failed():
    async def main():
        node = Flaky(9)
        async with Pipeline([with_options(node, **LONG_PAUSE)]).open(enable_metrics=True) as session:
            call = asyncio.create_task(session.call(1))
            await node.has_failed.wait()
            assert await session.interrupt() == 1
            with pytest.raises(SessionInterruptedError):
                await call
            return counts_of_one(session), session.metrics()["interrupted"]

    assert asyncio.run(main()) == ({"items_in": 1, "interrupted": 1}, 1)


class Blocks:
    """Blocks for a known time where it is called, and later on the event loop."""

    def __init__(self, kind):
        self.make = getattr(self, kind)

    def process(self, item):
        time.sleep(0.005)
        return self.make(item)

    def plain(self, item):
        return item

    async def coroutine(self, item):
        return self.plain(item)

    def generator(self, item):
        time.sleep(0.005)
        yield item

    async def async_generator(self, item):
        yield item


@pytest.mark.parametrize("placement", [{}, {"placement": "thread"}, {"placement": "inline"}])
@pytest.mark.parametrize("kind", ["plain", "coroutine", "generator", "async_generator"])
def test_the_time_of_a_node_is_that_of_its_calls_and_of_what_they_return(kind, placement):
    async def main():
        nodes = [with_options(Blocks(kind), **placement), Flaky(0)]
        async with Pipeline(nodes).open(enable_metrics=True) as session:
            assert isinstance(session, LoopSession)
            assert [await session.call(item) for item in range(2)] == [0, 1]
            return session.metrics()["node_metrics"]

    first, second = asyncio.run(main())

    # The clock of metrics and the histogram are exact to a few per cent.
    assert first["min_duration_us"] >= (9_800 if kind == "generator" else 4900)
    assert abs(first["total_duration_us"] - 2 * first["avg_duration_us"]) <= 1
    assert second["items_in"] == 2


def test_the_way_to_a_thread_is_no_part_of_the_time_of_a_flush():
    class Last:
        def process(self, item):
            return item

        def flush(self):
            # The loop learns late that the thread has returned.
            self.loop.call_soon_threadsafe(time.sleep, 0.05)
            time.sleep(0.001)
            return "last"

    async def main():
        last = Last()
        last.loop = asyncio.get_running_loop()
        async with Pipeline([last]).open(enable_metrics=True) as session:
            assert [output async for output in session.map([])] == ["last"]
            return session.metrics()["node_metrics"][0]

    assert asyncio.run(main())["max_duration_us"] < 50_000


@ENGINES
def test_an_item_that_is_a_generator_counts(options, session_class):
    class Joins:
        def process(self, parts):
            return "".join(parts)

    counts = asyncio.run(counted(Joins(), [(part for part in "ab"), "c"], session_class, **options))

    assert counts == {"items_in": 2, "items_out": 2}


def test_each_stage_of_a_session_has_its_own_queue():
    class Waits:
        def __init__(self):
            self.may_go = threading.Event()

        def process(self, item):
            assert self.may_go.wait(TIMEOUT_SECS)
            return item

    async def main():
        waits = Waits()
        nodes = [
            with_options(Raises(), placement="thread"),
            with_options(waits, placement="thread", group="last"),
            with_options(Raises(), placement="thread", group="last"),
        ]
        async with Pipeline(nodes).open(enable_metrics=True) as session:
            calls = [asyncio.create_task(session.call(item)) for item in range(4)]
            # Nothing announces it.
            while session.metrics()["node_metrics"][1]["peak_queue_len"] < 3:  # noqa: ASYNC110
                await asyncio.sleep(0)
            waits.may_go.set()
            assert await asyncio.gather(*calls) == [0, 1, 2, 3]
            return session.metrics()

    metrics = asyncio.run(main())

    first, second, third = metrics["node_metrics"]
    # The first one may wait, too, if other tasks are due.
    assert first["peak_queue_len"] in {3, 4}
    assert (second["peak_queue_len"], third["peak_queue_len"]) == (3, 0)
    assert second["queue_wait_us"] > 0 == third["queue_wait_us"]
    assert (metrics["items_in"], metrics["items_out"]) == (4, 4)


def test_a_run_measures_its_nodes_on_the_loop_and_beside_it():
    threads = set()

    class Notes:
        def process(self, item):
            threads.add(threading.get_ident())
            return item

    async def main():
        nodes = [with_options(Notes(), placement="inline"), Flaky(1)]
        with pytest.raises(NodeError):
            await execute_pipeline_with_input(nodes, [1, 2], enable_metrics=True)
        return {threading.get_ident()}

    assert asyncio.run(main()) == threads
