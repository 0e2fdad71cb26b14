"""The JSON schemas of the items that a pipeline takes, and of its outputs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from remotemedia._cli.items.annotations import first_entries, input_type, last_entries, output_type
from remotemedia._cli.items.build import Builder
from remotemedia._cli.items.definitions import Definitions
from remotemedia._cli.items.shapes import Audio, Bytes, Shape, Union
from remotemedia._graph.node_kinds import classify

if TYPE_CHECKING:
    from remotemedia._graph.graph import Entry, Graph

    Schema = dict[str, Any]

__all__ = ["described", "item_schemas"]

_DROPPING = {"on_error", "dead_letter", "when_full"}
"""Options with which an item may have no output."""


def item_schemas(graph: Graph) -> str:
    """Return the types of items as JSON, as far as annotations say them."""
    return json.dumps(described(graph))


def described(graph: Graph) -> dict[str, Any]:
    """Return the types of items, as far as annotations say them.

    Returns:
        `input` and `output`, each with `json`, the schema of its JSON values or `None` if it has none, and
        `audio` and `bytes`, whether it may be that; `result`, the schema of all outputs of one item; and
        `definitions`, the schemas of classes.
    """
    definitions = Definitions()
    inputs = [shape for entry in first_entries(graph) for shape in members_of(input_type(entry))]
    takes = _described(inputs, definitions)
    definitions.mode = "serialization"
    last = last_entries(graph)
    shapes = [shape for entry in last for shape in members_of(output_type(entry))]
    # A node that returns `None` has no output.
    outputs = [shape for shape in shapes if not _is_null(shape)]
    gives = _described(outputs, definitions)
    result = _result(gives["json"], graph, last)
    return {"input": takes, "output": gives, "result": result, "definitions": definitions.schemas}


def _described(shapes: list[Shape], definitions: Definitions) -> dict[str, Any]:
    union = Union()
    union.members = [shape for shape in shapes if not isinstance(shape, (Audio, Bytes))]
    may_be_all = any(type(shape) is Shape for shape in shapes)
    return {
        "json": union.schema(definitions) if union.members else None,
        "audio": may_be_all or any(isinstance(shape, Audio) for shape in shapes),
        "bytes": may_be_all or any(isinstance(shape, Bytes) for shape in shapes),
    }


def _result(output: Schema | None, graph: Graph, last: list[Entry]) -> Schema | None:
    """Return the schema of the result of a call: nothing, the one output, or a list."""
    if output == {}:
        return output
    has_one_output = len(last) == 1 and all(map(_has_one_output, graph.entries))
    forms = [] if output is None else [output]
    if not has_one_output or any(map(_may_drop, graph.entries)):
        forms.append({"type": "null"})
    if not has_one_output and output is not None:
        forms.append({"type": "array", "items": output})
    return {"anyOf": forms} if len(forms) > 1 else next(iter(forms), None)


def _has_one_output(entry: Entry) -> bool:
    # That of a function that makes nodes is not known.
    return hasattr(entry.node, "process") and classify(entry.node) in {"plain", "coroutine"}


def _may_drop(entry: Entry) -> bool:
    """Whether a node may have no output for an item, as far as is known."""
    may_be_null = any(type(shape) is Shape or _is_null(shape) for shape in members_of(output_type(entry)))
    return may_be_null or bool(entry.options.keys() & _DROPPING)


def _is_null(shape: Shape) -> bool:
    return shape.phrase == "null"


def members_of(annotation: Any) -> list[Shape]:
    """Return the shapes of the members of a union, or the only one."""
    waiting, found = [Builder().shape(annotation)], []
    while waiting:
        shape = waiting.pop(0)
        if isinstance(shape, Union):
            waiting[:0] = shape.members
        else:
            found.append(shape)
    return found
