"""The steps of a run on the logger `remotemedia`, at level DEBUG."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from remotemedia._graph.graph import Entry

__all__ = ["debug_log"]


def debug_log(name: str, entries: Sequence[Entry]) -> Callable[..., None] | None:
    """What logs the steps of a run; `None` if nobody listens to DEBUG. The entries are in plan order."""
    # Nobody can listen who has not imported it.
    logging = sys.modules.get("logging")
    if logging is None:
        return None
    logger = logging.getLogger("remotemedia")
    if not logger.isEnabledFor(logging.DEBUG):
        return None
    ids = ", ".join(entry.id for entry in entries)
    logger.debug("pipeline '%s': plan of %d nodes: %s", name, len(entries), ids)
    logger.debug("stage 1 (inline): %s", ids)
    debug: Callable[..., None] = logger.debug
    return debug
