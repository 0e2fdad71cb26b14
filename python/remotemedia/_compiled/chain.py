"""The kernels that the engine uses in bulk."""

from __future__ import annotations

from remotemedia._compiled.kernels import LazyResultError, build, locate

__all__ = ["LazyResultError", "build", "locate"]
