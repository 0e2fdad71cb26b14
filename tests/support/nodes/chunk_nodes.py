"""Nodes and sources for streams of which several items go through a thread together."""

from __future__ import annotations

import contextvars
import sys
import threading

import pytest

from remotemedia import Node, Pipeline, with_options

TIMEOUT_SECS = 20
KERNEL = "<remotemedia kernel>"
language = contextvars.ContextVar("language", default="unknown")


class Add(Node):
    """Adds one, and counts the calls that come from a compiled loop."""

    def __init__(self):
        super().__init__()
        self.together = 0

    def process(self, item):
        caller = sys._getframe().f_back
        self.together += caller is not None and caller.f_code.co_filename == KERNEL
        return item + 1


class Filter(Node):
    """Drops the multiples of a number."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def process(self, item):
        return None if item % self.factor == 0 else item


class Fail(Node):
    """Fails at some items."""

    def __init__(self, items):
        super().__init__()
        self.items = items

    def process(self, item):
        if item in self.items:
            raise ValueError(item)
        return item


class Pass(Node):
    """Returns its item."""

    def process(self, item):
        return item


class Block(Node):
    """Waits at some items until it is released."""

    def __init__(self, *items):
        super().__init__()
        self.items = items
        self.is_there, self.go = threading.Event(), threading.Event()
        self.seen = []

    def process(self, item):
        self.seen.append(item)
        if item in self.items:
            self.is_there.set()
            assert self.go.wait(TIMEOUT_SECS)
        return item


def on_thread(*nodes):
    return Pipeline([with_options(node, placement="thread") for node in nodes])


def a_list(count):
    return list(range(count))


def a_range(count):
    return range(count)


def a_generator(count):
    return (number for number in range(count))


SOURCES = pytest.mark.parametrize("source", [a_list, a_range, a_generator])
