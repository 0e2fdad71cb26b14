"""The options of a node: one vocabulary for `with_options`, `add_node` and manifests."""

from __future__ import annotations

from remotemedia._graph.node_kinds import classify, is_source, makes_coroutines
from remotemedia._limits import DEFAULT_QUEUE_SIZE
from remotemedia._suggest import did_you_mean
from remotemedia.exceptions import PipelineError

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = [
    "Batch",
    "NodeSpec",
    "check_fit",
    "check_options",
    "defaults_of",
    "name_of",
    "needs_queue",
    "session_settings",
    "with_defaults",
    "with_options",
]

_DEFAULT_STALL_WARNING_SECS = 5.0

_DEFAULT_SETTINGS = {
    "enable_metrics": False,
    "queue_size": DEFAULT_QUEUE_SIZE,
    "stall_warning": _DEFAULT_STALL_WARNING_SECS,
}

# The options that apply only to workers.
_WORKER_OPTIONS = ("max_restarts", "restart_window", "initialize_timeout", "snapshot_every")

_OF_FAILED_ITEMS = ("on_error", "dead_letter", "retries", "retry_delay")


class Batch:
    """Several items in one call of `process`: `batch=Batch(32, max_wait=0.010)`.

    Attributes:
        size: The largest number of items.
        max_wait: Seconds that a batch waits for more items if it is not full; `None` for no limit.
    """

    __slots__ = ("max_wait", "size")

    def __init__(self, size: int, max_wait: float | None = None) -> None:
        """Store the values; they are checked when the batch is used."""
        self.size = size
        self.max_wait = max_wait

    def __repr__(self) -> str:
        """Show how it is written."""
        return (
            f"Batch({self.size})"
            if self.max_wait is None
            else f"Batch({self.size}, max_wait={self.max_wait})"
        )


class NodeSpec:
    """A node object together with its options. The object itself is not changed."""

    __slots__ = ("node", "options")

    def __init__(self, node: object, options: Mapping[str, Any] | None = None) -> None:
        """Attach options to a node.

        Raises:
            PipelineError: If an option is unknown or has an invalid value.
        """
        self.node = node
        self.options = dict(options) if options else {}
        check_options(self.options)

    def with_options(self, **options: Any) -> NodeSpec:
        """Return the same node with more options; a later value of an option replaces an earlier one."""
        return NodeSpec(self.node, {**self.options, **options})

    def __repr__(self) -> str:
        """Show the node and its options."""
        return f"NodeSpec({self.node!r}, {self.options!r})"


def with_options(node: object, **options: Any) -> NodeSpec:
    """Return a node object with options; `Node.with_options` does the same for nodes that derive from `Node`.

    Raises:
        PipelineError: If an option is unknown or has an invalid value.
    """
    if isinstance(node, NodeSpec):
        return node.with_options(**options)
    return NodeSpec(node, options)


def check_options(options: Mapping[str, Any], where: str = "", *, of_session: bool = False) -> None:
    """Reject unknown options and invalid values.

    Args:
        options: The options of one node.
        where: The start of the error text, such as `Node 'x': `.
        of_session: Whether they are the options of `Pipeline.open`, which has some of its own.

    Raises:
        PipelineError: The text contains the nearest name or the allowed values.
    """
    try:
        from remotemedia._core import option_problem
    except ImportError:
        # Without the extension only the reference executor runs, which reads few of them.
        return
    problem = option_problem(dict(options), of_session)
    if problem is not None:
        raise PipelineError(f"{where}{problem}")


