"""Which nodes share a stage: those that inherit a placement, and those of one group."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading

import pytest
from stream_nodes import TIMEOUT_SECS, Add, Noting, Odd, Twice

from remotemedia import Batch, Node, Pipeline, execute_pipeline, execute_pipeline_with_input, with_options
from remotemedia._graph.graph import resolve
from remotemedia.exceptions import PipelineError

GROUP = {"group": "g"}
THREAD = {"placement": "thread", **GROUP}
WORKER = {"placement": "process", **GROUP}


class Where(Node):
    """Adds the place where it runs to a list."""

    thread_safe = True

    def process(self, places):
        return [*places, (os.getpid(), threading.get_ident())]


class AboveOne:
    """Passes numbers above 1."""

    def process(self, item):
        return item if item > 1 else None


def places(*options, **defaults):
    """Return where nodes with these options run, as numbers: nodes with the same one share a thread."""
    nodes = [with_options(Where(), **own) for own in options]
    with Pipeline(nodes).open(**defaults) as session:
        found = session.call([])
    return [found.index(place) for place in found]


class TestStages:
    @pytest.mark.parametrize("placement", ["thread", "process"])
    def test_a_written_placement_gives_a_stage_and_a_default_does_not(self, placement):
        own = {"placement": placement}

        assert places(own, own) == [0, 1]
        assert places({}, {}, **own) == [0, 0]
        assert places({}, own, {}, {}, **own) == [0, 1, 2, 2]

    def test_nodes_of_the_multiprocess_executor_share_a_worker(self):
        nodes = [Start(), Where(), Where(), with_options(Where(), placement="process")]

        first, second, third = asyncio.run(execute_pipeline(nodes, executor="multiprocess"))

        assert first == second != third

    @pytest.mark.parametrize("own", [THREAD, WORKER])
    def test_a_group_shares_a_stage(self, own):
        assert places(own, own, {**own, "group": "other"}) == [0, 0, 2]

    @pytest.mark.parametrize("placement", ["thread", "process"])
    def test_a_group_that_inherits_its_placement_is_apart_from_its_neighbours(self, placement):
        assert places({}, GROUP, GROUP, {}, placement=placement) == [0, 1, 1, 3]

    @pytest.mark.parametrize("own", [THREAD, WORKER])
    def test_replicas_of_a_group_contain_all_of_its_nodes(self, own):
        nodes = [with_options(Where(), **own, replicas=2) for _ in range(2)]

        with Pipeline(nodes).open() as session:
            found = list(session.map([[]] * 20))

        assert all(first == second for first, second in found)

    def test_a_group_has_one_queue(self):
        options = {**THREAD, "queue_size": 1, "when_full": "drop_newest"}
        first = Blocks()

        with Pipeline([with_options(first, **options), with_options(Add(), **options)]).open() as session:
            session.put(0)
            first.is_busy.wait(TIMEOUT_SECS)
            for item in range(1, 5):
                session.put(item)
            first.may_continue.set()
            session.end()
            assert list(session) == [1, 2]

    def test_branches_of_a_group_share_a_thread(self):
        pipeline = Pipeline("fork").add_node(Twice(), id="in", **THREAD)
        pipeline.add_node(Odd(), id="odd", after="in", **THREAD).add_node(
            Add(), id="add", after="in", **THREAD
        )
        pipeline.add_node(Noting(), id="out", after=["odd", "add"], join=True, **THREAD)

        with pipeline.open() as session:
            found = list(session.map([1, 2]))

        assert found == [{"odd": [1, 1], "add": [2, 2]}, {"odd": None, "add": [3, 3]}]
        assert pipeline.to_mermaid().count("subgraph") == 1

    @pytest.mark.parametrize(
        "options", [{}, THREAD, {**THREAD, "replicas": 2}, WORKER, {**WORKER, "replicas": 2}]
    )
    def test_a_join_is_not_reached_by_an_item_that_its_group_filters(self, options):
        """Nodes of a group that worked in parallel were taken for reached when the first was."""
        odd, above = (Odd, AboveOne) if "replicas" in options else (Odd(), AboveOne())
        pipeline = Pipeline("join").add_node(odd, id="odd", **options)
        pipeline.add_node(above, id="above", after="odd", **options)
        pipeline.add_node(Noting(), id="out", after=["above"], join=True)

        with pipeline.open() as session:
            assert list(session.map([1, 2, 3])) == [{"above": None}, {"above": 3}]

    def test_a_group_of_inline_nodes_changes_nothing(self):
        pipeline = Pipeline([Add(), with_options(Add(), group="g"), with_options(Add(), group="g")])

        with pipeline.open() as session:
            assert session.call(1) == 4

        assert pipeline.to_mermaid().count("subgraph") == 1


class Start:
    """A source, which is in no worker."""

    def process(self):
        return []


class Blocks:
    """Returns its first item only when it is released."""

    def __init__(self):
        self.is_busy, self.may_continue = threading.Event(), threading.Event()

    def process(self, item):
        self.is_busy.set()
        self.may_continue.wait(TIMEOUT_SECS)
        return item


@pytest.mark.parametrize("options", [{"timeout": 5.0}, {"retries": 1}, {"on_error": "skip"}])
def test_nodes_of_a_group_of_a_thread_have_policies_of_their_own(options):
    nodes = [with_options(Add(), **THREAD), with_options(Add(), **THREAD, **options)]

    assert asyncio.run(execute_pipeline_with_input(nodes, [1, 2])) == [3, 4]


def test_no_group_is_written_as_none():
    """`None` takes a node out of the group that it was given."""
    node = with_options(Where(), **THREAD).with_options(group=None)

    assert asyncio.run(execute_pipeline_with_input([with_options(Where(), **THREAD), node], [[]]))


def test_equal_options_may_be_written_in_different_ways():
    nodes = [
        with_options(Add(), **THREAD, replicas=1, batch=None),
        with_options(Add(), **THREAD, ordered=True),
    ]

    assert asyncio.run(execute_pipeline_with_input(nodes, [1])) == [3]
    with pytest.raises(PipelineError, match="batch requires a stage of one node"):
        resolve([with_options(Where(), **THREAD, batch=Batch(1)), with_options(Add(), **THREAD)])


SCRIPT = """\
from remotemedia import Pipeline

