"""Files of the pages on serving that do not run there: a script of browsers, a unit, a container file."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from browser import browsers

import remotemedia
from remotemedia import Pipeline

ROOT = Path(__file__).parents[2]
INSTRUCTIONS = {
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "RUN",
    "STOPSIGNAL",
    "USER",
    "WORKDIR",
}


def file_of(page, name):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.search(rf"^```\w+ file={re.escape(name)}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[1]


class Count:
    def process(self, question):
        return len(question["text"].split())


def test_a_browser_runs_the_script():
    script = file_of("serving.md", "ask.js")
    assert len(script.splitlines()) <= 15

    with (
        remotemedia.serving(Pipeline([Count()], name="words"), port=0) as server,
        browsers() as start,
    ):
        browser = start()
        page = browser.new_page()
        page.goto(f"{server.url}/healthz")
        page.evaluate(f"() => {{ {script} }}")
        page.wait_for_function("document.title === '4 words'")
        browser.close()


@pytest.fixture
def unit(tmp_path):
    """The unit, with a program that exists."""
    text = file_of("deployment.md", "words.service")
    path = tmp_path / "words.service"
    path.write_text(text, encoding="utf-8")
    return path


def test_systemd_knows_all_of_the_unit(unit):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is missing; install it with: apt-get install systemd")

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )

    own = [line for line in done.stderr.splitlines() if "words" in line]
    assert (done.returncode, own) == (0, [])


def test_the_unit_serves_and_stops_in_time(unit):
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read(unit)

    service = parser["Service"]
    assert " serve /srv/words/words.py:pipeline " in service["ExecStart"]
    # The grace period, and the time for nodes.
    assert int(service["TimeoutStopSec"]) > 30 + 10


def test_the_container_file_is_well_formed():
    lines = file_of("deployment.md", "Dockerfile").splitlines()
    instructions = [line.split(maxsplit=1) for line in lines if line]

    assert {word for word, _ in instructions} <= INSTRUCTIONS
    assert instructions[0][0] == "FROM"
    words = dict(instructions)
    command = re.findall(r'"([^"]*)"', words["ENTRYPOINT"] + words["CMD"])
    assert command[:3] == ["remotemedia", "serve", "words.py:pipeline"]
    with pytest.raises(remotemedia.exceptions.PipelineError, match="'/run/secrets/token': No such file"):
        serve_with(command[3:])


def serve_with(words):
    """Start with these words of the command line; all have a value."""
    names = [word.removeprefix("--").replace("-", "_") for word in words[::2]]
    with remotemedia.serving([Count()], **dict(zip(names, words[1::2], strict=True))):
        pass
