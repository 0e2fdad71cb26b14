"""Nodes that record their calls, and fail in given steps."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from dataclasses import dataclass
from typing import Any

from remotemedia.core.node import Node
from remotemedia.exceptions import NodeError
from remotemedia.nodes import CalculatorNode, FilterNode, OutputNode, PassThroughNode

PHASES = ("initialize", "process", "flush", "cleanup")


@dataclass(frozen=True)
class Failure:
    """The `count`th time that a node reaches `step`, it raises what `RAISERS` has under `kind`."""

    step: str
    count: int
    kind: str


@dataclass(frozen=True)
class Part:
    """One node. `after` are indices of parts; `twin` is a part whose object this one reuses."""

    kind: str
    after: tuple[int, ...] = ()
    join: bool = False
    is_subclass: bool = False
    is_ready: bool = False
    hooks: str = "def"
    flush: str | None = None
    failures: tuple[Failure, ...] = ()
    twin: int | None = None


class Abort(BaseException):
    """An exit exception, as a test framework or a server would define its own."""


class UnspeakableError(Exception):
    """Has no text."""

    def __str__(self):
        raise RuntimeError("no text")


def raise_from_cause():
    raise LookupError("outer") from ValueError("inner")


def raise_in_handler():
    try:
        raise KeyError("first")  # noqa: TRY301 - The context is what is tested.
    except KeyError:
        raise OSError(2, "second")  # noqa: B904 - The context is what is tested.


def raiser(error_class, *arguments):
    def throw():
        raise error_class(*arguments)

    return throw


RAISERS = {
    "value": raiser(ValueError, "bad value"),
    "empty": raiser(AssertionError),
    "cause": raise_from_cause,
    "context": raise_in_handler,
    "unspeakable": raiser(UnspeakableError),
    "stop": raiser(StopIteration, 7),
    "stop async": raiser(StopAsyncIteration, 7),
    "keyboard": raiser(KeyboardInterrupt),
    "exit": raiser(SystemExit, 3),
    "cancelled": raiser(asyncio.CancelledError),
    "generator exit": raiser(GeneratorExit),
    "abort": raiser(Abort, "now"),
    "node": raiser(NodeError, "of a pipeline inside"),
}


class Probe:
    """A node that records its calls, and fails in given steps."""

    def __init__(self, name, part, log):
        self.name = name
        self.part = part
        self.log = log
        self.counts = Counter()
        self.error = ValueError("the same again")
        if part.is_ready:
            self.is_initialized = True
        if part.kind == "partial":
            self.process = functools.partial(type(self).plain, self)
        elif part.kind == "callable object":
            self.process = Callable(self)

    def reach(self, step):
        self.log.append((self.name, step))
        self.counts[step] += 1
        for failure in self.part.failures:
            if (failure.step, failure.count) == (step, self.counts[step]):
                if failure.kind == "same":
                    raise self.error
                RAISERS[failure.kind]()

    def plain(self, item):
        self.reach("process")
        return (self.name, item)

    def constant(self, item):
        return 1

    def dropping(self, item):
        return item or None

    def listing(self, item):
        return [item]

    def filtering(self, item):
        self.reach("process")
        return item if self.counts["process"] % 3 else None

    def generating(self, item):
        self.reach("process")
        yield from self.two_outputs(item)

    def two_outputs(self, item):
        try:
            yield (self.name, 0, item)
            self.reach("output")
            yield None
        except GeneratorExit:
            self.reach("close")
            raise

    async def awaiting(self, item):
        self.reach("process")
        await asyncio.sleep(0)
        return (self.name, item) if self.counts["process"] % 4 else None

    async def async_generating(self, item):
        self.reach("process")
        try:
            yield (self.name, 0, item)
            await asyncio.sleep(0)
            self.reach("output")
            yield (self.name, 1, item)
        except GeneratorExit:
            self.reach("close")
            raise

    async def streaming(self, items):
        self.reach("start")
        held = None
        try:
            async for item in items:
                self.reach("process")
                if held is not None:
                    yield held
                held = (self.name, item)
            self.reach("end")
            yield held
        finally:
            self.reach("close")

    def promising(self, item):
        return self.awaiting(item)

    def sometimes_generating(self, item):
        self.reach("process")
        return self.two_outputs(item) if self.counts["process"] % 100 == 70 else item

    def replaced(self, item):
        raise AssertionError("it chooses another method in its initialize()")

    def source(self):
        for number in range(5):
            self.reach("process")
            yield number

    def plain_source(self):
        self.reach("process")
        return "made"

    def flush_plain(self):
        self.reach("flush")
        return (self.name, "rest")

    def flush_nothing(self):
        self.reach("flush")

    def flush_generating(self):
        self.reach("flush")
        yield from self.two_outputs("rest")

    async def flush_awaiting(self):
        self.reach("flush")
        await asyncio.sleep(0)
        return (self.name, "rest")

    async def flush_async_generating(self):
        self.reach("flush")
        yield (self.name, "rest")


class Callable:
    """A `process` that is not a function."""

    def __init__(self, node):
        self.node = node

    def __call__(self, item):
        return self.node.plain(item)


def hook(phase, base):
    def method(self):
        if self.part.kind == "replaced":
            self.process = self.sometimes_generating
        self.reach(phase)
        getattr(base, phase, lambda _: None)(self)

    async def async_method(self):
        method(self)
        await asyncio.sleep(0)

    return method, async_method


BUILT_IN = {
    "pass through": PassThroughNode,
    "adding": functools.partial(CalculatorNode, "add", 1),
    "dividing": functools.partial(CalculatorNode, "divide", 2),
    "at least": functools.partial(FilterNode, 2),
    "handing out": OutputNode,
}
PLAIN_KINDS = ("plain", "constant", "dropping", "listing", "filtering", "partial", "callable object")
QUICK_KINDS = (*PLAIN_KINDS, *BUILT_IN)
LAZY_KINDS = (
    "generating",
    "sometimes_generating",
    "awaiting",
    "async_generating",
    "streaming",
    "promising",
    "replaced",
)
FLUSHES = ("plain", "nothing", "generating", "awaiting", "async_generating")


def node_of(name: str, part: Part, log: list[Any]) -> object:
    """Return the object for a part."""
    if part.kind in BUILT_IN:
        return BUILT_IN[part.kind](name=name)
    base = Node if part.is_subclass else object
    members = {}
    if part.kind in Probe.__dict__:
        members["process"] = getattr(Probe, part.kind)
    if part.kind == "streaming":
        members["is_streaming"] = True
    if part.flush is not None:
        members["flush"] = getattr(Probe, f"flush_{part.flush}")
    if part.hooks != "none" or part.kind == "replaced":
        for phase in ("initialize", "cleanup"):
            members[phase] = hook(phase, base)[part.hooks == "async"]
    return type("Generated", (Probe, base), members)(name, part, log)
