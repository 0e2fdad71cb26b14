"""The cost of importing the package, and the modules that it loads."""

from __future__ import annotations

import subprocess
import sys

import remotemedia


def fresh(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    return set(fresh(code).split())


def test_the_import_loads_few_modules():
    assert loaded_by("import remotemedia") == {"remotemedia", "__future__"}


def test_the_public_names_load_no_heavy_module():
    loaded = loaded_by("from remotemedia import Node, Pipeline, execute_pipeline")

    assert not loaded & {"asyncio", "numpy", "inspect", "dataclasses", "json", "logging", "cloudpickle"}


def test_a_command_loads_no_heavy_module(tmp_path):
    """Each would add milliseconds to every command."""
    (tmp_path / "app.py").write_text(
        "class Same:\n    def process(self, item): return item\npipeline = [Same()]"
    )
    (tmp_path / "line.txt").write_text("a line\n")
    words = ["run", f"{tmp_path}/app.py:pipeline", "--input", f"{tmp_path}/line.txt", "--output", "/dev/null"]

    loaded = loaded_by(f"from remotemedia._core import main; assert main({words!r}) == 0")

    assert "remotemedia._graph.graph" in loaded
    assert not loaded & {"typing", "re", "json", "traceback", "dataclasses", "inspect", "asyncio", "logging"}


def test_the_import_prints_nothing():
    assert fresh("import remotemedia, remotemedia.runtime, remotemedia.nodes") == ""


def test_submodules_are_there_without_their_import():
    code = "import remotemedia; print(remotemedia.nodes.PassThroughNode.__name__, remotemedia.core.__name__)"

    assert fresh(code) == "PassThroughNode remotemedia.core\n"


def test_every_public_name_exists():
    assert all(getattr(remotemedia, name) is not None for name in remotemedia.__all__)
    assert set(remotemedia.__all__) <= set(dir(remotemedia))


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(remotemedia, "nothing")
