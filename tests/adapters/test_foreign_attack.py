"""Attacks of other libraries: how they are built, what they must leave alone, whom the verdict believes."""

import random
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robustsabn.attacks import PGD, ThreatModel
from robustsabn.attacks.adapters import foreign, foreign_report
from robustsabn.attacks.adapters.tally import admissible
from robustsabn.errors import InputError, MissingExtraError
from tests.helpers.attacks.networks import conv_case

EPS = 0.03
LINF = ThreatModel("Linf", EPS)


class Base:
    """Shaped like an attack of torchattacks: built with the model, called with images and labels."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def set_device(self, device: torch.device) -> None:
        self.device = device


class Shift(Base):
    """Adds `size`, in units of eps, to every pixel."""

    def __init__(self, model: nn.Module, eps: float = 1.0, size: float = 0.5) -> None:
        super().__init__(model)
        self.step = eps * size

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return x + self.step


class Ours(Base):
    """Our own PGD, so that it succeeds, clumsily: it touches everything that it should not."""

    def __init__(self, model: nn.Module, eps: float = 1.0, steps: int = 5, seed: int | None = None) -> None:
        super().__init__(model)
        self.eps, self.steps, self.seed = eps, steps, seed

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        torch.manual_seed(1)
        np.random.seed(1)
        random.seed(1)
        sys.settrace(None)
        print("noise")
        self.model.train()
        torch.autograd.backward(nn.functional.cross_entropy(self.model(x), y))
        self.model.eval()
        return PGD(ThreatModel("Linf", self.eps), steps=self.steps)(self.model, x, y)


class Broken(Base):
    """Fails."""

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        raise ValueError("two\nlines")


class ShiftL2(Shift):
    """In another norm, says its name."""


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("torchattacks")
    for cls in (Shift, Ours, Broken, ShiftL2):
        setattr(module, cls.__name__, cls)
    monkeypatch.setitem(sys.modules, "torchattacks", module)
    monkeypatch.setattr("robustsabn.attacks.adapters.foreign_attack.version_of", lambda library: "0")
    return module


def test_the_ball_and_the_options_reach_the_class() -> None:
    model, x, y = conv_case(count=6)
    x = 0.1 + 0.8 * x
    x_adv = foreign("torchattacks:Shift", LINF, {"size": 0.25})(model, x, y)
    torch.testing.assert_close(x_adv, x + 0.25 * EPS)


def test_successes_are_verified_and_the_report_is_whole() -> None:
    model, x, y = conv_case(count=24)
    y[:3] = (y[:3] + 1) % 10  # wrong from the start
    report = foreign_report(
        foreign("torchattacks:Ours", LINF), model, x, y, ids=torch.arange(50, 74), batch_size=7
    )
    assert report.engine == "torchattacks"
    assert report.version == "Ours"
    assert report.versions["torchattacks"] == "0"
    assert not report.clean[:3].any()
    assert report.clean[3:].all()
    broken = report.clean & ~report.robust
    assert 0 < broken.sum() < 21
    (cost,) = report.attacks
    assert (cost.points, cost.broken) == (21, int(broken.sum()))
    assert cost.robust_accuracy == report.robust_accuracy
    # per point: class count once a batch, its own backward, PGD's 5 steps and the choice of the best
    assert cost.backwards == 21 * 6
    assert cost.forwards == 3 + 21 * 7
    assert torch.equal(report.x_adv[~broken], x[~broken])
    assert LINF.contains(report.x_adv, x).all()
    with torch.no_grad():
        logits = model(report.x_adv)
    assert torch.equal(logits.argmax(1), report.adversarial_prediction)
    assert (logits.argmax(1)[broken] != y[broken]).all()
    for row in range(24):
        others = [float(logits[row, k]) for k in range(10) if k != int(y[row])]
        assert float(report.margin[row]) == pytest.approx(float(logits[row, y[row]]) - max(others), abs=1e-5)
    assert torch.equal(report.broken_by, torch.where(broken, 0, -1))
    assert report.ids.tolist() == list(range(50, 74))


@pytest.mark.parametrize(("right", "verdict"), [(0.7, 1.0), (0.3, 0.0)])
def test_a_random_model_is_voted_on(right: float, verdict: float) -> None:
    def coin(x: Tensor) -> Tensor:
        moved = (
            x.flatten(1)[:, 0] > 0.5
        )  # where the attack shifts it, half of the images are `right` that often
        u = torch.rand(len(x)) < torch.where(moved, right, 0.9)
        return torch.stack([u.float(), 1 - u.float()], 1)

    torch.manual_seed(0)
    x, y = torch.full((40, 1, 2, 2), 0.49), torch.zeros(40, dtype=torch.long)
    report = foreign_report(foreign("torchattacks:Shift", LINF), coin, x, y)
    assert report.clean_accuracy == 1
    assert report.robust_accuracy == verdict
    assert report.draws[0] >= 11
    assert torch.equal(report.margin > 0, report.robust)
    assert {"randomised", "majority"} <= {flag.name for flag in report.flags}


def test_a_model_that_is_always_wrong_needs_no_attack() -> None:
    model, x, y = conv_case(count=4)
    report = foreign_report(foreign("torchattacks:Broken", LINF), model, x, (y + 1) % 10)
    assert report.clean_accuracy == report.robust_accuracy == 0
    assert report.attacks[0].points == 0


def test_nothing_of_the_caller_is_changed(capsys: pytest.CaptureFixture[str]) -> None:
    model, x, y = conv_case(count=4)
    model.train()
    model.get_submodule("3").eval()
    modes = [module.training for module in model.modules()]
    gradients = [torch.full_like(p, 2.0) for p in model.parameters()]
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        parameter.grad = gradient
    weights = {name: value.clone() for name, value in model.state_dict().items()}

    def tracer(*_: Any) -> None: ...

    before_trace = sys.gettrace()
    states = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
    sys.settrace(tracer)
    try:
        with torch.no_grad():
            foreign("torchattacks:Ours", LINF)(model, x, y)
            foreign_report(foreign("torchattacks:Ours", LINF), model, x, y)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before_trace)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert str(np.random.get_state()) == states[1]
    assert random.getstate() == states[2]
    assert [module.training for module in model.modules()] == modes
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert parameter.grad is gradient
        assert (gradient == 2).all()
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert capsys.readouterr().out == ""


def test_the_same_seed_gives_the_same_images() -> None:
    model, x, y = conv_case(count=4)

    def noisy(seed: int) -> list[Tensor]:
        attack = foreign("torchattacks:Noise", LINF, seed=seed)
        return [attack(model, x, y), attack(model, x, y)]

    class Noise(Shift):
        def __call__(self, x: Tensor, y: Tensor) -> Tensor:
            return (x + self.step * (2 * torch.rand_like(x) - 1)).clamp(0, 1)

    sys.modules["torchattacks"].Noise = Noise  # type: ignore[attr-defined]
    first, again, other = noisy(0), noisy(0), noisy(1)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


def test_images_outside_the_ball_do_not_count() -> None:
    model, x, y = conv_case(count=8)
    report = foreign_report(foreign("torchattacks:Shift", LINF, {"size": 10.0}), model, x, y)
    assert report.robust_accuracy == 1
    assert torch.equal(report.x_adv, x)
    (flag,) = report.flags
    assert (flag.name, flag.severity, flag.count) == ("outside", "warning", 8)


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_admissible_takes_rounding_and_nothing_more(norm: Any) -> None:
    x = torch.full((5, 3, 4, 4), 0.5)
    threat = ThreatModel(norm, 0.1)
    delta = threat.ascent(torch.randn(x.shape)) * 0.1
    scale = torch.tensor([0.5, 1.0, 1 + 2e-5, 1 + 1e-2, 1.0]).view(5, 1, 1, 1)
    x_adv = x + scale * delta
    x_adv[4, 0, 0, 0] = torch.nan
    kept, outside = admissible(x_adv, x, threat)
    assert outside == 2
    assert threat.contains(kept, x).all()
    assert torch.equal(kept[3:], x[3:])
    torch.testing.assert_close(kept[:3], x_adv[:3], atol=1e-5, rtol=0)
    assert (kept[:3] != x[:3]).flatten(1).any(1).all()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: foreign("torchattack:PGD", LINF), "allowed are advertorch:CLASS"),
        (lambda: foreign("torchattacks", LINF), "unknown"),
        (lambda: foreign("torchattacks:Shit", LINF), "it has Broken, Ours, Shift"),
        (lambda: foreign("torchattacks:Shift", LINF, {"steps": 3}), "no option 'steps'; it takes size"),
        (lambda: foreign("torchattacks:Shift", LINF, {"eps": 3}), "no option 'eps'"),
        (lambda: foreign("torchattacks:ShiftL2", LINF), "attack in L2"),
        (lambda: foreign("torchattacks:Shift", ThreatModel("L2", 0.5)), "attack in Linf"),
        (
            lambda: foreign("torchattacks:Shift", ThreatModel("Linf", 0.5, (-1.0, 1.0))),
            r"only bounds \(0, 1\)",
        ),
        (lambda: foreign("torchattacks:Shift", ThreatModel("Linf", torch.ones(3))), "one eps"),
        (lambda: foreign("torchattacks:Broken", LINF)(*conv_case(count=2)), "ValueError: two lines"),
        (lambda: foreign("torchattacks:Shift", 0.03), "ThreatModel"),  # type: ignore[arg-type]
    ],
)
def test_wrong_usage_is_said(make: Callable[[], object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()


@pytest.mark.parametrize("name", ["advertorch", "foolbox", "torchattacks"])
def test_an_absent_library_is_named_with_its_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"pip install 'robustsabn\[{name}\]'"):
        foreign(f"{name}:PGD", LINF)
    gradcheck: Any = sys.modules["torch.autograd.gradcheck"]
    assert not hasattr(gradcheck, "zero_gradients")


def test_what_speaks_against_a_number_is_flagged() -> None:
    model, x, y = conv_case(count=4)
    soft = nn.Sequential(model, nn.Softmax(1)).train()
    names = {flag.name for flag in foreign_report(foreign("torchattacks:Shift", LINF), soft, x, y).flags}
    assert {"softmax", "train-mode"} <= names


def test_models_with_several_outputs_and_without_modules() -> None:
    model, x, y = conv_case(count=8)
    plain = foreign_report(foreign("torchattacks:Ours", LINF), model, x, y)

    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, x: Tensor) -> tuple[Tensor, int]:
            return self.inner(x), 0

    paired = foreign_report(foreign("torchattacks:Ours", LINF), Pair().eval(), x, y)
    assert paired.same_verdicts(plain)
    function = foreign_report(foreign("torchattacks:Shift", LINF), lambda images: model(images), x, y)
    assert function.n == 8
