"""`remotemedia-host` finds the user's environment and carries the package inside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOST = Path(os.environ.get("REMOTEMEDIA_HOST", ROOT / "target/debug/remotemedia-host"))

APP = """
import json, sys

class Report:
    def process(self, item):
        import remotemedia
        return {
            "prefix": sys.prefix,
            "executable": sys.executable,
            "path": sys.path[0],
            "package": remotemedia.__file__,
            "version": remotemedia.__version__,
        }

pipeline = [Report()]
"""

pytestmark = pytest.mark.skipif(
    not HOST.exists(), reason="build it with: cargo build --package remotemedia-host"
)


@pytest.fixture
def run_host(tmp_path):
    """Run the host in an empty directory, with only the given variables."""

    def run_host(*words: str | Path, **variables: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], **{name: str(value) for name, value in variables.items()}}
        command = [str(word) for word in (HOST, *words)]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run_host


@pytest.fixture
def report(run_host, tmp_path):
    """Return the environment that a node in `apps/app.py` sees."""
    app = tmp_path / "apps/app.py"
    app.parent.mkdir()
    app.write_text(APP)

    def report(
        *words: str | Path, target: str = "apps/app.py:pipeline", **variables: str | Path
    ) -> dict[str, str]:
        done = run_host("run", target, *words, **variables)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return report


def make_environment(directory: Path, version: str | None = None) -> Path:
    """Create a virtual environment without pip; its file may claim another version."""
    import venv

    venv.create(directory, symlinks=True)
    if version is not None:
        configuration = directory / "pyvenv.cfg"
        lines = configuration.read_text().splitlines()
        configuration.write_text(
            "\n".join(f"version = {version}" if "version =" in line else line for line in lines)
        )
    return directory


def test_the_active_environment_is_used(report, tmp_path):
    active = make_environment(tmp_path / "active")

    assert report(VIRTUAL_ENV=active)["prefix"] == str(active)


@pytest.mark.parametrize("place", [".venv", "apps/.venv"])
def test_an_environment_beside_the_target_or_above_it_is_found(report, tmp_path, place):
    environment = make_environment(tmp_path / place)

    assert report()["prefix"] == str(environment)


def test_the_active_environment_precedes_one_beside_the_target(report, tmp_path):
    make_environment(tmp_path / ".venv")
    active = make_environment(tmp_path / "active")

    assert report(VIRTUAL_ENV=active)["prefix"] == str(active)


@pytest.mark.parametrize("choice", ["chosen", "chosen/bin/python"])
def test_the_python_option_precedes_all_others(report, tmp_path, choice):
    active = make_environment(tmp_path / "active")
    chosen = make_environment(tmp_path / "chosen")

    found = report("--python", tmp_path / choice, VIRTUAL_ENV=active)

    assert (found["prefix"], found["executable"]) == (str(chosen), str(chosen / "bin/python"))


def test_without_an_environment_the_python_of_the_build_is_used(report):
    assert report()["prefix"] == sys.base_prefix


def test_the_package_is_loaded_from_the_host(report):
    found = report()

    assert found["package"] == "<remotemedia-host>/remotemedia/__init__.py"


def test_the_directory_of_a_file_is_first_on_the_path(report, tmp_path):
    assert report()["path"] == str(tmp_path / "apps")


def test_the_current_directory_is_first_on_the_path_for_a_module(report, tmp_path):
    assert report(target="apps.app:pipeline")["path"] == str(tmp_path)


def test_the_error_for_an_environment_of_another_python_says_what_to_do(run_host, tmp_path):
    environment = make_environment(tmp_path / "other", version="3.8.18")

    done = run_host("doctor", VIRTUAL_ENV=environment)

    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert done.returncode == 2
    assert (
        f"{environment} has Python 3.8, but the interpreter inside this program is Python {minor}"
        in done.stderr
    )
    assert f"python{minor} -m venv" in done.stderr


def test_an_environment_without_its_python_is_refused(run_host, tmp_path):
    environment = make_environment(tmp_path / "broken")
    for link in (environment / "bin").glob("python*"):
        link.unlink()

    done = run_host("doctor", VIRTUAL_ENV=environment)

    assert done.returncode == 2
    assert f"{environment} (active, from VIRTUAL_ENV) has no Python interpreter" in done.stderr


def test_a_missing_python_is_refused(run_host):
    done = run_host("doctor", "--python", "/nowhere/python")

    assert done.returncode == 2
    assert "--python /nowhere/python: no such interpreter or environment" in done.stderr


@pytest.mark.usefixtures("report")
def test_an_installed_wheel_of_another_version_is_reported_and_not_used(run_host, tmp_path):
    environment = make_environment(tmp_path / ".venv")
    packages = next((environment / "lib").glob("python3.*/site-packages"))
    (packages / "remotemedia").mkdir()
    (packages / "remotemedia/__init__.py").write_text("raise RuntimeError('the wrong package was loaded')")
    (packages / "remotemedia-0.0.1.dist-info").mkdir()

    done = run_host("run", "apps/app.py:pipeline")

    assert done.returncode == 0
    assert f"remotemedia 0.0.1 is installed in {packages}, but" in done.stderr
    assert json.loads(done.stdout)["package"].startswith("<remotemedia-host>")


def test_atexit_runs_and_its_output_arrives(run_host, tmp_path):
    (tmp_path / "app.py").write_text(
        APP + "import atexit\natexit.register(lambda: print('goodbye', file=sys.stderr))",
    )

    done = run_host("run", "app.py:pipeline")

    assert done.stderr == "goodbye\n"


def test_tracebacks_show_lines_of_the_package_inside(run_host, tmp_path):
    (tmp_path / "app.py").write_text("from remotemedia import nodes\nnodes.register_node(1)")

    done = run_host("check", "app.py:pipeline", "--traceback")

    assert 'File "<remotemedia-host>/remotemedia/_graph/registry.py"' in done.stderr
    assert "raise TypeError(" in done.stderr


def test_subprocesses_of_nodes_run_in_the_same_environment(run_host, tmp_path):
    environment = make_environment(tmp_path / ".venv")
    (tmp_path / "app.py").write_text(
        "import subprocess, sys\n"
        "class Ask:\n"
        "    def process(self, item):\n"
        "        command = [sys.executable, '-c', 'import sys; print(sys.prefix)']\n"
        "        return subprocess.check_output(command, text=True)\n"
        "pipeline = [Ask()]\n"
    )

    done = run_host("run", "app.py:pipeline")

    assert json.loads(done.stdout) == f"{environment}\n"


@pytest.mark.parametrize(("variables", "is_compiled"), [({}, True), ({"PYTHONOPTIMIZE": "1"}, False)])
def test_its_modules_are_compiled_unless_python_optimizes(run_host, tmp_path, variables, is_compiled):
    (tmp_path / "app.py").write_text("""
import remotemedia
from remotemedia import runtime

class Report:
    def process(self, item):
        loader = remotemedia.__spec__.loader
        return ["runtime.py" in loader._code, runtime.execute_pipeline.__code__.co_filename]

pipeline = [Report()]
""")

    run = run_host("run", "app.py:pipeline", VIRTUAL_ENV=sys.prefix, **variables)

    assert json.loads(run.stdout) == [is_compiled, "<remotemedia-host>/remotemedia/runtime.py"]
