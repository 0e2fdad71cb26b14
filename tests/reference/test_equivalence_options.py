"""Options change how a pipeline runs, not what it returns: generated ones on the engine and the reference."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from option_cases import cases, pipeline_of, worker_cases

from remotemedia.exceptions import NodeError


def items_of(case):
    return [(index, 0) for index in range(case.count)]


async def by_run(case, pipeline, measures, *, use_rust=True):
    # An empty list is refused. Another iterable is not read on the event loop.
    items = items_of(case) if case.count and not measures else (item for item in items_of(case))
    result = await pipeline.run(items, use_rust=use_rust, enable_metrics=measures)
    return (result["outputs"], result["metrics"]) if measures else (result, None)


async def by_session(case, pipeline, measures):
    def work():
        with pipeline.open(enable_metrics=measures) as session:
            return list(session.map(items_of(case))), session.metrics()

    return await asyncio.to_thread(work)


async def by_async_session(case, pipeline, measures):
    async with pipeline.open(enable_metrics=measures) as session:
        return [output async for output in session.map(items_of(case))], session.metrics()


async def by_puts(case, pipeline, measures):
    async def put_all(session):
        for item in items_of(case):
            await session.put(item)
        session.end()

    async with pipeline.open(enable_metrics=measures) as session:
        producer = asyncio.create_task(put_all(session))
        try:
            return [output async for output in session], session.metrics()
        finally:
            await producer


COUNTS = ("errors", "failures", "retries", "skipped", "dead_lettered", "interrupted")
WAYS = {"run": by_run, "session": by_session, "async session": by_async_session, "puts": by_puts}


def counts_of(metrics):
    """Return the metrics that do not depend on the clock."""
    names = ("node_id", "items_in", "items_out", *COUNTS)
    return [tuple(node[name] for name in names) for node in metrics["node_metrics"]]


async def record(case, way, measures=True, **options):
    """Run a case and return everything that is promised about it."""
    letters = []
    try:
        outputs, metrics = await way(case, pipeline_of(case, letters), measures, **options)
    except NodeError as error:
        # The progress of the other nodes is not defined.
        return {"error": (error.node_id, error.item_index, error.phase, str(error), repr(error.__cause__))}
    return {
        "outputs": outputs if case.is_ordered else sorted(outputs, key=repr),
        "letters": sorted(letters, key=repr),
        "counts": None if metrics is None else counts_of(metrics),
    }


def check(case, way, measures=True):
    engine = asyncio.run(record(case, WAYS[way], measures))
    reference = asyncio.run(record(case, by_run, use_rust=False))

    if not measures and "counts" in reference:
        reference["counts"] = None
    assert engine == reference


@given(cases(), st.sampled_from(sorted(WAYS)), st.booleans())
def test_options_change_no_output(case, way, measures):
    check(case, way, measures)


@pytest.mark.long
@pytest.mark.timeout(1200)
@settings(max_examples=2000)
@given(cases(), st.sampled_from(sorted(WAYS)), st.booleans())
def test_options_change_no_output_in_many_cases(case, way, measures):
    check(case, way, measures)


@settings(max_examples=20)
@given(worker_cases(), st.sampled_from(sorted(WAYS)))
def test_workers_change_no_output(case, way):
    check(case, way)


@pytest.mark.long
@pytest.mark.timeout(1200)
@settings(max_examples=300)
@given(worker_cases(), st.sampled_from(sorted(WAYS)))
def test_workers_change_no_output_in_many_cases(case, way):
    check(case, way)
