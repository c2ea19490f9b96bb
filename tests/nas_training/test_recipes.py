"""Packaged recipes of searches: what they say, and the published settings."""

from dataclasses import replace

import pytest

from robustsabn.config.recipes import recipes_by_task
from robustsabn.trainers.loop.updates import learning_rate
from robustsabn.trainers.nas.config import NasConfig
from robustsabn.trainers.nas.networks import build_supernet
from robustsabn.trainers.tasks import load_config
from tests.helpers import ROOT

FILES = recipes_by_task()["nas"]
NORMS = ("bn", "ccbn", "sabn")
LARGE = [name for name in FILES if not name.startswith("nas-digits")]


def read(name: str) -> NasConfig:
    config = load_config(name)
    assert isinstance(config, NasConfig)
    return config


def test_the_promised_recipes_are_there() -> None:
    cifar10 = {f"nas-cifar10-{search}-{norm}" for search in ("darts", "gdas", "random") for norm in NORMS}
    cifar100 = {f"nas-cifar100-darts-{norm}" for norm in ("bn", "sabn")}
    assert {*cifar10, *cifar100, "nas-digits", "nas-digits-bn"} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_recipe_says_what_to_expect_and_makes_a_supernet(name: str) -> None:
    head = [line for line in FILES[name].read_text().splitlines() if line.startswith("# ")]
    starts = ["# Expected: ", "# Not yet run here"] if name in LARGE else ["# Measured (seeds 0, 1, 2"]
    for start in starts:
        assert any(line.startswith(start) for line in head), start
    pages = [word.strip(".:;,()") for line in head for word in line.split() if word.startswith("benchmarks/")]
    assert all((ROOT / page).is_file() for page in pages)
    config = load_config(name, ["channels=2", "cells=1"])
    assert isinstance(config, NasConfig)
    build_supernet(config, 10, 3, seed=0)


def test_digits_are_searched_at_the_same_budget_with_both_norms() -> None:
    sabn, bn = read("nas-digits"), read("nas-digits-bn")
    assert (sabn.norm, bn.norm) == ("sabn", "bn")
    assert replace(bn, norm="sabn") == sabn
    assert (sabn.reduction, sabn.table) == ("pool", "digits-hard")


@pytest.mark.parametrize("name", LARGE)
def test_large_recipes_have_the_published_settings(name: str) -> None:
    config = read(name)
    weights, architecture = config.weights, config.architecture
    assert (config.channels, config.cells, config.reduction, config.batch_size) == (16, 5, "resnet", 64)
    assert (weights.lr, weights.momentum, weights.nesterov) == (0.025, 0.9, True)
    assert (weights.weight_decay, weights.clip) == (5e-4, 5.0)
    assert (architecture.lr, architecture.betas) == (3e-4, (0.5, 0.999))
    assert architecture.weight_decay == 1e-3
    assert (config.augment.crop, config.augment.flip) == (4, True)
    assert config.statistics == "batch"
    lengths = (35, 50) if config.search == "darts" else (250, None)
    assert (config.epochs, config.schedule_epochs) == lengths
    assert learning_rate(config.schedule, weights.lr, 1000, 1000) == pytest.approx(0.001)
    assert config.division == ("test" if "cifar100" in name else "train")
