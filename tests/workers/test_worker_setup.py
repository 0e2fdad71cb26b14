"""How nodes reach a worker, and the environment of a worker."""

from __future__ import annotations

import asyncio
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from worker_nodes import Call, Echo, Lifecycle, in_worker

from remotemedia import Node, Pipeline, _core, execute_pipeline_with_input, with_options
from remotemedia._interpreter import import_path
from remotemedia.core.node_serialization import pack_nodes
from remotemedia.exceptions import NodeError, SerializationError


@pytest.fixture
def ask():
    with in_worker(Call()).open() as session:
        yield lambda *question: session.call(question)[0]


def test_a_worker_has_the_surroundings_of_its_parent(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REMOTEMEDIA_TEST", "é")
    monkeypatch.setattr(sys, "argv", ["program", "--flag"])
    monkeypatch.syspath_prepend(str(tmp_path))

    with in_worker(Call()).open() as session:
        [there] = session.call(["surroundings"])

    assert there["directory"] == str(tmp_path)
    # Other tests may have left entries that are not strings.
    assert there["path"] == import_path()
    assert there["argv"] == sys.argv
    assert there["variable"] == "é"


def test_a_worker_has_a_process_group_and_no_input(ask):
    there = ask("surroundings")

    assert there["group"]
    assert not there["raises_on_ctrl_c"]
    assert there["stdin"] == ""


def test_the_flags_of_the_interpreter_are_passed_on(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from remotemedia import Node, Pipeline\n"
        "class Flags(Node):\n"
        "    def process(self, item):\n"
        "        return sys.flags.optimize, sys.flags.dev_mode, sys.flags.utf8_mode\n"
        "with Pipeline([Flags()]).open(placement='process') as session:\n"
        "    print(session.call(1))\n"
    )
    command = [sys.executable, "-O", "-X", "dev", "-X", "utf8", "-W", "ignore", str(script)]

    completed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)

    assert completed.stderr == ""
    assert completed.stdout == "(1, True, 1)\n"


def test_a_module_in_the_current_directory_does_not_hide_one_of_python(tmp_path, monkeypatch):
    (tmp_path / "signal.py").write_text("raise RuntimeError('the wrong one')")
    monkeypatch.chdir(tmp_path)

    with in_worker(Echo()).open() as session:
        assert session.call(1) == [1]


def test_prints_of_a_node_reach_the_parent(ask, capsys):
    ask("log_and_print", "hello")
    ask("surroundings")

    assert wait_for(capsys, "[node] hello\n") == "[node] hello\n"


def wait_for(capsys, text):
    """Return standard output, once it contains the text: it does not arrive together with replies."""
    seen = ""
    pause = threading.Event()
    for _ in range(200):
        seen += capsys.readouterr().out
        if text in seen:
            break
        pause.wait(0.02)
    return seen


def test_a_node_is_cleaned_up_then_sent_and_initialized_there():
    node = Lifecycle()
    node.initialize()

    with in_worker(node).open() as session:
        assert session.call(1) == ["initialize", "cleanup", "initialize", "process"]

    assert node.calls == ["initialize", "cleanup"]
    assert not node.is_initialized


class Ready:
    """Always claims to be initialized."""

    is_initialized = True
    count = 0

    def initialize(self):
        self.count += 1

    def process(self, item):
        return self.count


def test_the_copy_of_a_node_that_was_ready_is_initialized_there():
    node = Ready()

    with in_worker(node).open() as session:
        assert session.call(1) == 1

    assert node.count == 0


class Sharing(Node):
    def __init__(self, shared):
        super().__init__()
        self.shared = shared

    def process(self, item):
        self.shared.append(item)
        return list(self.shared)


def test_objects_shared_by_two_nodes_of_a_worker_stay_shared():
    shared = []
    pipeline = Pipeline([Sharing(shared), Sharing(shared)])

    with pipeline.open(placement="process") as session:
        assert session.call(1) == [1, [1]]

    assert shared == []


def test_each_replica_has_its_copy():
    node = with_options(Sharing([]), placement="process", replicas=2, ordered=True)

    outputs = asyncio.run(execute_pipeline_with_input([node], range(20)))

    assert sum(len(output) == 1 for output in outputs) <= 2
    assert node.node.shared == []


class Client:
    def __init__(self):
        self.lock = threading.Lock()


def callback():
    client = Client()

    def call():
        return client

    return call


class Holder(Node):
    def __init__(self, **held):
        super().__init__()
        self.__dict__.update(held)

    def process(self, item):
        return item


