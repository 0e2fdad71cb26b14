"""The defaults and limits of Python are those of Rust."""

from __future__ import annotations

import pytest

from remotemedia import _core, _limits


@pytest.mark.parametrize("name", _limits.__all__)
def test_python_and_rust_have_the_same_limit(name):
    assert getattr(_limits, name) == getattr(_core, name)
