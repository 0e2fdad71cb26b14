"""The optional base class of nodes: any object with a method `process` is a node."""

from __future__ import annotations

from _weakref import ref
from functools import partial

from remotemedia._graph.constructor_args import constructor_signature, keep_record, record
from remotemedia._graph.options import NodeSpec, with_options

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

__all__ = ["Node", "NodeSpec", "with_options"]

_ordinary: dict[int, ref[type[Node]]] = {}
"""References to the classes, by id, for which `hasattr` finds the same `config` as `_has_config` does.

It raises nothing inside, so it takes a tenth of the time.
"""


class _ClassName:
    """The default name of nodes. A `name` of a class or an instance takes precedence."""

    def __get__(self, instance: object, owner: type) -> str:
        return owner.__name__


class _IsInitialized:
    """The older name of `is_initialized`, read-only; a subclass may define such an attribute."""

    def __get__(self, instance: Node | None, owner: type[Node]) -> bool:
        return (owner if instance is None else instance).is_initialized


class _Signature:
    """The signature of a class: that of its constructor, not of `Node.__new__`, which accepts anything."""

    def __get__(self, instance: object, owner: type) -> object:
        if instance is not None:
            raise AttributeError("__signature__")
        return constructor_signature(owner)


class Node:
    """One step of a pipeline. Subclasses define `process`, and may define `flush`.

    ```python
    class Shout(Node):
        def process(self, text: str) -> str:
            return text.upper()
    ```

    `process(self, item)` returns the output for an item, or `None` for no output; it may also be a generator
    of outputs, a coroutine or an async generator. `flush(self)` is called at the end of input and has the
    same forms. The arguments of the constructor are recorded, so `to_manifest` needs no code in subclasses.

    Attributes:
        name: The name of the node; the default is the name of the class.
        config: The keyword arguments that no constructor took.
        is_initialized: Whether `initialize` has run and `cleanup` has not. If it is true before a run, the
            run neither initializes nor cleans up the node.
    """

    is_initialized: bool = False

    if TYPE_CHECKING:
        name: str
        config: dict[str, Any]
        # Not a method here, so that type checkers accept any signature in subclasses.
        process: Callable[..., Any]
    else:
        name = _ClassName()
        _is_initialized = _IsInitialized()
        __signature__ = _Signature()

        def __new__(cls, *args: Any, **kwargs: Any) -> Self:
            """Create the object and record its arguments, even without `super().__init__()`."""
            new = super().__new__
            node = new(cls) if new is object.__new__ else new(cls, *args, **kwargs)
            # Most nodes have no arguments. Without a record, this method is the proof of it.
            if args or kwargs or cls.__new__ is not Node.__new__:
                record(node, args, kwargs)
            return node

    def __init__(self, name: str | None = None, **config: Any) -> None:
        """Set the name of the node.

        Args:
            name: The name in ids, errors and metrics; the default is the name of the class.
            **config: Other keyword arguments; stored in `config`.
        """
        if name is not None:
            self.name = name
        # A subclass may have set it before.
        if not (hasattr(self, "config") if id(type(self)) in _ordinary else _has_config(self)):
            self.config = config

    def initialize(self) -> None:
        """Acquire resources, such as models and files. Runs once, before the first item."""
        _mark(self, initialized=True)

    def cleanup(self) -> None:
        """Release what `initialize` acquired. Runs once, after the last item, a failure or a cancellation."""
        _mark(self, initialized=False)

    def with_options(self, **options: Any) -> NodeSpec:
        """Return the same object with options, for a list of nodes or `Pipeline.add_node`.

        Raises:
            PipelineError: If an option is unknown or has an invalid value.
        """
        return NodeSpec(self, options)

    def get_config(self) -> dict[str, Any]:
        """Return a copy of `config`."""
        return dict(getattr(self, "config", {}))

    def to_manifest(self) -> dict[str, Any]:
        """Return the node as an entry of a manifest: `{"id", "node_type", "params"}`.

        Raises:
            SerializationError: If an argument of the constructor is not a JSON value.
        """
        from remotemedia._graph.manifest import describe

        return {"id": self.name, **describe(self)}

    def __reduce_ex__(self, protocol: Any, /) -> Any:
        """Reduce like any object, and add the record of the constructor arguments."""
        # Older protocols would rebuild the object without `__new__`, so its record would be missing.
        return keep_record(self, super().__reduce_ex__(max(protocol, 2)))

    def __repr__(self) -> str:
        """Show type and name."""
        name = self.name
        kind = type(self).__name__
        return f"<{kind}>" if name == kind else f"<{kind} {name!r}>"


def _has_config(node: Node) -> bool:
    """Whether an object or its class has a `config`; no code of the class runs."""
    kind = type(node)
    if hasattr(kind, "config"):
        return True
    if not hasattr(kind, "__getattr__") and kind.__getattribute__ is object.__getattribute__:
        _ordinary[id(kind)] = ref(kind, partial(_forget, id(kind), _ordinary))
    try:
        # Not with `node.__dict__`: an object with a materialized dict is slower.
        object.__getattribute__(node, "config")
    except AttributeError:
        return False
    return True


def _forget(key: int, known: dict[int, Any], _: ref[type[Node]]) -> None:
    known.pop(key, None)


def _mark(node: Node, *, initialized: bool) -> None:
    try:
        node.is_initialized = initialized
    except AttributeError:
        # A subclass defines it as a property.
        return
