"""Packaged recipes of style transfer: what they say, and the settings of the paper."""

import pytest

from robustsabn.config.recipes import recipes_by_task
from robustsabn.trainers.config import InverseTime
from robustsabn.trainers.loop.updates import learning_rate
from robustsabn.trainers.style.config import StyleConfig
from robustsabn.trainers.tasks import load_config
from tests.helpers import ROOT

FILES = recipes_by_task()["style"]
NORMS = {"adain": "adain", "saadain": "saadain", "ilm": "ilm", "routes": "routes"}


def read(name: str) -> StyleConfig:
    config = load_config(name)
    assert isinstance(config, StyleConfig)
    return config


def test_the_promised_recipes_say_what_to_expect() -> None:
    assert {"style-demo", *(f"style-{norm}" for norm in NORMS)} == set(FILES)
    for name, file in FILES.items():
        head = [line for line in file.read_text().splitlines() if line.startswith("# ")]
        start = "# Measured (seed" if name == "style-demo" else "# Not run here at this length"
        assert any(line.startswith(start) for line in head), name
    assert (ROOT / "benchmarks" / "results" / "style.md").is_file()


@pytest.mark.parametrize("norm", NORMS)
def test_recipes_are_the_papers(norm: str) -> None:
    config = read(f"style-{norm}")
    assert config.norm == NORMS[norm]
    assert (config.size, config.crop, config.batch_size, config.steps) == (512, 256, 8, 160_000)
    assert (config.content_weight, config.style_weight, config.tap) == (1.0, 10.0, "relu4_1")
    assert (config.optim.betas, config.optim.weight_decay) == ((0.9, 0.999), 0.0)
    assert config.encoder.startswith("vgg_normalised:")
    assert isinstance(config.schedule, InverseTime)
    for step in (0, 1, 1000, 159_999):
        rate = learning_rate(config.schedule, config.optim.lr, step, 160_000)
        assert rate == pytest.approx(1e-4 / (1 + 5e-5 * step), rel=1e-9)
