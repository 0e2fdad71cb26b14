"""The place where older programs find `PassThroughNode`."""

from remotemedia.nodes._builtin import PassThroughNode

__all__ = ["PassThroughNode"]
