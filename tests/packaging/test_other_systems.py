"""On other systems RemoteMedia states in one sentence that it runs on Linux only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def build_script(tmp_path_factory) -> Path:
    """Compile the build script of the runtime, which cargo runs before it compiles the crate."""
    program = tmp_path_factory.mktemp("build") / "build-script"
    source = ROOT / "crates/runtime/build.rs"
    subprocess.run(["rustc", "--edition", "2024", source, "-o", program], check=True)
    return program


def test_an_import_on_another_system_is_refused_with_alternatives():
    code = "import sys; sys.platform = 'darwin'; import remotemedia"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stderr.splitlines()[-1] == (
        "ImportError: RemoteMedia runs on Linux only and cannot be imported on darwin; "
        "use a Linux machine or container, or WSL on Windows"
    )


@pytest.mark.parametrize("system", ["macos", "windows"])
def test_a_build_for_another_system_is_refused_with_alternatives(build_script, system):
    printed = subprocess.check_output([build_script], env={"CARGO_CFG_TARGET_OS": system}, text=True)

    assert printed.splitlines()[-1] == (
        f"cargo::error=RemoteMedia runs on Linux only and cannot be built for {system}; "
        "use a Linux machine or container, or WSL on Windows"
    )


def test_a_build_for_linux_succeeds(build_script):
    environment = {**os.environ, "CARGO_CFG_TARGET_OS": "linux"}

    assert "cargo::error" not in subprocess.check_output([build_script], env=environment, text=True)
