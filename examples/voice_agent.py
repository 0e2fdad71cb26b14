"""A voice agent that can be interrupted: listen, answer word by word, stop when the user speaks again.

    python voice_agent.py FILE

The file contains what the user says. The user says it twice, and interrupts the first answer with it.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from microphone import FRAME_SECS, frames
from remotemedia import AsyncSession, Node, Pipeline
from remotemedia.audio import AudioFrame
from voice import Endpointer, Recognizer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

SPEECH_STARTS = "speech starts"
ANSWER_ENDS = "answer ends"
WORDS_SHOWN = 3
"""The number of words that are always spoken before the user interrupts an answer."""


class Ears(Endpointer):
    """Cuts audio into utterances, and reports immediately when one starts."""

    def process(self, audio: AudioFrame) -> Iterator[Any]:
        was_speaking = self.is_speaking
        yield from super().process(audio)
        if self.is_speaking and not was_speaking:
            yield SPEECH_STARTS


class Understanding(Recognizer):
    """Recognizes utterances, and passes on the report that one has started."""

    def process(self, heard: Any) -> Any:
        return heard if heard is SPEECH_STARTS else super().process(heard)


class Answering(Node):
    """Answers word by word, as a language model would."""

    async def process(self, text: str) -> AsyncIterator[str]:
        for word in f"You said: {text}. Let me tell you how far that is in feet and in inches.".split():
            yield word
            await asyncio.sleep(0.15)
        yield ANSWER_ENDS


class User:
    """Speaks, waits for the first words of the answer, speaks again, and then listens to the whole answer."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.words: list[str] = []
        self.has_heard_enough = asyncio.Event()
        self.has_heard_all = asyncio.Event()

    async def speech(self) -> AsyncIterator[AudioFrame]:
        """Yield the audio of the microphone in real time: speech, silence, speech, silence."""
        for until in (self.has_heard_enough, self.has_heard_all):
            for frame in frames(self.path):
                yield frame
                await asyncio.sleep(FRAME_SECS)
            silence = AudioFrame(np.zeros_like(frame.samples), frame.sample_rate)
            while not until.is_set():
                yield silence
                await asyncio.sleep(FRAME_SECS)

    def hear(self, word: str) -> None:
        """Listen to one word of the answer."""
        if word is ANSWER_ENDS:
            print("agent:", " ".join(self.words))
            self.has_heard_all.set()
            return
        self.words.append(word)
        if len(self.words) >= WORDS_SHOWN:
            self.has_heard_enough.set()


async def speak(mouth: AsyncSession, user: User) -> None:
    """Play the answers of the agent to the user."""
    async for word in mouth:
        user.hear(word)


async def main(path: str) -> None:
    """Talk until the user is silent."""
    user = User(path)
    ears = Pipeline("ears").add_node(Ears()).add_node(Understanding(), placement="thread")
    mouth = Pipeline([Answering()], name="mouth")
    async with ears.open() as listening, mouth.open() as speaking:
        speaker = asyncio.create_task(speak(speaking, user))
        async for heard in listening.map(user.speech()):
            if heard is not SPEECH_STARTS:
                print("user:", heard["text"])
                await speaking.put(heard["text"])
            elif await speaking.interrupt():
                print("agent:", " ".join(user.words[:WORDS_SHOWN]), "… (interrupted)")
                user.words.clear()
        speaking.end()
        await speaker


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
