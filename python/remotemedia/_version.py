"""The version of this package, which only `Cargo.toml` defines; the Rust runtime contains it."""

from __future__ import annotations

__all__ = ["__version__"]


def _installed_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("remotemedia")
    except PackageNotFoundError:
        return "0+unknown"


try:
    from remotemedia._core import __version__
except ImportError:
    # The extension is missing, or it was built for another Python.
    __version__ = _installed_version()
