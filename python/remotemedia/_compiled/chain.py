"""The kernels that the engine uses in bulk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remotemedia._compiled.kernels import LazyResultError
from remotemedia._compiled.kernels import build as build_kernel
from remotemedia._exception_chain import set_traceback, traceback_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LazyResultError", "build", "locate"]


def build(nodes: list[Any]) -> tuple[Callable[..., None], list[int]] | None:
    """Compile a chain of plain nodes, or return `None` if it contains another kind or is too long."""
    kernel = build_kernel(nodes)
    if kernel is None or kernel.stop is not None:
        return None
    return kernel.function, [max(node, 0) for node in kernel.source.node_of_line]


def locate(error: BaseException, node_of_line: list[int]) -> int:
    """Return the index of the node that raised in a kernel, and remove the kernel from the traceback."""
    traceback = traceback_of(error)
    if traceback is None:
        return 0
    set_traceback(error, traceback.tb_next)
    return node_of_line[min(traceback.tb_lineno, len(node_of_line) - 1)]
