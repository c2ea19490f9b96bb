"""Tests a network on one batch before its run starts, so that unusable networks are reported early."""

import copy

import torch
from torch import Tensor, nn

from robustsabn.attacks.folding.folded_copy import same_randomness
from robustsabn.attacks.model.inputs import check_classes, check_weights
from robustsabn.attacks.model.outputs import (
    beside_logits,
    in_words,
    kind_in_words,
    logits_in,
    looks_like,
    wide,
)
from robustsabn.errors import DataError, InputError
from robustsabn.routing import maybe_route, routes_of

__all__ = ["try_network"]


def try_network(model: nn.Module, x: Tensor, classes: int, soft: str = "") -> list[str]:
    """Notes on the output of `model` for images x (n, C, H, W), in train and in eval mode.

    A copy of the network is used, and random states are restored; a network that cannot be copied is not
    tested. `soft` names the setting that makes labels soft, if any.

    Raises DataError for a single class, and InputError for lazy layers, if the network fails or returns no
    logits (n, K) of at least `classes`, and for logits of -inf with `soft` labels, whose loss would be
    infinite or NaN.
    """
    if classes < 2:
        raise DataError("the training set has one class only; give it at least two")
    check_weights(model)
    with same_randomness(x), torch.no_grad():
        try:
            twin = copy.deepcopy(model)
        except (RuntimeError, TypeError, AttributeError, copy.Error):  # computed weights, locks, files
            return []
        if not twin.training:
            twin.train()
        in_training = _ask(twin, x)
        trained = logits_in(in_training, x)
        check_classes(classes - 1, trained)
        if soft and bool((trained == -torch.inf).any()):
            raise InputError(
                f"the network excludes classes by logits of -inf, but {soft} gives them a share of the "
                "label, so the loss is not finite; remove that setting, or "
                "let the network return finite logits"
            )
        logits = logits_in(_ask(twin.eval(), x), x)
        kind = int(looks_like(wide(logits), logits.dtype))
        probabilities = kind_in_words(kind, lambda images: logits_in(_ask(twin, images), images), x)
    check_classes(classes - 1, logits)
    notes = []
    if others := beside_logits(in_training):
        notes.append(f"the network also returns {', '.join(others)}: only its logits are trained")
    if probabilities:
        notes.append(f"warning: {probabilities[1]}")
    return notes


def _ask(network: nn.Module, x: Tensor) -> object:
    mode = "train" if network.training else "eval"
    what = f"{len(x)} images of shape {tuple(x.shape[1:])}, {x.dtype}, in {mode} mode"
    with maybe_route(network, (routes_of(network) or (0,))[0]), in_words(f"the network fails on {what}"):
        return network(x.clone())
