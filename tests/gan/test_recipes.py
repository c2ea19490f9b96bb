"""Packaged recipes of GANs: what they say, and the settings of the paper."""

from dataclasses import replace

import pytest
import torch

from robustsabn.config.recipes import recipes_by_task
from robustsabn.trainers.gan.config import GanConfig
from robustsabn.trainers.gan.networks import build_pair, try_pair
from robustsabn.trainers.tasks import load_config
from tests.helpers import ROOT

FILES = recipes_by_task()["gan"]
SMALL = {"width": 4, "d_width": 4}


def read(name: str) -> GanConfig:
    config = load_config(name)
    assert isinstance(config, GanConfig)
    return config


def test_the_promised_recipes_are_there() -> None:
    architectures = [f"gan-cifar10-{name}" for name in ("sngan", "autogan", "biggan")]
    pairs = [
        f"{name}-{norm}" for name in (*architectures, "gan-imagefolder-128") for norm in ("ccbn", "sabn")
    ]
    assert {*pairs, "gan-digits", "gan-digits-ccbn"} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_recipe_says_what_to_expect_and_makes_networks_for_its_images(name: str) -> None:
    head = [line for line in FILES[name].read_text().splitlines() if line.startswith("# ")]
    if name.startswith("gan-digits"):
        assert any(line.startswith("# Measured (seeds 0, 1, 2") for line in head)
        assert (ROOT / "benchmarks" / "results" / "gan_digits.md").is_file()
    else:
        assert any(line.startswith("# Expected: ") for line in head)
        assert any(line.startswith("# Not yet run here") for line in head)
    size = {"digits": 8, "32": 32, "128": 128}[read(name).model.rpartition("-")[2]]
    shape = (1 if size == 8 else 3, size, size)
    config = load_config(name, [f"model_options={SMALL}"])
    assert isinstance(config, GanConfig)
    try_pair(build_pair(config, 10, shape), shape, 10)


@pytest.mark.parametrize("norm", ["ccbn", "sabn"])
@pytest.mark.parametrize("model", ["sngan", "autogan"])
def test_cifar10_recipes_are_the_papers(model: str, norm: str) -> None:
    config = read(f"gan-cifar10-{model}-{norm}")
    assert (config.model, config.norm, config.loss) == (f"{model}-32", norm, "hinge")
    assert (config.batch_size, config.g_batch_size, config.d_steps, config.steps) == (64, 128, 5, 50_000)
    for optimiser in (config.generator, config.discriminator):
        assert (optimiser.lr, optimiser.betas, optimiser.weight_decay) == (2e-4, (0.0, 0.9), 0.0)
    assert (config.ema, config.ema_statistics, config.flip) == (0.999, "live", False)
    assert config.test.images == 50_000


def test_the_weights_are_a_function_of_the_seed_and_leave_torch_s_generator_alone() -> None:
    before = torch.get_rng_state()
    config = read("gan-digits")
    first, second, other = (
        build_pair(replace(config, seed=seed), 10, (1, 8, 8)).generator.state_dict() for seed in (0, 0, 1)
    )
    assert torch.equal(before, torch.get_rng_state())
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.equal(first["linear.weight"], other["linear.weight"])
