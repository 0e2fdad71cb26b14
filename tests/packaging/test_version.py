"""Only `Cargo.toml` contains the version."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import remotemedia
from remotemedia import _core

ROOT = Path(__file__).parents[2]
HOST = Path(os.environ.get("REMOTEMEDIA_HOST", ROOT / "target/debug/remotemedia-host"))
VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]


def test_the_package_and_the_extension_have_the_version_of_the_workspace():
    assert remotemedia.__version__ == _core.__version__ == VERSION


def test_the_installed_package_has_the_version_of_the_workspace():
    assert importlib.metadata.version("remotemedia") == VERSION


@pytest.mark.parametrize(
    "manifest", sorted(ROOT.glob("crates/*/Cargo.toml")), ids=lambda path: path.parent.name
)
def test_every_crate_takes_its_version_from_the_workspace(manifest):
    assert tomllib.loads(manifest.read_text())["package"]["version"] == {"workspace": True}


@pytest.mark.skipif(not HOST.exists(), reason="build it with: cargo build --package remotemedia-host")
def test_the_host_prints_the_version_of_the_workspace():
    assert subprocess.check_output([HOST, "--version"], text=True) == f"remotemedia-host {VERSION}\n"


def test_the_command_prints_the_version_of_the_workspace():
    command = [sys.executable, "-m", "remotemedia", "--version"]

    assert subprocess.check_output(command, text=True).split()[-1] == VERSION


def test_sources_without_the_extension_have_the_installed_version():
    code = (
        "import sys; sys.modules['remotemedia._core'] = None; import remotemedia as r; print(r.__version__)"
    )

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == f"{VERSION}\n"
