"""From the names of entries in published state dicts to ours."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import normalize

from robustsabn.models.gan.blocks import Attention

__all__ = ["of_autogan", "of_biggan", "of_discriminator", "of_sngan"]

State = dict[str, Tensor]

_BLOCK = {"b1": "norm1", "b2": "norm2", "c1": "conv1", "c2": "conv2", "c_sc": "shortcut"}
_CELL = {**_BLOCK, "n1": "norm1", "n2": "norm2", "skip_in_ops": "skips"}
_ENDS = {"l1": "linear", "b5": "norm", "b7": "norm", "c5": "conv", "c7": "conv"}
_SCORE = {"l5": "linear", "l7": "linear", "l_y": "embedding"}
_WEIGHT, _U, _V = (f"parametrizations.weight.{entry}" for entry in ("original", "0._u", "0._v"))
_HOOK = {"weight_orig": _WEIGHT, "weight_u": _U, "weight_v": _V}
_BIG = {"bn1": "norm1", "bn2": "norm2", "conv_sc": "shortcut", "shared": "embedding", "embed": "embedding"}
_BIG |= {"theta": "query", "phi": "key", "g": "value", "o": "out"}
_BIG |= {"stored_mean": "running_mean", "stored_var": "running_var"}


def of_sngan(network: nn.Module, state: State) -> State:
    """SaBN's code: l1, block2 …, b5 and c5 or b7 and c7."""
    return _norms({_sngan(key): value for key, value in state.items()})


def of_autogan(network: nn.Module, state: State) -> State:
    """SaBN's code: l1, cell1 to cell3, to_rgb."""
    return _norms({_autogan(key): value for key, value in state.items()})


def of_discriminator(network: nn.Module, state: State) -> State:
    """SaBN's code: block1 …, l5 or l7, l_y with torch's spectral norm; or BigGAN-PyTorch."""
    if "embed.weight" in state:
        return of_biggan(network, state)
    return {_discriminator(key): value for key, value in state.items()}


def _sngan(key: str) -> str:
    first, _, rest = key.partition(".")
    block = re.fullmatch(r"block([2-9])", first)
    if block is None:
        return f"{_ENDS.get(first, first)}.{rest}"
    inner, _, rest = rest.partition(".")
    return f"blocks.{int(block[1]) - 2}.{_BLOCK.get(inner, inner)}.{rest}"


def _autogan(key: str) -> str:
    first, _, rest = key.partition(".")
    inner, _, end = rest.partition(".")
    if re.fullmatch(r"cell[1-3]", first):
        return f"{first}.{_CELL.get(inner, inner)}.{end}"
    if first == "to_rgb" and inner in ("0", "2"):
        return f"{'norm' if inner == '0' else 'conv'}.{end}"
    return f"{_ENDS.get(first, first)}.{rest}"


def _discriminator(key: str) -> str:
    first, _, rest = key.partition(".")
    block = re.fullmatch(r"block([1-9])", first)
    place = _SCORE.get(first, first)
    if block is not None:
        inner, _, rest = rest.partition(".")
        place = f"blocks.{int(block[1]) - 1}.{_BLOCK.get(inner, inner)}"
    return f"{place}.{_HOOK.get(rest, rest)}"


def _norms(state: State) -> State:
    """`bn` of a norm is the norm, and a row [scale C | shift C] of `embed` the affine of a class."""
    renamed = {}
    for key, value in state.items():
        norm, embed, _ = key.partition(".embed.weight")
        if embed and value.ndim == 2 and value.shape[1] % 2 == 0:
            renamed[f"{norm}.route_weight"], renamed[f"{norm}.route_bias"] = value.chunk(2, 1)
        else:
            renamed[re.sub(r"(norm[12])\.bn\.", r"\1.", key)] = value
    return renamed


def of_biggan(network: Any, state: State) -> State:
    """BigGAN-PyTorch: blocks.I.0 with attention as blocks.I.1, singular vectors u0; a scale is 1 + `gain`."""
    flat = _positions(network)
    renamed: State = {}
    for key, value in state.items():
        spectral = key.endswith(".weight") and f"{key[:-6]}u0" in state
        name = re.sub(r"^blocks\.(\d+)\.(\d+)\.", lambda m: f"blocks.{flat.get((m[1], m[2]), m[0])}.", key)
        name = re.sub(r"^output_layer\.0\.gain$", "norm.weight", name)
        name = re.sub(r"^output_layer\.([02])\.", lambda m: "norm." if m[1] == "0" else "conv.", name)
        name = ".".join(_BIG.get(part, part) for part in name.split("."))
        by_class = re.fullmatch(r"(.*norm[12])\.(gain|bias)\.weight", name)
        if by_class and not spectral:
            table = "route_weight" if by_class[2] == "gain" else "route_bias"
            renamed[f"{by_class[1]}.{table}"] = value + 1 if by_class[2] == "gain" else value
            continue
        name = re.sub(r"(norm[12])\.(gain|bias)\.", r"\1.condition_\2.", name)
        layer, _, entry = name.rpartition(".")
        matrix = state.get(f"{key[:-2]}weight")
        if entry == "u0" and matrix is not None and matrix.ndim and value.numel() == len(matrix):
            v = normalize(value.flatten().to(matrix) @ matrix.flatten(1), dim=0, eps=1e-12)
            renamed[f"{layer}.{_V}"] = v
            renamed[f"{layer}.{_U}"] = normalize(matrix.flatten(1) @ v, dim=0, eps=1e-12)
        elif spectral:
            renamed[f"{layer}.{_WEIGHT}"] = value
        elif entry != "sv0":  # for their logs alone
            renamed[name] = value
    return renamed


def _positions(network: Any) -> dict[tuple[str, str], int]:
    """Where in our flat list of blocks theirs stand, by the numbers of block and part."""
    found, i = {}, -1
    for k, block in enumerate(network.blocks):
        i += not isinstance(block, Attention)
        found[str(i), str(int(isinstance(block, Attention)))] = k
    return found
