"""`Session`: an open pipeline for plain Python."""

from __future__ import annotations

import contextlib
import itertools
import threading

import pytest
from stream_nodes import TIMEOUT_SECS, Add, AsyncAdd, Count, Fails, Hold, Noting, Odd, Twice, Worker

from remotemedia import Pipeline, with_options
from remotemedia.exceptions import NodeError, PipelineError, SessionClosedError

PLACEMENTS = pytest.mark.parametrize("placement", ["inline", "thread"])


class TestCall:
    @PLACEMENTS
    def test_results_have_the_shapes_of_execute_pipeline(self, placement):
        with Pipeline([Odd(), Add()]).open(placement=placement) as session:
            nothing, one = session.call(2), session.call(3)
        with Pipeline([Twice()]).open(placement=placement) as session:
            several = session.call(1)

        assert (nothing, one, several) == (None, 4, [1, 1])

    def test_an_inline_call_runs_on_the_thread_of_its_caller(self):
        class Where:
            def process(self, item):
                return threading.get_ident()

        with Pipeline([Where()]).open() as session:
            ident = session.call(1)

        assert ident == threading.get_ident()

    def test_state_lasts_from_the_start_of_the_block_to_its_end(self):
        log = []

        with Pipeline([Noting("a", log), Noting("b", log)]).open() as session:
            session.call(1)
            session.call(2)

        assert log == ["initialize a", "initialize b", 1, 1, 2, 2, "cleanup b", "cleanup a"]

    def test_the_object_itself_runs_and_is_passed_on(self):
        item = object()

        with Pipeline([Noting(), with_options(Noting(), placement="thread")]).open() as session:
            result = session.call(item)

        assert result is item

    @PLACEMENTS
    def test_an_error_is_raised_by_its_call_and_the_session_continues(self, placement):
        with Pipeline([Fails(1)]).open(placement=placement) as session:
            first = session.call(0)
            with pytest.raises(
                NodeError, match="failed in process\\(\\) on item 1: ValueError: bad 1"
            ) as caught:
                session.call(1)
            last = session.call(2)

        assert (first, last) == (0, 2)
        assert isinstance(caught.value.__cause__, ValueError)
        assert (caught.value.node_id, caught.value.item_index) == ("Fails_0", 1)

    @PLACEMENTS
    def test_a_call_does_not_flush(self, placement):
        with Pipeline([Count()]).open(placement=placement) as session:
            results = [session.call("a"), session.call("b")]
            rest = list(session.map([]))

        assert results == ["a", "b"]
        assert rest == ["2 items"]

    def test_coroutines_run_on_a_loop_of_the_sessions_own(self):
        with Pipeline([AsyncAdd(), Add()]).open() as session:
            results = [session.call(number) for number in range(3)]

        assert results == [2, 3, 4]

    def test_a_slow_one_does_not_delay_another_stage(self):
        hold = Hold("slow")
        pipeline = Pipeline("fork")
        pipeline.add_node(Noting(), id="in")
        pipeline.add_node(hold, id="hold", after="in", placement="thread", replicas=2, ordered=False)
        with pipeline.open() as session:
            slow = Worker(lambda: session.call("slow"))
            assert hold.is_there.wait(TIMEOUT_SECS)

            quick = session.call("quick")

            hold.go.set()
            assert (quick, slow.result()) == ("quick", "slow")

    def test_nothing_is_taken_after_the_block(self):
        with Pipeline([Add()]).open() as session:
            pass

        with pytest.raises(SessionClosedError, match="The session is closed"):
            session.call(1)


