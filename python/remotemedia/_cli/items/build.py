"""From annotations to shapes."""

from __future__ import annotations

import dataclasses
import enum
import sys
import typing
from collections import abc
from types import NoneType, UnionType
from typing import Any

from remotemedia._cli.items.records import Field, Model, Record
from remotemedia._cli.items.shapes import (
    Audio,
    Bytes,
    Choice,
    IntegerKey,
    Items,
    Keyed,
    Scalar,
    Shape,
    Tuple,
    Union,
)

__all__ = ["Builder"]

_STRING = Scalar("string", "a string", (str,), str)
_NULL = Scalar("null", "null", (NoneType,), lambda value: value)
_SCALARS: dict[Any, Shape] = {
    str: _STRING,
    int: Scalar("integer", "an integer", (int, float), int),
    float: Scalar("number", "a number", (int, float), float),
    bool: Scalar("boolean", "a boolean", (bool,), bool),
    None: _NULL,
    NoneType: _NULL,
    bytes: Bytes(),
    bytearray: Bytes(),
    Any: Shape(),
    object: Shape(),
}

_LISTS = (list, abc.Sequence, abc.MutableSequence, abc.Collection, abc.Iterable, abc.Container)
_SETS = {set: set, abc.Set: set, abc.MutableSet: set, frozenset: frozenset}
_DICTS = (dict, abc.Mapping, abc.MutableMapping)
_QUALIFIERS = ("Annotated", "Required", "NotRequired", "ReadOnly", "Final", "ClassVar")
_DEEPEST = 64
"""The limit on nested names of a type, because some are names of each other."""


