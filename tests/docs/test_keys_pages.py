"""docs/keys/ says what the dataclasses say, for every kind of training."""

import runpy
from unittest import mock

import pytest

from robustsabn.trainers.methods import METHODS
from robustsabn.trainers.tasks import TASKS
from tests.helpers import ROOT

OWN = {name: cls for name, cls in METHODS.items() if cls.__module__.startswith("robustsabn.")}
SCRIPT = runpy.run_path(str(ROOT / "docs" / "tools" / "keys.py"))


@pytest.mark.parametrize("task", TASKS)
def test_the_page_is_up_to_date(task: str) -> None:
    with mock.patch.dict(METHODS, OWN, clear=True):
        page = SCRIPT["page"](task)
    file = SCRIPT["FOLDER"] / f"{task}.md"
    known = file.read_text(encoding="utf-8") if file.exists() else ""
    assert page == known, "run: python docs/tools/keys.py"
