"""RemoteMedia runs pipelines of live Python objects from a Rust runtime.

```python
import asyncio
from remotemedia import Node, execute_pipeline_with_input

class Double(Node):
    def process(self, item: int) -> int:
        return item * 2

asyncio.run(execute_pipeline_with_input([Double()], [1, 2, 3]))  # [2, 4, 6]
```

Names are imported on first use: `import remotemedia` alone loads none of them.
"""

from __future__ import annotations

import sys

# As in `typing`, which takes longer to import than this whole module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, TypeVar

    from remotemedia._availability import get_rust_runtime, is_rust_runtime_available, try_load_rust_runtime
    from remotemedia._graph.options import Batch, with_options
    from remotemedia._serving import ServeOptions, Server, serve, serve_forever, serving
    from remotemedia._session.async_session import AsyncSession
    from remotemedia._version import __version__
    from remotemedia.core.node import Node
    from remotemedia.core.pipeline import Pipeline
    from remotemedia.nodes import get_loaded_nodes
    from remotemedia.runtime import execute_pipeline, execute_pipeline_with_input
    from remotemedia.sessions import Session

    NodeClass = TypeVar("NodeClass", bound=type[Any])

if sys.platform != "linux":
    raise ImportError(
        f"RemoteMedia runs on Linux only and cannot be imported on {sys.platform}; "
        "use a Linux machine or container, or WSL on Windows"
    )

__all__ = [
    "AsyncSession",
    "Batch",
    "Node",
    "Pipeline",
    "ServeOptions",
    "Server",
    "Session",
    "__version__",
    "execute_pipeline",
    "execute_pipeline_with_input",
    "get_loaded_nodes",
    "get_rust_runtime",
    "is_rust_runtime_available",
    "register_node_class",
    "serve",
    "serve_forever",
    "serving",
    "try_load_rust_runtime",
    "with_options",
]

_HOMES = {
    "__version__": "remotemedia._version",
    "AsyncSession": "remotemedia._session.async_session",
    "Batch": "remotemedia._graph.options",
    "Node": "remotemedia.core.node",
    "Pipeline": "remotemedia.core.pipeline",
    "ServeOptions": "remotemedia._serving",
    "Server": "remotemedia._serving",
    "Session": "remotemedia.sessions",
    "execute_pipeline": "remotemedia.runtime",
    "execute_pipeline_with_input": "remotemedia.runtime",
    "get_loaded_nodes": "remotemedia.nodes",
    "get_rust_runtime": "remotemedia._availability",
    "is_rust_runtime_available": "remotemedia._availability",
    "serve": "remotemedia._serving",
    "serve_forever": "remotemedia._serving",
    "serving": "remotemedia._serving",
    "try_load_rust_runtime": "remotemedia._availability",
    "with_options": "remotemedia._graph.options",
}
_MODULES = ("audio", "core", "exceptions", "nodes", "runtime", "sessions")


def register_node_class(cls: NodeClass) -> NodeClass:
    """Register a node class for manifests under its own name, as `remotemedia.nodes.register_node` does.

    Raises:
        TypeError: If `cls` is not a class with a method `process`.
        ValueError: If another class has the name.
    """
    from remotemedia.nodes import register_node

    return register_node(cls)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(_import(_HOMES[name]), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return _import(f"remotemedia.{name}")
    # Python uses these to suggest the nearest name.
    raise AttributeError(
        f"module 'remotemedia' has no attribute '{name}'", name=name, obj=sys.modules[__name__]
    )


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})


def _import(name: str) -> ModuleType:
    from importlib import import_module

    return import_module(name)
