"""The pipeline that the host runs over an hour of audio: three nodes that pass every frame on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remotemedia import Pipeline

if TYPE_CHECKING:
    from remotemedia.audio import AudioFrame


class Pass:
    """A trivial node."""

    def process(self, frame: AudioFrame) -> AudioFrame:
        """The very same frame."""
        return frame


pipeline = Pipeline([Pass(), Pass(), Pass()], name="frames")
