"""How a command reports an error: the user's part of the traceback, then a sentence with file and line.

Frames of this package, of the import machinery, of the event loop and of libraries are not the user's code.
They are left out unless the full traceback is requested.
"""

from __future__ import annotations

import functools
import os
import sysconfig
import traceback
from typing import TYPE_CHECKING, NamedTuple

from remotemedia._cli.errors import LoadError, OutputError, TargetError, Terminated
from remotemedia._exception_chain import cause_of, context_of, traceback_of
from remotemedia.exceptions import NodeError, RemoteMediaError

if TYPE_CHECKING:
    from types import FrameType

_OURS = __name__.partition(".")[0]


class Explanation(NamedTuple):
    """An error as it is reported to the user."""

    kind: str
    """`usage`, `failed`, `interrupted`, `terminated` or `exit`."""
    message: str
    users_traceback: str
    full_traceback: str
    exit_code: int


def explain(error: BaseException) -> Explanation:
    """Return the report of an error for the command line."""
    if isinstance(error, TargetError):
        return Explanation("usage", str(error), "", "", 2)
    if isinstance(error, OutputError):
        return Explanation("failed", str(error), "", "", 1)
    if isinstance(error, KeyboardInterrupt):
        return Explanation("interrupted", f"interrupted{_place(error)}", "", "", 130)
    if isinstance(error, Terminated):
        return Explanation("terminated", f"terminated by SIGTERM{_place(error)}", "", "", 143)
    if isinstance(error, SystemExit):
        return _explain_exit(error)

    # A failed cleanup hides the failure before it, which the user must also see.
    earlier = context_of(error)
    failures = [error]
    if isinstance(error, NodeError) and isinstance(earlier, NodeError):
        failures.insert(0, earlier)
    blocks = [_users_traceback(_origin(failure)) for failure in failures]
    if len(blocks) > 1 and blocks[0] in blocks[1]:
        del blocks[0]
    message = "\n".join(_sentence(failure) for failure in failures)
    users = "\n".join(block for block in blocks if block)
    return Explanation("failed", message, users, _full_traceback(error), 1)


def text_of(error: BaseException) -> str:
    """Return type and message of an error, as at the end of a traceback, even if its `__str__` fails."""
    # A SyntaxError is preceded by its line, and any error may be followed by notes.
    try:
        lines = traceback.format_exception_only(error)
    except Exception:  # noqa: BLE001 - The module evaluates the truth of an exception, which may raise.
        return type(error).__qualname__
    return lines[-1 if isinstance(error, SyntaxError) else 0].strip()


def _explain_exit(error: SystemExit) -> Explanation:
    """Treat a `SystemExit` as `python` does: a number is the exit code, a text is printed."""
    full = _full_traceback(error)
    if error.code is None or isinstance(error.code, int):
        code = error.code or 0
        message = f"your code exited with code {code}{_place(error)}"
        return Explanation("exit", message, "", full, code & 0xFF)
    return Explanation("exit", str(error.code), "", full, 1)


def _sentence(error: BaseException) -> str:
    text = str(error) if isinstance(error, (RemoteMediaError, LoadError)) else text_of(error)
    return f"{text}{_place(_origin(error))}"


def _origin(error: BaseException) -> BaseException:
    """Return the user's exception that one of our exceptions contains."""
    while isinstance(error, (NodeError, LoadError)) and (cause := cause_of(error)) is not None:
        error = cause
    return error


def _place(error: BaseException) -> str:
    """Return the last line of the user's code before an error, as the end of a sentence."""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        return f" ({_shown(error.filename)}, line {error.lineno})"
    lines = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(traceback_of(error))
        if not _is_machinery(frame) and not _is_asyncio(frame)
    ]
    own = [(file, line) for file, line in lines if not _is_library(file)]
    for file, line in reversed(own or lines):
        return f" ({_shown(file)}, line {line})"
    return ""


def _users_traceback(error: BaseException) -> str:
    try:
        report = traceback.TracebackException.from_exception(error)
        # An error without frames of the user is reported by its sentence alone.
        return "".join(report.format()) if _strip(report, error) else ""
    except Exception:  # noqa: BLE001 - As in `text_of`.
        return "".join(traceback.format_tb(traceback_of(error)))


def _full_traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - As in `text_of`.
        return "".join([*traceback.format_tb(traceback_of(error)), f"{text_of(error)}\n"])


def _strip(report: traceback.TracebackException, error: BaseException) -> bool:
    """Keep only the user's frames in an error and its chain; return whether there are any."""
    frames = [frame for frame, _ in traceback.walk_tb(traceback_of(error))]
    kept: list[traceback.FrameSummary] = []
    if len(frames) == len(report.stack):
        for frame, summary in zip(frames, report.stack, strict=True):
            if not _is_machinery(frame) and not _is_library(summary.filename):
                kept.append(summary)
        report.stack = traceback.StackSummary.from_list(kept)
    has_more = bool(kept or report.__notes__) or isinstance(error, SyntaxError)
    for chained, cause in ((report.__cause__, cause_of(error)), (report.__context__, context_of(error))):
        if chained is not None and cause is not None:
            has_more |= _strip(chained, cause)
    if isinstance(error, BaseExceptionGroup):
        has_more = True
        for chained, member in zip(report.exceptions or (), error.exceptions, strict=False):
            _strip(chained, member)
    return has_more


def _is_machinery(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__", ""))
    file = frame.f_code.co_filename
    return (
        module.partition(".")[0] in (_OURS, "importlib", "runpy")
        or file.startswith(("<frozen importlib", "<frozen runpy", f"<{_OURS}"))
        or "importlib" in file.split(os.sep)[-2:-1]
    )


def _is_asyncio(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] == "asyncio"


def _is_library(file: str) -> bool:
    """Whether a file belongs to the standard library or to an installed package."""
    return file.startswith(("<", *_places_of_libraries())) or f"{os.sep}site-packages{os.sep}" in file


@functools.cache
def _places_of_libraries() -> frozenset[str]:
    paths = sysconfig.get_paths()
    return frozenset(paths[name] + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def _shown(file: str) -> str:
    """Return a path as the user would type it: relative if the file is below the current directory."""
    try:
        relative = os.path.relpath(file)
    except (OSError, ValueError):  # The current directory is gone, or on another drive.
        return file
    return file if relative.startswith(os.pardir) or file.startswith("<") else relative
