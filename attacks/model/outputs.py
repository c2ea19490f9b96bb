"""What the output of a model means: the one place that decides which of it are the logits."""

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
    "softmax": "the outputs lie in [0, 1] and sum to 1: probabilities, whose gradients vanish where the model is "
    "sure. Return logits, or the logarithm of the probabilities",
    "sigmoid": "the outputs all lie in [0, 1], as those of a sigmoid for each class: their gradients vanish where the model "
    "is sure, and of a model for several labels at once only the largest is looked at. Return logits of classes of which "
    "one is right",
}
"""What outputs that are no logits may be, and in words."""

_WAY_OUT = (
    "allowed are at least two classes: wrap it as robustsabn.attacks.TwoClasses(model, 'logit') or "
    "TwoClasses(model, 'probability'), or return a logit for each class"
)

_ENOUGH, _MANY = 16, 64  # values in [0, 1] that are no accident; at its ends
_CHANCE = 1e-5  # of sums that are 1 by accident


def logits_in(output: Any, images: Tensor) -> Tensor:
    """The logits (N, K) in what a model returned for `images` (N, ...), in its own dtype.

    Taken are a tensor, `output.logits` and output["logits"], and the one tensor in a tuple or list of nothing else. Raises
    InputError for several outputs without that name, one value per image, and what is no floating (N, K) with the images.
    """
    found = scores_in(output, images)
    if is_single(found):
        raise InputError(f"the model returns one value per image, {tuple(found.shape)}; {_WAY_OUT}")
    return found


def scores_in(output: Any, images: Tensor) -> Tensor:
    """As `logits_in`, one value per image, (N,) or (N, 1), among what is allowed."""
    found, count = _named(output), len(images)
    if not found.is_floating_point() or found.ndim not in (1, 2) or len(found) != count:
        raise InputError(
            f"the model returns shape {tuple(found.shape)}, {found.dtype} for {count} images; allowed are "
            f"floating logits ({count}, K); flatten or pool inside the model"
        )
    if found.device != images.device:
        raise InputError(
            f"the model returns logits on {found.device} for images on {images.device}; let it return them where the "
            "images are: logits.to(x.device)"
        )
    return found


def is_single(scores: Tensor) -> bool:
    """Whether there is one value per image."""
    return scores.ndim == 1 or scores.shape[1] == 1


def two_classes(scores: Tensor) -> Tensor:
    """The logits (0, z), (N, 2), for one logit z per image, (N,) or (N, 1)."""
    scores = scores.reshape(-1, 1)
    return torch.cat([torch.zeros_like(scores), scores], 1)


def check_logit(scores: Tensor) -> None:
    """InputError where one value per image may be a probability: all of them lie in [0, 1]. One device sync."""
    if bool(((scores >= 0) & (scores <= 1)).all()):
        raise InputError(
            f"the model returns one value per image, {tuple(scores.shape)}, all in [0, 1]: probabilities or logits, which "
            f"have other thresholds; {_WAY_OUT}"
        )


def wide(values: Tensor) -> Tensor:
    """Float64 as it is, every other dtype as float32."""
    return values if values.dtype == torch.float64 else values.float()


def _named(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if found is None and isinstance(output, (tuple, list)):
        parts = [part for part in output if not isinstance(part, (int, float, str, type(None)))]
        if len(parts) == 1 and not isinstance(parts[0], (tuple, list)):
            return _named(parts[0])
    if not isinstance(found, Tensor):
        raise InputError(
            f"the model returns {_words(output)}; allowed is a tensor of logits (N, K) or an output with "
            "`logits`; wrap the model in a module that returns its logits alone"
        )
    return found


def beside_logits(output: Any) -> list[str]:
    """Names of the outputs that a model returns beside its `logits`."""
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
    """Whether logits (N, K) look like probabilities: a tensor () of 0, 1 or 2 on their device; nothing waits for it.

    1, softmax: all within [0, 1], every row with the sum 1 as far as numbers in `dtype` can. 2, maybe sigmoid: all within
    [0, 1] and far apart, as logits may be by accident: `kind_in_words` tells. A few values at the ends of [0, 1], or any
    few without that sum, say nothing, nor do zeros and ones that are the same for all images.
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
    """Name and words of what `looks_like` has found, if it is so: what may be a sigmoid costs another forward of images x.

    Logits that a linear layer gives, with nothing after it that keeps them within [0, 1], are there by accident.
    """
    if kind == 2:
        with contextlib.suppress(InputError), torch.inference_mode(False), torch.enable_grad():
            if unbounded(logits_of(x.clone().requires_grad_())):
                return None
    return list(PROBABILITIES.items())[kind - 1] if kind else None


class ProbabilitiesWarning(UserWarning):
    """A model that returns probabilities in place of logits was attacked: its gradients may be too small to follow."""


def say_probabilities(
    kind: int, logits_of: Callable[[Tensor], Tensor], x: Tensor, stacklevel: int = 3
) -> None:
    """Warn of what `looks_like` has found in the logits of images x (N, ...), see `kind_in_words`."""
    if found := kind_in_words(kind, logits_of, x):
        warnings.warn(found[1], ProbabilitiesWarning, stacklevel=stacklevel)


@contextlib.contextmanager
def in_words(what: str) -> Iterator[None]:
    """What a model raises inside becomes an InputError that begins with `what`; memory that runs out does not."""
    try:
        yield
    except (RobustsabnError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a stranger's code raises
        raise InputError(f"{what}: {one_line(error)}") from error


class TwoClasses(nn.Module):
    """A model that gives one value per image, (N,) or (N, 1), as one with the logits (0, z) of two classes.

    `value` says what it gives: a "logit" z, or the "probability" p of class 1, for which z = log(p / (1 - p)). Class 1 is
    predicted for z > 0 and p > 1/2. A probability outside [0, 1] gives NaN; one that has been rounded to 0 or 1 has no
    gradient, so that the logit is the better one to attack. Raises InputError for another `value`.
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
