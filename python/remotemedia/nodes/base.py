"""The older place of `Node`, sources and sinks."""

from remotemedia.core.node import Node
from remotemedia.nodes._builtin import PassThroughNode
from remotemedia.nodes._legacy import DataSinkNode, DataSourceNode

__all__ = ["DataSinkNode", "DataSourceNode", "Node", "PassThroughNode"]
