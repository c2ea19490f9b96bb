"""Packaged recipes: each can be read, built and overridden; the paper's hyperparameters; the default."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from robustsabn.config import load, recipes
from robustsabn.config.recipes import recipes_by_task
from robustsabn.routing import route, routes_of
from robustsabn.trainers import RunResult, TrainConfig, train
from robustsabn.trainers.adversarial.runs.models import build_model
from robustsabn.trainers.config import Augment, MultiStep, Sgd
from robustsabn.trainers.loop.updates import learning_rate
from robustsabn.trainers.methods import METHODS, Paired
from tests.helpers import ROOT

NAMES = sorted(recipes_by_task()["adversarial"])
LARGE = [name for name in NAMES if name.startswith("cifar10-") and name != "cifar10-small"]
UNNAMED = ("paired", "mart-awp", "paired-awp")  # `digits` is paired; no recipe of the others was published


def test_the_promised_recipes_are_there() -> None:
    promised = {
        "digits",
        "digits-bn",
        "digits-auxbn",
        "cifar10-saauxbn",
        "cifar10-auxbn",
        "cifar10-bn",
        "cifar10-small",
        "cifar10-wrn34-10-trades-awp",
        *(f"digits-{name}" for name in METHODS if name not in UNNAMED),
        *(
            f"cifar10-rn18-{name}"
            for name in ("pgd", "trades", "mart", "pgd-awp", "trades-awp", "n-fgsm", "free")
        ),
        *(f"cifar10-rn18-{name}" for name in ("fgsm-rs", "gradalign", "saauxbn", "oat")),
    }
    assert promised <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_to_expect_whence_and_which_checkpoint_counts(name: str) -> None:
    text, config = recipes()[name].read_text(encoding="utf-8"), load(TrainConfig, name)
    kept, validation = "robust" if config.by_robustness else "clean", config.validation
    head = [line for line in text.splitlines() if line.startswith("# ")]
    starts = ["# Expected: ", "# Not yet run here"] if name in LARGE else ["# Measured (seed"]
    robust = f"PGD-{validation.steps} on " if config.by_robustness else ""
    held_out = f"({robust}{357 if name.startswith('digits') else validation.images} held-out images)"
    starts.append(f"# Kept is the checkpoint of best {kept} validation accuracy {held_out}")
    for start in starts:
        assert any(line.startswith(start) for line in head), start
    if name not in LARGE:
        (*_, measured) = [line for line in head if line.startswith("# Measured (seed")]
        assert re.search(r"test images.*: clean [\d.]+ .*PGD-20 [\d.]+ ", measured)
        for page in re.findall(r"benchmarks/\S+\.md", measured):
            assert (ROOT / page).is_file()


@pytest.mark.parametrize(
    ("name", "lr", "decay", "epochs"),
    [
        ("pgd", [(0, 0.1), (99, 0.1), (100, 0.01), (150, 0.001)], 5e-4, 200),
        ("trades-awp", [(0, 0.1), (99, 0.1), (100, 0.01), (150, 0.001)], 5e-4, 200),
        ("mart", [(0, 0.01), (74, 0.01), (75, 1e-3), (90, 1e-4), (100, 1e-5)], 3.5e-3, 120),
        ("n-fgsm", [(0, 0), (15, 0.2), (24, 0.08)], 5e-4, 30),
        ("fgsm-rs", [(0, 0), (7.5, 0.2), (12, 0.08)], 5e-4, 15),
        ("gradalign", [(0, 0), (12, 0.3), (21, 0.15)], 5e-4, 30),
        ("free", [(0, 0), (5.5, 0.04), (8.25, 0.02)], 5e-4, 11),
    ],
)
def test_cifar10_recipes_of_methods_are_their_authors(
    name: str, lr: list[tuple[float, float]], decay: float, epochs: int
) -> None:
    config = load(TrainConfig, f"cifar10-rn18-{name}")
    assert (config.epochs, config.batch_size, config.augment) == (epochs, 128, Augment(4, True))
    assert (config.attack.norm, config.attack.eps, config.attack.step_size) == ("Linf", 8 / 255, 2 / 255)
    assert config.optim == Sgd(lr=max(rate for _, rate in lr), momentum=0.9, weight_decay=decay)
    per_epoch = 392
    for epoch, expected in lr:
        step = round(epoch * per_epoch)
        rate = learning_rate(config.schedule, config.optim.lr, step, epochs * per_epoch)
        assert rate == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_it_is_and_builds_its_network(name: str) -> None:
    first, *rest = recipes()[name].read_text(encoding="utf-8").splitlines()
    assert first.startswith("# ")
    assert rest
    overrides = [
        "out=x",
        "data=npz:own.npz",
        "seed=1",
        "epochs=3",
        "batch_size=8",
        "attack.eps=1/255",
        "attack.steps=2",
    ]
    config = load(TrainConfig, name, overrides)
    assert (config.out, config.data, config.seed, config.epochs, config.batch_size) == (
        "x",
        "npz:own.npz",
        1,
        3,
        8,
    )
    assert (config.attack.eps, config.attack.steps) == (1 / 255, 2)
    assert load(TrainConfig, name, ["norm=sabn", "steps=5"]).norm == "sabn"
    shape = (1, 8, 8) if name.startswith("digits") else (3, 32, 32)
    model = build_model(load(TrainConfig, name), 10, shape).eval()
    assert model(torch.rand(2, *shape)).shape == (2, 10)
    assert routes_of(model) == (() if config.norm == "none" else ("clean", "adv"))


@pytest.mark.parametrize("norm", ["bn", "auxbn", "saauxbn"])
def test_cifar10_recipes_are_the_papers(norm: str) -> None:
    config = load(TrainConfig, f"cifar10-{norm}")
    assert config.norm == norm
    assert config.model == "preact-resnet18-sabn"
    assert (config.epochs, config.batch_size, config.init) == (
        200,
        128,
        "identity" if norm == "bn" else "paper",
    )
    attack = config.attack
    assert (attack.norm, attack.eps, attack.step_size, attack.steps) == ("Linf", 8 / 255, 2 / 255, 7)
    assert (attack.start, attack.loss, attack.bn_mode) == ("uniform", "ce", "train")
    assert config.optim == Sgd(lr=0.1, momentum=0.9, weight_decay=5e-4)
    assert (config.augment.crop, config.augment.flip, config.validation.images) == (4, True, 5000)
    assert isinstance(config.method, Paired)
    assert config.method.forward == ("separate" if norm == "bn" else "split")
    per_epoch = 45000 // 128
    assert isinstance(config.schedule, MultiStep)
    for epoch, step, expected in (
        (0, 0, 0.01),
        (0, 100, 0.055),
        (0, 200, 0.1),
        (49, 0, 0.1),
        (50, 0, 0.01),
        (150, 0, 0.001),
    ):
        rate = learning_rate(config.schedule, 0.1, epoch * per_epoch + step, 200 * per_epoch)
        assert rate == pytest.approx(expected)


def test_the_papers_starting_point_scatters_the_sandwich_only() -> None:
    for norm, scattered in (("saauxbn", True), ("auxbn", False)):
        model = build_model(load(TrainConfig, f"cifar10-{norm}"), 10, (3, 32, 32))
        scales = dict(model.named_parameters())["layer1.0.bn1.route_weight"]
        assert bool(scales.std() > 0) == scattered


@pytest.mark.slow
def test_the_default_meets_its_bars(tmp_path: Path) -> None:
    found: dict[str, RunResult[Any]] = {}
    for name in ("digits", "digits-standard"):
        found[name] = train(name, [f"out={tmp_path / name}"])
    routed, normal = (found[name].evaluation for name in ("digits", "digits-standard"))
    assert routed.clean["clean"] > 0.93
    assert routed.robust["adv"]["adv"] > normal.robust["all"]["all"] + 0.15


@pytest.mark.slow
def test_compiled_training_is_eager_training(tmp_path: Path) -> None:
    results = []
    for compiled in (False, True):
        overrides = [
            f"out={tmp_path / str(compiled)}",
            f"compile={compiled}".lower(),
            "steps=4",
            "test.images=40",
        ]
        results.append(train("digits", overrides))
    from robustsabn.trainers import load_run_model

    models = [load_run_model(result.folder, "last") for result in results]
    x = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        outputs = []
        for model in models:
            with route(model, "adv"):
                outputs.append(model(x))
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-3, atol=1e-3)
