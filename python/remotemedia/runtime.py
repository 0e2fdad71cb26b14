"""Runs pipelines: `execute_pipeline` and `execute_pipeline_with_input`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remotemedia._availability import get_rust_runtime, is_rust_runtime_available, try_load_rust_runtime
from remotemedia._graph.default_item import empty_item
from remotemedia._graph.factories import with_nodes
from remotemedia._graph.graph import resolve
from remotemedia._graph.item_streams import can_be_read, items_of
from remotemedia._graph.output_shape import shape
from remotemedia.core.pipeline import Pipeline
from remotemedia.exceptions import PipelineError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Sequence

    from remotemedia._graph.graph import Graph
    from remotemedia._session.managed import Managed

    PipelineLike = Pipeline | Sequence[object] | dict[str, Any] | str
    Result = tuple[list[Any], dict[str, Any] | None]

__all__ = [
    "execute_pipeline",
    "execute_pipeline_with_input",
    "get_rust_runtime",
    "is_rust_runtime_available",
    "try_load_rust_runtime",
]


async def execute_pipeline(
    pipeline: PipelineLike,
    enable_metrics: bool = False,  # noqa: FBT001, FBT002 - Positional in the public API.
    *,
    use_rust: bool = True,
    executor: str | None = None,
) -> Any:
    """Run a pipeline once without input: on the items of its source, or on one empty item.

    `async` nodes, and nodes of a chain with `placement="inline"`, run on the event loop; other `def` nodes
    run on a thread beside it.

    The empty item has the type of the first annotated `process` in the pipeline: `""` for `str`, 0 for
    numbers, an empty list, dict and so on. Without annotations, it is `""`.

    Args:
        pipeline: A `Pipeline`, a list of nodes, a manifest (dict or text), or a list mixing nodes and
            manifest entries.
        enable_metrics: Return `{"outputs": …, "metrics": …}`.
        use_rust: `False` uses the reference executor in pure Python, with the same results and errors.
        executor: `"multiprocess"` runs every node without its own placement in a worker process.

    Returns:
        `None` if there is no output, the output if there is one, else the list of outputs.

    Raises:
        TypeError: If `pipeline` is not a pipeline.
        PipelineError: If the pipeline cannot run. No node has been initialized.
        NodeError: If a node fails. Its `__cause__` is the original exception; `node_id` names the node.
    """
    graph = resolve(pipeline, executor=executor)
    feed = [empty_item(graph)] if graph.source is None else None
    outputs, metrics = await run_graph(graph, feed, enable_metrics=enable_metrics, use_rust=use_rust)
    return _returned(pipeline, shape(outputs), metrics)


async def execute_pipeline_with_input(
    pipeline: PipelineLike,
    input_data: Any,
    enable_metrics: bool = False,  # noqa: FBT001, FBT002 - Positional in the public API.
    *,
    use_rust: bool = True,
    executor: str | None = None,
) -> Any:
    """Run a pipeline once on a list or stream of items.

    `async` nodes, and nodes of a chain with `placement="inline"`, run on the event loop; other `def` nodes
    run on a thread beside it.

    Args:
        pipeline: As for `execute_pipeline`.
        input_data: A list or any other iterable or async iterable of items; it is read as items are needed.
        enable_metrics: Return `{"outputs": …, "metrics": …}`.
        use_rust: `False` uses the reference executor in pure Python, with the same results and errors.
        executor: `"multiprocess"` runs every node without its own placement in a worker process.

    Returns:
        The list of outputs, in the order of the input.

    Raises:
        TypeError: If `pipeline` is not a pipeline, or `input_data` is a single item.
        PipelineError: If the pipeline cannot run, or the input is an empty list. No node has been
            initialized.
        NodeError: If a node fails. Its `__cause__` is the original exception; `node_id` and `item_index`
            identify the node and the item.
    """
    graph = resolve(pipeline, executor=executor)
    check_takes_input(graph, input_data)
    if hasattr(type(input_data), "__len__") and not len(input_data):
        raise PipelineError(f"The input of pipeline '{graph.name}' is empty; pass at least one item")
    outputs, metrics = await run_graph(graph, input_data, enable_metrics=enable_metrics, use_rust=use_rust)
    return _returned(pipeline, outputs, metrics)


async def execute_pipeline_with_item(
    pipeline: PipelineLike,
    item: Any,
    enable_metrics: bool = False,  # noqa: FBT001, FBT002 - As the two above.
    *,
    use_rust: bool = True,
) -> Any:
    """Run a pipeline once on one item; returns the same forms as `execute_pipeline`."""
    graph = resolve(pipeline)
    check_takes_input(graph, [item])
    outputs, metrics = await run_graph(graph, [item], enable_metrics=enable_metrics, use_rust=use_rust)
    return _returned(pipeline, shape(outputs), metrics)


def run_graph(
    graph: Graph, feed: Any, *, enable_metrics: bool, use_rust: bool
) -> Coroutine[Any, Any, Result]:
    """Run a checked graph on the engine or on the reference executor; return the outputs and the metrics.

    Each coroutine around the nodes costs time whenever one of them suspends, so there is none here.
    """
    feed = items_of(feed)
    # Not with metrics, because the session of a block measures all of its runs together.
    if use_rust and not enable_metrics and graph.block is not None and graph.block.takes_runs():
        return _run_in_block(graph.block, feed)
    graph = with_nodes(graph)
    if not use_rust:
        from remotemedia._reference import executor

        return executor.run(graph, feed, enable_metrics)
    try:
        from remotemedia._loop import run as run_on_loop
        from remotemedia._loop.places import can_measure, metrics_of, on_loop
        from remotemedia._session import run
    except ImportError:
        get_rust_runtime()
        raise
    is_readable = run_on_loop.takes(feed)
    ordered = on_loop(graph, is_run=True) if is_readable else None
    if ordered is not None and (not enable_metrics or can_measure(ordered, is_run=True)):
        running = run_on_loop.run(ordered, feed, metrics_of(ordered) if enable_metrics else None)
    else:
        running = run.run(graph, feed, enable_metrics)
    return _advised(graph, running, is_readable=is_readable) if enable_metrics else running


async def _run_in_block(block: Managed, feed: Any) -> Result:
    return [output async for output in block.run(feed)], None


async def _advised(graph: Graph, running: Awaitable[Result], *, is_readable: bool) -> Result:
    outputs, metrics = await running
    if metrics is not None:
        metrics["advice"] = _advice(graph, metrics) if is_readable else []
    return outputs, metrics


def _advice(graph: Graph, metrics: dict[str, Any]) -> list[str]:
    """Return what the times of a run say about runs that do not measure."""
    from remotemedia._loop.advice import ITEM_HOP_US, advise

    is_run = graph.block is None or not graph.block.takes_runs()
    return advise(graph, metrics, is_run=is_run, hop_us=ITEM_HOP_US)


def check_takes_input(graph: Graph, stream: Any) -> None:
    """Reject input for a pipeline with a source, and input that is not a stream of items.

    Raises:
        PipelineError: If the pipeline has a source.
        TypeError: If the input is a single item.
    """
    if graph.source is not None:
        what = f"Pipeline '{graph.name}' starts with a source, node '{graph.source.id}', and takes no input"
        raise PipelineError(f"{what}; run it without input")
    if stream is None:
        raise TypeError(
            "The input must be a list or another iterable of items, not None; "
            "call execute_pipeline() to run without input"
        )
    if not can_be_read(stream):
        kind = type(stream).__name__
        raise TypeError(
            f"The input must be a list or another iterable of items, not one {kind}; "
            "put it into a list: [item]"
        )


def _returned(pipeline: object, outputs: Any, metrics: dict[str, Any] | None) -> Any:
    if metrics is None:
        return outputs
    if isinstance(pipeline, Pipeline):
        pipeline.keep_metrics(metrics)
    return {"outputs": outputs, "metrics": metrics}
