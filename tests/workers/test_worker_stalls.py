"""A node that stalls in a worker is named by its parent, with its current code."""

from __future__ import annotations

import time

import pytest

from remotemedia import Node, Pipeline


class Dawdler(Node):
    def process(self, item):
        time.sleep(item)
        return item


@pytest.mark.parametrize("way", ["call", "map"])
def test_a_node_that_stalls_in_a_worker_is_named_with_its_stack(way, caplog, capsys):
    pipeline = Pipeline("p").add_node(Dawdler(), id="dawdler", placement="process")

    with pipeline.open(stall_warning=0.2) as session:
        outputs = [session.call(0.7)] if way == "call" else list(session.map([0.7]))

    assert outputs == [0.7]
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith("node 'dawdler' has been busy with item 0 for 0.")
    assert "in its worker" in warning
    assert "[dawdler]" in (stderr := capsys.readouterr().err)
    assert "in process" in stderr
