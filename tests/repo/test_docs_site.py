"""The documentation builds without a warning, and its pages load nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # builds the site

# What a browser fetches by itself: scripts, images and frames, style sheets and fonts.
FETCHED = re.compile(
    r"""<(?:script|img|iframe)\b[^>]*\bsrc=["']?(https?:)?//|@import|url\(https?:"""
)
LINKED = re.compile(r"""<link\b[^>]*\bhref=["']?(?:https?:)?//[^>]*>""")


@pytest.fixture(scope="module")
def site(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    done = subprocess.run(
        build,
        cwd=root,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def test_every_page_of_the_docs_is_built(site: Path, root: Path) -> None:
    pages = [path.relative_to(root / "docs") for path in (root / "docs").rglob("*.md")]
    assert not [page for page in pages if not (site / page.with_suffix(".html")).is_file()]


def test_pages_fetch_nothing_from_elsewhere(site: Path) -> None:
    fetching = {
        path.relative_to(site).as_posix(): found[0]
        for path in site.rglob("*.html")
        for found in [FETCHED.search(path.read_text()) or LINKED.search(path.read_text())]
        if found and 'rel="canonical"' not in found[0]
    }
    assert not fetching
