"""Objects for another process: pickled by reference where it can import them, else by value.

The engine pickles items itself, and calls this module for what the C pickler alone does not do: classes and
functions of `__main__`, of notebooks and of modules that no other process can import.

*Invariant:* a class that crosses and comes back is the same class: neither side ever has two of it, and
none is changed by crossing.
"""

from __future__ import annotations

import copyreg
import gc
import io
import linecache
import os
import pickle
import sys
from contextlib import contextmanager
from functools import cached_property, singledispatchmethod
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

import cloudpickle
from cloudpickle import cloudpickle as internals

from remotemedia._workers import pickling_tensors
from remotemedia._workers.diagnosis import NOWHERE, find_culprit
from remotemedia._workers.pickling_functions import CachedFunction, reduce_function
from remotemedia._workers.pickling_modules import find_only_here
from remotemedia.exceptions import SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remotemedia._workers.diagnosis import Culprit

    BufferCallback = Callable[[Any], object] | None

__all__ = [
    "Crosser",
    "complete_class",
    "dump_into",
    "dump_item",
    "dumps",
    "known_class",
    "load_class",
    "make_class",
    "make_code",
    "names_by_value",
    "refuse_arrived",
]

_PROTOCOL = 5
"""The first one with buffers beside the pickle."""

_ANY_FILE = io.FileIO.__mro__[-2]
"""As `io.IOBase`, which takes longer to ask."""

_OPEN_FILES = frozenset(
    {io.FileIO, io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.BufferedRWPair, io.TextIOWrapper}
)

_SPECIAL = (type, FunctionType, CodeType, CachedFunction, cached_property, singledispatchmethod, _ANY_FILE)
"""All others pickle as they always do. Most objects are among those, so this is asked first."""

# Classes that crossed by value. They are kept, so that one whose id comes back is still there.
_classes: dict[str, type] = {}
_ids: dict[type, str] = {}
_of_parent: set[str] = set()
_definitions: dict[str, bytes] = {}

# By file: the lines of source as `linecache` has them, and put together.
_sources: dict[str, tuple[list[str], str]] = {}


