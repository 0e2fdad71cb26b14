"""Every code block of the documents is run, and the output that a document states is compared.

| block | what is done with it |
|---|---|
| `python` | run; the blocks of a page share one namespace and may `await` |
| `text`, `json` or `mermaid` after `python` | is the output of that block; `...` stands for anything |
| `console` | lines with `$ ` are run in bash; the lines after them are their output |
| any language with `file=NAME` | written to that file, for the blocks after it |
| `sh` | set-up commands, not run; the `make` targets that they name exist |
| `rust` | is run by cargo as a documentation test: a crate includes its page |
| `rust,ignore` | is part of a file that cargo builds |
| other `json`, `toml` | is well-formed |
| `yaml`, others that are not code | nothing |

`data/quickstart_user.txt` is what users of the earlier SDK have been given: its snippets run unchanged.
"""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOST = Path(os.environ.get("REMOTEMEDIA_HOST", ROOT / "target/debug/remotemedia-host"))
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "ARCHITECTURE.md",
    *sorted((ROOT / "docs").glob("*.md")),
]
OUTPUT_LANGUAGES = {"text", "json", "mermaid"}
LANGUAGES = {"", "python", "text", "console", "sh", "rust", "json", "toml", "yaml", "mermaid"} | {
    # Files that other tests check.
    "dockerfile",
    "ini",
    "javascript",
}
FENCE = re.compile(r"^```(?P<language>\w*)(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)

USER_PAGE = ROOT / "tests/documents/data/quickstart_user.txt"
# Names that the snippets of that page use without defining them.
USER_NAMES = """
from remotemedia.core.node import Node
from remotemedia.nodes import FilterNode, OutputNode

class ComplexObject: ...
class LoadedModel: ...

class MyNode(Node):
    def __init__(self, param=None, model=None, **config):
        super().__init__(**config)
        self.param, self.model = param, model

    def process(self, data):
        return data
"""
# Lines of snippets, and their outputs; the other lines print nothing.
USER_OUTPUTS = {
    23: "RemoteMedia version: 0...\nRust runtime available: True",
    43: "Result: 10",
    68: "Result: 10",
    91: "Results: [11, 12, 13]",
    117: "Inputs:  [1, 2, 3, 4, 5]\nResults: [2, 4, 6, 8, 10]",
    148: (
        "Loading model from /path/to/model.pkl\nUnloading model\n"
        "Result: {'text': '', 'sentiment': 'negative', 'confidence': 0.95}"
    ),
    209: "Result: 5",
    279: "Outputs: 10\nMetrics: {...'total_duration_us': ...'node_metrics': [{'node_id': 'calc_0', ...",
    374: "Loading model from /models/sentiment.pkl\nUnloading model\n" * 2,
}


@dataclass
class Block:
    label: str
    language: str
    file: str
    text: str
    output: str | None = None  # What the page says that the block prints.
    info: str = ""  # What stands behind the language.


def read_blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    blocks: list[Block] = []
    for fence in FENCE.finditer(text):
        line = text.count("\n", 0, fence.start()) + 1
        file = re.search(r"\bfile=(\S+)", fence["info"])
        block = Block(f"{page.name}:{line}", fence["language"], file[1] if file else "", fence["text"])
        block.info = fence["info"]
        if (
            block.language in OUTPUT_LANGUAGES
            and not block.file
            and blocks
            and blocks[-1].language == "python"
        ):
            blocks[-1].output = block.text
        blocks.append(block)
        if block.language == "console":
            block.output = block.text
    return blocks


def run_page(blocks: list[Block], directory: Path) -> list[tuple[Block, str]]:
    """Run the blocks that are code, in order, in one process whose working directory is `directory`."""
    code = [block for block in blocks if block.file or block.language in {"python", "console"}]
    (directory / "examples").symlink_to(ROOT / "examples")
    programs = [str(Path(sys.executable).parent), str(HOST.parent), os.environ["PATH"]]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/support/page_runner.py")],
        input=json.dumps([vars(block) for block in code]),
        cwd=directory,
        env={**os.environ, "PATH": os.pathsep.join(programs), "VIRTUAL_ENV": sys.prefix, "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return list(zip(code, json.loads(done.stdout), strict=True))


def headings_of(page: Path) -> set[str]:
    """Return the headings of a page as anchors of links."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def tidy(output: str) -> str:
    """Remove what a page cannot show: blanks at the end of a line, empty lines at the end."""
    return "\n".join(line.rstrip() for line in output.rstrip().splitlines()) + "\n"


def expect_stated_output(results: list[tuple[Block, str]]) -> None:
    checker = doctest.OutputChecker()
    found = ""
    for block, result in results:
        wanted, got = tidy(block.output or ""), tidy(result)
        if not checker.check_output(wanted, got, doctest.ELLIPSIS):
            found += f"\n{block.label}\nthe page says:\n{wanted}the result is:\n{got}"
    if found:
        pytest.fail(found, pytrace=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_of_the_page_has_the_stated_output(page, tmp_path):
    results = run_page(read_blocks(page), tmp_path)

    expect_stated_output(results)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_that_are_not_run_are_sound(page):
    blocks = read_blocks(page)
    built = [path.read_text(encoding="utf-8") for path in ROOT.glob("crates/*/*/**/*.rs")]
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    assert {block.language for block in blocks} <= LANGUAGES
    for block in blocks:
        if block.language == "rust":
            wanted = block.text if "ignore" in block.info else f'include_str!("../../../docs/{page.name}")'
            assert any(wanted in source for source in built), block.label
        elif block.language == "sh":
            assert set(re.findall(r"^make ([a-z-]+)", block.text, re.MULTILINE)) <= targets, block.label
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_the_page_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", page.read_text(encoding="utf-8"))

    targets = [(page.parent / path if path else page, heading) for path, heading in links]

    assert [target for target, _ in targets if not target.exists()] == []
    assert [target for target in targets if target[1] and target[1] not in headings_of(target[0])] == []


def test_index_lists_every_page():
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")

    listed = re.findall(r"^\| \[[^]]+\]\(([^)]+)\)", index, re.MULTILINE)

    assert sorted([*listed, "index.md"]) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


def test_snippets_that_users_were_given_run_unchanged(tmp_path):
    blocks = [block for block in read_blocks(USER_PAGE) if block.language == "python"]
    for block in blocks:
        block.output = USER_OUTPUTS.get(int(block.label.rpartition(":")[2]))

    results = run_page([Block("names", "python", "", USER_NAMES), *blocks], tmp_path)

    expect_stated_output(results)