class Work:
    def process(self, item):
        return item

pipeline = Pipeline("app").add_node(Work(), group="start").add_node(Work(), group="start")
pipeline.add_node(Work(), placement="process", group="model")
pipeline.add_node(Work(), placement="process", group="model")
pipeline.add_node(Work(), placement="process")
"""


CHECKED = """\
app can run: 5 nodes in 3 stages

stage 1, inline: 1 thread, queue of 64
  Work_0  Work  reads the input  group start
  Work_1  Work  after Work_0     group start

stage 2, process, group model: 1 worker, 3 threads, up to 128 items sent ahead, queue of 64
  Work_2  Work  after Work_1
  Work_3  Work  after Work_2

stage 3, process: 1 worker, 3 threads, up to 128 items sent ahead, queue of 64
  Work_4  Work  after Work_3  writes the output

2 workers, 7 threads, at most 706 items in progress
"""


DRAWN = """\
app: 5 nodes in 3 stages

  ●  Work_0  Work  stage 1 · inline                 group start
  │
  ●  Work_1  Work  stage 1 · inline                 group start
  ┊
  ●  Work_2  Work  stage 2 · process · group model
  │
  ●  Work_3  Work  stage 2 · process · group model
  ┊
  ●  Work_4  Work  stage 3 · process

  ┊ a queue
"""


@pytest.mark.parametrize(("command", "expected"), [("check", CHECKED), ("graph", DRAWN)])
def test_check_and_graph_show_the_group(command, expected, tmp_path):
    (tmp_path / "app.py").write_text(SCRIPT)
    program = [sys.executable, "-m", "remotemedia", command, "app.py"]

    ran = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert ran.stdout == expected
