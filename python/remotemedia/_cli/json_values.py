"""The JSON form of objects that JSON does not support."""

from __future__ import annotations

import functools
from operator import attrgetter, methodcaller
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def plainer(value: object) -> object:
    """Return an equivalent simpler object, or `value` itself if none is known.

    Its parts may have to be converted, too.
    """
    for kinds, form in _forms():
        if isinstance(value, kinds):
            return form(value)
    if type(value).__module__.partition(".")[0] == "numpy":
        return _plain_numpy(value)
    if hasattr(type(value), "__pydantic_serializer__"):
        # With aliases, as in its schema.
        return value.model_dump(mode="json", by_alias=True)  # type: ignore[attr-defined]
    return value


@functools.cache
def _forms() -> tuple[tuple[tuple[type, ...], Callable[[Any], object]], ...]:
    # Imported only when a value needs it: most programs write plain JSON values.
    import array
    import datetime as dt
    import decimal
    import enum
    import pathlib
    import uuid
    from collections import abc, deque

    return (
        ((enum.Enum,), attrgetter("value")),
        ((dt.datetime, dt.date, dt.time), methodcaller("isoformat")),
        ((dt.timedelta,), methodcaller("total_seconds")),
        # As text, so that no digit is lost.
        ((decimal.Decimal, uuid.UUID, pathlib.PurePath), str),
        ((abc.Set,), _in_order),
        ((abc.Mapping,), dict),
        ((deque, range, array.array, abc.ValuesView), list),
    )


def _in_order(members: Any) -> list[Any]:
    """Return the members of a set, sorted if possible, so that equal sets are written alike."""
    try:
        return sorted(members)
    except TypeError:
        return list(members)


def _plain_numpy(value: Any) -> object:
    import numpy as np

    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if kind == "M":
        return np.datetime_as_string(value).tolist()
    if kind == "m":
        return (value / np.timedelta64(1, "s")).tolist()
    plain = value.tolist() if hasattr(value, "tolist") else value
    # A value without a simpler form stays as it is.
    return value if type(plain) is type(value) else plain
