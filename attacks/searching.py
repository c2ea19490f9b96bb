"""The network that an attack searches on: the model, or a cheaper stand-in with the same function."""

from typing import Any

import torch
from torch import Tensor

from robustsabn.attacks.logits import Model

__all__ = ["search_model"]


def search_model(model: Model, x: Tensor, *, fold: bool, compile: bool, autocast: bool) -> Model:
    """`model`, compiled and under bfloat16 autocast as asked; `x` (n, ...) is an example on the model's device."""
    search: Model = model
    if compile:
        search = torch.compile(search)
    if not autocast:
        return search

    def half(images: Tensor) -> Any:
        with torch.autocast(x.device.type, torch.bfloat16):
            return search(images)

    return half
