"""Hundreds of generated wrong inputs: each refused in one short line, without traceback or hang."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def outcome(folder: Path, every: int) -> dict[str, Any]:
    results = folder / "results.json"
    module = "tests.helpers.hostile.server"
    words = [sys.executable, "-m", module, str(folder / "work"), str(results), str(every)]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    subprocess.run(words, cwd=ROOT, check=True, env=quiet, stdout=subprocess.DEVNULL, timeout=900)
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
