"""What the bytecode of a method says about its results, so that compiled chains need not check each of them.

If that is not certain, the results are checked. The meaning of operations may change between versions of
Python, so only the code of the listed versions is read.
"""

from __future__ import annotations

import functools
from importlib.util import MAGIC_NUMBER
from itertools import pairwise
from opcode import opmap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType

__all__ = [
    "TESTED_VERSIONS",
    "may_return_item",
    "may_return_lazily",
    "only_iterates",
    "returns_its_item",
    "returns_none",
]

TESTED_VERSIONS = frozenset({b"\xa7\r\r\n", b"\xcb\r\r\n", b"\xf3\r\r\n"})
"""The magic numbers of CPython 3.11, 3.12 and 3.13."""

_ITEM = 1
"""The position of the item among the arguments of a method."""

# Prefixes of operations that load an object.
_FINDERS = ("LOAD_ATTR", "LOAD_SUPER", "LOAD_GLOBAL", "LOAD_DEREF", "FOR_ITER", "UNPACK", "BINARY_SUBSCR")
# Prefixes of operations that load an object from a variable.
_HOLDERS = ("LOAD_FAST", "STORE_FAST_LOAD_FAST", "LOAD_CLOSURE", "LOAD_DEREF")
# Operations that do not change an object.
_KEEPERS = ("RETURN", "STORE_FAST", "STORE_DEREF", "JUMP", "COPY", "SWAP")
# Operations that branch, or that assign another object to a variable.
_BENDS = ("JUMP", "POP_JUMP", "FOR_ITER", "SEND", "STORE_FAST", "DELETE_FAST", "EXTENDED_ARG")


def may_return_lazily(code: CodeType) -> bool:
    """Whether a plain function could return a generator or coroutine that was not its argument.

    Such a function has to receive it from a call, or load it from elsewhere and return it unchanged.
    """
    if MAGIC_NUMBER not in TESTED_VERSIONS:
        return True
    operations = [operation for operation, _ in _operations(code)]
    return not _calls().isdisjoint(operations) or _may_keep(code, operations, _numbers(*_FINDERS))


def may_return_item(code: CodeType) -> bool:
    """Whether a plain function could return its argument, or what another variable holds, unchanged."""
    if MAGIC_NUMBER not in TESTED_VERSIONS:
        return True
    operations = [operation for operation, _ in _operations(code)]
    return _may_keep(code, operations, _numbers(*_HOLDERS))


def returns_none(code: CodeType) -> bool:
    """Whether a function probably returns `None` for some of its items: it has such a constant."""
    if MAGIC_NUMBER not in TESTED_VERSIONS:
        return True
    loads, returns = _numbers("LOAD_CONST"), _numbers("RETURN_VALUE")
    constants = code.co_consts
    operations = _operations(code)
    return any(
        first in loads and then in returns and constants[argument] is None
        for (first, argument), (then, _) in pairwise(operations)
    ) or any(
        operation in _numbers("RETURN_CONST") and constants[argument] is None
        for operation, argument in operations
    )


def returns_its_item(code: CodeType) -> bool:
    """Whether a method certainly returns its item: it has no branch and one return."""
    if MAGIC_NUMBER not in TESTED_VERSIONS:
        return False
    operations = _operations(code)
    if code.co_argcount <= _ITEM or not _numbers(*_BENDS).isdisjoint(number for number, _ in operations):
        return False
    *before, (number, argument), last = operations
    if last[0] not in _numbers("RETURN_VALUE") or any(number in _numbers("RETURN") for number, _ in before):
        return False
    return number == opmap["LOAD_FAST"] and argument == _ITEM


@functools.lru_cache(maxsize=256)
def only_iterates(code: CodeType, *, allows_with: bool) -> bool:
    """Whether the argument of an async generator is only used in `async for`, without any `async with`.

    So no other task reads it, and no `asyncio.timeout` or `asyncio.TaskGroup` cancels a read.

    Args:
        code: The code of the async generator.
        allows_with: Whether it may contain `with`.
    """
    if MAGIC_NUMBER not in TESTED_VERSIONS or code.co_argcount <= _ITEM or code.co_cellvars:
        return False
    names = {number: name for name, number in opmap.items()}
    operations = [(names.get(number, ""), argument) for number, argument in _operations(code)]
    forbidden = {"BEFORE_ASYNC_WITH"} if allows_with else {"BEFORE_ASYNC_WITH", "BEFORE_WITH"}
    if any(name in forbidden for name, _ in operations):
        return False
    for position, (name, argument) in enumerate(operations):
        variables = _variables(name, argument)
        if _ITEM not in variables:
            continue
        is_read = "LOAD_FAST" in name and variables[-1] == _ITEM and variables.count(_ITEM) == 1
        if not is_read or not _begins_loop([name for name, _ in operations[position + 1 :]]):
            return False
    return True


def _variables(name: str, argument: int) -> list[int]:
    """Return the indices of the local variables of an operation."""
    if name.count("FAST") == 2:  # noqa: PLR2004 - It stands for two operations.
        return [argument >> 4, argument & 15]
    return [argument] if "FAST" in name else []


def _begins_loop(names: list[str]) -> bool:
    """Whether operations begin with an `async for`, or an awaited comprehension."""
    if names[:1] != ["GET_AITER"]:
        return False
    for name, then in pairwise(names):
        if name == "GET_ANEXT":
            return True
        if name.startswith("CALL"):
            return then == "GET_AWAITABLE"
    return False


def _may_keep(code: CodeType, operations: list[int], loaders: frozenset[int]) -> bool:
    """Whether what one of these operations loads may be returned unchanged."""
    # In `try: return x` with `finally`, other operations stand between the two.
    if code.co_exceptiontable:
        return True
    keepers = _numbers(*_KEEPERS)
    return any(first in loaders and then in keepers for first, then in pairwise(operations))


def _operations(code: CodeType) -> list[tuple[int, int]]:
    """Return the operations and their arguments. Operation 0 is inline cache space of the interpreter."""
    return [pair for pair in zip(code.co_code[::2], code.co_code[1::2], strict=True) if pair[0]]


@functools.cache
def _numbers(*beginnings: str) -> frozenset[int]:
    return frozenset(number for name, number in opmap.items() if name.startswith(beginnings))


@functools.cache
def _calls() -> frozenset[int]:
    return frozenset(number for name, number in opmap.items() if "CALL" in name or name == "SEND")
