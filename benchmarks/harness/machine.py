"""Describes the machine that runs the benchmarks."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from pathlib import Path

__all__ = ["describe"]


def describe() -> dict[str, str]:
    """Return the machine, the Python and the command as readable lines."""
    import remotemedia

    system = f"{platform.system()} {platform.release()}"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return {
        "machine": f"{_processor()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB, {system}",
        "load": f"{os.getloadavg()[0]:.2f} at the start, in the last minute",
        "python": f"{python} ({platform.python_compiler()})",
        "remotemedia": f"{remotemedia.__version__}, {_kind_of_build()}",
        "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _kind_of_build() -> str:
    """Return whether the wheel is installed, always a release build, or the tree, which may be any build."""
    from remotemedia import _core

    is_wheel = Path(_core.__file__).parent.parent.name == "site-packages"
    return (
        "installed wheel" if is_wheel else "development build: these results do not count; use `make bench`"
    )
