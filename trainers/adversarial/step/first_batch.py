"""A network asked for one batch before its run is begun, so that hours are not spent on what cannot be
used.
"""

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
    """Notes on what `model` returns for images x (n, C, H, W), as it is trained and as it is evaluated.

    It is asked as a copy: statistics and all random states stay what they are. A network that cannot be
    copied is not asked. `soft` names the setting that spreads a label over several classes, if there is one.
    Raises DataError for one class, and InputError for lazy layers, where the network fails or returns no
    logits (n, K) of `classes` or more, and for logits of -inf under `soft` labels, whose loss would be
    infinite or NaN.
    """
    if classes < 2:
        raise DataError(
            "the training set has one class, which leaves nothing to tell apart; give it at least two"
        )
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
                f"the network rules classes out by logits of -inf, and {soft} gives them a part in the label,"
                " of which the loss is not finite; leave that out, or let the network return finite logits"
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
