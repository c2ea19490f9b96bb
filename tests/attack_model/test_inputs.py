"""What attacks refuse, with the remedy, before they touch the model; and what they accept."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from robustsabn.attacks import FGSM, PGD, ThreatModel, accuracy, verify
from robustsabn.errors import InputError
from tests.helpers.device import Looks

THREAT = ThreatModel("Linf", 8 / 255)
X, Y = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0])


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()


class Returns(nn.Module):
    """A model whose output is made from its logits by a function."""

    def __init__(self, change: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.change = linear(), change
        self.eval()

    def forward(self, x: Tensor) -> Any:
        return self.change(self.inner(x))


def with_value(value: float) -> Tensor:
    x = X.clone()
    x[1, 0, 0, 0] = value
    return x


IMAGES: dict[str, tuple[Any, Any, str]] = {
    "uint8": ((X * 255).byte(), Y, r"x.float\(\) / 255"),
    "int64": ((X * 255).long(), Y, r"x.float\(\) / 255"),
    "float16": (X.half(), Y, r"x.float\(\)"),
    "bfloat16": (X.bfloat16(), Y, r"x.float\(\)"),
    "numpy": (X.numpy(), Y, "give tensors"),
    "0 to 255": (X * 255, Y, "x / 255"),
    "normalised": ((X - 0.5) / 0.2, Y, "undo the normalisation"),
    "slightly above": (with_value(1.001), Y, "allowed is"),
    "slightly below": (with_value(-0.001), Y, "allowed is"),
    "NaN image": (with_value(math.nan), Y, "finite"),
    "infinite image": (with_value(math.inf), Y, "finite"),
    "one image": (X[0, 0, 0], Y[0], "unsqueeze"),
    "label too large": (X, torch.tensor([0, 1, 3, 0]), "3 classes"),
    "negative label": (X, torch.tensor([0, 1, -1, 0]), "from 0"),
    "int32 labels": (X, Y.int(), "int64"),
    "float labels": (X, Y.float(), "int64"),
    "one-hot labels": (X, torch.eye(3)[Y], "not one-hot"),
    "one-hot int labels": (X, torch.eye(3)[Y].long(), "not one-hot"),
    "too few labels": (X, Y[:3], r"int64 \(4,\)"),
}


@pytest.mark.parametrize("case", IMAGES)
@pytest.mark.parametrize(
    "attack", [PGD(THREAT, steps=2), FGSM(THREAT), PGD(THREAT, steps=2, early_stop=True)]
)
def test_images_and_labels(case: str, attack: PGD) -> None:
    x, y, message = IMAGES[case]
    with pytest.raises(InputError, match=message):
        attack(linear(), x, y)


class Pair(NamedTuple):
    logits: Tensor
    features: Tensor


MODELS: dict[str, tuple[Any, str]] = {
    "not callable": (3, "give a module or function"),
    "tuple": (Returns(lambda z: (z, z)), "wrap the model"),
    "dict": (Returns(lambda z: {"scores": z}), "wrap the model"),
    "features": (Returns(lambda z: z[..., None, None]), "flatten or pool"),
    "one row": (Returns(lambda z: z[0]), r"logits \(4, K\)"),
    "other batch": (Returns(lambda z: z[:2]), r"logits \(4, K\)"),
    "classes": (Returns(lambda z: z.argmax(1, keepdim=True)), "floating logits"),
    "one probability": (Returns(lambda z: z[:, :1].sigmoid()), "at least two"),
    "one logit": (Returns(lambda z: 9 * z[:, :1]), "2 classes"),
    "NaN": (Returns(lambda z: z * math.nan), "NaN or infinite logits for 4 of 4"),
    "NaN in one": (Returns(lambda z: torch.where(torch.arange(4)[:, None] == 2, math.nan, z)), "for 1 of 4"),
    "overflow": (Returns(lambda z: z + math.inf), "NaN or infinite logits"),
    "NaN gradient": (
        Returns(lambda z: z + (z[:, :1] - z[:, :1].detach()).sqrt()),
        "infinite gradients for 4 of 4",
    ),
    "detached": (Returns(lambda z: z.detach()), "let gradients through"),
    "another input": (Returns(lambda z: nn.Parameter(torch.ones(4, 3)) * 1), "let gradients through"),
}


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("keep", ["best", "last"])
def test_models(case: str, keep: Any) -> None:
    model, message = MODELS[case]
    with pytest.raises(InputError, match=message):
        PGD(THREAT, steps=2, keep=keep)(model, X, Y)


def test_models_that_are_unpacked() -> None:
    def attack(model: Any) -> Tensor:
        return PGD(THREAT, steps=2)(model, X, Y, delta0=torch.zeros_like(X))

    torch.manual_seed(1)
    plain = Returns(lambda z: z)
    expected = attack(plain)
    for change in (lambda z: {"logits": z}, lambda z: (z,), lambda z: Pair(z, z[:1])):
        plain.change = change
        assert torch.equal(attack(plain), expected)
    plain.change = lambda z: torch.cat([z, torch.full((4, 1), -math.inf)], 1)  # a class that is ruled out
    torch.testing.assert_close(attack(plain), expected)


OPTIONS: list[tuple[dict[str, Any], str]] = [
    ({"steps": 0}, "at least 1"),
    ({"steps": 2.5}, "whole number"),
    ({"restarts": 0}, "at least 1"),
    ({"step_size": 0.0}, "above 0"),
    ({"step_size": -0.1}, "above 0"),
    ({"step_size": math.nan}, "above 0"),
    ({"step_size": 1e39}, "at most 3.4e"),  # no float32
    ({"step_size": torch.ones(4, 1)}, r"\(N,\)"),
    ({"start": "gauss"}, "uniform, normal, none"),
    ({"loss": "cw"}, "ce, kl, margin, dlr"),
    ({"keep": "first"}, "best, last"),
    ({"bn_mode": "batch"}, "eval, train, frozen"),
    ({"fraction": 0.0}, "above 0"),
    ({"targeted": True, "loss": "kl"}, "margin"),
    ({"targeted": True, "loss": "dlr"}, "margin"),
    ({"restarts": 2, "start": "none"}, "start='uniform'"),
    ({"restarts": 2, "keep": "last"}, "keep='best'"),
    ({"restarts": 2, "bn_mode": "train"}, "bn_mode='eval'"),
    ({"early_stop": True, "bn_mode": "frozen"}, "bn_mode='eval'"),
]


@pytest.mark.parametrize(("options", "message"), OPTIONS)
def test_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PGD(THREAT, **options)


def test_options_that_depend_on_the_call() -> None:
    with pytest.raises(InputError, match="2 values for 4 images"):
        PGD(THREAT, step_size=torch.ones(2))(linear(), X, Y)
    with pytest.raises(InputError, match="2 values for 4 images"):
        PGD(ThreatModel("Linf", torch.rand(2)))(linear(), X, Y)
    with pytest.raises(InputError, match="start='normal'"):
        PGD(THREAT, loss="kl", start="none")(linear(), X, Y)
    with pytest.raises(InputError, match="must be like the images"):
        PGD(THREAT)(linear(), X, Y, delta0=torch.zeros(2, 3))
    with pytest.raises(InputError, match="reduction='none'"):
        PGD(THREAT, loss=lambda logits, y: nn.functional.cross_entropy(logits, y))(linear(), X, Y)
    with pytest.raises(InputError, match=r"needs an nn\.Module"):
        PGD(THREAT, bn_mode="frozen")(lambda x: x.flatten(1), X, Y)


def test_unchecked_values_are_not_looked_at() -> None:
    attack = PGD(THREAT, steps=2, check=False, keep="last")
    assert attack(linear(), X * 1.5, Y).max() <= 1
    with pytest.raises(InputError, match="uint8"):
        attack(linear(), (X * 255).byte(), Y)


class Lists(TorchFunctionMode):
    """Counts `tolist`, which calls no operator on the CPU."""

    count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += getattr(func, "__name__", "") == "tolist"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
@pytest.mark.parametrize(
    "options", [{}, {"keep": "last"}, {"loss": "kl"}, {"loss": "dlr", "start": "normal"}]
)
def test_the_loop_never_waits_for_the_device(norm: Any, options: dict[str, Any]) -> None:
    model = linear()
    for eps in (0.1, torch.rand(4) / 10):
        for checked, steps in ((False, 2), (True, 2), (True, 5)):
            attack = PGD(ThreatModel(norm, eps), steps=steps, check=checked, **options)
            with Lists() as lists, Looks() as reads:
                attack(model, X, Y)
            assert (reads.count, lists.count) == (0, 2 if checked else 0)
    with Lists() as lists, Looks() as reads:
        PGD(ThreatModel(norm, 0.1), steps=1, early_stop=True)(model, X, (model(X).argmax(1) + 1) % 3)
    assert reads.count > 0  # the count sees what early_stop has to ask


def test_verdicts() -> None:
    model = linear()
    clean = model(X).argmax(1)
    adv = PGD(ThreatModel("Linf", 0.3), steps=20)(model, X, clean)
    wrong = model(adv).argmax(1) != clean
    assert wrong.any()
    threat = ThreatModel("Linf", 0.3)
    assert torch.equal(verify(model, adv, X, clean, threat), wrong)
    assert torch.equal(verify(model, adv, X, clean, threat, batch_size=1), wrong)
    assert not verify(model, adv, X, clean, ThreatModel("Linf", 0.2)).any()
    assert not verify(model, X, X, clean, threat).any()
    assert not verify(Returns(lambda z: z * math.nan), adv, X, clean, threat).any()
    assert accuracy(model, X, clean) == 1
    assert accuracy(model, X, (clean + 1) % 3, batch_size=3) == 0
    assert accuracy(Returns(lambda z: z * math.nan), X, torch.zeros(4, dtype=torch.long)) == 0
    with pytest.raises(InputError, match="give pairs"):
        verify(model, X[:, :1], X, Y, threat)
    with pytest.raises(InputError, match="at least 1"):
        accuracy(model, X, Y, batch_size=0)


def test_verdicts_leave_the_model_in_its_mode_and_ignore_autocast() -> None:
    seen: list[torch.dtype] = []

    def look(z: Tensor) -> Tensor:
        seen.append(z.dtype)
        return z

    model = Returns(look).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        accuracy(model, X, Y)
    assert seen == [torch.float32]
    assert all(module.training for module in model.modules())
