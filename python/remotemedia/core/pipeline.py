"""The public class `Pipeline`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from remotemedia._availability import get_rust_runtime
from remotemedia._graph.graph import (
    Entry,
    Graph,
    GraphOwner,
    check_node,
    graph_of,
    has_replicas,
    is_manifest_entry,
    name_of,
    of_list,
    type_name,
)
from remotemedia._graph.options import NodeSpec, check_fit, check_options
from remotemedia.exceptions import PipelineError, RemoteMediaError

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from typing import Self

    from remotemedia._session.managed import Managed
    from remotemedia._session.opening import Opening

__all__ = ["Pipeline"]


class Pipeline(GraphOwner):
    """Node objects and the connections between them.

    ```python
    pipeline = Pipeline("greeting")
    pipeline.add_node(Shout()).add_node(OutputNode(print))
    await pipeline.run("hello")
    ```

    Attributes:
        name: The name in metrics, logs and manifests.
    """

    name: str

    def __init__(self, nodes: Sequence[object] | str | None = None, name: str | None = None) -> None:
        """Create an empty pipeline, or a chain of nodes.

        Args:
            nodes: A list of nodes and manifest entries, or the name, as in `Pipeline("voice")`.
            name: The name of the pipeline.

        Raises:
            TypeError: If an entry of the list is neither a node nor a manifest entry.
        """
        if isinstance(nodes, str):
            if name is not None:
                raise TypeError("Pipeline() takes a list of nodes and one name: Pipeline([…], 'x')")
            nodes, name = None, nodes
        elif nodes is not None and not isinstance(nodes, (list, tuple)):
            hint = "; put the node into a list: [node]" if hasattr(nodes, "process") else ""
            raise TypeError(f"Pipeline() takes a list of nodes, not {type(nodes).__name__}{hint}")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"The name of a pipeline must be a str, not {type(name).__name__}")
        self.name = name if name is not None else "pipeline"
        self._entries: list[Entry] = of_list(nodes).entries if nodes else []
        # The upstream nodes of each entry, as given: ids, or node objects that may be added later.
        self._after: list[list[object]] = [list(entry.after) for entry in self._entries]
        self._ids = {entry.id for entry in self._entries}
        self._graph: Graph | None = None
        self._metrics: dict[str, Any] | None = None
        self._blocks: list[Managed] = []

    def add_node(
        self,
        node: object,
        *,
        id: str | None = None,  # noqa: A002 - The public name.
        after: object = None,
        join: bool = False,
        **options: Any,
    ) -> Self:
        """Add a node, and return the pipeline, so that calls can be chained.

        Args:
            node: The object, or a manifest entry.
            id: A unique id; the default is `<name>_<index>`.
            after: The nodes whose outputs it receives: an id, a node object, or a list of them. An empty list
                means the input of the pipeline. The default is the node that was added before.
            join: Pass one dict per input, `{upstream id: output}`, when all nodes in `after` have finished.
            **options: The options of the node, as for `Node.with_options`.

        Raises:
            TypeError: If `node` is not a node, or an argument has the wrong type.
            PipelineError: If the id is in use, an option is unknown, or the node has no `process`.
        """
        given: dict[str, Any] = {}
        if not isinstance(join, bool):
            raise TypeError(f"join must be True or False, not {join!r}")
        if is_manifest_entry(node):
            entry = of_list([node]).entries[0]
            id = id or cast("dict[str, Any]", node).get("id")  # noqa: A001 - As above.
            node, join, given = entry.node, join or entry.join, entry.options
        if isinstance(node, NodeSpec):
            given, node = node.options, node.node
        options = {**given, **options}
        check_node(node, f"Entry {len(self._entries)} of the pipeline", may_be_factory=has_replicas(options))
        node_id = self._new_id(node) if id is None else self._checked_id(id)
        check_options(options, f"Node '{node_id}': ")
        check_fit(node, options, node_id)
        self._ids.add(node_id)
        self._entries.append(Entry(node_id, node, type_name(node), [], join, options))
        self._after.append(self._upstreams(after))
        self._graph = None
        return self

    def get_node(self, name: str) -> Any:
        """Return the node with this id, else the first node with this name, else `None`."""
        index = self._index_of(name)
        return None if index is None else self._entries[index].node

    def remove_node(self, name: str) -> bool:
        """Remove a node and connect its neighbours. Returns whether there was such a node."""
        index = self._index_of(name)
        if index is None:
            return False
        removed, before = self._entries.pop(index), self._after.pop(index)
        self._ids.discard(removed.id)
        self._after = [
            [upstream for one in after for upstream in (before if _means(one, removed) else [one])]
            for after in self._after
        ]
        self._graph = None
        return True

    async def run(
        self,
        input_data: Any = None,
        use_rust: bool = True,  # noqa: FBT001, FBT002 - Positional in the public API.
        *,
        enable_metrics: bool = False,
    ) -> Any:
        """Run the pipeline once, in the task that awaits it.

        `async` nodes, and nodes of a chain with `placement="inline"`, run on the event loop; other `def`
        nodes run on a thread beside it.

        Args:
            input_data: One item, or a list, any other iterable or async iterable of items, or an object with
                `__getitem__` and `__len__`. Text, bytes, dicts and arrays are single items.
            use_rust: `False` uses the reference executor in pure Python.
            enable_metrics: Return `{"outputs": …, "metrics": …}`.

        Returns:
            For a list or stream of items, the list of outputs. For one item or none: `None`, the only output,
            or a list of several.

        Raises:
            PipelineError: If the pipeline cannot run, or the list is empty. No node has been initialized.
            NodeError: If a node fails. Its `__cause__` is the original exception.
        """
        from remotemedia import runtime
        from remotemedia._graph.item_streams import is_stream

        if input_data is None:
            return await runtime.execute_pipeline(self, enable_metrics, use_rust=use_rust)
        run = (
            runtime.execute_pipeline_with_input
            if is_stream(input_data)
            else runtime.execute_pipeline_with_item
        )
        return await run(self, input_data, enable_metrics, use_rust=use_rust)

    def process(self, stream: Any, *, use_rust: bool = True) -> AsyncGenerator[Any, None]:
        """Process a stream, and yield each output as soon as it is ready.

        Args:
            stream: An iterable or async iterable of items. It is read only as far as the outputs that you
                take require.
            use_rust: `False` uses the reference executor in pure Python.
        """
        from remotemedia._session.streamed_run import process

        return process(self, self.to_graph(), stream, use_rust=use_rust)

    def open(self, **options: Any) -> Opening:
        """Open a session: `with pipeline.open() as session:` or `async with pipeline.open() as session:`.

        The nodes are initialized at the start of the block and cleaned up at its end; they keep their state
        between calls. With `with`, nodes without a thread or worker of their own run on the threads that
        call; with `async with`, on the event loop, and `def` nodes without `placement="inline"` beside it.

        Args:
            **options: `enable_metrics`, `queue_size` (64), `stall_warning` (5.0 seconds, `None` for never),
                and options of nodes, as defaults for nodes that do not set them.

        Raises:
            PipelineError: If an option is unknown or out of range, or the pipeline cannot run.
        """
        try:
            from remotemedia._session.opening import Opening
        except ImportError:
            get_rust_runtime()
            raise
        from remotemedia._graph.factories import with_nodes
        from remotemedia._graph.options import session_settings

        settings, defaults = session_settings(options)
        graph = self.to_graph()
        return Opening(with_nodes(graph.with_defaults(defaults) if defaults else graph), settings)

    def managed_execution(self) -> AbstractAsyncContextManager[Pipeline]:
        """Keep the nodes initialized for all runs in an `async with` block."""
        try:
            from remotemedia._session.managed import Managed
        except ImportError:
            get_rust_runtime()
            raise
        return Managed(self, self.to_graph(), self._blocks)

    def get_metrics(self) -> dict[str, Any] | None:
        """Return the metrics of the last run that measured, else `None`."""
        return self._metrics

    def keep_metrics(self, metrics: dict[str, Any] | None) -> None:
        """Store the metrics of a run, for `get_metrics`."""
        self._metrics = metrics

    def serialize(self) -> str:
        """Return the pipeline as the JSON text of a manifest.

        Raises:
            SerializationError: If an argument of a constructor is not a JSON value, or was not recorded.
            PipelineError: If the pipeline cannot run.
        """
        from remotemedia._graph.manifest import dump

        return dump(self.name, self.to_graph().entries)

    @classmethod
    def from_manifest(cls, manifest: str | dict[str, Any] | os.PathLike[str]) -> Self:
        """Create the pipeline that a manifest describes.

        Args:
            manifest: JSON or YAML text, a dict, or a path: a `Path`, or a string that ends in `.json`,
                `.yaml` or `.yml`.

        Raises:
            ManifestError: If the manifest is invalid.
            OSError: If the file cannot be read.
        """
        from remotemedia._graph.graph import MANIFEST_SUFFIXES
        from remotemedia._graph.manifest import load

        if not isinstance(manifest, (str, dict)) and not hasattr(manifest, "__fspath__"):
            raise TypeError(f"A manifest must be a str, a dict or a path, not {type(manifest).__name__}")
        is_path = not isinstance(manifest, (str, dict)) or (
            isinstance(manifest, str)
            and "\n" not in manifest
            and manifest.lower().endswith(MANIFEST_SUFFIXES)
        )
        if is_path:
            with open(manifest, encoding="utf-8-sig") as file:  # type: ignore[arg-type]
                manifest = file.read()
        graph = load(manifest)  # type: ignore[arg-type]
        pipeline = cls(graph.name)
        pipeline._entries = graph.entries
        pipeline._after = [list(entry.after) for entry in graph.entries]
        pipeline._ids = {entry.id for entry in graph.entries}
        return pipeline

    def check(self) -> list[str]:
        """Return one text for each mistake in the pipeline; the list is empty if it can run.

        This includes nodes that are placed in a worker process and cannot be sent there.
        """
        from remotemedia._cli.checks import unsendable

        try:
            return unsendable(self.to_graph())
        except (RemoteMediaError, TypeError) as error:
            return [str(error)]

    def to_graph(self) -> Graph:
        """Return the checked graph that executors run.

        Raises:
            PipelineError: If the pipeline is empty, names what does not exist, or has a cycle.
        """
        if self._graph is None:
            # An object that occurs twice refers to its first entry.
            ids = {id(entry.node): entry.id for entry in reversed(self._entries)}
            for entry, after in zip(self._entries, self._after, strict=True):
                entry.after = [self._id_of(upstream, entry.id, ids) for upstream in after]
            self._graph = graph_of(self.name, list(self._entries))
        graph = Graph(self.name, self._graph.entries, self._graph.source)
        graph.memory = self._graph.memory
        graph.block = next((block for block in self._blocks if block.is_of(graph)), None)
        return graph

    def to_mermaid(self) -> str:
        """Return a drawing of the pipeline as Mermaid text.

        Raises:
            PipelineError: If the pipeline cannot run.
        """
        return self._draw("mermaid")

    @property
    def node_count(self) -> int:
        """Return the number of nodes."""
        return len(self._entries)

    def __len__(self) -> int:
        """Return the number of nodes."""
        return len(self._entries)

    def __bool__(self) -> bool:
        """Return `True`, even for an empty pipeline."""
        return True

    def __iter__(self) -> Iterator[Any]:
        """Iterate over the node objects, in the order in which they were added."""
        return iter([entry.node for entry in self._entries])

    def __repr__(self) -> str:
        """Show the name and the ids."""
        return f"Pipeline({[entry.id for entry in self._entries]}, name={self.name!r})"

    def _repr_html_(self) -> str | None:
        """Return the picture for notebooks."""
        return self._draw("svg") if self._can_be_drawn() else None

    def _repr_mimebundle_(self, **_wanted: Any) -> dict[str, str]:
        """Return the picture for notebooks, in all supported formats."""
        bundle = {"text/plain": repr(self)}
        return {**bundle, "image/svg+xml": self._draw("svg")} if self._can_be_drawn() else bundle

    def _can_be_drawn(self) -> bool:
        try:
            self.to_graph()
        except (RemoteMediaError, TypeError):
            return False
        return True

    def _draw(self, form: str) -> str:
        from remotemedia._core import draw

        return draw(self.to_graph(), form)

    def _new_id(self, node: object) -> str:
        name, index = name_of(node), len(self._entries)
        while f"{name}_{index}" in self._ids:
            index += 1
        return f"{name}_{index}"

    def _checked_id(self, node_id: object) -> str:
        if not isinstance(node_id, str) or not node_id:
            raise TypeError(f"The id of a node must be a str that is not empty, not {node_id!r}")
        if node_id in self._ids:
            raise PipelineError(f"Two nodes have the id '{node_id}'; give each node its own id")
        return node_id

    def _upstreams(self, after: object) -> list[object]:
        if after is None:
            return [self._entries[-2].id] if len(self._entries) > 1 else []
        return list(after) if isinstance(after, (list, tuple)) else [after]

    def _index_of(self, name: str) -> int | None:
        indices = [index for index, entry in enumerate(self._entries) if entry.id == name]
        indices += [index for index, entry in enumerate(self._entries) if name_of(entry.node) == name]
        return indices[0] if indices else None

    def _id_of(self, upstream: object, node_id: str, ids: dict[int, str]) -> str:
        if isinstance(upstream, str):
            return upstream
        if isinstance(upstream, NodeSpec):
            upstream = upstream.node
        found = ids.get(id(upstream))
        if found is None:
            raise PipelineError(
                f"Node '{node_id}' comes after {upstream!r}, which is not a node of pipeline '{self.name}'"
            )
        return found


def _means(upstream: object, entry: Entry) -> bool:
    return upstream == entry.id if isinstance(upstream, str) else upstream is entry.node
