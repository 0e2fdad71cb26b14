"""Unusual values in `sys`, and links as TARGET: both work as they do with `python`."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from remotemedia import execute_pipeline_with_input, with_options
from remotemedia._cli import doctor
from remotemedia._cli.errors import LoadError, TargetError
from remotemedia._cli.loading import load
from remotemedia.exceptions import NodeError, PipelineError
from remotemedia.nodes import PassThroughNode

ROOT = Path(__file__).parents[2]
HOST = Path(os.environ.get("REMOTEMEDIA_HOST", ROOT / "target/debug/remotemedia-host"))

APP = """
import sys
from beside_it import WORD

class Say:
    def process(self, item):
        return [WORD, sys.path[0], __file__]

pipeline = [Say()]
"""


def in_worker():
    return asyncio.run(
        execute_pipeline_with_input([with_options(PassThroughNode(), placement="process")], [1])
    )


class TestExecutable:
    @pytest.mark.parametrize("value", [None, "", 5])
    def test_an_unknown_program_is_refused_before_anything_starts(self, monkeypatch, value):
        monkeypatch.setattr(sys, "executable", value)

        with pytest.raises(
            PipelineError, match=f"Cannot start a worker, because sys.executable is {value!r}"
        ):
            in_worker()

    def test_one_that_does_not_exist_is_named(self, monkeypatch):
        monkeypatch.setattr(sys, "executable", "/nonexistent/python")

        with pytest.raises(NodeError, match="worker could not be started.*/nonexistent/python"):
            in_worker()

    @pytest.mark.parametrize("kind", [Path, os.fsencode])
    def test_any_kind_of_path_will_do(self, monkeypatch, kind):
        monkeypatch.setattr(sys, "executable", kind(sys.executable))

        assert in_worker() == [1]

    def test_other_commands_do_without(self, monkeypatch, tmp_path):
        monkeypatch.setattr(sys, "executable", None)
        monkeypatch.setattr(sys, "path", list(sys.path))
        (tmp_path / "needs_more.py").write_text("import not_there_at_all")

        assert doctor._python()[0].text.endswith("(python3)")
        with pytest.raises(LoadError, match="with: python3 -m pip install not_there_at_all"):
            load(str(tmp_path / "needs_more.py"))


class TestPath:
    @pytest.fixture(autouse=True)
    def odd_path(self, monkeypatch, tmp_path):
        odd = [None, tmp_path, 5, b"bytes", [], lambda: None, str(tmp_path / "not_there"), ""]
        monkeypatch.setattr(sys, "path", [*sys.path, *odd])

    def test_workers_start(self):
        assert in_worker() == [1]

    def test_classes_of_new_modules_are_sent(self, monkeypatch, tmp_path):
        (tmp_path / "brand_new.py").write_text(
            "class Node:\n    def process(self, item):\n        return -item\n"
        )
        # `syspath_prepend` would leave the odd entries behind when both changes are undone.
        monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
        import brand_new

        nodes = [with_options(brand_new.Node(), placement="process")]

        assert asyncio.run(execute_pipeline_with_input(nodes, [1])) == [-1]

    def test_doctor_passes_over_odd_entries(self):
        assert doctor.installed_versions()

    def test_targets_load(self, tmp_path):
        (tmp_path / "odd_path_app.py").write_text("class N:\n    process = print\npipeline = [N()]")

        assert load(str(tmp_path / "odd_path_app.py")).entries


def _wheel(*words):
    return [sys.executable, "-m", "remotemedia", *words]


def _host(*words):
    if not HOST.exists():
        pytest.skip("build it with: cargo build --package remotemedia-host")
    return [HOST, *words]


class TestLinks:
    """The directory of the link's target is first on `sys.path`; `__file__` is the link."""

    @pytest.fixture
    def place(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sys, "path", list(sys.path))
        before = set(sys.modules)
        real = tmp_path / "real"
        real.mkdir()
        (real / "linked_app.py").write_text(APP)
        (real / "beside_it.py").write_text("WORD = 'found'\n")
        (real / "made.json").write_text(
            json.dumps({"version": "v1", "nodes": [{"id": "a", "node_type": "linked_app:Say"}]})
        )
        bin_directory = tmp_path / "bin"
        bin_directory.mkdir()
        (bin_directory / "same.py").symlink_to("../real/linked_app.py")
        (bin_directory / "command").symlink_to("same.py")
        (bin_directory / "made.json").symlink_to("../real/made.json")
        (tmp_path / "directory").symlink_to("real")
        yield tmp_path
        for name in {"linked_app", "beside_it"} - before:
            sys.modules.pop(name, None)

    @pytest.mark.parametrize("target", ["bin/same.py", "bin/command:pipeline", "directory/linked_app.py"])
    def test_a_link_is_followed(self, place, monkeypatch, target):
        monkeypatch.chdir(place)
        (node,) = (entry.node for entry in load(target).entries)

        link = str(place / target.partition(":")[0])
        assert node.process(1) == ["found", str(place / "real"), link]

    @pytest.mark.parametrize("program", [_wheel, _host])
    def test_a_node_of_a_link_runs_in_a_worker(self, place, program):
        options = (
            "\nfrom remotemedia import with_options\npipeline = [with_options(Say(), placement='process')]"
        )
        (place / "real/linked_app.py").write_text(APP + options)
        command = program("run", "bin/same.py")
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)

        assert done.stderr == ""
        # A worker imports the module by the name of the link's target.
        assert json.loads(done.stdout)[2] == str(place / "real/linked_app.py")

    def test_the_manifest_of_a_link_finds_its_modules(self, place):
        assert load(str(place / "bin/made.json")).entries[0].node.process(1)[0] == "found"

    def test_the_error_for_a_broken_link_names_its_target(self, place, monkeypatch):
        monkeypatch.chdir(place)
        Path("bin/nowhere.py").symlink_to("gone.py")

        with pytest.raises(
            TargetError, match=r"'bin/nowhere.py' is a link to 'gone.py', which is not a file"
        ):
            load("bin/nowhere.py")

    def test_a_file_and_its_link_are_one_module(self, place):
        first, second = (load(str(place / path)).entries[0] for path in ("real/linked_app.py", "bin/same.py"))

        assert first.node is second.node
