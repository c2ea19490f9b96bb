"""Signs that a robust accuracy should not be believed, as data and in words.

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
"""More than this share of the samples, and more than one, is a warning."""


def in_train_mode(model: Model) -> list[Flag]:
    """Layers that a caller left in train mode, before the attack puts them into eval mode."""
    if not isinstance(model, nn.Module):
        return []
    names = [name or type(model).__name__ for name, module in model.named_modules() if in_training(module)]
    if not names:
        return []
    some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return [
        Flag(
            "train-mode",
            "warning",
            len(names),
            (),
            f"{len(names)} modules were in train mode ({some}); all were put into eval mode for the attack and back "
            "afterwards. Call model.eval() first if eval mode is what you deploy; if train mode is, these numbers "
            "are not those of your model",
        )
    ]


def by_kind(
    model: Model, x: Tensor, attacks: Sequence[Search[Any]], version: str, autocast: bool
) -> list[Flag]:
    """What follows from the kind of model, images, version and search alone."""
    flags = []
    dtypes = {p.dtype for p in model.parameters()} if isinstance(model, nn.Module) else set()
    if dtypes & {torch.float16, torch.bfloat16}:
        words = (
            "the weights are in half precision: logits are coarse and many margins tie. The verdicts are those of "
            "this half-precision model; evaluate model.float() for those of its weights"
        )
        flags.append(Flag("half-precision", "note", 1, (), words))
    if x.ndim != 4 and any(attack.name == "square" for attack in attacks):
        words = f"inputs of shape {tuple(x.shape[1:])} are not images (C, H, W): Square was left out"
        flags.append(Flag("not-images", "note", 1, (), words))
    if version not in ("standard", "plus", "rand"):
        words = f"version {version} is not a published one: do not put its number beside those of AutoAttack standard"
        flags.append(Flag("non-standard", "note", 1, (), words))
    if autocast:
        words = (
            "the search ran in bfloat16: every success was verified in float32, but a coarser search may miss some, and "
            "then the robust accuracy is too high; leave autocast out for the standard number"
        )
        flags.append(Flag("autocast", "note", 1, (), words))
    return flags


def seen_on(verifier: Verifier, x: Tensor, *, rand: bool = False) -> list[Flag]:
    """What a few forwards of a batch `x` tell: randomness, answers that depend on the batch, probabilities, gradients
    taken inside. `rand`: the attack is made for random models."""
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
                "randomised",
                "note" if rand else "warning",
                count,
                (),
                f"the same images gave other logits in {count} of {len(x)} cases when asked again: the model is "
                "randomised, and a single answer means little. "
                + ("Verdicts are by majority" if rand else "Use version rand (--version rand)"),
            )
        )
    elif count := int(_in_other_company(verifier, x, first).sum()):
        flags.append(
            Flag(
                "batch-dependent",
                "warning",
                count,
                (),
                f"{count} of {len(x)} images got other logits in another order and company: the answer to an image "
                "depends on its batch (statistics of the batch, noise of a fixed seed), so that these verdicts hold in "
                "their batches alone. Normalise with running statistics, draw noise anew, or evaluate what you deploy",
            )
        )
    if found := kind_in_words(int(looks_like(first, verifier.precision)), verifier.differentiable, x):
        name, words = found
        flags.append(Flag(name, "warning", len(x), (), words))
    if calls:
        flags.append(
            Flag(
                "gradient-in-forward",
                "warning",
                len(calls),
                (),
                "the forward pass computes gradients itself (a defence that optimises at test time); attacks on it "
                "may be far from the best. Evaluate it with an adaptive attack as well",
            )
        )
    return flags


def by_majority(clean: Votes, final: Votes, ids: Tensor) -> list[Flag]:
    """How the verdicts on a random model came about, and which were close."""
    least, most = clean.span(final)
    words = (
        f"verdicts, on clean images as on adversarial ones, are by majority of {least} to {most} fresh answers: as many as "
        f"put the vote {CLEAR:g} standard deviations from a tie, {MOST} at most"
    )
    flags = [Flag("majority", "note", len(ids), (), words)]
    if close := ids[clean.close | final.close].tolist():
        words = (
            f"{len(close)} samples were not clear after {MOST} answers: the model is about as often right as wrong there, "
            "and another vote may end otherwise"
        )
        severity: Literal["warning", "note"] = "warning" if len(close) > max(1, _MANY * len(ids)) else "note"
        flags.append(Flag("close-vote", severity, len(close), tuple(close), words))
    return flags


def by_attacks(verdicts: Verdicts, ids: Tensor, clean_logits: Tensor, fragile: Tensor) -> list[Flag]:
    """What the attacks themselves met, with the samples concerned."""
    flags = []

    def flag(name: str, severe: bool, rows: Tensor, words: Callable[[int], str]) -> None:
        numbers = ids[rows].tolist()
        if numbers:
            flags.append(
                Flag(name, "warning" if severe else "note", len(numbers), tuple(numbers), words(len(numbers)))
            )

    count = len(ids)
    flag(
        "nan-logits",
        True,
        verdicts.strange | ~usable(clean_logits),
        lambda n: (
            f"{n} samples met NaN or infinite logits; such an answer counts as wrong on a clean image and as "
            "no success of an attack. Find the overflow or division by zero, or run the model in float32"
        ),
    )
    flag(
        "nan-gradients",
        True,
        verdicts.undefined,
        lambda n: (
            f"{n} samples met NaN or infinite gradients of finite logits; the entries were taken as zero, so that "
            "gradient attacks saw less than there is. Find the square root, division or norm at zero and give it a "
            "finite derivative, and believe Square more until then"
        ),
    )
    zero = verdicts.flat & ~verdicts.undefined
    flag(
        "zero-gradients",
        int(zero.sum()) > max(1, _MANY * count),
        zero,
        lambda n: (
            f"{n} samples had a gradient of exactly zero at the start of a run: saturated or piecewise constant "
            "outputs hide them from gradient attacks. Believe Square more, and attack the logits before saturation"
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
            f"{n} samples have a margin within 1e-4 of zero: other hardware may decide them differently"
        ),
    )
    return flags


def _alone(who: str, of: int, n: int) -> str:
    return (
        f"{n} samples were broken by {who} after gradient attacks had failed ({n / of:.2%}); a share above 0.2 % is a "
        "sign of masked gradients, and then the true robustness is likely lower"
    )


def _in_other_company(verifier: Verifier, x: Tensor, before: Tensor) -> Tensor:
    """Bool (N,): images whose logits, `before` (N, K), change beyond rounding with the order and the other images."""
    others = (x + x.amin()) / 2  # of half the contrast: inside the box, and with other statistics
    again = verifier.logits(torch.stack([others, x.flip(0)], 1).flatten(0, 1))[1::2].flip(0)
    coarse = verifier.precision in (torch.float16, torch.bfloat16)
    return Answers(before, half=coarse).apart(again) & usable(before)


def _without_absent(logits: Tensor) -> Tensor:
    return logits.masked_fill(logits == -torch.inf, 0.0)


@contextmanager
def _gradients_inside() -> Iterator[list[int]]:
    """Counts the backward passes that start within the block, whoever calls them."""
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
