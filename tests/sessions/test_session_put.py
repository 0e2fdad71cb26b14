"""Items that are put in, and the iteration over their outputs."""

from __future__ import annotations

import pytest
from stream_nodes import Add, Count, Fails, Noting, Odd, Worker

from remotemedia import Pipeline
from remotemedia.exceptions import NodeError, SessionClosedError

PLACEMENTS = pytest.mark.parametrize("placement", ["inline", "thread"])


class Producer(Worker):
    """Puts 200 numbers in, as fast as possible."""

    def __init__(self, session):
        self.put = 0
        self.session = session
        super().__init__(self.produce)

    def produce(self):
        for number in range(200):
            self.session.put(number)
            self.put += 1
        self.session.end()


class TestPut:
    @PLACEMENTS
    def test_outputs_of_items_that_were_put_are_returned_by_the_iteration(self, placement):
        with Pipeline([Odd(), Count()]).open(placement=placement) as session:
            for number in range(4):
                session.put(number)
            session.end()
            outputs = list(session)

        assert outputs == [1, 3, "2 items"]

    @PLACEMENTS
    def test_a_producer_waits_for_a_slow_consumer(self, placement):
        with Pipeline([Add()]).open(placement=placement, queue_size=4) as session:
            producer = Producer(session)
            ahead = [producer.put - taken for taken, _ in enumerate(session)]
            producer.result()

        assert len(ahead) == 200
        # Items in the queue, in the stage, and for the consumer.
        assert max(ahead) <= 4 + 2 + 4 + 2

    @PLACEMENTS
    def test_errors_that_are_not_taken_block_the_producer_too(self, placement):
        ahead = []
        with Pipeline([Fails(*range(200))]).open(placement=placement, queue_size=4) as session:
            producer = Producer(session)
            # It would have finished by then if nothing blocked it.
            producer.join(0.3)
            for taken in range(200):
                ahead.append(producer.put - taken)
                with pytest.raises(NodeError, match=f"bad {taken}$"):
                    next(iter(session))
            producer.result()
            rest = list(session)

        assert max(ahead) <= 4 + 2 + 4 + 2
        assert rest == []

    @PLACEMENTS
    def test_errors_that_are_not_taken_do_not_delay_the_end(self, placement):
        def put_only():
            with Pipeline([Fails(*range(9))]).open(placement=placement, queue_size=2) as session:
                for number in range(4):
                    session.put(number)

        with pytest.raises(NodeError, match="bad 0"):
            put_only()

    @PLACEMENTS
    def test_errors_that_are_not_taken_do_not_delay_an_interrupt(self, placement):
        with Pipeline([Fails(*range(200))]).open(placement=placement, queue_size=2) as session:
            producer = Worker(lambda: [session.put(number) for number in range(200)])
            producer.join(0.1)
            dropped = session.interrupt()
            producer.join(0.1)
            session.close()

        assert dropped > 0
        with pytest.raises(SessionClosedError):
            producer.result()

    def test_an_item_that_fails_ends_the_iteration_after_the_outputs_before_it(self):
        outputs = []

        with Pipeline([Fails(2)]).open() as session:
            for number in range(4):
                session.put(number)
            session.end()
            with pytest.raises(NodeError, match="bad 2"):
                outputs.extend(session)

        assert outputs == [0, 1]

    @PLACEMENTS
    def test_leaving_the_block_finishes_all_items(self, placement):
        node = Noting()

        with Pipeline([node]).open(placement=placement) as session:
            for number in range(100):
                session.put(number)

        assert node.log == ["initialize node", *range(100), "cleanup node"]

    @PLACEMENTS
    def test_an_unreported_error_is_raised_at_the_end_of_the_block(self, placement):
        node = Noting()

        def put_only():
            with Pipeline([Fails(1), node]).open(placement=placement) as session:
                for number in range(3):
                    session.put(number)

        with pytest.raises(NodeError, match="bad 1"):
            put_only()
        assert node.log == ["initialize node", 0, 2, "cleanup node"]

    def test_nothing_can_be_put_in_after_the_end(self):
        with Pipeline([Add()]).open() as session:
            session.end()
            session.end()

            with pytest.raises(SessionClosedError, match="accepts no more items: end\\(\\) was called"):
                session.put(1)

    def test_calls_continue_beside_a_stream(self):
        with Pipeline([Add()]).open(placement="thread") as session:
            session.put(1)
            result = session.call(10)
            session.end()
            outputs = list(session)

        assert (result, outputs) == (11, [2])
