"""Which modules a worker cannot import: what is defined in them crosses by value.

A worker is a new interpreter with the same `sys.path`. It finds what the import system finds on its own, and
nothing of what this program has added: hooks, modules that it has loaded from a file itself, or made.
"""

from __future__ import annotations

import os
import site
import sys
from functools import cache
from importlib.machinery import (
    BuiltinImporter,
    ExtensionFileLoader,
    FrozenImporter,
    ModuleSpec,
    SourceFileLoader,
    SourcelessFileLoader,
)
from types import BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType
from typing import TYPE_CHECKING, Any

from remotemedia._interpreter import import_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import ModuleType

__all__ = ["find_only_here"]

_OF_INTERPRETER = (BuiltinImporter, FrozenImporter)

_COMPILED = (BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType)

_FILE_LOADERS = frozenset({SourceFileLoader, SourcelessFileLoader, ExtensionFileLoader})

# Whatever else a worker is, it is one of this package, which the host finds in itself.
_OWN = __name__.partition(".")[0]

# The modules that were looked at, and those among them that no other process can import.
_looked_at: set[str] = {"__main__", "__mp_main__"}
_only_here: set[str] = set()


def find_only_here() -> set[str]:
    """The names of those modules; what is inside of a package among them is not listed."""
    new = [name for name in [*sys.modules] if name not in _looked_at]
    if new:
        places = {os.path.abspath(place) for place in import_path()}
        # A package comes before what is inside it.
        for name in sorted(new):
            _looked_at.add(name)
            module = sys.modules.get(name)
            is_inside = any(package in _only_here for package in _packages_of(name))
            if module is None or is_inside or name.partition(".")[0] == _OWN:
                continue
            if not _can_be_imported(name, module, places):
                _only_here.add(name)
    return _only_here


def _packages_of(name: str) -> Iterator[str]:
    package = name.rpartition(".")[0]
    while package:
        yield package
        package = package.rpartition(".")[0]


def _can_be_imported(name: str, module: ModuleType, places: set[str]) -> bool:
    try:
        fields = vars(module)
        if fields.get("__name__") != name:
            return True  # Another name of a module, whose own name counts.
        spec = fields.get("__spec__")
        if getattr(spec, "loader", None) in _OF_INTERPRETER:
            return True
        package = name.rpartition(".")[0]
        path = _path_of(package)
        if spec is not None and _is_installed_at(spec, places if path is None else path):
            return True
        # What is no package has nothing inside it that could be found.
        found = None if package and path is None else _find(name, path)
        if found is not None:
            return _is_same(found, spec, fields)
        return _is_compiled(name, fields) or _is_of_package(name, spec, fields)
    except Exception:  # noqa: BLE001 - Odd things stand in for modules. Those that tell nothing are left alone.
        return True


def _path_of(package: str) -> Sequence[str] | None:
    """Where modules in a package are looked for; nothing for those that are in none."""
    path = getattr(sys.modules.get(package), "__path__", None) if package else None
    return None if path is None else [*path]


def _is_installed_at(spec: ModuleSpec, places: Any) -> bool:
    """Whether a module is where its name says, among what is installed. Most are, which is quick to see."""
    if not spec.origin or not _is_installed(spec.origin):
        return False
    directory, _, file = spec.origin.rpartition("/")
    stem = file.partition(".")[0]
    if spec.submodule_search_locations is not None and stem == "__init__":
        directory, _, stem = directory.rpartition("/")
    return stem == spec.name.rpartition(".")[2] and directory in places


def _is_installed(file: str) -> bool:
    return file.startswith(_installed_places())


@cache
def _installed_places() -> tuple[str, ...]:
    places = [os.path.dirname(os.__file__), *site.getsitepackages(), site.getusersitepackages()]
    return tuple(os.path.join(place, "") for place in places)


def _find(name: str, path: Sequence[str] | None) -> ModuleSpec | None:
    """What an import in a new process would find."""
    for finder in sys.meta_path:
        if _is_there_from_the_start(finder):
            spec = finder.find_spec(name, path)
            if spec is not None and _is_loaded_as_usual(spec):
                return spec
    return None


def _is_loaded_as_usual(spec: ModuleSpec) -> bool:
    """Whether it is loaded without a hook of this program's in `sys.path_hooks`."""
    if spec.loader is None:
        return True
    kind: type = type(spec.loader)
    return kind in _FILE_LOADERS or kind.__module__ in {"zipimport", "_frozen_importlib_external"}


def _is_there_from_the_start(finder: object) -> bool:
    """Whether a finder is there as soon as an interpreter is: its own, and those of installed packages."""
    kind = finder if isinstance(finder, type) else type(finder)
    module = kind.__module__
    if module in {"_frozen_importlib", "_frozen_importlib_external"}:
        return True
    return module in {"sitecustomize", "usercustomize"} or module in _imported_at_start()


@cache
def _imported_at_start() -> frozenset[str]:
    """The modules that `.pth` files import: those of editable installs, of setuptools and of virtualenv."""
    found: set[str] = set()
    for place in _installed_places():
        try:
            names = [name for name in os.listdir(place) if name.endswith(".pth")]
            for name in names:
                with open(os.path.join(place, name), encoding="utf-8", errors="replace") as file:
                    lines = [line for line in file if line.startswith(("import ", "import\t"))]
                found.update(word.strip("'\";,()") for line in lines for word in line.split())
        except OSError:  # It is not there, or not to be read: then it does nothing at the start, either.
            continue
    # `import a; a.install()`, `__import__('a')`: whatever is called like a module that is here.
    return frozenset(word for word in found if word in sys.modules)


def _is_same(found: ModuleSpec, spec: ModuleSpec | None, fields: Mapping[str, Any]) -> bool:
    file = fields.get("__file__") or (spec.origin if spec is not None and spec.has_location else None)
    if file is None:
        if spec is not None and spec.submodule_search_locations is not None:
            # A package without a file of its own.
            return not {*spec.submodule_search_locations}.isdisjoint(found.submodule_search_locations or ())
        # One that has put something else in its own place, as modules do that load lazily.
        return spec is None
    return found.origin is not None and os.path.realpath(found.origin) == os.path.realpath(file)


def _is_compiled(name: str, fields: Mapping[str, Any]) -> bool:
    """Whether a module is none of Python's making, which cannot cross by value."""
    for value in [*fields.values()]:
        if getattr(value, "__module__", None) == name:
            members = vars(value).values() if isinstance(value, type) else [value]
            if any(isinstance(member, _COMPILED) for member in members):
                return True
    return False


def _is_of_package(name: str, spec: ModuleSpec | None, fields: Mapping[str, Any]) -> bool:
    """Whether an installed package makes a module as it is imported."""
    has_file = "__file__" in fields or (spec is not None and spec.has_location)
    root = sys.modules.get(name.partition(".")[0])
    origin = getattr(getattr(root, "__spec__", None), "origin", None)
    return not has_file and "." in name and origin is not None and _is_installed(origin)
