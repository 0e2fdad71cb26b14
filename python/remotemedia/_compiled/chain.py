"""One Python function for a chain of plain nodes, so that CPython inlines their calls.

CPython runs Python functions that Python code calls in the same evaluation loop; a call from native code
never does. For a long input, the chain is therefore compiled as the loop that a programmer would write.

The source contains only the shape of the chain: no name, value or text of the user.
"""

from __future__ import annotations

import builtins
import functools
import types
from typing import TYPE_CHECKING, Any, NamedTuple

from remotemedia._compiled.bytecode import may_return_lazily, returns_its_item
from remotemedia._core import is_lazy
from remotemedia._exception_chain import set_traceback, traceback_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Kernel = Callable[[Iterator[Any], list[Any]], None]

__all__ = ["LONGEST_CHAIN", "LazyResultError", "build", "locate"]

LONGEST_CHAIN = 64
"""Longer chains run node by node: a compiled loop would gain little and take long to compile."""

_ARITHMETIC = {"add": "+", "subtract": "-", "multiply": "*"}
_NUMBER_TYPES = (int, float)
_CO_LAZY = 0x20 | 0x80 | 0x100 | 0x200  # generator, coroutine, iterable coroutine, async generator
_SKIP_NONE = "if x is None: continue"


class LazyResultError(Exception):
    """A node returned a generator or coroutine, its argument: the engine continues from there."""


# Shared by all kernels: the interpreter specializes global lookups for one scope.
_SCOPE = {"__builtins__": builtins, "LazyResultError": LazyResultError, "is_lazy": is_lazy}


def build(nodes: list[Any]) -> tuple[Kernel, list[int]] | None:
    """Compile the chain, or return `None` if it contains a node of another kind.

    Returns:
        `kernel(items, outputs)`, which takes an iterator of items and appends to the list of outputs, and for
        each line of its code the index of the node that the line calls. The caller removes `None` from the
        outputs, faster than the loop could.
    """
    if not 0 < len(nodes) <= LONGEST_CHAIN:
        return None
    names: dict[str, Any] = {}
    steps: list[_Step] = []
    for index, node in enumerate(nodes):
        step = _step(index, node, names)
        if step is None:
            return None
        steps.append(step)
    source, node_of_line = _source(steps, names)
    kernel = types.FunctionType(_compiled(source), _SCOPE, "kernel", tuple(names.values()) or None)
    return kernel, node_of_line


class _Step(NamedTuple):
    """The lines that pass `x` through one node."""

    lines: list[str]
    test: list[str]
    """Checks that a built-in node has not changed since the lines were generated."""
    is_ours: bool
    """Whether the lines run no code of the user, except operators of unusual items."""


def _source(steps: list[_Step], names: Iterable[str]) -> tuple[str, list[int]]:
    """Return the source of the function, and for each of its lines the node that it belongs to."""
    # Nodes cannot change inside the loop if it runs no code of the user.
    is_tested_once = all(step.is_ours for step in steps)
    # As parameters with defaults, the nodes are fast locals of the loop, not globals.
    lines = [f"def kernel({', '.join(['items', 'outputs', *names])}):"]
    if is_tested_once:
        lines += [f"    {line}" for step in steps for line in step.test]
    lines.append("    for x in items:")
    # Lines count from 1.
    node_of_line = [0] * (len(lines) + 1)
    for index, step in enumerate(steps):
        own = step.lines if index < len(steps) - 1 else _last_lines(step.lines)
        if not is_tested_once:
            own = [*step.test, *own]
        lines += [f"        {line}" for line in own]
        node_of_line += [index] * len(own)
    return "\n".join(lines), node_of_line


@functools.lru_cache(maxsize=64)
def _compiled(source: str) -> types.CodeType:
    """Return the code of a kernel. Chains of one shape share it, together with its specialization."""
    scope: dict[str, types.FunctionType] = {}
    exec(compile(source, "<remotemedia chain>", "exec"), scope)  # noqa: S102 - The source contains nothing of the user.
    return scope["kernel"].__code__


