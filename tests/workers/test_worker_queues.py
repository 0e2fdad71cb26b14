"""The number of items that are sent to a worker in advance."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from remotemedia import Node, Pipeline


class Counts:
    """Returns the largest number of items that it has had at once."""

    def __init__(self):
        self.count = self.most = 0

    async def process(self, _item):
        self.count += 1
        self.most = max(self.most, self.count)
        await asyncio.sleep(0.002)
        self.count -= 1
        return self.most


class Display(Node):
    """Shows the first item until it is released."""

    def __init__(self, directory):
        super().__init__()
        self.directory = str(directory)

    def process(self, frame):
        (Path(self.directory) / "busy").touch()
        await_file(Path(self.directory) / "go")
        return frame


def await_file(path):
    until = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < until, "the file was not created"
        time.sleep(0.002)


def test_no_more_items_are_in_flight_than_concurrency_says():
    pipeline = Pipeline("p").add_node(Counts(), placement="process", concurrency=4)

    with pipeline.open() as session:
        assert max(session.map(range(200))) == 4


def test_a_queue_that_drops_old_items_is_before_the_worker(tmp_path):
    pipeline = Pipeline("p").add_node(
        Display(tmp_path), placement="process", queue_size=2, when_full="drop_oldest"
    )

    with pipeline.open(enable_metrics=True) as session:
        session.put(0)
        await_file(tmp_path / "busy")
        for frame in range(1, 50):
            session.put(frame)
        (tmp_path / "go").touch()
        session.end()
        frames = list(session)
        dropped = session.metrics()["node_metrics"][0]["dropped"]

    # One item may have been sent in advance.
    assert frames[0] == 0
    assert frames[-2:] == [48, 49]
    assert len(frames) <= 4
    assert dropped == 50 - len(frames)
