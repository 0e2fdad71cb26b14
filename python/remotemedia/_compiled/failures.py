"""What was in progress in a kernel that raised an error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from remotemedia._compiled.body import BRANCHES, GATE, NO_NODE, STREAM
from remotemedia._compiled.kernels import Kernel, LazyResultError, resolve
from remotemedia._compiled.source import KERNEL_FILE
from remotemedia._exception_chain import cause_of, set_traceback, traceback_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from remotemedia._compiled.source import Source

__all__ = ["ITEM", "NO_NODE", "Found", "InProgress", "close_all", "find", "node_at", "original_error"]

ITEM = "item"
"""The kind of work in progress that is an item for another branch; the engine knows it, too."""


class InProgress(NamedTuple):
    """What is left to do of an item, besides the output of the current node."""

    work: list[tuple[str, int, int, Any]]
    """What comes next, the next one last: a kind, two nodes and an object.

    `stream`: a node, and again, and its open generator. `item`: the node that an item comes from, the one
    that receives it, and the item. `gate`: the node behind an open gate, and again, and an item.
    """
    arrived: list[tuple[int, int, list[Any]]]
    """What closed gates have collected: the node behind the gate, the node that the outputs are from, and
    these. The gate of the outputs of several last nodes is `NO_NODE`."""
    entered: list[int]
    """The nodes that received an item, as far as a join has to know."""
    open_gates: int
    """How many gates have passed their items on."""

    def shifted(self, count: int) -> InProgress:
        """Return the same for a graph in which `count` more nodes are before those of the kernel."""
        work = [(kind, node + count, target + count, thing) for kind, node, target, thing in self.work]
        arrived = [
            (gate if gate == NO_NODE else gate + count, node + count, items)
            for gate, node, items in self.arrived
        ]
        return InProgress(work, arrived, [node + count for node in self.entered], self.open_gates)


class Found(NamedTuple):
    """What was going on in a kernel when it raised an error."""

    node: int
    """The index of the node that raised; `NO_NODE` if the input or `turns` did."""
    position: int | None
    """How many items of the stream were done before; `None` for other kernels."""
    in_progress: InProgress

    @property
    def opened(self) -> list[tuple[int, Any]]:
        """The open generators around the node, and the indices of their nodes, the innermost first."""
        return [(node, thing) for kind, node, _, thing in reversed(self.in_progress.work) if kind == STREAM]

    def shifted(self, count: int) -> Found:
        """Return the same for a graph in which `count` more nodes are before those of the kernel."""
        node = self.node if self.node == NO_NODE else self.node + count
        return Found(node, self.position, self.in_progress.shifted(count))


def find(error: BaseException, kernel: Kernel) -> Found:
    """Return what was going on when a kernel raised, and let the traceback begin in the node."""
    code = kernel.function.__code__
    traceback = traceback_of(error)
    while traceback is not None and traceback.tb_frame.f_code is not code:
        traceback = traceback.tb_next
    if traceback is None:
        return Found(NO_NODE, None, InProgress([], [], [], 0))
    inner = traceback.tb_next
    if inner is not None and inner.tb_frame.f_code is resolve.__code__:
        inner = inner.tb_next
    set_traceback(error, inner)
    variables = traceback.tb_frame.f_locals
    node = kernel.source.node_of_line[traceback.tb_lineno]
    in_progress = _in_progress(kernel.source, node, variables)
    own = variables.get(f"g{node}")
    if own is not None and not (type(error) is LazyResultError and error.args[0] is own):
        # It raised, and has ended; or an interrupt was raised between two of its outputs.
        in_progress.work.append((STREAM, node, node, own))
    return Found(node, variables.get("position"), in_progress)


def node_at(frame: FrameType | None, first_id: str) -> str | None:
    """Return the id of the node that a kernel in a stack calls, if its first node has this id."""
    while frame is not None:
        variables = frame.f_locals if frame.f_code.co_filename == KERNEL_FILE else {}
        if variables.get("k0") == first_id and "lines" in variables:
            node = max(variables["lines"][frame.f_lineno], 0)
            found: str = variables[f"k{node}"]
            return found
        frame = frame.f_back
    return None


def original_error(error: BaseException) -> BaseException:
    """Return what a node raised: a coroutine replaces `StopIteration` with a `RuntimeError`."""
    cause = cause_of(error)
    is_replaced = type(error) is RuntimeError and isinstance(cause, StopIteration)
    # It begins where the kernel is awaited. An error of the node itself has its frames.
    traceback = traceback_of(error) if is_replaced else None
    return cause if cause is not None and traceback is not None and traceback.tb_next is None else error


async def close_all(opened: list[tuple[int, Any]]) -> list[tuple[int, BaseException]]:
    """Close generators that a kernel left open; return what they raised, with the indices of their nodes."""
    failures: list[tuple[int, BaseException]] = []
    for node, generator in opened:
        try:
            if hasattr(generator, "aclose"):
                await generator.aclose()
            else:
                generator.close()
        except BaseException as error:  # noqa: BLE001 - Reported with the other failures.
            failures.append((node, error))
    return failures


def _in_progress(source: Source, node: int, variables: Mapping[str, Any]) -> InProgress:
    layout = source.layout
    work: list[tuple[str, int, int, Any]] = []
    for kind, place, rest in source.around.get(node, ()):
        if kind == STREAM:
            work.append((STREAM, place, place, variables[f"g{place}"]))
        elif kind == BRANCHES:
            item = variables["v" if place < 0 else f"v{place}"]
            work += [(ITEM, place, target, item) for target in reversed(rest)]
        else:
            work += [(GATE, place, place, item) for item in reversed([*variables[f"i{place}"]])]
    # The gate before the outermost node around it is the last one that has opened.
    first = layout.first_of(node) if node != NO_NODE else NO_NODE
    open_gates = layout.gates.index(first) + 1 if first in layout.gates else 0
    arrived: list[tuple[int, int, list[Any]]] = []
    for gate in layout.gates[open_gates:]:
        for before in layout.after[gate]:
            value = variables.get(f"b{gate}_{before}")
            if layout.is_variable(gate, before):
                value = [] if value is None else [value]
            arrived.append((gate, before, value or []))
    if layout.has_several_ends:
        for end in layout.ends:
            value = variables.get(f"o{end}")
            if layout.is_single[end]:
                value = [] if value is None else [value]
            arrived.append((NO_NODE, end, value or []))
    entered = [one for flag in layout.flagged if variables.get(f"e{flag}") for one in layout.siblings(flag)]
    return InProgress(work, arrived, [*entered, *layout.always_entered], open_gates)
