"""Objects and exceptions that cannot be sent to another process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, NoReturn, SupportsIndex

__all__ = [
    "DoesNotPickleError",
    "DoesNotUnpickle",
    "DoesNotUnpickleError",
    "PicklingRaisesError",
    "PicklingRecursesError",
    "nested",
]


def nested(depth: int = 100_000) -> list[Any]:
    """Return nested lists that are too deep for pickle."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


class DoesNotUnpickle:
    """Can be pickled, but raises when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a call that fails."""
        return _refuse, ("this object does not unpickle",)


class DoesNotPickleError(Exception):
    """Contains a lock, which cannot be pickled."""

    def __init__(self, message: str) -> None:
        """Create the lock."""
        super().__init__(message)
        self.lock = threading.Lock()


class DoesNotUnpickleError(Exception):
    """Can be pickled but not unpickled: its constructor takes two arguments, and `args` has one."""

    def __init__(self, message: str, place: str) -> None:
        """Pass only the message on."""
        super().__init__(message)
        self.place = place


class PicklingRaisesError(Exception):
    """Raises while it is pickled."""

    def __reduce__(self) -> NoReturn:
        """Raise an error."""
        raise ValueError("this exception does not want to be pickled")


class PicklingRecursesError(Exception):
    """Recurses endlessly while it is pickled."""

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> str | tuple[Any, ...]:
        """Recurse."""
        return self.__reduce_ex__(protocol)


def _refuse(message: str) -> NoReturn:
    raise ValueError(message)
