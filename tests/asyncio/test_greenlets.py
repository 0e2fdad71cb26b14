"""Greenlets (gevent, SQLAlchemy's `greenlet_spawn`) exchange the contents of the stack of a thread."""

from __future__ import annotations

from typing import Any

import pytest
from greenlet import greenlet

from remotemedia import Pipeline
from remotemedia.exceptions import PipelineError


class Switches:
    """Switches to the greenlet around it while it processes each item."""

    def __init__(self) -> None:
        self.around: Any = None
        self.has_ended = False

    def process(self, item: int) -> int:
        try:
            self.around.switch()
        finally:
            self.has_ended = True
        return item


def test_calls_may_end_in_another_order_than_they_began() -> None:
    nodes = [Switches(), Switches(), Switches()]
    results: dict[int, int] = {}

    with (
        Pipeline([nodes[0]]).open() as first,
        Pipeline([nodes[1]]).open() as second,
        Pipeline([nodes[2]]).open() as third,
    ):

        def call(number: int) -> None:
            results[number] = [first, second, third][number].call(number)

        around = [greenlet(call) for _ in nodes]
        for number, node in enumerate(nodes):
            node.around = around[number].parent
            around[number].switch(number)
        for number in (1, 0, 2):
            around[number].switch()

    assert results == {0: 0, 1: 1, 2: 2}


def test_a_greenlet_that_is_not_resumed_leaves_its_node() -> None:
    node = Switches()

    with Pipeline([node]).open() as session:
        abandoned = greenlet(session.call)
        node.around = abandoned.parent
        abandoned.switch(1)
        del abandoned

        assert node.has_ended

        class Plain:
            def process(self, item: int) -> int:
                return item + 1

        with Pipeline([Plain()]).open() as other:
            assert other.call(1) == 2


def test_a_call_of_the_session_around_it_is_refused() -> None:
    """The greenlet runs on the thread that is inside the node, which would wait for itself."""
    node = Switches()

    with Pipeline([node]).open() as session:
        inside = greenlet(session.call)
        node.around = inside.parent
        inside.switch(1)

        with pytest.raises(PipelineError, match=r"called call\(\) of its own session"):
            session.call(2)
        inside.switch()
