"""Which values are streams of items, and which are single items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from remotemedia._graph.node_kinds import has_methods

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["can_be_read", "is_stream", "items_of"]


def is_stream(data: Any) -> bool:
    """Whether data is a stream of items: an iterable or async iterable, but not text, bytes, dict or array.

    So is an object without `__iter__`, but with `__getitem__` and `__len__`, such as a torch dataset.
    """
    kind = type(data)
    if kind is list:
        return True
    if isinstance(data, (str, bytes, bytearray, memoryview, Mapping)) or hasattr(kind, "__array__"):
        return False
    # `array.array` can only be recognized by its name.
    if kind.__module__ == "array":
        return False
    return has_methods(kind, "__iter__") or has_methods(kind, "__aiter__") or _has_places(kind)


def can_be_read(data: Any) -> bool:
    """Whether data can be read item by item, which for Python includes `__getitem__` alone."""
    kind = type(data)
    return is_stream(data) or (has_methods(kind, "__getitem__") and not hasattr(kind, "__iter__"))


def items_of(stream: Any) -> Any:
    """Return an iterable over the stream; for `__getitem__` and `__len__`, over as many items as it has."""
    return _places_of(stream) if _has_places(type(stream)) else stream


def _has_places(kind: type) -> bool:
    # The most frequent case is checked first.
    return (
        not hasattr(kind, "__iter__")
        and not hasattr(kind, "__aiter__")
        and has_methods(kind, "__getitem__", "__len__")
        # Otherwise it is a mapping.
        and not hasattr(kind, "keys")
    )


def _places_of(sequence: Any) -> Iterator[Any]:
    # Some datasets return an item for every index, and would never end.
    for index in range(len(sequence)):
        try:
            item = sequence[index]
        except IndexError:
            return
        yield item
