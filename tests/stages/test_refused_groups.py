"""Groups that cannot be one stage are refused, in pipelines and manifests with the same words."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stream_nodes import Add

from remotemedia import Node, Pipeline, with_options
from remotemedia._graph.graph import resolve
from remotemedia.exceptions import ManifestError, PipelineError
from remotemedia.nodes import register_node

GROUP = {"group": "g"}
THREAD = {"placement": "thread", **GROUP}
WORKER = {"placement": "process", **GROUP}


class GroupedNode(Node):
    """Registered, so that manifests can name it."""

    thread_safe = True

    def process(self, item):
        return item


class Source:
    def process(self):
        yield from range(3)


register_node(GroupedNode)


CHAIN = "the nodes of a worker must form a chain"
NOT_NEIGHBOURS = (
    "they are not neighbours: 'c' comes after no node of the group; "
    "put the nodes between them into the group, or 'c' into another one"
)
ALSO_AFTER = (
    "'c' also comes after 'b', which is not in the group; put 'b' into the group, or 'c' into another one"
)
DIFFERENT = "they have different values of {}; give both the same value"
REFUSED = {
    "not neighbours": (
        {"a": ([], THREAD), "b": (["a"], {}), "c": (["b"], THREAD)},
        NOT_NEIGHBOURS,
    ),
    "beside each other": (
        {"a": ([], {}), "b": (["a"], THREAD), "c": (["a"], THREAD)},
        NOT_NEIGHBOURS,
    ),
    "after another node, too": (
        {"a": ([], THREAD), "b": (["a"], {}), "c": (["a", "b"], THREAD)},
        ALSO_AFTER,
    ),
    "other placement": (
        {"a": ([], THREAD), "b": (["a"], WORKER)},
        DIFFERENT.format("placement (thread, process)"),
    ),
    "no placement": (
        {"a": ([], THREAD), "b": (["a"], GROUP)},
        DIFFERENT.format("placement (thread, inline)"),
    ),
    "other queue": (
        {"a": ([], THREAD), "b": (["a"], {**THREAD, "queue_size": 8})},
        DIFFERENT.format("queue_size (not set, 8)"),
    ),
    "other drops": (
        {
            "a": ([], {**GROUP, "when_full": "drop_oldest"}),
            "b": (["a"], {**GROUP, "when_full": "drop_newest"}),
        },
        DIFFERENT.format("when_full (drop_oldest, drop_newest)"),
    ),
    "other replicas": (
        {"a": ([], {**THREAD, "replicas": 2}), "b": (["a"], {**THREAD, "replicas": 3})},
        DIFFERENT.format("replicas (2, 3)"),
    ),
    "other restarts": (
        {"a": ([], {**WORKER, "max_restarts": 0}), "b": (["a"], WORKER)},
        DIFFERENT.format("max_restarts (0, not set)"),
    ),
    "a batch": (
        {"a": ([], THREAD), "b": (["a"], {**THREAD, "batch": 2})},
        "batch requires a stage of one node; remove batch or the group from 'b'",
    ),
    "a time limit in a worker": (
        {"a": ([], {**WORKER, "timeout": 1}), "b": (["a"], WORKER)},
        "timeout requires a worker of one node; remove timeout or the group from 'a'",
    ),
    "a policy in a worker": (
        {"a": ([], WORKER), "b": (["a"], {**WORKER, "on_error": "skip"})},
        "on_error requires a worker of one node; remove on_error or the group from 'b'",
    ),
    "a branch out of a worker": (
        {"a": ([], WORKER), "b": (["a"], WORKER), "c": (["a"], {})},
        f"{CHAIN}, and 'c' comes after 'a', too; put 'b' into another group",
    ),
}


class TestRefused:
    @pytest.mark.parametrize("case", REFUSED)
    @pytest.mark.parametrize("use_rust", [True, False])
    def test_groups_that_cannot_be_one_stage_are_refused(self, case, use_rust):
        described, problem = REFUSED[case]
        pipeline, untouched = Pipeline("p"), []
        for node_id, (after, options) in described.items():
            node = GroupedNode()
            untouched.append(node)
            pipeline.add_node(node, id=node_id, after=after, **options)

        with pytest.raises(PipelineError) as caught:
            asyncio.run(pipeline.run([1], use_rust=use_rust))

        assert str(caught.value).endswith(f"are in group 'g', but {problem}")
        assert not any(node.is_initialized for node in untouched)

    @pytest.mark.parametrize("case", REFUSED)
    def test_manifests_are_refused_with_the_same_words(self, case):
        described, problem = REFUSED[case]
        nodes = [
            {"id": node_id, "node_type": "GroupedNode", "options": options}
            for node_id, (_, options) in described.items()
        ]
        connections = [
            {"from": before, "to": node_id} for node_id, (after, _) in described.items() for before in after
        ]

        with pytest.raises(ManifestError) as caught:
            resolve({"version": "v1", "nodes": nodes, "connections": connections})

        second = problem.split("'")[1] if "neighbours" in problem or "also" in problem else "b"
        path = f"nodes[{list(described).index(second)}].options.group"
        assert str(caught.value).endswith(f"are in group 'g', but {problem}")
        assert caught.value.path == path

    def test_both_nodes_are_named(self):
        nodes = [with_options(Add(), **THREAD), Add(), with_options(Add(), **THREAD)]

        with pytest.raises(
            PipelineError, match="^Nodes 'Add_0' and 'Add_2' are in group 'g', but they are not"
        ):
            resolve(nodes)

    def test_a_default_that_separates_a_group_is_refused(self):
        source = Pipeline([with_options(Source(), group="g"), with_options(Add(), group="g")])
        timed = Pipeline([with_options(Add(), **WORKER), with_options(Add(), **WORKER)])

        with pytest.raises(PipelineError, match=r"values of placement \(inline, process\)"):
            source.open(placement="process")
        with pytest.raises(PipelineError, match="timeout requires a worker of one node"):
            timed.open(timeout=1)

    @pytest.mark.parametrize("group", ["", " ", 1, True, ["a"]])
    def test_a_group_has_a_name(self, group):
        with pytest.raises(PipelineError) as caught:
            with_options(Add(), group=group)

        assert str(caught.value) == f"group={group!r} is not valid; use a name that is not empty, or None"

    def test_a_group_is_not_an_option_of_a_session(self):
        with pytest.raises(
            PipelineError, match="^group is an option of nodes, not of a session; set it on the"
        ):
            Pipeline([Add()]).open(group="g")

    def test_a_mistyped_group_gets_its_name(self):
        with pytest.raises(PipelineError, match="^Unknown option 'grup'; did you mean 'group'"):
            with_options(Add(), grup="g")


STAGES = st.fixed_dictionaries(
    {"placement": st.sampled_from(["inline", "thread"])},
    optional={"queue_size": st.integers(1, 2), "when_full": st.just("drop_newest"), "ordered": st.booleans()},
)
WORKERS = st.fixed_dictionaries(
    {"placement": st.just("process")},
    optional={
        "replicas": st.integers(1, 2),
        "max_restarts": st.sampled_from([0, 3]),
        "restart_window": st.sampled_from([1, 60]),
        "initialize_timeout": st.sampled_from([1, 300]),
        "snapshot_every": st.sampled_from([1, 100]),
    },
)
OWN = st.fixed_dictionaries(
    {"group": st.sampled_from(["g", "g", "g", "h", None])},
    optional={
        "batch": st.sampled_from([None, None, None, 1]),
        "on_error": st.sampled_from(["stop", "stop", "skip"]),
        "retries": st.sampled_from([0, 0, 1]),
        "retry_delay": st.sampled_from([0, 0, 0.5]),
        "timeout": st.sampled_from([None, None, 1.0]),
    },
)


@st.composite
def described_nodes(draw):
    """Draw up to four nodes: what each comes after, whether it joins, and its options."""
    placed = draw(st.sampled_from([STAGES, WORKERS, st.one_of(STAGES, WORKERS)]))
    alike = draw(st.none() | placed)
    nodes = []
    for number in range(draw(st.integers(2, 4))):
        chosen = draw(st.just([number - 1]) | st.lists(st.integers(0, number), max_size=2, unique=True))
        after = [f"n{index}" for index in chosen if 0 <= index < number]
        options = (alike if alike is not None else draw(placed)) | draw(OWN)
        nodes.append((f"n{number}", after, bool(after) and draw(st.booleans()), options))
    return nodes


def refusal(pipeline):
    """Return why a pipeline is refused, without the place in the manifest."""
    try:
        resolve(pipeline)
    except PipelineError as error:
        return str(error).partition(": nodes")[2] or str(error).partition("Nodes")[2]
    return None


@settings(max_examples=300)
@given(described_nodes())
def test_pipelines_are_refused_like_manifests(nodes):
    pipeline = Pipeline("p")
    for node_id, after, join, options in nodes:
        pipeline.add_node(GroupedNode(), id=node_id, after=after, join=join, **options)
    manifest = {
        "version": "v1",
        "nodes": [
            {"id": node_id, "node_type": "GroupedNode", "join": join, "options": options}
            for node_id, _, join, options in nodes
        ],
        "connections": [
            {"from": before, "to": node_id} for node_id, after, _, _ in nodes for before in after
        ],
    }

    assert refusal(pipeline) == refusal(manifest)
