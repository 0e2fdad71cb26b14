"""Whether the Rust runtime can be loaded, and otherwise the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["get_rust_runtime", "is_rust_runtime_available", "try_load_rust_runtime"]


def is_rust_runtime_available() -> bool:
    """Return whether the Rust runtime can be loaded."""
    return try_load_rust_runtime()[0]


def try_load_rust_runtime() -> tuple[bool, ModuleType | None, ImportError | None]:
    """Return whether the Rust runtime can be loaded, and its module or the reason."""
    try:
        from remotemedia import _core
    except ImportError as error:
        return False, None, error
    return True, _core, None


def get_rust_runtime() -> ModuleType:
    """Return the module of the Rust runtime.

    Raises:
        ImportError: If it cannot be loaded; the text contains the reason and what to do.
        MemoryError: If there is not enough memory for it.
    """
    _, module, error = try_load_rust_runtime()
    if module is None:
        if any(words in str(error) for words in ("failed to map", "annot allocate memory")):
            raise MemoryError(
                f"Not enough memory for the Rust runtime: {error}; raise the limit (ulimit -v)"
            ) from error
        advice = "reinstall it with 'pip install --force-reinstall remotemedia', or pass use_rust=False"
        raise ImportError(f"Rust runtime not available: {error}; {advice}") from error
    return module