class TestMap:
    @PLACEMENTS
    def test_outputs_are_in_order_and_the_nodes_are_flushed(self, placement):
        with Pipeline([Odd(), Twice(), Count()]).open(placement=placement) as session:
            outputs = list(session.map(range(5)))

        assert outputs == [1, 1, 3, 3, "4 items"]

    @PLACEMENTS
    def test_nothing_is_read_before_the_first_output_is_requested(self, placement):
        read = []

        with Pipeline([Add()]).open(placement=placement) as session:
            session.map(number for number in read.append(0) or [1])
            outputs = session.map(read.append(number) or number for number in itertools.count())

            assert read == [0]
            assert next(outputs) == 1

    @pytest.mark.parametrize(
        ("options", "most"), [({}, 1), ({"placement": "thread", "queue_size": 4}, 4 + 2)]
    )
    def test_not_more_is_read_ahead_than_the_queues_hold(self, options, most):
        read, ahead = itertools.count(), []

        with Pipeline([Add()]).open(**options) as session:
            outputs = itertools.islice(session.map(read), 1000)
            ahead.extend(int(repr(read)[6:-1]) - output for output in outputs)

        assert max(ahead) <= most

    @PLACEMENTS
    def test_a_consumer_that_stops_early_stops_the_producer(self, placement):
        log = []

        def numbers():
            try:
                yield from itertools.count()
            finally:
                log.append("producer closed")

        with Pipeline([Noting(log=log)]).open(placement=placement) as session:
            outputs = session.map(numbers())
            first = next(outputs)
            del outputs
            log.append("stopped")
            last = session.call("next")

        assert (first, last) == (0, "next")
        assert log.index("producer closed") < log.index("stopped")

    @PLACEMENTS
    def test_an_error_is_raised_after_the_earlier_outputs(self, placement):
        outputs = []

        with Pipeline([Fails(2)]).open(placement=placement) as session:
            with pytest.raises(NodeError, match="bad 2") as caught:
                outputs.extend(session.map(iter([0, 1, 2, 3])))
            again = list(session.map([4, 5]))

        assert outputs == [0, 1]
        assert caught.value.item_index == 2
        assert again == [4, 5]

    @PLACEMENTS
    def test_an_error_of_the_input_passes_as_itself(self, placement):
        def items():
            yield 1
            raise OSError("unplugged")

        outputs = []

        with Pipeline([Add()]).open(placement=placement) as session:
            with pytest.raises(OSError, match="unplugged"):
                outputs.extend(session.map(items()))
            again = session.call(5)

        assert outputs == [2]
        assert again == 6

    @PLACEMENTS
    def test_several_streams_at_once_get_their_own_outputs(self, placement):
        with Pipeline([Odd(), Twice()]).open(placement=placement, queue_size=2) as session:
            workers = [
                Worker(lambda start=start: list(session.map(range(start, start + 50))))
                for start in range(0, 400, 50)
            ]
            results = [worker.result() for worker in workers]

        assert results == [
            [number for number in range(start, start + 50) if number % 2 for _ in "ab"]
            for start in range(0, 400, 50)
        ]


class TestItemIndex:
    """Each item of a session has its own index, whichever method put it in."""

    def indices(self, session, *ways):
        found = []
        for way in ways:
            try:
                way(session)
            except NodeError as error:
                found.append(error.item_index)
        return found

    def call(self, session):
        session.call("bad")

    def map_list(self, session):
        list(session.map(["good"] * 9 + ["bad"]))

    def map_generator(self, session):
        list(session.map(iter(["good", "bad"])))

    def put(self, session):
        session.put("bad")
        next(iter(session))

    @pytest.mark.parametrize("options", [{}, {"placement": "thread"}, {"enable_metrics": True}])
    def test_all_ways_count_together(self, options):
        with Pipeline([Fails("bad")]).open(**options) as session:
            found = self.indices(
                session,
                self.call,
                self.put,
                self.call,
                self.map_list,
                self.put,
                self.map_generator,
                self.call,
            )

        assert found[:3] == [0, 1, 2]
        assert found[3] == 12
        assert found[4:6] == [13, 15]
        assert found[6] == 16

    @pytest.mark.parametrize("options", [{}, {"placement": "thread"}, {"queue_size": 3}])
    def test_an_end_of_input_is_not_an_item(self, options):
        """An error on an output of a flush had the item index 18446744073709551615."""

        def stream(session):
            list(session.map(["good", "good"]))

        with Pipeline([Count(), Fails("2 items", "bad", "5 items")]).open(**options) as session:
            found = self.indices(session, stream, self.call, stream, self.call)

        assert found == [1, 2, 4, 5]


