"""The built-in nodes, and the registry that manifests use."""

from __future__ import annotations

from remotemedia._graph.registry import get_loaded_nodes, register_node
from remotemedia.nodes._builtin import CalculatorNode, FilterNode, OutputNode, PassThroughNode
from remotemedia.nodes._legacy import DataSinkNode, DataSourceNode

__all__ = [
    "CalculatorNode",
    "DataSinkNode",
    "DataSourceNode",
    "FilterNode",
    "OutputNode",
    "PassThroughNode",
    "get_loaded_nodes",
    "register_node",
]

for _node_class in (CalculatorNode, FilterNode, OutputNode, PassThroughNode, DataSourceNode, DataSinkNode):
    register_node(_node_class)
