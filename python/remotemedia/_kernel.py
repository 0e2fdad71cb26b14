"""One Python function for a chain of plain nodes, so that CPython inlines their calls.

CPython runs a Python function that Python code calls in the same evaluation loop, which a call from outside
never gets. For a long input the chain is therefore written as the loop that a programmer would write by hand,
and compiled.

Only the shape of the chain goes into the source: no name, value or text of the user's.
"""

from __future__ import annotations

import functools
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Kernel = Callable[[Iterator[Any], list[Any]], None]

__all__ = ["LONGEST_CHAIN", "LazyAnswerError", "build", "locate"]

LONGEST_CHAIN = 64
"""Longer chains are taken node by node: the compiled loop would gain little and take long to compile."""

_ARITHMETIC = {"add": "+", "subtract": "-", "multiply": "*"}
_CO_LAZY = 0x20 | 0x80 | 0x100 | 0x200  # generator, coroutine, iterable coroutine, async generator
_SKIP_NONE = "if x is None: continue"
_LAZY_TYPES = frozenset({types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType})


class LazyAnswerError(Exception):
    """A node answered with a generator or coroutine, its argument: the engine goes on from there."""


def build(nodes: list[Any]) -> tuple[Kernel, list[int]] | None:
    """Compile the chain, or answer `None` if a node in it is not a plain one.

    Returns:
        `kernel(items, outputs)`, which takes an iterator of items and appends to the list of outputs, and for
        each line of its code the index of the node that the line calls. A `None` among the outputs is none:
        the caller takes it out, faster than the loop could.
    """
    if not 0 < len(nodes) <= LONGEST_CHAIN:
        return None
    lines = ["    for x in items:"]
    node_of_line = [0, 0, 0]
    names: dict[str, Any] = {}
    for index, node in enumerate(nodes):
        step = _step(index, node, names)
        if step is None:
            return None
        if index == len(nodes) - 1:
            step = _last_step(step)
        lines += [f"        {line}" for line in step]
        node_of_line += [index] * len(step)
    # As parameters with defaults the nodes are fast locals of the loop, not globals.
    head = f"def kernel({', '.join(['items', 'outputs', *names])}):"
    scope: dict[str, Any] = {"LazyAnswerError": LazyAnswerError, "LAZY_TYPES": _LAZY_TYPES}
    exec(_compiled("\n".join([head, *lines])), scope)  # noqa: S102 - the source above is ours alone
    kernel = scope["kernel"]
    kernel.__defaults__ = tuple(names.values()) or None
    return kernel, node_of_line


@functools.lru_cache(maxsize=64)
def _compiled(source: str) -> types.CodeType:
    """Chains of one shape share their code, and what the interpreter has learned about it."""
    return compile(source, "<remotemedia chain>", "exec")


def _step(index: int, node: Any, names: dict[str, Any]) -> list[str] | None:
    """The lines that take `x` through one node, or `None` if the node is not a plain one."""
    method = node.process
    function = getattr(method, "__func__", None)
    if not isinstance(function, types.FunctionType) or getattr(method, "__self__", None) is not node:
        return None
    if function.__code__.co_flags & _CO_LAZY:
        return None
    names[f"f{index}"] = function
    names[f"n{index}"] = node
    line = _builtin_line(index, node, function)
    if line is not None:
        return [line]
    call = f"x = f{index}(n{index}, x)"
    if not _may_answer_lazily(function.__code__):
        return [call, _SKIP_NONE]
    # The type of the last answer is remembered, and looked at again only when another one comes.
    names[f"t{index}"] = None
    return [
        call,
        f"if type(x) is not t{index}:",
        "    if x is None: continue",
        "    if type(x) in LAZY_TYPES: raise LazyAnswerError(x)",
        f"    t{index} = type(x)",
    ]


def _last_step(step: list[str]) -> list[str]:
    """The lines of the last node, whose answer is an output."""
    if step[-1] == _SKIP_NONE and len(step) > 1:
        step = step[:-1]
    if step[-1].startswith("x = "):
        return [*step[:-1], f"outputs.append({step[-1].removeprefix('x = ')})"]
    return [*step, "outputs.append(x)"]


def _builtin_line(index: int, node: Any, function: types.FunctionType) -> str | None:
    """What a node of our own comes down to, if it is one."""
    from remotemedia.nodes import CalculatorNode, FilterNode, PassThroughNode

    if function is PassThroughNode.process:
        # What comes from a node before is something already.
        return "pass" if index else _SKIP_NONE
    if function is CalculatorNode.process and (operator := _ARITHMETIC.get(node.operation)):
        # The sum itself, where the general method would find nothing else to do.
        line = f"x = x {operator} n{index}.operand if type(x) is int or type(x) is float"
        return f"{line} else f{index}(n{index}, x)"
    if function is FilterNode.process and node.predicate is None:
        return f"if not x >= n{index}.threshold: continue"
    return None


def _may_answer_lazily(code: types.CodeType) -> bool:
    """Whether a plain function could return a generator or coroutine, which it has to get from a call."""
    has_call = any(operation in _call_operations() for operation in code.co_code[::2])
    return has_call or any(isinstance(constant, types.CodeType) for constant in code.co_consts)


@functools.cache
def _call_operations() -> frozenset[int]:
    import opcode

    return frozenset(number for name, number in opcode.opmap.items() if "CALL" in name)


def locate(error: BaseException, node_of_line: list[int]) -> int:
    """The index of the node that raised inside a kernel, whose own frame is taken off the traceback."""
    traceback = error.__traceback__
    if traceback is None:
        return 0
    error.__traceback__ = traceback.tb_next
    return node_of_line[min(traceback.tb_lineno, len(node_of_line) - 1)]
