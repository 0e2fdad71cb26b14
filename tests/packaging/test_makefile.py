"""`make` names what a machine lacks in one sentence, before it does anything."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ["bash", "cargo", "cargo-clippy", "cc", "cut", "dirname", "make", "rustfmt", "sed", "sort"]
CARGO_IS_MISSING = "make: cargo is missing; install Rust 1.89 or newer with rustup"


@pytest.fixture
def path(tmp_path) -> Path:
    """Return a folder with the programs that `make setup` needs to detect missing ones."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in TOOLS:
        program = shutil.which(tool)
        assert program, tool
        (folder / tool).symlink_to(program)
    return folder


@pytest.fixture
def make(path, tmp_path):
    """Run `make` in a new checkout with only the programs in `path`."""
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / ".ci", checkout / ".ci")
    for name in ("Cargo.toml", "Makefile"):
        shutil.copy(ROOT / name, checkout)

    def make(target: str = "setup") -> subprocess.CompletedProcess[str]:
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHON"}
        }
        return subprocess.run(
            ["make", target],
            cwd=checkout,
            env={**environment, "PATH": str(path)},
            capture_output=True,
            text=True,
            check=False,
        )

    return make


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
        ("cc", "make: a C compiler is missing; install one, such as gcc, that is available as 'cc'"),
    ],
)
def test_a_missing_tool_is_named(path, make, tool, sentence):
    (path / tool).unlink()

    done = make()

    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == sentence


@pytest.mark.parametrize(
    "target", ["demo", "serve", "test", "test-long", "lint", "wheel", "host", "format", "loom"]
)
def test_every_target_that_compiles_checks_first(path, make, target):
    (path / "cargo").unlink()

    done = make(target)

    assert (done.stdout, done.stderr.splitlines()[0]) == ("", CARGO_IS_MISSING)


def test_a_tool_of_rustup_whose_component_is_not_installed_is_missing(path, make):
    replace(path / "rustfmt", "echo \"error: 'rustfmt' is not installed for the toolchain\" >&2; exit 1")

    assert make().stderr.splitlines()[0].startswith("make: rustfmt is missing; ")


def test_a_cargo_that_is_too_old_is_named(path, make):
    replace(path / "cargo", "echo 'cargo 1.85.0 (d73d2caf9 2024-12-31)'")

    done = make()

    assert done.stderr.splitlines()[0] == (
        "make: cargo 1.85.0 is too old; install Rust 1.89 or newer with rustup"
    )


def test_a_missing_python_is_named(make):
    assert make().stderr.splitlines()[0] == (
        "make: Python 3.11 or newer with venv is missing; install it, or run: make PYTHON=/path/to/python3"
    )


def test_nothing_is_printed_on_a_complete_machine(make):
    done = make("tools")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_workflows_call_targets_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    workflows = "\n".join(path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml"))

    called = set(re.findall(r"run: make ([a-z-]+)", workflows))

    assert {"lint", "test", "loom", "wheel", "sdist", "host"} <= called <= targets
