"""Types of items with named fields: dataclasses, `TypedDict`, and models of pydantic."""

from __future__ import annotations

import dataclasses
import inspect
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from remotemedia._cli.items.shapes import ItemError, Shape, misfit, read_part, step_to
from remotemedia._suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from remotemedia._cli.items.definitions import Definitions
    from remotemedia._cli.items.shapes import Memo, Schema

__all__ = ["Field", "Model", "Record", "description_of"]

_REFUSALS = (ValueError, TypeError, AssertionError)
"""What `__post_init__` raises for values that it does not accept, as for pydantic."""


class Field(NamedTuple):
    """A field of a record."""

    shape: Shape
    is_required: bool
    default: Any = dataclasses.MISSING
    is_computed: bool = False
    """Whether it is only in outputs."""


class Record(Shape):
    """An object with certain fields: a dataclass or a `TypedDict`."""

    phrase = "an object"

    def __init__(self, kind: type, make: Callable[..., Any], *, is_open: bool = False) -> None:
        """Create it without fields; `fields` is set later, because they may contain this type.

        Args:
            kind: The class.
            make: Makes the instance from its fields.
            is_open: Whether other fields are kept, as they are.
        """
        self._kind = kind
        self._make = make
        self._is_open = is_open
        self.fields: dict[str, Field] = {}

    def schema(self, definitions: Definitions) -> Schema:
        """Return a reference to the schema."""
        if not definitions.knows(self._kind):
            name = definitions.reserve(self._kind, self._kind)
            definitions.schemas[name].update(self._own_schema(definitions))
        return definitions.reference(self._kind)

    def _own_schema(self, definitions: Definitions) -> Schema:
        description = description_of(self._kind)
        required = [name for name, field in self.fields.items() if field.is_required]
        return {
            "title": self._kind.__name__,
            **({"description": description} if description else {}),
            "type": "object",
            "properties": {name: _field_schema(field, definitions) for name, field in self.fields.items()},
            **({"required": required} if required else {}),
            **({} if self._is_open else {"additionalProperties": False}),
        }

    def read(self, value: Any, memo: Memo) -> Any:
        """Return the instance."""
        if not isinstance(value, dict):
            raise misfit(self, value)
        given = {}
        for name, part in value.items():
            field = self.fields.get(name)
            if field is not None and not field.is_computed:
                given[name] = read_part(field.shape, part, memo, step_to(name))
            elif self._is_open:
                given[name] = part
            else:
                raise self._unknown(name)
        for name, field in self.fields.items():
            if field.is_required and name not in given:
                raise ItemError("is missing", [step_to(name)], is_of_name=True)
        try:
            return self._make(**given)
        except _REFUSALS as error:
            raise ItemError(f"is not accepted: {error}") from error

    def _unknown(self, name: str) -> ItemError:
        names = [known for known, field in self.fields.items() if not field.is_computed]
        text = f"is not a field of {self._kind.__name__}{did_you_mean(name, names)}"
        return ItemError(text, [step_to(name)], is_of_name=True)


class Model(Shape):
    """A model or dataclass of pydantic, which checks its values itself."""

    phrase = "an object"

    def __init__(self, kind: type, adapter: Any) -> None:
        """Store the class, and the `TypeAdapter` for it."""
        self._kind = kind
        self._adapter = adapter

    def schema(self, definitions: Definitions) -> Schema:
        """Return a reference to the schema."""
        # Computed fields and serializers let outputs differ from inputs.
        differs = self._written("validation", "") != self._written("serialization", "")
        key = (self._kind, definitions.mode if differs else "")
        if not definitions.knows(key):
            name = definitions.reserve(key, self._kind)
            schema = self._written(definitions.mode, definitions.template(name))
            for inner, its_schema in schema.pop("$defs", {}).items():
                definitions.schemas[f"{name}.{inner}"] = its_schema
            definitions.schemas[name].update(schema)
        return definitions.reference(key)

    def _written(self, mode: str, template: str) -> Schema:
        try:
            schema: Schema = self._adapter.json_schema(mode=mode, ref_template=template or "{model}")
        except Exception:  # noqa: BLE001 - Some types have no schema; the model works without one.
            return {}
        return schema

    def read(self, value: Any, memo: Memo) -> Any:  # noqa: ARG002 - It has its own.
        """Return the instance."""
        import pydantic

        try:
            return self._adapter.validate_python(value)
        except pydantic.ValidationError as error:
            raise ValidationError(str(error)) from error


class ValidationError(ItemError):
    """A value is not accepted by pydantic, in its own words."""

    def __str__(self) -> str:
        """Show the text, and the place of the value if it is a part of the item."""
        place = "".join(reversed(self.steps)).removeprefix(".")
        return f"'{place}': {self.text}" if place else self.text


def description_of(kind: type) -> str:
    """Return the docstring of a class, unless it is one that a decorator has made."""
    text = vars(kind).get("__doc__") or ""
    return "" if text.startswith(f"{kind.__name__}(") else inspect.cleandoc(text)


def _field_schema(field: Field, definitions: Definitions) -> Schema:
    schema = field.shape.schema(definitions)
    if field.is_computed:
        schema = {**schema, "readOnly": True}
    if _is_plain(field.default):
        schema = {**schema, "default": field.default}
    return schema


def _is_plain(value: Any) -> bool:
    """Whether JSON has a value."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (str, int))
