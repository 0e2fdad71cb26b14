"""Pickles wrapped functions by value, which cloudpickle would send by a name that does not exist there.

A function with a cache is sent with an empty cache: the cache belongs to the process that fills it.
"""

from __future__ import annotations

import functools
from types import CodeType, FunctionType, MappingProxyType
from typing import TYPE_CHECKING, Any

from cloudpickle import cloudpickle as internals

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CachedFunction", "make_cached", "reduce_function"]

CachedFunction = functools._lru_cache_wrapper  # noqa: SLF001 - It has no public name.
"""The type of functions with `functools.cache` or `functools.lru_cache`."""

_DISPATCHER_CODES = frozenset(
    code for code in functools.singledispatch.__code__.co_consts if isinstance(code, CodeType)
)


def reduce_function(value: Any) -> tuple[Any, ...] | None:
    """Return the reduction of a wrapped function by value; `None` for others, and if its name suffices."""
    kind = type(value)
    if kind is functools.cached_property:
        # In Python 3.11, it contains a lock.
        return functools.cached_property, (value.func,), {"attrname": value.attrname}
    if kind is functools.singledispatchmethod:
        # From Python 3.13 on, it has a cache of weak references.
        return functools.singledispatchmethod, (value.func,), {"dispatcher": value.dispatcher}
    if kind is CachedFunction and hasattr(value, "cache_parameters") and not _goes_by_name(value):
        wrapped = value.__wrapped__
        # The attributes are set later, because a recursive function refers to the one that is created here.
        return make_cached, (wrapped, value.cache_parameters()), wrapped, None, None, functools.update_wrapper
    if kind is FunctionType and value.__code__ in _DISPATCHER_CODES and _is_dispatcher(value):
        functions = dict(value.registry)
        return functools.singledispatch, (value.__wrapped__,), functions, None, None, complete_dispatcher
    return None


def make_cached(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """Create a function with an empty cache."""
    return functools.lru_cache(**parameters)(function)


def complete_dispatcher(dispatcher: Any, functions: Mapping[type, Callable[..., Any]]) -> None:
    """Register the implementations of a generic function."""
    functools.update_wrapper(dispatcher, functions[object])
    for kind, function in functions.items():
        dispatcher.register(kind, function)


def _goes_by_name(function: Any) -> bool:
    found = internals._lookup_module_and_qualname(function)  # noqa: SLF001 - As in cloudpickle.
    return found is not None and not internals._is_registered_pickle_by_value(found[0])  # noqa: SLF001 - As above.


def _is_dispatcher(function: FunctionType) -> bool:
    if not isinstance(getattr(function, "registry", None), MappingProxyType):
        return False
    return not internals._should_pickle_by_reference(function)  # noqa: SLF001 - As above.
