"""Initialisation of generators and discriminators."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from robustsabn.errors import ModelError
from robustsabn.text import nearest, quote

__all__ = ["INITS", "initialise"]

INITS: dict[str, Callable[[Tensor], Any]] = {
    "xavier_uniform": nn.init.xavier_uniform_,
    "normal": lambda weight: nn.init.normal_(weight, 0.0, 0.02),
    "orthogonal": nn.init.orthogonal_,
}
"""Glorot & Bengio 2010; N(0, 0.02); Saxe et al. 2014."""


def initialise(network: nn.Module, init: str, kinds: tuple[type[nn.Module], ...]) -> None:
    """Initialise weights, not biases, of the layers of these kinds; ModelError for an unknown `init`."""
    if not isinstance(init, str) or init not in INITS:
        raise ModelError(f"init={quote(init)}{nearest(init, INITS)}; allowed: {', '.join(INITS)}")
    for layer in network.modules():
        if isinstance(layer, kinds) and isinstance(layer.weight, Tensor):
            INITS[init](layer.weight)
