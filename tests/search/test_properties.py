"""Every attack on random networks, shapes, radii, dtypes and class counts: inside box and ball, verified."""

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from robustsabn.attacks import APGD, APGDT, FAB, FABT, AutoAttack, Square, ThreatModel, verify
from robustsabn.attacks.search.apgd_focused import FocusedAPGDT
from robustsabn.attacks.search.base import Search

LIMITS = {"Linf": 1.0, "L2": 1.0, "L1": 2.0}


class Small(nn.Module):
    """A linear map, a nonlinearity, a linear map, in `dtype`."""

    def __init__(self, size: int, classes: int, dtype: torch.dtype, seed: int) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        self.first = nn.Parameter(torch.randn(size, 12, generator=g).to(dtype))
        self.second = nn.Parameter(torch.randn(12, classes, generator=g).to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        return ((x.flatten(1) - 0.5) @ self.first).relu() @ self.second


def attacks(threat: ThreatModel, images: bool, few: bool) -> list[Search[Any]]:
    found: list[Search[Any]] = [
        APGD(threat, steps=5, restarts=2, large_eps=threat.norm == "L1"),
        APGD(threat, loss="dlr", steps=4),
        APGDT(threat, steps=4, targets=3),
        FocusedAPGDT(threat, steps=2, targets=3, most=2, long=3),
        FABT(threat, steps=3, targets=2, restarts=2),
    ]
    if few:
        found.append(FAB(threat, steps=2))
    return [*found, Square(threat, steps=9)] if images else found


@settings(max_examples=40, deadline=None)
@given(
    norm=st.sampled_from(["Linf", "L2", "L1"]),
    share=st.floats(0.0, 0.5),
    shape=st.one_of(
        st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)), st.tuples(st.integers(2, 20))
    ),
    classes=st.integers(2, 200),
    count=st.integers(1, 6),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
    corners=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_budget_box_and_verification(
    norm: Any,
    share: float,
    shape: tuple[int, ...],
    classes: int,
    count: int,
    dtype: torch.dtype,
    corners: bool,
    seed: int,
) -> None:
    model = Small(int(torch.tensor(shape).prod()), classes, dtype, seed)
    x = torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))
    x = x.round() if corners else x
    with torch.no_grad():
        y = model(x.to(dtype)).argmax(1)
    threat = ThreatModel(norm, share * LIMITS[norm])
    chosen = attacks(threat, len(shape) == 3, classes <= 10)
    for attack in chosen:
        state = attack.run(model, x, y)
        assert torch.equal(state.x_adv[~state.broken], x[~state.broken])
        hit = state.broken
        if bool(hit.any()):
            assert verify(model, state.x_adv[hit], x[hit], y[hit], threat).all(), attack.name
        assert share > 0 or not bool(hit.any())
    report = AutoAttack(threat, version="custom", attacks=[*chosen[2:3], *chosen[4:]])(model, x, y)
    broken = report.clean & ~report.robust
    if bool(broken.any()):
        assert verify(model, report.x_adv[broken], x[broken], y[broken], threat).all()
        assert (report.margin[broken] <= 0).all()
    assert torch.equal(report.x_adv[~broken], x[~broken])
