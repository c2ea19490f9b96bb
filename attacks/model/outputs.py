"""The meaning of a model's output: only this module decides which part of it are the logits."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robustsabn.attacks.model.graphs import unbounded
from robustsabn.errors import InputError, RobustsabnError
from robustsabn.text import one_line, quote, shorten

__all__ = [
    "PROBABILITIES",
    "ProbabilitiesWarning",
    "TwoClasses",
    "beside_logits",
    "check_logit",
    "in_words",
    "is_single",
    "kind_in_words",
    "logits_in",
    "looks_like",
    "say_probabilities",
    "scores_in",
    "two_classes",
    "wide",
]

PROBABILITIES = {
    "softmax": (
        "the outputs lie in [0, 1] and sum to 1: they are probabilities, whose gradients vanish where the "
        "model is confident. Return logits, or the logarithm of the probabilities"
    ),
    "sigmoid": (
        "the outputs all lie in [0, 1], like a sigmoid for each class: their gradients vanish where the "
        "model is confident, and a multi-label model is judged by its largest output only. Return the "
        "logits of classes of which exactly one is right"
    ),
}
"""Kinds of output that are not logits, with the warning for each."""

_WAY_OUT = (
    "allowed are at least two classes: wrap it as robustsabn.attacks.TwoClasses(model, 'logit') or "
    "TwoClasses(model, 'probability'), or return a logit for each class"
)

_ENOUGH = 16  # so many values within [0, 1] are no coincidence
_MANY = 64  # nor are so many values that are exactly 0 or 1
_CHANCE = 1e-5  # chance that we accept of sums that are 1 by coincidence


def logits_in(output: Any, images: Tensor) -> Tensor:
    """The logits (N, K) in a model's output for `images` (N, ...), in their own dtype.

    They may be the output itself, `output.logits`, output["logits"], or the only tensor of a tuple or list.
    Raises InputError for several outputs of which none is named "logits", for one value per image, and where
    the logits are not a floating tensor (N, K) on the device of the images."""
    logits = scores_in(output, images)
    if is_single(logits):
        raise InputError(f"the model returns one value per image, {tuple(logits.shape)}; {_WAY_OUT}")
    return logits


def scores_in(output: Any, images: Tensor) -> Tensor:
    """As `logits_in`, but one value per image, (N,) or (N, 1), is allowed."""
    scores, count = _named(output), len(images)
    if not scores.is_floating_point() or scores.ndim not in (1, 2) or len(scores) != count:
        raise InputError(
            f"the model returns shape {tuple(scores.shape)}, {scores.dtype} for {count} images; allowed are "
            f"floating logits ({count}, K); flatten or pool inside the model"
        )
    if scores.device != images.device:
        raise InputError(
            f"the model returns logits on {scores.device} for images on {images.device}; return them on the "
            "device of the images: logits.to(x.device)"
        )
    return scores


def is_single(scores: Tensor) -> bool:
    """Whether the scores are one value per image."""
    return scores.ndim == 1 or scores.shape[1] == 1


def two_classes(scores: Tensor) -> Tensor:
    """The logits (0, z), (N, 2), for one logit z per image, (N,) or (N, 1)."""
    scores = scores.reshape(-1, 1)
    return torch.cat([torch.zeros_like(scores), scores], 1)


def check_logit(scores: Tensor) -> None:
    """Raise InputError if all scores lie in [0, 1], so that they may be probabilities. One device sync."""
    if bool(((scores >= 0) & (scores <= 1)).all()):
        raise InputError(
            f"the model returns one value per image, {tuple(scores.shape)}, all in [0, 1]: these may be "
            f"probabilities or logits, and the two are classified at different thresholds; {_WAY_OUT}"
        )


def wide(values: Tensor) -> Tensor:
    """`values` in float32; float64 stays."""
    return values if values.dtype == torch.float64 else values.float()


def _named(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if logits is None and isinstance(output, (tuple, list)):
        parts = [part for part in output if not isinstance(part, (int, float, str, type(None)))]
        if len(parts) == 1 and not isinstance(parts[0], (tuple, list)):
            return _named(parts[0])
    if not isinstance(logits, Tensor):
        raise InputError(
            f"the model returns {_words(output)}; allowed is a tensor of logits (N, K) or an output with "
            "`logits`; wrap the model in a module that returns its logits alone"
        )
    return logits


def beside_logits(output: Any) -> list[str]:
    """Names of the outputs that a model returns besides its `logits`."""
    names = list(output) if isinstance(output, Mapping) else getattr(output, "_fields", ())
    get = output.get if isinstance(output, Mapping) else lambda name: getattr(output, name)
    return [str(name) for name in names if name != "logits" and get(name) is not None]


def _words(output: Any) -> str:
    name = type(output).__name__
    if isinstance(output, Mapping):
        return f"a {name} with the keys {', '.join(map(shorten, list(output)[:8])) or 'none'}"
    if isinstance(output, (tuple, list)):
        parts = [str(tuple(p.shape)) if isinstance(p, Tensor) else type(p).__name__ for p in output[:4]]
        return f"a {name} of {len(output)} outputs, {', '.join(parts)}{', ...' if len(output) > 4 else ''}"
    return f"a {name}"


def looks_like(logits: Tensor, dtype: torch.dtype) -> Tensor:
    """Whether logits (N, K) look like probabilities: 0, 1 or 2 as a tensor () on their device, without a
    sync.

    - 1, softmax: all within [0, 1], and every row sums to 1 up to the rounding of `dtype`.
    - 2, perhaps sigmoid: all within [0, 1] and widely spread. Logits may be so by coincidence, which
      `kind_in_words` finds out.
    - 0, otherwise, and where there is too little evidence: few values, or only zeros and ones that are the
      same for all images.
    """
    inside = ((logits >= 0) & (logits <= 1)).all()
    tolerance = max(1e-5, 2 * torch.finfo(dtype).eps)
    one = ((logits.sum(1) - 1).abs() < tolerance).all()
    enough = tolerance ** len(logits) <= _CHANCE
    differ = (logits != logits[:1]).any() & (logits.numel() >= _MANY)
    between, count = ((logits > 0) & (logits < 1)).any(), logits.numel()
    apart = (logits < 0.2).any() & (logits > 0.8).any() & (count >= _ENOUGH)
    kind: Tensor = inside * (one * enough * (between | differ) + 2 * (~one & between & apart))
    return kind


def kind_in_words(kind: int, logits_of: Callable[[Tensor], Tensor], x: Tensor) -> tuple[str, str] | None:
    """Name and warning for the `kind` that `looks_like` returned; None if the outputs are logits after all.

    What may be a sigmoid takes another forward of the images x (N, ...): logits of a linear layer that
    nothing keeps within [0, 1] lie there by coincidence."""
    if kind == 2:
        with contextlib.suppress(InputError), torch.inference_mode(False), torch.enable_grad():
            if unbounded(logits_of(x.clone().requires_grad_())):
                return None
    return list(PROBABILITIES.items())[kind - 1] if kind else None


class ProbabilitiesWarning(UserWarning):
    """The attacked model returns probabilities instead of logits; its gradients may be too small to follow.

    Example:

        >>> import torch, warnings
        >>> from robustsabn.attacks import FGSM, ProbabilitiesWarning, ThreatModel
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 10), torch.nn.Softmax(1)).eval()
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     x_adv = FGSM(ThreatModel("Linf", 0.1))(model, torch.rand(8, 4), torch.arange(8))
        >>> [warning.category is ProbabilitiesWarning for warning in caught]
        [True]
    """


def say_probabilities(
    kind: int, logits_of: Callable[[Tensor], Tensor], x: Tensor, stacklevel: int = 3
) -> None:
    """Warn where the logits of images x (N, ...) look like probabilities, see `kind_in_words`."""
    if warning := kind_in_words(kind, logits_of, x):
        warnings.warn(warning[1], ProbabilitiesWarning, stacklevel=stacklevel)


@contextlib.contextmanager
def in_words(what: str) -> Iterator[None]:
    """Turn an error of the model inside the block into an InputError that begins with `what`.

    Errors of this package and running out of memory stay what they are.
    """
    try:
        yield
    except (RobustsabnError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the model is foreign code and may raise anything
        raise InputError(f"{what}: {one_line(error)}") from error


class TwoClasses(nn.Module):
    """Turns a model with one value per image, (N,) or (N, 1), into one with the logits (0, z) of two classes.

    `value` says what the model gives: a "logit" z, or the "probability" p of class 1, for which z = log(p /
    (1 - p)). Class 1 is predicted for z > 0, that is for p > 1/2. A probability outside [0, 1] gives NaN. A
    probability that rounds to 0 or 1 has no gradient, so attack the logit if you can. Images (N, ...) ->
    logits (N, 2). Raises InputError for another `value`, and for more than one value per image.

    Example:

        >>> import torch
        >>> from robustsabn.attacks import TwoClasses
        >>> model = TwoClasses(lambda x: x.sum(1), "logit")
        >>> model(torch.tensor([[1.0, 2.0], [-1.0, 0.0]]))
        tensor([[ 0.,  3.],
                [ 0., -1.]])
    """

    def __init__(self, model: Any, value: Literal["logit", "probability"]) -> None:
        super().__init__()
        if value not in ("logit", "probability"):
            raise InputError(f"value is {quote(value)}; allowed are logit and probability")
        self.model, self.value = model, value

    def forward(self, x: Tensor) -> Tensor:
        score = wide(scores_in(self.model(x), x))
        if not is_single(score):
            raise InputError(
                f"the model returns {score.shape[1]} classes; TwoClasses is for one value per image"
            )
        if self.value == "probability":
            limits = torch.finfo(score.dtype)
            sound = (score >= 0) & (score <= 1)
            inner = score.clamp(limits.tiny, 1 - limits.eps / 2)
            score = torch.where(sound, inner.log() - torch.log1p(-inner), torch.nan)
        return two_classes(score)
