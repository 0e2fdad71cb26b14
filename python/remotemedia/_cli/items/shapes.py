"""Types of items as objects: each knows its JSON schema, and reads its values from JSON."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from remotemedia._cli.items.definitions import Definitions

    Schema = dict[str, Any]
    Memo = dict[tuple[int, int], tuple[bool, Any]]

__all__ = [
    "Audio",
    "Bytes",
    "Choice",
    "IntegerKey",
    "ItemError",
    "Items",
    "Keyed",
    "Scalar",
    "Shape",
    "Tuple",
    "Union",
    "kind_of",
    "misfit",
    "read",
    "read_part",
    "step_to",
]


class ItemError(ValueError):
    """An item does not have the type that the first node takes.

    Attributes:
        text: What is wrong, without its place.
        steps: The way to that place from the item, innermost step first.
        is_of_name: Whether a field is missing or unknown, so that another class may be meant.
    """

    def __init__(self, text: str, steps: Iterable[str] = (), *, is_of_name: bool = False) -> None:
        """Store the fields."""
        super().__init__(text)
        self.text = text
        self.steps = [*steps]
        self.is_of_name = is_of_name

    def below(self, step: str) -> ItemError:
        """Return itself, as an error of the value that contains this place."""
        self.steps.append(step)
        return self

    def again(self) -> Self:
        """Return an equal error, to be raised from another place."""
        return type(self)(self.text, self.steps, is_of_name=self.is_of_name)

    def __str__(self) -> str:
        """Show place and text, such as `'user.age' must be an integer, not a string`."""
        place = "".join(reversed(self.steps)).removeprefix(".")
        return f"'{place}' {self.text}" if place else f"the item {self.text}"


class Shape:
    """A type of items; this one has all values."""

    phrase = "any value"
    """The type in error texts."""

    def schema(self, definitions: Definitions) -> Schema:  # noqa: ARG002 - Others need it.
        """Return the JSON schema; what it refers to is added to the definitions."""
        return {}

    def read(self, value: Any, memo: Memo) -> Any:  # noqa: ARG002 - Others need it.
        """Return the instance for a JSON value.

        Args:
            value: The value.
            memo: What came of unions so far.

        Raises:
            ItemError: If the value does not have this type.
        """
        return value


def read(shape: Shape, value: Any) -> Any:
    """Return the instance for an item.

    Raises:
        ItemError: If it does not have this type.
    """
    return shape.read(value, {})


class Scalar(Shape):
    """A string, number, boolean or null."""

    def __init__(
        self, schema_type: str, phrase: str, kinds: tuple[type, ...], make: Callable[[Any], Any]
    ) -> None:
        """Store its JSON name, its phrase, the types of its values, and their conversion."""
        self.schema_type = schema_type
        self.phrase = phrase
        self._kinds = kinds
        self._make = make

    def schema(self, definitions: Definitions) -> Schema:  # noqa: ARG002
        """Return the schema."""
        return {"type": self.schema_type}

    def read(self, value: Any, memo: Memo) -> Any:  # noqa: ARG002
        """Return the value, as a number of its type."""
        if type(value) not in self._kinds:
            raise misfit(self, value)
        try:
            made = self._make(value)
        except (OverflowError, ValueError):
            raise misfit(self, value) from None
        # JSON has one type of numbers: 1.0 is an integer, and 1.5 is none.
        if made != value:
            raise misfit(self, value)
        return made


class Bytes(Shape):
    """Bytes, which are base64 in JSON."""

    phrase = "base64 text"

    def schema(self, definitions: Definitions) -> Schema:  # noqa: ARG002
        """Return the schema."""
        return {"type": "string", "contentEncoding": "base64"}

    def read(self, value: Any, memo: Memo) -> Any:  # noqa: ARG002
        """Return the bytes."""
        if isinstance(value, bytes):
            return value
        if not isinstance(value, str):
            raise misfit(self, value)
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise ItemError("must be base64 text") from None


class Audio(Shape):
    """An `AudioFrame`, which is sent as audio and not as JSON."""

    phrase = "audio"

    def schema(self, definitions: Definitions) -> Schema:  # noqa: ARG002
        """Return the schema."""
        return {"type": "string", "contentEncoding": "base64", "contentMediaType": "audio/wav"}

    def read(self, value: Any, memo: Memo) -> Any:  # noqa: ARG002
        """Return the frame."""
        if kind_of(value) != "audio":
            raise misfit(self, value)
        return value


class IntegerKey(Shape):
    """An integer as the key of an object, which is text in JSON."""

    phrase = "an integer"

    def schema(self, definitions: Definitions) -> Schema:  # noqa: ARG002
        """Return the schema."""
        return {"pattern": "^(0|-?[1-9][0-9]*)$"}

    def read(self, value: Any, memo: Memo) -> Any:  # noqa: ARG002
        """Return the integer."""
        try:
            number = int(value)
        except ValueError:
            number = None
        # Two keys that differ must not become one.
        if str(number) != value:
            raise ItemError("must be a key that is an integer")
        return number


class Choice(Shape):
    """One of some scalars: a `Literal` or an `Enum`."""

    def __init__(self, choices: Sequence[tuple[Any, Any]], title: str = "") -> None:
        """Store pairs of a JSON value and what it stands for."""
        self._choices = choices
        self._title = title
        shown = [_json_text(value) for value, _ in choices]
        self.phrase = shown[0] if len(shown) == 1 else f"one of {', '.join(shown)}"

    def schema(self, definitions: Definitions) -> Schema:  # noqa: ARG002
        """Return the schema."""
        title = {"title": self._title} if self._title else {}
        return {**title, "enum": [value for value, _ in self._choices]}

    def read(self, value: Any, memo: Memo) -> Any:  # noqa: ARG002
        """Return what the value stands for."""
        for written, meaning in self._choices:
            # In Python, True equals 1; in JSON, 1.0 does.
            if written == value and isinstance(written, bool) == isinstance(value, bool):
                return meaning
        raise ItemError(f"must be {self.phrase}")


class Items(Shape):
    """An array of any length, with items of one type."""

    phrase = "an array"

    def __init__(self, item: Shape, make: Callable[[list[Any]], Any], *, is_set: bool = False) -> None:
        """Store the type of the items, and the collection that they become."""
        self._item = item
        self._make = make
        self._is_set = is_set

    def schema(self, definitions: Definitions) -> Schema:
        """Return the schema."""
        items = self._item.schema(definitions)
        return {
            "type": "array",
            **({"items": items} if items else {}),
            **({"uniqueItems": True} if self._is_set else {}),
        }

    def read(self, value: Any, memo: Memo) -> Any:
        """Return the collection."""
        if not isinstance(value, list):
            raise misfit(self, value)
        made = [read_part(self._item, part, memo, f"[{index}]") for index, part in enumerate(value)]
        try:
            return self._make(made)
        except TypeError:  # A set of what has no hash.
            raise ItemError("must be an array of strings, numbers or booleans") from None


class Tuple(Shape):
    """An array of a certain length: a `tuple` or a `NamedTuple`."""

    def __init__(self, make: Callable[..., Any], required: int = 0, title: str = "") -> None:
        """Create it without items; `items` is set later, because they may contain this type."""
        self._make = make
        self._title = title
        self.required = required
        self.items: list[Shape] = []

    @property
    def phrase(self) -> str:  # type: ignore[override]
        """Its length."""
        most, least = len(self.items), self.required
        count = f"{most}" if least == most else f"{least} to {most}"
        return f"an array of {count} item{'s' if most != 1 else ''}"

    def schema(self, definitions: Definitions) -> Schema:
        """Return the schema."""
        return {
            **({"title": self._title} if self._title else {}),
            "type": "array",
            **({"prefixItems": [item.schema(definitions) for item in self.items]} if self.items else {}),
            "minItems": self.required,
            "maxItems": len(self.items),
        }

    def read(self, value: Any, memo: Memo) -> Any:
        """Return the tuple."""
        if not isinstance(value, list):
            raise misfit(self, value)
        if not self.required <= len(value) <= len(self.items):
            raise ItemError(f"must be {self.phrase}, not of {len(value)}")
        pairs = zip(self.items, value, strict=False)
        return self._make(
            *(read_part(item, part, memo, f"[{index}]") for index, (item, part) in enumerate(pairs))
        )


class Keyed(Shape):
    """An object with any keys, and values of one type."""

    phrase = "an object"

    def __init__(self, key: Shape, value: Shape) -> None:
        """Store the types of keys and values."""
        self._key = key
        self._value = value

    def schema(self, definitions: Definitions) -> Schema:
        """Return the schema."""
        keys, values = self._key.schema(definitions), self._value.schema(definitions)
        return {
            "type": "object",
            **({"propertyNames": keys} if keys != {"type": "string"} else {}),
            **({"additionalProperties": values} if values else {}),
        }

    def read(self, value: Any, memo: Memo) -> Any:
        """Return the dict."""
        if not isinstance(value, dict):
            raise misfit(self, value)
        return {
            read_part(self._key, key, memo, step_to(key)): read_part(self._value, part, memo, step_to(key))
            for key, part in value.items()
        }


class Union(Shape):
    """One of several types, the first that fits."""

    def __init__(self) -> None:
        """Create it without members; `members` is set later, because they may contain this type."""
        self.members: list[Shape] = []

    @property
    def phrase(self) -> str:  # type: ignore[override]
        """The phrases of its members."""
        *others, last = dict.fromkeys(member.phrase for member in self.members)
        return f"{', '.join(others)} or {last}" if others else last

    def schema(self, definitions: Definitions) -> Schema:
        """Return the schema."""
        schemas: list[Schema] = []
        for member in self.members:
            schema = member.schema(definitions)
            if schema not in schemas:
                schemas.append(schema)
        # A type with all values has those of the others, too.
        return schemas[0] if len(schemas) == 1 else {"anyOf": schemas} if {} not in schemas else {}

    def read(self, value: Any, memo: Memo) -> Any:
        """Return the instance of the first type that fits."""
        # Unions in each other would otherwise be tried in all combinations.
        key = (id(value), id(self))
        if key not in memo:
            memo[key] = self._tried(value, memo)
        is_read, found = memo[key]
        if is_read:
            return found
        raise found.again()

    def _tried(self, value: Any, memo: Memo) -> tuple[bool, Any]:
        errors = []
        for member in self.members:
            try:
                return True, member.read(value, memo)
            except ItemError as error:
                errors.append(error)
        # The error of a type that the value is meant to have says more, and most if its fields are right.
        kind = kind_of(value)
        meant = [
            error for member, error in zip(self.members, errors, strict=True) if _kind_of(member) == kind
        ]
        return False, max(meant, key=_weight) if meant else misfit(self, value)


def _weight(error: ItemError) -> tuple[bool, int]:
    return not error.is_of_name, len(error.steps)


def _kind_of(shape: Shape) -> str:
    """Return the kind of values that a structured type has, as `kind_of` does."""
    if isinstance(shape, (Items, Tuple)):
        return "an array"
    return "" if isinstance(shape, (Scalar, Choice, Bytes, Union, Audio)) else "an object"


def kind_of(value: Any) -> str:
    """Return what a value is in the words of JSON, such as `an integer`."""
    names = {bool: "a boolean", int: "an integer", float: "a number", str: "a string", type(None): "null"}
    names |= {list: "an array", dict: "an object", bytes: "bytes"}
    return names.get(type(value), "audio")


def misfit(shape: Shape, value: Any) -> ItemError:
    """Return the error for a value of another type."""
    if isinstance(value, float) and shape.phrase == "an integer":
        return ItemError(f"must be an integer, not {value!r}")
    return ItemError(f"must be {shape.phrase}, not {kind_of(value)}")


def read_part(shape: Shape, value: Any, memo: Memo, step: str) -> Any:
    """Return the instance for a part of a value; errors contain the step to it."""
    try:
        return shape.read(value, memo)
    except ItemError as error:
        raise error.below(step) from None


def step_to(key: str) -> str:
    """Return the step to a value of an object, in error texts."""
    return f".{key}" if key.isidentifier() else f"[{_json_text(key)}]"


def _json_text(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
