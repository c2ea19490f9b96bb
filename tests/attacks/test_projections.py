"""Projections: published vectors, slow float64 references, and what every projection must satisfy."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from robustsabn.attacks import ThreatModel
from robustsabn.attacks.projections import project_l1, project_l2, project_linf

NORMS = ("Linf", "L2", "L1")
SHAPES = ((7,), (3, 4, 5), (1, 2, 3, 2))


def l1_by_bisection(x_adv: Tensor, x: Tensor, eps: float) -> Tensor:
    """One sample at a time: the smallest threshold whose clipped, shrunk perturbation fits."""
    rows = []
    for row, centre in zip(x_adv.double(), x.double(), strict=True):
        delta = row - centre
        room = torch.where(delta > 0, 1 - centre, centre)

        def shrink(lam: float, delta: Tensor = delta, room: Tensor = room) -> Tensor:
            return delta.sign() * torch.minimum(room, (delta.abs() - lam).clamp_min(0))

        low, high = 0.0, float(delta.abs().max())
        if shrink(0.0).abs().sum() > eps:
            for _ in range(200):
                middle = (low + high) / 2
                low, high = (middle, high) if shrink(middle).abs().sum() > eps else (low, middle)
            low = high
        rows.append(centre + shrink(low))
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("eps", "expected"),
    [(0.4, [0.25, 0.1, -0.05, 0, 0]), (0.6, [0.35, 0.1, -0.15, 0, 0]), (2.0, [0.5, 0.1, -0.3, 0, 0])],
)
def test_l1_published_vectors(eps: float, expected: list[float]) -> None:
    x = torch.tensor([[0.2, 0.9, 0.5, 0.0, 1.0]])
    projected = project_l1(x + torch.tensor([[0.5, 0.4, -0.3, -0.2, 0.1]]), x, eps)
    torch.testing.assert_close(projected - x, torch.tensor([expected]))


@pytest.mark.parametrize(("size", "eps"), [(1, 0.3), (2, 0.1), (5, 0.3), (300, 4.0), (3072, 12.0)])
@pytest.mark.parametrize("spread", [0.01, 0.3, 3.0])
def test_l1_equals_bisection(size: int, eps: float, spread: float) -> None:
    x = torch.rand(6, size, generator=torch.Generator().manual_seed(size))
    x[:, ::3] = x[:, ::3].round()
    x_adv = x + spread * torch.randn(6, size, generator=torch.Generator().manual_seed(1))
    x_adv[0] = x[0] + spread  # every coordinate tied
    torch.testing.assert_close(
        project_l1(x_adv, x, eps).double(), l1_by_bisection(x_adv, x, eps), rtol=0, atol=2e-6
    )
    exact = project_l1(x_adv.double(), x.double(), eps)
    torch.testing.assert_close(exact, l1_by_bisection(x_adv, x, eps), rtol=0, atol=1e-12)


def test_linf_and_l2_equal_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 3, 5, 5, dtype=torch.float64, generator=generator)
    x_adv = x + torch.randn(x.shape, dtype=torch.float64, generator=generator)
    linf, l2 = project_linf(x_adv, x, 0.1), project_l2(x_adv, x, 0.5)
    for i in range(4):
        clipped = [
            min(max(min(max(a, c - 0.1), c + 0.1), 0.0), 1.0)
            for a, c in zip(x_adv[i].flatten().tolist(), x[i].flatten().tolist(), strict=True)
        ]
        assert linf[i].flatten().tolist() == clipped
        delta = x_adv[i] - x[i]
        scaled = x[i] + delta * min(1.0, 0.5 / sum(v * v for v in delta.flatten().tolist()) ** 0.5)
        torch.testing.assert_close(l2[i], scaled.clamp(0, 1), rtol=1e-12, atol=1e-14)


@settings(deadline=None, max_examples=60)
@given(
    norm=st.sampled_from(NORMS),
    shape=st.sampled_from(SHAPES),
    batch=st.sampled_from([1, 3, 8]),
    eps=st.one_of(st.just(0.0), st.floats(1e-4, 0.9)),
    per_sample=st.booleans(),
    bounds=st.sampled_from([(0.0, 1.0), (-1.0, 1.0)]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 999),
)
def test_projection_is_inside_and_leaves_the_inside_alone(
    norm: str,
    shape: tuple[int, ...],
    batch: int,
    eps: float,
    per_sample: bool,
    bounds: tuple[float, float],
    dtype: torch.dtype,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    low, high = bounds
    x = low + (high - low) * torch.rand(batch, *shape, dtype=dtype, generator=generator)
    x = torch.where(torch.rand(x.shape, generator=generator) < 0.2, x.round().clamp(low, high), x)
    radii = eps * torch.rand(batch, dtype=dtype, generator=generator) if per_sample else eps
    threat = ThreatModel(norm, radii, bounds)  # type: ignore[arg-type]
    x_adv = x + torch.randn(x.shape, dtype=dtype, generator=generator)
    projected = threat.project(x_adv, x)
    assert projected.dtype == dtype
    assert threat.contains(projected, x).all()
    torch.testing.assert_close(threat.project(projected, x), projected, rtol=0, atol=3e-7)
    assert torch.equal(threat.project(x, x), x)
