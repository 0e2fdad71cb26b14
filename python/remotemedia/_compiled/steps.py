"""How one node is called in a kernel: the lines for each kind of node."""

from __future__ import annotations

import functools
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from remotemedia._compiled.bytecode import may_return_item, may_return_lazily, returns_its_item, returns_none
from remotemedia._compiled.pushed import Pushed
from remotemedia._graph.node_kinds import classify, is_source

if TYPE_CHECKING:
    from types import CodeType
    from typing import Literal

    from remotemedia._compiled.forms import Form

    Item = Literal["plain", "not lazy", "unknown"]

__all__ = ["Step", "describe", "lines_of", "opening_lines", "test_lines"]

_GENERATOR = 0x20
_COROUTINE = 0x80 | 0x100  # A coroutine function, or one that `types.coroutine` made.
_ASYNC_GENERATOR = 0x200
_FLAGS = {
    "plain": 0,
    "coroutine": _COROUTINE,
    "generator": _GENERATOR,
    "async_generator": _ASYNC_GENERATOR,
}
_ARITHMETIC = {"add": "+", "subtract": "-", "multiply": "*"}
_NUMBER_TYPES = (int, float)


class Returns(NamedTuple):
    """What the code of a node says about its results."""

    is_lazy: bool = True
    """Whether they may be lazy if the item is not."""
    is_item: bool = True
    """Whether they may be the item."""
    is_always_item: bool = False
    is_sometimes_none: bool = True


class Step(NamedTuple):
    """What the lines for a node depend on, without objects, so that chains of one shape share code."""

    kind: str
    is_method: bool
    """Whether `process` is a function of the class of the node; its code then says what it returns."""
    returns: Returns
    inlined: str | None
    """The built-in node that the lines replace."""
    operator: str
    number: int
    """The index of the node."""

    @property
    def passes_lazies(self) -> bool:
        """Whether its lines rely on items that are not lazy: they do not check results that may be items."""
        return self.returns.is_item and (not self.returns.is_lazy or self.inlined == "filter")

    @property
    def is_inlined(self) -> bool:
        """Whether the lines run no code of the user, except operators of unusual items."""
        return self.inlined is not None

    @property
    def makes_several(self) -> bool:
        """Whether the node may have any number of outputs for an item."""
        return self.kind.endswith(("generator", "streaming"))


def describe(node: Any, index: int) -> tuple[Step, dict[str, Any]] | None:
    """Return the step for a node and the objects that its lines refer to; `None` if it is not compiled."""
    if isinstance(node, Pushed):
        return Step("streaming", False, Returns(), None, "", index), {f"p{index}": node}  # noqa: FBT003
    kind = classify(node)
    if kind == "streaming" or is_source(node):
        return None
    method = node.process
    function = getattr(method, "__func__", None)
    if (
        not isinstance(function, FunctionType)
        or getattr(method, "__self__", None) is not node
        # A function can also be marked as one that returns coroutines.
        or (kind != "plain" and not function.__code__.co_flags & _FLAGS[kind])
    ):
        return Step(kind, False, Returns(), None, "", index), {f"p{index}": method}  # noqa: FBT003
    objects = {f"f{index}": function, f"n{index}": node}
    inlined, operator, numbers = _inlined(node, function)
    objects |= {f"{name}{index}": value for name, value in numbers.items()}
    code = function.__code__
    return Step(kind, True, _returns(code), inlined, operator, index), objects  # noqa: FBT003


@functools.lru_cache(maxsize=256)
def _returns(code: CodeType) -> Returns:
    return Returns(may_return_lazily(code), may_return_item(code), returns_its_item(code), returns_none(code))


