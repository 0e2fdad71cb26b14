"""The findings and problems that `doctor` reports."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy  # noqa: F401, ICN001 - It starts threads when it is first imported, which no test should leave behind.

import remotemedia
from remotemedia import _core
from remotemedia._cli import doctor


def problems() -> dict[str, str]:
    return {finding.label: finding.text for finding in doctor.findings() if finding.kind == "problem"}


def test_a_sound_environment_has_no_problems():
    assert problems() == {}


def test_facts_name_versions_and_places():
    facts = {finding.label: finding.text for finding in doctor.findings()}

    assert facts["Virtual environment"].startswith(sys.prefix)
    assert facts["Extension"].startswith(f"remotemedia._core {_core.__version__} (")


def test_another_installed_version_is_a_problem(tmp_path, monkeypatch):
    (tmp_path / "remotemedia-0.0.1.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    text = problems()["Installed wheel"]

    assert text.startswith(
        f"remotemedia 0.0.1 is installed in {tmp_path}, but {_core.__version__} is in use;"
    )


def test_an_extension_of_another_version_than_the_installed_one_is_a_problem(monkeypatch):
    monkeypatch.setattr(_core, "__version__", "0.0.1")
    monkeypatch.setattr(remotemedia, "__version__", _core.__version__)

    assert "is installed in" in problems()["Installed wheel"]
    assert "but 0.0.1 is in use; install that version with: " in problems()["Installed wheel"]


def test_a_missing_package_is_a_problem_with_a_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)

    assert f"{sys.executable} -m pip install 'cloudpickle>=" in problems()["cloudpickle"]


def test_a_missing_optional_package_is_not_a_problem(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)

    assert not problems()
    [note] = [finding for finding in doctor.findings() if finding.kind == "note"]
    assert note.text.startswith("not installed; to read audio, install it with: ")


def test_a_package_that_is_too_old_is_a_problem(monkeypatch):
    old = ModuleType("cloudpickle")
    old.__version__ = "2.2.1"
    monkeypatch.setitem(sys.modules, "cloudpickle", old)

    assert problems()["cloudpickle"].startswith("2.2.1 is too old; to send nodes to worker")


def test_another_active_environment_is_a_problem(monkeypatch):
    monkeypatch.setenv("VIRTUAL_ENV", "/another/environment")

    assert problems() == {"Virtual environment": "/another/environment is active, but not in use"}
