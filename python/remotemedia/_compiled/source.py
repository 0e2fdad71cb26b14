"""The source of kernels: loops around the lines of their nodes.

A source contains only the shape of a chain: no name, value or text of the user.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from remotemedia._compiled.steps import lines_of, opening_lines, test_lines

if TYPE_CHECKING:
    from types import CodeType, FunctionType

    from remotemedia._compiled.steps import Item, Step

__all__ = ["CHUNK", "MANY", "MOST_GENERATORS", "NO_NODE", "ONE", "STREAM", "Form", "Source", "source_of"]

BREATHING_SPACE = 64
"""The items between two calls of `breathe`."""

NO_NODE = -1
"""The node of a line that belongs to none."""

MOST_GENERATORS = 16
"""The limit on nested loops in a kernel; CPython rejects more than 20."""


class Form(NamedTuple):
    """What a kernel is called with and how it is called."""

    head: str
    parameters: tuple[str, ...]
    loop: str | None
    item: Item
    """What is known of the items that go in."""
    end: str
    """The statement that passes on an output."""
    keeps_none: bool = False
    """Whether `None` of the last node is an output; the caller then removes it."""


CHUNK = Form("def", ("items", "outputs"), "for x in items:", "not lazy", "outputs.append(x)", keeps_none=True)
"""A chunk of items that are not lazy, without await."""
MANY = Form("async def", ("items", "outputs"), "for x in items:", "unknown", "outputs.append(x)")
STREAM = Form(
    "async def", ("items", "outputs", "breathe"), "async for x in items:", "unknown", "outputs.append(x)"
)
ONE = Form("async def", ("x",), None, "unknown", "return x")


class Source(NamedTuple):
    """The code of a kernel."""

    text: str
    code: CodeType
    parameters: tuple[str, ...]
    """The names of the objects that the caller binds, in order."""
    node_of_line: list[int]
    """The index of the node that each line calls; lines count from 1."""


@functools.lru_cache(maxsize=128)
def source_of(form: Form, steps: tuple[Step, ...], names: tuple[str, ...]) -> Source:
    """Return the code of a kernel, which chains of one shape share together with its specialization.

    Args:
        form: What the kernel is called with.
        steps: The nodes.
        names: The names of the objects that its lines refer to.
    """
    body = _Body(form)
    body.write_chain(steps, 1 if form.loop is None else 2)
    opened = [f"g{step.number}" for step in steps if step.makes_several]
    types = [f"t{step.number}" for step in steps]
    types = [name for name in types if any(f"{name} = " in line for line in body.lines)]
    # As parameters with defaults, the objects are fast locals, not globals.
    parameters = (*names, *opened) if form is ONE else (*names, *opened, *types)
    head = [f"{form.head} kernel({', '.join([*form.parameters, *parameters])}):"]
    if form is ONE and types:
        # The types are remembered from one call to the next.
        first = f"    {' = '.join(types)} = None"
        head = ["def make():", first, f"    {head[0]}", f"        nonlocal {', '.join(types)}"]
        body.lines = [f"    {line}" for line in body.lines]
        body.lines.append("    return kernel")
        body.node_of_line.append(NO_NODE)
    text = "\n".join([*head, *body.lines])
    return Source(text, _code(text), parameters, [NO_NODE] * (len(head) + 1) + body.node_of_line)


class _Body:
    """The lines of a kernel below its head."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.lines: list[str] = []
        self.node_of_line: list[int] = []

    def write(self, depth: int, lines: list[str], node: int = NO_NODE) -> None:
        self.lines += ["    " * depth + line for line in lines]
        self.node_of_line += [node] * len(lines)

    def write_chain(self, steps: tuple[Step, ...], depth: int) -> None:
        form = self.form
        # Nodes cannot change inside the loop if it runs no code of others.
        is_tested_once = form.loop == "for x in items:" and all(step.is_inlined for step in steps)
        if is_tested_once:
            for step in steps:
                self.write(1, test_lines(step), step.number)
        if form.loop is not None:
            if form is STREAM:
                self.write(1, ["position = 0"])
            self.write(1, [form.loop])
        leave = "return None" if form is ONE else "continue"
        if form is STREAM:
            # The lines after this block count the item, so `break` ends it.
            self.write(depth, ["while True:"])
            depth, leave = depth + 1, "break"
        self._write_steps(steps, depth, leave, is_tested=is_tested_once)
        if form is STREAM:
            self.write(depth, ["break"])
            depth -= 1
            self.write(depth, ["position += 1", f"if not position & {BREATHING_SPACE - 1}: await breathe()"])

    def _write_steps(self, steps: tuple[Step, ...], depth: int, leave: str, *, is_tested: bool) -> None:
        item = self.form.item
        for step in steps:
            if not is_tested:
                self.write(depth, test_lines(step), step.number)
            if step.makes_several:
                self.write(depth, opening_lines(step), step.number)
                depth, leave, item = depth + 1, "continue", "unknown"
                continue
            is_last = step is steps[-1]
            lines = lines_of(step, item, leave)
            if is_last and self.form.keeps_none:
                self.write(depth, _last_lines(lines, leave), step.number)
                return
            self.write(depth, lines, step.number)
            item = "plain"
        self.write(depth, [self.form.end], steps[-1].number)


def _last_lines(lines: list[str], leave: str) -> list[str]:
    """Return the lines of the last node, of whose results the caller removes `None`."""
    if lines and lines[-1] == f"if x is None: {leave}" and len(lines) > 1:
        lines = lines[:-1]
    if lines and lines[-1].startswith("x = "):
        return [*lines[:-1], f"outputs.append({lines[-1].removeprefix('x = ')})"]
    return [*lines, "outputs.append(x)"]


def _code(text: str) -> CodeType:
    scope: dict[str, FunctionType] = {}
    exec(compile(text, "<remotemedia kernel>", "exec"), scope)  # noqa: S102 - The text contains nothing of the user.
    kernel = scope["make"]() if "make" in scope else scope["kernel"]
    code: CodeType = kernel.__code__
    return code
