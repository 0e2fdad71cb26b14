"""`make` names what a machine lacks in one sentence, before it does anything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = ["bash", "cargo", "cargo-clippy", "cc", "cut", "dirname", "make", "rustfmt", "sed", "sort"]
CARGO_IS_MISSING = "make: cargo is missing; install Rust 1.89 or newer with rustup"


@pytest.fixture
def path(tmp_path) -> Path:
    """A folder with all the programs that `make setup` needs to find out what is missing."""
    for tool in TOOLS:
        program = shutil.which(tool)
        assert program, tool
        (tmp_path / tool).symlink_to(program)
    return tmp_path


def make(path: Path, target: str = "setup") -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": str(path)}
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        environment.pop(name, None)
    return subprocess.run(
        ["make", "PYTHON=false", target],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def replace(program: Path, script: str) -> None:
    program.unlink()
    program.write_text(f"#!/usr/bin/env bash\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("tool", "sentence"),
    [
        ("cargo", CARGO_IS_MISSING),
        ("rustfmt", "make: rustfmt is missing; install it with: rustup component add rustfmt"),
        ("cargo-clippy", "make: clippy is missing; install it with: rustup component add clippy"),
        ("cc", "make: a C compiler is missing; install one, such as gcc, that can be run as 'cc'"),
    ],
)
def test_a_missing_tool_is_named(path, tool, sentence):
    (path / tool).unlink()

    done = make(path)

    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == sentence


@pytest.mark.parametrize("target", ["demo", "test", "test-long", "lint", "wheel", "host", "format", "loom"])
def test_every_target_that_compiles_checks_first(path, target):
    (path / "cargo").unlink()

    done = make(path, target)

    assert (done.stdout, done.stderr.splitlines()[0]) == ("", CARGO_IS_MISSING)


def test_a_tool_of_rustup_whose_component_is_not_installed_is_missing(path):
    replace(path / "rustfmt", "echo \"error: 'rustfmt' is not installed for the toolchain\" >&2; exit 1")

    assert make(path).stderr.splitlines()[0].startswith("make: rustfmt is missing; ")


def test_a_cargo_that_is_too_old_is_named(path):
    replace(path / "cargo", "echo 'cargo 1.85.0 (d73d2caf9 2024-12-31)'")

    done = make(path)

    assert done.stderr.splitlines()[0] == (
        "make: cargo 1.85.0 is too old; install Rust 1.89 or newer with rustup"
    )


def test_nothing_is_said_on_a_machine_that_has_everything(path):
    done = make(path, "tools")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_workflows_call_targets_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    workflows = "\n".join(path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml"))

    called = set(re.findall(r"run: make ([a-z-]+)", workflows))

    assert {"lint", "test", "loom", "wheel", "sdist", "host"} <= called <= targets
