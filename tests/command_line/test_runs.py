"""Inputs and outputs of `remotemedia-host` and `python -m remotemedia`."""

from __future__ import annotations

import json
import struct
import sys
import wave
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def write_wav(path: Path, samples: bytes) -> None:
    """Write a stereo recording."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(samples)


def test_text_lines_become_json_lines(run, add):
    add("pipeline = [Upper()]")

    done = run("run", "app.py:pipeline", "--input", "-", stdin="one\ntwo\n")

    assert (done.returncode, done.stdout, done.stderr) == (0, '"ONE"\n"TWO"\n', "")


def test_json_lines_keep_their_values(run, add, tmp_path):
    values = [None, True, -(2**63), 1.5, "ä", [1, [2]], {"a": {"b": []}}]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(value) + "\n" for value in values))
    add("pipeline = [Echo()]")

    done = run("run", "app.py:pipeline", "--input", "items.jsonl")

    # None is not an output: that item is filtered out.
    assert [json.loads(line) for line in done.stdout.splitlines()] == values[1:]


def test_a_recording_arrives_as_audio_frames(run, add, tmp_path):
    write_wav(tmp_path / "tone.wav", struct.pack("<hh", 16384, -16384) * 400)
    add("pipeline = [Shape()]")

    done = run("run", "app.py:pipeline", "--input", "tone.wav", "--chunk-ms", "20")

    assert done.returncode == 0, done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()] == [
        [160, 2, 8000, 0.0, 0.5],
        [160, 2, 8000, 0.02, 0.5],
        [80, 2, 8000, 0.04, 0.5],
    ]


def test_a_short_end_of_many_channels_arrives(run, add, tmp_path):
    (tmp_path / "in.raw").write_bytes(bytes(2 * 300 * 161))
    add("pipeline = [Shape()]")

    done = run("run", "app.py", "--input", "in.raw", "--rate", "8000", "--channels", "300")

    assert [json.loads(line)[:2] for line in done.stdout.splitlines()] == [[160, 300], [1, 300]], done.stderr


def test_prints_of_nodes_do_not_mix_with_outputs(run, add):
    add("pipeline = [Loud()]")

    done = run("run", "app.py:pipeline", "--input", "-", stdin="one\n")

    assert (done.stdout, done.stderr) == ('"one"\n', "a line of the node's own\n")


@pytest.mark.parametrize(
    ("expression", "written"),
    [
        ("Word('go', 1.5)", '{"text":"go","start":1.5}'),
        ("(1, [2.5, None])", "[1,[2.5,null]]"),
        ("numpy.float32(1.5)", "1.5"),
        ("numpy.bool_(True)", "true"),
        ("numpy.arange(4).reshape(2, 2)", "[[0,1],[2,3]]"),
        ("-(2 ** 63)", "-9223372036854775808"),
    ],
)
def test_outputs_are_written_by_their_types(run, add, expression, written):
    add("pipeline = [Evaluate()]")

    done = run("run", "app.py:pipeline", "--input", "-", stdin=expression)

    assert (done.returncode, done.stdout) == (0, written + "\n"), done.stderr


def test_bytes_are_written_raw(run, add, tmp_path):
    add("pipeline = [Evaluate()]")

    done = run(
        "run", "app.py:pipeline", "--input", "-", "--output", "out.raw", stdin="bytearray(b'ab')\nb'c'\n"
    )

    assert (done.returncode, (tmp_path / "out.raw").read_bytes()) == (0, b"abc"), done.stderr


def test_audio_is_unchanged(run, add, tmp_path):
    samples = struct.pack("<hhhh", 16384, -16384, 0, 32767) * 100
    write_wav(tmp_path / "in.wav", samples)
    add("pipeline = [Echo()]")

    done = run(
        *("run", "app.py:pipeline", "--input", "in.wav"),
        *("--output", "out.wav", "--sample-format", "s16le"),
    )

    assert done.returncode == 0, done.stderr
    with wave.open(str(tmp_path / "out.wav")) as file:
        assert (file.getnchannels(), file.getframerate(), file.readframes(1000)) == (2, 8000, samples)


def test_a_manifest_runs_like_the_nodes_it_names(run, tmp_path):
    (tmp_path / "chain.yaml").write_text(
        "version: v1\n"
        "metadata: {name: chain}\n"
        "nodes:\n"
        "  - {id: add, node_type: CalculatorNode, params: {operation: add, operand: 10}}\n"
    )
    (tmp_path / "items.jsonl").write_text("1\n2\n")

    done = run("run", "chain.yaml", "--input", "items.jsonl")

    assert (done.returncode, done.stdout) == (0, "11\n12\n"), done.stderr


def test_the_registry_is_listed_with_parameters(run):
    done = run("nodes", "--json")

    calculator = next(node for node in json.loads(done.stdout) if node["name"] == "CalculatorNode")
    assert calculator["aliases"] == ["Calculator"]
    assert [parameter["name"] for parameter in calculator["parameters"]][:2] == ["operation", "operand"]


def test_doctor_names_the_environment(run):
    done = run("doctor")

    assert sys.prefix in done.stdout
    assert done.returncode == 0, done.stdout


def test_metrics_go_to_stderr(run, add):
    add("pipeline = [Upper()]")

    done = run("run", "app.py:pipeline", "--input", "-", "--metrics=json", stdin="one\ntwo\n")

    metrics = json.loads(done.stderr)
    assert (metrics["items_in"], metrics["items_out"], done.stdout) == (2, 2, '"ONE"\n"TWO"\n')
