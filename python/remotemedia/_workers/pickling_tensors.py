"""Pickles tensors of torch with out-of-band memory, like arrays.

torch itself puts an archive into the pickle, which takes several copies and about ten times as long. Tensors
on devices other than the CPU are still sent that way.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["dumps", "reducers"]


def dumps(item: object, protocol: int, *, buffer_callback: Callable[[Any], object]) -> bytes:
    """Like `pickle.dumps`, with support for tensors."""
    with io.BytesIO() as file:
        pickler = pickle.Pickler(file, protocol, buffer_callback=buffer_callback)
        pickler.dispatch_table = {**copyreg.dispatch_table, **reducers()}
        pickler.dump(item)
        return file.getvalue()


def reducers() -> dict[type, Callable[[Any], Any]]:
    """Return the dispatch table for a pickler, if torch has been imported."""
    storage = getattr(sys.modules.get("torch"), "storage", None)
    typed, untyped = getattr(storage, "TypedStorage", None), getattr(storage, "UntypedStorage", None)
    if not isinstance(typed, type) or not isinstance(untyped, type):
        # Another module of that name, or an import in progress on another thread.
        return {}
    return {typed: _reduce_typed, untyped: _reduce_untyped}


def _reduce_typed(storage: Any) -> Any:
    # A tensor creates a typed storage each time; the untyped storage is what tensors share.
    return _typed, (storage._untyped_storage, storage.dtype)  # noqa: SLF001 - The public attribute warns.


def _reduce_untyped(storage: Any) -> Any:
    if storage.device.type != "cpu":
        return storage.__reduce__()
    import ctypes

    memory: Any = (ctypes.c_ubyte * storage.nbytes()).from_address(storage.data_ptr())
    # Only a temporary tensor may own it.
    memory.owner = storage
    return _untyped, (pickle.PickleBuffer(memory),)


def _typed(untyped: Any, dtype: Any) -> Any:
    torch: Any = import_module("torch")
    return torch.storage.TypedStorage(wrap_storage=untyped, dtype=dtype, _internal=True)


def _untyped(memory: Any) -> Any:
    torch: Any = import_module("torch")
    view = memoryview(memory)
    if view.nbytes == 0:
        return torch.UntypedStorage(0)
    if view.readonly:
        # Tensors are writable, but this memory is shared.
        return torch.UntypedStorage.from_buffer(view, byte_order="native", dtype=torch.uint8)
    return torch.frombuffer(view, dtype=torch.uint8).untyped_storage()
