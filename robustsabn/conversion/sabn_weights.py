"""Weights of the official SaBN repository, github.com/VITA-Group/Sandwich-Batch-Normalization."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn.arguments import a_module
from robustsabn.errors import ModelError
from robustsabn.layers import PRESETS, RoutedBatchNorm, RoutedNorm
from robustsabn.text import quote

__all__ = ["load_official"]

Entries = dict[str, Tensor]
_STATISTICS = {"running_mean", "running_var", "num_batches_tracked"}


def load_official(model: nn.Module, state_dict: Mapping[str, Any]) -> nn.Module:
    """Load a state dict of the official SaBN repository into a converted model, strictly, and return the
    model.

    For a norm layer with R routes of C channels, whose rows of `embed.weight` are [scale C | bias C], it
    reads:

    - AuxBN: `bn_list.{r}.*`
    - SaAuxBN (adversarial training): `bn_list.{r}.running_*` and R + 1 rows, of which the last one is shared
    - SaBN (architecture search): `bns.{r}.running_*`, `shared_weight`, `shared_bias` and R rows
    - SaBN (GAN): `bn.*` and R rows
    - CCBN: `bn.running_*` and R rows

    A layer in the plain layout gives the same values to every route. Raises ModelError, with the model
    unchanged, for another preset or number of routes, and for unknown, missing or wrongly shaped entries.

    Example:

        >>> import torch
        >>> from robustsabn import convert, load_official
        >>> model = convert(torch.nn.Sequential(torch.nn.BatchNorm2d(2)), norm="ccbn", routes=("a", "b"))
        >>> state = {"0.bn.running_mean": torch.zeros(2), "0.bn.running_var": torch.ones(2),
        ...          "0.bn.num_batches_tracked": torch.tensor(0),
        ...          "0.embed.weight": torch.tensor([[1.0, 1.0, 0.0, 0.0], [2.0, 2.0, 0.5, 0.5]])}
        >>> load_official(model, state)[0].route_weight.tolist()
        [[1.0, 1.0], [2.0, 2.0]]
    """
    a_module("the model", model, ModelError)
    state = _tensors(state_dict)
    converted = False
    for name, layer in model.named_modules(remove_duplicate=False):
        if isinstance(layer, RoutedNorm):
            prefix = f"{name}." if name else ""
            entries = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
            preset, routed = _translate(entries, name)
            if preset is not None:
                converted = True
                _check(layer, name, preset, routed)
                for key in entries:
                    del state[prefix + key]
                state |= {prefix + key: value for key, value in routed.items()}
    if not converted:
        raise ModelError(
            "no bn_list, bns or embed entry belongs to a routed layer of this model; convert the model "
            "first, or use load_state_dict for a state dict in our own or the plain layout"
        )
    _load(model, state)
    return model


def _tensors(state_dict: Mapping[str, Any]) -> Entries:
    if not isinstance(state_dict, Mapping):
        raise ModelError(f"the state dict is {type(state_dict).__name__}; give a mapping of names to tensors")
    for key, value in state_dict.items():
        if not isinstance(value, Tensor):
            nested = [k for k, v in state_dict.items() if isinstance(v, Mapping) and k.endswith("state_dict")]
            hint = f"; give checkpoint[{nested[0]!r}]" if nested else ""
            raise ModelError(f"the entry {quote(key)} is a {type(value).__name__}, not a tensor{hint}")
    if all(key.startswith("module.") for key in state_dict):  # saved from DataParallel
        return {key.removeprefix("module."): value for key, value in state_dict.items()}
    return dict(state_dict)


def _translate(entries: Entries, name: str) -> tuple[str | None, Entries]:
    """Preset and routed entries of one layer in an official layout; (None, {}) for any other layout."""
    out = dict(entries)
    embed = out.pop("embed.weight", None)
    sets = _stacked(out, _STATISTICS if embed is not None else _STATISTICS | {"weight", "bias"}, name)
    if embed is None:
        for key in ("weight", "bias"):
            if key in sets:
                sets[f"route_{key}"] = sets.pop(key)
        return ("auxbn", out | sets) if sets else (None, {})
    if embed.ndim != 2 or embed.shape[1] % 2:
        raise ModelError(
            f"{name}.embed.weight has shape {tuple(embed.shape)}; rows of [scale C | bias C] are expected"
        )
    scale, shift = embed.chunk(2, 1)
    if sets and "shared_weight" not in out:
        out["weight"], out["bias"] = scale[-1], shift[-1]
        scale, shift = scale[:-1], shift[:-1]
    per_route = bool(sets) or "shared_weight" in out
    for key in list(out):
        plain = key.removeprefix("bn.").removeprefix("shared_")
        if plain in _STATISTICS | {"weight", "bias"}:
            out[plain] = out.pop(key)
    out |= {**sets, "route_weight": scale, "route_bias": shift}
    return "saauxbn" if per_route else "sabn" if "weight" in out else "ccbn", out


def _stacked(entries: Entries, known: set[str], name: str) -> Entries:
    """Remove the known members of `bn_list.{r}` or `bns.{r}` from the entries and stack each over r."""
    sets: dict[str, dict[int, Tensor]] = {}
    for key in list(entries):
        member = re.fullmatch(r"(?:bn_list|bns)\.(\d+)\.(\w+)", key)
        if member and member[2] in known:
            sets.setdefault(member[2], {})[int(member[1])] = entries.pop(key)
    routes = max((len(rows) for rows in sets.values()), default=0)
    for key, rows in sets.items():
        if sorted(rows) != list(range(routes)) or len({row.shape for row in rows.values()}) > 1:
            raise ModelError(
                f"{name}: {key} is missing for some of the {routes} routes of bn_list, or its shapes differ"
            )
    return {key: torch.stack([rows[r] for r in range(routes)]) for key, rows in sets.items()}


def _check(layer: RoutedNorm, name: str, preset: str, routed: Entries) -> None:
    own = next(
        (key for key, value in PRESETS.items() if value == (layer.statistics, layer.affine)), layer.affine
    )
    routes = len(routed.get("route_weight", ()))
    if own != preset or routes != len(layer.router) or not isinstance(layer, RoutedBatchNorm):
        raise ModelError(
            f"{name} is {preset} with {routes} routes in the file, but {type(layer).__name__} of {own} with "
            f"{len(layer.router)} routes in the model; convert with norm={preset!r} and {routes} routes"
        )


def _load(model: nn.Module, state: Entries) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    problem = ""
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
        for what, keys in (("lacks", missing), ("has unknown entries", unexpected)):
            if keys:
                more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
                problem += f"; it {what} {', '.join(keys[:3])}{more}"
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if "size mismatch" in line]
        problem = f"; {lines[0] if lines else error}"
    if problem:
        model.load_state_dict(before)
        raise ModelError(f"the state dict does not fit {type(model).__name__}{problem}")
