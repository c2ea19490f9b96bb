"""Sums of activations with trained weights."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

from robustsabn.models.nas.mixing import weighted_sum

FORMATS = [torch.contiguous_format, torch.channels_last]


def inputs(form: torch.memory_format, dtype: torch.dtype = torch.float64) -> tuple[Tensor, list[Tensor]]:
    source = torch.Generator().manual_seed(0)
    terms = [torch.randn(2, 3, 4, 2, dtype=dtype, generator=source) for _ in range(3)]
    weights = torch.randn(3, dtype=dtype, generator=source, requires_grad=True)
    return weights, [term.contiguous(memory_format=form).requires_grad_() for term in terms]


@pytest.mark.parametrize("form", FORMATS)
def test_sum_and_first_and_second_derivatives(form: torch.memory_format) -> None:
    weights, terms = inputs(form)
    out = weighted_sum(weights, terms)
    expected = sum(weight.item() * term.detach() for weight, term in zip(weights, terms, strict=True))
    torch.testing.assert_close(out.detach(), expected)
    assert out.is_contiguous(memory_format=form)

    def flat(w: Tensor, *each: Tensor) -> Tensor:
        return weighted_sum(w, each)

    assert gradcheck(flat, (weights, *terms))
    assert gradgradcheck(flat, (weights, *terms))


def test_formats_that_differ() -> None:
    weights, terms = inputs(torch.contiguous_format)
    terms[1] = terms[1].detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    assert gradcheck(lambda w, *each: weighted_sum(w, each), (weights, *terms))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_dtype(dtype: torch.dtype) -> None:
    weights, terms = inputs(torch.contiguous_format)
    half = [term.detach().to(dtype).requires_grad_() for term in terms]
    mixture = weights.detach().float().requires_grad_()
    out = weighted_sum(mixture, half)
    assert out.dtype == dtype
    torch.autograd.backward(out.float().square().sum())
    (expected,) = torch.autograd.grad(weighted_sum(weights, terms).square().sum(), weights)
    assert mixture.grad is not None
    assert mixture.grad.dtype == torch.float32
    eps = torch.finfo(dtype).eps  # a sum of 24 products of rounded values, each some eps off
    torch.testing.assert_close(mixture.grad.double(), expected, rtol=16 * eps, atol=24 * 16 * eps)


def test_terms_are_kept_only_for_trained_weights() -> None:
    weights, terms = inputs(torch.contiguous_format)
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        weighted_sum(weights.detach(), terms)
        assert [tensor.shape for tensor in kept] == [weights.shape]
        weighted_sum(weights, terms)
    assert len(kept) == 1 + 1 + len(terms)
