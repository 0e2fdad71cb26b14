"""The failure policy of a node: what its options say about calls that fail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from remotemedia.exceptions import NodeError

__all__ = ["Policy"]


class Policy:
    """What is done with items on which a node fails.

    Attributes:
        skips: Whether they are dropped.
        dead_letter: Receives them, with their errors.
        retries: How many times each is tried again.
        retry_delay: The seconds before the first retry.
        timeout: The seconds that one call may take.
    """

    __slots__ = ("dead_letter", "retries", "retry_delay", "skips", "timeout")

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Read the checked options of a node."""
        on_error = options.get("on_error", "stop")
        self.skips = on_error == "skip"
        self.dead_letter: Callable[[Any, NodeError], object] | None = options.get("dead_letter")
        if self.dead_letter is None and callable(on_error):
            self.dead_letter = on_error
        self.retries: int = options.get("retries") or 0
        self.retry_delay: float = options.get("retry_delay") or 0.0
        self.timeout: float | None = options.get("timeout")

    @property
    def only_handles(self) -> bool:
        """Whether each item is tried once, without a limit of time."""
        return not self.retries and self.timeout is None

    def __bool__(self) -> bool:
        """Whether the node is called differently than without a policy."""
        return self.skips or self.dead_letter is not None or not self.only_handles
