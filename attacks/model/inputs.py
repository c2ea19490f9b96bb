"""Checks of what an attack is handed: on the host always, on values only where asked, with one device sync."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from robustsabn.attacks.threat import ThreatModel
from robustsabn.errors import InputError
from robustsabn.text import quote

__all__ = [
    "ZeroGradientWarning",
    "check_batch",
    "check_classes",
    "check_finite",
    "check_generator",
    "check_threat",
    "check_values",
    "check_weights",
    "ordinary",
    "say_zero_gradients",
    "usable",
]


def check_batch(model: Any, x: Tensor, y: Tensor, delta0: Tensor | None = None) -> None:
    """Types, dtypes, shapes and devices of images (N, ...) and labels (N,); never looks at a value."""
    if not callable(model):
        raise InputError(
            f"the model is a {type(model).__name__}; give a module or function that returns logits"
        )
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        raise InputError(
            f"images and labels are {type(x).__name__} and {type(y).__name__}; give tensors (torch.as_tensor)"
        )
    if x.dtype not in (torch.float32, torch.float64):
        remedy = "which cannot hold a small perturbation; pass x.float(), the model still gets its own dtype"
        if not x.is_floating_point():
            remedy = "allowed is float32 in [0, 1]; pass x.float() / 255 if they hold 0 to 255"
        raise InputError(f"images are {x.dtype}, {remedy}")
    if x.layout is not torch.strided or x.device.type == "meta":
        raise InputError(f"images are {x.layout} on {x.device}; give dense images with values: x.to_dense()")
    if x.ndim < 2:
        raise InputError(
            f"images have shape {tuple(x.shape)}; give a batch (N, C, H, W) or (N, D): x.unsqueeze(0)"
        )
    if y.dtype != torch.int64 or y.shape != x.shape[:1]:
        raise InputError(
            f"labels are {y.dtype} {tuple(y.shape)} for {x.shape[0]} images; allowed is int64 ({x.shape[0]},): "
            "class indices, not one-hot"
        )
    if y.device != x.device:
        raise InputError(f"images are on {x.device}, labels on {y.device}; move them to one device")
    if delta0 is not None and (
        delta0.shape != x.shape or delta0.dtype != x.dtype or delta0.device != x.device
    ):
        raise InputError(
            f"delta0 is {delta0.dtype} {tuple(delta0.shape)} on {delta0.device}; it must be like the images: "
            f"{x.dtype} {tuple(x.shape)} on {x.device}"
        )
    if isinstance(model, nn.Module):
        check_weights(model)


def check_weights(model: nn.Module) -> None:
    """The parameters of a model are there, and allow gradients to be taken through them."""
    weights = list(model.parameters())
    if any(isinstance(weight, UninitializedParameter) for weight in weights):
        raise InputError(
            "the model has lazy layers whose weights are not made yet; call it once on images of this size before"
        )
    if any(weight.is_meta for weight in weights):
        raise InputError(
            "the model is on the device meta, which holds no values; build it on a real device, or give it its weights: "
            "model.to_empty(device='cpu') and load_state_dict(...)"
        )
    if any(weight.is_inference() for weight in weights):
        raise InputError(
            "parameters were made under torch.inference_mode, which forbids gradients; make them under torch.no_grad"
        )


def check_threat(threat: object) -> None:
    """Refuse a bare radius, which does not say in which norm."""
    if not isinstance(threat, ThreatModel):
        raise InputError(
            f"the threat is {quote(threat)}; give a ThreatModel, such as ThreatModel('Linf', 8 / 255)"
        )


def check_generator(generator: object) -> None:
    """Refuse a bare seed, which would repeat the same noise at every call."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise InputError(
            f"generator is {quote(generator)}; give torch.Generator().manual_seed(0), or leave it out"
        )


def check_values(x: Tensor, y: Tensor, threat: ThreatModel) -> int:
    """Images finite and inside the bounds, labels not negative; the largest label. One device sync.

    Inside by the rounding of a normalisation in float32, four units in the last place of the larger bound.
    """
    low, high = threat.bounds
    slack = 4 * torch.finfo(torch.float32).eps * max(abs(low), abs(high))
    given = torch.stack([value.double() for value in (*x.detach().aminmax(), *y.aminmax())]).tolist()
    if not (low - slack <= given[0] and given[1] <= high + slack):
        hint = "undo the normalisation of the data and put it inside the model, or set the bounds of the ThreatModel"
        if high == 1 and given[0] >= 0 and 1 < given[1] <= 255:
            hint = "pass x / 255"
        raise InputError(
            f"images range from {given[0]:g} to {given[1]:g}; allowed is [{low:g}, {high:g}] and finite; {hint}"
        )
    if given[2] < 0:
        raise InputError(
            f"labels go down to {given[2]:g}; allowed are class indices from 0; drop unlabelled images"
        )
    return int(given[3])


def check_classes(largest: int, logits: Tensor) -> None:
    """The largest label is among the K classes of `logits` (N, K); a comparison on the host."""
    if largest >= logits.shape[1]:
        raise InputError(
            f"labels go up to {largest}, but the model has {logits.shape[1]} classes, from 0; "
            "check that labels and model belong to the same data set"
        )


def ordinary(tensor: Tensor) -> Tensor:
    """`tensor` without a graph, and a copy of one that was made under inference_mode: gradients refuse those."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()


def usable(logits: Tensor) -> Tensor:
    """Bool (N,): no NaN and no +inf among the logits (N, K); -inf rules a class out."""
    below: Tensor = logits < torch.inf
    return below.all(1)


class ZeroGradientWarning(UserWarning):
    """An attack had no gradient to follow, and its images show nothing of the network's robustness."""


def say_zero_gradients(flat: int, count: int, stacklevel: int = 3) -> None:
    """Warn where `flat` of `count` images had a gradient of exactly zero at the start."""
    if flat:
        warnings.warn(
            f"the gradient is exactly zero for {flat} of {count} images: outputs that are saturated, rounded or constant hide "
            "it, and the attack moves these images no further than its start. Use loss='margin', attack the outputs "
            "before saturation, or believe an attack without gradients (Square)",
            ZeroGradientWarning,
            stacklevel=stacklevel,
        )


def check_finite(logits: int, gradients: int, count: int) -> None:
    """InputError where any of `count` images had unusable logits at the start, or an unusable gradient."""
    if logits or gradients:
        what = (
            f"NaN or infinite logits for {logits}" if logits else f"NaN or infinite gradients for {gradients}"
        )
        raise InputError(
            f"the model gives {what} of {count} images; check its weights, square roots and divisions by zero, and "
            "run it in float32 if it overflows in half precision"
        )
