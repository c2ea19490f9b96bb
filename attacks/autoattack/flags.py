"""Signs that a robust accuracy may be wrong, as data and in words.

Sources: the checks of the authors' AutoAttack code and its list of known failure modes; Athalye et al.,
"Obfuscated gradients give a false sense of security", ICML 2018.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from robustsabn.attacks.autoattack.majority import CLEAR, MOST, Votes
from robustsabn.attacks.autoattack.verdicts import Verdicts
from robustsabn.attacks.journal.same_model import Answers
from robustsabn.attacks.model.inputs import usable
from robustsabn.attacks.model.logits import Model
from robustsabn.attacks.model.mode import in_training
from robustsabn.attacks.model.outputs import kind_in_words, looks_like
from robustsabn.attacks.model.verifier import Verifier
from robustsabn.attacks.report import Flag
from robustsabn.attacks.search.base import Search

__all__ = ["by_attacks", "by_kind", "by_majority", "in_train_mode", "seen_on"]

_MANY = 0.002
"""A finding on more than this share of the samples, and on more than one, is a warning."""


def in_train_mode(model: Model) -> list[Flag]:
    """Modules in train mode; to be called before the attack puts them into eval mode."""
    if not isinstance(model, nn.Module):
        return []
    names = [name or type(model).__name__ for name, module in model.named_modules() if in_training(module)]
    if not names:
        return []
    some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return [
        Flag(
            name="train-mode",
            severity="warning",
            count=len(names),
            ids=(),
            message=f"{len(names)} modules were in train mode ({some}); the attack ran all of them in "
            "eval mode and restored them afterwards. If you deploy eval mode, call model.eval() "
            "first; if you deploy train mode, these numbers are not those of your model",
        )
    ]


def by_kind(
    model: Model, x: Tensor, attacks: Sequence[Search[Any]], version: str, autocast: bool
) -> list[Flag]:
    """Findings that follow from the model's dtype, the image shape, the version and the search options."""
    flags = []
    dtypes = {p.dtype for p in model.parameters()} if isinstance(model, nn.Module) else set()
    if dtypes & {torch.float16, torch.bfloat16}:
        words = (
            "the weights are in half precision: logits are coarse, and many margins are exactly zero. The "
            "verdicts are those of this half-precision model; evaluate model.float() to measure the "
            "weights in float32"
        )
        flags.append(Flag(name="half-precision", severity="note", count=1, ids=(), message=words))
    if x.ndim != 4 and any(attack.name == "square" for attack in attacks):
        words = f"inputs of shape {tuple(x.shape[1:])} are not images (C, H, W): Square was left out"
        flags.append(Flag(name="not-images", severity="note", count=1, ids=(), message=words))
    if version not in ("standard", "plus", "rand"):
        words = (
            f"version {version} is not a published one: do not compare it with numbers of AutoAttack standard"
        )
        flags.append(Flag(name="non-standard", severity="note", count=1, ids=(), message=words))
    if autocast:
        words = (
            "the search ran in bfloat16: every success was verified in float32, but a coarser search may "
            "miss some, which makes the robust accuracy too high; leave autocast out for the standard "
            "number"
        )
        flags.append(Flag(name="autocast", severity="note", count=1, ids=(), message=words))
    return flags


def seen_on(verifier: Verifier, x: Tensor, *, rand: bool = False) -> list[Flag]:
    """Findings of a few forwards of the images `x` (N, ...).

    They show randomness, logits that depend on the batch, probabilities, and gradients taken inside the
    forward. `rand`: the attack is made for random models."""
    flags = []
    with _gradients_inside() as calls:
        first = verifier.logits(x)
    again = [_without_absent(verifier.logits(x)) for _ in range(4)]
    present = _without_absent(first)
    size = present.norm(dim=1, keepdim=True) + 1e-12
    differ = torch.stack([((present - other) / size).abs().amax(1) > 1e-4 for other in again]).any(0)
    differ &= usable(first)
    if count := int(differ.sum()):
        flags.append(
            Flag(
                name="randomised",
                severity="note" if rand else "warning",
                count=count,
                ids=(),
                message=f"{count} of {len(x)} images gave other logits in a second forward: the model is "
                "random, and a single forward says little. "
                + ("Verdicts are by majority" if rand else "Use version rand (--version rand)"),
            )
        )
    elif count := int(_depends_on_batch(verifier, x, first).sum()):
        flags.append(
            Flag(
                name="batch-dependent",
                severity="warning",
                count=count,
                ids=(),
                message=f"{count} of {len(x)} images got other logits in another order and among other "
                "images: the logits of an image depend on its batch (statistics of the batch, noise with "
                "a fixed seed), so these verdicts hold only in their batches. Normalise with "
                "running statistics, draw new noise in each forward, or evaluate the batches that you deploy",
            )
        )
    if kind := kind_in_words(int(looks_like(first, verifier.precision)), verifier.differentiable, x):
        name, words = kind
        flags.append(Flag(name=name, severity="warning", count=len(x), ids=(), message=words))
    if calls:
        flags.append(
            Flag(
                name="gradient-in-forward",
                severity="warning",
                count=len(calls),
                ids=(),
                message="the forward pass computes gradients itself (a defence that optimises at test time); "
                "standard attacks may be too weak for it. Evaluate it with an adaptive attack as well",
            )
        )
    return flags


