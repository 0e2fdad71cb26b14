"""The checked description of a pipeline, which both executors run.

`resolve` turns any description of a pipeline into a `Graph`. Every mistake in it is rejected here, so the
executors need no such checks, and no node has been called yet.
"""

from __future__ import annotations

from types import FunctionType, MethodType

from remotemedia._graph.node_kinds import classify, is_source, misfit
from remotemedia._graph.options import NodeSpec, check_fit, defaults_of, with_defaults
from remotemedia._graph.plan_order import plan_order
from remotemedia.exceptions import PipelineError

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from remotemedia._core import ManifestOrder, ParsedManifest
    from remotemedia._loop.known import Known
    from remotemedia._session.managed import Managed

__all__ = [
    "MANIFEST_SUFFIXES",
    "Entry",
    "Graph",
    "GraphOwner",
    "chain",
    "check_node",
    "connected",
    "describe",
    "entries_of",
    "graph_of",
    "graph_of_manifest",
    "has_replicas",
    "is_factory",
    "is_manifest_entry",
    "name_of",
    "of_list",
    "resolve",
]

MANIFEST_SUFFIXES = (".json", ".yaml", ".yml")
"""The extensions of manifest files."""


class Entry:
    """One node of a pipeline, with its connections and options.

    Attributes:
        id: Unique in the pipeline.
        node: The object that runs.
        node_type: The name of its class.
        after: The ids of the nodes whose outputs it receives, in order. If it is empty, the node receives
            the input.
        join: Whether it receives one dict per input, with the outputs of all nodes before it.
        options: Its checked options.
        inherits_placement: Whether its placement is a default, and not written on the node.
    """

    __slots__ = ("after", "id", "inherits_placement", "join", "node", "node_type", "options")

    def __init__(  # noqa: PLR0913, PLR0917 - A record.
        self,
        id: str,  # noqa: A002 - The public name.
        node: object,
        node_type: str,
        after: list[str],
        join: bool = False,  # noqa: FBT001, FBT002 - A field.
        options: dict[str, Any] | None = None,
    ) -> None:
        """Store the fields."""
        self.id = id
        self.node = node
        self.node_type = node_type
        self.after = after
        self.join = join
        self.options = options if options is not None else {}
        self.inherits_placement = False

    def __repr__(self) -> str:
        """Show id, type and upstream nodes."""
        return f"Entry({self.id!r}, {self.node_type}, after={self.after!r})"


class GraphOwner:
    """The base of `Pipeline`, which is not a node."""

    def to_graph(self) -> Graph:
        """Return the checked graph that executors run."""
        raise NotImplementedError


class Memory:
    """What sessions of a pipeline keep for later ones.

    Attributes:
        known: What they know of the nodes.
    """

    __slots__ = ("known",)

    def __init__(self) -> None:
        """Start with nothing."""
        self.known: Known | None = None


class Graph:
    """A checked pipeline: not empty, with unique ids, known upstream nodes, no cycle, and valid nodes.

    Attributes:
        name: The name of the pipeline.
        entries: The nodes, in the order of the description.
        source: The node that produces the input, if any.
        order: The plan order, if the parser of a manifest has computed it.
        ignored: The paths of fields of its manifest that have no effect.
        block: The open block of `Pipeline.managed_execution` of its runs, if any.
        memory: What sessions keep for later ones; all graphs of an unchanged `Pipeline` share it.
        known: What the session that opens this graph knows of the nodes.
    """

    __slots__ = ("block", "entries", "ignored", "known", "memory", "name", "order", "source")

    def __init__(self, name: str, entries: list[Entry], source: Entry | None = None) -> None:
        """Store the fields without checks; see `graph_of`."""
        self.name = name
        self.entries = entries
        self.source = source
        self.order: ManifestOrder | None = None
        self.ignored: list[str] = []
        self.block: Managed | None = None
        self.memory = Memory()
        self.known: Known | None = None

    def with_defaults(self, defaults: dict[str, Any]) -> Graph:
        """Return the graph with these options for nodes that do not set them.

        Raises:
            PipelineError: If a node cannot have one of the options.
        """
        entries = []
        for entry in self.entries:
            options = with_defaults(entry.node, entry.options, defaults)
            check_fit(entry.node, options, entry.id)
            completed = Entry(entry.id, entry.node, entry.node_type, entry.after, entry.join, options)
            completed.inherits_placement = entry.inherits_placement or "placement" not in entry.options
            entries.append(completed)
        graph = Graph(self.name, entries, self.source)
        graph.order = self.order
        graph.ignored = self.ignored
        _check_groups(graph)
        return graph


