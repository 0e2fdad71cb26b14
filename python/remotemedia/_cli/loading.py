"""Loads the pipeline that the TARGET of a command line names.

A TARGET is `module:attr`, `path/file.py:attr` or a manifest file. A file is imported under its own name, with
its directory first on `sys.path`, as by `python file.py`, so its classes are pickled by reference. A symbolic
link is resolved.
"""

from __future__ import annotations

import os
import sys

from remotemedia._cli.errors import LoadError, TargetError
from remotemedia._exception_chain import set_args
from remotemedia._graph.graph import MANIFEST_SUFFIXES
from remotemedia._interpreter import program_name
from remotemedia._suggest import did_you_mean
from remotemedia.exceptions import PipelineError

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from remotemedia._graph.graph import Graph

DEFAULT_ATTRIBUTE = "pipeline"

_FORMS = "give module:attr, path/file.py:attr or a manifest file (.json, .yaml)"


def load(target: str) -> Graph:
    """Return the checked graph of the pipeline that `target` names. No node is initialized.

    Raises:
        TargetError: If `target` names nothing, or something other than a pipeline.
        LoadError: If the user's code raises; `__cause__` is the exception.
        PipelineError: If the pipeline is invalid.
    """
    _require_working_directory(target)
    if target.lower().endswith(MANIFEST_SUFFIXES):
        return _resolve(_read_manifest(target), target)
    place, separator, attribute = target.rpartition(":")
    if not separator:
        place, attribute = target, ""
    if not place:
        raise TargetError(f"'{target}' does not name a module; {_FORMS}")
    is_file = place.endswith(".py") or "/" in place or os.sep in place or place in {os.curdir, os.pardir}
    module = _import_file(place) if is_file else _import_module(place)
    found = _find_attribute(module, place, attribute)
    attribute = attribute or DEFAULT_ATTRIBUTE
    return _resolve(_pipeline_of(found, place, attribute), f"{place}:{attribute}")


def _resolve(pipeline: Any, target: str) -> Graph:
    """Return the checked graph; errors contain the name that the user gave."""
    from remotemedia._graph.graph import resolve

    try:
        return resolve(pipeline)
    except PipelineError as error:
        set_args(error, (f"'{target}': {error}",))
        raise
    except TypeError as error:
        raise TargetError(f"'{target}': {error}") from error


def _read_manifest(path: str) -> str:
    _require_file(path)
    _put_first_on_path(os.path.dirname(os.path.realpath(path)))
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise TargetError(f"'{path}' is not UTF-8 text") from error
    except OSError as error:
        raise TargetError(f"'{path}' cannot be read: {error.strerror or error}") from error


def _import_file(path: str) -> ModuleType:
    # Those of `importlib.util`, whose import takes milliseconds.
    from _frozen_importlib import module_from_spec
    from _frozen_importlib_external import SourceFileLoader, spec_from_file_location

    _require_file(path)
    path = os.path.abspath(path)
    # A link is resolved, as by `python link.py`: a worker imports the file by its own name.
    real_path = os.path.realpath(path)
    name = os.path.basename(real_path).removesuffix(".py")
    if name in sys.modules:
        known = getattr(sys.modules[name], "__file__", None)
        if known is not None and os.path.exists(known) and os.path.samefile(known, path):
            return sys.modules[name]
        raise TargetError(
            f"'{path}' has the same name as the module {name!r}, which is already imported; rename the file"
        )
    _put_first_on_path(os.path.dirname(real_path))
    loader = SourceFileLoader(name, path) if real_path.endswith(".py") else None
    spec = spec_from_file_location(name, path, loader=loader)
    if spec is None or spec.loader is None:
        raise TargetError(f"'{path}' is not a Python file; {_FORMS}")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise _load_error(path, error) from error
    return module


