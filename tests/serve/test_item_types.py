"""What annotations say of items: schemas and readers agree on each value."""

from __future__ import annotations

import dataclasses
import enum
import typing
from collections import abc
from types import SimpleNamespace
from typing import Any, Literal

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remotemedia import with_options
from remotemedia._cli.items.build import Builder
from remotemedia._cli.items.definitions import Definitions
from remotemedia._cli.items.reader import reader_of
from remotemedia._cli.items.schemas import described
from remotemedia._cli.items.shapes import ItemError, read
from remotemedia._graph.graph import resolve
from remotemedia.audio import AudioFrame


class Color(enum.Enum):
    RED = "red"
    ONE = 1


SCALARS = st.sampled_from([str, int, float, bool, None, Color, Literal["a", 1], Literal[True]])
NAMES = st.sampled_from(["a", "b", "c"])


def dataclass_of(fields):
    written = [
        (name, kind, dataclasses.field() if needed else dataclasses.field(default=None))
        for name, (kind, needed) in fields.items()
    ]
    return dataclasses.make_dataclass("Made", written, kw_only=True)


def typed_dict_of(fields):
    written = {name: kind if needed else typing.NotRequired[kind] for name, (kind, needed) in fields.items()}
    return typing.TypedDict("Made", written)


def union_of(kinds):
    return typing.Union[tuple(kinds)]  # noqa: UP007 - Their number varies.


def fields_of(kinds):
    return st.dictionaries(NAMES, st.tuples(kinds, st.booleans()), max_size=3)


def larger(kinds):
    fields = fields_of(kinds)
    return st.one_of(
        kinds.map(lambda kind: list[kind]),
        kinds.map(lambda kind: dict[str, kind]),
        kinds.map(lambda kind: tuple[kind, ...]),
        st.lists(kinds, min_size=1, max_size=2).map(lambda some: tuple[tuple(some)]),
        st.lists(kinds, min_size=2, max_size=3).map(union_of),
        fields.map(dataclass_of),
        fields.map(typed_dict_of),
    )


TYPES = st.recursive(SCALARS, larger, max_leaves=5)
FIELDS = fields_of(TYPES)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([0.5, 1.0, -2.0, 1e300])
    | st.sampled_from(["a", "b", "red", ""]),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(NAMES, values, max_size=3),
    max_leaves=8,
)


def schema_of(annotation):
    definitions = Definitions()
    schema = Builder().shape(annotation).schema(definitions)
    return {**schema, "components": {"schemas": definitions.schemas}}


@given(TYPES, VALUES)
def test_the_reader_takes_what_the_schema_allows(annotation, value):
    schema = schema_of(annotation)
    jsonschema.Draft202012Validator.check_schema(schema)
    is_allowed = jsonschema.Draft202012Validator(schema).is_valid(value)

    try:
        read(Builder().shape(annotation), value)
    except ItemError:
        is_read = False
    else:
        is_read = True

    assert is_read == is_allowed


@given(FIELDS.map(dataclass_of), st.dictionaries(NAMES, VALUES, max_size=3))
def test_what_is_read_is_an_instance(annotation, value):
    try:
        found = read(Builder().shape(annotation), value)
    except ItemError:
        return

    assert type(found) is annotation
    assert {name: getattr(found, name) for name in value}.keys() == value.keys()


def schema_of_input(annotation, **options):
    def process(self, item):
        return item

    process.__annotations__ = {"item": annotation}
    node = type("Node", (), {"process": process})()
    return described(resolve([with_options(node, **options)]))["input"]


@pytest.mark.parametrize(
    ("annotation", "forms"),
    [
        (AudioFrame, (None, True, False)),
        ("AudioFrame", (None, True, False)),
        (bytes, (None, False, True)),
        (AudioFrame | str | None, ({"anyOf": [{"type": "string"}, {"type": "null"}]}, True, False)),
        (Any, ({}, True, True)),
        (complex, ({}, True, True)),
        ("Missing", ({}, True, True)),
        ("1 +", ({}, True, True)),
        (abc.Sequence[int], ({"type": "array", "items": {"type": "integer"}}, False, False)),
        (typing.Annotated[int, "a number"], ({"type": "integer"}, False, False)),
        (typing.NewType("Id", int), ({"type": "integer"}, False, False)),
        (set[str], ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, False, False)),
    ],
)
def test_the_forms_of_an_item(annotation, forms):
    found = schema_of_input(annotation)

    assert (found["json"], found["audio"], found["bytes"]) == forms


def test_a_batch_is_described_by_its_items():
    assert schema_of_input(list[int], batch=4)["json"] == {"type": "integer"}


def results(*processes):
    nodes = [SimpleNamespace(process=process) for process in processes]
    return described(resolve(nodes))["result"]


def test_results_have_the_shape_of_a_call():
    def one(item: int) -> str: ...
    def maybe(item: int) -> int | None: ...
    def any_number(item: int) -> typing.Iterator[int]:
        yield 1

    async def later(item: int) -> float: ...
    def lazily(item: int) -> abc.Awaitable[float]: ...
    def unknown(item): ...

    null, integer = {"type": "null"}, {"type": "integer"}
    assert results(one) == {"type": "string"}
    assert results(maybe) == {"anyOf": [integer, null]}
    assert results(maybe, one) == {"anyOf": [{"type": "string"}, null]}
    assert results(any_number) == {"anyOf": [integer, null, {"type": "array", "items": integer}]}
    assert results(later) == results(lazily) == {"type": "number"}
    assert results(unknown) == {}


@dataclasses.dataclass
class Left:
    next: Left | Right | None
    value: int


@dataclasses.dataclass
class Right:
    next: Left | Right | None
    value: str


def test_nested_unions_take_no_time():
    """Each level would otherwise be read twice by the level above it."""
    shape = Builder().shape(Left | Right)
    value = None
    for level in range(60):
        value = {"next": value, "value": level if level % 2 else "text"}

    assert type(read(shape, value)) is Left
    with pytest.raises(ItemError, match="'value' must be an integer, not null"):
        read(shape, {"next": value, "value": None})


def test_a_type_that_is_not_known_leaves_items_as_they_are():
    @dataclasses.dataclass
    class Broken:
        number: complex

    def process(item: Broken): ...

    process.__annotations__["item"] = Broken
    assert reader_of(resolve([SimpleNamespace(process=process)])) is None
