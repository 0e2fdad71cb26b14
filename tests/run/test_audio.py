"""`AudioFrame` takes what is meant, and refuses what cannot be meant where it is made."""

from __future__ import annotations

import numpy as np
import pytest

from remotemedia.audio import AudioFrame

SAMPLES = np.zeros((480, 2), "f4")


@pytest.mark.parametrize(
    "rate", [16000, 16000.0, np.int32(16000), np.float32(16000), np.array(16000)], ids=type
)
def test_a_rate_that_is_a_whole_number_becomes_an_int(rate):
    frame = AudioFrame(SAMPLES, rate)

    assert (type(frame.sample_rate), frame.sample_rate) == (int, 16000)


@pytest.mark.parametrize("rate", [0, -8000, 22050.5, float("nan"), float("inf"), 2**32, 1e300])
def test_a_rate_that_no_recording_has_is_refused(rate):
    with pytest.raises(ValueError, match="the sample rate must be a whole number of Hz above 0, not "):
        AudioFrame(SAMPLES, rate)


@pytest.mark.parametrize("rate", ["16000", None, True, np.bool_(True), 16000j, [16000]])
def test_a_rate_that_is_not_a_number_is_refused(rate):
    with pytest.raises(TypeError, match="the sample rate must be a number of Hz, not "):
        AudioFrame(SAMPLES, rate)


@pytest.mark.parametrize("shape", [(2, 48000), (1, 16000), (2, 320), (1, 160), (6, 48000), (2000, 1025)])
def test_transposed_samples_are_refused(shape):
    with pytest.raises(
        ValueError, match=r"\(frames, channels\).*if .* is \(channels, frames\), pass samples\.T"
    ):
        AudioFrame(np.zeros(shape, "f4"), 48000)


@pytest.mark.parametrize("shape", [(0, 2), (1, 2), (2, 64), (3, 256), (320, 1024), (0, 1024), (5,), (0,)])
def test_few_frames_of_many_channels_are_taken(shape):
    frame = AudioFrame(np.zeros(shape, "f4"), 48000)

    assert (len(frame), frame.channels) == (shape[0], (*shape, 1)[1])


@pytest.mark.parametrize("shape", [(), (2, 3, 4), (10, 0)])
def test_samples_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"samples must have the shape \(frames, channels\), not "):
        AudioFrame(np.zeros(shape, "f4"), 48000)


@pytest.mark.parametrize(
    ("start", "error"), [(float("nan"), ValueError), (None, TypeError), ("0", TypeError)]
)
def test_a_start_that_is_not_a_time_is_refused(start, error):
    with pytest.raises(error, match="the start of a frame must be a "):
        AudioFrame(SAMPLES, 48000, start)


def test_a_start_becomes_a_float():
    assert repr(AudioFrame(SAMPLES, 48000, np.float32(2)).start) == "2.0"
