"""Nodes as bytes."""

from __future__ import annotations

import asyncio
import io
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotemedia import Node
from remotemedia.core import node_serialization
from remotemedia.core.node_serialization import (
    SerializationError,
    deserialize_node_from_ipc,
    pack_nodes,
    serialize_node_for_ipc,
    validate_node_serializable,
)
from remotemedia.exceptions import NodeError


class Holder(Node):
    def __init__(self, **config):
        super().__init__(**config)
        self.calls = []

    def initialize(self):
        super().initialize()
        self.calls.append("initialize")

    def process(self, data):
        return data

    def cleanup(self):
        super().cleanup()
        self.calls.append("cleanup")


class Client:
    def __init__(self):
        self.lock = threading.Lock()


class Listed(list):
    def __init__(self, lock):
        self.lock = lock


def test_a_node_is_cleaned_up_sent_and_initialized():
    node = Holder(name="h", rate=16)
    node.initialize()

    arrived = deserialize_node_from_ipc(serialize_node_for_ipc(node))

    assert not node.is_initialized
    assert arrived.is_initialized
    assert arrived.calls == ["initialize", "cleanup", "initialize"]
    assert arrived.to_manifest() == node.to_manifest()


def test_a_class_inside_a_function_is_sent_whole():
    class Local:
        def process(self, data):
            return data + 1

    assert deserialize_node_from_ipc(serialize_node_for_ipc(Local())).process(1) == 2


def test_the_error_for_the_quickstarts_bad_node_is_exact(tmp_path):
    node = Holder(name="bad")

    with (tmp_path / "data.txt").open("w") as node.file_handle, pytest.raises(SerializationError) as caught:
        serialize_node_for_ipc(node)

    first, second, _ = str(caught.value).split("\n")
    assert first == "Cannot serialize Node 'bad': attribute 'file_handle' is not serializable."
    assert second.startswith("Suggestion: Call node.cleanup() before serialization")
    assert caught.value.node_name == "bad"
    assert caught.value.attribute == "file_handle"
    assert "Cannot pickle files" in caught.value.reason


@pytest.mark.parametrize(
    ("name", "value", "path"),
    [
        ("client", Client, "client.lock"),
        ("handlers", lambda: [1, 2, threading.Lock()], "handlers[2]"),
        ("cache", lambda: {"y": 1, "x": threading.Lock()}, "cache['x']"),
        ("deep", lambda: {"a": [Client()]}, "deep['a'][0].lock"),
        ("stream", lambda: (n for n in ()), "stream"),
        ("listed", lambda: Listed(threading.Lock()), "listed.lock"),
    ],
)
def test_an_attribute_that_cannot_be_sent_is_named_by_its_path(name, value, path):
    node = Holder()
    setattr(node, name, value())

    with pytest.raises(SerializationError) as caught:
        serialize_node_for_ipc(node)

    assert caught.value.attribute == path


@pytest.mark.parametrize("mode", ["r", "rb", "w", "wb", "r+b"])
@pytest.mark.parametrize("buffering", [-1, 0])
def test_open_files_are_refused_in_every_mode(tmp_path, mode, buffering):
    """A text file that was open for reading became a text in memory."""
    if buffering == 0 and "b" not in mode:
        buffering = 1
    (tmp_path / "file").write_text("text")
    node = Holder()

    with (tmp_path / "file").open(mode, buffering) as node.file:
        assert not validate_node_serializable(node)
        with pytest.raises(SerializationError) as caught:
            serialize_node_for_ipc(node)

    assert caught.value.attribute == "file"
    assert "PicklingError: Cannot pickle files" in caught.value.reason


def test_files_in_memory_and_the_standard_streams_are_sent():
    node = Holder()
    node.files = [io.StringIO("text"), io.BytesIO(b"bytes")]
    node.output = sys.stdout

    arrived = deserialize_node_from_ipc(serialize_node_for_ipc(node))

    assert [file.read() for file in arrived.files] == ["text", b"bytes"]
    assert arrived.output is sys.stdout


def test_a_circle_ends():
    node = Holder()
    node.circle = [node, threading.Lock()]

    with pytest.raises(SerializationError) as caught:
        serialize_node_for_ipc(node)

    assert caught.value.attribute == "circle[1]"


class Counted:
    count = 0

    def __reduce__(self):
        Counted.count += 1
        return Counted, (), vars(self)


