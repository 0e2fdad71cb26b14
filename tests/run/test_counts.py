"""Counts of failures in the metrics: each kind separately, with the same meaning on every placement."""

from __future__ import annotations

import asyncio
import threading

import pytest
from stream_nodes import TIMEOUT_SECS, Worker

from remotemedia import Pipeline, with_options
from remotemedia.exceptions import NodeError, SessionInterruptedError

COUNTS = ("failures", "retries", "errors", "skipped", "dead_lettered", "interrupted")
PLACES = [{}, {"placement": "thread"}, {"placement": "process"}]


class FailsTwice:
    """Fails twice for each odd item, and always for a negative one."""

    def __init__(self):
        self.tries = []

    def process(self, item):
        self.tries.append(item)
        if item < 0 or (item % 2 and self.tries.count(item) <= 2):
            raise ValueError(f"no {item}")
        return item


class AsyncFailsTwice(FailsTwice):
    async def process(self, item):
        await asyncio.sleep(0)
        return super().process(item)


class FailsAsBatch:
    """Fails for a batch with a negative item in it."""

    def process(self, items):
        if min(items) < 0:
            raise ValueError("a bad batch")
        return items


class Waits:
    """Waits in its call until it is cancelled."""

    def __init__(self):
        self.is_there = threading.Event()

    async def process(self, item):
        self.is_there.set()
        await asyncio.Event().wait()
        return item


def counts_of(metrics):
    """Return the counts of the only node, in the order of `COUNTS`; the pipeline has them too."""
    (node,) = metrics["node_metrics"]
    counts = [node[name] for name in COUNTS]
    assert [metrics[name] for name in COUNTS[:-1]] == counts[:-1]
    return counts


def not_at_end(session, errors):
    """Return whether the outputs end with an error instead of the end of input."""
    try:
        return list(session) != []
    except NodeError as error:
        errors.append(error)
        return True


def counts_in_session(node, items):
    with Pipeline([node]).open(enable_metrics=True) as session:
        outputs = list(session.map(items))
        return outputs, counts_of(session.metrics())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("node", "options"),
    [(FailsTwice, {}), (AsyncFailsTwice, {}), (AsyncFailsTwice, {"concurrency": 2})],
)
def test_a_retry_that_helps_is_a_failure_and_a_retry_but_no_error(place, node, options):
    outputs, counts = counts_in_session(with_options(node(), retries=2, **options, **place), [1, 2, 3])

    assert outputs == [1, 2, 3]
    assert counts == [4, 4, 0, 0, 0, 0]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("node", [FailsTwice, AsyncFailsTwice])
def test_an_item_that_fails_after_its_retries_is_one_error_and_is_skipped(place, node):
    options = {"retries": 1, "on_error": "skip", **place}

    outputs, counts = counts_in_session(with_options(node(), **options), [-1, 2, -3])

    assert outputs == [2]
    assert counts == [4, 2, 2, 2, 0, 0]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("option", ["on_error", "dead_letter"])
def test_an_item_that_is_passed_to_the_function_is_dead_lettered(place, option):
    letters = []
    options = {option: lambda item, _error: letters.append(item), **place}

    outputs, counts = counts_in_session(with_options(FailsTwice(), **options), [-1, 2])

    assert (outputs, letters) == ([2], [-1])
    assert counts == [1, 0, 1, 0, 1, 0]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("on_error", "raised"), [("stop", 4), ("skip", 0)])
def test_a_failed_batch_is_one_failure_and_as_many_errors_as_it_has_items(place, on_error, raised):
    node = with_options(FailsAsBatch(), batch=4, on_error=on_error, **place)
    errors = []

    with Pipeline([node]).open(enable_metrics=True) as session:
        for item in [1, -2, 3, 4]:
            session.put(item)
        session.end()
        while not_at_end(session, errors):
            pass
        counts = counts_of(session.metrics())

    assert (len(errors), counts) == (raised, [1, 0, 4, 4 - raised, 0, 0])


def test_a_dead_letter_function_that_fails_is_an_error_and_not_dead_lettered():
    def refuse(item, error):
        raise OSError("no room for letters")

    with Pipeline([with_options(FailsTwice(), dead_letter=refuse)]).open(enable_metrics=True) as session:
        with pytest.raises(NodeError, match="no room for letters"):
            session.call(-1)

        assert counts_of(session.metrics()) == [1, 0, 1, 0, 0, 0]


@pytest.mark.parametrize("options", [{}, {"placement": "thread"}, {"concurrency": 2}, {"on_error": "skip"}])
def test_an_interrupted_coroutine_is_interrupted_and_no_failure(options):
    waits = Waits()

    with Pipeline([with_options(waits, **options)]).open(enable_metrics=True) as session:
        call = Worker(lambda: session.call(1))
        assert waits.is_there.wait(TIMEOUT_SECS)
        session.interrupt()
        with pytest.raises(SessionInterruptedError):
            call.result()
        metrics = session.metrics()

    assert counts_of(metrics) == [0, 0, 0, 0, 0, 1]
    assert metrics["interrupted"] == 1


@pytest.mark.parametrize("use_rust", [True, False])
def test_both_executors_have_the_same_counts(use_rust):
    node = with_options(FailsTwice(), retries=2, on_error="skip")
    run = Pipeline([node]).run([1, -1, 2], enable_metrics=True, use_rust=use_rust)

    result = asyncio.run(run)

    assert result["outputs"] == [1, 2]
    assert counts_of(result["metrics"]) == [5, 4, 1, 1, 0, 0]
