"""A model as a function from images to float32 logits, and its input gradient."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn.attacks.inputs import check_classes
from robustsabn.errors import InputError

__all__ = [
    "LogitsFunction",
    "Model",
    "gradient_scale",
    "logits_function",
    "scaled_gradient",
    "value_and_gradient",
]

Model = Callable[..., Any]
LogitsFunction = Callable[[Tensor], Tensor]

_FLOAT16_SCALE = 1024.0


def logits_function(model: Model, x: Tensor, largest: int = -1, *, lenient: bool = False) -> LogitsFunction:
    """`model` as a function of images like `x` (n, ...) that returns checked logits (n, K), float32 or wider.

    Images go in with the dtype of the model's parameters where those share one (a bfloat16 model gets bfloat16,
    iterates stay float32); the caller's autocast is left alone. `.logits` or ["logits"] of an output is taken.
    Raises InputError, when called, for outputs that are not logits of at least two classes, and for fewer classes
    than the `largest` label needs. `lenient` also takes the first of several outputs, and one logit z per image,
    (n,) or (n, 1), for the two logits (0, z).
    """
    dtype = x.dtype if torch.is_autocast_enabled(x.device.type) else _own_dtype(model, x)

    def logits_of(images: Tensor) -> Tensor:
        output = model(images.to(dtype))
        logits = _logits(_plainer(output) if lenient else output, images.shape[0])
        check_classes(largest, logits)
        return logits

    return logits_of


def _own_dtype(model: Model, x: Tensor) -> torch.dtype:
    dtypes = set[torch.dtype]()
    if isinstance(model, nn.Module):
        dtypes = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return dtypes.pop() if len(dtypes) == 1 else x.dtype


def _plainer(output: Any) -> Any:
    if isinstance(output, (tuple, list)) and not hasattr(output, "logits"):
        output = output[0]
    if isinstance(output, Tensor) and (output.ndim == 1 or output.shape[1:] == (1,)):
        output = output.reshape(-1, 1)
        output = torch.cat([torch.zeros_like(output), output], 1)
    return output


def _logits(output: Any, count: int) -> Tensor:
    if isinstance(output, (tuple, list)) and len(output) == 1:
        output = output[0]
    inner = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)
    if not isinstance(inner, Tensor):
        raise InputError(
            f"the model returns a {type(output).__name__}; allowed is a tensor of logits (N, K) or an output with "
            "`logits`; wrap the model in a module that returns its logits alone"
        )
    if inner.ndim != 2 or inner.shape[0] != count or not inner.is_floating_point():
        raise InputError(
            f"the model returns shape {tuple(inner.shape)}, {inner.dtype} for {count} images; allowed are "
            f"floating logits ({count}, K); flatten or pool inside the model"
        )
    if inner.shape[1] < 2:
        raise InputError(
            "the model returns one logit z; allowed are at least two: return torch.cat([0 * z, z], 1)"
        )
    return inner if inner.dtype == torch.float64 else inner.float()


def gradient_scale(model: Model, x: Tensor) -> float:
    """The `scale` for `scaled_gradient` of images like x: 1024 where `model` computes in float16, else 1."""
    kind = x.device.type
    autocast = torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if autocast else _own_dtype(model, x)
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
    """Gradient of the scalar `loss` at float32 images `leaf`, taken of `scale` times the loss and divided again.

    In float16 small gradients would be zero. Of what overflows there, entries that are infinite become the largest
    that fit, +-65504 / scale, and NaN becomes zero, so that such an image holds still; with scale 1 nothing is changed.
    None, where that is allowed, if the loss does not depend on the leaf.
    """
    scaled = loss if scale == 1 else loss * scale
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

    One forward and one backward to the input only: no parameter's `.grad` is touched. Works under `no_grad`
    and `inference_mode`. `scale` is that of `gradient_scale`.
    Raises InputError where the logits do not depend differentiably on the images.
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
            "the logits do not depend differentiably on the images (the model detaches, or runs under no_grad or "
            "inference_mode); let gradients through, or use an attack without gradients (Square)"
        )
    return logits.detach(), values.detach(), gradient