def resolve(pipeline: object, *, executor: str | None = None) -> Graph:
    """Return the graph of any description of a pipeline.

    Args:
        pipeline: A `Pipeline`, a list of nodes and manifest entries, a manifest as a dict, or its JSON or
            YAML text.
        executor: `"multiprocess"` places every node without its own placement in a worker process.

    Raises:
        TypeError: If it is none of these, or an entry is neither a node nor a manifest entry.
        PipelineError: If it is empty, or its ids, connections, options or nodes are invalid.
        ManifestError: If it is an invalid manifest.
    """
    if executor is not None:
        return resolve(pipeline).with_defaults(defaults_of(executor))
    if isinstance(pipeline, (list, tuple)):
        return of_list(pipeline)
    if isinstance(pipeline, GraphOwner):
        return pipeline.to_graph()
    if isinstance(pipeline, (str, dict)) and not is_node(pipeline):
        from remotemedia._graph.manifest import load

        return load(pipeline)
    message = f"A pipeline must be a Pipeline, a list of nodes or a manifest, not {describe(pipeline)}"
    if isinstance(pipeline, NodeSpec) or is_node(pipeline):
        message += "; put the node into a list: [node]"
    elif hasattr(type(pipeline), "__fspath__"):
        message += "; read the file with Pipeline.from_manifest()"
    raise TypeError(message)


def graph_of(name: str, entries: list[Entry]) -> Graph:
    """Return the checked graph of these entries.

    Raises:
        PipelineError: If it is empty, ids are duplicate or unknown, connections form a cycle, or a source or
            streaming node is invalid.
    """
    if not entries:
        raise PipelineError(f"Pipeline '{name}' is empty; add at least one node")
    _check_ids(entries)
    if any(entry.after != ([entries[index - 1].id] if index else []) for index, entry in enumerate(entries)):
        plan_order(entries)
    return connected(name, entries)


def graph_of_manifest(parsed: ParsedManifest, entries: list[Entry]) -> Graph:
    """Return the graph of the entries of a manifest, which the parser has checked.

    Raises:
        PipelineError: If a source is not the first node, or a node cannot be called.
    """
    graph = Graph(parsed.name, entries, _checked_source(entries))
    graph.order = parsed.order
    graph.ignored = parsed.ignored
    return graph


def is_factory(node: object) -> bool:
    """Whether an entry is a class or a function that makes the node."""
    return isinstance(node, type) or not is_node(node)


def _needs_no_arguments(factory: object) -> bool:
    """Whether a class of nodes or a function can be called as a factory."""
    if isinstance(factory, type) and not is_node(factory):
        return False
    from inspect import signature

    try:
        signature(factory).bind()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


def check_node(node: object, place: str, *, may_be_factory: bool = False) -> None:
    """Reject objects that cannot run as a node.

    Args:
        node: The object.
        place: Its name in errors, such as `Entry 2 of the pipeline`.
        may_be_factory: Whether any class or function is allowed, too, and not only one without arguments.

    Raises:
        TypeError: If it is a class, or not a node at all.
        PipelineError: If it is a node without a callable `process`.
    """
    if is_node(node) and not isinstance(node, (type, GraphOwner)):
        return
    if isinstance(node, GraphOwner):
        raise TypeError(f"{place} is a Pipeline, not a node; unpack its nodes: *pipeline")
    if callable(node) and (may_be_factory or _needs_no_arguments(node)):
        return
    if isinstance(node, type):
        raise TypeError(f"{place} is the class {node.__name__}, not an instance; write {node.__name__}(…)")
    if any(hasattr(node, attribute) for attribute in ("process", "initialize", "cleanup", "flush")):
        kind = type(node).__name__
        raise PipelineError(
            f"Node '{name_of(node)}' missing required process() method; define process(self, data) in {kind}"
        )
    hint = "; define it as process(self, data) of a class" if callable(node) else ""
    raise TypeError(
        f"{place} is {describe(node)}, "
        f"neither a node (an object with a process method) nor a manifest entry{hint}"
    )


def has_replicas(options: dict[str, Any] | None) -> bool:
    """Whether options require several copies of a node, so that a factory may replace it."""
    return bool(options) and options.get("replicas", 1) != 1  # type: ignore[union-attr]


def is_node(item: object) -> bool:
    """Whether an object has a callable `process`."""
    return callable(getattr(item, "process", None))


def is_manifest_entry(item: object) -> bool:
    """Whether a list entry is a manifest entry; a node may also be a dict."""
    return isinstance(item, dict) and not is_node(item)


