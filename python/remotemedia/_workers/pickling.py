"""Pickles objects for another process: by reference if it can import them, else by value.

The engine pickles items itself, and uses this module for what the C pickler cannot do: classes and functions
of `__main__`, of notebooks, and of modules that no other process can import.

*Invariant:* a class that is sent and returned is the same class: no side ever has two copies of it, and
sending does not change it.
"""

from __future__ import annotations

import copyreg
import io
import linecache
import os
import pickle
import sys
from functools import cached_property, singledispatchmethod
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

import cloudpickle
from cloudpickle import cloudpickle as internals

from remotemedia._graph.collector import without_collector
from remotemedia._workers import pickling_tensors
from remotemedia._workers.diagnosis import NOWHERE, diagnose
from remotemedia._workers.pickling_functions import CachedFunction, reduce_function
from remotemedia._workers.pickling_modules import find_only_here
from remotemedia.exceptions import SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from remotemedia._workers.diagnosis import Diagnosis

    BufferCallback = Callable[[Any], object] | None

__all__ = [
    "WorkerPickler",
    "complete_class",
    "dump_into",
    "dump_item",
    "dumps",
    "is_reduced_by_default",
    "known_class",
    "load_class",
    "make_class",
    "make_code",
    "names_by_value",
    "refuse_arrived",
]

_PROTOCOL = 5
"""The first protocol with out-of-band buffers."""

_ANY_FILE = io.FileIO.__mro__[-2]
"""Equivalent to `io.IOBase`, but faster to check."""

_OPEN_FILES = frozenset(
    {io.FileIO, io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.BufferedRWPair, io.TextIOWrapper}
)

_SPECIAL = (type, FunctionType, CodeType, CachedFunction, cached_property, singledispatchmethod, _ANY_FILE)
"""All other types are pickled as usual. Most objects are, so this is checked first."""

_REDUCING = (
    "__reduce__",
    "__getstate__",
    "__getnewargs__",
    "__getnewargs_ex__",
    "__getattr__",
    "__getattribute__",
)
"""The methods by which a class can change how its objects are reduced, besides `__reduce_ex__`."""

# Classes that were sent by value, kept so that a returned id still finds its class.
_classes: dict[str, type] = {}
_ids: dict[type, str] = {}
_of_parent: set[str] = set()
_definitions: dict[str, bytes] = {}

# By file: the source lines of `linecache`, and the joined text.
_sources: dict[str, tuple[list[str], str]] = {}


class WorkerPickler(cloudpickle.Pickler):  # type: ignore[misc]
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
            file: The file for the pickle.
            buffer_callback: Called with each large buffer; returns whether it belongs into the pickle.
            is_for_parent: Whether the pickle is for the parent of this worker.
            is_terse: Whether a class by value may be pickled separately, so that the other side can skip a
                class that it knows. It then shares no objects with the rest.
        """
        # cloudpickle has a `ChainMap`, whose lookups for each object run in Python.
        own = cloudpickle.Pickler._dispatch_table  # noqa: SLF001 - As above.
        self.dispatch_table = {**copyreg.dispatch_table, **own, **pickling_tensors.reducers()}
        super().__init__(file, protocol=_PROTOCOL, buffer_callback=buffer_callback)
        self._is_for_parent = is_for_parent
        self._is_terse = is_terse

    def reducer_override(self, obj: Any) -> Any:
        """Reduce like cloudpickle, but send a class by value only if the other side does not know it."""
        kind = type(obj)
        if not issubclass(kind, _SPECIAL):
            return NotImplemented
        if issubclass(kind, type):
            return self._reduce_class(obj)
        if kind is CodeType:
            # Tracebacks need the file, which cloudpickle omits, and its lines.
            make, arguments = internals._code_reduce(obj)  # noqa: SLF001 - There is no public equivalent.
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
        if not isinstance(reduced, tuple) or reduced[-1] is not internals._class_setstate:  # noqa: SLF001 - This identifies a class by value.
            return reduced
        make, arguments, state = reduced[:3]
        # In the arguments of both constructors of cloudpickle, the id is the last but one.
        class_id: str = arguments[-2]
        if _is_typed_tuple(obj):
            # Created again with the class, like its slots, from functions of `typing` that cannot be pickled.
            state[0].pop("__class_getitem__", None)
        elif make is internals._make_skeleton_class and "__slots__" in vars(obj):  # noqa: SLF001 - As above.
            # Without them, its objects would have a `__dict__` there, and could not be returned.
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
        Exception: What an object raises that cannot be pickled.
    """
    if not is_for_parent:
        _register_by_value()
    with io.BytesIO() as file:
        WorkerPickler(file, buffer_callback, is_for_parent=is_for_parent).dump(obj)
        return file.getvalue()


