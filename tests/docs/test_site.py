"""The site builds without a warning, and its pages need nothing from other hosts."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import ROOT

pytestmark = pytest.mark.slow
LOADED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']([^"']+)|<link\b[^>]*\bhref=["']([^"']+)"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocstrings")
    pytest.importorskip("material")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr
    return folder


def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        text = page.read_text(encoding="utf-8")
        outside = [a or b for a, b in LOADED.findall(text) if re.match(r"(https?:)?//", a or b)]
        assert not outside, f"{page.name}: {outside}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(https?:)?//|@import", sheet.read_text(encoding="utf-8")), (
            sheet.name
        )


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    import robustsabn
    import robustsabn.attacks
    import robustsabn.trainers

    for module in (robustsabn, robustsabn.attacks, robustsabn.trainers):
        page = (site / "api" / f"{module.__name__}.html").read_text(encoding="utf-8")
        missing = [
            name
            for name in module.__all__
            if not (name.startswith("__") or inspect.ismodule(getattr(module, name)))
            and f'id="{module.__name__}.{name}"' not in page
        ]
        assert not missing


def test_every_page_is_in_the_navigation(site: Path) -> None:
    home = (site / "index.html").read_text(encoding="utf-8")
    for page in site.rglob("*.html"):
        if page.name != "404.html":
            assert f'href="{page.relative_to(site).as_posix()}"' in home, page
