"""`placement="process"` and what goes with it, as it is written: which nodes may have it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia._cli.checks import remarks
from remotemedia._graph.graph import resolve
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
    with pytest.raises(PipelineError, match=f"^{name} requires placement='process'$"):
        with_options(Double(), **{name: 2}, **placement)


def test_an_object_has_replicas_in_workers_though_it_is_not_thread_safe():
    graph = resolve([with_options(Double(), placement="process", replicas=2)])

    assert graph.entries[0].options["replicas"] == 2


def test_replicas_need_threads_or_workers():
    with pytest.raises(PipelineError, match="replicas requires placement='thread' or placement='pro"):
        with_options(Double(), replicas=2)


def test_concurrency_in_a_worker_is_for_async_nodes():
    with pytest.raises(PipelineError, match="concurrency requires an async process"):
        resolve([with_options(Double(), placement="process", concurrency=2)])


def test_a_source_is_in_no_worker():
    with pytest.raises(
        PipelineError, match="^Node 'Numbers_0': a source runs in the process of its session, not in"
    ):
        resolve([with_options(Numbers(), placement="process")])


def test_a_default_of_a_session_places_all_nodes_but_sources():
    assert options_with_defaults([Numbers(), Double()], placement="process") == [{}, {"placement": "process"}]


def test_restarts_of_a_session_count_for_the_nodes_in_workers():
    found = options_with_defaults([Double(), with_options(Double(), placement="process")], max_restarts=7)

    assert found == [{}, {"placement": "process", "max_restarts": 7}]


def test_restarts_of_a_session_are_checked():
    with pytest.raises(PipelineError, match="^max_restarts=-1 is not valid"):
        Pipeline([Double()]).open(max_restarts=-1)


@pytest.mark.parametrize("executor", [None, "multiprocess"])
def test_the_reference_executor_runs_nodes_of_workers_where_it_is(executor):
    nodes = [with_options(Double(), placement="process", replicas=2, max_restarts=1), Double()]

    run = execute_pipeline_with_input(nodes, [1, 2], use_rust=False, executor=executor)

    assert asyncio.run(run) == [4, 8]


class Open:
    """Has an attribute that cannot be sent."""

    name = "open"

    def __init__(self):
        self.handles = {"lock": threading.Lock()}

    def process(self, item):
        return item


class Released(Open):
    def cleanup(self):
        self.handles.clear()


REFUSAL = "Cannot serialize Node 'open': attribute 'handles['lock']' is not serializable."
UNSENDABLE = f"{REFUSAL}\nSuggestion: Call node.cleanup() before serialization"


class TestCheck:
    def test_a_node_that_cannot_be_sent_to_a_worker_is_a_problem(self):
        pipeline = Pipeline("p").add_node(Open(), placement="process")

        [problem] = pipeline.check()

        assert problem.startswith(UNSENDABLE)

    @pytest.mark.parametrize(
        ("node", "options"), [(Open(), {}), (Released(), {"placement": "process"})], ids=["inline", "cleanup"]
    )
    def test_a_node_that_is_not_sent_is_not_a_problem(self, node, options):
        assert Pipeline("p").add_node(node, **options).check() == []

    def test_all_remarks_of_a_pipeline(self):
        pipeline = Pipeline("p").add_node(Open())
        pipeline.add_node(Released(), placement="process", max_restarts=0, restart_window=5, snapshot_every=5)

        found = remarks(pipeline.to_graph())

        assert [(remark.is_problem, remark.text.partition("\n")[0]) for remark in found] == [
            (False, "node 'open_1': snapshot_every has no effect without snapshot() and restore(state)"),
            (False, "node 'open_1': restart_window has no effect with max_restarts=0"),
            (
                False,
                "node 'open_0' cannot be sent to a worker: attribute 'handles['lock']' is not serializable",
            ),
            (
                False,
                f"node 'open_1' can be sent to a worker only if its cleanup() releases this: {REFUSAL}",
            ),
        ]

    def test_the_command_lists_the_workers(self, tmp_path):
        program = tmp_path / "app.py"
        program.write_text(PROGRAM)

        completed = subprocess.run(
            [sys.executable, "-m", "remotemedia", "check", f"{program}:pipeline"],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )

        assert completed.returncode == 1
        assert completed.stdout == CHECKED


PROGRAM = """\
import threading
from remotemedia import Pipeline

class Work:
    def process(self, item):
        return item

class Open(Work):
    def __init__(self):
        self.lock = threading.Lock()

pipeline = Pipeline("app").add_node(Work())
pipeline.add_node(Work(), placement="process", replicas=2)
pipeline.add_node(Open(), placement="process")
"""

CHECKED = """\
app has 1 problem: 3 nodes in 3 stages

stage 1, inline: 1 thread, queue of 64
  Work_0  Work  reads the input

stage 2, process: 2 workers, 4 threads, up to 256 items sent ahead, queue of 64
  Work_1  Work  after Work_0  replicas 2

stage 3, process: 1 worker, 3 threads, up to 128 items sent ahead, queue of 64
  Open_2  Open  after Work_1  writes the output

3 workers, 8 threads, at most 962 items in progress

problem: Cannot serialize Node 'Open': attribute 'lock' is not serializable.
  Suggestion: Call node.cleanup() before serialization and release 'lock' there; \
initialize() can create it again.
  Reason: a _thread.lock: TypeError: cannot pickle '_thread.lock' object
"""
