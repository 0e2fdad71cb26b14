"""The options of a node: one vocabulary for `with_options`, `add_node` and manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remotemedia._suggest import did_you_mean
from remotemedia.exceptions import PipelineError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["NodeSpec", "check_executor", "check_options", "with_options"]

# Each option with the values that it may have.
_ALLOWED: dict[str, tuple[object, ...]] = {"placement": ("inline",)}


class NodeSpec:
    """A node object together with its options. The object is the very same, and stays usable."""

    __slots__ = ("node", "options")

    def __init__(self, node: object, options: Mapping[str, Any] | None = None) -> None:
        """Attach options to a node.

        Raises:
            PipelineError: If an option is unknown or has a value that it cannot have.
        """
        self.node = node
        self.options = dict(options) if options else {}
        check_options(self.options)

    def with_options(self, **options: Any) -> NodeSpec:
        """The same node with these options too; a later value of an option replaces an earlier one."""
        return NodeSpec(self.node, {**self.options, **options})

    def __repr__(self) -> str:
        """Show the node and its options."""
        return f"NodeSpec({self.node!r}, {self.options!r})"


def with_options(node: object, **options: Any) -> NodeSpec:
    """Any node object, with options; for `Node` objects the method of this name does the same.

    Raises:
        PipelineError: If an option is unknown or has a value that it cannot have.
    """
    if isinstance(node, NodeSpec):
        return node.with_options(**options)
    return NodeSpec(node, options)


def check_options(options: Mapping[str, Any], where: str = "") -> None:
    """Refuse options that do not exist or that have a value that they cannot have.

    Args:
        options: The options of one node.
        where: The start of the error text, such as `Node 'x': `.

    Raises:
        PipelineError: With the nearest name or the values that there are.
    """
    for name, value in options.items():
        if name not in _ALLOWED:
            hint = did_you_mean(str(name), _ALLOWED) or f"; the options are: {', '.join(_ALLOWED)}"
            raise PipelineError(f"{where}Unknown option '{name}'{hint}")
        allowed = _ALLOWED[name]
        if value not in allowed:
            hint = did_you_mean(value, map(str, allowed)) if isinstance(value, str) else ""
            available = " or ".join(repr(one) for one in allowed)
            raise PipelineError(f"{where}{name}={value!r} is not available; only {name}={available} is{hint}")


def check_executor(executor: object) -> None:
    """Refuse executors that do not exist.

    Raises:
        PipelineError: With what there is.
    """
    if executor is not None:
        raise PipelineError(
            f"executor={executor!r} is not available; only placement='inline' is, which needs no executor"
        )
