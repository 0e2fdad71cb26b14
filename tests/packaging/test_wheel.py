"""The wheel works in an empty virtual environment of every installed Python from 3.11 on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OLDEST_MINOR = 11
DESCRIBE = """
import json, sys, sysconfig, venv
free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
print(json.dumps([sys.base_prefix, sys.version_info[:2], sys.prefix != sys.base_prefix or free_threaded]))
"""
PROGRAM = """
import asyncio
from remotemedia import Node, execute_pipeline_with_input, is_rust_runtime_available

class Double(Node):
    def process(self, number):
        return 2 * number

assert is_rust_runtime_available()
print(asyncio.run(execute_pipeline_with_input([Double()], [1, 2, 3])))
"""


def output_of(*command: str | Path, cwd: Path = ROOT) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={
            name: value
            for name, value in os.environ.items()
            if name not in {"PYO3_PYTHON", "PYTHONPATH", "VIRTUAL_ENV"}
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def find_pythons() -> dict[str, Path]:
    """Find the interpreters, one per installation: those on PATH and those of pyenv."""
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    if pyenv := shutil.which("pyenv"):
        folders += Path(output_of(pyenv, "root").strip()).glob("versions/*/bin")
    found: dict[str, Path] = {}
    for python in (path for folder in folders for path in sorted(folder.glob("python3.*"))):
        minor = python.name.removeprefix("python3.")
        if not minor.isdigit() or int(minor) < OLDEST_MINOR:
            continue
        described = subprocess.run([python, "-c", DESCRIBE], capture_output=True, text=True, check=False)
        if described.returncode != 0:  # For example pyenv's shim of a version that is not selected.
            continue
        prefix, version, is_special = json.loads(described.stdout)
        if not is_special:
            found.setdefault(f"{prefix}-{version[1]}", python)
    return found


PYTHONS = find_pythons()


@pytest.fixture(scope="session")
def build_wheel(tmp_path_factory):
    """Return the wheel for a minor version, built once."""
    wheels: dict[str, Path] = {}

    def build(python: Path, minor: str) -> Path:
        if minor not in wheels:
            out = tmp_path_factory.mktemp("wheel")
            target = ROOT / "target/wheel"  # Where `make extension` has built for this very Python.
            if minor == f"{sys.version_info.major}.{sys.version_info.minor}":
                python = Path(sys.prefix) / "bin/python"
            else:
                target /= minor  # PyO3 is built for one version at a time.
            maturin = Path(sys.prefix) / "bin/maturin"
            output_of(
                maturin, "build", "--locked", "--interpreter", python, "--target-dir", target, "--out", out
            )
            [wheels[minor]] = out.glob("*.whl")
        return wheels[minor]

    return build


@pytest.fixture
def own_wheel(build_wheel):
    """Open the wheel for the Python that runs the tests."""
    wheel = build_wheel(Path(sys.executable), f"{sys.version_info.major}.{sys.version_info.minor}")
    with zipfile.ZipFile(wheel) as opened:
        yield opened


def test_a_python_is_found():
    assert PYTHONS


@pytest.mark.timeout(900)  # The first build of a version compiles every crate.
@pytest.mark.parametrize("python", PYTHONS.values(), ids=PYTHONS.keys())
def test_wheel_works_in_an_empty_environment(python, build_wheel, tmp_path):
    wheel = build_wheel(python, python.name.removeprefix("python"))
    output_of(python, "-m", "venv", "--without-pip", tmp_path / "venv")
    installed = tmp_path / "venv/bin/python"
    output_of(sys.executable, "-m", "pip", "--python", installed, "install", "--quiet", wheel)

    assert output_of(installed, "-c", PROGRAM, cwd=tmp_path) == "[2, 4, 6]\n"
    assert str(tmp_path) in output_of(installed, "-m", "remotemedia", "doctor", cwd=tmp_path)
    assert output_of(tmp_path / "venv/bin/remotemedia", "nodes", cwd=tmp_path)


@pytest.mark.timeout(900)
def test_wheel_contains_the_package_its_types_and_the_licence(own_wheel):
    names = {name for name in own_wheel.namelist() if not name.endswith("/")}
    package = {name for name in names if name.startswith("remotemedia/")}
    [information] = {name.partition("/")[0] for name in names - package}

    suffixes = {name.rpartition(".")[2] for name in package}

    assert {"remotemedia/py.typed", "remotemedia/_core.pyi"} <= package
    assert f"{information}/licenses/LICENSE" in names
    assert suffixes == {"py", "pyi", "so", "typed"}


@pytest.mark.timeout(900)
def test_wheel_metadata_names_the_system_the_licence_and_links(own_wheel):
    [name] = [name for name in own_wheel.namelist() if name.endswith(".dist-info/METADATA")]

    metadata = Parser().parsestr(own_wheel.read(name).decode())

    systems = [text for text in metadata.get_all("Classifier", []) if text.startswith("Operating System")]
    assert systems == ["Operating System :: POSIX :: Linux"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {text.partition(",")[0] for text in metadata.get_all("Project-URL", [])} == {
        "Changelog",
        "Documentation",
        "Issues",
        "Repository",
    }
