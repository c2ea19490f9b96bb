"""Hundreds of generated wrong inputs: each refused in one short line, without traceback or hang."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.hostile.server import serve
from tests.helpers.processes import apart

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def outcome(folder: Path, every: int) -> dict[str, Any]:
    results = folder / "results.json"
    code, output = apart(serve, folder / "work", results, every, place=folder, limit=900)
    assert code == 0, output[-3000:]
    found: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))
    return found


def test_a_sample_of_wrong_inputs(tmp_path: Path) -> None:
    found = outcome(tmp_path, 103)
    assert found["found"] == {}
    assert found["cases"] > 50


@pytest.mark.slow
def test_wrong_inputs(tmp_path: Path) -> None:
    found = outcome(tmp_path, 7)
    print(f"{found['cases']} cases in {found['seconds']} s")
    assert found["found"] == {}
    assert found["cases"] > 800
