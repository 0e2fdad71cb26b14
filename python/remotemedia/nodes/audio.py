"""The place where older programs look for audio: what `remotemedia.audio` has."""

from remotemedia.audio import AudioFrame

__all__ = ["AudioFrame"]
