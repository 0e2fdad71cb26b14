"""Signals and standard streams of a command while it runs.

Every command waits for the imports of this module. So it has none of `contextlib` and `threading`, and none
of `signal`, which adds only enums to the module of the interpreter: each takes milliseconds.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import io
import os
import sys

from remotemedia._cli.errors import Terminated

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, NoReturn


class terminating:  # noqa: N801 - A context manager; `contextlib` takes milliseconds.
    """Lets SIGTERM raise `Terminated` in a block, unless the program handles it already."""

    def __enter__(self) -> None:
        """Set the handler."""
        self._has_handler = _signal.getsignal(_signal.SIGTERM) == _signal.SIG_DFL
        if self._has_handler:
            try:
                _signal.signal(_signal.SIGTERM, _terminate)
            except ValueError:  # Only the main thread may.
                self._has_handler = False

    def __exit__(self, *_error: object) -> None:
        """Restore what was there before."""
        if self._has_handler:
            _signal.signal(_signal.SIGTERM, _signal.SIG_DFL)


class Entered:
    """The signals and streams of a command, until it is closed."""

    def __init__(self) -> None:
        """Set them up."""
        self._streams = (sys.stdout, sys.stderr)
        self._stderr = _patient(sys.stderr)
        sys.stdout = sys.stderr = self._stderr
        self._signals = terminating()
        self._signals.__enter__()

    def close(self) -> None:
        """Restore what was there before."""
        self._signals.__exit__()
        sys.stdout, sys.stderr = self._streams
        self._stderr.flush()


def enter() -> Entered:
    """Set up signals and streams for a command; closing the returned object restores them.

    SIGTERM raises `Terminated`, so that nodes are cleaned up, unless the program handles it already. The
    output of user code goes to stderr, because stdout is reserved for outputs.
    """
    _open_closed_streams()
    return Entered()


def _terminate(signal_number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - Python calls it so.
    raise Terminated(128 + _signal.SIGTERM)


def _open_closed_streams() -> None:
    """Open the null device for each closed standard stream, as the standalone program does at its start.

    Otherwise the next file that is opened, such as an output, would become that stream.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free descriptor is the closed one.
            os.open(os.devnull, os.O_RDWR)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            # A separate file, because another file may use the descriptor by now.
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - It stays open.


def _patient(stream: Any) -> Any:
    """Return a stream whose writes wait until the reader is ready, even if its descriptor does not block."""
    try:
        descriptor = stream.fileno()
        if os.get_blocking(descriptor):
            return stream
    except (AttributeError, OSError, ValueError):  # It is not a file, or it is closed.
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(_PatientFile(descriptor, "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=True,
    )


class _PatientFile(io.FileIO):
    """A file whose `write` waits until it can write."""

    def write(self, data: Any) -> int:
        """Write some of `data`, and return how much."""
        import select

        while (written := super().write(data)) is None:
            select.select([], [self], [])
        return written
