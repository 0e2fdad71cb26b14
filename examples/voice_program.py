"""Recognize the speech in a WAV file from your own program: python voice_program.py FILE."""

import asyncio
import json
import sys
import wave
from collections.abc import Iterator

import numpy as np

from remotemedia.audio import AudioFrame
from voice import pipeline


def chunks(path: str) -> Iterator[AudioFrame]:
    """Read a file with 16-bit samples, 20 ms at a time."""
    with wave.open(path) as file:
        rate = file.getframerate()
        while data := file.readframes(rate // 50):
            samples = np.frombuffer(data, "<i2").reshape(-1, file.getnchannels())
            start = file.tell() - len(samples)
            yield AudioFrame(samples.astype(np.float32) / 32768, rate, start / rate)


for utterance in asyncio.run(pipeline.run(chunks(sys.argv[1]))):
    print(json.dumps(utterance))
