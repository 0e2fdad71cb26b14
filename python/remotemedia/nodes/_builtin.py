"""The built-in nodes."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from remotemedia._graph.node_kinds import return_kind
from remotemedia._reference.lifecycle import finish
from remotemedia._suggest import did_you_mean
from remotemedia.core.node import Node
from remotemedia.exceptions import PipelineError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CalculatorNode", "FilterNode", "OutputNode", "PassThroughNode"]

_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "power": operator.pow,
    "modulo": operator.mod,
}
# They support some of the operators, but are not numbers.
_NO_NUMBERS = (str, bytes, bytearray, list, tuple, set, frozenset, type(None))


class PassThroughNode(Node):
    """Passes every item on unchanged."""

    def __init__(self, name: str | None = None, **config: Any) -> None:
        """Set the name of the node.

        Args:
            name: The name of the node.
            **config: Arguments of subclasses, stored in `config`.

        Raises:
            PipelineError: If a parameter is unknown.
        """
        super().__init__(name, **config)
        _refuse_unknown(self, PassThroughNode, config)

    def process(self, data: Any) -> Any:
        """Return the item itself."""
        return data


class CalculatorNode(Node):
    """Calculates with numbers.

    A number is combined with the operand. A dict `{"operation": …, "args": [a, b, …]}`, or with `operands`,
    contains its own numbers; its output is `{"result": …}`.
    """

    def __init__(
        self, operation: str = "add", operand: float = 0, name: str | None = None, **config: Any
    ) -> None:
        """Set the operation.

        Args:
            operation: `add`, `subtract`, `multiply`, `divide`, `power` or `modulo`.
            operand: The number on the right-hand side.
            name: The name of the node.
            **config: Arguments of subclasses, stored in `config`.

        Raises:
            PipelineError: If the operation or a parameter is unknown.
        """
        super().__init__(name, **config)
        _refuse_unknown(self, CalculatorNode, config)
        _operation(operation)
        self.operation = operation
        self.operand = operand

    def process(self, data: int | float | dict[str, Any]) -> Any:  # noqa: PYI041 - `int` defines the empty item.
        """Return the result for a number, or `{"result": …}` for a dict.

        Raises:
            TypeError: If the item is neither a number nor a dict.
            ValueError: If the dict has no known operation, or no numbers.
        """
        if isinstance(data, dict):
            return {"result": self._calculate(data)}
        if isinstance(data, _NO_NUMBERS):
            raise TypeError(
                f"expected a number or a dict with 'operation' and 'args', not {type(data).__name__}"
            )
        # The attribute may have been changed to an unknown operation.
        calculate = _OPERATIONS.get(self.operation) or _operation(self.operation)
        return calculate(data, self.operand)

    def _calculate(self, data: dict[str, Any]) -> Any:
        operation = _operation(data.get("operation", self.operation))
        operands = data["args"] if "args" in data else data.get("operands")
        if not isinstance(operands, (list, tuple)) or not operands:
            raise ValueError(f"expected a list of numbers under 'args' or 'operands', found {operands!r}")
        result = operands[0]
        for operand in operands[1:]:
            result = operation(result, operand)
        return result


class FilterNode(Node):
    """Passes on items of at least `threshold`, or those that `predicate` accepts; drops the others."""

    def __init__(
        self,
        threshold: float | None = None,
        predicate: Callable[[Any], Any] | None = None,
        name: str | None = None,
        **config: Any,
    ) -> None:
        """Set the condition.

        Args:
            threshold: The smallest item that passes; the default is 0, unless there is a predicate.
            predicate: Called with each item, and awaited if it is async. A true result lets the item pass.
            name: The name of the node.
            **config: Arguments of subclasses, stored in `config`.

        Raises:
            TypeError: If the predicate cannot be called.
            PipelineError: If both are given, or a parameter is unknown.
        """
        super().__init__(name, **config)
        _refuse_unknown(self, FilterNode, config)
        _check_callable("predicate", predicate)
        if threshold is not None and predicate is not None:
            raise PipelineError("FilterNode takes a threshold or a predicate, not both")
        self.threshold = 0 if threshold is None else threshold
        self.predicate = predicate

    def process(self, data: float) -> Any:
        """Return the item if it passes."""
        passes = data >= self.threshold if self.predicate is None else self.predicate(data)
        if passes is not True and passes is not False and return_kind(passes) == "coroutine":
            return _if_it_passes(data, passes)
        return data if passes else None


class OutputNode(Node):
    """Calls a callback with every item, and passes the item on."""

    def __init__(
        self, callback: Callable[[Any], object] | None = None, name: str | None = None, **config: Any
    ) -> None:
        """Set the callback.

        Args:
            callback: Called with each item, and awaited if it is async; its result is ignored.
            name: The name of the node.
            **config: Arguments of subclasses, stored in `config`.

        Raises:
            TypeError: If the callback cannot be called.
            PipelineError: If a parameter is unknown.
        """
        super().__init__(name, **config)
        _refuse_unknown(self, OutputNode, config)
        _check_callable("callback", callback)
        self.callback = callback

    def process(self, data: Any) -> Any:
        """Return the item itself."""
        if self.callback is not None:
            result = self.callback(data)
            if result is not None and return_kind(result) == "coroutine":
                return _once_taken(data, result)
        return data


async def _if_it_passes(data: Any, passes: Any) -> Any:
    return data if await finish(passes) else None


async def _once_taken(data: Any, result: Any) -> Any:
    await finish(result)
    return data


# The original methods, even if a program replaces them later.
PASS_ON = PassThroughNode.process
CALCULATE = CalculatorNode.process
FILTER = FilterNode.process

INLINE = frozenset({PassThroughNode, CalculatorNode, FilterNode, OutputNode})
"""The classes whose nodes run where the caller is without saying so. Subclasses may do something else."""


def _refuse_unknown(node: Node, kind: type[Node], config: dict[str, Any]) -> None:
    """Reject an unknown parameter of a built-in node, which would have no effect."""
    if not config or type(node) is not kind:
        return
    from remotemedia._graph.constructor_args import constructor_signature

    parameters = constructor_signature(kind).parameters.values()
    known = [one.name for one in parameters if one.kind is not one.VAR_KEYWORD]
    name = next(iter(config))
    hint = did_you_mean(name, known) or f"; its parameters are: {', '.join(known)}"
    raise PipelineError(f"{kind.__name__} has no parameter '{name}'{hint}")


def _check_callable(name: str, value: object) -> None:
    if value is not None and not callable(value):
        raise TypeError(f"the {name} must be a function of one item, not {value!r}")


def _operation(name: object) -> Callable[[Any, Any], Any]:
    operation = _OPERATIONS.get(name) if isinstance(name, str) else None
    if operation is None:
        hint = did_you_mean(str(name), _OPERATIONS) or f"; the operations are: {', '.join(_OPERATIONS)}"
        raise PipelineError(f"Unknown operation {name!r}{hint}")
    return operation
