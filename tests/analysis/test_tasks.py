"""The analysis during training, for every task: numbers, nothing disturbed, values by plain autograd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn.errors import ConfigError
from robustsabn.routing import route
from robustsabn.trainers import train
from robustsabn.trainers.checkpoints.files import read
from robustsabn.trainers.gan.analysis import analysed
from robustsabn.trainers.gan.evaluation import balanced
from robustsabn.trainers.gan.task import GanTraining
from robustsabn.trainers.loop.loop import run
from robustsabn.trainers.loop.task import Task
from robustsabn.trainers.style import evaluation
from robustsabn.trainers.tasks import load_config
from tests.helpers.analysis import unchanged
from tests.helpers.gan_case import tiny as gan
from tests.helpers.nas.tiny_search import tiny as nas
from tests.helpers.runs import metrics
from tests.helpers.style.case import tiny as style

WEIGHTS = {"balance/weight", "cosine/weight", "norm_least/weight", "norm_most/weight"}
AFFINES = {f"{name}/{part}" for name in ("capv", "shared_share") for part in ("scale", "shift")}
TASKS: dict[str, Callable[..., dict[str, Any]]] = {"gan": gan, "nas": nas, "style": style}


@pytest.mark.parametrize(
    ("task", "norm", "routed"),
    [
        *(("gan", norm, norm != "bn") for norm in ("bn", "sabn")),
        ("nas", "sabn", True),
        *(("style", norm, norm == "routes") for norm in ("adain", "routes")),
    ],
)
def test_every_norm_has_the_same_numbers_and_training_is_the_same(
    task: str, norm: str, routed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "SIDE", 16)
    plain, measured = (TASKS[task](tmp_path / name, norm=norm) for name in ("plain", "measured"))
    train(plain)
    train({**measured, "analysis": 10})
    for name in ("best", "last"):
        one, other = (read(tmp_path / which / "checkpoints", name) for which in ("plain", "measured"))
        torch.testing.assert_close(one.tensors, other.tensors, rtol=0, atol=0)
    records = metrics(tmp_path / "measured")
    validations = [entry["step"] for entry in records if entry["kind"] == "validation"]
    found = [entry for entry in records if entry["kind"] == "analysis"]
    assert [entry["step"] for entry in found] == validations
    last = found[-1]
    assert set(last) >= WEIGHTS | AFFINES
    assert 0 < last["norm_least/weight"] <= last["norm_most/weight"]
    assert (last["capv/scale"] > 0) == routed


def opened(out: Path) -> GanTraining:
    """A GAN after two steps."""
    found: list[GanTraining] = []

    class Opened(GanTraining):
        def step(self, step: int) -> dict[str, Tensor]:
            if step == 2:
                found.append(self)
                raise MemoryError
            return super().step(step)

    config: Any = load_config(gan(out))
    with pytest.raises(MemoryError):
        run(config, Opened)
    return found[0]


def test_classes_of_a_generator_are_measured_in_one_batch_of_all_of_them(tmp_path: Path) -> None:
    task, count = opened(tmp_path / "run"), 30
    generator, discriminator = (network.raw for network in task.networks.values())
    with unchanged(nn.ModuleList([generator, discriminator])):
        found = analysed(task.bench, count)

    labels = balanced(torch.arange(10), count)
    z = torch.randn(count, task.bench.latent_dim, generator=torch.Generator().manual_seed(0))
    weights = [p for name, p in generator.named_parameters() if p.ndim > 1 and "route" not in name]
    generator.train()
    discriminator.eval()
    norms = []
    for label in range(10):
        with route(generator, labels):
            images = generator(z)
        with route(discriminator, labels[labels == label]):
            loss = -discriminator(images[labels == label]).mean()  # the hinge loss of the generator
        gradients = torch.autograd.grad(loss, weights)
        norms.append(float(torch.cat([g.double().flatten() for g in gradients]).norm()))
    wide = torch.tensor(norms, dtype=torch.float64)
    assert found["norm_most/weight"] == pytest.approx(max(norms), rel=1e-4)
    assert found["norm_least/weight"] == pytest.approx(min(norms), rel=1e-4)
    assert found["balance/weight"] == pytest.approx(float(wide.std(correction=0) / wide.mean()), rel=1e-4)


def test_a_task_that_analyses_nothing_refuses_the_key(tmp_path: Path) -> None:
    class Own(GanTraining):
        analysed = Task.analysed

    config: Any = load_config(gan(tmp_path / "run", analysis=8))
    with pytest.raises(ConfigError, match="analysis"):
        run(config, Own)
