"""Checks of an attack's inputs: types and shapes always; values only on request, with one device sync."""

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from robustsabn.attacks.habits import EACH, is_loader
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


def check_batch(
    model: Any, x: Tensor, y: Tensor, delta0: Tensor | None = None, *, values: bool = True
) -> None:
    """Check types, dtypes, shapes and devices of images (N, ...) and labels (N,), but no value.

    Unless `values` are wanted, all may be on the device meta, which has none.
    """
    if isinstance(model, Tensor):
        raise InputError("the model is a Tensor; the network comes first: attack(model, x, y)")
    if not callable(model):
        raise InputError(
            f"the model is a {type(model).__name__}; give a module or function that returns logits"
        )
    if is_loader(x):
        raise InputError(f"images are {type(x).__name__}; give tensors: {EACH}")
    if not isinstance(x, Tensor) or not isinstance(y, Tensor):
        raise InputError(
            f"images and labels are {type(x).__name__} and {type(y).__name__}; give tensors (torch.as_tensor)"
        )
    if x.dtype not in (torch.float32, torch.float64):
        remedy = "too coarse for a small perturbation; pass x.float(): the model still gets its own dtype"
        if not x.is_floating_point():
            remedy = "allowed is float32 in [0, 1]; pass x.float() / 255 if they hold 0 to 255"
        raise InputError(f"images are {x.dtype}, {remedy}")
    if x.layout is not torch.strided or (values and x.is_meta):
        raise InputError(f"images are {x.layout} on {x.device}; give dense images with values: x.to_dense()")
    if x.ndim < 2:
        raise InputError(
            f"images have shape {tuple(x.shape)}; give a batch (N, C, H, W) or (N, D): x.unsqueeze(0)"
        )
    if y.dtype != torch.int64 or y.shape != x.shape[:1]:
        raise InputError(
            f"labels are {y.dtype} {tuple(y.shape)} for {x.shape[0]} images; allowed is int64 "
            f"({x.shape[0]},): class indices, not one-hot"
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
        check_weights(model, meta=x.is_meta)


def check_weights(model: nn.Module, *, meta: bool = False) -> None:
    """Check that the model's parameters hold values, unless `meta` is allowed, and allow gradients."""
    weights = list(model.parameters())
    if any(isinstance(weight, UninitializedParameter) for weight in weights):
        raise InputError(
            "the model has lazy layers without weights; call the model once on images of this size first"
        )
    if not meta and any(weight.is_meta for weight in weights):
        raise InputError(
            "the model is on the device meta, which holds no values; build it on a real device, or give it "
            "its weights: model.to_empty(device='cpu') and load_state_dict(...)"
        )
    if any(weight.is_inference() for weight in weights):
        raise InputError(
            "the parameters were made under torch.inference_mode, which forbids gradients; make them under "
            "torch.no_grad"
        )


def check_threat(threat: object) -> None:
    """Refuse a plain number, which names no norm."""
    if not isinstance(threat, ThreatModel):
        raise InputError(
            f"the threat is {quote(threat)}; give a ThreatModel, such as ThreatModel('Linf', 8 / 255)"
        )


def check_generator(generator: object) -> None:
    """Refuse a plain seed, which would repeat the same noise at every call."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise InputError(
            f"generator is {quote(generator)}; give torch.Generator().manual_seed(0), or leave it out"
        )


def check_values(x: Tensor, y: Tensor, threat: ThreatModel) -> int:
    """Check that images are finite and inside the bounds and labels not negative; returns the largest label.

    One device sync. The bounds are widened by four float32 roundings of the larger bound, since undoing a
    normalisation leaves that much.
    """
    low, high = threat.bounds
    slack = 4 * torch.finfo(torch.float32).eps * max(abs(low), abs(high))
    extremes = torch.stack([value.double() for value in (*x.detach().aminmax(), *y.aminmax())])
    x_min, x_max, y_min, y_max = extremes.tolist()
    if not (low - slack <= x_min and x_max <= high + slack):
        hint = (
            "undo the normalisation of the data and put it inside the model, or set the bounds of the "
            "ThreatModel"
        )
        if high == 1 and x_min >= 0 and 1 < x_max <= 255:
            hint = "pass x / 255"
        raise InputError(
            f"images range from {x_min:g} to {x_max:g}; allowed is [{low:g}, {high:g}] and finite; {hint}"
        )
    if y_min < 0:
        raise InputError(
            f"the smallest label is {y_min:g}; allowed are class indices from 0; drop unlabelled images"
        )
    return int(y_max)


def check_classes(largest: int, logits: Tensor) -> None:
    """Check, on the host, that the largest label is one of the K classes of `logits` (N, K)."""
    if largest >= logits.shape[1]:
        raise InputError(
            f"the largest label is {largest}, but the model has {logits.shape[1]} classes, counted from 0; "
            "check that labels and model belong to the same data set"
        )


def ordinary(tensor: Tensor) -> Tensor:
    """`tensor` without a graph; a copy if it was made under inference_mode, which forbids gradients."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()


def usable(logits: Tensor) -> Tensor:
    """Bool (N,): no NaN and no +inf among the logits (N, K); -inf is allowed and rules a class out."""
    below: Tensor = logits < torch.inf
    return below.all(1)


class ZeroGradientWarning(UserWarning):
    """The gradient was zero, so the attack's images say nothing about the network's robustness.

    Attacks with `check` raise it as a warning. Outputs that are saturated, rounded or constant are the cause.

    Example:

        >>> import torch, warnings
        >>> from robustsabn.attacks import FGSM, ThreatModel, ZeroGradientWarning
        >>> saturated = lambda x: (1000 * x).sigmoid() * torch.tensor([0.0, 5.0])
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     x_adv = FGSM(ThreatModel("Linf", 0.1))(saturated, torch.ones(1, 2), torch.tensor([1]))
        >>> [warning.category is ZeroGradientWarning for warning in caught]
        [True]
    """


def say_zero_gradients(flat: int, count: int, stacklevel: int = 3) -> None:
    """Warn where `flat` of `count` images had a gradient of exactly zero at the start."""
    if flat:
        warnings.warn(
            f"the gradient is exactly zero for {flat} of {count} images, because outputs are saturated, "
            "rounded or constant; the attack cannot move these images from its start. Use loss='margin', "
            "attack the outputs before saturation, or use an attack without gradients (Square)",
            ZeroGradientWarning,
            stacklevel=stacklevel,
        )


def check_finite(logits: int, gradients: int, count: int) -> None:
    """Raise InputError if any of `count` images had unusable logits at the start, or an unusable gradient."""
    if logits or gradients:
        what = (
            f"NaN or infinite logits for {logits}" if logits else f"NaN or infinite gradients for {gradients}"
        )
        raise InputError(
            f"the model gives {what} of {count} images; check its weights, square roots and divisions by "
            "zero, and run it in float32 if it overflows in half precision"
        )