def _step(index: int, node: Any, names: dict[str, Any]) -> _Step | None:
    """Return the step for a node, or `None` if the node is not a plain one."""
    method = node.process
    function = getattr(method, "__func__", None)
    if not isinstance(function, types.FunctionType) or getattr(method, "__self__", None) is not node:
        return None
    if function.__code__.co_flags & _CO_LAZY:
        return None
    names[f"f{index}"] = function
    names[f"n{index}"] = node
    return _builtin_step(index, node, function, names) or _Step(
        _call(index, function, names), test=[], is_ours=False
    )


def _call(index: int, function: types.FunctionType, names: dict[str, Any]) -> list[str]:
    """Return the lines that call a node."""
    call = f"x = f{index}(n{index}, x)"
    if returns_its_item(function.__code__):
        # After the first node, an item is not `None`, and its type has been checked.
        return [call] if index else [call, _SKIP_NONE]
    if not may_return_lazily(function.__code__):
        return [call, _SKIP_NONE]
    # The type of the last result is remembered, and checked again only if it changes.
    names[f"t{index}"] = None
    return [
        call,
        f"if type(x) is not t{index}:",
        "    if x is None: continue",
        "    if is_lazy(x): raise LazyResultError(x)",
        f"    t{index} = type(x)",
    ]


def _last_lines(lines: list[str]) -> list[str]:
    """Return the lines of the last node, whose result is an output."""
    if lines[-1] == _SKIP_NONE and len(lines) > 1:
        lines = lines[:-1]
    if lines[-1].startswith("x = "):
        return [*lines[:-1], f"outputs.append({lines[-1].removeprefix('x = ')})"]
    return [*lines, "outputs.append(x)"]


def _builtin_step(index: int, node: Any, function: types.FunctionType, names: dict[str, Any]) -> _Step | None:
    """Return the inlined step of a built-in node, or `None` for other nodes.

    The arithmetic is inlined while the attributes of the node are unchanged and plain numbers; otherwise the
    method is called. So both always have the same result.
    """
    from remotemedia.nodes import _builtin

    if function is _builtin.PASS_ON:
        # The result of an earlier node is not `None`.
        return _Step(["pass" if index else _SKIP_NONE], test=[], is_ours=True)
    if function is _builtin.CALCULATE and type(node) is _builtin.CalculatorNode:
        number, other = getattr(node, "operand", None), getattr(node, "operation", None)
        operator = _ARITHMETIC.get(other) if isinstance(other, str) else None
        test = f"n{index}.operand is a{index} and n{index}.operation is b{index}"
        condition = f"q{index} and (type(x) is int or type(x) is float)"
        line = f"x = x {operator} a{index}"
    elif function is _builtin.FILTER and type(node) is _builtin.FilterNode:
        number, other = getattr(node, "threshold", None), getattr(node, "predicate", None)
        operator = ">=" if other is None else None
        test = f"n{index}.threshold is a{index} and n{index}.predicate is b{index}"
        condition = f"q{index}"
        line = f"if not x {operator} a{index}: continue"
    else:
        return None
    if operator is None or type(number) not in _NUMBER_TYPES:
        return None
    names[f"a{index}"] = number
    names[f"b{index}"] = other
    call = [f"    {line}" for line in _call(index, function, names)]
    lines = [f"if {condition}:", f"    {line}", "else:", *call]
    return _Step(lines, test=[f"q{index} = {test}"], is_ours=True)


def locate(error: BaseException, node_of_line: list[int]) -> int:
    """Return the index of the node that raised in a kernel; the kernel leaves the traceback."""
    traceback = traceback_of(error)
    if traceback is None:
        return 0
    set_traceback(error, traceback.tb_next)
    return node_of_line[min(traceback.tb_lineno, len(node_of_line) - 1)]
