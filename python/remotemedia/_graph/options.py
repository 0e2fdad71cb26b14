"""The options of a node: one vocabulary for `with_options`, `add_node` and manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remotemedia._graph.node_kinds import classify, is_source, makes_coroutines
from remotemedia._limits import DEFAULT_QUEUE_SIZE, LARGEST_COUNT, LONGEST_SECS
from remotemedia._suggest import did_you_mean
from remotemedia.exceptions import PipelineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
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


def check_options(options: Mapping[str, Any], where: str = "") -> None:
    """Reject unknown options and invalid values.

    Args:
        options: The options of one node.
        where: The start of the error text, such as `Node 'x': `.

    Raises:
        PipelineError: The text contains the nearest name or the allowed values.
    """
    for name, value in options.items():
        check = _CHECKS.get(name)
        if check is None:
            hint = did_you_mean(str(name), _CHECKS) or f"; the options are: {', '.join(_CHECKS)}"
            raise PipelineError(f"{where}Unknown option '{name}'{hint}")
        problem = check(value)
        if problem is not None:
            raise PipelineError(f"{where}{name}={value!r} is not valid; {problem}")
    _check_together(options, where)


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
    settings = {
        "enable_metrics": options.get("enable_metrics", False),
        "queue_size": options.get("queue_size", DEFAULT_QUEUE_SIZE),
        "stall_warning": options.get("stall_warning", _DEFAULT_STALL_WARNING_SECS),
    }
    checks = {"enable_metrics": _check_flag, "queue_size": _check_count, "stall_warning": _check_limit}
    for name, check in checks.items():
        if (problem := check(settings[name])) is not None:
            raise PipelineError(f"{name}={settings[name]!r} is not valid; {problem}")
    defaults = {name: value for name, value in options.items() if name not in settings}
    names = [*settings, *(name for name in _CHECKS if name not in settings)]
    for name in defaults:
        if name not in _CHECKS:
            hint = did_you_mean(str(name), names) or f"; the options are: {', '.join(names)}"
            raise PipelineError(f"Unknown option '{name}'{hint}")
    # Worker options apply to nodes in workers, even if the defaults place no node there.
    watching = {name: defaults[name] for name in _WORKER_OPTIONS if name in defaults}
    check_options({"placement": "process", **watching})
    check_options({name: value for name, value in defaults.items() if name not in watching})
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


def _check_together(options: Mapping[str, Any], where: str) -> None:
    replicas, concurrency = options.get("replicas", 1), options.get("concurrency", 1)
    if replicas > 1 and concurrency > 1:
        raise PipelineError(f"{where}replicas and concurrency cannot be combined; use one of them")
    if concurrency > 1 and options.get("batch") is not None:
        raise PipelineError(f"{where}batch and concurrency cannot be combined; use one of them")
    placement = options.get("placement", "inline")
    if replicas > 1 and placement == "inline":
        raise PipelineError(f"{where}replicas requires placement='thread' or placement='process'")
    if placement != "process":
        for name in _WORKER_OPTIONS:
            if name in options:
                raise PipelineError(f"{where}{name} requires placement='process'")
    if options.get("dead_letter") is not None and options.get("on_error", "stop") == "skip":
        raise PipelineError(f"{where}on_error='skip' and dead_letter cannot be combined; use one of them")


def _one_of(*values: str) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if value in values:
            return None
        hint = did_you_mean(value, values) if isinstance(value, str) else ""
        return f"use one of {', '.join(map(repr, values))}{hint}"

    return check


def _check_count(value: Any, least: int = 1) -> str | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and least <= value <= LARGEST_COUNT
    return None if is_count else f"use a whole number from {least} to {LARGEST_COUNT}"


def _check_flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "use True or False"


def _check_seconds(value: Any) -> str | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return None if is_number and 0 <= value <= LONGEST_SECS else "use a number of seconds, 0 or more"


def _check_limit(value: Any) -> str | None:
    is_limit = value is None or (_check_seconds(value) is None and value > 0)
    return None if is_limit else "use a number of seconds above 0, or None"


def _check_duration(value: Any) -> str | None:
    is_duration = _check_seconds(value) is None and value > 0
    return None if is_duration else "use a number of seconds above 0"


def _check_batch(value: Any) -> str | None:
    if value is None:
        return None
    size, max_wait = (value.size, value.max_wait) if isinstance(value, Batch) else (value, None)
    if isinstance(value, dict):
        if set(value) - {"size", "max_wait"} or "size" not in value:
            return "use an object with size and max_wait"
        size, max_wait = value["size"], value.get("max_wait")
    if _check_count(size) is not None or (max_wait is not None and _check_seconds(max_wait) is not None):
        return "use a number of items, or Batch(size, max_wait=seconds)"
    return None


def _check_callable(value: Any) -> str | None:
    return None if value is None or callable(value) else "use a function of an item and its error"


def _check_on_error(value: Any) -> str | None:
    return None if callable(value) else _one_of("stop", "skip")(value)


_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "placement": _one_of("inline", "thread", "process"),
    "replicas": _check_count,
    "ordered": _check_flag,
    "concurrency": _check_count,
    "batch": _check_batch,
    "queue_size": _check_count,
    "when_full": _one_of("wait", "drop_oldest", "drop_newest"),
    "on_error": _check_on_error,
    "dead_letter": _check_callable,
    "retries": lambda value: _check_count(value, 0),
    "retry_delay": _check_seconds,
    "timeout": _check_limit,
    "max_restarts": lambda value: _check_count(value, 0),
    "restart_window": _check_duration,
    "initialize_timeout": _check_duration,
    "snapshot_every": _check_count,
}


def defaults_of(executor: object) -> dict[str, Any]:
    """Return the default options of an executor.

    Raises:
        PipelineError: If there is no such executor.
    """
    if executor is None:
        return {}
    if executor != "multiprocess":
        hint = did_you_mean(executor, ["multiprocess"]) if isinstance(executor, str) else ""
        raise PipelineError(f"executor={executor!r} is not valid; use 'multiprocess'{hint}")
    return {"placement": "process"}
