"""`placement="process"` and what goes with it, as it is written: which nodes may have it."""

from __future__ import annotations

import asyncio

import pytest

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia.core._graph import resolve
from remotemedia.exceptions import PipelineError


class Double:
    def process(self, item):
        return item * 2


class Numbers:
    def process(self):
        yield from (1, 2)


def options_with_defaults(nodes, **defaults):
    opening = Pipeline(nodes).open(**defaults)
    return [entry.options for entry in opening._graph.entries]


@pytest.mark.parametrize("name", ["max_restarts", "restart_window", "initialize_timeout", "snapshot_every"])
@pytest.mark.parametrize("placement", [{}, {"placement": "thread"}])
def test_only_workers_have_restarts(name, placement):
    with pytest.raises(PipelineError, match=f"^only workers have {name}: add placement='process'$"):
        with_options(Double(), **{name: 2}, **placement)


def test_an_object_has_replicas_in_workers_though_it_is_not_thread_safe():
    graph = resolve([with_options(Double(), placement="process", replicas=2)])

    assert graph.entries[0].options["replicas"] == 2


def test_replicas_need_threads_or_workers():
    with pytest.raises(PipelineError, match="threads or workers: add placement='thread' or placement='pro"):
        with_options(Double(), replicas=2)


def test_concurrency_in_a_worker_is_for_async_nodes():
    with pytest.raises(PipelineError, match="concurrency is for nodes with an async process"):
        resolve([with_options(Double(), placement="process", concurrency=2)])


def test_a_source_is_in_no_worker():
    with pytest.raises(PipelineError, match="^Node 'Numbers_0': a source runs where its session is, not in"):
        resolve([with_options(Numbers(), placement="process")])


def test_a_default_of_a_session_places_all_nodes_but_sources():
    assert options_with_defaults([Numbers(), Double()], placement="process") == [{}, {"placement": "process"}]


def test_restarts_of_a_session_count_for_the_nodes_in_workers():
    found = options_with_defaults([Double(), with_options(Double(), placement="process")], max_restarts=7)

    assert found == [{}, {"placement": "process", "max_restarts": 7}]


def test_restarts_of_a_session_are_checked():
    with pytest.raises(PipelineError, match="^max_restarts=-1 is not available"):
        Pipeline([Double()]).open(max_restarts=-1)


@pytest.mark.parametrize("executor", [None, "multiprocess"])
def test_the_reference_executor_runs_nodes_of_workers_where_it_is(executor):
    nodes = [with_options(Double(), placement="process", replicas=2, max_restarts=1), Double()]

    run = execute_pipeline_with_input(nodes, [1, 2], use_rust=False, executor=executor)

    assert asyncio.run(run) == [4, 8]
