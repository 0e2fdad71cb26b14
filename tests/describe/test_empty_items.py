"""The item of a pipeline without input, which the annotations of its nodes define."""

from __future__ import annotations

import asyncio
import collections
import collections.abc
import functools
import numbers
import typing

import pytest

from remotemedia import with_options
from remotemedia.nodes import OutputNode, PassThroughNode


def traced(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def injecting(function):
    @functools.wraps(function)
    def wrapper(self, text):
        return function(self, text)

    return wrapper


class Holder:
    """Handles its item as an annotation defines: `[item]`."""

    def annotated(self, item: str):
        return [item]

    def scaled(self, scale: int, item: str):
        return [item]

    def __call__(self, item: str):
        return [item]


class Dispatching:
    @functools.singledispatchmethod
    def process(self, item):
        raise TypeError(type(item))

    @process.register
    def _(self, item: int):
        return [item]

    @process.register
    def _(self, item: bytes):
        return [item]


class DispatchingOnText(Dispatching):
    @functools.singledispatchmethod
    def process(self, item: str):
        return [item]


class WithPartialMethod:
    process = functools.partialmethod(Holder.scaled, 2)


class Decorated:
    @traced
    def process(self, item: str):
        return [item]


class Twice(Decorated):
    process = injecting(traced(Holder.annotated))


class Cached:
    @functools.lru_cache  # noqa: B019 - As users do it.
    def process(self, item: str):
        return [item]


class Later:
    @traced
    async def process(self, item: str):
        await asyncio.sleep(0)
        return [item]


class Static:
    @staticmethod
    def process(item: str):
        return [item]


def with_process(process):
    node = PassThroughNode()
    node.process = process
    return node


@pytest.mark.parametrize(
    ("node", "item"),
    [
        (Decorated(), ""),
        (Twice(), ""),
        (Cached(), ""),
        (Later(), ""),
        (Static(), ""),
        (WithPartialMethod(), ""),
        (Dispatching(), 0),
        (DispatchingOnText(), ""),
        (with_process(Holder()), ""),
        (with_process(traced(Holder().annotated)), ""),
        (with_process(functools.partial(Holder().scaled, 2)), ""),
        (with_process(functools.partial(traced(Holder.scaled), Holder(), 2)), ""),
        (with_process(functools.singledispatch(Holder().annotated)), ""),
    ],
)
def test_a_decorated_process_counts_as_the_decorated_function(run, node, item):
    assert run([node]) == [item]


class Settings(typing.TypedDict):
    rate: int


UserName = typing.NewType("UserName", str)
Text = typing.TypeVar("Text", bound=str)


@pytest.mark.parametrize(
    ("annotation", "item"),
    [
        (typing.Optional[int], 0),  # noqa: UP045 - The older spellings.
        (typing.Union[None, "str"], ""),
        (typing.List[int], []),  # noqa: UP006
        (typing.Annotated[str, "said"], ""),
        (typing.Literal[5], 0),
        (collections.abc.Sequence[str], []),
        (typing.Mapping, {}),
        (collections.OrderedDict, {}),
        (numbers.Real, 0),
        (Settings, {}),
        (UserName, ""),
        (UserName | None, ""),
        (Text, ""),
        (Exception, None),
        (Exception | None, None),
        (typing.TypeVar("Free"), ""),
        (typing.Any, ""),
        ("typing.Any", ""),
        ("Settings", {}),
        ("typing.Optional[UserName]", ""),
    ],
)
def test_every_way_to_name_a_type_is_understood(run, annotation, item):
    class Annotated:
        def process(self, item):
            return [item]

    Annotated.process.__annotations__["item"] = annotation

    assert run([Annotated()]) == [item]


class Bare:
    def process(self, item):
        return [item]


class Framed:
    def process(self, item: Exception):
        return [item]


@pytest.mark.parametrize("last", [Bare(), Framed()])
def test_without_a_type_all_nodes_run(run, last):
    seen = []

    assert run([PassThroughNode(), OutputNode(seen.append), last]) == [""]
    assert seen == [""]


def test_replicas_of_a_factory_have_an_empty_item(run):
    assert run([with_options(Bare, placement="thread", replicas=2)]) == [""]
