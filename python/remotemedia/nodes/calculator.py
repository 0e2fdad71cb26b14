"""The place where older programs find `CalculatorNode`."""

from remotemedia.nodes._builtin import CalculatorNode

__all__ = ["CalculatorNode"]