def _inlined(node: Any, function: FunctionType) -> tuple[str | None, str, dict[str, Any]]:
    """Return which built-in node can be inlined, its operator, and the values that must not have changed.

    The arithmetic is inlined while the attributes of the node are unchanged and plain numbers; otherwise the
    method is called. So both always have the same result.
    """
    from remotemedia.nodes import _builtin

    if function is _builtin.PASS_ON:
        return "pass", "", {}
    if function is _builtin.CALCULATE and type(node) is _builtin.CalculatorNode:
        number, other = getattr(node, "operand", None), getattr(node, "operation", None)
        operator = _ARITHMETIC.get(other) if isinstance(other, str) else None
        name = "calculate"
    elif function is _builtin.FILTER and type(node) is _builtin.FilterNode:
        number, other = getattr(node, "threshold", None), getattr(node, "predicate", None)
        operator = ">=" if other is None else None
        name = "filter"
    else:
        return None, "", {}
    if operator is None or type(number) not in _NUMBER_TYPES:
        return None, "", {}
    return name, operator, {"a": number, "b": other}


def test_lines(step: Step) -> list[str]:
    """Return the lines that check that a built-in node has not changed since the lines were generated."""
    names = {"calculate": ("operand", "operation"), "filter": ("threshold", "predicate")}.get(
        step.inlined or ""
    )
    if names is None:
        return []
    i = step.number
    return [f"q{i} = n{i}.{names[0]} is a{i} and n{i}.{names[1]} is b{i}"]


def lines_of(step: Step, item: Item, leave: str, form: Form) -> list[str]:
    """Return the lines that assign to `x` the output of a plain node or coroutine for the item `x`.

    Args:
        step: The node.
        item: What is known of the item.
        leave: The statement that ends an item without an output.
        form: The form of the kernel.
    """
    i = step.number
    check = _check_lines(step, item, leave, is_async=form.is_async)
    if step.inlined == "pass":
        return check
    call = [*_call_lines(step, form), *check]
    if step.inlined is None:
        return call
    if step.inlined == "calculate":
        condition = f"q{i} and (type(x) is int or type(x) is float)"
        fast = [f"x = x {step.operator} a{i}"]
    else:
        condition = f"q{i}"
        fast = [f"if not x {step.operator} a{i}: {leave}"]
        if item == "unknown":
            fast += check
    return [f"if {condition}:", *(f"    {line}" for line in fast), "else:", *(f"    {line}" for line in call)]


def opening_lines(step: Step) -> list[str]:
    """Return the lines that call a node with several outputs and begin the loop over them."""
    i = step.number
    if step.kind == "streaming":
        return [
            f"g{i} = p{i}",
            f"g{i}.push(x)",
            "while True:",
            f"    x = g{i}.step()",
            f"    if x is SUSPENDED: x = await g{i}.resume()",
            "    if x is END: break",
        ]
    loop = "async for" if step.kind == "async_generator" else "for"
    if step.is_method:
        return [f"g{i} = f{i}(n{i}, x)", f"{loop} x in g{i}:"]
    kind = "AsyncGenerator" if step.kind == "async_generator" else "Generator"
    return [
        f"g{i} = p{i}(x)",
        f"if type(g{i}) is not {kind}: raise LazyResultError(g{i})",
        f"{loop} x in g{i}:",
    ]


def _call_lines(step: Step, form: Form) -> list[str]:
    i = step.number
    call = f"f{i}(n{i}, x)" if step.is_method else f"p{i}(x)"
    if form.is_timed:
        call = f"m{i}({call})"
    if step.kind != "coroutine":
        return [f"x = {call}"]
    if step.is_method:
        return [f"x = await {call}"]
    return [f"x = {call}", "if type(x) is Coroutine: x = await x"]


def _check_lines(step: Step, item: Item, leave: str, *, is_async: bool) -> list[str]:
    """Return the lines that check an output. The type of the last one is remembered and not checked again."""
    skip = f"if x is None: {leave}"
    if item != "unknown" or not step.returns.is_item:
        if step.returns.is_always_item:
            return [] if item == "plain" else [skip]
        if not step.returns.is_lazy:
            return [skip]
    # A coroutine is awaited by `resolve`, and its result may be `None`.
    check = (
        ["if is_lazy(x): x = await resolve(x)", skip]
        if is_async
        else ["if is_lazy(x): raise LazyResultError(x)"]
    )
    i = step.number
    # In this order, CPython stores `x` and loads `t` in one operation.
    return [f"if t{i} is not type(x):", *(f"    {line}" for line in (skip, *check, f"t{i} = type(x)"))]
