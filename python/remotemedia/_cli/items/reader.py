"""Items of JSON as instances of the class that the first node takes."""

from __future__ import annotations

import functools
import sys

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from remotemedia._graph.graph import Graph

__all__ = ["reader_of"]

_HOMES_OF_CLASSES = ("dataclasses", "typing", "typing_extensions", "pydantic")
"""Without them there is none of the classes that items can become."""


def reader_of(graph: Graph) -> Callable[[Any], Any] | None:
    """Return a function that turns an item into what the first nodes take; `None` if they take it as it is.

    That is so unless their annotation contains a dataclass, a `TypedDict`, a `NamedTuple` or a model of
    pydantic, and unless all of its types are known. Its errors are of type `ItemError`.
    """
    if not any(name in sys.modules for name in _HOMES_OF_CLASSES):
        return None
    from remotemedia._cli.items.annotations import first_entries, input_type
    from remotemedia._cli.items.build import Builder
    from remotemedia._cli.items.shapes import read

    # All first nodes receive the same object.
    annotation, *others = map(input_type, first_entries(graph))
    builder = Builder()
    shape = builder.shape(annotation)
    if not builder.is_typed or builder.is_unknown or any(other != annotation for other in others):
        return None
    return functools.partial(read, shape)
