"""Every file of `examples/` runs, and prints the output that is stated here or on its page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOST = Path(os.environ.get("REMOTEMEDIA_HOST", ROOT / "target/debug/remotemedia-host"))
GO_FORWARD = {
    "start": 0.18,
    "end": 2.68,
    "text": "go forward ten meters",
    "intent": {"name": "move", "direction": "forward", "distance": 10, "unit": "meters"},
}


def output_of(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout


def utterances_of(*command: str) -> list[object]:
    return [json.loads(line) for line in output_of(*command).splitlines()]


def test_every_example_is_run():
    here = {"quickstart.py", "voice.py", "voice_program.py"}
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    on_pages = set(re.findall(r"^\$ python examples/(\S+)", pages, re.MULTILINE))

    assert {path.name for path in (ROOT / "examples").glob("*.py")} == here | on_pages


def test_quickstart_counts_words():
    assert output_of(sys.executable, "examples/quickstart.py") == "[2, 5]\n5\n"


@pytest.mark.parametrize("chunk_ms", [20, 7, 1000])
def test_voice_is_understood_in_the_host_whatever_the_chunks(chunk_ms):
    command = [HOST, "run", "examples/voice.py:pipeline", "--input", "examples/data/go_forward.wav"]

    assert utterances_of(*map(str, command), "--chunk-ms", str(chunk_ms)) == [GO_FORWARD]


def test_voice_is_understood_under_python():
    command = [sys.executable, "-m", "remotemedia", "run", "examples/voice.py:pipeline"]

    assert utterances_of(*command, "--input", "examples/data/go_forward.wav") == [GO_FORWARD]


def test_voice_program_understands_a_file():
    assert utterances_of(sys.executable, "examples/voice_program.py", "examples/data/go_forward.wav") == [
        GO_FORWARD
    ]


def test_a_sentence_without_a_command_is_a_statement():
    [utterance] = utterances_of(sys.executable, "examples/voice_program.py", "examples/data/dashwood.wav")

    assert utterance["intent"] == {"name": "statement"}
    assert "how much there might be" in utterance["text"]


@pytest.mark.parametrize(
    ("text", "intent"),
    [
        ("turn left", {"name": "move", "direction": "left"}),
        (
            "walk back twenty five steps",
            {"name": "move", "direction": "back", "distance": 25, "unit": "steps"},
        ),
        ("drive up two hundred feet", {"name": "move", "direction": "up", "distance": 200, "unit": "feet"}),
        ("look forward to it", {"name": "statement"}),
    ],
)
def test_intents(text, intent):
    code = f"import json, voice; print(json.dumps(voice.Intent().intent({text!r})))"

    completed = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "examples", stdout=subprocess.PIPE, text=True, check=True
    )

    assert json.loads(completed.stdout) == intent