def dump_into(
    file: Any,
    obj: object,
    buffer_callback: BufferCallback = None,
    *,
    is_for_parent: bool = False,
    is_terse: bool = False,
) -> Diagnosis | None:
    """Pickle an object for another process into a file; return what in it cannot be pickled, if anything."""
    if not is_for_parent:
        _register_by_value()
    crosser = WorkerPickler(file, buffer_callback, is_for_parent=is_for_parent, is_terse=is_terse)
    # Pickling creates many objects, but no garbage.
    with without_collector():
        try:
            crosser.dump(obj)
        except Exception as error:  # noqa: BLE001 - Returned with the diagnosis.
            # The traceback of the error refers to the pickler.
            crosser.clear_memo()
            return diagnose(obj, error, WorkerPickler(NOWHERE))
    return None


def is_reduced_by_default(kind: type) -> bool:
    """Whether only the class, attributes and recorded arguments of an object of this class are pickled."""
    from remotemedia.core.node import Node

    if issubclass(kind, (*_SPECIAL, list, dict)) or kind in WorkerPickler(NOWHERE).dispatch_table:
        return False
    return kind.__reduce_ex__ in {object.__reduce_ex__, Node.__reduce_ex__} and all(
        getattr(kind, name, None) is getattr(object, name, None) for name in _REDUCING
    )


def dump_item(item: object, buffer_callback: BufferCallback, is_for_parent: bool) -> bytes:  # noqa: FBT001 - Called by Rust.
    """Pickle an item that the C pickler alone cannot, or should not, pickle.

    Raises:
        SerializationError: If it cannot be sent; the original exception is its cause.
    """
    with io.BytesIO() as file:
        diagnosis = dump_into(
            file, item, buffer_callback, is_for_parent=is_for_parent, is_terse=not is_for_parent
        )
        if diagnosis is not None:
            raise _refuse(item, diagnosis) from diagnosis.error
        return file.getvalue()


def refuse_arrived(error: BaseException) -> SerializationError:
    """Return the error for a received item that cannot be unpickled."""
    reason = f"{type(error).__name__}: {error}"
    refused = SerializationError(f"Cannot unpickle an item from another process: {reason}", reason=reason)
    refused.__cause__ = error
    return refused


def names_by_value() -> list[bytes]:
    """Return byte strings that occur in pickles with references that another process cannot resolve."""
    return [b"__main__", *(name.encode() for name in find_only_here())]


def load_class(class_id: str, definition: bytes) -> type:
    """Return the class of this id; create it from its definition if it is not known yet."""
    known = _classes.get(class_id)
    return known if known is not None else pickle.loads(definition)  # noqa: S301 - Part of a pickle.


def make_class(class_id: str, make: Callable[..., type], arguments: tuple[Any, ...]) -> type:
    """Return the class of this id: the known one, else a new one, which must be completed."""
    known = _classes.get(class_id)
    return known if known is not None else make(*arguments)


def complete_class(cls: type, whole: tuple[str, bool, Any]) -> None:
    """Set the attributes of a received class, unless it is complete."""
    class_id, is_of_parent, state = whole
    if class_id in _classes:
        return
    internals._class_setstate(cls, state)  # noqa: SLF001 - As in cloudpickle.
    _classes[class_id], _ids[cls] = cls, class_id
    if is_of_parent:
        _of_parent.add(class_id)


def make_code(
    make: Callable[..., CodeType], arguments: tuple[Any, ...], file: str, source: str | None = None
) -> CodeType:
    """Return code with its file name, and with its source if the file does not exist here."""
    if source is not None:
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    return make(*arguments).replace(co_filename=file)


def _source_of(file: str) -> str | None:
    """Return source that the other process cannot read: of a notebook cell, or of an import hook."""
    if os.path.isabs(file) and os.path.exists(file):
        return None
    lines = linecache.getlines(file)
    known = _sources.get(file)
    # The same object each time, so that a pickle contains it once.
    if known is None or known[0] is not lines:
        known = _sources[file] = lines, "".join(lines)
    return known[1] or None


def known_class(class_id: str) -> type:
    """Return the class of a returned id."""
    return _classes[class_id]


def _reduce_file(file: Any) -> Any:
    for name in ("stdout", "stderr"):
        if file is getattr(sys, name):
            return getattr, (sys, name)
    if type(file) in _OPEN_FILES:
        raise pickle.PicklingError("Cannot pickle files; send the path, and open it in the other process")
    return NotImplemented


def _is_typed_tuple(cls: type) -> bool:
    """Whether `typing.NamedTuple` created a class, which does not allow `__slots__`."""
    return any(getattr(base, "__name__", "") == "NamedTuple" for base in vars(cls).get("__orig_bases__", ()))


def _refuse(item: object, diagnosis: Diagnosis) -> SerializationError:
    kind = type(item).__qualname__
    what = f"its part '{diagnosis.path}'" if diagnosis.path else "it"
    suggestion = "Send plain data, arrays, or objects that can be pickled."
    return SerializationError(
        f"Cannot send an item of type {kind} to another process: {what} is not serializable."
        f"\nSuggestion: {suggestion}\nReason: {diagnosis.reason}",
        attribute=diagnosis.path,
        reason=diagnosis.reason,
        suggestion=suggestion,
    )


def _register_by_value() -> None:
    registered = cloudpickle.list_registry_pickle_by_value()
    for name in find_only_here():
        if name not in registered and name in sys.modules:
            cloudpickle.register_pickle_by_value(sys.modules[name])
