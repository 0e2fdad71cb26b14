"""`make site`: every link of the rendered documentation leads somewhere, and no page needs the network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MKDOCS = Path(sys.executable).parent / "mkdocs"
LOADED = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["']?((?:https?:)?//[^"' >]+)""")

pytestmark = pytest.mark.skipif(not MKDOCS.exists(), reason="mkdocs of .ci/requirements.txt is not installed")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site; `--strict` fails on a link or an anchor that does not exist."""
    directory = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [MKDOCS, "build", "--strict", "--quiet", "--site-dir", directory],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return directory


def test_site_has_every_page(site):
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")}

    assert pages <= {page.stem for page in site.glob("*.html")}


def test_site_loads_nothing_from_the_network(site):
    loaded = [
        url for page in site.rglob("*.html") for url in LOADED.findall(page.read_text(encoding="utf-8"))
    ]

    assert loaded == []


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("pipelines", "remotemedia.Pipeline.run"),
        ("sessions", "remotemedia.AsyncSession.interrupt"),
        ("exceptions", "remotemedia.exceptions.NodeError"),
    ],
)
def test_reference_documents_public_names(site, page, name):
    text = (site / f"api/{page}.html").read_text(encoding="utf-8")

    assert f'id="{name}"' in text
