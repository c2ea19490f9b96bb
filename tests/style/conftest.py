"""A folder to call `robustsabn stylize` in."""

from pathlib import Path

import pytest

from tests.helpers.style.verb import COLOURS, load, saved


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a content a.png and a style b.png."""
    monkeypatch.setattr("robustsabn.trainers.style.sampling.load_stylizer", load)
    monkeypatch.chdir(tmp_path)
    saved("a.png")
    saved("b.png", COLOURS[::-1, ::2])
    return tmp_path
