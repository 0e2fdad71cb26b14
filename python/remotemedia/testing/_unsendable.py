"""Objects and exceptions that do not make it from one process to another."""

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
    """A list in a list in a list …: deeper than pickle goes."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


class DoesNotUnpickle:
    """Pickles, and raises where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a call that fails."""
        return _refuse, ("this object does not unpickle",)


class DoesNotPickleError(Exception):
    """Holds a lock, which does not pickle."""

    def __init__(self, message: str) -> None:
        """Take a lock along."""
        super().__init__(message)
        self.lock = threading.Lock()


class DoesNotUnpickleError(Exception):
    """Takes two arguments and hands one on: pickles, but is not made again from what was pickled."""

    def __init__(self, message: str, place: str) -> None:
        """Keep the place for oneself."""
        super().__init__(message)
        self.place = place


class PicklingRaisesError(Exception):
    """Raises while it is pickled."""

    def __reduce__(self) -> NoReturn:
        """Refuse."""
        raise ValueError("this exception does not want to be pickled")


class PicklingRecursesError(Exception):
    """Calls itself without an end while it is pickled."""

    def __reduce_ex__(self, protocol: SupportsIndex, /) -> str | tuple[Any, ...]:
        """Ask oneself again."""
        return self.__reduce_ex__(protocol)


def _refuse(message: str) -> NoReturn:
    raise ValueError(message)
