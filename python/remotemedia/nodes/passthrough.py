"""The older place of `PassThroughNode`."""

from remotemedia.nodes._builtin import PassThroughNode

__all__ = ["PassThroughNode"]
