"""What tests of pipelines need: nodes that fail in every way there is, in `remotemedia.testing.faults`."""

from __future__ import annotations

__all__: list[str] = []
