"""Normalisation with an affine for each sample: values and gradients, in every memory layout."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd import forward_ad

from robustsabn import CCBN2d, CCIN2d, Condition, SaBN2d, SaIN2d, Split, route
from robustsabn.layers import samples
from robustsabn.layers.samples import normalise_samples

EPS = 1e-5


def normalised64(x: Tensor, scale: Tensor, shift: Tensor, groups: list[int], known: Any) -> Tensor:
    """One sample and one channel at a time, in float64."""
    out = []
    for n in range(len(x)):
        for c in range(x.shape[1]):
            mates = [m for m in range(len(x)) if groups[m] == groups[n]]
            values = torch.stack([x[m, c].flatten() for m in mates]).flatten()
            mean = values.sum() / values.numel()
            var = ((values - mean) ** 2).sum() / values.numel()
            if known is not None:
                mean, var = (t[groups[n], c] for t in known)
            out.append(scale[n, c] * (x[n, c] - mean) / torch.sqrt(var + EPS) + shift[n, c])
    return torch.stack(out).view_as(x)


def arranged(x: Tensor, layout: str) -> Tensor:
    """The same values in another order in memory."""
    if layout == "channels_last":
        return x.contiguous(memory_format=torch.channels_last)
    if layout == "strided":
        return torch.stack([x, x], -1)[..., 0]
    return x


CASES = st.fixed_dictionaries(
    {
        "n": st.integers(2, 5),
        "c": st.integers(1, 3),
        "size": st.tuples(st.integers(1, 3), st.integers(2, 3)),
        "layouts": st.tuples(*[st.sampled_from(["contiguous", "channels_last", "strided"])] * 2),
        "grouped": st.booleans(),
        "known": st.booleans(),
        "slice": st.sampled_from([1, 2**19]),
    }
)


@settings(max_examples=25, deadline=None)
@given(case=CASES)
def test_values_and_gradients_are_those_of_the_loop(case: dict[str, Any]) -> None:
    torch.manual_seed(0)
    n, c = case["n"], case["c"]
    x = arranged(torch.randn(n, c, *case["size"]).double(), case["layouts"][0]).requires_grad_()
    g = arranged(torch.randn(n, c, *case["size"]).double(), case["layouts"][1])
    scale, shift = (torch.randn(n, c).double().requires_grad_() for _ in range(2))
    groups = torch.arange(n) % 2 if case["grouped"] else None
    sets = 2 if case["grouped"] else 1
    known = (torch.randn(sets, c).double(), torch.rand(sets, c).double() + 0.5) if case["known"] else None
    expected = normalised64(x, scale, shift, [0] * n if groups is None else groups.tolist(), known)
    before, samples.SLICE = samples.SLICE, case["slice"]
    try:
        found, moments = normalise_samples(x, scale, shift, EPS, groups, sets=sets, known=known)
        torch.testing.assert_close(found, expected)
        assert (moments is None) == case["known"]
        inputs = (x, scale, shift)
        for one, other in zip(
            torch.autograd.grad(found, inputs, g), torch.autograd.grad(expected, inputs, g), strict=True
        ):
            torch.testing.assert_close(one, other)
    finally:
        samples.SLICE = before


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("selection", [torch.tensor([1, 0, 1]), Condition(torch.randn(3, 2).double())])
def test_second_order_forward_mode_and_functional_gradients(selection: Any, training: bool) -> None:
    conditioned = isinstance(selection, Condition)
    options: dict[str, Any] = {"condition": 2} if conditioned else {"routes": 2}
    layer = SaBN2d(2, **options, dtype=torch.float64, init="paper", momentum=0.0).train(training)
    x = torch.randn(3, 2, 2, 2).double().requires_grad_()

    def forward(x: Tensor) -> Tensor:
        with route(layer, selection):
            out: Tensor = layer(x)
        return out

    assert torch.autograd.gradcheck(forward, x)
    assert torch.autograd.gradgradcheck(forward, x)
    tangent = torch.randn_like(x)
    columns = torch.autograd.functional.jacobian(forward, x)  # type: ignore[no-untyped-call]
    expected = (columns.reshape(x.numel(), x.numel()) @ tangent.flatten()).view_as(x)
    if training:
        layer.track_running_stats, layer.running_mean, layer.running_var = False, None, None
    with forward_ad.dual_level():
        dual = forward(forward_ad.make_dual(x.detach(), tangent))  # type: ignore[no-untyped-call]
        found = forward_ad.unpack_dual(dual).tangent  # type: ignore[no-untyped-call]
        torch.testing.assert_close(found, expected)
    weights = torch.randn_like(x)
    by_functions = torch.func.grad(lambda x: (forward(x) * weights).sum())(x.detach())
    torch.testing.assert_close(by_functions, torch.autograd.grad((forward(x) * weights).sum(), x)[0])


def test_autograd_keeps_the_input_and_nothing_of_its_size() -> None:
    layer, kept = SaBN2d(4, routes=3), {}

    def pack(t: Tensor) -> Tensor:
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    x = torch.randn(8, 4, 16, 16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), route(layer, torch.arange(8) % 3):
        layer(x)
    large = [pointer for pointer, size in kept.items() if size >= x.nbytes]
    assert large == [x.untyped_storage().data_ptr()]


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from([SaBN2d, CCBN2d, SaIN2d, CCIN2d]),
    counts=st.lists(st.integers(0, 3), min_size=2, max_size=4).filter(lambda counts: sum(counts) > 1),
    training=st.booleans(),
)
def test_parts_routes_and_one_hot_vectors_are_one(kind: Any, counts: list[int], training: bool) -> None:
    torch.manual_seed(0)
    routes = len(counts)
    table, maps = kind(3, routes=routes, dtype=torch.float64), kind(3, condition=routes, dtype=torch.float64)
    for parameter in table.parameters():
        torch.nn.init.normal_(parameter)
    own = dict(maps.named_parameters())
    with torch.no_grad():
        own["condition_gain.weight"].copy_(table.route_weight.T - 1)
        own["condition_bias.weight"].copy_(table.route_bias.T)
        for name in {"weight", "bias"} & set(own):
            own[name].copy_(dict(table.named_parameters())[name])
    by_sample = torch.repeat_interleave(torch.arange(routes), torch.tensor(counts))
    x, outputs = torch.randn(sum(counts), 3, 2, 2).double(), []
    for layer, selection in (
        (table, by_sample),
        (table, Split(*enumerate(counts))),
        (maps, Condition(F.one_hot(by_sample, routes).double())),
    ):
        with route(layer.train(training), selection):
            outputs.append(layer(x))
    for r in range(routes) if not training or kind in (SaIN2d, CCIN2d) else ():
        with route(table, r):
            outputs.append(torch.where((by_sample == r).view(-1, 1, 1, 1), table(x), outputs[0]))
    for other in outputs[1:]:
        torch.testing.assert_close(other, outputs[0], atol=1e-4 if not training else 1e-5, rtol=1e-4)