def by_majority(clean: Votes, final: Votes, ids: Tensor) -> list[Flag]:
    """How the verdicts on a random model were reached, and which of them were close."""
    least, most = clean.span(final)
    words = (
        f"verdicts, on clean and on adversarial images, are by majority over {least} to {most} new "
        f"forwards: until the vote is {CLEAR:g} standard deviations from a tie, {MOST} forwards at most"
    )
    flags = [Flag(name="majority", severity="note", count=len(ids), ids=(), message=words)]
    if close := ids[clean.close | final.close].tolist():
        words = (
            f"{len(close)} samples were not clear after {MOST} forwards: the model is about as often right "
            "as wrong on them, and another vote may end differently"
        )
        severity: Literal["warning", "note"] = "warning" if len(close) > max(1, _MANY * len(ids)) else "note"
        flags.append(
            Flag(name="close-vote", severity=severity, count=len(close), ids=tuple(close), message=words)
        )
    return flags


def by_attacks(verdicts: Verdicts, ids: Tensor, clean_logits: Tensor, fragile: Tensor) -> list[Flag]:
    """Findings of the attacks themselves, with the samples that they concern."""
    flags = []

    def flag(name: str, severe: bool, rows: Tensor, words: Callable[[int], str]) -> None:
        numbers = ids[rows].tolist()
        if numbers:
            flags.append(
                Flag(
                    name=name,
                    severity="warning" if severe else "note",
                    count=len(numbers),
                    ids=tuple(numbers),
                    message=words(len(numbers)),
                )
            )

    count = len(ids)
    flag(
        "nan-logits",
        True,
        verdicts.strange | ~usable(clean_logits),
        lambda n: (
            f"{n} samples got NaN or infinite logits; on a clean image these count as wrong, on an "
            "adversarial image they are no success. Find the overflow or division by zero, or run the "
            "model in float32"
        ),
    )
    flag(
        "nan-gradients",
        True,
        verdicts.undefined,
        lambda n: (
            f"{n} samples got NaN or infinite gradients from finite logits; these entries were set to zero, "
            "which weakens gradient attacks. Find the square root, division or norm at zero and give it a "
            "finite derivative; until then trust Square more"
        ),
    )
    zero = verdicts.flat & ~verdicts.undefined
    flag(
        "zero-gradients",
        int(zero.sum()) > max(1, _MANY * count),
        zero,
        lambda n: (
            f"{n} samples had a gradient of exactly zero at the start of a run: saturated or piecewise "
            "constant outputs hide them from gradient attacks. Trust Square more, and attack the logits "
            "before saturation"
        ),
    )
    others = [name for name in verdicts.names if name not in ("square", "fab", "fab-t")]
    for kind, who in (("square", "Square"), ("fab", "FAB")):
        alone = torch.zeros_like(zero)
        for index, name in enumerate(verdicts.names):
            if name.startswith(kind) and others:
                alone |= verdicts.broken_by == index
        flag(
            f"{kind}-only",
            int(alone.sum()) > max(1, _MANY * count),
            alone,
            partial(_alone, who, count),
        )
    flag(
        "fragile",
        False,
        fragile,
        lambda n: (
            f"{n} samples have a margin within 1e-4 of zero: their verdicts may differ on other hardware"
        ),
    )
    return flags


def _alone(who: str, of: int, n: int) -> str:
    return (
        f"{n} samples were broken by {who} after gradient attacks had failed ({n / of:.2%}); a share above "
        "0.2 % suggests masked gradients, and the true robustness is then likely lower"
    )


def _depends_on_batch(verifier: Verifier, x: Tensor, before: Tensor) -> Tensor:
    """Bool (N,): images whose logits differ from `before` (N, K), beyond rounding, among other images."""
    others = (x + x.amin()) / 2  # half the contrast: inside the box, with other statistics
    again = verifier.logits(torch.stack([others, x.flip(0)], 1).flatten(0, 1))[1::2].flip(0)
    coarse = verifier.precision in (torch.float16, torch.bfloat16)
    return Answers(before, half=coarse).apart(again) & usable(before)


def _without_absent(logits: Tensor) -> Tensor:
    return logits.masked_fill(logits == -torch.inf, 0.0)


@contextmanager
def _gradients_inside() -> Iterator[list[int]]:
    """Counts all backward passes that start inside the block."""
    name = "_engine_run_backward"
    engine = getattr(torch.autograd, name, None)
    calls: list[int] = []
    if engine is None:
        yield calls
        return

    def counted(*args: object, **options: object) -> object:
        calls.append(1)
        return engine(*args, **options)

    setattr(torch.autograd, name, counted)
    try:
        yield calls
    finally:
        setattr(torch.autograd, name, engine)
