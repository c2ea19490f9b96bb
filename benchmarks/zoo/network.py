"""One network of the zoo, and helpers for it: rows of a batch, outputs as a list, random tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = [
    "Network",
    "forward",
    "images",
    "plain_seeds",
    "randomise",
    "rows",
    "still",
    "tensors",
    "to_dtype",
    "wake",
]

ROWS = 4


class Network(NamedTuple):
    """A network, how it is built, and the batch it takes: `inputs(n)` gives its arguments for n samples.

    `classifies`: one tensor of images in, logits out. `lists`: samples stand in lists, as in detection.
    """

    family: str
    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[int], Any]
    classifies: bool = False
    lists: bool = False


def images(size: int, channels: int = 3, dims: int = 2) -> Callable[[int], tuple[Tensor]]:
    """A function that gives n images with values in [0, 1]."""
    return lambda n: (torch.rand(n, channels, *[size] * dims),)


def forward(model: nn.Module, batch: Any, seed: int = 0) -> Any:
    """The outputs on a batch, the random draws inside starting at a seed."""
    torch.manual_seed(seed)
    return model(**batch) if isinstance(batch, dict) else model(*batch)


def tensors(value: Any) -> Iterator[Tensor]:
    """Every tensor inside tuples, lists, mappings and data classes, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for item in value:
            yield from tensors(item)
    elif hasattr(value, "__dict__"):
        yield from tensors(vars(value))


def rows(value: Any, keep: Sequence[int], lists: bool) -> Any:
    """The samples `keep` of a batch or of outputs; tensors without a row per sample stay as they are."""
    if isinstance(value, Tensor):
        return value[list(keep)] if value.ndim and len(value) == ROWS else value
    if isinstance(value, Mapping):
        return {name: rows(item, keep, lists) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        if lists and len(value) == ROWS:
            return [value[i] for i in keep]
        return (
            type(value)(rows(item, keep, lists) for item in value)
            if type(value) in (list, tuple)
            else [rows(item, keep, lists) for item in value]
        )
    return (
        {name: rows(item, keep, lists) for name, item in vars(value).items()}
        if hasattr(value, "__dict__")
        else value
    )


def to_dtype(value: Any, dtype: torch.dtype) -> Any:
    """A batch with its floating-point tensors in another dtype."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {name: to_dtype(item, dtype) for name, item in value.items()}
    return type(value)(to_dtype(item, dtype) for item in value) if isinstance(value, (list, tuple)) else value


def wake(model: nn.Module) -> nn.Module:
    """Give zero-initialised heads and tiny layer scales a size at which the blocks before them show."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point() and parameter.numel() > 1 and parameter.std() < 1e-4:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def randomise(model: nn.Module, spread: float = 0.1) -> nn.Module:
    """Draw affines and running statistics of the norms at random, so that an exchange of any two shows."""
    wanted = ("weight", "bias", "route_weight", "route_bias", "running_mean", "running_var")
    with torch.no_grad():
        for module in model.modules():
            if not any(hasattr(module, name) for name in ("eps", "epsilon", "variance_epsilon")):
                continue
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is not None and name in wanted:
                    tensor.mul_(torch.empty_like(tensor).uniform_(1 - spread, 1 + spread))
                    if name != "running_var":
                        tensor.add_(torch.empty_like(tensor).uniform_(-spread, spread))
    return model


def still(model: nn.Module) -> nn.Module:
    """Turn dropout and stochastic depth off, so that two passes in train mode can be compared."""
    for module in model.modules():
        named = type(module).__name__.lower()
        if ("drop" in named or "stochastic" in named) and isinstance(getattr(module, "p", None), float):
            vars(module)["p"] = 0.0
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                vars(module)[name] = 0.0
    return model


def plain_seeds(build: Callable[[], nn.Module]) -> nn.Module:
    """The network as it comes, from seed 0, in eval mode."""
    torch.manual_seed(0)
    return build().eval()
