"""The lines of a kernel: nested loops, branches and gates around the lines of its nodes.

Each node has its lines once. The lines of the nodes behind it follow, one level deeper if it is a generator,
so an output passes through before the next one is made. What ends an item early is the statement `leave`.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from remotemedia._compiled.layout import INPUT
from remotemedia._compiled.steps import lines_of, opening_lines, test_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from remotemedia._compiled.forms import Form
    from remotemedia._compiled.layout import Layout
    from remotemedia._compiled.steps import Item, Step

    Around = tuple[tuple[str, int, tuple[int, ...]], ...]

__all__ = ["BRANCHES", "GATE", "NO_NODE", "STREAM", "Body"]

NO_NODE = -1
"""The node of a line that belongs to none."""

_BREATHING_SPACE = 64
"""The items between two calls of `turns.breathe`."""

# What may be around a node: the loop over a generator, the branches of a node that are next, and a gate that
# passes on its items.
STREAM, BRANCHES, GATE = "stream", "branches", "gate"


class Body:
    """The lines of a kernel below its head."""

    def __init__(self, form: Form, steps: tuple[Step, ...], layout: Layout) -> None:
        """Begin with no lines."""
        self.layout = layout
        self.lines: list[str] = []
        self.node_of_line: list[int] = []
        self.around: dict[int, Around] = {}
        self.leaves_none = False
        self.deepest = 0
        self._form = form
        self._steps = steps
        self._loops = 0
        # Nodes cannot change inside the loop if it runs no code of others.
        self._is_tested_once = (
            form.loop == "for x in items:" and not form.yields and all(step.is_inlined for step in steps)
        )

    def assigns(self, name: str) -> bool:
        """Whether a line assigns to this variable."""
        return any(f"{name} = " in line for line in self.lines)

    def write_all(self) -> None:
        """Write the lines for all items."""
        form = self._form
        if self._is_tested_once:
            for step in self._steps:
                self._write(1, test_lines(step), step.number)
        if form.loop is None:
            self._write_item(1, form.leave)
        elif not form.counts:
            if not form.parameters:
                # Items are sent, and what is yielded first is not used.
                self._write(1, ["x = None"])
            self._write(1, [form.loop])
            if not form.parameters:
                self._write(2, ["x = yield x"])
            self._write_loop(2, form.leave, self._write_item)
            if not form.parameters:
                self._write(2, ["x = None"])
        elif not form.yields:
            self._write(1, ["position = 0"])
            self._write_counted(1, form.loop)
            self._write(1, ["return position"])
        else:
            self._write(1, ["position = 0", "while True:", "    try:"])
            self._write_counted(3, form.loop)
            self._write(2, ["except BaseException as error: turns.catch(error)"])
            self._write(2, ["async for x in turns.rest(position):"])
            self._write(3, form.end.split("\n"))
            self._write(2, ["if turns.is_ended: return", "position += 1"])

    def _write_counted(self, depth: int, loop: str) -> None:
        self._write(depth, [loop])
        self._write(depth + 1, ["if turns.is_shared: await turns.enter()"])
        # The lines after this block count the item.
        self._write_block(depth + 1, self._write_item)
        self._write(depth + 1, ["position += 1", "if turns.is_shared: turns.leave()"])
        self._write(depth + 1, [f"if not position & {_BREATHING_SPACE - 1}: await turns.breathe()"])

    def _write(self, depth: int, lines: list[str], node: int = NO_NODE) -> None:
        self.lines += ["    " * depth + line for line in lines]
        self.node_of_line += [node] * len(lines)

    def _write_loop(self, depth: int, leave: str, write: Callable[[int, str], None]) -> None:
        self._loops += 1
        self.deepest = max(self.deepest, self._loops)
        write(depth, leave)
        self._loops -= 1

    def _write_block(self, depth: int, write: Callable[[int, str], None]) -> None:
        """Write lines that `break` leaves. The loop costs nothing."""
        self._write(depth, ["while True:"])
        self._write_loop(depth + 1, "break", write)
        self._write(depth + 1, ["break"])

    def _write_item(self, depth: int, leave: str) -> None:
        """Write the lines for one item, which `leave` leaves."""
        layout = self.layout
        self._write(depth, self._empty_lines())
        sections: list[Callable[[int, str], None]] = [self._write_input]
        sections += [functools.partial(self._write_gate, gate) for gate in layout.gates]
        if layout.has_several_ends:
            sections.append(self._write_ends)
        for section in sections[:-1]:
            self._write_block(depth, section)
        sections[-1](depth, leave)

    def _empty_lines(self) -> list[str]:
        """Return the lines that empty the variables for the items of gates."""
        layout = self.layout
        single: list[str] = []
        several: list[str] = []
        flags: list[str] = []
        for gate in layout.gates:
            for node in layout.after[gate]:
                (single if layout.is_variable(gate, node) else several).append(f"b{gate}_{node}")
            flags += [f"e{node}" for node in layout.entered(gate)]
        if layout.has_several_ends:
            for node in layout.ends:
                (single if layout.is_single[node] else several).append(f"o{node}")
        lines = [f"{name} = []" for name in several]
        for names, value in ((single, "None"), (list(dict.fromkeys(flags)), "False")):
            lines += [f"{' = '.join(names)} = {value}"] if names else []
        return lines

    def _write_input(self, depth: int, leave: str) -> None:
        self._send(INPUT, depth, leave, self._form.item, ())

    def _write_gate(self, gate: int, depth: int, leave: str) -> None:
        """Write the lines that pass the collected items of a gate to its node."""
        layout = self.layout
        branches = {node: f"b{gate}_{node}" for node in layout.after[gate]}
        if not layout.joins[gate]:
            parts = ", ".join(f"*{name}" for name in branches.values())
            self._write(depth, [f"i{gate} = iter(({parts}))", f"for x in i{gate}:"], gate)
            item: Item = "unknown" if any(self._steps[node].makes_several for node in branches) else "plain"
            write = functools.partial(self._write_node, gate, item=item, around=((GATE, gate, ()),))
            self._write_loop(depth + 1, "continue", write)
            return
        flags = [f"e{node}" for node in layout.entered(gate)]
        if flags:
            self._write(depth, [f"if {' or '.join(flags)}:"], gate)
            depth += 1
        values = {
            node: name if layout.is_variable(gate, node) else f"shape({name})"
            for node, name in branches.items()
        }
        pairs = ", ".join(f"k{node}: {value}" for node, value in values.items())
        self._write(depth, [f"x = {{{pairs}}}"], gate)
        self._write_node(gate, depth, leave, "plain", ())

    def _write_ends(self, depth: int, leave: str) -> None:
        """Write the lines that pass on the collected outputs of several last nodes."""
        del leave
        for node in self.layout.ends:
            if self.layout.is_single[node]:
                self._write(depth, [f"x = o{node}", "if x is not None:"], node)
            else:
                self._write(depth, [f"for x in o{node}:"], node)
            self._write(depth + 1, self._form.end.split("\n"), node)

    def _write_node(self, node: int, depth: int, leave: str, item: Item, around: Around) -> None:
        """Write the lines that pass `x` through a node, and its outputs to the nodes behind it."""
        step = self._steps[node]
        self.around[node] = around
        if node in self.layout.flagged:
            self._write(depth, [f"e{node} = True"], node)
        if not self._is_tested_once:
            self._write(depth, test_lines(step), node)
        if step.makes_several:
            self._write(depth, opening_lines(step), node)
            if self._form.can_stop:
                self._write(depth + 1, ["if stop: raise StoppedError"], node)
            write = functools.partial(self._send, node, item="unknown", around=(*around, (STREAM, node, ())))
            self._write_loop(depth + 1, "continue", write)
            return
        lines = lines_of(step, item, leave, self._form)
        is_last = not self.layout.targets[node] and not self.layout.has_several_ends
        if is_last and self._form.keeps_none and not step.returns.is_sometimes_none:
            self.leaves_none = lines[-1:] == [f"if x is None: {leave}"]
            self._write(depth, _last_lines(lines, leave), node)
            return
        self._write(depth, lines, node)
        self._send(node, depth, leave, "plain", around)

    def _send(self, node: int, depth: int, leave: str, item: Item, around: Around) -> None:
        """Write the lines that pass `x`, an output of a node, to those behind it."""
        targets = self.layout.targets[node]
        if not targets:
            self._write(depth, self._end_of(node).split("\n"), node)
            return
        if len(targets) > 1:
            self._write(depth, [f"{_variable(node)} = x"], node)
        for place, target in enumerate(targets):
            if place:
                self._write(depth, [f"x = {_variable(node)}"], node)
            rest = tuple(targets[place + 1 :])
            if target in self.layout.gates:
                name = f"b{target}_{node}"
                is_variable = self.layout.is_variable(target, node)
                self._write(depth, [f"{name} = x" if is_variable else f"{name}.append(x)"], node)
            elif rest:
                inside = (*around, (BRANCHES, node, rest))
                write = functools.partial(self._write_node, target, item=item, around=inside)
                self._write_block(depth, write)
            else:
                self._write_node(target, depth, leave, item, around)

    def _end_of(self, node: int) -> str:
        if not self.layout.has_several_ends:
            return self._form.end
        return f"o{node} = x" if self.layout.is_single[node] else f"o{node}.append(x)"


def _variable(node: int) -> str:
    """Return the variable for an output that several nodes receive."""
    return "v" if node == INPUT else f"v{node}"


def _last_lines(lines: list[str], leave: str) -> list[str]:
    """Return the lines of the last node, of whose results the caller removes `None`."""
    if lines and lines[-1] == f"if x is None: {leave}" and len(lines) > 1:
        lines = lines[:-1]
    if lines and lines[-1].startswith("x = "):
        return [*lines[:-1], f"outputs.append({lines[-1].removeprefix('x = ')})"]
    return [*lines, "outputs.append(x)"]
