"""Nodes that fail: one small class for each way in which a node can fail, to test how a program reacts.

```python
from remotemedia.testing import faults

nodes = [Parse(), faults.Kill(on=3), Store()]  # as if the parser crashed on item 3
```

Each of them passes items on and fails on one: `on=3` is that item, and `nth=3` is the fourth item. With
`phase="initialize"`, `"flush"` or `"cleanup"` it fails in that method instead. With `once=path` it fails only
if the file `path` does not exist, and creates the file, so a restarted worker continues. Without `once` the
node fails each time, so the item kills every worker that processes it.

**Faults that end a process end your program if the node is not in a worker.** `docs/processes.md` shows the
result of each fault for each placement.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

from remotemedia.testing._fault import Fault
from remotemedia.testing._unsendable import (
    DoesNotPickleError,
    DoesNotUnpickle,
    DoesNotUnpickleError,
    PicklingRaisesError,
    PicklingRecursesError,
    nested,
)

if TYPE_CHECKING:
    from typing import NoReturn

__all__ = [
    "CExit",
    "DeepResult",
    "Exit",
    "Fault",
    "ForkChild",
    "Hang",
    "HangHoldingLock",
    "Kill",
    "OutOfMemory",
    "Poison",
    "PythonExit",
    "Raise",
    "RaiseKeyboardInterrupt",
    "RaiseStopIteration",
    "RaiseUnpicklable",
    "RaiseUnpicklableByRecursion",
    "RaiseUnpicklableByRefusal",
    "RaiseUnunpicklable",
    "Recurse",
    "Segfault",
    "StartProcess",
    "StartThread",
    "UnpicklableResult",
    "UnunpicklableResult",
]

_LONG_SECS = 3600.0
_SPARE_BYTES = 64 * 1024**2


class Kill(Fault):
    """Ends its process by a signal, as the kernel does if memory runs out, or `kill -9` on a command line.

    Attributes:
        signal: The signal; `SIGSTOP` stops the process instead, which looks like a call that never ends.
    """

    def __init__(self, on: object = 3, *, signal: int = signal.SIGKILL, **when: Any) -> None:
        """Set the signal, and when it fails, as for any `Fault`."""
        super().__init__(on, **when)
        self.signal = int(signal)

    def strike(self, item: Any) -> Any:
        """Send the signal, and wait for it."""
        os.kill(os.getpid(), self.signal)
        return item


class Poison(Kill):
    """An item that kills each worker that processes it: another name for `Kill`."""


class Segfault(Fault):
    """Reads invalid memory, as a broken extension module does."""

    def strike(self, item: Any) -> Any:  # noqa: ARG002 - It does not return.
        """Read at address 0."""
        return ctypes.string_at(0)


class Exit(Fault):
    """Ends its process immediately with `os._exit`: nothing is written or cleaned up.

    Attributes:
        code: The exit code.
    """

    def __init__(self, on: object = 3, *, code: int = 3, **when: Any) -> None:
        """Set the exit code, and when it fails, as for any `Fault`."""
        super().__init__(on, **when)
        self.code = code

    def strike(self, item: Any) -> NoReturn:  # noqa: ARG002 - It does not return.
        """Exit."""
        os._exit(self.code)


class CExit(Exit):
    """Ends its process with the `exit` of C, as some libraries do; Python is not notified."""

    def strike(self, item: Any) -> NoReturn:
        """Call `exit` of C, which runs its exit handlers."""
        ctypes.CDLL(None).exit(self.code)
        super().strike(item)


class OutOfMemory(Fault):
    """Causes a `MemoryError`, by a temporary limit on the memory of its process.

    If the whole system is out of memory, the kernel sends `SIGKILL`: use `Kill` for that.
    """

    def strike(self, item: Any) -> Any:
        """Allocate ten times the available memory."""
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = _address_space() + _SPARE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        try:
            bytearray(10 * _SPARE_BYTES)
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        return item


class Hang(Fault):
    """Sleeps. Other threads of its process continue.

    Attributes:
        seconds: How long it sleeps; then it passes the item on.
    """

    def __init__(self, on: object = 3, *, seconds: float = _LONG_SECS, **when: Any) -> None:
        """Set how long it sleeps, and when, as for any `Fault`."""
        super().__init__(on, **when)
        self.seconds = seconds

    def strike(self, item: Any) -> Any:
        """Sleep."""
        time.sleep(self.seconds)
        return item


class HangHoldingLock(Hang):
    """Sleeps in a C call that keeps the interpreter lock: no other thread of its process runs."""

    def strike(self, item: Any) -> Any:
        """Sleep while holding the interpreter lock."""
        sleep = ctypes.PyDLL(None).usleep
        end = time.monotonic() + self.seconds
        # A signal that the process handles ends one sleep.
        while (left := end - time.monotonic()) > 0:
            sleep(round(min(left, 1000.0) * 1e6))
        return item


class Raise(Fault):
    """Raises an exception.

    Attributes:
        error: An exception or a class of exceptions.
    """

    def __init__(
        self, on: object = 3, *, error: BaseException | type[BaseException] = ValueError, **when: Any
    ) -> None:
        """Set the exception, and when it is raised, as for any `Fault`."""
        super().__init__(on, **when)
        self.error = error

    def strike(self, item: Any) -> NoReturn:
        """Raise it."""
        raise self.error(f"fault injected on {item!r}") if isinstance(self.error, type) else self.error


class PythonExit(Exit):
    """Raises `SystemExit`, as `sys.exit` does: a request to stop, which a run raises unchanged."""

    def strike(self, item: Any) -> NoReturn:  # noqa: ARG002 - It does not return.
        """Raise it."""
        sys.exit(self.code)


class RaiseKeyboardInterrupt(Fault):
    """Raises `KeyboardInterrupt`, as Ctrl-C does: a request to stop, which a run raises unchanged."""

    def strike(self, item: Any) -> NoReturn:  # noqa: ARG002 - It does not return.
        """Raise it."""
        raise KeyboardInterrupt


class RaiseStopIteration(Fault):
    """Raises `StopIteration`, which can end loops unexpectedly."""

    def strike(self, item: Any) -> NoReturn:
        """Raise it."""
        raise StopIteration(item)


class Recurse(Fault):
    """Calls itself endlessly, which causes a `RecursionError`."""

    def strike(self, item: Any) -> Any:
        """Recurse."""
        return self.strike(item)


class RaiseUnpicklable(Fault):
    """Raises an exception that contains a lock, and therefore cannot be pickled."""

    def strike(self, item: Any) -> NoReturn:
        """Raise it."""
        raise DoesNotPickleError(f"fault injected on {item!r}")


class RaiseUnunpicklable(Fault):
    """Raises an exception that can be pickled but not unpickled: its constructor takes other arguments."""

    def strike(self, item: Any) -> NoReturn:
        """Raise it."""
        raise DoesNotUnpickleError(f"fault injected on {item!r}", "here")


class RaiseUnpicklableByRefusal(Fault):
    """Raises an exception whose `__reduce__` raises."""

    def strike(self, item: Any) -> NoReturn:
        """Raise it."""
        raise PicklingRaisesError(f"fault injected on {item!r}")


class RaiseUnpicklableByRecursion(Fault):
    """Raises an exception whose `__reduce_ex__` calls itself endlessly."""

    def strike(self, item: Any) -> NoReturn:
        """Raise it."""
        raise PicklingRecursesError(f"fault injected on {item!r}")


class UnpicklableResult(Fault):
    """Returns a lock, which cannot be pickled."""

    def strike(self, item: Any) -> Any:  # noqa: ARG002 - The result does not depend on it.
        """Return a lock."""
        return threading.Lock()


class UnunpicklableResult(Fault):
    """Returns an object that can be pickled, and raises an exception when it is unpickled."""

    def strike(self, item: Any) -> DoesNotUnpickle:  # noqa: ARG002 - The result does not depend on it.
        """Return such an object."""
        return DoesNotUnpickle()


class DeepResult(Fault):
    """Returns nested lists that are too deep for pickle."""

    def strike(self, item: Any) -> list[Any]:  # noqa: ARG002 - The result does not depend on it.
        """Return such lists."""
        return nested()


class ForkChild(Hang):
    """Forks a child that sleeps, and returns its process id."""

    def strike(self, item: Any) -> int:  # noqa: ARG002 - The result does not depend on it.
        """Fork."""
        with warnings.catch_warnings():
            # Python warns that a fork with threads may deadlock; this child cannot.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            time.sleep(self.seconds)
            os._exit(0)
        return child


class StartProcess(Hang):
    """Starts a program that sleeps, and returns its process id."""

    def strike(self, item: Any) -> int:  # noqa: ARG002 - The result does not depend on it.
        """Start it."""
        return os.posix_spawnp("sleep", ["sleep", str(self.seconds)], os.environ)


class StartThread(Hang):
    """Starts a thread that sleeps, for which Python waits at exit, and passes the item on."""

    def strike(self, item: Any) -> Any:
        """Start it."""
        threading.Thread(target=time.sleep, args=(self.seconds,), name="abandoned").start()
        return item


def _address_space() -> int:
    """Return the size of the address space of this process, in bytes."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        # Not Linux: with a limit below the current size, every allocation fails.
        return 0
