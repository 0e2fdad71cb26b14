"""The Rust engine and the reference executor have the same outputs, errors and calls for any pipeline."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

from hypothesis import given
from pipelines import cases, compiled_cases, input_of, pipeline_of, streaming_cases

from remotemedia._graph.graph import resolve
from remotemedia._graph.output_shape import shape
from remotemedia._loop.places import LOOP, THREAD, on_loop, places_of
from remotemedia.exceptions import NodeError
from remotemedia.runtime import execute_pipeline, execute_pipeline_with_input

NODES = str(Path(__file__).parents[1] / "support/probes.py")


def describe(error, seen=()):
    """Return all parts of an exception that a caller can see, including its chain."""
    if error is None or id(error) in seen:
        return None
    seen = (*seen, id(error))
    about = (
        (error.node_id, error.item_index, error.phase, str(error))
        if isinstance(error, NodeError)
        else error.args
    )
    return {
        "type": type(error),
        "about": about,
        "lines": list(lines_in_nodes(error.__traceback__)),
        "cause": describe(error.__cause__, seen),
        "context": describe(error.__context__, seen),
        "hides context": error.__suppress_context__,
    }


def lines_in_nodes(traceback):
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == NODES:
            yield traceback.tb_lineno
        traceback = traceback.tb_next


def counts(metrics):
    """Return the metrics that do not depend on the clock."""
    names = ("items_in", "items_out", "errors", "failures", "retries", "skipped", "dead_lettered")
    nodes = [{name: node[name] for name in ("node_id", *names)} for node in metrics["node_metrics"]]
    return {name: metrics[name] for name in names}, nodes


async def record(case, *, use_rust, enable_metrics):
    """Run a case and return everything that is visible from outside."""
    log = []
    pipeline = pipeline_of(case, log)
    seen = {"log": log}
    try:
        if case.feed is None:
            result = await execute_pipeline(pipeline, enable_metrics, use_rust=use_rust)
        else:
            result = await execute_pipeline_with_input(
                pipeline, input_of(case.feed), enable_metrics, use_rust=use_rust
            )
    except BaseException as error:  # noqa: BLE001 - Whatever it is, the other executor has to raise it, too.
        seen["error"] = describe(error)
    else:
        seen["outputs"] = result["outputs"] if enable_metrics else result
        seen["counts"] = counts(result["metrics"]) if enable_metrics else None
    return seen


@given(cases() | compiled_cases())
def test_engine_and_reference_agree(case):
    check(case, enable_metrics=False)


def check(case, *, enable_metrics):
    """Compare both executors. Between nodes on the loop and beside it, the order of calls ends."""
    engine = asyncio.run(record(case, use_rust=True, enable_metrics=enable_metrics))
    reference = asyncio.run(record(case, use_rust=False, enable_metrics=enable_metrics))

    if not crosses(case):
        assert engine == reference
    elif "error" not in reference:
        assert by_node(engine) == by_node(reference)
    else:
        # Nodes may have begun with later items, and a generator may have ended that would have been closed.
        assert "error" in engine
        assert is_closing(case) or engine["error"]["about"] == reference["error"]["about"]
        assert lives(engine) == lives(reference)


def crosses(case):
    """Whether a run of a case has nodes on the loop and on a thread."""
    graph = on_loop(resolve(pipeline_of(case, [])), is_run=True)
    return graph is not None and {LOOP, THREAD} <= {*places_of(graph.entries)}


def by_node(seen):
    """Separate the logs of the nodes. A node that is in a graph twice has one."""
    names = {name for name, *_ in seen["log"]}
    return seen | {
        "log": {name: Counter(entry for entry in seen["log"] if entry[0] == name) for name in names}
    }


def lives(seen):
    return [entry for entry in seen["log"] if entry[1] in {"initialize", "cleanup"}]


def is_closing(case):
    return any(failure.step == "close" for part in case.parts for failure in part.failures)


@given(streaming_cases())
def test_streaming_nodes_on_the_loop_and_reference_agree(case):
    assert on_loop(resolve(pipeline_of(case, [])), is_run=True) is not None

    engine = asyncio.run(record(case, use_rust=True, enable_metrics=False))
    reference = asyncio.run(record(case, use_rust=False, enable_metrics=False))

    assert apart_from_closing(engine, case) == apart_from_closing(reference, case)


INTERRUPTS = {"abort", "cancelled", "exit", "generator exit", "keyboard"}
"""Failures that end a session."""


def goes_on(case):
    """Whether only nodes fail, with errors that do not end a session."""
    kinds = {failure.kind for part in case.parts for failure in part.failures}
    return kinds.isdisjoint(INTERRUPTS) and (case.feed is None or case.feed.fails_at is None)


@given(streaming_cases().filter(goes_on))
def test_sessions_with_streaming_nodes_and_reference_agree(case):
    """In a block, the indices in errors are those of a run. After an error, the session goes on."""
    assert on_loop(resolve(pipeline_of(case, [])), is_run=False) is not None

    session = asyncio.run(record_stream(case))
    reference = asyncio.run(record(case, use_rust=False, enable_metrics=False))

    if "error" in reference:
        assert session["error"]["about"] == reference["error"]["about"]
    else:
        assert apart_from_closing(session, case) == apart_from_closing(reference, case)


@given(streaming_cases())
def test_runs_with_streaming_nodes_beside_threads_and_reference_agree(case):
    check(replace(case, is_inline=False), enable_metrics=False)


@given(streaming_cases().filter(goes_on))
def test_sessions_with_streaming_nodes_beside_threads_and_reference_agree(case):
    case = replace(case, is_inline=False)

    session = asyncio.run(record_stream(case))
    reference = asyncio.run(record(case, use_rust=False, enable_metrics=False))

    if "error" in reference:
        assert is_closing(case) or session["error"]["about"] == reference["error"]["about"]
    else:
        assert by_node(apart_from_closing(session, case)) == by_node(apart_from_closing(reference, case))


async def record_stream(case):
    """Pass the input of a case through a session; return what is visible from outside."""
    log = []
    pipeline = pipeline_of(case, log)
    seen = {"log": log, "counts": None}
    try:
        if case.feed is None:
            async with pipeline.open() as session:
                outputs = shape([output async for output in session])
        else:
            async with pipeline.managed_execution():
                outputs = [output async for output in pipeline.process(input_of(case.feed))]
    except BaseException as error:  # noqa: BLE001 - As in `record`.
        seen["error"] = describe(error)
    else:
        seen["outputs"] = outputs
    return seen


def apart_from_closing(seen, case):
    """Separate the ends of streaming nodes, which are closed before the first `cleanup` or at their own."""
    streaming = {f"n{index}" for index, part in enumerate(case.parts) if part.kind == "streaming"}
    closing = [entry for entry in seen["log"] if entry[0] in streaming and entry[1] == "close"]
    rest = [entry for entry in seen["log"] if entry not in closing]
    return seen | {"log": rest, "closing": sorted(closing)}


@given(cases() | compiled_cases())
def test_engine_and_reference_have_the_same_counts(case):
    check(case, enable_metrics=True)
