"""Generated pipelines of all kinds of nodes in all places of one process, as strategies of hypothesis.

What a node returns, and whether it fails, depends on the item alone, so the reference executor defines the
outputs of each item by itself, and any way of running the pipeline has to give these.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from option_cases import Generated, origin_of, upstreams

from remotemedia import Pipeline, execute_pipeline_with_input
from remotemedia.exceptions import NodeError

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = (
    "plain",
    "filter",
    "generator",
    "immediate",
    "awaiting",
    "immediate filter",
    "awaiting filter",
    "immediate generator",
    "async generator",
    "streaming",
    "promising",
)
SILENT_KINDS = ("filter", "immediate filter", "awaiting filter", "immediate generator")
"""Those that may have no output: a join cannot pass on which item its dict was made from."""

CONCURRENT_KINDS = (
    "immediate",
    "awaiting",
    "immediate filter",
    "awaiting filter",
    "immediate generator",
    "async generator",
)
"""Those of which several items may be in progress at once."""

POLICIES: dict[str, dict[str, Any]] = {
    "none": {},
    "skip": {"on_error": "skip"},
    "letter": {},
    "async letter": {},
    "retry": {"retries": 2},
    "retry and skip": {"retries": 1, "on_error": "skip"},
    "retry and letter": {"retries": 1, "retry_delay": 0.0001},
    "limit": {"timeout": 60},
    "limit and retry": {"timeout": 60, "retries": 1},
}
PLACEMENTS = ("none", "none", "inline", "thread")
HOOKS = ("none", "def", "async")


@dataclass(frozen=True)
class Part:
    """One node; it fails on the inputs `fails_on`, only the first `flaky` times if that is not 0."""

    kind: str
    after: tuple[int, ...]
    join: bool
    has_flush: bool
    hooks: str
    placement: str
    fails_on: frozenset[int] = frozenset()
    flaky: int = 0
    policy: str = "none"
    concurrency: int = 1


@dataclass(frozen=True)
class Case:
    """A pipeline and the number of its items."""

    parts: tuple[Part, ...]
    count: int


@dataclass(frozen=True)
class Moment:
    """The `call`th call of the node `index`, counting the items that a streaming node reads."""

    index: int
    call: int


class Placed(Generated):
    """A node that counts its calls, and may do something at one of them."""

    def __init__(self, name, part):
        super().__init__(name, part)
        self.counts = Counter()
        self.letters = []
        self.at_moment: Callable[[], object] | None = None
        self.moment = 0

    def check(self, item):
        self.counts["process"] += 1
        if self.counts["process"] == self.moment:
            self.at_moment()
        super().check(item)

    async def immediate(self, item):
        return self.plain(item)

    async def immediate_filter(self, item):
        return self.filter(item)

    async def immediate_generator(self, item):
        self.check(item)
        for number in range(origin_of(item) % 3):
            yield self.output(item, number)

    async def streaming(self, items):
        async for item in items:
            self.check(item)
            yield self.output(item, 1)
            if origin_of(item) % 2:
                await asyncio.sleep(0)
                yield self.output(item, 2)

    def promising(self, item):
        return self.awaiting(item)

    def take_letter(self, item, error):
        self.letters.append((repr(item), about(error)))

    async def take_letter_later(self, item, error):
        await asyncio.sleep(0)
        self.take_letter(item, error)

    def last(self):
        self.counts["flush"] += 1
        return super().last()


def hook(phase, is_async):
    def method(self):
        self.counts[phase] += 1

    async def async_method(self):
        await asyncio.sleep(0)
        method(self)

    return async_method if is_async else method


def node_of(name: str, part: Part) -> Placed:
    """Return the node of a part."""
    members: dict[str, Any] = {"process": getattr(Placed, part.kind.replace(" ", "_"))}
    if part.kind == "streaming":
        members["is_streaming"] = True
    if part.has_flush:
        members["flush"] = Placed.last
    if part.hooks != "none":
        for phase in ("initialize", "cleanup"):
            members[phase] = hook(phase, part.hooks == "async")
    return type("PlacedNode", (Placed,), members)(name, part)


def pipeline_of(case: Case) -> tuple[Pipeline, list[Placed]]:
    """Return the pipeline of a case, and its new nodes."""
    pipeline, nodes = Pipeline("generated"), []
    for index, part in enumerate(case.parts):
        nodes.append(node_of(f"n{index}", part))
        options = dict(POLICIES[part.policy])
        if "letter" in part.policy:
            is_async = part.policy == "async letter"
            options["dead_letter"] = nodes[-1].take_letter_later if is_async else nodes[-1].take_letter
        if part.placement != "none":
            options["placement"] = part.placement
        if part.concurrency > 1:
            options["concurrency"] = part.concurrency
        after = [f"n{upstream}" for upstream in part.after]
        pipeline.add_node(nodes[-1], id=f"n{index}", after=after, join=part.join, **options)
    return pipeline, nodes


def item_at(index: int) -> tuple[int, int]:
    """Return an item that says which one it is."""
    return (index, 0)


def input_of(form: str, count: int) -> Any:
    """Return the items in one of the forms that a run accepts."""
    items = [item_at(index) for index in range(count)]
    if form == "list":
        return items
    return later(items) if form == "async generator" else (item for item in items)


async def later(items):
    for item in items:
        yield item
        await asyncio.sleep(0)


FORMS = ("list", "generator", "async generator")


def about(error: NodeError) -> tuple[Any, ...]:
    """Return what an error says, except for the index of its item."""
    return (error.node_id, error.phase, repr(error.__cause__))


@dataclass(frozen=True)
class Expected:
    """What the reference executor makes of each item: its outputs or its error; and the last outputs.

    The letters are those of all items.
    """

    of_items: list[list[Any] | tuple[Any, ...]]
    last: list[Any]
    letters: list[Any]

    def is_failing(self, index: int) -> bool:
        return isinstance(self.of_items[index], tuple)

    def whole(self) -> list[Any]:
        """Return the outputs of a run in which no item fails."""
        return [output for outputs in self.of_items for output in outputs] + self.last


async def expected_of(case: Case) -> Expected:
    """Run each item alone on the reference executor, and then none."""
    silent = replace(case, parts=tuple(replace(part, has_flush=False) for part in case.parts))
    of_items: list[Any] = []
    letters: list[Any] = []
    for index in range(case.count):
        pipeline, nodes = pipeline_of(silent)
        try:
            of_items.append(await execute_pipeline_with_input(pipeline, [item_at(index)], use_rust=False))
        except NodeError as error:
            of_items.append(about(error))
        letters += letters_of(nodes)
    pipeline, _ = pipeline_of(case)
    last = await execute_pipeline_with_input(pipeline, (item for item in ()), use_rust=False)
    return Expected(of_items, last, letters)


def letters_of(nodes: list[Placed]) -> list[Any]:
    """Return the items that were passed to dead letter functions, with their nodes and errors."""
    return [(node.name, *letter) for node in nodes for letter in node.letters]


def is_lived_once(node: Placed) -> bool:
    """Return whether the hooks of a node were called once, if it has any."""
    times = 0 if node.part.hooks == "none" else 1
    return (node.counts["initialize"], node.counts["cleanup"]) == (times, times)


@st.composite
def policies(draw, kind, *, fails):
    """Draw the policy of a node, most often of one that fails."""
    if kind == "streaming" or not (fails or draw(st.integers(0, 3)) == 0):
        return "none"
    return draw(st.sampled_from(sorted(POLICIES)))


def concurrencies(kind: str) -> st.SearchStrategy[int]:
    """Draw how many items may be in a node of this kind at once."""
    return st.sampled_from((1, 2, 5)) if kind in CONCURRENT_KINDS else st.just(1)


@st.composite
def cases(draw, *, may_fail=True):
    """Draw a chain or a small graph. If no item may fail for good, it may still be tried again."""
    is_chain, size = draw(st.booleans()), draw(st.integers(1, 4))
    # The engine takes the items of a long input in chunks.
    is_long = draw(st.integers(0, 4)) == 4
    count = draw(st.integers(65, 150) if is_long else st.integers(1, 12))
    parts = []
    for index in range(size):
        after = draw(upstreams(index, is_chain=is_chain))
        may_join = not is_chain and all(part.kind not in SILENT_KINDS for part in parts)
        # No item fails at two nodes.
        fails_on = range(index, count, draw(st.sampled_from((5, 50))))
        fails = draw(st.integers(0, 2)) == 2
        kind = draw(st.sampled_from(KINDS))
        policy = draw(policies(kind, fails=fails))
        retries = POLICIES[policy].get("retries", 0)
        # A generator is not tried again after an output, and then an item fails for good.
        fails = fails and (may_fail or (retries > 0 and kind != "generator"))
        parts.append(
            Part(
                kind=kind,
                after=after,
                join=may_join and draw(st.booleans()),
                has_flush=draw(st.booleans()),
                hooks=draw(st.sampled_from(HOOKS)),
                placement=draw(st.sampled_from(PLACEMENTS)),
                fails_on=frozenset(fails_on if fails else ()),
                flaky=draw(st.integers(0 if may_fail or not retries else 1, retries)),
                policy=policy,
                concurrency=draw(concurrencies(kind)),
            )
        )
    return Case(tuple(parts), count)


@st.composite
def stopped_cases(draw):
    """Draw a pipeline in which nothing fails for good, and a moment at which to stop its work."""
    case = draw(cases(may_fail=False))
    index = draw(st.integers(0, len(case.parts) - 1))
    return case, Moment(index, draw(st.integers(1, case.count)))
