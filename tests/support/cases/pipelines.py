"""Generated pipelines and inputs, as strategies of hypothesis.

A `Case` is plain data, so that it can be built several times: each executor receives its own nodes and
input, and writes its own record.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from option_cases import upstreams
from probes import FLUSHES, LAZY_KINDS, PHASES, QUICK_KINDS, RAISERS, Failure, Part, node_of

from remotemedia.core.pipeline import Pipeline


@dataclass(frozen=True)
class Feed:
    """The input: `count` items, an error after `fails_at` of them."""

    form: str
    count: int
    has_none: bool = False
    fails_at: int | None = None


@dataclass(frozen=True)
class Case:
    """A pipeline and its input; `order` is the order of the parts, `feed` is `None` for a source."""

    parts: tuple[Part, ...]
    order: tuple[int, ...]
    feed: Feed | None
    is_inline: bool = False


def pipeline_of(case: Case, log: list[Any]) -> Pipeline:
    """Return the pipeline of a case, with new nodes."""
    nodes: list[object] = []
    for index, part in enumerate(case.parts):
        nodes.append(node_of(f"n{index}", part, log) if part.twin is None else nodes[part.twin])
    pipeline = Pipeline("generated")
    options = {"placement": "inline"} if case.is_inline else {}
    for index in case.order:
        part = case.parts[index]
        after = [f"n{upstream}" for upstream in part.after]
        pipeline.add_node(nodes[index], id=f"n{index}", after=after, join=part.join, **options)
    return pipeline


def input_of(feed: Feed) -> Any:
    """Return the input of a case, unread."""
    if feed.form == "list":
        return [item_at(feed, index) for index in range(feed.count)]
    return async_items(feed) if feed.form == "async generator" else items(feed)


def item_at(feed: Feed, index: int) -> int | None:
    return None if feed.has_none and index % 3 == 1 else index


def items(feed: Feed):
    for index in range(feed.count):
        if index == feed.fails_at:
            raise ValueError("bad input")
        yield item_at(feed, index)


async def async_items(feed: Feed):
    for item in items(feed):
        yield item


ERRORS = st.sampled_from(("same", *sorted(RAISERS)))
STEPS = (*PHASES, *["process"] * 4, "output", "close", "start", "end")


@st.composite
def failures(draw):
    step = draw(st.sampled_from(STEPS))
    count = draw(st.one_of(st.integers(1, 4), st.integers(60, 300))) if step == "process" else 1
    return Failure(step, count, draw(ERRORS))


@st.composite
def parts(draw, index, kinds, *, is_chain):
    """Draw a part after some of the `index` earlier ones."""
    after = draw(upstreams(index, is_chain=is_chain))
    return Part(
        kind=draw(st.sampled_from(kinds)),
        after=after,
        join=not is_chain and draw(st.booleans()),
        is_subclass=draw(st.booleans()),
        is_ready=draw(st.integers(0, 9)) == 9,
        hooks=draw(st.sampled_from(("def", "async", "none"))),
        flush=draw(st.none() | st.sampled_from(FLUSHES)),
        failures=tuple(draw(st.lists(failures(), max_size=3))) if draw(st.booleans()) else (),
        twin=draw(st.integers(0, index - 1)) if index and draw(st.integers(0, 19)) == 19 else None,
    )


@st.composite
def feeds(draw, *, is_long):
    count = draw(st.integers(65, 300) if is_long else st.integers(0, 8))
    forms = ("generator", "async generator", "list")
    form = draw(st.sampled_from(forms if count else forms[:2]))
    fails_at = draw(st.none() | st.integers(0, count)) if form != "list" else None
    return Feed(form, count, draw(st.booleans()), fails_at)


@st.composite
def cases(draw):
    """Draw a chain or graph of up to six nodes and an input. Most long inputs have fast nodes."""
    is_chain, is_long = draw(st.booleans()), draw(st.booleans())
    kinds = QUICK_KINDS if is_long and draw(st.integers(0, 4)) else QUICK_KINDS + LAZY_KINDS
    count = draw(st.integers(1, 4 if is_long else 6))
    found = [draw(parts(index, kinds, is_chain=is_chain)) for index in range(count)]
    if draw(st.integers(0, 9)) == 9:
        return Case(with_source(draw, found), tuple(range(count)), None)
    order = range(count) if is_chain else draw(st.permutations(range(count)))
    return Case(tuple(found), tuple(order), draw(feeds(is_long=is_long)))


def with_source(draw, found):
    """Put a source at the start, before all other nodes."""
    rest = [replace(part, after=part.after or (0,), twin=None) for part in found[1:]]
    return (replace(found[0], kind=draw(st.sampled_from(("source", "plain_source")))), *rest)


# Nodes that accept any item, so that they fail only where they are told to.
TOLERANT_KINDS = ("plain", "filtering", "dropping", "listing", "generating", "sometimes_generating")


@st.composite
def compiled_cases(draw):
    """Draw a chain or graph that the engine compiles, with an input that is long enough; it may fail late."""
    is_chain = draw(st.booleans())
    kinds = draw(st.lists(st.sampled_from((*TOLERANT_KINDS, *(QUICK_KINDS if is_chain else ()))), max_size=5))
    found = [Part("plain")]
    for index, kind in enumerate(kinds, 1):
        after = draw(upstreams(index, is_chain=is_chain))
        found.append(Part(kind, after, join=not is_chain and draw(st.booleans())))
    for _ in range(draw(st.integers(0, 2))):
        failing = draw(st.integers(0, len(kinds)))
        step = draw(st.sampled_from(("process", "process", "output", "close")))
        failure = Failure(step, draw(st.integers(60, 300)) if step != "close" else 1, draw(ERRORS))
        found[failing] = replace(found[failing], failures=(*found[failing].failures, failure))
    feed = Feed(draw(st.sampled_from(("list", "generator"))), 300, draw(st.booleans()))
    return Case(tuple(found), tuple(range(len(found))), feed)


@st.composite
def streaming_cases(draw):
    """Draw a chain with streaming nodes, whose runs need no thread."""
    kinds = (*TOLERANT_KINDS, *LAZY_KINDS, "streaming", "streaming")
    count = draw(st.integers(1, 5))
    found = [draw(parts(index, kinds, is_chain=True)) for index in range(count)]
    if all(part.kind != "streaming" for part in found):
        found.append(Part("streaming", (count - 1,)))
    order = tuple(range(len(found)))
    if len(found) > 1 and draw(st.integers(0, 9)) == 9:
        return Case(with_source(draw, found), order, None, is_inline=True)
    form = draw(st.sampled_from(("list", "async generator")))
    length = draw(st.integers(1, 8))
    fails_at = draw(st.none() | st.integers(0, length)) if form != "list" else None
    return Case(tuple(found), order, Feed(form, length, draw(st.booleans()), fails_at), is_inline=True)
