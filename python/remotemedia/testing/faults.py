"""Nodes that fail: one small class for each way in which a node can, for tests of what a program does then.

```python
from remotemedia.testing import faults

nodes = [Parse(), faults.Kill(on=3), Store()]  # as if the parser crashed on item 3
```

Each passes items on and strikes on one of them: `on=3` is that item, `nth=3` the fourth one whatever it is.
With `phase="initialize"`, `"flush"` or `"cleanup"` it strikes in that part of its life. With `once=path` it
strikes only where the file `path` is not there yet, and makes it: a worker that is started again goes on.
Without it the item is poison: it strikes each time.

**Faults that end a process end yours, where the node is not in a worker.** What comes out for each fault in
each place is in `docs/processes.md`.
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
    """Ends its process by a signal: as the kernel does when memory runs out, or `kill -9` on a command line.

    Attributes:
        signal: The signal; `SIGSTOP` stops the process instead, which looks like a call that never ends.
    """

    def __init__(self, on: object = 3, *, signal: int = signal.SIGKILL, **when: Any) -> None:
        """Say by which signal, and when: as for any `Fault`."""
        super().__init__(on, **when)
        self.signal = int(signal)

    def strike(self, item: Any) -> Any:
        """Send the signal, and wait for it."""
        os.kill(os.getpid(), self.signal)
        return item


class Poison(Kill):
    """An item that kills whatever works on it: `Kill`, by the name of what it is to a stream."""


class Segfault(Fault):
    """Reads memory that is not there, as a broken extension module does."""

    def strike(self, item: Any) -> Any:  # noqa: ARG002 - Nobody comes back with it.
        """Read at address 0."""
        return ctypes.string_at(0)


class Exit(Fault):
    """Ends its process at once with `os._exit`: nothing is written, nothing is cleaned up.

    Attributes:
        code: The exit code.
    """

    def __init__(self, on: object = 3, *, code: int = 3, **when: Any) -> None:
        """Say with which code, and when: as for any `Fault`."""
        super().__init__(on, **when)
        self.code = code

    def strike(self, item: Any) -> NoReturn:  # noqa: ARG002 - Nobody comes back with it.
        """Leave."""
        os._exit(self.code)


class CExit(Exit):
    """Ends its process with the `exit` of C, as libraries do that give up; Python hears nothing of it."""

    def strike(self, item: Any) -> NoReturn:
        """Leave, by way of the functions that C calls at exit."""
        ctypes.CDLL(None).exit(self.code)
        super().strike(item)


class OutOfMemory(Fault):
    """Asks for more memory than its process may have: a `MemoryError`, by a limit that it takes back.

    The kernel, when there is none left for anybody, sends `SIGKILL`: that is `Kill`.
    """

    def strike(self, item: Any) -> Any:
        """Ask for ten times what is left."""
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
    """Sleeps. Other threads of its process run on.

    Attributes:
        seconds: For how long; then it passes the item on.
    """

    def __init__(self, on: object = 3, *, seconds: float = _LONG_SECS, **when: Any) -> None:
        """Say for how long, and when: as for any `Fault`."""
        super().__init__(on, **when)
        self.seconds = seconds

    def strike(self, item: Any) -> Any:
        """Sleep."""
        time.sleep(self.seconds)
        return item


class HangHoldingLock(Hang):
    """Sleeps in a C call that keeps the interpreter lock: no other thread of its process runs."""

    def strike(self, item: Any) -> Any:
        """Sleep, and let nobody else do anything."""
        sleep = ctypes.PyDLL(None).usleep
        end = time.monotonic() + self.seconds
        # A signal that the process handles ends one sleep.
        while (left := end - time.monotonic()) > 0:
            sleep(round(min(left, 1000.0) * 1e6))
        return item


class Raise(Fault):
    """Raises.

    Attributes:
        error: What; an exception or a class of exceptions.
    """

    def __init__(
        self, on: object = 3, *, error: BaseException | type[BaseException] = ValueError, **when: Any
    ) -> None:
        """Say what, and when: as for any `Fault`."""
        super().__init__(on, **when)
        self.error = error

    def strike(self, item: Any) -> NoReturn:
        """Raise it."""
        raise self.error(f"struck on {item!r}") if isinstance(self.error, type) else self.error


class PythonExit(Fault):
    """Raises `SystemExit`, as `sys.exit` does: an order to stop, which passes through a run as itself.

    Attributes:
        code: The exit code.
    """

    def __init__(self, on: object = 3, *, code: int = 3, **when: Any) -> None:
        """Say with which code, and when: as for any `Fault`."""
        super().__init__(on, **when)
        self.code = code

    def strike(self, item: Any) -> NoReturn:  # noqa: ARG002 - Nobody comes back with it.
        """Raise it."""
        sys.exit(self.code)


class RaiseKeyboardInterrupt(Fault):
    """Raises `KeyboardInterrupt`, as Ctrl-C does: an order to stop, which passes through a run as itself."""

    def strike(self, item: Any) -> NoReturn:  # noqa: ARG002 - Nobody comes back with it.
        """Raise it."""
        raise KeyboardInterrupt


class RaiseStopIteration(Fault):
    """Raises `StopIteration`, which ends loops where nobody expects it."""

    def strike(self, item: Any) -> NoReturn:
        """Raise it."""
        raise StopIteration(item)


class Recurse(Fault):
    """Calls itself without an end: a `RecursionError`."""

    def strike(self, item: Any) -> Any:
        """Go one deeper."""
        return self.strike(item)


class RaiseUnpicklable(Fault):
    """Raises an exception that holds a lock, and so does not pickle."""

    def strike(self, item: Any) -> NoReturn:
        """Raise it."""
        raise DoesNotPickleError(f"struck on {item!r}")


class RaiseUnunpicklable(Fault):
    """Raises an exception that pickles and then does not unpickle: its constructor takes other arguments."""

    def strike(self, item: Any) -> NoReturn:
        """Raise it."""
        raise DoesNotUnpickleError(f"struck on {item!r}", "here")


class RaiseUnpicklableByRefusal(Fault):
    """Raises an exception whose `__reduce__` raises."""

    def strike(self, item: Any) -> NoReturn:
        """Raise it."""
        raise PicklingRaisesError(f"struck on {item!r}")


class RaiseUnpicklableByRecursion(Fault):
    """Raises an exception whose `__reduce_ex__` calls itself without an end."""

    def strike(self, item: Any) -> NoReturn:
        """Raise it."""
        raise PicklingRecursesError(f"struck on {item!r}")


class UnpicklableResult(Fault):
    """Answers with a lock, which does not pickle."""

    def strike(self, item: Any) -> Any:  # noqa: ARG002 - The answer is another one.
        """Make a lock."""
        return threading.Lock()


class UnunpicklableResult(Fault):
    """Answers with an object that pickles and raises where it is unpickled."""

    def strike(self, item: Any) -> DoesNotUnpickle:  # noqa: ARG002 - The answer is another one.
        """Make one."""
        return DoesNotUnpickle()


class DeepResult(Fault):
    """Answers with lists in lists, deeper than pickle goes."""

    def strike(self, item: Any) -> list[Any]:  # noqa: ARG002 - The answer is another one.
        """Make them."""
        return nested()


class ForkChild(Hang):
    """Forks a child that sleeps, and answers its process id."""

    def strike(self, item: Any) -> int:  # noqa: ARG002 - The answer is another one.
        """Fork."""
        with warnings.catch_warnings():
            # Python says that a fork beside threads may hang. The child does nothing that could.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            time.sleep(self.seconds)
            os._exit(0)
        return child


class StartProcess(Hang):
    """Starts a program that sleeps, and answers its process id."""

    def strike(self, item: Any) -> int:  # noqa: ARG002 - The answer is another one.
        """Start it."""
        return os.posix_spawnp("sleep", ["sleep", str(self.seconds)], os.environ)


class StartThread(Hang):
    """Starts a thread that sleeps, which Python waits for at exit, and passes the item on."""

    def strike(self, item: Any) -> Any:
        """Start it."""
        threading.Thread(target=time.sleep, args=(self.seconds,), name="left behind").start()
        return item


def _address_space() -> int:
    """The bytes of address space that this process has."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        # Not Linux: a limit below what there is refuses everything new.
        return 0
