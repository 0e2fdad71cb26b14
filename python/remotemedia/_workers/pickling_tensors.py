"""Tensors of torch on their way between processes: their memory goes beside the pickle, as that of arrays.

torch itself puts an archive into the pickle, which takes several copies and some ten times as long. What is
on another device than the CPU still goes that way.
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
    """As `pickle.dumps`, but for tensors."""
    with io.BytesIO() as file:
        pickler = pickle.Pickler(file, protocol, buffer_callback=buffer_callback)
        pickler.dispatch_table = {**copyreg.dispatch_table, **reducers()}
        pickler.dump(item)
        return file.getvalue()


def reducers() -> dict[type, Callable[[Any], Any]]:
    """What the dispatch table of a pickler needs, where torch has been imported."""
    storage = getattr(sys.modules.get("torch"), "storage", None)
    typed, untyped = getattr(storage, "TypedStorage", None), getattr(storage, "UntypedStorage", None)
    if not isinstance(typed, type) or not isinstance(untyped, type):
        # Something else of that name, or it is being imported on another thread.
        return {}
    return {typed: _reduce_typed, untyped: _reduce_untyped}


def _reduce_typed(storage: Any) -> Any:
    # A tensor makes a new one each time; what tensors share is the untyped one.
    return _typed, (storage._untyped_storage, storage.dtype)  # noqa: SLF001 - What is public warns.


def _reduce_untyped(storage: Any) -> Any:
    if storage.device.type != "cpu":
        return storage.__reduce__()
    import ctypes

    memory: Any = (ctypes.c_ubyte * storage.nbytes()).from_address(storage.data_ptr())
    # It may belong to nobody but a tensor that came into being on the way.
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
        # A tensor can be written to, and this is memory that others read.
        return torch.UntypedStorage.from_buffer(view, byte_order="native", dtype=torch.uint8)
    return torch.frombuffer(view, dtype=torch.uint8).untyped_storage()
