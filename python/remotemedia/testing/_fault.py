"""The base class of faults, which decides when they fail."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from remotemedia.core.node import Node

if TYPE_CHECKING:
    from typing import Literal

    Phase = Literal["initialize", "process", "flush", "cleanup"]

__all__ = ["Fault"]

_PHASES = ("initialize", "process", "flush", "cleanup")


class Fault(Node):
    """Passes items on, and fails on one of them. A subclass defines `strike`, which fails.

    Attributes:
        on: The item on which it fails; equal items count.
        nth: The index of the item on which it fails instead, starting at 0 in each process.
        phase: The method in which it fails; `on` and `nth` apply only to `process`.
        once: A file that it creates when it fails. It does not fail if the file exists, so a restarted worker
            continues.
    """

    def __init__(
        self,
        on: object = 3,
        *,
        nth: int | None = None,
        phase: Phase = "process",
        once: str | os.PathLike[str] | None = None,
        name: str | None = None,
    ) -> None:
        """Set when it fails.

        Args:
            on: The item on which it fails.
            nth: The index of the item instead, starting at 0.
            phase: `initialize`, `process`, `flush` or `cleanup`.
            once: The path of a file that does not exist yet, for a fault that happens only once.
            name: The name of the node.
        """
        super().__init__(name)
        if phase not in _PHASES:
            raise ValueError(f"phase must be one of {', '.join(_PHASES)}, not {phase!r}")
        self.on = on
        self.nth = nth
        self.phase = phase
        self.once = None if once is None else os.path.abspath(once)
        self._seen = 0

    def strike(self, item: Any) -> Any:
        """Fail. If there is a return value, it is the output for the item."""
        raise NotImplementedError

    def initialize(self) -> None:
        """Fail, if this is the phase."""
        super().initialize()
        self._reach("initialize")

    def process(self, item: Any) -> Any:
        """Pass the item on, or fail."""
        number, self._seen = self._seen, self._seen + 1
        if self.phase != "process":
            return item
        is_due = bool(item == self.on) if self.nth is None else number == self.nth
        return self.strike(item) if is_due and self._may_strike() else item

    def flush(self) -> None:
        """Fail, if this is the phase."""
        self._reach("flush")

    def cleanup(self) -> None:
        """Fail, if this is the phase: after a run, but not before the node is sent."""
        has_run = self.is_initialized
        super().cleanup()
        if has_run:
            self._reach("cleanup")

    def _reach(self, phase: Phase) -> None:
        if self.phase == phase and self._may_strike():
            self.strike(None)

    def _may_strike(self) -> bool:
        if self.once is None:
            return True
        try:
            os.close(os.open(self.once, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True
