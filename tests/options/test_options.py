"""The options of nodes: full queues, errors, retries, timeouts; in manifests as in `with_options`."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial
from itertools import pairwise

import pytest
from stream_nodes import TIMEOUT_SECS, Add, Fails, Hold, Worker, logged

from remotemedia import Pipeline, execute_pipeline_with_input, with_options
from remotemedia._core import draw
from remotemedia.exceptions import (
    NodeError,
    SessionClosedError,
    SessionInterruptedError,
)


class Flaky:
    """Fails the first times that it receives an item."""

    def __init__(self, failures):
        self.failures = failures
        self.tries = []

    def process(self, item):
        self.tries.append(item)
        if self.tries.count(item) <= self.failures:
            raise ValueError(f"try {self.tries.count(item)}")
        return item


class AsyncFlaky(Flaky):
    async def process(self, item):
        await asyncio.sleep(0)
        return super().process(item)


class FlakyGenerator(Flaky):
    def process(self, item):
        yield super().process(item)
        yield item


class AsyncFails(Fails):
    async def process(self, item):
        return super().process(item)


class EachOf:
    """Processes a batch item by item."""

    def __init__(self, node):
        self.node = node

    def process(self, items):
        return [self.node.process(item) for item in items]


def run(nodes, items):
    return asyncio.run(execute_pipeline_with_input(nodes, items))


class TestWhenFull:
    @pytest.mark.parametrize(("when_full", "kept"), [("drop_oldest", [0, 8, 9]), ("drop_newest", [0, 1, 2])])
    def test_items_that_find_no_room_are_dropped_and_counted(self, when_full, kept):
        hold = Hold()

        with Pipeline([with_options(hold, queue_size=2, when_full=when_full)]).open(
            enable_metrics=True
        ) as session:
            session.put(0)
            assert hold.is_there.wait(TIMEOUT_SECS)
            for number in range(1, 10):
                session.put(number)
            hold.go.set()
            session.end()
            outputs = list(session)
            metrics = session.metrics()

        assert outputs == kept
        assert metrics["node_metrics"][0]["dropped"] == 7
        assert metrics["node_metrics"][0]["peak_queue_len"] == 2

    def test_drops_are_in_the_log(self):
        hold = Hold()
        node = with_options(hold, queue_size=1, when_full="drop_newest")

        with (
            logged("dropped because the queue of node 'Hold_0'") as (is_logged, records),
            Pipeline([node]).open() as session,
        ):
            session.put(0)
            assert hold.is_there.wait(TIMEOUT_SECS)
            for number in range(1, 6):
                session.put(number)
            assert is_logged.wait(TIMEOUT_SECS)
            hold.go.set()

        assert [record.getMessage() for record in records] == [
            "4 items were dropped because the queue of node 'Hold_0' was full"
        ]

    def test_a_call_whose_item_is_dropped_has_no_result(self):
        hold = Hold("held")

        with Pipeline([with_options(hold, queue_size=1, when_full="drop_oldest")]).open() as session:
            held = Worker(lambda: session.call("held"))
            assert hold.is_there.wait(TIMEOUT_SECS)
            session.put("old")
            session.put("new")
            hold.go.set()
            session.end()
            outputs = list(session)

        assert (held.result(), outputs) == ("held", ["new"])


class TestOnError:
    @pytest.mark.parametrize("options", [{}, {"placement": "thread"}, {"queue_size": 3}])
    def test_skip_drops_the_item_and_counts_the_error(self, options):
        nodes = [with_options(Fails(1, 3), on_error="skip", **options)]

        with Pipeline(nodes).open(enable_metrics=True) as session:
            outputs = list(session.map(range(5)))
            metrics = session.metrics()

        assert outputs == [0, 2, 4]
        assert metrics["node_metrics"][0]["errors"] == 2

    @pytest.mark.parametrize("name", ["on_error", "dead_letter"])
    def test_a_callable_gets_the_item_and_its_error(self, name):
        letters = []
        node = with_options(Fails(1), **{name: lambda item, error: letters.append((item, error))})

        outputs = run([node, Add()], [0, 1, 2])

        [(item, error)] = letters
        assert outputs == [1, 3]
        assert item == 1
        assert isinstance(error, NodeError)
        assert isinstance(error.__cause__, ValueError)
        assert (error.node_id, error.phase) == ("Fails_0", "process")

    @pytest.mark.parametrize("use_rust", [True, False])
    @pytest.mark.parametrize(
        "options", [{}, {"placement": "thread"}, {"batch": 1}, {"retries": 1}, {"concurrency": 2}]
    )
    def test_the_error_has_the_index_of_the_item(self, options, use_rust):
        indices = []
        node = AsyncFails(2, 3) if "concurrency" in options else Fails(2, 3)
        node = EachOf(node) if "batch" in options else node
        node = with_options(
            node, dead_letter=lambda item, error: indices.append((item, error.item_index)), **options
        )

        outputs = asyncio.run(Pipeline([node]).run([1, 2, 3, 4], use_rust=use_rust))

        assert outputs == [1, 4]
        assert indices == [(2, 1), (3, 2)]

    def test_the_error_of_each_item_of_a_batch_has_its_own_index(self):
        class Refuses:
            def process(self, items):
                raise ValueError

        indices = []
        node = with_options(Refuses(), batch=3, on_error=lambda item, error: indices.append(error.item_index))

        assert run([node], [0, 0, 0, 0]) == []
        assert indices == [0, 1, 2, 3]

    def test_the_error_of_a_generator_has_the_index_of_the_item(self):
        class Breaks:
            def process(self, item):
                yield item
                raise ValueError

        indices = []
        node = with_options(Breaks(), on_error=lambda item, error: indices.append(error.item_index))

        assert run([node], [7, 8]) == [7, 8]
        assert indices == [0, 1]

    def test_a_callable_is_shown_by_its_name(self):
        def save(item, error):
            pass

        named = {"on_error": save, "dead_letter": [].append}
        nodes = [with_options(Add(), **{option: handler}) for option, handler in named.items()]
        nodes += [
            with_options(Add(), on_error=partial(save, 1)),
            with_options(Add(), dead_letter=Add.process),
        ]

        picture = draw(Pipeline(nodes).to_graph(), "text")

        shown = [line.partition("inline")[2].strip() for line in picture.splitlines() if "inline" in line]
        assert shown == [
            "on_error save",
            "dead_letter list.append",
            "on_error save",
            "dead_letter Add.process",
        ]

    def test_a_callable_that_raises_is_the_error_of_the_item(self):
        def refuse(item, error):
            raise KeyError("full")

        with pytest.raises(NodeError, match="full"):
            run([with_options(Fails(1), dead_letter=refuse)], [0, 1])

    def test_outputs_of_a_generator_before_its_failure_are_kept(self):
        class Breaks:
            def process(self, item):
                yield item
                raise ValueError

        assert run([with_options(Breaks(), on_error="skip")], [1, 2]) == [1, 2]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_exit_exceptions_are_never_skipped(self, error):
        class Stops:
            def process(self, item):
                raise error

        with (
            pytest.raises(error),
            Pipeline([with_options(Stops(), on_error="skip", retries=3)]).open() as session,
        ):
            session.call(1)

    def test_a_batch_that_fails_is_skipped_whole(self):
        class Node:
            def process(self, items):
                if 2 in items:
                    raise ValueError
                return items

        letters = []
        node = with_options(Node(), batch=2, dead_letter=lambda item, error: letters.append(item))

        assert run([node], range(6)) == [0, 1, 4, 5]
        assert letters == [2, 3]


class TestRetries:
    @pytest.mark.parametrize("kind", [Flaky, AsyncFlaky, FlakyGenerator])
    @pytest.mark.parametrize("options", [{}, {"placement": "thread"}])
    def test_an_item_is_tried_again(self, kind, options):
        node = kind(failures=2)

        outputs = run([with_options(node, retries=2, **options)], [1, 2])

        assert outputs == [1, 1, 2, 2] if kind is FlakyGenerator else [1, 2]
        assert node.tries == [1, 1, 1, 2, 2, 2]

    def test_items_in_flight_are_tried_again(self):
        node = AsyncFlaky(failures=2)

        assert run([with_options(node, retries=2, concurrency=4)], [1, 2, 3]) == [1, 2, 3]
        assert sorted(node.tries) == [1, 1, 1, 2, 2, 2, 3, 3, 3]

    @pytest.mark.parametrize("options", [{}, {"placement": "thread"}, {"concurrency": 2}])
    def test_an_async_generator_is_tried_again(self, options):
        class AsyncFlakyGenerator(Flaky):
            async def process(self, item):
                yield super().process(item)
                yield item

        assert run([with_options(AsyncFlakyGenerator(2), retries=2, **options)], [1, 2]) == [1, 1, 2, 2]

    def test_a_batch_is_tried_again(self):
        class Node(Flaky):
            def process(self, items):
                super().process(tuple(items))
                return items

        node = Node(failures=1)

        assert run([with_options(node, retries=1, batch=2)], [1, 2]) == [1, 2]
        assert node.tries == [(1, 2), (1, 2)]

    def test_the_last_error_is_logged(self):
        with pytest.raises(NodeError, match="failed in process\\(\\) on item 0: ValueError: try 3"):
            run([with_options(Flaky(failures=9), retries=2)], [1])

    def test_the_pause_doubles(self):
        times = []

        class Node:
            def process(self, item):
                times.append(time.monotonic())
                if len(times) < 4:
                    raise ValueError
                return item

        run([with_options(Node(), retries=3, retry_delay=0.02)], [1])
        pauses = [after - before for before, after in pairwise(times)]

        # Half of each pause is random, so that items that failed together are not retried together.
        assert all(pause >= 0.01 * 2**number for number, pause in enumerate(pauses))

    @pytest.mark.parametrize(
        ("stop", "error"), [("interrupt", SessionInterruptedError), ("close", SessionClosedError)]
    )
    def test_a_call_that_is_stopped_in_a_pause_does_not_raise_the_error_of_its_last_attempt(
        self, stop, error
    ):
        node = Flaky(failures=9)
        session = Pipeline([with_options(node, retries=9, retry_delay=50)]).open().__enter__()
        call = Worker(lambda: session.call(1))
        while not node.tries:
            threading.Event().wait(0.001)

        getattr(session, stop)()

        with pytest.raises(error):
            call.result()
        session.close()

    def test_a_pause_ends_when_the_session_closes(self):
        node = Flaky(failures=9)
        session = (
            Pipeline([with_options(node, retries=9, retry_delay=50)]).open(placement="thread").__enter__()
        )
        with logged("") as _:
            call = Worker(lambda: session.call(1))
            while not node.tries:
                threading.Event().wait(0.001)
            started = time.monotonic()
            session.close()

        with pytest.raises(SessionClosedError):
            call.result()
        assert time.monotonic() - started < TIMEOUT_SECS / 4
