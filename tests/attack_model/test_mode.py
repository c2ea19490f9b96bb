"""What an attack does to a model: nothing, apart from running statistics when asked."""

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from robustsabn.attacks import FGSM, PGD, ThreatModel, TrainModeWarning, attack_mode
from robustsabn.attacks.model.mode import BatchNormMode
from robustsabn.errors import InputError
from robustsabn.layers import RoutedBatchNorm2d
from robustsabn.routing import route
from tests.helpers.attacks.reference import small_cnn

THREAT = ThreatModel("Linf", 0.05)
MODES: tuple[BatchNormMode, ...] = ("eval", "frozen", "train")


def everything(model: nn.Module) -> dict[str, Any]:
    state: dict[str, Any] = {}
    for name, module in model.named_modules():
        state[f"{name}:training"] = module.training
        state[f"{name}:tracks"] = getattr(module, "track_running_stats", None)
    for name, parameter in model.named_parameters():
        state[f"{name}:grad"] = None if parameter.grad is None else parameter.grad.clone()
        state[f"{name}:requires"] = parameter.requires_grad
        state[name] = parameter.detach().clone()
        state[f"{name}:id"] = id(parameter)
    state.update({name: buffer.clone() for name, buffer in model.named_buffers()})
    return state


def changed(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    assert one.keys() == other.keys()

    def same(a: Any, b: Any) -> bool:
        return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)

    return {name for name, value in one.items() if not same(value, other[name])}


def statistics(*layers: int) -> set[str]:
    names = ("running_mean", "running_var", "num_batches_tracked")
    return {f"{i}.{name}" for i in layers for name in names}


def mixed() -> nn.Sequential:
    """Train mode, with one layer frozen by its owner, some gradients, and a parameter without."""
    model = small_cnn().train()
    model.insert(2, nn.BatchNorm2d(4).eval())
    model.insert(3, nn.InstanceNorm2d(4, track_running_stats=True))
    model(torch.rand(4, 3, 6, 6)).sum().backward()
    model[0].bias.requires_grad_(False)
    return model


@pytest.mark.parametrize("bn_mode", ["eval", "frozen"])
@pytest.mark.parametrize("options", [{}, {"loss": "kl"}, {"keep": "last"}])
def test_nothing_changes(bn_mode: Any, options: dict[str, Any]) -> None:
    model, x, y = mixed(), torch.rand(4, 3, 6, 6), torch.zeros(4, dtype=torch.long)
    before = everything(model)
    images = x.clone()
    PGD(THREAT, steps=2, bn_mode=bn_mode, **options)(model, x, y)
    FGSM(THREAT, bn_mode=bn_mode)(model, x, y)
    assert not changed(before, everything(model))
    assert torch.equal(x, images)


def test_train_mode_moves_the_running_statistics_once_per_forward() -> None:
    model, x = mixed(), torch.rand(4, 3, 6, 6)
    before = everything(model)
    PGD(THREAT, steps=3, keep="last", bn_mode="train")(model, x, torch.zeros(4, dtype=torch.long))
    after = everything(model)
    assert changed(before, after) == statistics(1, 3) - {"3.num_batches_tracked"}  # which torch never counts
    assert after["1.num_batches_tracked"] == before["1.num_batches_tracked"] + 3


def test_a_model_in_eval_mode_gets_batch_statistics_when_asked() -> None:
    model, x = small_cnn(), torch.rand(4, 3, 6, 6)
    before = everything(model)
    seen: dict[str, tuple[bool, bool]] = {}

    def look(module: nn.Module, _: Any) -> None:
        seen[type(module).__name__] = (module.training, getattr(module, "track_running_stats", False))

    for module in model:
        module.register_forward_pre_hook(look)
    for bn_mode, expected in zip(MODES, ((False, True), (True, False), (True, True)), strict=True):
        with attack_mode(model, bn_mode):
            model(x)
        assert seen["BatchNorm2d"] == expected
        assert seen["Dropout"] == (False, False)
        assert changed(before, everything(model)) == (statistics(1) if bn_mode == "train" else set())


def test_frozen_statistics_are_those_of_the_batch() -> None:
    model = small_cnn()
    x = torch.rand(4, 3, 6, 6)
    norm = model[1]
    hidden = model[0](x)
    mean, var = hidden.mean((0, 2, 3), keepdim=True), hidden.var((0, 2, 3), correction=0, keepdim=True)
    expected = (hidden - mean) / (var + 1e-5).sqrt()
    with attack_mode(model, "frozen"):
        torch.testing.assert_close(norm(hidden), expected, rtol=1e-4, atol=1e-5)


def test_modes_come_back_after_an_exception() -> None:
    class Trips(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("tripped")

    for bn_mode in MODES:
        model = nn.Sequential(nn.BatchNorm2d(3), nn.InstanceNorm2d(3, track_running_stats=True), Trips())
        model[2].eval()
        before = everything(model)
        with pytest.raises(InputError, match="RuntimeError: tripped"):
            PGD(THREAT, bn_mode=bn_mode)(model, torch.rand(4, 3, 6, 6), torch.zeros(4, dtype=torch.long))
        moved = statistics(0, 1) - {"1.num_batches_tracked"}
        assert changed(before, everything(model)) == (moved if bn_mode == "train" else set())


def test_train_mode_is_said_unless_it_was_chosen() -> None:
    model, x, y = small_cnn().train(), torch.rand(4, 3, 6, 6), torch.zeros(4, dtype=torch.long)
    with pytest.warns(TrainModeWarning, match=r"model.eval\(\)") as caught:
        PGD(THREAT, steps=1)(model, x, y)
    assert caught[0].filename == __file__
    with pytest.warns(TrainModeWarning):
        FGSM(THREAT)(model, x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PGD(THREAT, steps=1)(model.eval(), x, y)
        model.train()
        for bn_mode in MODES:
            PGD(THREAT, steps=1, bn_mode=bn_mode)(model, x, y)
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("default")
        for _ in range(3):
            PGD(THREAT, steps=1)(model, x, y)
    assert len(shown) == 1


def test_routed_layers() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), RoutedBatchNorm2d(4, statistics="per_route"), nn.Flatten(), nn.Linear(64, 3)
    )
    x, y = torch.rand(4, 3, 6, 6), torch.zeros(4, dtype=torch.long)
    norm = model[1]
    assert isinstance(norm, RoutedBatchNorm2d)
    for bn_mode, moved in zip(MODES, (0, 0, 3), strict=True):
        model = model.eval() if bn_mode == "eval" else model.train()
        assert norm.num_batches_tracked is not None
        before = norm.num_batches_tracked.clone()
        with route(model, "adv"):
            PGD(THREAT, steps=3, keep="last", bn_mode=bn_mode)(model, x, y)
        assert (norm.num_batches_tracked - before).tolist() == [0, moved]
