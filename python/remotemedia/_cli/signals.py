"""Signals and standard streams of a command while it runs."""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import sys
import threading

from remotemedia._cli.errors import Terminated

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, NoReturn


def enter() -> contextlib.ExitStack:
    """Set up signals and streams for a command; closing the returned stack restores them.

    SIGTERM raises `Terminated`, so that nodes are cleaned up, unless the program handles it already. The
    output of user code goes to stderr, because stdout is reserved for outputs.
    """
    stack = contextlib.ExitStack()
    _open_closed_streams()
    stderr = _patient(sys.stderr)
    stack.callback(stderr.flush)
    stack.enter_context(contextlib.redirect_stderr(stderr))
    stack.enter_context(contextlib.redirect_stdout(stderr))
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminate)
        stack.callback(signal.signal, signal.SIGTERM, signal.SIG_DFL)
    return stack


def _terminate(signal_number: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 - Python calls it so.
    raise Terminated(128 + signal.SIGTERM)


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
        while (written := super().write(data)) is None:
            select.select([], [self], [])
        return written
