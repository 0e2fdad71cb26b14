"""Audio as items: `AudioFrame`."""

from __future__ import annotations

import math
import numbers
import operator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["AudioFrame"]

# The same limit as for raw input.
_MOST_CHANNELS = 1024

# More channels in an array of one or two frames mean that the array is transposed.
_CHANNELS_IN_DOUBT = 128
_USUAL_CHANNELS = (1, 2)

# The limit of a WAV header.
_HIGHEST_RATE = 0xFFFF_FFFF


class AudioFrame:
    """A section of decoded audio.

    Attributes:
        samples: numpy float32 of shape (frames, channels), in [-1, 1]. At most 1024 channels.
        sample_rate: Frames per second, in Hz.
        start: The position of the first frame in its stream, in seconds.
    """

    __slots__ = ("__weakref__", "sample_rate", "samples", "start")

    # Not hashable: the samples can change, and frames are compared by value.
    __hash__ = None  # type: ignore[assignment]

    samples: NDArray[Any]
    sample_rate: int
    start: float

    def __init__(self, samples: ArrayLike, sample_rate: int, start: float = 0.0) -> None:
        """Create a frame; mono samples may have one dimension.

        Samples of the right type and shape are not copied.

        Raises:
            TypeError: If the samples are not floating-point numbers, or rate or start is not a number.
            ValueError: If the shape of the samples is not (frames, channels), the sample rate is not
                a whole number of Hz above 0, or the start is not finite.
        """
        import numpy as np

        array = np.asarray(samples)
        if array.dtype.kind != "f" and array.size:
            raise TypeError(
                f"samples must be floating-point numbers in [-1, 1], not {array.dtype}; "
                "divide them by the full scale"
            )
        if array.ndim == 1:
            array = array[:, np.newaxis]
        _check_shape(array.shape)
        self.samples = array.astype(np.float32, copy=False)
        self.sample_rate = _whole_rate(sample_rate)
        self.start = _finite_start(start)

    @classmethod
    def _of(cls, samples: NDArray[Any], sample_rate: int, start: float) -> AudioFrame:
        """Return a frame of a recording without checks: the last one of many channels may be short."""
        frame = cls.__new__(cls)
        frame.samples, frame.sample_rate, frame.start = samples, sample_rate, start
        return frame

    @property
    def channels(self) -> int:
        """The number of channels."""
        return int(self.samples.shape[1])

    @property
    def duration(self) -> float:
        """The duration, in seconds."""
        return len(self.samples) / self.sample_rate

    @property
    def end(self) -> float:
        """The position of its end in the stream, in seconds."""
        return self.start + self.duration

    def __len__(self) -> int:
        """The number of frames."""
        return len(self.samples)

    def __bool__(self) -> bool:
        """A frame is true, even without samples."""
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


def _check_shape(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[1] == 0:  # noqa: PLR2004 - Frames and channels.
        raise ValueError(f"samples must have the shape (frames, channels), not {shape}")
    frames, channels = shape
    is_transposed = frames in _USUAL_CHANNELS and channels > _CHANNELS_IN_DOUBT
    if channels > _MOST_CHANNELS or is_transposed:
        raise ValueError(
            f"samples must have the shape (frames, channels), and {channels} channels are too many; "
            f"if {shape} is (channels, frames), pass samples.T"
        )


def _whole_rate(sample_rate: Any) -> int:
    rate = _number(sample_rate)
    if rate is None:
        raise TypeError(f"the sample rate must be a number of Hz, not {sample_rate!r}")
    if not 0 < rate <= _HIGHEST_RATE or rate != int(rate):
        raise ValueError(f"the sample rate must be a whole number of Hz above 0, not {sample_rate!r}")
    return int(rate)


def _number(value: Any) -> Any:
    """Return a real number, or the integer of an object such as an array; `None` otherwise."""
    if isinstance(value, bool):
        return None
    if isinstance(value, numbers.Real):
        return value
    try:
        return operator.index(value)
    except TypeError:
        return None


def _finite_start(start: Any) -> float:
    if isinstance(start, str) or not hasattr(start, "__float__"):
        raise TypeError(f"the start of a frame must be a number of seconds, not {start!r}")
    seconds = float(start)
    if not math.isfinite(seconds):
        raise ValueError(f"the start of a frame must be a finite number of seconds, not {start!r}")
    return seconds
