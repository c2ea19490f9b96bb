"""Models whose logits of an image depend on its batch are called again with other images, and flagged."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robustsabn.attacks import APGD, AutoAttack, ThreatModel
from robustsabn.attacks.autoattack.flags import seen_on
from robustsabn.attacks.model.verifier import Verifier
from tests.helpers.attacks.autoattack_case import Wrapped, attack
from tests.helpers.attacks.networks import conv_case


def _without_statistics() -> nn.Module:
    norm = nn.BatchNorm2d(8, track_running_stats=False)
    return nn.Sequential(nn.Conv2d(3, 8, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(800, 10))


class Standardised(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.inner((x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True))
        return z


def _seeded(z: Tensor, x: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return z + 0.1 * torch.randn(z.shape, generator=generator)


def _dropout(z: Tensor, x: Tensor) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return nn.functional.dropout(z, 0.5)


def _contrast(z: Tensor, x: Tensor) -> Tensor:
    return z / z.abs().mean()  # one number for the whole batch


def _neighbour(z: Tensor, x: Tensor) -> Tensor:
    return z + 0.05 * z.roll(1, 0)


def _first_is_other(z: Tensor, x: Tensor) -> Tensor:
    return torch.cat([z[:1] * 2, z[1:]])


def _softly(z: Tensor, x: Tensor) -> Tensor:
    attention = (x.flatten(1) @ x.flatten(1).T / 50).softmax(1)
    return z + 0.1 * attention @ z


@pytest.mark.parametrize("how", [_seeded, _dropout, _contrast, _neighbour, _first_is_other, _softly])
@pytest.mark.parametrize("count", [1, 5, 40])
def test_each_kind_is_flagged(how: Callable[[Tensor, Tensor], Tensor], count: int) -> None:
    inner, x, _ = conv_case(count=count)
    model = Wrapped(inner, how).eval()
    flags = {flag.name: flag for flag in seen_on(Verifier(model, x, batch_size=64), x)}
    assert list(flags) == ["batch-dependent"]
    assert flags["batch-dependent"].severity == "warning"


@pytest.mark.parametrize("make", [_without_statistics, lambda: Standardised(conv_case()[0])])
def test_statistics_of_the_batch_are_flagged_in_the_report(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model, x = make().eval(), torch.rand(20, 3, 12, 12)
    report = attack(model, x, model(x).argmax(1))
    assert (
        "another order and among other images"
        in next(f for f in report.flags if f.name == "batch-dependent").message
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_models_that_are_not_are_not_flagged(dtype: torch.dtype) -> None:
    inner, x, _ = conv_case(count=40)

    def masked(z: Tensor, _: Tensor) -> Tensor:
        return z.index_fill(1, torch.tensor([3]), -torch.inf)

    def cast(z: Tensor, _: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return nn.functional.linear(z, torch.eye(10, dtype=z.dtype))

    for model in (inner, Wrapped(inner, masked), Wrapped(inner, cast), Wrapped(inner, lambda z, _: z * 1e-6)):
        plain = model.to(dtype).eval()
        assert not seen_on(Verifier(plain, x, batch_size=16), x)


def test_random_models_are_called_random() -> None:
    inner, x, y = conv_case(count=16)
    threat = ThreatModel("Linf", 0.01)
    model = Wrapped(inner, lambda z, _: z + 0.1 * torch.randn_like(z)).eval()
    report = AutoAttack(threat, version="custom", attacks=[APGD(threat, steps=1)])(model, x, y)
    names = [flag.name for flag in report.flags]
    assert "randomised" in names
    assert "batch-dependent" not in names
