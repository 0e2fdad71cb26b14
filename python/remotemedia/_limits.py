"""Defaults and limits, with the values that `remotemedia._core` has.

The reference executor needs them without the extension.
"""

from __future__ import annotations

__all__ = [
    "CLOSE_TIMEOUT_SECS",
    "DEFAULT_QUEUE_SIZE",
    "LONGEST_RETRY_DELAY_SECS",
    "LONGEST_SECS",
]

CLOSE_TIMEOUT_SECS = 10.0
"""How long a session or a run may take to close before nodes that have not returned are abandoned."""

DEFAULT_QUEUE_SIZE = 64
"""How many items may wait before a stage, unless an option says otherwise."""

LONGEST_RETRY_DELAY_SECS = 60.0
"""The longest pause before a retry."""

LONGEST_SECS = 1_000_000_000
"""The longest time that an option accepts: the clocks of some systems end soon after."""