@pytest.mark.parametrize("where", [0, 500, 999])
def test_a_large_node_is_searched_in_one_pass(where, monkeypatch):
    """It was pickled twice and then searched from its top, for seconds, until a timeout."""
    monkeypatch.setattr(Counted, "count", 0)
    node = Holder()
    node.parts = [(Counted(), {"client": Counted()}) for _ in range(1000)]
    node.parts[where][1]["client"].lock = threading.Lock()

    with pytest.raises(SerializationError) as caught:
        serialize_node_for_ipc(node)

    assert caught.value.attribute == f"parts[{where}][1]['client'].lock"
    pickled = 2 * (where + 1)
    assert Counted.count < 2 * pickled + 10


class Box:
    def __init__(self, **things):
        vars(self).update(things)


FILLINGS = [lambda: 1, lambda: [Box(), {"x": Box()}], Box, lambda: Box(parts=[Box() for _ in range(30)])]

steps = st.tuples(
    st.sampled_from(["attribute", "list", "dict"]),
    # As many others before and after it.
    st.lists(st.sampled_from(FILLINGS), max_size=90),
    st.lists(st.sampled_from(FILLINGS), max_size=5),
)


@given(st.lists(steps, min_size=1, max_size=5))
def test_an_attribute_that_cannot_be_sent_is_found_at_any_depth(way):
    path, value = "", threading.Lock()
    for kind, before, behind in reversed(way):
        values = [*(make() for make in before), value, *(make() for make in behind)]
        place = len(before)
        if kind == "list":
            value, path = values, f"[{place}]{path}"
        elif kind == "dict":
            value, path = {f"k{index}": part for index, part in enumerate(values)}, f"['k{place}']{path}"
        else:
            value, path = Box(**{f"a{index}": part for index, part in enumerate(values)}), f".a{place}{path}"
    node = Holder()
    node.whole = value

    with pytest.raises(SerializationError) as caught:
        serialize_node_for_ipc(node)

    assert caught.value.attribute == f"whole{path}"


class Makes:
    """Creates an object that does not pickle, while it is pickled itself."""

    def __getstate__(self):
        return {"fine": Client, "stream": (number for number in ())}


def test_objects_created_while_their_owner_is_pickled_are_named(monkeypatch):
    """An object created during pickling is a new one each time, so it was not found in its owner."""
    monkeypatch.setattr(Counted, "count", 0)
    node = Holder()
    node.parts = [[Counted()] for _ in range(1000)]
    node.parts[700].append(Makes())

    with pytest.raises(SerializationError) as caught:
        serialize_node_for_ipc(node)

    assert caught.value.attribute == "parts[700][1].stream"
    assert Counted.count <= 2 * 701


def test_the_node_among_several_that_cannot_be_sent_is_named():
    nodes = [("first", Holder(name="a")), ("second", Holder(name="b")), ("third", Holder(name="c"))]
    nodes[1][1].client = Client()

    with pytest.raises(SerializationError) as caught:
        pack_nodes(nodes, lambda: lambda _: None)

    assert (caught.value.node_name, caught.value.attribute) == ("b", "client.lock")


def test_a_node_over_the_limit_is_refused(monkeypatch):
    monkeypatch.setattr(node_serialization, "MAX_SERIALIZED_SIZE_BYTES", 1000)
    node = Holder(name="big")
    node.data = bytes(2000)

    with pytest.raises(
        SerializationError, match="^Cannot serialize Node 'big': its size is .* MiB, and the limit is"
    ):
        serialize_node_for_ipc(node)


def test_validating_leaves_the_node_alone():
    node = Holder()
    node.initialize()

    assert validate_node_serializable(node) is True
    assert node.is_initialized
    node.lock = threading.Lock()
    assert validate_node_serializable(node) is False


def test_bytes_that_do_not_contain_a_node_are_refused():
    with pytest.raises(SerializationError, match="^Cannot deserialize a node: "):
        deserialize_node_from_ipc(b"junk")


def test_a_failing_cleanup_raises_node_error():
    class Failing(Holder):
        def cleanup(self):
            raise ValueError("stuck")

    with pytest.raises(NodeError, match="^Node 'Failing' failed in cleanup\\(\\): ValueError: stuck$"):
        serialize_node_for_ipc(Failing())


def test_async_lifecycle_runs_inside_a_running_loop():
    class Async(Holder):
        async def cleanup(self):
            await asyncio.sleep(0)
            self.calls.append("async cleanup")

    async def send():
        return serialize_node_for_ipc(node)

    node = Async()
    asyncio.run(send())

    assert node.calls == ["async cleanup"]