def _import_module(name: str) -> ModuleType:
    import importlib

    _put_first_on_path(os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _load_error(name, error) from error
        where = f"in {os.getcwd()} or among the installed packages"
        raise TargetError(f"no module named '{error.name}' {where}{_nearest_module(name)}") from error
    except Exception as error:
        raise _load_error(name, error) from error


def _nearest_module(name: str) -> str:
    """Return the end of an error text: the file in the current directory that may have been meant."""
    if os.path.isfile(f"{name}.py"):
        return f"; to name the file, write '{name}.py:…'"
    files = [file for file in os.listdir() if file.endswith(".py")]
    return did_you_mean(f"{name.removesuffix('.p')}.py", files)


def _load_error(place: str, error: Exception) -> LoadError:
    hint = ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        hint = f"; install it with: {program_name()} -m pip install {error.name.partition('.')[0]}"
    from remotemedia._cli.error_report import text_of

    return LoadError(f"'{os.path.basename(place)}' cannot be imported: {text_of(error)}{hint}")


def _find_attribute(module: ModuleType, place: str, attribute: str) -> object:
    found: object = module
    owner = place
    for name in (attribute or DEFAULT_ATTRIBUTE).split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            text = _missing(owner, found, name) if attribute else _missing_default(place, module)
            raise TargetError(text) from error
        owner += f".{name}" if owner != place else f":{name}"
    return found


def _missing(owner: str, found: object, name: str) -> str:
    names = [known for known in dir(found) if not known.startswith("_")]
    return f"'{owner}' has no attribute '{name}'{did_you_mean(name, names)}"


def _missing_default(place: str, module: ModuleType) -> str:
    if os.path.isdir(place) and getattr(module, "__file__", None) is None:
        return f"'{place}' is a directory; {_FORMS}"
    example = next((name for name, value in vars(module).items() if _looks_runnable(value)), "attr")
    return f"'{place}' has no attribute '{DEFAULT_ATTRIBUTE}'; name another one, such as {place}:{example}"


def _looks_runnable(found: object) -> bool:
    from remotemedia.core.pipeline import Pipeline

    if isinstance(found, list):
        return bool(found) and all(hasattr(node, "process") for node in found)
    return isinstance(found, Pipeline)


def _pipeline_of(found: object, place: str, attribute: str) -> Any:
    """Return a pipeline or a list of nodes unchanged, and the result of a function without arguments."""
    from types import FunctionType, MethodType

    if isinstance(found, type):
        raise TargetError(
            f"'{place}:{attribute}' is the class {found.__name__}, not a pipeline; "
            f"put an instance into a list: [{found.__name__}(…)]"
        )
    if not isinstance(found, (FunctionType, MethodType)) and not _is_bare_factory(found):
        return found
    import inspect

    assert callable(found)  # noqa: S101 - Both kinds above are.
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise TargetError(f"'{place}:{attribute}' must be callable without arguments: {error}") from error
    if inspect.iscoroutinefunction(found):
        raise TargetError(f"'{place}:{attribute}' is async; use a function without async")
    try:
        return found()
    except Exception as error:
        from remotemedia._cli.error_report import text_of

        raise LoadError(f"'{place}:{attribute}' raised {text_of(error)}") from error


def _is_bare_factory(found: object) -> bool:
    """Whether this is a callable and not a pipeline itself, such as a `functools.partial`."""
    return callable(found) and not hasattr(found, "process") and not hasattr(found, "add_node")


def _require_working_directory(target: str) -> None:
    """Check that the working directory, which relative names refer to, still exists."""
    if os.path.isabs(target):
        return
    try:
        os.getcwd()
    except OSError as error:
        where = "the working directory no longer exists; change to another one"
        raise TargetError(f"'{target}' cannot be found: {where}") from error


def _require_file(path: str) -> None:
    if os.path.isfile(path):
        return
    if os.path.isdir(path):
        raise TargetError(f"'{path}' is a directory; {_FORMS}")
    if os.path.islink(path):
        raise TargetError(f"'{path}' is a link to '{os.readlink(path)}', which is not a file")
    directory = os.path.dirname(path)
    try:
        neighbours = os.listdir(directory or os.curdir)
    except OSError:
        raise TargetError(f"directory '{directory}' does not exist") from None
    hint = did_you_mean(path, [os.path.join(directory, neighbour) for neighbour in neighbours])
    raise TargetError(f"file '{path}' does not exist{hint}")


def _put_first_on_path(directory: str) -> None:
    if sys.path[:1] != [directory]:
        sys.path.insert(0, directory)
