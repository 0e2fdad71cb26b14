"""Support for tests of pipelines: nodes that fail in every possible way, in `remotemedia.testing.faults`."""

from __future__ import annotations

__all__: list[str] = []
