"""Live audio: a microphone in real time, a recognizer that receives every frame, a meter that may drop some.

    python microphone.py FILE

The file is played in real time; to use a real microphone, read it in `Microphone.process`.
"""

from __future__ import annotations

import sys
import time
import wave
from typing import TYPE_CHECKING

import numpy as np

from remotemedia import Node, Pipeline
from remotemedia.audio import AudioFrame
from voice import Endpointer, Recognizer

if TYPE_CHECKING:
    from collections.abc import Iterator

FRAME_SECS = 0.02


class Microphone(Node):
    """A source that produces a frame every 20 ms, as a microphone does."""

    def __init__(self, path: str, **config: str) -> None:
        super().__init__(**config)
        self.path = path

    def process(self) -> Iterator[AudioFrame]:
        started = time.monotonic()
        for frame in frames(self.path):
            time.sleep(max(0.0, started + frame.end - time.monotonic()))
            yield frame


class Meter(Node):
    """Shows the level on a display that is slower than the microphone."""

    def process(self, frame: AudioFrame) -> None:
        self.level = float(np.abs(frame.samples).max())
        time.sleep(3 * FRAME_SECS)


def frames(path: str) -> Iterator[AudioFrame]:
    """Yield the audio of a file with 16-bit samples, 20 ms at a time."""
    with wave.open(path) as file:
        rate = file.getframerate()
        while data := file.readframes(round(rate * FRAME_SECS)):
            samples = np.frombuffer(data, "<i2").reshape(-1, file.getnchannels())
            start = file.tell() - len(samples)
            yield AudioFrame(samples.astype(np.float32) / 32768, rate, start / rate)


def listening_to(path: str) -> Pipeline:
    """Build a pipeline whose recognizer receives every frame, and whose meter drops and counts late ones."""
    pipeline = Pipeline("microphone")
    pipeline.add_node(Microphone(path), id="microphone")
    pipeline.add_node(Endpointer(), id="endpointer")
    pipeline.add_node(Recognizer(), id="recognizer", placement="thread")
    pipeline.add_node(
        Meter(), id="meter", after="microphone", placement="thread", queue_size=1, when_full="drop_oldest"
    )
    return pipeline


def main(path: str) -> None:
    """Listen until the file ends, and print what happened to its frames."""
    with listening_to(path).open(enable_metrics=True) as session:
        for utterance in session:
            print("heard:", utterance["text"])
        metrics = session.metrics() or {}

    meter = next(node for node in metrics["node_metrics"] if node["node_id"] == "meter")
    print("frames:", metrics["items_in"])
    print("shown or dropped:", meter["items_in"] + meter["dropped"])
    print("some were dropped:", meter["dropped"] > 0)


if __name__ == "__main__":
    main(sys.argv[1])
