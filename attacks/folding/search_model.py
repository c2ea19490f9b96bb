"""The network that an attack searches on: the model, or a cheaper copy that computes the same function."""

from typing import Any

import torch
from torch import Tensor

from robustsabn.attacks.folding.folded_copy import folded
from robustsabn.attacks.model.logits import Model

__all__ = ["search_model"]


def search_model(model: Model, x: Tensor, *, fold: bool, compile: bool, autocast: bool) -> tuple[Model, str]:
    """The network to search on, and its description in words.

    It is `model`, or with `fold` its folded copy if a safe one can be made; compiled, and under bfloat16
    autocast, if so chosen. `x` (n, ...) are example images on the model's device.
    """
    search, words = model, "the model"
    if fold:
        copy = folded(model, x)
        search = copy.model or model
        words = "folded copy" if copy.model else f"the model; no folded copy: {copy.why}"
    if compile:
        search, words = torch.compile(search), f"{words}, compiled"
    if not autocast:
        return search, words

    def half(images: Tensor) -> Any:
        with torch.autocast(x.device.type, torch.bfloat16):
            return search(images)

    return half, f"{words}, bfloat16 autocast"