def check_fit(node: Any, options: Mapping[str, Any], node_id: str) -> None:
    """Reject options that do not apply to the kind of a node.

    Raises:
        PipelineError: If the options do not fit the node.
    """
    if not options:
        return
    where = f"Node '{node_id}': "
    in_worker = options.get("placement") == "process"
    if options.get("replicas", 1) > 1:
        _check_replicas(node, options, where)
    if isinstance(node, type) or not callable(getattr(node, "process", None)):
        # The node of a factory does not exist yet.
        return
    kind, source = classify(node), is_source(node)
    if options.get("concurrency", 1) > 1 and (source or kind not in {"coroutine", "async_generator"}):
        raise PipelineError(f"{where}concurrency requires an async process()")
    if options.get("batch") is not None and (source or kind not in {"plain", "coroutine"}):
        raise PipelineError(f"{where}batch requires a process() that takes a list and returns a list")
    if source and needs_queue(options):
        raise PipelineError(f"{where}a source has no input queue and runs once; remove its queue options")
    if source and in_worker:
        raise PipelineError(f"{where}a source runs in the process of its session, not in a worker")
    if source and (useless := [name for name in _OF_FAILED_ITEMS if name in options]):
        raise PipelineError(f"{where}{useless[0]} applies to failed items; a source receives no items")


def _check_replicas(node: Any, options: Mapping[str, Any], where: str) -> None:
    is_factory = callable(node) and not callable(getattr(node, "process", None))
    is_one = not isinstance(node, type) and not is_factory
    in_worker = options.get("placement") == "process"
    if is_one and not in_worker and getattr(node, "thread_safe", False) is not True:
        raise PipelineError(
            f"{where}replicas={options['replicas']} requires an object with thread_safe = True, "
            "or a factory (a class or a function) that creates an object for each replica"
        )
    if is_factory and makes_coroutines(node):
        raise PipelineError(
            f"{where}the factory is async; create the object in a function without async, "
            "and await in an async initialize()"
        )


def needs_queue(options: Mapping[str, Any]) -> bool:
    """Whether a node with these options has a queue, and thus a separate stage."""
    return (
        options.get("replicas", 1) > 1
        or options.get("concurrency", 1) > 1
        or options.get("batch") is not None
        or "queue_size" in options
        or options.get("when_full", "wait") != "wait"
    )


def name_of(handler: Any) -> str:
    """Return the name of a function or another callable."""
    handler = getattr(handler, "func", handler)
    name = getattr(handler, "__qualname__", None) or type(handler).__qualname__
    return str(name).rpartition("<locals>.")[2]


def session_settings(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide the options of `Pipeline.open` into settings of the session and defaults for its nodes.

    Raises:
        PipelineError: If one is unknown or out of range.
    """
    if not options:
        return dict(_DEFAULT_SETTINGS), {}
    settings = {name: options.get(name, default) for name, default in _DEFAULT_SETTINGS.items()}
    # Worker options apply to nodes in workers, even if the defaults place no node there.
    watching = {name: options[name] for name in _WORKER_OPTIONS if name in options}
    check_options({name: options[name] for name in options if name not in watching}, of_session=True)
    check_options({"placement": "process", **watching})
    defaults = {name: value for name, value in options.items() if name not in settings}
    return settings, defaults


def with_defaults(node: Any, options: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a node, completed with these defaults.

    Defaults that do not apply to the node are skipped: a source receives no items and is never in a worker,
    and worker options apply only to nodes in workers.
    """
    if _is_source(node):
        defaults = {
            name: value
            for name, value in defaults.items()
            if name == "timeout" or (name == "placement" and value != "process")
        }
    merged = {**defaults, **options}
    if merged.get("placement") != "process":
        for name in _WORKER_OPTIONS:
            if name not in options:
                merged.pop(name, None)
    return merged


def _is_source(node: Any) -> bool:
    # A factory cannot create a source.
    return not isinstance(node, type) and hasattr(node, "process") and is_source(node)


def defaults_of(executor: object) -> dict[str, Any]:
    """Return the default options of an executor.

    Raises:
        PipelineError: If there is no such executor.
    """
    if executor != "multiprocess":
        hint = did_you_mean(executor, ["multiprocess"]) if isinstance(executor, str) else ""
        raise PipelineError(f"executor={executor!r} is not valid; use 'multiprocess'{hint}")
    return {"placement": "process"}