class TestSource:
    @PLACEMENTS
    def test_its_items_are_returned_by_the_iteration(self, placement):
        class Source:
            def process(self):
                yield from range(3)

        with Pipeline([Source(), with_options(Count(), placement=placement)]).open() as session:
            outputs = list(session)

        assert outputs == [0, 1, 2, "3 items"]

    def test_an_endless_one_runs_until_the_session_closes(self):
        log = []

        class Source:
            def process(self):
                try:
                    yield from itertools.count()
                finally:
                    log.append("closed")

            def cleanup(self):
                log.append("cleanup")

        with contextlib.suppress(KeyError), Pipeline([Source(), Add()]).open() as session:
            first = list(itertools.islice(session, 3))
            raise KeyError

        assert first == [1, 2, 3]
        assert log == ["closed", "cleanup"]

    @PLACEMENTS
    def test_its_failure_is_raised_after_the_earlier_outputs(self, placement):
        class Breaks:
            def process(self):
                yield from range(5)
                raise OSError("unplugged")

        outputs = []
        with Pipeline([Breaks(), with_options(Count(), placement=placement)]).open() as session:
            with pytest.raises(
                NodeError, match="'Breaks_0' failed in process\\(\\) on item 5: OSError: unplugged"
            ):
                outputs.extend(session)
            rest = list(session)

        assert (outputs, rest) == ([0, 1, 2, 3, 4], [])

    @PLACEMENTS
    @pytest.mark.parametrize("word", ["call", "map", "put"])
    def test_it_takes_no_items_from_elsewhere(self, placement, word):
        class Source:
            def process(self):
                yield from range(3)

        with Pipeline([Source(), Add()], name="live").open(placement=placement) as session:
            with pytest.raises(PipelineError) as caught:
                getattr(session, word)([1])
            outputs = list(session)

        assert str(caught.value) == (
            "Pipeline 'live' starts with a source, node 'Source_0', and takes no items; "
            "iterate over the session instead"
        )
        assert outputs == [1, 2, 3]


class TestDrainAndMetrics:
    @PLACEMENTS
    def test_drain_waits_for_all_outputs(self, placement):
        node = Noting()

        with Pipeline([node]).open(placement=placement) as session:
            for number in range(20):
                session.put(number)
            session.drain()
            seen = len(node.log)

        assert seen == 1 + 20

    @PLACEMENTS
    def test_metrics_are_available_at_any_time(self, placement):
        with Pipeline([Odd(), Add()]).open(enable_metrics=True, placement=placement) as session:
            before = session.metrics()
            for number in range(4):
                session.call(number)
            after = session.metrics()

        assert (before["items_in"], before["items_out"]) == (0, 0)
        assert (after["items_in"], after["items_out"], after["errors"]) == (4, 2, 0)
        assert [(node["items_in"], node["items_out"]) for node in after["node_metrics"]] == [(4, 2), (2, 2)]
        assert [node["placement"] for node in after["node_metrics"]] == [placement] * 2

    def test_metrics_are_none_unless_enabled(self):
        with Pipeline([Add()]).open() as session:
            session.call(1)

            assert session.metrics() is None

    def test_metrics_do_not_wait_for_a_busy_node(self):
        hold = Hold()
        with Pipeline([hold]).open(enable_metrics=True, placement="thread") as session:
            worker = Worker(lambda: session.call(1))
            assert hold.is_there.wait(TIMEOUT_SECS)

            metrics = Worker(session.metrics)
            metrics.join(TIMEOUT_SECS / 4)
            came_at_once = not metrics.is_alive()

            hold.go.set()
            assert worker.result() == 1
        assert came_at_once
