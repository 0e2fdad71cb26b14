"""A pipeline for voice commands: detect speech, recognize it, and extract the intent.

    remotemedia-host run examples/voice.py:pipeline --input examples/data/go_forward.wav

It needs numpy and pocketsphinx, whose package contains a model of US English.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pocketsphinx

from remotemedia import Node, Pipeline
from remotemedia.audio import AudioFrame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

RECOGNIZER_RATE = 16_000
FRAME_SECS = 0.02
ONES = (
    "zero one two three four five six seven eight nine "
    "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
)
TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
NUMBERS = {
    **{word: value for value, word in enumerate(ONES.split())},
    **{word: 10 * value for value, word in enumerate(TENS.split(), start=2)},
}


class Endpointer(Node):
    """Cuts a stream of audio into utterances, each one `AudioFrame`.

    A frame is loud if its level is well above the recent background noise. Three loud frames start an
    utterance, and a pause ends it. The node cuts its own frames, so the size of the chunks doesn't matter.
    """

    START_FRAMES = 3
    LEAST_LEVEL_DB = -45.0
    ABOVE_FLOOR_DB = 15.0
    FLOOR_RISE_DB = 0.01  # Per frame: follows a room that gets louder, but not a sentence.

    def __init__(
        self, *, padding_secs: float = 0.3, pause_secs: float = 0.5, longest_secs: float = 20.0, **config: Any
    ) -> None:
        super().__init__(**config)
        self.padding = round(padding_secs / FRAME_SECS)
        self.pause = round(pause_secs / FRAME_SECS)
        self.longest = round(longest_secs / FRAME_SECS)

    def initialize(self) -> None:
        super().initialize()
        self.rate = self.frame_size = 0
        self.stream_start = 0.0
        self.rest: NDArray[np.float32] | None = None
        self.floor_db = 0.0
        self.frames: list[NDArray[np.float32]] = []
        self.frames_seen = 0
        self.loud_run = self.quiet_run = 0
        self.is_speaking = False

    def process(self, audio: AudioFrame) -> Iterator[AudioFrame]:
        if self.rest is None:
            self.rate, self.stream_start, self.rest = audio.sample_rate, audio.start, audio.samples[:0]
            self.frame_size = round(self.rate * FRAME_SECS)
        samples = np.concatenate([self.rest, audio.samples])
        whole = len(samples) - len(samples) % self.frame_size
        self.rest = samples[whole:]

        for begin in range(0, whole, self.frame_size):
            self._add(samples[begin : begin + self.frame_size])
            if self.is_speaking and (self.quiet_run >= self.pause or len(self.frames) >= self.longest):
                yield self._utterance()

    def flush(self) -> Iterator[AudioFrame]:
        if self.is_speaking:
            yield self._utterance()

    def _add(self, frame: NDArray[np.float32]) -> None:
        is_loud = self._is_loud(frame)
        self.loud_run = self.loud_run + 1 if is_loud else 0
        self.quiet_run = 0 if is_loud else self.quiet_run + 1
        self.frames.append(frame)
        self.frames_seen += 1

        if self.loud_run >= self.START_FRAMES:
            self.is_speaking = True
        if not self.is_speaking:
            del self.frames[: -(self.padding + self.START_FRAMES)]

    def _is_loud(self, frame: NDArray[np.float32]) -> bool:
        power = float(np.mean(np.square(frame, dtype=np.float64)))
        level_db = 10 * np.log10(power + 1e-10)
        self.floor_db = min(level_db, self.floor_db + self.FLOOR_RISE_DB)
        return bool(level_db > max(self.floor_db + self.ABOVE_FLOOR_DB, self.LEAST_LEVEL_DB))

    def _utterance(self) -> AudioFrame:
        first = self.frames_seen - len(self.frames)
        end = len(self.frames) - max(0, self.quiet_run - self.padding)
        samples = np.concatenate(self.frames[:end])
        self.frames = self.frames[end:]
        self.is_speaking = False
        self.loud_run = 0
        return AudioFrame(samples, self.rate, self.stream_start + first * self.frame_size / self.rate)


class Recognizer(Node):
    """Recognizes the text of an utterance. The model is loaded once."""

    def initialize(self) -> None:
        super().initialize()
        self.decoder = pocketsphinx.Decoder(samprate=RECOGNIZER_RATE, loglevel="FATAL")

    def process(self, utterance: AudioFrame) -> dict[str, Any] | None:
        speech = resample(utterance.samples.mean(axis=1), utterance.sample_rate)
        self.decoder.start_utt()
        self.decoder.process_raw((speech * 32767).astype("<i2").tobytes(), full_utt=True)
        self.decoder.end_utt()
        hypothesis = self.decoder.hyp()
        if hypothesis is None or not hypothesis.hypstr:
            return None
        end = utterance.start + len(utterance.samples) / utterance.sample_rate
        return {"start": round(utterance.start, 2), "end": round(end, 2), "text": hypothesis.hypstr}

    def cleanup(self) -> None:
        super().cleanup()
        self.decoder = None


class Intent(Node):
    """Adds the intent of an utterance: a move with direction and distance, or a statement."""

    MOVE = re.compile(r"\b(?:go|move|walk|drive|turn)\b.*?\b(forward|back|backward|left|right|up|down)\b(.*)")
    UNIT = re.compile(r"\b(meter|foot|feet|step|degree|mile)s?\b")

    def process(self, utterance: dict[str, Any]) -> dict[str, Any]:
        return utterance | {"intent": self.intent(utterance["text"])}

    def intent(self, text: str) -> dict[str, Any]:
        """Return the intent of `text`."""
        move = self.MOVE.search(text)
        if move is None:
            return {"name": "statement"}
        direction, rest = move.groups()
        unit = self.UNIT.search(rest)
        if unit is None:
            return {"name": "move", "direction": direction}
        distance = number(rest[: unit.start()].split())
        return {"name": "move", "direction": direction, "distance": distance, "unit": unit.group()}


def resample(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Convert mono samples to the rate of the recognizer."""
    if rate == RECOGNIZER_RATE:
        return samples
    if rate > RECOGNIZER_RATE:  # Without this filter, higher frequencies would cause aliasing.
        taps = np.arange(-32, 33)
        cutoff = 0.9 * RECOGNIZER_RATE / rate
        kernel = np.sinc(cutoff * taps) * np.hamming(len(taps))
        samples = np.convolve(samples, kernel / kernel.sum(), mode="same")
    times = np.arange(round(len(samples) * RECOGNIZER_RATE / rate)) / RECOGNIZER_RATE
    return np.interp(times, np.arange(len(samples)) / rate, samples).astype(np.float32)


def number(words: list[str]) -> int | None:
    """Return the number that `words` spell; other words are ignored."""
    total: int | None = None
    for word in words:
        if word in NUMBERS:
            total = (total or 0) + NUMBERS[word]
        elif word == "hundred":
            total = (total or 1) * 100
    return total


# A class: each session has an endpointer of its own, for the audio of one speaker. All share the model.
pipeline = Pipeline([Endpointer, Recognizer(), Intent()], name="voice")
