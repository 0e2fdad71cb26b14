"""`run --metrics` and `check --metrics` say which placements the measured times suggest in asyncio."""

from __future__ import annotations

import json

import pytest

NODES = """
import time
from remotemedia import with_options

class Gain:
    def process(self, level):
        return level

class Speak:
    async def process(self, level):
        return level

class Read(Gain):
    def process(self, level):
        time.sleep(0.006)
        return level

pipeline = [Gain(), Speak()]
slow = [with_options(Read(), placement="inline"), Speak()]
"""
INLINE = (
    "Node 'Gain_0' takes 1.0 µs, but in asyncio a call spends longer on the way to its thread and back; "
    'write placement="inline" on it'
)


def times(*node_ids: str, items: int = 100) -> str:
    nodes = [
        {
            "node_id": node_id,
            "items_in": items,
            "total_duration_us": items,
            "avg_duration_us": 1.0,
            "max_duration_us": 2.0,
            "initialize_duration_us": 0,
        }
        for node_id in node_ids
    ]
    return json.dumps({"node_metrics": nodes}, indent=1)


def test_the_table_is_followed_by_advice(run, add):
    add(NODES)

    done = run("run", "app.py:slow", "--input", "-", "--metrics", stdin="1\n")

    *_, empty, text = done.stderr.splitlines()
    assert empty == ""
    assert text.startswith(
        "advice: Node 'Read_0' runs on the event loop in asyncio, and its longest call took "
    )


def test_json_has_advice_that_check_repeats(run, add, tmp_path):
    add(NODES)
    done = run("run", "app.py:slow", "--input", "-", "--metrics=json", stdin="1\n")
    (tmp_path / "metrics.json").write_text(f"printed by a node\n{done.stderr}")

    checked = run("check", "app.py:slow", "--metrics", "metrics.json")

    [text] = json.loads(done.stderr)["advice"]
    assert checked.stdout.endswith(f"\n\nnote: {text}\n")
    assert checked.returncode == 0


def test_check_gives_advice_about_short_nodes(run, add, tmp_path):
    add(NODES)
    (tmp_path / "many.json").write_text(times("Gain_0", "Speak_1"))
    (tmp_path / "few.json").write_text(times("Gain_0", "Speak_1", items=99))

    many = run("check", "app.py", "--metrics", "many.json").stdout
    few = run("check", "app.py", "--metrics", "few.json").stdout

    assert many == f"{few}\nnote: {INLINE}\n"
    assert run("check", "app.py").stdout == few


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "this file contains no metrics; write them with json.dump(metrics, file) or run --metrics=json"),
        (
            '{"node_metrics": [{}]}',
            "this file contains no metrics; write them with json.dump(metrics, file) or ",
        ),
        (
            "[1]",
            "this file contains no metrics; write them with json.dump(metrics, file) or run --metrics=json",
        ),
        (times("Gain_0"), "these metrics are of a pipeline with other nodes"),
    ],
    ids=["empty", "no times", "a list", "other nodes"],
)
def test_check_refuses_files_without_the_metrics_of_its_pipeline(run, add, tmp_path, content, problem):
    add(NODES)
    (tmp_path / "metrics.json").write_text(content)

    done = run("check", "app.py", "--metrics", "metrics.json")

    assert f": 'metrics.json': {problem}" in done.stderr
    assert (done.returncode, done.stdout) == (2, "")
