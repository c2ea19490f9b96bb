"""What a resume may do with a setting stands at its field."""

from pathlib import Path

import pytest

from robustsabn.errors import ConfigError
from robustsabn.trainers import train
from robustsabn.trainers.adversarial.config import TrainConfig
from robustsabn.trainers.checkpoints.changes import changes_training
from robustsabn.trainers.checkpoints.files import read, write
from robustsabn.trainers.config import resume_rule
from tests.helpers.runs import TINY


@pytest.mark.parametrize(
    ("key", "rule"),
    [
        *((key, "fixed") for key in ("task", "model", "model_options.width", "norm", "routes", "optim.name")),
        ("optim.decay", "fixed"),
        *(
            (key, "free")
            for key in ("out", "device", "log_every", "checkpoint_every", "test.steps", "download")
        ),
        *((key, "at start") for key in ("weights", "fresh_head")),
        *(
            (key, None)
            for key in ("epochs", "seed", "optim.lr", "attack.eps", "method.name", "gone", "gone.too")
        ),
    ],
)
def test_the_rule_of_a_key(key: str, rule: str | None) -> None:
    config = TrainConfig()
    assert resume_rule(config, key) == rule
    assert changes_training(config, key) == (rule not in ("free", "at start"))


def test_a_class_has_the_rules_of_its_own_fields() -> None:
    assert resume_rule(TrainConfig, "test.images") == "free"
    assert resume_rule(TrainConfig, "attack.eps") is None


def test_a_run_that_is_older_than_a_key_resumes_with_its_default(tmp_path: Path) -> None:
    config = {**TINY, "steps": 1, "out": str(tmp_path / "run")}
    train(config)
    stored = read(tmp_path / "run" / "checkpoints", "last")
    del stored.state["config"]["optim"]["decay"]
    write(tmp_path / "run" / "checkpoints", stored)
    train({**config, "steps": 2}, resume=True)
    with pytest.raises(ConfigError, match=r"optim.decay is 'weights', the run in .* has 'all'"):
        train(config, ["steps=3", "optim.decay=weights"], resume=True)
