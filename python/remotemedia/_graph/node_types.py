"""Node types by their names in manifests: `CalculatorNode`, or `module:Class`."""

from __future__ import annotations

import sys
from weakref import WeakValueDictionary

from remotemedia import nodes  # noqa: F401 - The built-in nodes register themselves.
from remotemedia._graph import registry

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from typing import Any

__all__ = ["find_type", "type_name"]

# Classes that cannot be imported, such as those in functions; they are found in the same program.
_local_types: WeakValueDictionary[str, type[Any]] = WeakValueDictionary()


def find_type(name: str) -> type[Any] | None:
    """Return the class that a manifest names, or `None`.

    Raises:
        Exception: What importing the module of a `module:Class` raises.
    """
    if ":" not in name:
        return registry.find_class(name)
    found: object = _local_types.get(name)
    if found is None:
        found = _imported(name)
    return found if isinstance(found, type) else None


def type_name(node: object) -> str:
    """Return the name by which `find_type` finds the class of a node."""
    cls = type(node)
    registered = registry.name_of_class(cls)
    if registered is not None:
        return registered
    name = f"{cls.__module__}:{cls.__qualname__}"
    try:
        found = _imported(name)
    except ImportError:
        found = None
    if found is not cls:
        _local_types[name] = cls
    return name


def _imported(name: str) -> object:
    import importlib

    module_name, _, path = name.partition(":")
    if not module_name or not path:
        return None
    found: object = sys.modules.get(module_name) or importlib.import_module(module_name)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found
