"""A model as a function from images to float32 logits, and its input gradient."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn.attacks.model.inputs import check_classes
from robustsabn.attacks.model.outputs import check_logit, in_words, is_single, scores_in, two_classes, wide
from robustsabn.devices import autocast_dtype
from robustsabn.errors import InputError

__all__ = ["Gate", "LogitsFunction", "Model", "gradient_scale", "scaled_gradient", "value_and_gradient"]

Model = Callable[..., Any]
LogitsFunction = Callable[[Tensor], Tensor]

_FLOAT16_SCALE = 1024.0


class Gate:
    """`model` as a function of images (N, ...) that returns their logits (N, K), float32 or wider.

    The model gets a copy of the images in the dtype of its parameters, if they share one: a bfloat16 model
    gets bfloat16 while iterates stay float32. The caller's autocast stays in force. `like` are images of the
    same shape and device. `precision` is the lowest-precision dtype on the way to the last logits. A model
    may give one value z per image, (N,) or (N, 1): it is read as the logits (0, z) of two classes if some z
    of the first call is outside [0, 1], or if `single` says that it is a logit. A call raises InputError
    where the model fails, for outputs that are not logits (`outputs.logits_in`), for one value per image that
    may be a probability, and for fewer classes than the `largest` label needs."""

    def __init__(self, model: Model, like: Tensor, largest: int = -1, *, single: bool = False) -> None:
        self.model, self.largest, self.single = model, largest, single
        own = None if autocast_dtype(like.device.type) else _own_dtype(model)
        self.dtype = self.precision = own or like.dtype

    def __call__(self, images: Tensor) -> Tensor:
        what = f"{len(images)} images of shape {tuple(images.shape[1:])}, {self.dtype} on {images.device}"
        with in_words(f"the model fails on {what}; it must accept batches of any size"):
            output = self.model(images.to(self.dtype, copy=True))
        logits = scores_in(output, images)
        if is_single(logits):
            if not self.single:
                check_logit(logits)
            self.single, logits = True, two_classes(logits)
        check_classes(self.largest, logits)
        self.precision = max(self.dtype, logits.dtype, key=lambda dtype: torch.finfo(dtype).eps)
        return wide(logits)


def _own_dtype(model: Model) -> torch.dtype | None:
    """The floating dtype of a module's parameters, or of its buffers if it has none; None if they differ."""
    dtypes = set[torch.dtype]()
    if isinstance(model, nn.Module):
        tensors: list[Tensor] = [*model.parameters()]
        tensors = tensors or [*model.buffers()]
        dtypes = {t.dtype for t in tensors if t.is_floating_point()}
    return dtypes.pop() if len(dtypes) == 1 else None


def gradient_scale(model: Model, x: Tensor) -> float:
    """The `scale` for `scaled_gradient`: 1024 where `model` computes images like x in float16, else 1."""
    dtype = autocast_dtype(x.device.type) or _own_dtype(model)
    return _FLOAT16_SCALE if dtype == torch.float16 else 1.0


def scaled_gradient(
    loss: Tensor,
    leaf: Tensor,
    scale: float,
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    allow_unused: bool = False,
) -> Tensor | None:
    """Gradient of the scalar `loss` at float32 images `leaf`: that of scale * loss, divided by `scale`.

    Without it small float16 gradients would round to zero. Entries that overflow to infinity become the
    largest that fit, +-65504 / scale, and NaN becomes zero, so that such an image does not move. With scale 1
    nothing is changed. With `allow_unused` the result is None if the loss does not depend on the leaf."""
    scaled = loss if scale == 1 else loss * scale
    with in_words(f"the gradient of the model fails on images of shape {tuple(leaf.shape[1:])}"):
        (gradient,) = torch.autograd.grad(
            scaled, leaf, retain_graph=retain_graph, create_graph=create_graph, allow_unused=allow_unused
        )
    if gradient is None or scale == 1:
        return gradient
    most = torch.finfo(torch.float16).max
    return gradient.nan_to_num(0.0, most, -most) / scale


def value_and_gradient(
    logits_of: LogitsFunction, x: Tensor, loss: Callable[[Tensor], Tensor], scale: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (N, K), losses (N,) and the gradient of their sum at `x` (N, ...), all detached.

    One forward, and one backward to the input only: no parameter's `.grad` changes. Works under `no_grad` and
    `inference_mode`. `scale` comes from `gradient_scale`.
    Raises InputError where autograd sees no dependence of the logits on the images.
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x.detach().requires_grad_()
        logits = logits_of(leaf)
        values = loss(logits)
        gradient = None
        if values.requires_grad:
            gradient = scaled_gradient(values.sum(), leaf, scale, allow_unused=True)
    if gradient is None:
        raise InputError(
            "the logits do not depend differentiably on the images (the model detaches, or runs under "
            "no_grad or inference_mode); let gradients through, or use an attack without gradients (Square)"
        )
    return logits.detach(), values.detach(), gradient
