"""Audio as items: `AudioFrame`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["AudioFrame"]


class AudioFrame:
    """A stretch of audio, decoded.

    Attributes:
        samples: numpy float32 of shape (frames, channels), in [-1, 1].
        sample_rate: Frames in a second, in Hz.
        start: Where the first frame lies in its stream, in seconds.
    """

    __slots__ = ("__weakref__", "sample_rate", "samples", "start")

    # The samples can change, and two frames are equal by what they hold.
    __hash__ = None  # type: ignore[assignment]

    samples: NDArray[Any]
    sample_rate: int
    start: float

    def __init__(self, samples: ArrayLike, sample_rate: int, start: float = 0.0) -> None:
        """Take samples, as they are where type and shape fit; one channel may lack its dimension.

        Raises:
            TypeError: If the samples are no floating-point numbers.
            ValueError: If they have more than two dimensions, or the sample rate is not positive.
        """
        import numpy as np

        array = np.asarray(samples)
        if array.dtype.kind != "f" and array.size:
            raise TypeError(
                f"samples are floating-point numbers in [-1, 1], not {array.dtype}; divide by the full scale"
            )
        if array.ndim == 1:
            array = array[:, np.newaxis]
        if array.ndim != 2:  # noqa: PLR2004 - Frames and channels.
            raise ValueError(f"samples have the shape (frames, channels), not {array.shape}")
        if sample_rate <= 0:
            raise ValueError(f"the sample rate is in Hz, not {sample_rate}")
        self.samples = array.astype(np.float32, copy=False)
        self.sample_rate = sample_rate
        self.start = start

    @property
    def channels(self) -> int:
        """The number of channels."""
        return int(self.samples.shape[1])

    @property
    def duration(self) -> float:
        """How long it sounds, in seconds."""
        return len(self.samples) / self.sample_rate

    @property
    def end(self) -> float:
        """Where it ends in its stream, in seconds."""
        return self.start + self.duration

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.samples)

    def __bool__(self) -> bool:
        """A frame is something, even without a sample."""
        return True

    def __eq__(self, other: object) -> bool:
        """Whether rate, start and every sample are equal."""
        if not isinstance(other, AudioFrame):
            return NotImplemented
        import numpy as np

        return (
            self.sample_rate == other.sample_rate
            and self.start == other.start
            and np.array_equal(self.samples, other.samples)
        )

    def __repr__(self) -> str:
        """Show the size, not the samples."""
        shape = f"{len(self.samples)} x {self.channels}"
        return f"AudioFrame({shape} samples, sample_rate={self.sample_rate}, start={self.start:.3f})"