class Crosser(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles for another process that runs the same Python with the same `sys.path`."""

    def __init__(
        self,
        file: Any,
        buffer_callback: BufferCallback = None,
        *,
        is_for_parent: bool = False,
        is_terse: bool = False,
    ) -> None:
        """Write to a file.

        Args:
            file: Where the pickle goes.
            buffer_callback: Is given each large buffer; returns whether it belongs into the pickle.
            is_for_parent: Whether it is for the process that has sent this one what it runs.
            is_terse: Whether a class by value may be unpickled apart from the rest, which spares that if it
                is known on the other side. What it shares with the rest is shared no more then.
        """
        # That of cloudpickle is a chain of two, which is looked at in Python, for each object.
        own = cloudpickle.Pickler._dispatch_table  # noqa: SLF001 - As above.
        self.dispatch_table = {**copyreg.dispatch_table, **own, **pickling_tensors.reducers()}
        super().__init__(file, protocol=_PROTOCOL, buffer_callback=buffer_callback)
        self._is_for_parent = is_for_parent
        self._is_terse = is_terse

    def reducer_override(self, obj: Any) -> Any:
        """As cloudpickle, but classes by value go only where they are not known."""
        kind = type(obj)
        if not issubclass(kind, _SPECIAL):
            return NotImplemented
        if issubclass(kind, type):
            return self._reduce_class(obj)
        if kind is CodeType:
            # Tracebacks tell the file, which cloudpickle leaves out, and its lines.
            make, arguments = internals._code_reduce(obj)  # noqa: SLF001 - Nothing else makes it.
            return make_code, (make, arguments, obj.co_filename, _source_of(obj.co_filename))
        if issubclass(kind, _ANY_FILE):
            return _reduce_file(obj)
        function = reduce_function(obj)
        return super().reducer_override(obj) if function is None else function

    def _reduce_class(self, obj: type) -> Any:
        if self._is_for_parent and _ids.get(obj) in _of_parent:
            return known_class, (_ids[obj],)
        if self._is_terse and (definition := _definitions.get(_ids.get(obj, ""))):
            return load_class, (_ids[obj], definition)
        reduced = super().reducer_override(obj)
        if not isinstance(reduced, tuple) or reduced[-1] is not internals._class_setstate:  # noqa: SLF001 - This tells a class by value.
            return reduced
        make, arguments, state = reduced[:3]
        # In the arguments of both makers that there are, the id is the last but one.
        class_id: str = arguments[-2]
        if _is_typed_tuple(obj):
            # Made anew with the class, as are its slots, and out of functions of `typing` that do not pickle.
            state[0].pop("__class_getitem__", None)
        elif make is internals._make_skeleton_class and "__slots__" in vars(obj):  # noqa: SLF001 - As above.
            # Without them its objects would have a `__dict__` there, and could not come back.
            arguments[3]["__slots__"] = vars(obj)["__slots__"]
        _classes[class_id], _ids[obj] = obj, class_id
        if self._is_terse:
            _definitions[class_id] = dumps(obj)
            return load_class, (class_id, _definitions[class_id])
        whole = class_id, not self._is_for_parent, state
        return make_class, (class_id, make, arguments), whole, None, None, complete_class


def dumps(obj: object, buffer_callback: BufferCallback = None, *, is_for_parent: bool = False) -> bytes:
    """Pickle an object for another process.

    Raises:
        Exception: Whatever an object raises that cannot be pickled.
    """
    if not is_for_parent:
        _register_by_value()
    with io.BytesIO() as file:
        Crosser(file, buffer_callback, is_for_parent=is_for_parent).dump(obj)
        return file.getvalue()


def dump_into(
    file: Any,
    obj: object,
    buffer_callback: BufferCallback = None,
    *,
    is_for_parent: bool = False,
    is_terse: bool = False,
) -> Culprit | None:
    """Pickle an object for another process into a file; return what in it cannot be pickled, if anything."""
    if not is_for_parent:
        _register_by_value()
    crosser = Crosser(file, buffer_callback, is_for_parent=is_for_parent, is_terse=is_terse)
    with _without_collector():
        try:
            crosser.dump(obj)
        except Exception as error:  # noqa: BLE001 - It is told with the culprit.
            # The error has a traceback, and that the crosser.
            crosser.clear_memo()
            return find_culprit(obj, error, Crosser(NOWHERE))
    return None


@contextmanager
def _without_collector() -> Iterator[None]:
    """Pickling makes many objects and no garbage: the collector would look at all of them again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def dump_item(item: object, buffer_callback: BufferCallback, is_for_parent: bool) -> bytes:  # noqa: FBT001 - Called by Rust.
    """Pickle an item that the C pickler alone cannot, or should not, pickle.

    Raises:
        SerializationError: If it cannot be sent at all; what raised is its cause.
    """
    with io.BytesIO() as file:
        culprit = dump_into(
            file, item, buffer_callback, is_for_parent=is_for_parent, is_terse=not is_for_parent
        )
        if culprit is not None:
            raise _refuse(item, culprit) from culprit.error
        return file.getvalue()


def refuse_arrived(error: BaseException) -> SerializationError:
    """The error for an item that has come, but does not unpickle."""
    reason = f"{type(error).__name__}: {error}"
    refused = SerializationError(f"Cannot unpickle an item from another process: {reason}", reason=reason)
    refused.__cause__ = error
    return refused


def names_by_value() -> list[bytes]:
    """What in a pickle tells that it has references in it that no other process can follow."""
    return [b"__main__", *(name.encode() for name in find_only_here())]


def load_class(class_id: str, definition: bytes) -> type:
    """The class of this id, made from its definition if it is not here yet."""
    known = _classes.get(class_id)
    return known if known is not None else pickle.loads(definition)  # noqa: S301 - Part of a pickle.


def make_class(class_id: str, make: Callable[..., type], arguments: tuple[Any, ...]) -> type:
    """The class of this id: the one that is here, else one that is still to be completed."""
    known = _classes.get(class_id)
    return known if known is not None else make(*arguments)


def complete_class(cls: type, whole: tuple[str, bool, Any]) -> None:
    """Give a class that came what belongs to it, unless it has that already."""
    class_id, is_of_parent, state = whole
    if class_id in _classes:
        return
    internals._class_setstate(cls, state)  # noqa: SLF001 - As cloudpickle itself would.
    _classes[class_id], _ids[cls] = cls, class_id
    if is_of_parent:
        _of_parent.add(class_id)


def make_code(
    make: Callable[..., CodeType], arguments: tuple[Any, ...], file: str, source: str | None = None
) -> CodeType:
    """Code that knows its file, and its source if that is no file of this machine."""
    if source is not None:
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    return make(*arguments).replace(co_filename=file)


def _source_of(file: str) -> str | None:
    """The source of code that the other process cannot read: of a notebook's cell, or of an import hook."""
    if os.path.isabs(file) and os.path.exists(file):
        return None
    lines = linecache.getlines(file)
    known = _sources.get(file)
    # The same text each time, so that it is in a pickle once.
    if known is None or known[0] is not lines:
        known = _sources[file] = lines, "".join(lines)
    return known[1] or None


def known_class(class_id: str) -> type:
    """A class that comes back."""
    return _classes[class_id]


def _reduce_file(file: Any) -> Any:
    for name in ("stdout", "stderr"):
        if file is getattr(sys, name):
            return getattr, (sys, name)
    if type(file) in _OPEN_FILES:
        raise pickle.PicklingError("Cannot pickle files; send the path, and open it in the other process")
    return NotImplemented


def _is_typed_tuple(cls: type) -> bool:
    """Whether `typing.NamedTuple` makes a class, which refuses to be told of slots."""
    return any(getattr(base, "__name__", "") == "NamedTuple" for base in vars(cls).get("__orig_bases__", ()))


def _refuse(item: object, culprit: Culprit) -> SerializationError:
    kind = type(item).__qualname__
    what = f"its part '{culprit.path}'" if culprit.path else "it"
    suggestion = "Send plain data, arrays, or objects that can be pickled."
    return SerializationError(
        f"Cannot send an item of type {kind} to another process: {what} is not serializable."
        f"\nSuggestion: {suggestion}\nReason: {culprit.reason}",
        attribute=culprit.path,
        reason=culprit.reason,
        suggestion=suggestion,
    )


def _register_by_value() -> None:
    registered = cloudpickle.list_registry_pickle_by_value()
    for name in find_only_here():
        if name not in registered and name in sys.modules:
            cloudpickle.register_pickle_by_value(sys.modules[name])
