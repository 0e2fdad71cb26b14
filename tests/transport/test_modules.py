"""Classes of modules that a worker would not find are sent by value, and return as the same classes."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
import zipfile
import zipimport

import pytest

from remotemedia import Pipeline
from remotemedia._workers.pickling_modules import find_only_here

SOURCE = """
RATE = 16000

class Thing:
    def __init__(self, value):
        self.value = value

class Doubles:
    def process(self, item):
        return Thing(2 * item.value), RATE
"""


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def from_file(name, file="loaded.py"):
    def make(directory):
        path = directory / file
        path.write_text(SOURCE)
        return load(name, path)

    return make


def made(name):
    def make(_directory):
        module = types.ModuleType(name)
        exec(SOURCE, vars(module))
        sys.modules[name] = module
        return module

    return make


def in_real_package(make):
    def make_inside(directory):
        package = directory / "real_package"
        package.mkdir()
        (package / "__init__.py").touch()
        sys.path.insert(0, str(directory))
        importlib.import_module("real_package")
        elsewhere = directory / "elsewhere"
        elsewhere.mkdir()
        return make(elsewhere)

    return make_inside


def zipped(directory):
    archive = directory / "archive.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("zipped_thing.py", SOURCE)
    spec = zipimport.zipimporter(str(archive)).find_spec("zipped_thing")
    module = importlib.util.module_from_spec(spec)
    sys.modules["zipped_thing"] = module
    spec.loader.exec_module(module)
    return module


class Hook(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Imports a missing module."""

    def find_spec(self, name, path, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name == "hooked_thing" else None

    def get_source(self, name):
        return SOURCE


def hooked(_directory):
    sys.meta_path.append(Hook())
    return importlib.import_module("hooked_thing")


def moved(directory):
    sys.path.insert(0, str(directory))
    (directory / "moved_thing.py").write_text(SOURCE)
    importlib.invalidate_caches()
    module = importlib.import_module("moved_thing")
    (directory / "moved_thing.py").rename(directory / "another_name.py")
    importlib.invalidate_caches()
    return module


def beside_another_file(directory):
    """A file with another name, in a directory on the import path."""
    sys.path.insert(0, str(directory))
    return from_file("right_place", "wrong_name.py")(directory)


MODULES = {
    "undotted": from_file("plugin_one"),
    "dotted": from_file("plugins.one"),
    "version": from_file("voice-v1.2", "voice-v1.2.py"),
    "made": made("made_thing"),
    "made, dotted": made("made.thing"),
    "loaded into a package": in_real_package(from_file("real_package.loaded")),
    "made in a package": in_real_package(made("real_package.made")),
    "zipped": zipped,
    "hooked": hooked,
    "moved": moved,
    "of another name": beside_another_file,
}


@pytest.fixture
def same_imports(monkeypatch):
    """Restore the imports afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.usefixtures("same_imports")
@pytest.mark.parametrize("kind", MODULES)
def test_classes_of_a_module_that_no_worker_finds_cross_both_ways(kind, tmp_path):
    module = MODULES[kind](tmp_path)

    with Pipeline([module.Doubles()]).open(placement="process") as session:
        thing, rate = session.call(module.Thing(4))

    assert (type(thing), thing.value, rate) == (module.Thing, 8, 16000)


@pytest.mark.usefixtures("same_imports")
def test_installed_and_importable_code_is_sent_by_name(tmp_path):
    package = tmp_path / "found_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "inside.py").write_text(SOURCE)
    sys.path.insert(0, str(tmp_path))
    importlib.import_module("found_package.inside")

    names = ("found_package", "numpy", "pytest", "asyncio", "remotemedia", "os", "worker_nodes", "typing")

    assert [name for name in find_only_here() if name.partition(".")[0] in names] == []
