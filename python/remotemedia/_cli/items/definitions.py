"""The named schemas that others refer to."""

from __future__ import annotations

from typing import Any

__all__ = ["Definitions"]

_RESERVED = ("Event", "Problem", "Status", "StreamError")
"""The names of the schemas of the service itself."""

_PLACE = "#/components/schemas/"


class Definitions:
    """The schemas of classes, by name: that of the class, with its module if another class has the name."""

    mode = "validation"
    """As in pydantic: `serialization` for outputs."""

    def __init__(self) -> None:
        """Start without schemas."""
        self.schemas: dict[str, dict[str, Any]] = {}
        self._names: dict[object, str] = {}

    def knows(self, key: object) -> bool:
        """Whether a class has its name already."""
        return key in self._names

    def reserve(self, key: object, kind: type) -> str:
        """Return the name for a class, whose schema is set later."""
        for name in (_allowed(kind.__name__), _allowed(f"{kind.__module__}.{kind.__qualname__}")):
            if name not in self.schemas and name not in _RESERVED:
                break
        number = 2
        while name in self.schemas or name in _RESERVED:
            name, number = f"{_allowed(kind.__name__)}_{number}", number + 1
        self._names[key] = name
        self.schemas[name] = {}
        return name

    def reference(self, key: object) -> dict[str, Any]:
        """Return the schema that refers to that of a class."""
        return {"$ref": _PLACE + self._names[key]}

    def template(self, name: str) -> str:
        """Return how pydantic refers to the schemas inside of another one."""
        return f"{_PLACE}{name}.{{model}}"


def _allowed(name: str) -> str:
    """Return a name with the characters that OpenAPI allows for components."""
    return "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in ".-_") else "_" for letter in name
    )
