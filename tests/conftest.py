"""Shared by all tests: the profiles of hypothesis, and fixtures that run a pipeline on both executors.

`pytest --hypothesis-profile=thorough` tries more than `make test` does.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from leftovers import nothing_remains

from remotemedia import execute_pipeline, execute_pipeline_with_input

if TYPE_CHECKING:
    from collections.abc import Iterator

# It starts threads when it is imported, which no test has left.
with suppress(ImportError):
    import numpy  # noqa: F401, ICN001

# A whole run is slow beside what hypothesis expects of an example, and how slow depends on the machine.
settings.register_profile(
    "default",
    max_examples=200,
    deadline=None,
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "thorough",
    settings.get_profile("default"),
    max_examples=5000,
    derandomize=False,
)
settings.load_profile("default")

# A shell starts a job in the background without Ctrl-C, and so would be the programs that tests send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    """Check that a test leaves no file, thread, process or shared memory."""
    with nothing_remains():
        yield


@pytest.fixture(params=["engine", "reference"])
def use_rust(request: pytest.FixtureRequest) -> bool:
    """Run a test once on each executor."""
    return request.param == "engine"


@pytest.fixture
def run(use_rust: bool) -> Any:
    """Run a pipeline to its end, on the `inputs` if there are any."""

    def run(pipeline: Any, inputs: Any = None, **options: Any) -> Any:
        if inputs is None:
            return asyncio.run(execute_pipeline(pipeline, use_rust=use_rust, **options))
        return asyncio.run(execute_pipeline_with_input(pipeline, inputs, use_rust=use_rust, **options))

    return run


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    """Return the exceptions that Python could not raise."""
    found: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda error: found.append(error.exc_value))
    monkeypatch.setattr(threading, "excepthook", lambda error: found.append(error.exc_value))
    return found
