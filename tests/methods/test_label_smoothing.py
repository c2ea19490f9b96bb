"""Smoothed labels: in the loss that is minimised, not in the attack, and not where they would be ignored."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from robustsabn.config import load
from robustsabn.conversion.convert import convert
from robustsabn.errors import ConfigError
from robustsabn.trainers import TrainConfig, train
from robustsabn.trainers.methods import METHODS, Bench, Method, Paired, Pgd, Standard
from tests.helpers.methods import Scripted, answered, bench_for, cross_entropy, images, logits_of, network
from tests.helpers.runs import TINY, metrics

X = torch.tensor([[0.3], [-1.2], [2.0]], dtype=torch.float64)
Y = torch.tensor([0, 1, 1])
SMOOTHS = [name for name, cls in METHODS.items() if cls.smooths]


def smoothed(logits: Tensor, share: float) -> float:
    """(1 - share) CE(y) plus share of the mean CE over all classes."""
    every = [cross_entropy(logits, torch.full_like(Y, k)) for k in range(logits.shape[1])]
    return (1 - share) * cross_entropy(logits, Y) + share * sum(every) / len(every)


@pytest.mark.parametrize(
    ("method", "parts"),
    [(Standard(), [X]), (Pgd(), [X + 100]), (Paired("separate"), [X, X + 100])],
)
def test_the_loss_is_that_of_the_formula(method: Method, parts: list[Tensor]) -> None:
    bench = Scripted()
    bench.smoothing = 0.3
    expected = sum(smoothed(logits_of(x), 0.3) for x in parts) / len(parts)
    assert answered(method, bench, X, Y)["loss"].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", SMOOTHS)
def test_the_attack_is_not_smoothed(name: str) -> None:
    x, y = images()
    found: list[dict[str, Tensor]] = []
    for share in (0.0, 0.3):
        model = convert(network(), norm="saauxbn").train()
        bench, seen = bench_for(model, 6), list[Tensor]()
        bench.smoothing = share
        forward = bench.forward

        def watched(x: Tensor, selection: Any, real: Any = forward, seen: list[Tensor] = seen) -> Tensor:
            seen.append(x.detach())
            logits: Tensor = real(x, selection)
            return logits

        bench.forward = watched  # type: ignore[method-assign]
        with bench.at(0):
            losses = cast(Method, METHODS[name]()).losses(cast(Bench, bench), x, y)
        found.append({"images": torch.cat(seen), "loss": losses["loss"].detach()})
    torch.testing.assert_close(found[0]["images"], found[1]["images"], rtol=0, atol=0)
    assert found[0]["loss"] != found[1]["loss"]


def test_methods_that_would_ignore_it_are_refused() -> None:
    assert {"standard", "pgd", "paired", "trades", "pgd-awp"} <= set(SMOOTHS)
    assert "mart" not in SMOOTHS
    assert load(TrainConfig, {"method": "trades", "label_smoothing": 0.1}).label_smoothing == 0.1
    with pytest.raises(
        ConfigError, match=r"label_smoothing is not for this method; methods with it: .*trades"
    ):
        load(TrainConfig, {"method": "mart", "label_smoothing": 0.1})
    with pytest.raises(ConfigError, match=r"label_smoothing must be in \[0, 1\), got 1"):
        load(TrainConfig, {"label_smoothing": 1})


def test_a_run_smooths_its_labels(tmp_path: Path) -> None:
    losses = []
    for share in (0.0, 0.5):
        train({**TINY, "steps": 1, "label_smoothing": share, "out": str(tmp_path / str(share))})
        losses.append(metrics(tmp_path / str(share))[0]["clean_loss"])
    assert losses[0] != losses[1]
