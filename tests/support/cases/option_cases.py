"""Generated pipelines with generated options, as strategies of hypothesis.

What a node returns, and whether it fails, depends on the item alone, so the outputs are the same wherever and
in whatever order nodes run. No item fails for good at two nodes, so there is one error to expect.
"""

from __future__ import annotations

import asyncio
import zlib
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from remotemedia import Batch, Pipeline

COROUTINES = ("awaiting", "awaiting filter")
BATCHES = ("batch", "awaiting batch")
STAGE_OPTIONS = ("group", "placement", "replicas", "ordered", "queue_size")
KINDS = ("plain", "filter", "generator", "async generator", *COROUTINES, *BATCHES)


@dataclass(frozen=True)
class Part:
    """One node; it fails on the inputs `fails_on`, only the first `flaky` times if that is not 0."""

    kind: str
    after: tuple[int, ...]
    join: bool
    has_flush: bool
    fails_on: frozenset[int]
    flaky: int
    is_factory: bool
    has_letters: bool
    options: dict[str, Any] = field(hash=False)


@dataclass(frozen=True)
class Case:
    """A pipeline and the number of its items; the order of outputs is defined if `is_ordered`."""

    parts: tuple[Part, ...]
    count: int
    is_ordered: bool


def origin_of(item: Any) -> int:
    """Return the input from which an item was made."""
    if isinstance(item, dict):
        return max((origin_of(value) for value in item.values() if value is not None), default=-1)
    return origin_of(item[0]) if isinstance(item, list) else item[0]


class Generated:
    """A node whose outputs depend on the item alone."""

    thread_safe = True

    def __init__(self, name, part):
        self.name = name
        self.part = part
        self.tries = Counter()

    def output(self, item, number=0):
        return (origin_of(item), zlib.crc32(f"{self.name} {number} {item!r}".encode()))

    def check(self, item):
        if origin_of(item) in self.part.fails_on:
            key = repr(item)
            self.tries[key] += 1
            if not self.part.flaky or self.tries[key] <= self.part.flaky:
                raise ValueError(f"{self.name} cannot take {origin_of(item)}")

    def plain(self, item):
        self.check(item)
        return self.output(item)

    def filter(self, item):
        self.check(item)
        output = self.output(item)
        return output if output[1] % 3 else None

    def generator(self, item):
        yield self.output(item, 1)
        self.check(item)
        yield self.output(item, 2)

    async def async_generator(self, item):
        self.check(item)
        yield self.output(item, 1)
        await asyncio.sleep(0)
        yield self.output(item, 2)

    async def awaiting(self, item):
        await asyncio.sleep(0)
        return self.plain(item)

    async def awaiting_filter(self, item):
        await asyncio.sleep(0)
        return self.filter(item)

    def batch(self, items):
        for item in items:
            self.check(item)
        return [Generated.filter(self, item) for item in items]

    async def awaiting_batch(self, items):
        await asyncio.sleep(0)
        return self.batch(items)

    def last(self):
        return (-1, zlib.crc32(self.name.encode()))


def node_of(name: str, part: Part) -> object:
    """Return the node, or its factory."""
    members = {"process": getattr(Generated, part.kind.replace(" ", "_"))}
    if part.has_flush:
        members["flush"] = Generated.last
    kind = type("GeneratedNode", (Generated,), members)
    return (lambda: kind(name, part)) if part.is_factory else kind(name, part)


def pipeline_of(case: Case, letters: list[Any]) -> Pipeline:
    """Return the pipeline of a case, with new nodes."""
    pipeline = Pipeline("generated")
    for index, part in enumerate(case.parts):
        options = dict(part.options)
        if part.has_letters:
            options["dead_letter"] = lambda item, error, index=index: letters.append(
                (index, item, type(error), str(error))
            )
        after = [f"n{upstream}" for upstream in part.after]
        pipeline.add_node(node_of(f"n{index}", part), id=f"n{index}", after=after, join=part.join, **options)
    return pipeline


@st.composite
def upstreams(draw, index, *, is_chain):
    """Draw the nodes before the node with this index."""
    if is_chain or not index:
        return (index - 1,) if index else ()
    return tuple(draw(st.lists(st.integers(0, index - 1), max_size=3, unique=True)))


@st.composite
def placed_options(draw, kind, before, name):
    """Draw the options of a node after nodes with these options, except those for failures."""
    options = draw(options_of(kind))
    return grouped(options, kind, before, name) if draw(st.booleans()) else options


