"""Streams of chunks that are interrupted, left and closed at random moments."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from contextlib import suppress
from itertools import pairwise

import pytest

from remotemedia import Node, Pipeline, execute_pipeline_with_input, with_options
from remotemedia.exceptions import NodeError, SessionClosedError, SessionInterruptedError

TIMEOUT_SECS = 30
ITEMS = 3_000


class Work(Node):
    """Passes items on; some take time, become nothing, or come out of a generator."""

    def __init__(self, choose, number):
        super().__init__()
        self.part = 0.5**number
        self.factor = choose.choice([0, 0, 3, 50])
        self.slow = choose.choice([0, 0, 0, 97, 700])
        self.lazy = choose.choice([0, 0, 0, 131])
        self.inside = 0

    def process(self, item):
        self.inside += 1
        assert self.inside == 1, "two calls at once"
        try:
            if self.slow and item % self.slow == self.slow - 1:
                time.sleep(0.002)
            if self.factor and item % self.factor == 1:
                return None
            return self.several(item) if self.lazy and item % self.lazy == 5 else item
        finally:
            self.inside -= 1

    def several(self, item):
        yield item
        yield item + self.part / 4


class Batches(Node):
    """Passes batches on."""

    def process(self, batch):
        return [None if item % 17 == 3 else item for item in batch]


def nodes_of(choose):
    nodes = [with_options(Work(choose, number), placement="thread") for number in range(choose.randint(1, 4))]
    if choose.random() < 0.3:
        nodes.insert(0, with_options(Batches(), batch=choose.choice([2, 8, 32])))
    elif choose.random() < 0.2:
        nodes.append(with_options(Batches(), batch=8))
    return nodes


def check(outputs):
    """Check that outputs are in order, none twice."""
    assert all(before < after for before, after in pairwise(outputs))


def stop_at_random(seed):
    choose = random.Random(seed)
    nodes = nodes_of(choose)
    dropped, stop = [], threading.Event()
    way = choose.choice(["interrupt", "interrupt", "leave", "close", "share", "nothing"])
    source = choose.choice([list, tuple, iter])
    metrics = choose.random() < 0.2

    def disturb(session):
        time.sleep(choose.random() * 0.01)
        while not stop.is_set():
            if way == "interrupt":
                dropped.append(session.interrupt())
                time.sleep(choose.random() * 0.004)
            elif way == "share":
                with suppress(SessionInterruptedError):
                    check(list(session.map(source(range(100)))))
                    session.call(1_000_000)
            else:
                return
        with suppress(SessionClosedError):
            dropped.append(session.interrupt())

    with Pipeline(nodes).open(enable_metrics=metrics, queue_size=choose.choice([1, 5, 64, 64])) as session:
        thread = threading.Thread(target=disturb, args=(session,))
        thread.start()
        outputs, stream = [], session.map(source(range(ITEMS)))
        take = choose.randrange(ITEMS) if way in {"leave", "close"} else ITEMS * 2
        for output in stream:
            outputs.append(output)
            if len(outputs) >= take:
                break
        if way == "close":
            session.close()
        stream.close()
        stop.set()
        thread.join(TIMEOUT_SECS)
        assert not thread.is_alive()
        check(outputs)
        if way in {"nothing", "share"}:
            reference = execute_pipeline_with_input(
                nodes_of(random.Random(seed)), range(ITEMS), use_rust=False
            )
            assert outputs == asyncio.run(reference)
        elif way != "close":
            check(list(session.map(source(range(100)))))


def stop_many_times(count):
    first = random.SystemRandom().randrange(1 << 30)
    for seed in range(first, first + count):
        try:
            stop_at_random(seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def test_streams_of_chunks_stop_in_order():
    stop_many_times(15)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_many_streams_of_chunks_stop_in_order():
    stop_many_times(1_500)


def test_an_error_in_a_chunk_leaves_the_session_usable():
    class Fail(Node):
        def process(self, item):
            if item % 1_000 == 777:
                raise ValueError(item)
            return item

    with Pipeline([with_options(Fail(), placement="thread") for _ in range(2)]).open() as session:
        for _ in range(50):
            outputs = []
            with pytest.raises(NodeError, match="ValueError: 777"):
                outputs.extend(session.map(range(2_000)))
            assert outputs == list(range(777))
            assert session.call(1) == 1
