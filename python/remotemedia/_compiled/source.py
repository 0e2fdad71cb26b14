"""The source of kernels, and its code, which graphs of one shape share.

A source contains only the shape of a graph: no name, value or text of the user.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from remotemedia._compiled.body import NO_NODE, Body
from remotemedia._compiled.layout import INPUT, layout_of

if TYPE_CHECKING:
    from types import CodeType, FunctionType

    from remotemedia._compiled.body import Around
    from remotemedia._compiled.forms import Form
    from remotemedia._compiled.layout import Connections, Layout
    from remotemedia._compiled.steps import Step

__all__ = ["KERNEL_FILE", "Source", "source_of"]

KERNEL_FILE = "<remotemedia kernel>"
"""What tracebacks show as the file of kernels."""

_DEEPEST = 17
"""The limit on nested loops; CPython rejects more than 20."""


class Source(NamedTuple):
    """The code of a kernel."""

    text: str
    code: CodeType
    parameters: tuple[str, ...]
    """The names of the objects that the caller binds, in order."""
    functions: tuple[str, ...]
    """Those of the names that are the functions of nodes."""
    node_of_line: list[int]
    """The index of the node that each line calls; lines count from 1."""
    layout: Layout
    around: dict[int, Around]
    """The loops, branches and gates around each node, the outermost first."""
    leaves_none: bool
    """Whether the caller has to remove `None` from the outputs."""
    relies_on_items: bool
    """Whether items that are lazy must not go in."""


@functools.lru_cache(maxsize=128)
def source_of(
    form: Form, steps: tuple[Step, ...], connections: Connections, names: tuple[str, ...]
) -> Source | None:
    """Return the code of a kernel, which graphs of one shape share together with its specialization.

    Args:
        form: What the kernel is called with.
        steps: The nodes, in plan order.
        connections: How they are connected.
        names: The names of the objects that its lines refer to.

    Returns:
        The source, or `None` if its loops are nested too deeply.
    """
    body = Body(form, steps, layout_of(steps, connections))
    body.write_all()
    if body.deepest > _DEEPEST:
        return None
    types = [name for name in (f"t{step.number}" for step in steps) if body.assigns(name)]
    opened = [f"g{step.number}" for step in steps if step.makes_several]
    cells = types if form.remembers else ["stop"] if form.can_stop and opened else []
    # As parameters with defaults, the objects are fast locals, not globals.
    lines_of = () if form.is_async else ("lines",)
    parameters = (*names, *lines_of, *opened, *(() if form.remembers else types))
    head = [f"{form.head} kernel({', '.join([*form.parameters, *parameters])}):"]
    lines, tail = body.lines, []
    if cells:
        head = ["def make():", f"    {' = '.join(cells)} = None", f"    {head[0]}"]
        if form.remembers:
            head.append(f"        nonlocal {', '.join(cells)}")
        lines, tail = [f"    {line}" for line in lines], ["    return kernel"]
    text = "\n".join([*head, *lines, *tail])
    node_of_line = [NO_NODE] * (len(head) + 1) + body.node_of_line + [NO_NODE]
    layout = body.layout
    relies_on_items = form.item == "not lazy" and any(
        steps[node].passes_lazies for node in layout.targets[INPUT]
    )
    functions = tuple(name for name in names if name.startswith("f"))
    return Source(
        text,
        _code(text),
        parameters,
        functions,
        node_of_line,
        layout,
        body.around,
        body.leaves_none,
        relies_on_items,
    )


def _code(text: str) -> CodeType:
    scope: dict[str, FunctionType] = {}
    exec(compile(text, KERNEL_FILE, "exec"), scope)  # noqa: S102 - The text contains nothing of the user.
    kernel = scope["make"]() if "make" in scope else scope["kernel"]
    code: CodeType = kernel.__code__
    return code
