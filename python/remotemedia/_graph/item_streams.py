"""What is a stream of items, and what is one item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from remotemedia._graph.node_kinds import has_methods

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["can_be_read", "is_stream", "items_of"]


def is_stream(data: Any) -> bool:
    """Whether data is a stream of items: an iterable or async iterable, but no text, bytes, dict or array.

    What has no `__iter__`, but `__getitem__` and `__len__`, is one too, as the data sets of torch are.
    """
    kind = type(data)
    if kind is list:
        return True
    if isinstance(data, (str, bytes, bytearray, memoryview, Mapping)) or hasattr(kind, "__array__"):
        return False
    # `array.array` is an array by what it is called, and by nothing else.
    if kind.__module__ == "array":
        return False
    return has_methods(kind, "__iter__") or has_methods(kind, "__aiter__") or _has_places(kind)


def can_be_read(data: Any) -> bool:
    """Whether data can be read item by item: Python does so by `__getitem__` alone, too."""
    kind = type(data)
    return is_stream(data) or (has_methods(kind, "__getitem__") and not hasattr(kind, "__iter__"))


def items_of(stream: Any) -> Any:
    """The stream, to be iterated over. Of what has `__getitem__` and `__len__` as many items as it has."""
    return _places_of(stream) if _has_places(type(stream)) else stream


def _has_places(kind: type) -> bool:
    # What most streams have is asked for first.
    return (
        not hasattr(kind, "__iter__")
        and not hasattr(kind, "__aiter__")
        and has_methods(kind, "__getitem__", "__len__")
        # Otherwise it finds values by names.
        and not hasattr(kind, "keys")
    )


def _places_of(sequence: Any) -> Iterator[Any]:
    # Some data sets make an item for every number, and would go on for ever.
    for index in range(len(sequence)):
        try:
            item = sequence[index]
        except IndexError:
            return
        yield item
