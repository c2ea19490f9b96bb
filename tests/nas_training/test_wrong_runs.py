"""Settings of searches that cannot work, each refused in one line before training."""

from pathlib import Path
from typing import Any

import pytest

from robustsabn.errors import ConfigError, DataError, RobustsabnError
from robustsabn.trainers import train
from robustsabn.trainers.nas.results import found_cell
from robustsabn.trainers.nas.task import ArchitectureSearch
from robustsabn.trainers.tasks import load_config
from tests.helpers.nas.tiny_search import tiny


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": "dart"}, "search: "),
        ({"norm": "auxbn"}, "norm: "),
        ({"norm": "bn", "routes": "blended"}, "routes=blended needs norm ccbn or sabn"),
        ({"faithful": True, "routes": "blended"}, "faithful: the published code samples the routes"),
        ({"precision": "fp16"}, "precision: a search trains in fp32 or bf16"),
        ({"ema": 0.9}, "ema: a search has no averaged weights"),
        ({"augment": {"mix": "mixup"}}, "augment.mix: a search needs single labels"),
        ({"search": "random", "analysis": 8}, "analysis: cells of search=random share nothing"),
        ({"schedule_epochs": 1}, "schedule_epochs 1 is less than epochs, 2"),
        ({"validation": {"cells": 99}}, "cells must be at least 100, got 99"),
        ({"cells": 0}, "cells must be at least 1, got 0"),
        ({"search": "gdas", "compile": True}, "compile: "),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        load_config(tiny(tmp_path / "run", **changes))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"batch_size": 33}, ConfigError, "batch_size 33 is larger than the training set; choose 1 to 32"),
        ({"table": "missing.csv"}, DataError, "missing.csv"),
        ({"division": "half"}, ConfigError, "division: 'half' is neither train, test, validation nor a file"),
    ],
)
def test_what_does_not_fit_the_data_is_refused_before_training(
    tmp_path: Path, changes: dict[str, Any], error: type[RobustsabnError], message: str
) -> None:
    with pytest.raises(error) as refused:
        train(tiny(tmp_path / "run", **changes))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("|max_pool_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|,50", "max_pool_3x3"),
        ("|none~0|+|none~0|none~1|,50", "line 2"),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|,150", "150"),
    ],
)
def test_a_table_of_another_space_or_with_bad_values_is_refused_with_its_row(
    tmp_path: Path, row: str, message: str
) -> None:
    table = tmp_path / "table.csv"
    table.write_text(f"arch,digits_test\n{row}\n")
    with pytest.raises(DataError) as refused:
        train(tiny(tmp_path / "run", table=str(table)))
    assert message in str(refused.value)
    assert "line 2" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_search_is_no_run_of_another_task(tmp_path: Path) -> None:
    assert ArchitectureSearch.config is type(load_config(tiny(tmp_path)))
    with pytest.raises(RobustsabnError, match="found no cell"):
        found_cell(tmp_path)
