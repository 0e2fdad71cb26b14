"""All kinds of nodes in all places of one process have the outputs and errors of the reference executor."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from option_cases import origin_of
from placed_cases import (
    FORMS,
    about,
    cases,
    expected_of,
    input_of,
    is_lived_once,
    item_at,
    letters_of,
    pipeline_of,
)

from remotemedia import execute_pipeline_with_input
from remotemedia._graph.output_shape import shape
from remotemedia.exceptions import NodeError


class Failed:
    """The place of an error among outputs."""

    def __init__(self, error):
        self.index = error.item_index
        self.about = about(error)


async def by_run(pipeline, form, count):
    try:
        return await execute_pipeline_with_input(pipeline, input_of(form, count))
    except NodeError as error:
        return [Failed(error)]


async def by_call(pipeline, _form, count):
    results = []
    async with pipeline.open() as session:
        for index in range(count):
            try:
                results.append(await session.call(item_at(index)))
            except NodeError as error:
                results.append(Failed(error))
    return results


async def by_calls_at_once(pipeline, _form, count):
    async with pipeline.open() as session:
        calls = (session.call(item_at(index)) for index in range(count))
        results = await asyncio.gather(*calls, return_exceptions=True)
    return [Failed(result) if isinstance(result, NodeError) else result for result in results]


async def by_map(pipeline, form, count):
    outputs = []
    async with pipeline.open() as session:
        try:
            async for output in session.map(input_of(form, count)):
                outputs.append(output)  # noqa: PERF401 - Those before an error count.
        except NodeError as error:
            outputs.append(Failed(error))
    return outputs


async def by_put(pipeline, _form, count):
    async def put_all(session):
        for index in range(count):
            await session.put(item_at(index))
        session.end()

    async with pipeline.open() as session, asyncio.TaskGroup() as group:
        group.create_task(put_all(session))
        return await take_all(session)


async def take_all(session):
    """Take outputs and errors until the end."""
    outputs = []
    while True:
        try:
            async for output in session:
                outputs.append(output)  # noqa: PERF401 - Those before an error count.
        except NodeError as error:
            outputs.append(Failed(error))
        else:
            return outputs


def plainly_by_call(pipeline, _form, count):
    results = []
    with pipeline.open() as session:
        for index in range(count):
            try:
                results.append(session.call(item_at(index)))
            except NodeError as error:
                results.append(Failed(error))
    return results


def plainly_by_map(pipeline, form, count):
    outputs = []
    with pipeline.open() as session:
        try:
            outputs.extend(session.map(input_of("list" if form == "list" else "generator", count)))
        except NodeError as error:
            outputs.append(Failed(error))
    return outputs


def plainly_by_put(pipeline, _form, count):
    def put_all():
        for index in range(count):
            session.put(item_at(index))
        session.end()

    outputs = []
    with pipeline.open() as session:
        putting = threading.Thread(target=put_all)
        putting.start()
        while True:
            try:
                for output in session:
                    outputs.append(output)  # noqa: PERF402 - Those before an error count.
            except NodeError as error:
                outputs.append(Failed(error))
            else:
                break
        putting.join()
    return outputs


PLAIN = {"plain call": plainly_by_call, "plain map": plainly_by_map, "plain put": plainly_by_put}
ASYNC = {
    "run": by_run,
    "call": by_call,
    "calls at once": by_calls_at_once,
    "map": by_map,
    "put": by_put,
}


def results_of(case, way, form):
    """Run a case; return its results and nodes."""
    pipeline, nodes = pipeline_of(case)
    if way in PLAIN:
        return PLAIN[way](pipeline, form, case.count), nodes
    return asyncio.run(ASYNC[way](pipeline, form, case.count)), nodes


def check(case, way, form):
    expected = asyncio.run(expected_of(case))

    results, nodes = results_of(case, way, form)

    if "call" in way:
        check_calls(results, expected)
    else:
        check_stream(results, expected, ends_early="put" not in way, has_outputs=way != "run")
    check_letters(letters_of(nodes), expected, ends_early="put" not in way and "call" not in way)
    assert all(is_lived_once(node) for node in nodes)


def check_calls(results, expected):
    for index, (result, outputs) in enumerate(zip(results, expected.of_items, strict=True)):
        if expected.is_failing(index):
            assert result.about == outputs
        else:
            assert result == shape(outputs)


def check_letters(letters, expected, *, ends_early):
    if ends_early and any(map(expected.is_failing, range(len(expected.of_items)))):
        assert not Counter(letters) - Counter(expected.letters)
    else:
        assert sorted(letters) == sorted(expected.letters)


def check_stream(results, expected, *, ends_early, has_outputs):
    """Check outputs and errors; a failing item may have had some outputs before."""
    failing = [index for index in range(len(expected.of_items)) if expected.is_failing(index)]
    if failing and ends_early:
        ends_at, last = failing[0], []
        outputs_before = expected.of_items[:ends_at] if has_outputs else []
        wanted = [*outputs_before, expected.of_items[ends_at]]
    else:
        wanted, last = expected.of_items, expected.last

    in_order = []
    for outputs in wanted:
        in_order += [outputs] if isinstance(outputs, tuple) else outputs
    found = [
        result.about if isinstance(result, Failed) else result
        for result in results
        if isinstance(result, Failed) or origin_of(result) not in failing
    ]
    assert found == in_order + last
    indices = [result.index for result in results if isinstance(result, Failed)]
    assert indices == (failing[:1] if ends_early else failing)


WAYS = st.sampled_from((*PLAIN, *ASYNC))


@given(cases(), WAYS, st.sampled_from(FORMS))
def test_places_change_neither_outputs_nor_errors(case, way, form):
    check(case, way, form)


@pytest.mark.long
@pytest.mark.timeout(1200)
@settings(max_examples=4000)
@given(cases(), WAYS, st.sampled_from(FORMS))
def test_places_change_neither_outputs_nor_errors_in_many_cases(case, way, form):
    check(case, way, form)
