"""Which Python, environment, package and extension are in use, and their problems."""

from __future__ import annotations

import os
import sys

from remotemedia._interpreter import import_path, program_name

TYPE_CHECKING = False  # That of `typing` costs its import.
if TYPE_CHECKING:
    from typing import Literal

_PACKAGE = __name__.partition(".")[0]

_host_origin: str | None = None
"""How `remotemedia-host` found the environment; `None` in other programs."""

host_program: str | None = None
"""The path of `remotemedia-host`; `None` in other programs."""


class Finding:
    """One line of `doctor`.

    Attributes:
        label: What it is about.
        text: What was found.
        kind: A note is about a missing optional package.
    """

    def __init__(self, label: str, text: str, kind: Literal["fact", "note", "problem"] = "fact") -> None:
        """Store what was found."""
        self.label, self.text, self.kind = label, text, kind


def set_host(origin: str, program: str) -> None:
    """Store facts about `remotemedia-host`, which contains this package.

    Args:
        origin: How it found the environment.
        program: Its path.
    """
    global _host_origin, host_program
    _host_origin, host_program = origin, program


def warn_of_other_versions() -> None:
    """Warn about installed packages of other versions, which other programs of this environment use."""
    for finding in _other_packages():
        print(f"remotemedia-host: {finding.text}", file=sys.stderr)  # noqa: T201


def findings() -> list[Finding]:
    """Return all findings, the most general first."""
    return [
        *_python(),
        *_environment(),
        *_package(),
        *_extension(),
        *_other_packages(),
        _dependency("cloudpickle", 3, "to send nodes to worker processes", "problem"),
        _dependency("numpy", 1, "to read audio", "note"),
    ]


def installed_versions() -> list[tuple[str, str]]:
    """Return version and directory of every `remotemedia` that is installed on the import path."""
    found = []
    for directory in dict.fromkeys(import_path()):
        try:
            names = os.listdir(directory or os.curdir)
        except OSError:  # Zip files and directories that do not exist are allowed on the path.
            continue
        found += [
            (name.removesuffix(".dist-info").removeprefix(f"{_PACKAGE}-"), directory)
            for name in names
            if name.startswith(f"{_PACKAGE}-") and name.endswith(".dist-info")
        ]
    return found


def _python() -> list[Finding]:
    import platform

    version = platform.python_version()
    how = f"inside remotemedia-host, as {program_name()}" if _host_origin else program_name()
    return [Finding("Python", f"{version} ({how})")]


def _environment() -> list[Finding]:
    origin = f" ({_host_origin})" if _host_origin else ""
    if sys.prefix == sys.base_prefix:
        return [Finding("Virtual environment", f"none{origin}")]
    found = [Finding("Virtual environment", f"{sys.prefix}{origin}")]
    active = os.environ.get("VIRTUAL_ENV")
    if active and os.path.realpath(active) != os.path.realpath(sys.prefix):
        found.append(Finding("Virtual environment", f"{active} is active, but not in use", "problem"))
    return found


def _package() -> list[Finding]:
    import remotemedia

    place = "inside remotemedia-host" if _host_origin else os.path.dirname(remotemedia.__file__)
    return [Finding("Package", f"remotemedia {remotemedia.__version__} ({place})")]


def _extension() -> list[Finding]:
    try:
        from remotemedia import _core
    except ImportError as error:
        built = _extensions_beside_the_package()
        text = f"remotemedia._core cannot be loaded: {error}"
        if built:
            text += f"; it was built for another Python ({', '.join(built)})"
        text += f"; reinstall it with: {program_name()} -m pip install --force-reinstall {_PACKAGE}"
        return [Finding("Extension", text, "problem")]
    place = "inside remotemedia-host" if _host_origin else _core.__file__
    return [Finding("Extension", f"remotemedia._core {_core.__version__} ({place})")]


def _extensions_beside_the_package() -> list[str]:
    import remotemedia

    try:
        names = os.listdir(os.path.dirname(remotemedia.__file__))
    except OSError:
        return []
    return sorted(name for name in names if name.startswith("_core.") and name.endswith((".so", ".pyd")))


def _other_packages() -> list[Finding]:
    import remotemedia

    ours = remotemedia.__version__
    others = [(version, place) for version, place in installed_versions() if version != ours]
    return [
        Finding(
            "Installed wheel",
            f"remotemedia {version} is installed in {place}, but {ours} is in use; "
            f"install that version with: {program_name()} -m pip install {_PACKAGE}=={ours}",
            "problem",
        )
        for version, place in others
    ]


def _dependency(name: str, oldest: int, purpose: str, if_missing: Literal["note", "problem"]) -> Finding:
    """Return whether a package can be used; `oldest` is the first supported major version."""
    import importlib

    install = f"{purpose}, install it with: {program_name()} -m pip install '{name}>={oldest}'"
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        is_missing = isinstance(error, ModuleNotFoundError) and error.name == name
        if is_missing:
            return Finding(name, f"not installed; {install}", if_missing)
        return Finding(name, f"cannot be loaded: {error}; {install}", "problem")
    version = str(getattr(module, "__version__", "of unknown version"))
    major = version.partition(".")[0]
    if major.isdecimal() and int(major) < oldest:
        return Finding(name, f"{version} is too old; {install}", "problem")
    return Finding(name, f"{version} ({os.path.dirname(os.path.dirname(module.__file__ or ''))})")