class Builder:
    """Turns annotations into shapes.

    Attributes:
        is_typed: Whether a shape has instances that JSON values become: it has a class of the user.
        is_unknown: Whether some type has no JSON form that is known.
    """

    def __init__(self) -> None:
        """Start without classes."""
        self.is_typed = False
        self.is_unknown = False
        self._classes: dict[type, Shape] = {}

    def shape(self, annotation: Any) -> Shape:
        """Return the shape of a type; that of all values if the type is not known."""
        try:
            return self._shape(annotation)
        except Exception:  # noqa: BLE001 - A type is code of the user: an alias may be evaluated here.
            return self._nothing()

    def _shape(self, annotation: Any) -> Shape:
        for _ in range(_DEEPEST):
            meaning = _meaning(annotation)
            if meaning is annotation:
                return self._plain(annotation)
            annotation = meaning
        return self._nothing()

    def _plain(self, annotation: Any) -> Shape:
        origin = typing.get_origin(annotation) or annotation
        arguments = typing.get_args(annotation)
        if _is_hashable(annotation) and annotation in _SCALARS:
            return _SCALARS[annotation]
        if origin in {typing.Union, UnionType}:
            return self._union(arguments)
        if origin is typing.Literal:
            return self._literal(arguments)
        return self._collection(origin, arguments) or self._class(origin)

    def _collection(self, origin: Any, arguments: tuple[Any, ...]) -> Shape | None:
        if origin in _LISTS:
            return Items(self._argument(arguments), list)
        if origin in _SETS:
            return Items(self._argument(arguments), _SETS[origin], is_set=True)
        if origin in _DICTS:
            return self._dict(arguments)
        return self._tuple(arguments) if origin is tuple else None

    def _nothing(self) -> Shape:
        self.is_unknown = True
        return Shape()

    def _argument(self, arguments: tuple[Any, ...]) -> Shape:
        return self._shape(arguments[0]) if arguments else Shape()

    def _union(self, members: tuple[Any, ...]) -> Shape:
        union = Union()
        union.members = [self._shape(member) for member in members]
        # An integer stays one, and text is only base64 if nothing else is possible.
        union.members.sort(key=lambda member: 2 if isinstance(member, Bytes) else member is _SCALARS[float])
        return union

    def _literal(self, choices: tuple[Any, ...]) -> Shape:
        pairs = [(choice.value if isinstance(choice, enum.Enum) else choice, choice) for choice in choices]
        return self._choice(pairs, "")

    def _choice(self, pairs: list[tuple[Any, Any]], title: str) -> Shape:
        if not pairs or any(type(value) not in {str, int, float, bool, NoneType} for value, _ in pairs):
            return self._nothing()
        return Choice(pairs, title)

    def _dict(self, arguments: tuple[Any, ...]) -> Shape:
        key, value = arguments if len(arguments) == 2 else (str, Any)  # noqa: PLR2004 - A key and a value.
        keys = IntegerKey() if key is int else self._shape(key)
        is_text = keys is _STRING or key in {int, Any} or isinstance(keys, Choice)
        return Keyed(keys if key is not Any else _STRING, self._shape(value)) if is_text else self._nothing()

    def _tuple(self, arguments: tuple[Any, ...]) -> Shape:
        if not arguments or arguments[1:] == (...,):
            return Items(self._argument(arguments), tuple)
        # An empty one is written as `tuple[()]`.
        items = [self._shape(argument) for argument in arguments if argument != ()]
        made = Tuple(lambda *parts: parts, len(items))
        made.items = items
        return made

    def _class(self, kind: Any) -> Shape:
        if not isinstance(kind, type):
            return self._nothing()
        if kind in self._classes:
            return self._classes[kind]
        if (kind.__module__, kind.__name__) == ("remotemedia.audio", "AudioFrame"):
            return Audio()
        if issubclass(kind, enum.Enum):
            return self._choice([(member.value, member) for member in kind], kind.__name__)
        return self._record(kind) or self._nothing()

    def _record(self, kind: Any) -> Shape | None:
        """Return the shape of a class with fields."""
        for make in (self._model, self._dataclass, self._named_tuple, self._typed_dict):
            try:
                made = make(kind)
            except Exception:  # noqa: BLE001 - Annotations are code of the user: names that only type checkers know.
                self._classes.pop(kind, None)
                return None
            if made is not None:
                self.is_typed = True
                self._classes[kind] = made
                return made
        return None

    def _model(self, kind: type) -> Shape | None:
        # Where there is one, it is imported.
        pydantic: Any = sys.modules.get("pydantic")
        if not hasattr(kind, "__pydantic_validator__") or not hasattr(pydantic, "TypeAdapter"):
            return None
        return Model(kind, pydantic.TypeAdapter(kind))

    def _dataclass(self, kind: Any) -> Shape | None:
        if not hasattr(kind, "__dataclass_fields__"):
            return None
        record = self._classes[kind] = Record(kind, kind)
        hints = typing.get_type_hints(kind, include_extras=True)
        if not kind.__dataclass_params__.init or any(
            isinstance(hint, dataclasses.InitVar) for hint in hints.values()
        ):
            self.is_unknown = True
        for field in dataclasses.fields(kind):
            is_required = (
                field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            )
            record.fields[field.name] = Field(
                self._shape(hints[field.name]), is_required and field.init, field.default, not field.init
            )
        return record

    def _named_tuple(self, kind: Any) -> Shape | None:
        if not issubclass(kind, tuple) or not hasattr(kind, "_fields"):
            return None
        made = self._classes[kind] = Tuple(kind, len(kind._fields) - len(kind._field_defaults), kind.__name__)
        hints = typing.get_type_hints(kind, include_extras=True)
        made.items = [self._shape(hints.get(name, Any)) for name in kind._fields]
        return made

    def _typed_dict(self, kind: Any) -> Shape | None:
        if not issubclass(kind, dict) or not hasattr(kind, "__required_keys__"):
            return None
        # As for type checkers, a dict with more keys is one of this type, too.
        record = self._classes[kind] = Record(kind, dict, is_open=True)
        for name, hint in typing.get_type_hints(kind, include_extras=True).items():
            # With `from __future__ import annotations`, the class itself does not know its words.
            words = _words_of(hint)
            is_required = "Required" in words or (
                name in kind.__required_keys__ and "NotRequired" not in words
            )
            record.fields[name] = Field(self._shape(hint), is_required)
        return record


def _meaning(annotation: Any) -> Any:
    """Resolve one level of an alias of a type; return other types unchanged."""
    if isinstance(annotation, typing.TypeVar):
        constraints = annotation.__constraints__
        union = typing.Union[constraints] if constraints else None  # noqa: UP007 - Their number varies.
        return union or annotation.__bound__ or Any
    if (word := _word_of(annotation)) in _QUALIFIERS and word is not None:
        return next(iter(typing.get_args(annotation)), Any)
    # For `NewType` and `type X = …`.
    for name in ("__supertype__", "__value__"):
        if not isinstance(annotation, type) and hasattr(annotation, name):
            return getattr(annotation, name)
    return annotation


def _word_of(annotation: Any) -> str | None:
    """Return the name of a qualifier such as `Required[…]`, of `typing` or of `typing_extensions`."""
    if isinstance(annotation, type):
        return None
    origin = typing.get_origin(annotation) or annotation
    return getattr(origin, "_name", None) or getattr(origin, "__name__", None)


def _words_of(annotation: Any) -> set[str]:
    """Return the qualifiers around a type."""
    words = set()
    while (word := _word_of(annotation)) in _QUALIFIERS and word is not None:
        words.add(word)
        annotation = next(iter(typing.get_args(annotation)), Any)
    return words


def _is_hashable(annotation: Any) -> bool:
    try:
        hash(annotation)
    except TypeError:
        return False
    return True
