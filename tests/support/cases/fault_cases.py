"""The faults, the expected outcome of each one in each place, and the code that measures it.

`test_faults.py` compares the table with what happens; `docs/processes.md` contains it. As a program,
this file prints the outcome of one case that ends its program; without arguments it writes the table into
the page.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from remotemedia import Pipeline
from remotemedia.exceptions import NodeError, NodeTimeoutError, SessionClosedError, WorkerError
from remotemedia.testing import faults

PAGE = Path(__file__).parents[3] / "docs/processes.md"
MARKS = ("<!-- faults -->\n", "<!-- /faults -->\n")
PLACEMENTS = ("inline", "thread", "process")
ITEMS = (1, 2, 3, 4, 5)
NODE = "fault"
# A hanging fault that cannot be stopped does not hang for ever: an abandoned thread ends.
HANG_SECS = 0.6
TIMEOUT_SECS = 0.2

# The timeout of `close`.
CLOSE_SECS = 0.5

ENDS = "ends the program"
WAITED = "the session waits"


class Case(NamedTuple):
    """A fault, and its expected outcomes."""

    written: str  # As in a program; `…` for a path that is not there yet.
    inline: str
    thread: str
    process: str
    options: dict = {}  # noqa: RUF012 - Never changed.

    @property
    def name(self):
        return self.written

    def is_fatal(self, placement):
        """Whether it ends the program itself."""
        return getattr(self, placement).startswith(ENDS)

    def make(self, directory):
        text = self.written.replace("path", repr(str(directory / "struck")))
        return eval(text, {**vars(faults), "signal": signal})


def same(outcome):
    """Return the same outcome for all three placements."""
    return (outcome,) * 3


def raises(error, phase=None):
    """Return the outcomes of an exception, which fails its item on every placement."""
    return same(f"`NodeError` from `{error}`" + (f" in `{phase}`" if phase else ""))


def dies(how, phase=None):
    """Return the outcomes of a fault that ends its process: in a worker, its item is poison."""
    return (ENDS, ENDS, f"`WorkerError`: {how}" + (f" in `{phase}`" if phase else ""))


TIMED = {"timeout": TIMEOUT_SECS}
TIMED_OUT = "`NodeTimeoutError`"
LEFT = f"{TIMED_OUT}; the session ends"
UNSENT = "`NodeError` from `SerializationError`"
# An exception that cannot be sent is described.
DESCRIBED = "`NodeError` from `UnsentError`"

CASES = [
    Case("Kill()", *dies("SIGKILL")),
    Case("Kill(once=path)", ENDS, ENDS, "all outputs are returned"),
    Case("Kill(nth=2, once=path)", ENDS, ENDS, "all outputs are returned"),
    Case("Poison()", *dies("SIGKILL")),
    Case("Kill(signal=signal.SIGABRT)", *dies("SIGABRT")),
    Case("Segfault()", *dies("SIGSEGV")),
    Case("Exit()", *dies("exited with code 3")),
    Case("CExit()", *dies("exited with code 3")),
    Case("OutOfMemory()", *raises("MemoryError")),
    Case("Hang()", LEFT, LEFT, TIMED_OUT, TIMED),
    Case("HangHoldingLock()", LEFT, LEFT, TIMED_OUT, TIMED),
    Case("Raise()", *raises("ValueError")),
    Case("RaiseStopIteration()", *raises("StopIteration")),
    Case("Recurse()", *raises("RecursionError")),
    Case("RaiseUnpicklable()", *raises("DoesNotPickleError")[:2], DESCRIBED),
    Case("RaiseUnunpicklable()", *raises("DoesNotUnpickleError")),
    Case("RaiseUnpicklableByRefusal()", *raises("PicklingRaisesError")),
    Case("RaiseUnpicklableByRecursion()", *raises("PicklingRecursesError")),
    Case("PythonExit()", *same("`SystemExit`")),
    Case("RaiseKeyboardInterrupt()", *same("`KeyboardInterrupt`")),
    Case("UnpicklableResult()", *same("its result is returned")[:2], UNSENT),
    Case("UnunpicklableResult()", *same("its result is returned")[:2], UNSENT),
    Case("DeepResult()", *same("its result is returned")[:2], UNSENT),
    Case("ForkChild()", *same("its result is returned")),
    Case("StartProcess()", *same("its result is returned")),
    Case("StartThread()", *same("all outputs are returned")),
]


PHASE_CASES = [
    Case('Raise(phase="initialize")', *raises("ValueError", "initialize")),
    Case('Raise(phase="flush")', *raises("ValueError", "flush")),
    Case('Raise(phase="cleanup")', *raises("ValueError", "cleanup")),
    Case('Kill(phase="initialize")', *dies("SIGKILL", "initialize")),
    Case('Kill(phase="flush")', *dies("SIGKILL", "flush")),
    Case('Kill(phase="cleanup")', *dies("SIGKILL", "cleanup")),
    Case(
        'Hang(phase="initialize")',
        WAITED,
        WAITED,
        f"{TIMED_OUT} in `initialize`",
        {"initialize_timeout": 1.0},
    ),
    Case('Hang(phase="flush")', WAITED, WAITED, WAITED),
    # On a thread and in a worker it is abandoned after the timeout of `close`.
    Case('Hang(phase="cleanup")', WAITED, *same(f"{TIMED_OUT} in `cleanup`")[1:]),
]
ALL = CASES + PHASE_CASES


def table():
    """Return all cases as the page about processes shows them."""
    heading = "| fault | inline | on a thread | in a worker |\n|---|---|---|---|\n"
    rows = [[f"`{case.name}`", *(getattr(case, placement) for placement in PLACEMENTS)] for case in ALL]
    return heading + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def observe(case, placement, directory):
    """Return the outcome in words."""
    fault = case.make(directory)
    is_stopped = placement == "process" and TIMED_OUT in case.process
    if isinstance(fault, faults.Hang) and not is_stopped:
        fault.seconds = HANG_SECS
    options = {
        name: value for name, value in case.options.items() if name == "timeout" or placement == "process"
    }
    pipeline = Pipeline("p").add_node(fault, id=NODE, placement=placement, **options)
    return observe_calls(pipeline) if fault.phase == "process" else observe_phases(pipeline)


def observe_calls(pipeline):
    """Call for each item."""
    with pipeline.open() as session:
        outcomes = [outcome_of(session, item) for item in ITEMS]
    if isinstance(outcomes[2], int) and outcomes[2] not in ITEMS:
        end_child(outcomes[2])
    return in_words(outcomes)


def end_child(process_id):
    """End the processes that a node has started here; those of a worker end with it, or soon after."""
    with suppress(ProcessLookupError):
        os.kill(process_id, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(process_id, 0)


def observe_phases(pipeline):
    """Open a session, process a stream, close it."""
    try:
        with pipeline.open() as session:
            outputs = list(session.map(ITEMS))
            session.close(timeout=CLOSE_SECS)
    except BaseException as error:  # noqa: BLE001 - Whatever it is, it is what comes out.
        return f"{in_word(error)} in `{error.phase}`"
    return WAITED if outputs == list(ITEMS) else repr(outputs)


def outcome_of(session, item):
    """Return what a call returns or raises."""
    try:
        return session.call(item)
    except BaseException as error:  # noqa: BLE001 - Whatever it is, it is what comes out.
        return error


def in_words(outcomes):
    struck, others = outcomes[2], [*outcomes[:2], *outcomes[3:]]
    words = in_word(struck)
    assert getattr(struck, "phase", "process") == "process"
    if others == [1, 2, 4, 5]:
        return "all outputs are returned" if struck == 3 else words
    if others[:2] == [1, 2] and all(
        isinstance(other, (SessionClosedError, NodeError)) for other in others[2:]
    ):
        return f"{words}; the session ends"
    return f"{words}; then {others!r}"


def in_word(struck):
    if not isinstance(struck, BaseException):
        return "its result is returned"
    if isinstance(struck, NodeError):
        assert struck.node_id == NODE
    if isinstance(struck, WorkerError):
        how = re.search(r"SIG[A-Z]+|exited with code \d+", str(struck))
        return f"`WorkerError`: {how[0] if how else struck}"
    kind = type(struck).__name__
    cause = struck.__cause__
    if isinstance(struck, NodeTimeoutError) or cause is None:
        return f"`{kind}`"
    return f"`{kind}` from `{type(cause).__name__}`"


def write_table():
    text = PAGE.read_text(encoding="utf-8")
    begin, end = (text.index(mark) for mark in MARKS)
    PAGE.write_text(text[: begin + len(MARKS[0])] + table() + text[end:], encoding="utf-8")


if __name__ == "__main__" and len(sys.argv) == 1:
    write_table()
elif __name__ == "__main__":
    name, placement, directory = sys.argv[1:]
    [case] = [case for case in ALL if case.name == name]
    sys.stdout.write(observe(case, placement, Path(directory)))
