"""The page: recordings, the microphone, and outputs that are audio."""

from __future__ import annotations

import json
import wave
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
VOICE = "../../examples/voice.py:pipeline"
RECORDING = ROOT / "examples/data/go_forward.wav"
WORDS = "go forward ten meters"
needs_numpy = pytest.mark.skipif(find_spec("numpy") is None, reason="needs numpy, which is optional")
needs_pocketsphinx = pytest.mark.skipif(
    find_spec("pocketsphinx") is None, reason="pocketsphinx of .ci/requirements.txt is not installed"
)


def recording(*, width=2, channels=1, rate=8000, seconds=0.1):
    """Return a WAV file whose samples are half of the full scale."""
    buffer = BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setsampwidth(width)
        file.setnchannels(channels)
        file.setframerate(rate)
        sample = b"\xc0" if width == 1 else b"\0" * (width - 1) + b"\x40"
        file.writeframes(sample * channels * round(rate * seconds))
    return {"name": "half.wav", "mimeType": "audio/wav", "buffer": buffer.getvalue()}


def choose(page, file):
    page.get_by_role("tab", name="Audio file").click()
    page.get_by_label("Choose a file").set_input_files(file)


def send(page, file):
    choose(page, file)
    page.get_by_role("button", name="Send the recording").click()


@needs_numpy
def test_recordings_are_sent_in_chunks_of_20_ms(serve, visit, expect):
    opened = visit(serve("measure"))

    for width in (1, 2, 3, 4):
        send(opened.page, recording(width=width, channels=2, rate=44_100))
        expect(opened.page.get_by_text("Session closed")).to_be_visible()

    outputs = [json.loads(text) for text in opened.outputs(20)]
    assert outputs == [{"frames": 882, "rate": 44_100, "peak": 0.5}] * 20


@needs_numpy
def test_a_new_session_is_opened_for_another_rate(serve, visit, expect):
    opened = visit(serve("measure"))
    opened.page.get_by_role("tab", name="Audio file").click()
    opened.page.get_by_label("End the input after the audio").uncheck()
    send(opened.page, recording(rate=8000, seconds=0.02))
    assert [json.loads(text)["rate"] for text in opened.outputs(1)] == [8000]

    send(opened.page, recording(rate=16_000, seconds=0.02))

    assert [json.loads(text)["rate"] for text in opened.outputs(2)] == [8000, 16_000]
    expect(opened.page.get_by_text("Session open, 16 kHz")).to_be_visible()


def test_a_file_that_is_not_audio_is_reported_in_words(serve, visit, expect):
    opened = visit(serve("same"))

    choose(opened.page, {"name": "notes.wav", "mimeType": "audio/wav", "buffer": b"RIFF, but no more"})

    expect(opened.page.get_by_role("alert").filter(has_text="cannot decode this file")).to_be_visible()
    expect(opened.page.get_by_role("button", name="Send the recording")).to_be_disabled()


@needs_numpy
def test_a_recording_can_be_dropped(serve, visit, expect):
    opened = visit(serve("measure"))
    opened.page.get_by_role("tab", name="Audio file").click()
    content = list(recording(seconds=0.02)["buffer"])
    transfer = opened.page.evaluate_handle(
        """content => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(content)], "dropped.wav", { type: "audio/wav" }));
            return transfer;
        }""",
        content,
    )

    opened.page.locator("#drop").dispatch_event("drop", {"dataTransfer": transfer})

    expect(opened.page.get_by_text("dropped.wav: 0.0 s, 8 kHz, 1 channel")).to_be_visible()
    opened.page.get_by_role("button", name="Send the recording").click()
    assert json.loads(opened.outputs(1)[0])["frames"] == 160


@needs_numpy
def test_outputs_that_are_audio_are_played(serve, visit, expect):
    opened = visit(serve("tone"))

    opened.send("10")

    expect(opened.log).to_contain_text("Audio, 0.10 s, 24 kHz, 1 channel")
    expect(opened.page.get_by_role("button", name="Play again")).to_be_visible()


@needs_pocketsphinx
def test_the_words_of_a_recording(serve, visit, expect):
    opened = visit(serve(VOICE))

    send(opened.page, RECORDING)

    [text] = opened.outputs(1)
    assert json.loads(text)["text"] == WORDS
    expect(opened.log).to_contain_text("All outputs have arrived")


@pytest.fixture(scope="module")
def hearing_browser(start_browser):
    """Return a browser whose microphone repeats the recording."""
    browser = start_browser(
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={RECORDING}",
    )
    yield browser
    browser.close()


@needs_pocketsphinx
def test_the_words_of_a_microphone(serve, visit, expect, hearing_browser):
    opened = visit(serve(VOICE), browser=hearing_browser)
    opened.page.get_by_role("tab", name="Microphone").click()

    opened.page.get_by_role("button", name="Start the microphone").click()

    # On a busy machine, the browser may lose some of the audio, which is repeated.
    expect(opened.log).to_contain_text(f'"{WORDS}"')
    expect(opened.log).to_contain_text('"direction": "forward"')
    opened.page.get_by_role("button", name="Stop the microphone").click()
    expect(opened.page.get_by_text("Session closed")).to_be_visible()


def test_a_microphone_that_is_not_allowed_is_reported_in_words(serve, visit, expect):
    opened = visit(serve("same"))
    opened.page.get_by_role("tab", name="Microphone").click()

    opened.page.get_by_role("button", name="Start the microphone").click()

    expect(opened.page.get_by_role("tabpanel").get_by_role("alert")).to_contain_text("microphone")