@pytest.mark.parametrize(
    ("held", "path"),
    [
        ({"client": Client()}, "client.lock"),
        ({"handlers": [1, 2, threading.Lock()]}, "handlers[2]"),
        ({"cache": {"x": threading.Lock()}}, "cache['x']"),
        ({"deep": {"a": [({"b": Client()},)]}}, "deep['a'][0][0]['b'].lock"),
        ({"callback": callback()}, "callback.client.lock"),
        ({"events": {1: threading.Event()}}, "events[1]._cond._lock"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_attribute_that_cannot_be_sent_is_named_before_anything_starts(held, path):
    first = Lifecycle()
    pipeline = Pipeline("p").add_node(first).add_node(Holder(**held), placement="process")

    with pytest.raises(SerializationError) as caught:
        pipeline.open().__enter__()

    error = caught.value
    assert error.attribute == path
    assert str(error).startswith(
        f"Cannot serialize Node 'Holder': attribute '{path}' is not serializable.\n"
        "Suggestion: Call node.cleanup() before serialization"
    )
    assert "cannot pickle '_thread." in error.reason
    assert first.calls == []


def test_a_variable_of_a_function_that_cannot_be_sent_is_named():
    lock = threading.Lock()

    class Local(Node):
        def process(self, item):
            with lock:
                return item

    with pytest.raises(SerializationError) as caught:
        in_worker(Local()).open().__enter__()

    assert caught.value.attribute == "Local.process.lock"


def test_a_call_refuses_items_that_cannot_be_sent():
    nodes = [Holder(client=Client())]

    with pytest.raises(SerializationError, match="'client.lock'"):
        asyncio.run(execute_pipeline_with_input(nodes, [1], executor="multiprocess"))


class FailsToCleanUp(Node):
    def process(self, item):
        return item

    def cleanup(self):
        raise ValueError("not clean")


def test_a_cleanup_that_fails_before_sending_is_reported_as_such():
    node = FailsToCleanUp()
    node.is_initialized = True

    with pytest.raises(NodeError, match=r"Node 'node' failed in cleanup\(\): ValueError: not clean"):
        in_worker(node).open().__enter__()


class Cleans:
    """Records that it was cleaned up, in the object of the current process."""

    def __init__(self, lock=None):
        self.lock = lock
        self.calls = []

    def process(self, item):
        return [*self.calls]

    def cleanup(self):
        self.lock = None
        self.calls.append("cleanup")


@pytest.mark.parametrize(
    ("lock", "calls"), [(None, []), (threading.Lock(), ["cleanup"])], ids=["sent", "locked"]
)
def test_an_object_that_was_never_initialized_is_cleaned_up_only_to_be_sent(lock, calls):
    node = Cleans(lock)

    with in_worker(node).open() as session:
        assert session.call(1) == calls

    assert node.calls == calls


class CleansUpLater(Node):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()

    def process(self, item):
        return item

    async def cleanup(self):
        await asyncio.sleep(0)
        self.lock = None


def test_a_cleanup_that_is_a_coroutine_is_awaited_before_sending():
    async def run():
        return await execute_pipeline_with_input([CleansUpLater()], [1], executor="multiprocess")

    assert asyncio.run(run()) == [1]


def test_large_arrays_of_a_node_are_not_copied_to_be_sent():
    weights = [np.zeros(1_000_000) for _ in range(12)]
    taken = []

    pickled, _ = pack_nodes([("node", Holder(weights=weights))], lambda: taken.append)

    assert len(pickled) < 10_000
    assert [buffer.raw().nbytes for buffer in taken] == [8_000_000] * 12


class Counted:
    """Counts how often it is pickled."""

    count = 0

    def __reduce__(self):
        Counted.count += 1
        return Counted, ()


def test_the_search_for_what_cannot_be_sent_pickles_each_part_a_few_times():
    parts = {f"part {number}": [Counted() for _ in range(100)] for number in range(100)}
    nested = {"first": parts, "second": [[[{"lock": threading.Lock()}]]]}
    Counted.count = 0

    with pytest.raises(SerializationError) as caught:
        pack_nodes([("node", Holder(nested=nested))], lambda: lambda _: None)

    assert caught.value.attribute == "nested['second'][0][0][0]['lock']"
    assert Counted.count <= 5 * 100 * 100


def test_arguments_with_very_many_parts_are_sent_as_attributes_alone():
    rows = [[number] for number in range(20_000)]

    [copy] = pickle.loads(pack_nodes([("node", Holder(rows=rows))], lambda: lambda _: True)[0])

    assert copy.rows == rows


def test_the_signal_for_stacks_is_one_that_nothing_else_uses():
    import signal

    assert signal.SIGRTMIN < _core.STACK_SIGNAL <= signal.SIGRTMAX


def test_a_worker_needs_a_parent():
    code = "from remotemedia._workers.process import main; main()"

    completed = subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )

    assert completed.returncode == 1
    assert "OSError: the worker lost the connection to its parent" in completed.stderr


def test_a_worker_imports_little():
    code = (
        "import sys; known = set(sys.modules)\n"
        "import remotemedia._workers.process, remotemedia._core\n"
        "print(*sorted(set(sys.modules) - known))"
    )

    completed = subprocess.run(
        [sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=50
    )

    assert not {"asyncio", "inspect", "logging", "cloudpickle", "numpy", "subprocess"} & set(
        completed.stdout.split()
    )
    assert Path(_core.__file__).exists()


IMPORTED = """
from remotemedia import Pipeline

class Same:
    def process(self, item):
        return item

with Pipeline([Same()]).open(placement="process") as session:
    print(session.call(1))
"""


def test_the_error_for_a_module_that_opens_workers_on_import_says_so(tmp_path):
    (tmp_path / "imported.py").write_text(IMPORTED)

    completed = subprocess.run(
        [sys.executable, "-c", "import imported"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )

    assert completed.returncode == 1
    assert "A module that a worker imports starts workers at import time." in completed.stderr
