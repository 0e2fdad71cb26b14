"""The names under which manifests find node classes."""

from __future__ import annotations

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from typing import Any, TypeVar

    NodeClass = TypeVar("NodeClass", bound=type[Any])

__all__ = ["aliases_of", "find_class", "get_loaded_nodes", "name_of_class", "register_node"]

_SUFFIX = "Node"

_classes: dict[str, type[Any]] = {}


def register_node(cls: NodeClass, name: str | None = None) -> NodeClass:
    """Register a node class for manifests, under its name with and without the suffix `Node`.

    Args:
        cls: A class whose instances are nodes. You may register it again, for example if you run a cell of a
            notebook twice.
        name: The name in manifests; the default is the name of the class.

    Returns:
        The class, so that this works as a decorator.

    Raises:
        TypeError: If `cls` is not a class with a method `process`.
        ValueError: If another class has the name.
    """
    if not isinstance(cls, type) or not callable(getattr(cls, "process", None)):
        raise TypeError(f"register_node() takes a class with a process() method, not {cls!r}")
    name = name or cls.__name__
    known = find_class(name)
    if known is not None and _path_of(known) != _path_of(cls):
        raise ValueError(
            f"The name '{name}' is already registered for {_path_of(known)}; "
            "use another: register_node(cls, name=…)"
        )
    for alias in _spellings(name):
        _classes.pop(alias, None)
    _classes[name] = cls
    return cls


def get_loaded_nodes() -> dict[str, type[Any]]:
    """Return the registered classes by name; each also has an alias with or without the suffix `Node`."""
    return dict(_classes)


def find_class(name: str) -> type[Any] | None:
    """Return the class of a name or alias, or `None`."""
    return next((_classes[spelling] for spelling in _spellings(name) if spelling in _classes), None)


def name_of_class(cls: type[Any]) -> str | None:
    """Return the name of a registered class, or `None`."""
    return next((name for name, known in _classes.items() if known is cls), None)


def aliases_of(name: str) -> list[str]:
    """Return the aliases of a registered name."""
    return _spellings(name)[1:]


def _spellings(name: str) -> list[str]:
    base = name.removesuffix(_SUFFIX)
    return [name, base if base and base != name else name + _SUFFIX]


def _path_of(cls: type[Any]) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"
