"""The older name of `remotemedia.audio`."""

from remotemedia.audio import AudioFrame

__all__ = ["AudioFrame"]
