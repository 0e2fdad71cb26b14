"""Streams whose items go through a thread together, and are interrupted or end in the middle."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import suppress

import pytest
from chunk_nodes import (
    SOURCES,
    TIMEOUT_SECS,
    Add,
    Block,
    Pass,
    on_thread,
)

from remotemedia import Pipeline, with_options
from remotemedia.exceptions import NodeTimeoutError, SessionClosedError


class TestInterruption:
    @SOURCES
    def test_the_rest_of_a_chunk_is_dropped_and_the_stream_goes_on(self, source):
        # The item may be the last of its chunk, but not each time.
        assert any(self.interrupted_at_2000(source) > 2_001 for _ in range(5))

    def interrupted_at_2000(self, source):
        """Interrupt a stream in the middle; return the item that the node is given next."""
        block = Block(2_000)
        dropped = []

        def interrupt():
            assert block.is_there.wait(TIMEOUT_SECS)
            threading.Timer(0.1, block.go.set).start()
            dropped.append(session.interrupt())

        with on_thread(Add(), block).open() as session:
            thread = threading.Thread(target=interrupt)
            thread.start()
            outputs = list(session.map(source(4_000)))
            thread.join()

        assert dropped[0] > 0
        assert len(block.seen) + dropped[0] >= 4_000
        assert outputs == sorted(set(outputs))
        assert outputs[-1] == 4_000
        assert 2_000 not in outputs
        return block.seen[block.seen.index(2_000) + 1]

    def test_every_item_comes_out_or_is_counted(self):
        for _ in range(20):
            stop, dropped = threading.Event(), []

            def interrupt(session, stop=stop, dropped=dropped):
                while not stop.is_set():
                    time.sleep(0.002)
                    dropped.append(session.interrupt())

            with on_thread(Pass(), Pass()).open(enable_metrics=True) as session:
                thread = threading.Thread(target=interrupt, args=(session,))
                thread.start()
                outputs = list(session.map(range(3_000)))
                stop.set()
                thread.join()
                metrics = session.metrics()
            assert outputs == sorted(set(outputs))
            assert metrics["interrupted"] == sum(dropped)
            # Outputs that were dropped before they were taken belong to items that were done.
            assert len(outputs) + sum(dropped) <= 3_000

    @pytest.mark.parametrize("options", [{}, {"retries": 1}])
    def test_a_stream_that_is_closed_leaves_the_rest_of_its_chunk(self, options):
        """With `retries`, items are taken one by one."""
        for _ in range(50):
            block = Block(2_000)
            placed = with_options(block, placement="thread", **options)
            with Pipeline([placed]).open(queue_size=1_000) as session:
                outputs = session.map(range(4_000))
                assert list(itertools.islice(outputs, 1_900)) == list(range(1_900))
                # How far the node is ahead depends on how many outputs came at once.
                is_there = block.is_there.wait(0.2)
                outputs.close()
                block.go.set()
                assert session.call(-1) == -1
            assert block.seen[-1] == -1
            if is_there:
                assert block.seen[-2] == 2_000
                return
        pytest.fail("the node was never ahead of the outputs")

    def test_a_close_names_the_node_that_does_not_return(self):
        block = Block(2_000)

        def read():
            with suppress(SessionClosedError):
                list(session.map(range(4_000)))

        with on_thread(Add(), block).open() as session:
            thread = threading.Thread(target=read)
            thread.start()
            assert block.is_there.wait(TIMEOUT_SECS)
            with pytest.raises(NodeTimeoutError, match="Block_1") as info:
                session.close(timeout=0.2)
            block.go.set()
            thread.join(TIMEOUT_SECS)
        assert info.value.node_id == "Block_1"
        # In the middle of a chunk the item is not known.
        assert info.value.item_index in {None, 1_999}
