"""The package installs from a checkout and from its packed sources.

Both are built with the settings of `make extension`, without those of a release, which take minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "target/wheel"  # Where `make extension` has built the crates.
CRATES = ("commands", "ffi", "runtime")
PROGRAM = """
import asyncio, remotemedia

class Double:
    def process(self, number):
        return 2 * number

print(asyncio.run(remotemedia.execute_pipeline_with_input([Double()], [1, 2, 3])), remotemedia.__file__)
"""


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """Pack the sources and return the archive."""
    out = tmp_path_factory.mktemp("sources")
    maturin = Path(sys.prefix) / "bin/maturin"
    subprocess.run([maturin, "sdist", "--out", out], cwd=ROOT, check=True, capture_output=True)
    [archive] = out.glob("*.tar.gz")
    return archive


def files_below(*folders: str) -> set[str]:
    return {
        str(path.relative_to(ROOT))
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in {".css", ".html", ".js", ".json", ".py", ".pyi", ".rs", ".typed"}
    }


def install(checkout: Path, place: Path) -> None:
    """Build and install a checkout with the tools of this environment, without downloads."""
    environment = {
        name: value for name, value in os.environ.items() if name not in {"PYO3_PYTHON", "PYTHONPATH"}
    }
    environment["PATH"] = f"{sys.prefix}/bin{os.pathsep}{environment['PATH']}"
    environment["MATURIN_PEP517_ARGS"] = f"--profile dev --target-dir {TARGET}"
    command = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*command, "--target", place, checkout],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def run_program(place: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(place)}
    return subprocess.check_output([sys.executable, "-c", PROGRAM], cwd=place, env=environment, text=True)


def test_sources_contain_only_what_a_build_needs(sources):
    with tarfile.open(sources) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}

    crates = [f"crates/{crate}/src" for crate in CRATES]
    assert names == {
        *("Cargo.lock", "Cargo.toml", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"),
        *(f"crates/{crate}/Cargo.toml" for crate in CRATES),
        "crates/runtime/build.rs",
        *files_below("python/remotemedia", *crates),
    }


@pytest.mark.timeout(900)
def test_a_checkout_installs(tmp_path):
    install(ROOT, tmp_path)

    assert run_program(tmp_path) == f"[2, 4, 6] {tmp_path}/remotemedia/__init__.py\n"


@pytest.mark.timeout(900)
def test_packed_sources_install(sources, tmp_path):
    # In one place, so that cargo replaces earlier builds; new times make it build again.
    unpacked = ROOT / "target/sources"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir(parents=True)
    subprocess.run(["tar", "-xzmf", sources, "-C", unpacked, "--strip-components=1"], check=True)

    install(unpacked, tmp_path)

    assert run_program(tmp_path) == f"[2, 4, 6] {tmp_path}/remotemedia/__init__.py\n"
