"""Modules do not import each other in cycles, and packages import each other in one direction."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT = Path(__file__).parents[2]
CRATES = ["commands", "ffi", "host-cli", "runtime"]

Imports = dict[str, set[str]]


def python_modules() -> dict[str, Path]:
    package = ROOT / "python/remotemedia"
    names = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run when the module is imported."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            yield from statements(statement.orelse)
        elif isinstance(statement, ast.If | ast.Try | ast.With):
            yield from statements(statement.body)
            yield from statements(getattr(statement, "orelse", []))


def python_imports() -> Imports:
    modules = python_modules()
    imports: Imports = {}
    for name, path in modules.items():
        found = imports[name] = set()
        for statement in statements(ast.parse(path.read_text(encoding="utf-8")).body):
            if isinstance(statement, ast.Import):
                found |= {alias.name for alias in statement.names}
            elif isinstance(statement, ast.ImportFrom) and statement.module:
                for alias in statement.names:
                    inner = f"{statement.module}.{alias.name}"
                    found.add(inner if inner in modules else statement.module)
        found &= modules.keys()
        found.discard(name)
    return imports


def rust_modules(crate: str) -> dict[str, Path]:
    source = ROOT / "crates" / crate / "src"
    names = {}
    for path in sorted(source.rglob("*.rs")):
        parts = path.relative_to(source).with_suffix("").parts
        if parts[-1] in {"mod", "lib", "main"}:
            parts = parts[:-1]
        names["::".join(("crate", *parts))] = path
    return names


def rust_imports(crate: str) -> Imports:
    modules = rust_modules(crate)
    imports: Imports = {}
    for name, path in modules.items():
        # The tests of a module may use anything.
        text = path.read_text(encoding="utf-8").split("#[cfg(test)]")[0]
        text = re.sub(r"//.*", "", text)
        found = imports[name] = set()
        for match in re.finditer(r"\b(crate|super|self)((?:::\w+)*)(?:::\{([^;]*?)\})?", text):
            base = name.split("::")
            if match[1] == "crate":
                base = ["crate"]
            elif match[1] == "super":
                base = base[:-1]
            start = [*base, *filter(None, match[2].split("::"))]
            for leaf in re.findall(r"[\w:]+", match[3] or "") or [""]:
                path_of_leaf = [*start, *filter(None, leaf.split("::"))]
                while len(path_of_leaf) > 1 and "::".join(path_of_leaf) not in modules:
                    path_of_leaf.pop()
                found.add("::".join(path_of_leaf))
        found.discard(name)
        # A module may import its submodules, and they may import it.
        found -= {
            module for module in found if module.startswith(f"{name}::") or name.startswith(f"{module}::")
        }
    return imports


def circles(imports: Imports) -> list[list[str]]:
    """Return the sets of modules that import each other, by Tarjan's algorithm."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = lowest[module] = len(number)
        stack.append(module)
        for other in sorted(imports.get(module, ())):
            if other not in number:
                visit(other)
                lowest[module] = min(lowest[module], lowest[other])
            elif other in stack:
                lowest[module] = min(lowest[module], number[other])
        if lowest[module] == number[module]:
            place = stack.index(module)
            circle = sorted(stack[place:])
            del stack[place:]
            if len(circle) > 1:
                found.append(circle)

    for module in sorted(imports):
        if module not in number:
            visit(module)
    return found


def test_modules_of_the_package_import_each_other_in_no_circle() -> None:
    assert circles(python_imports()) == []


@pytest.mark.parametrize("crate", CRATES)
def test_modules_of_a_crate_import_each_other_in_no_circle(crate: str) -> None:
    assert circles(rust_imports(crate)) == []


@pytest.mark.parametrize("crate", CRATES)
def test_modules_of_a_crate_import_from_the_defining_module(crate: str) -> None:
    """Not through `lib.rs`: such imports hide the dependencies between modules."""
    through_lib = [
        name
        for name, path in rust_modules(crate).items()
        if name != "crate" and re.search(r"(?m)^ *use crate::(\{[^;]*)?\b[A-Z]", path.read_text("utf-8"))
    ]
    assert through_lib == []


@pytest.mark.parametrize(
    ("room", "unknown"),
    [
        ("worker::child", "worker::parent"),
        ("worker::parent", "worker::child"),
        ("worker::parent::process", "worker::parent::client"),
        ("worker::protocol", "worker::parent"),
        ("worker::protocol", "worker::child"),
        ("session::queues", "session::stages"),
        ("execution", "session"),
        ("execution", "worker"),
    ],
)
def test_packages_import_each_other_in_one_direction(room: str, unknown: str) -> None:
    imports = rust_imports("runtime")
    wrong = {
        (module, other)
        for module, others in imports.items()
        if module.startswith(f"crate::{room}")
        for other in others
        if other.startswith(f"crate::{unknown}")
    }
    assert wrong == set()


def test_a_circle_is_found() -> None:
    imports = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}

    assert circles(imports) == [["b", "c"]]
