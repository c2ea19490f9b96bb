"""Attack losses: published values, closed forms, few classes, gradients."""

import math

import pytest
import torch
from torch import Tensor

from robustsabn.attacks.losses import Loss, cross_entropy, dlr, kl, margin, targeted_dlr

Z = torch.tensor([[2.0, 1.0, 0.5, -1.0, 0.0]])


@pytest.mark.parametrize(("y", "expected"), [(0, -0.6666667), (1, 0.6666667), (3, 2.0)])
def test_dlr_published(y: int, expected: float) -> None:
    assert dlr(Z, torch.tensor([y])).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("y", "target", "expected"),
    [(0, 1, -0.5714286), (0, 2, -0.8571429), (1, 0, 0.5714286), (0, 3, -1.7142857)],
)
def test_targeted_dlr_published(y: int, target: int, expected: float) -> None:
    value = targeted_dlr(Z, torch.tensor([y]), torch.tensor([target]))
    assert value.item() == pytest.approx(expected)


@pytest.mark.parametrize("classes", [2, 3, 4, 10])
def test_against_loops(classes: int) -> None:
    z = torch.randn(20, classes, dtype=torch.float64)
    y, t = torch.randint(classes, (20,)), torch.randint(classes, (20,))
    reference = torch.randn(20, classes, dtype=torch.float64)
    for i in range(20):
        row, label, target = z[i].tolist(), int(y[i]), int(t[i])
        ranked = sorted(row, reverse=True)
        total = math.log(sum(math.exp(v) for v in row))
        gap = max(v for j, v in enumerate(row) if j != label) - row[label]
        third = ranked[0] - ranked[2] if classes > 2 else 1.0
        fourth = ranked[0] - (ranked[2] + ranked[3]) / 2 if classes > 3 else 1.0
        p, q = reference[i].softmax(0).tolist(), z[i].softmax(0).tolist()
        expected = {
            cross_entropy(z, y)[i]: total - row[label],
            margin(z, y)[i]: gap,
            dlr(z, y)[i]: gap / third,
            targeted_dlr(z, y, t)[i]: (row[target] - row[label]) / fourth,
            kl(z, reference)[i]: sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)),
        }
        for value, wanted in expected.items():
            assert float(value) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_gradients_are_there_for_few_classes(classes: int) -> None:
    z = torch.randn(6, classes, dtype=torch.float64, requires_grad=True)
    y = z.argmax(1)  # a third place and a first one differ by s1 - s3: dlr is flat where y is third
    losses: list[Loss] = [cross_entropy, margin, dlr]
    losses += [lambda z, y, k=k: targeted_dlr(z, y, (y + k) % classes) for k in range(1, classes)]  # type: ignore[misc]
    for loss in losses:
        (grad,) = torch.autograd.grad(loss(z, y).sum(), z)
        assert (grad.abs().sum(1) > 1e-6).all()
        assert torch.autograd.gradcheck(lambda z, loss=loss: loss(z, y), (z,))


def test_dlr_ignores_shift_and_scale_and_survives_ties() -> None:
    z, y = torch.randn(8, 6), torch.arange(8) % 6
    torch.testing.assert_close(dlr(3 * z + 5, y), dlr(z, y), rtol=1e-4, atol=1e-5)
    assert dlr(torch.zeros(1, 6), torch.tensor([2])).item() == 0


def test_half_precision_logits_give_float32_losses() -> None:
    y = torch.tensor([1])

    def values(z: Tensor) -> list[Tensor]:
        return [cross_entropy(z, y), margin(z, y), dlr(z, y), targeted_dlr(z, y, y * 0), kl(z, z.flip(1))]

    for half, full in zip(values(Z.bfloat16()), values(Z), strict=True):
        assert half.dtype == torch.float32
        assert torch.equal(half, full)


@pytest.mark.parametrize("left", [2, 3, 4, 6])
def test_classes_ruled_out_by_minus_infinity_are_as_if_absent(left: int) -> None:
    z = torch.randn(12, 8, dtype=torch.float64)
    absent = torch.zeros(8, dtype=torch.bool)
    absent[torch.tensor([1, 7, 4, 0, 6, 3][: 8 - left])] = True
    y, t = torch.arange(12) % left, (torch.arange(12) + 1) % left
    kept = (~absent).nonzero()[:, 0]
    losses: list[tuple[Loss, Loss]] = [
        (dlr, dlr),
        (lambda z, y: targeted_dlr(z, y, t), lambda z, y: targeted_dlr(z, y, kept[t])),
    ]
    for few, all_of_them in losses:
        small = z[:, kept].requires_grad_()
        large = z.masked_fill(absent, -torch.inf).requires_grad_()
        value, wanted = all_of_them(large, kept[y]), few(small, y)
        assert torch.equal(value, wanted)
        (found,) = torch.autograd.grad(value.sum(), large)
        (slope,) = torch.autograd.grad(wanted.sum(), small)
        assert torch.equal(found[:, kept], slope)
        assert not bool(found[:, absent].any())
