"""The older place of `CalculatorNode`."""

from remotemedia.nodes._builtin import CalculatorNode

__all__ = ["CalculatorNode"]