def type_name(node: object) -> str:
    """Return the name of the class of a node, or of its factory."""
    name = getattr(node, "__name__", None)
    # Proxies may have any attribute.
    return name if isinstance(name, str) and name else type(node).__name__


def name_of(node: object) -> str:
    """Return the name of a node: its `name` if that is a str, else the name of its class."""
    if isinstance(node, type):
        return node.__name__
    name = getattr(node, "name", None)
    return name if isinstance(name, str) and name else type(node).__name__


def of_list(items: Sequence[object]) -> Graph:
    """Return the graph of a list: a chain of nodes and manifest entries.

    Raises:
        TypeError: If an entry is neither.
        PipelineError: If the list is empty.
    """
    if not items:
        raise PipelineError("The pipeline is empty; add at least one node")
    if any(map(is_manifest_entry, items)):
        from remotemedia._graph.manifest import load_list

        return load_list(items)
    entries = entries_of(items)
    chain(entries)
    return connected("pipeline", entries)


def entries_of(items: Sequence[object]) -> list[Entry]:
    """Return the entries of the nodes in a list, not connected yet. Manifest entries are skipped.

    Raises:
        TypeError: If some are not nodes; the text names all of them.
        PipelineError: If a node has no `process`.
    """
    entries: list[Entry] = []
    wrong: list[str] = []
    for position, item in enumerate(items):
        if is_manifest_entry(item):
            continue
        node, options = (item.node, item.options) if isinstance(item, NodeSpec) else (item, None)
        try:
            check_node(node, f"Entry {position} of the pipeline", may_be_factory=has_replicas(options))
        except TypeError as error:
            wrong.append(str(error))
        node_id = f"{name_of(node)}_{position}"
        if options:
            check_fit(node, options, node_id)
        entries.append(Entry(node_id, node, type_name(node), [], options=options))
    if wrong:
        raise TypeError("\n".join(wrong))
    return entries


def chain(entries: Sequence[Entry]) -> None:
    """Connect each entry to the one before it."""
    for index in range(1, len(entries)):
        entries[index].after = [entries[index - 1].id]


def connected(name: str, entries: list[Entry]) -> Graph:
    """Return the graph of nodes whose ids and connections have been checked."""
    graph = Graph(name, entries, _checked_source(entries))
    _check_groups(graph)
    return graph


def _checked_source(entries: Sequence[Entry]) -> Entry | None:
    """Reject nodes that cannot be called, and return the source, if any."""
    sources = _check_calls(entries)
    if not sources:
        return None
    source = sources[-1]
    if source.after or sum(not entry.after for entry in entries) > 1:
        what = f"Node '{source.id}' is a source (its process() takes no item)"
        raise PipelineError(f"{what}, so it must be the only node at the start of its pipeline")
    return source


def _check_calls(entries: Sequence[Entry]) -> list[Entry]:
    """Reject a `process` that cannot be called with one item, and return the sources."""
    # Both depend on the function of a method alone, and most nodes of a large pipeline share a few.
    taking_one_item: set[FunctionType] = set()
    sources = []
    for entry in entries:
        node = entry.node
        process = getattr(node, "process", None)
        function = process.__func__ if type(process) is MethodType else None
        if type(function) is not FunctionType or function not in taking_one_item:
            # The node of a factory does not exist yet.
            is_made = not isinstance(node, type)
            if is_made and callable(process) and (problem := misfit(node)) is not None:
                raise PipelineError(f"Node '{entry.id}': {problem}")
            # A factory cannot create a source, because a source has no replicas.
            if hasattr(node, "process") and is_source(node):
                sources.append(entry)
            elif is_made and type(function) is FunctionType:
                taking_one_item.add(function)
        if getattr(node, "is_streaming", False) is True and classify(node) != "streaming":
            raise PipelineError(
                f"Node '{entry.id}' has is_streaming = True, but its process() is not an async generator; "
                "define async def process(self, items) with yield, or remove is_streaming"
            )
    return sources


def _check_groups(graph: Graph) -> None:
    """Reject groups whose nodes cannot share a stage."""
    if any("group" in entry.options for entry in graph.entries):
        try:
            from remotemedia._core import check_stages
        except ImportError:
            # Without the extension only the reference executor runs, which has no stages.
            return
        check_stages(graph)


def _check_ids(entries: Sequence[Entry]) -> None:
    seen: set[str] = set()
    for entry in entries:
        if entry.id in seen:
            raise PipelineError(f"Two nodes have the id '{entry.id}'; give each node its own id")
        seen.add(entry.id)


def describe(thing: object) -> str:
    kind = type(thing).__name__
    return "None" if thing is None else f"{'an' if kind.lower().startswith(tuple('aeiou')) else 'a'} {kind}"
