"""The pipeline that all servers serve."""

from __future__ import annotations

from typing import Any

from remotemedia import Pipeline


class Same:
    """A trivial node."""

    def process(self, item: Any) -> Any:
        """The very same item."""
        return item


pipeline = Pipeline([Same()], name="same")
