"""The time for a manifest grows with its size alone, whatever its shape."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time

import pytest

from remotemedia import Pipeline, execute_pipeline_with_input
from remotemedia._cli.checks import remarks
from remotemedia._graph.graph import resolve
from remotemedia.exceptions import PipelineError
from remotemedia.nodes import PassThroughNode

FEW, MANY = 300, 1200
# Four times the nodes. Quadratic work takes sixteen times as long.
MOST = 8

NESTED = {"levels": json.loads("[" * 100 + "1" + "]" * 100)}
SHAPES = {
    "chain": lambda _index: {},
    "options": lambda index: {"options": {"on_error": "skip", "retries": 1 + index % 3}},
    "nested": lambda _index: {"capabilities": NESTED},
}


def manifest_of(shape, count):
    if shape in SHAPES:
        fields, connections = SHAPES[shape], None
    elif shape == "fan-out":
        fields, connections = SHAPES["chain"], [(0, index) for index in range(1, count)]
    else:
        # In reverse, so that the order of the nodes differs from that of the text.
        fields, connections = SHAPES["chain"], [(index, index - 1) for index in range(count - 1, 0, -1)]
    nodes = [{"id": f"n{index}", "node_type": "PassThroughNode", **fields(index)} for index in range(count)]
    manifest = {"version": "v1", "nodes": nodes}
    if connections is not None:
        manifest["connections"] = [{"from": f"n{first}", "to": f"n{second}"} for first, second in connections]
    return manifest


def yaml_of(manifest):
    """The same in block style; JSON is a part of YAML, but the parser handles it differently."""
    lines = ["version: v1"]
    for name in ("nodes", "connections"):
        if name in manifest:
            lines += [f"{name}:", *(f"- {json.dumps(entry)}" for entry in manifest[name])]
    return "\n".join(lines)


def cpu_secs(work):
    """Return the smallest processor time of three runs, because other processes add to it."""
    found = []
    for _ in range(3):
        gc.collect()
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return min(found)


@pytest.mark.parametrize("write", [json.dumps, yaml_of], ids=["json", "yaml"])
@pytest.mark.parametrize("shape", [*SHAPES, "fan-out", "backwards"])
def test_four_times_the_nodes_take_about_four_times_as_long(shape, write):
    few, many = (write(manifest_of(shape, count)) for count in (FEW, MANY))

    assert cpu_secs(lambda: resolve(many)) < MOST * cpu_secs(lambda: resolve(few))


@pytest.mark.parametrize("shape", ["chain", "options", "backwards"])
def test_a_run_of_a_manifest_grows_like_it(shape):
    def run(manifest):
        return asyncio.run(execute_pipeline_with_input(manifest, [1]))

    few, many = manifest_of(shape, FEW), manifest_of(shape, MANY)

    assert cpu_secs(lambda: run(many)) < MOST * cpu_secs(lambda: run(few))


def test_the_order_of_a_manifest_is_that_of_its_connections():
    pipeline = Pipeline.from_manifest(manifest_of("backwards", 5))

    assert [(node["id"], node.get("from")) for node in json.loads(pipeline.serialize())["nodes"]] == [
        (f"n{index}", None) for index in range(5)
    ]
    assert asyncio.run(pipeline.run(7)) == 7


def test_one_of_many_nodes_that_cannot_be_sent_is_named():
    nodes = [PassThroughNode() for _ in range(1100)]
    nodes[700].lock = threading.Lock()

    found = [remark.text for remark in remarks(resolve(nodes))]

    assert found == [
        "node 'PassThroughNode_700' cannot be sent to a worker: attribute 'lock' is not serializable"
    ]


class Unsendable:
    def __reduce__(self):
        raise TypeError("stays here")


class Hooked(PassThroughNode):
    """Pickled by methods of its own, which refuse some of its objects."""

    is_refused = False

    def __getstate__(self):
        return Unsendable() if self.is_refused else {}


class Slotted(PassThroughNode):
    __slots__ = ("part",)


class Words(dict):
    """A value that JSON can represent, but that has an attribute which cannot be sent."""

    lock = None


def hooked():
    node = Hooked()
    node.is_refused = True
    return node


def slotted():
    node = Slotted()
    node.part = Unsendable()
    return node


def recorded():
    words = Words()
    words.lock = threading.Lock()
    node = PassThroughNode(words)
    node.name = "words"
    return node


@pytest.mark.parametrize("make", [hooked, slotted, recorded])
def test_a_node_that_cannot_be_sent_is_found_behind_one_of_its_class_that_can(make):
    nodes = [type(make())(), type(make())(), make(), type(make())()]

    remark = next(iter(remarks(resolve(nodes))))

    assert f"node '{make().name}_2' cannot be sent to a worker" in remark.text


def test_a_node_that_cannot_be_called_is_found_behind_one_of_its_class_that_can():
    nodes = [PassThroughNode(), PassThroughNode(), PassThroughNode()]
    nodes[1].process = lambda: 1
    nodes[2].process = lambda _first, _second: 2

    with pytest.raises(PipelineError, match="^Node 'PassThroughNode_2': process\\(\\) requires 2 arguments"):
        resolve(nodes)
