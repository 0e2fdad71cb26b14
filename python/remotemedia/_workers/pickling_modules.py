"""Finds modules that a worker cannot import; their definitions are sent by value.

A worker is a new interpreter with the same `sys.path`. It lacks what this program has added to the import
system: hooks, modules that it has loaded from files, and modules that it has created.
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

# Every worker has this package, which the host contains.
_OWN = __name__.partition(".")[0]

# The checked modules, and those of them that no other process can import.
_looked_at: set[str] = {"__main__", "__mp_main__"}
_only_here: set[str] = set()


def find_only_here() -> set[str]:
    """Return the names of these modules; modules in such a package are not listed."""
    new = [name for name in [*sys.modules] if name not in _looked_at]
    if new:
        places = {os.path.abspath(place) for place in import_path()}
        # A package comes before its modules.
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
            return True  # An alias of a module, whose own name counts.
        spec = fields.get("__spec__")
        if getattr(spec, "loader", None) in _OF_INTERPRETER:
            return True
        package = name.rpartition(".")[0]
        path = _path_of(package)
        if spec is not None and _is_installed_at(spec, places if path is None else path):
            return True
        # Only a package contains modules.
        found = None if package and path is None else _find(name, path)
        if found is not None:
            return _is_same(found, spec, fields)
        return _is_compiled(name, fields) or _is_of_package(name, spec, fields)
    except Exception:  # noqa: BLE001 - `sys.modules` may contain any object; such entries are ignored.
        return True


def _path_of(package: str) -> Sequence[str] | None:
    """Return the search path of a package; nothing for top-level modules."""
    path = getattr(sys.modules.get(package), "__path__", None) if package else None
    return None if path is None else [*path]


def _is_installed_at(spec: ModuleSpec, places: Any) -> bool:
    """Whether a module is installed in the place that its name implies, which is a quick check."""
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
    """Return what an import in a new process would find."""
    for finder in sys.meta_path:
        if _is_there_from_the_start(finder):
            spec = finder.find_spec(name, path)
            if spec is not None and _is_loaded_as_usual(spec):
                return spec
    return None


def _is_loaded_as_usual(spec: ModuleSpec) -> bool:
    """Whether a module is loaded without a hook that this program has added to `sys.path_hooks`."""
    if spec.loader is None:
        return True
    kind: type = type(spec.loader)
    return kind in _FILE_LOADERS or kind.__module__ in {"zipimport", "_frozen_importlib_external"}


def _is_there_from_the_start(finder: object) -> bool:
    """Whether a finder exists from the start of an interpreter: built in, or of an installed package."""
    kind = finder if isinstance(finder, type) else type(finder)
    module = kind.__module__
    if module in {"_frozen_importlib", "_frozen_importlib_external"}:
        return True
    return module in {"sitecustomize", "usercustomize"} or module in _imported_at_start()


@cache
def _imported_at_start() -> frozenset[str]:
    """Return the modules that `.pth` files import, such as those of editable installs."""
    found: set[str] = set()
    for place in _installed_places():
        try:
            names = [name for name in os.listdir(place) if name.endswith(".pth")]
            for name in names:
                with open(os.path.join(place, name), encoding="utf-8", errors="replace") as file:
                    lines = [line for line in file if line.startswith(("import ", "import\t"))]
                found.update(word.strip("'\";,()") for line in lines for word in line.split())
        except OSError:  # It cannot be read, so it has no effect at the start, either.
            continue
    # `import a; a.install()`, `__import__('a')`: all names of loaded modules count.
    return frozenset(word for word in found if word in sys.modules)


def _is_same(found: ModuleSpec, spec: ModuleSpec | None, fields: Mapping[str, Any]) -> bool:
    file = fields.get("__file__") or (spec.origin if spec is not None and spec.has_location else None)
    if file is None:
        if spec is not None and spec.submodule_search_locations is not None:
            # A namespace package.
            return not {*spec.submodule_search_locations}.isdisjoint(found.submodule_search_locations or ())
        # A module that has replaced itself, such as one that loads lazily.
        return spec is None
    return found.origin is not None and os.path.realpath(found.origin) == os.path.realpath(file)


def _is_compiled(name: str, fields: Mapping[str, Any]) -> bool:
    """Whether a module is not written in Python, so that it cannot be sent by value."""
    for value in [*fields.values()]:
        if getattr(value, "__module__", None) == name:
            members = vars(value).values() if isinstance(value, type) else [value]
            if any(isinstance(member, _COMPILED) for member in members):
                return True
    return False


def _is_of_package(name: str, spec: ModuleSpec | None, fields: Mapping[str, Any]) -> bool:
    """Whether an installed package creates a module during its import."""
    has_file = "__file__" in fields or (spec is not None and spec.has_location)
    root = sys.modules.get(name.partition(".")[0])
    origin = getattr(getattr(root, "__spec__", None), "origin", None)
    return not has_file and "." in name and origin is not None and _is_installed(origin)