@st.composite
def options_of(draw, kind):
    """Draw the options of a node of this kind, except those for failures and groups."""
    options = {}
    if draw(st.booleans()):
        options["placement"] = "thread"
        if draw(st.booleans()):
            options["replicas"] = draw(st.integers(1, 3))
    if kind in COROUTINES and options.get("replicas", 1) == 1 and draw(st.booleans()):
        options["concurrency"] = draw(st.integers(1, 5))
    if kind in BATCHES:
        size = draw(st.integers(1, 5))
        options["batch"] = draw(
            st.sampled_from((size, Batch(size), Batch(size, max_wait=0.001), {"size": size}))
        )
    if draw(st.booleans()):
        options["queue_size"] = draw(st.integers(1, 4))
    if draw(st.integers(0, 3)) == 3:
        options["timeout"] = 60
    if draw(st.integers(0, 2)) == 2:
        options["ordered"] = False
    return options


def grouped(options, kind, before, name):
    """Return the options of a node in the group that all nodes before it are in, or else in a new group."""
    if kind in BATCHES or options.get("concurrency", 1) > 1:
        return options
    groups = {upstream.get("group") for upstream in before}
    if len(groups) != 1 or None in groups:
        return {**options, "group": name}
    own = {option: value for option, value in options.items() if option not in STAGE_OPTIONS}
    return own | {option: before[0][option] for option in STAGE_OPTIONS if option in before[0]}


def overtakes(options):
    """Return whether items may overtake each other at a node."""
    is_parallel = "batch" in options or options.get("replicas", 1) > 1 or options.get("concurrency", 1) > 1
    return options.get("ordered") is False and is_parallel


@st.composite
def cases(draw):
    """Draw a chain or graph of up to five nodes."""
    is_chain, count = draw(st.booleans()), draw(st.integers(1, 4))
    parts, is_ordered, may_stop = [], True, True
    items = draw(st.integers(0, 14))
    for index in range(count):
        kind = draw(st.sampled_from(KINDS))
        after = draw(upstreams(index, is_chain=is_chain))
        before = [parts[upstream].options for upstream in after]
        options = draw(placed_options(kind, before, f"g{index}"))
        is_ordered = is_ordered and not overtakes(options)
        # Which items fail with one depends on the batch, and the reference makes batches of one.
        may_fail = kind not in BATCHES
        fails_on, flaky, policy = frozenset(), 0, "none"
        if may_fail and draw(st.booleans()):
            policy = draw(st.sampled_from(("stop", "skip", "letter", "retry")))
            if policy == "stop" and not may_stop:
                policy = "skip"
            # Inputs that fail at one node alone, and but one where their order is open.
            fails_on = frozenset(range(index, items, 7))
            if policy == "stop":
                fails_on = fails_on if is_chain and is_ordered else frozenset(sorted(fails_on)[:1])
                may_stop = is_chain and is_ordered
            if policy == "retry":
                flaky = draw(st.integers(1, 2))
                options["retries"] = draw(st.integers(flaky, 3))
            elif draw(st.booleans()):
                options["retries"] = draw(st.integers(0, 2))
            if policy == "skip":
                options["on_error"] = "skip"
        is_factory = options.get("replicas", 1) > 1 and draw(st.booleans())
        parts.append(
            Part(
                kind=kind,
                after=after,
                join=not is_chain and draw(st.booleans()),
                has_flush=not is_factory and draw(st.booleans()),
                fails_on=fails_on,
                flaky=flaky,
                is_factory=is_factory,
                has_letters=policy == "letter",
                options=options,
            )
        )
    # Where one part may fail for good, a later unordered one would leave open which error comes first.
    stops = [part for part in parts if part.fails_on and not part.flaky and not part.has_letters]
    stops = [part for part in stops if part.options.get("on_error") != "skip"]
    if not is_ordered and stops:
        parts = [replace(part, fails_on=frozenset()) if part in stops else part for part in parts]
    return Case(tuple(parts), items, is_ordered)


def in_worker(part):
    """Return the same node in a worker. Each copy is flushed, which the reference does not model."""
    has_flush = part.has_flush and part.options.get("replicas", 1) == 1
    return replace(part, has_flush=has_flush, options={**part.options, "placement": "process"})


def without_group(part):
    """Return the same node in no group: some of the nodes that it would share a stage with are in workers."""
    return replace(part, options={name: value for name, value in part.options.items() if name != "group"})


@st.composite
def worker_cases(draw):
    """Draw a pipeline with some nodes in workers."""
    case = draw(cases())
    case = replace(case, parts=tuple(map(without_group, case.parts)))
    placed = draw(st.lists(st.booleans(), min_size=len(case.parts), max_size=len(case.parts)).filter(any))
    parts = [
        in_worker(part) if is_placed else part for part, is_placed in zip(case.parts, placed, strict=True)
    ]
    return replace(case, parts=tuple(parts))
