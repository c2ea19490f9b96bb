"""Checks of one network: equal when converted, baked and loaded; separate routes; gradients for both."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import torch
from torch import nn

from robustsabn import Split, bake
from robustsabn.conversion.plain_norms import is_norm, looks_like_norm
from robustsabn.errors import ConversionError, RobustsabnError
from robustsabn.layers import RoutedNorm
from zoo.advice import converted
from zoo.attacking import attacked, folding
from zoo.network import Network, plain_seeds, randomise, rows
from zoo.split_step import split_step
from zoo.subject import ROUTES, Different, Subject, apart, brief

__all__ = ["COLUMNS", "examine"]

COLUMNS = ("norms", "left plain", "conversion", "bake", "Split step", "mixed batches", "folding", "attack")
MIXED = {"per sample": [0, 1, 1, 0], "Split": [0, 0, 1, 1]}
OTHERS = ("ccbn", "sabn", "auxbn")
SMALL = 2_500_000


def examine(network: Network) -> dict[str, Any]:
    """A row of the table: a word for every column, `outcome`, and `said`, the messages on the way.

    It computes in float32, which is fast; a difference beyond the usual rounding is decided in float64.
    """
    row = _examined(network, torch.float32)
    if row["outcome"] == "DIFFERENT" or "not those" in row["Split step"]:
        again = _examined(network, torch.float64)
        if again["outcome"] != "not run":
            row = {**again, "said": [*again["said"], "decided in float64"]}
    return row


def _examined(network: Network, dtype: torch.dtype) -> dict[str, Any]:
    row: dict[str, Any] = {"family": network.family, "network": network.name, **dict.fromkeys(COLUMNS, "")}
    said: list[str] = []
    try:
        subject = Subject(network, dtype)
    except Exception as error:  # noqa: BLE001  # whatever a foreign network raises
        return {**row, "outcome": "not run", "said": [f"the plain network: {brief(error)}"]}
    try:
        _steps(subject, row, said)
        row["outcome"] = "equal as advised" if "with" in row["conversion"] else "equal"
    except Different as difference:
        row["outcome"] = "DIFFERENT"
        said.append(str(difference))
    except ConversionError as refusal:
        row["outcome"] = "refused"
        said.append(str(refusal))
    except Exception as error:  # noqa: BLE001  # whatever a foreign network raises
        row["outcome"] = "refused" if isinstance(error, RobustsabnError) else "ERROR"
        said.append(brief(error))
    return {**row, "said": list(dict.fromkeys(said))}


def _steps(subject: Subject, row: dict[str, Any], said: list[str]) -> None:
    model, how = converted(subject.plain, "saauxbn", said)
    routed = [module for module in model.modules() if isinstance(module, RoutedNorm)]
    row["norms"] = _counted(type(layer.skeleton).__name__ for layer in routed)
    row["left plain"] = _left_plain(model)
    _equal_at_conversion(subject, model)
    _equal_in_train_mode(subject, model)
    other = OTHERS[sum(map(ord, subject.network.name)) % len(OTHERS)]  # the other presets take turns
    second, _ = converted(subject.plain, other, [])
    _equal_at_conversion(subject, second)
    randomise(second)
    _mixed(subject, second, other, [subject.run(second, name) for name in ROUTES])
    row["conversion"] = f"equal, with {how}" if how else "equal"
    randomise(model)
    alone = [subject.run(model, name) for name in ROUTES]
    row["bake"] = _baked(subject, model, alone)
    row["mixed batches"] = _mixed(subject, model, "saauxbn", alone)
    row["Split step"] = split_step(subject, model, said)
    if subject.network.classifies and sum(map(torch.numel, subject.plain.parameters())) < SMALL:
        row["folding"] = folding(subject.network, model)
        row["attack"] = attacked(subject.network, model)
        for name in ("folding", "attack"):
            if row[name].startswith("DIFFERENT"):
                raise Different(f"{name}: {row[name]}")


def _counted(names: Any) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(names).most_common())


def _left_plain(model: nn.Module) -> str:
    return _counted(
        type(module).__name__
        for module in model.modules()
        if (is_norm(module) or looks_like_norm(module))
        and not isinstance(module, RoutedNorm)
        and any(True for _ in (*module.parameters(), *module.buffers()))
    )


def _equal_at_conversion(subject: Subject, model: nn.Module) -> None:
    for name in ROUTES:
        subject.same(subject.run(model, name), subject.out, f"converted, route {name}")


def _equal_in_train_mode(subject: Subject, model: nn.Module) -> None:
    """Outputs and running statistics of a forward in train mode, with the same random draws."""
    plain = copy.deepcopy(subject.plain).train()
    try:
        expected = subject.run(plain)
    except Exception:  # noqa: BLE001  # the plain network does not train on this batch
        return
    if apart(subject.run(copy.deepcopy(subject.plain).train()), expected) > 0:
        return
    training = copy.deepcopy(model).train()
    subject.same(subject.run(training, "adv"), expected, "converted, in train mode")
    baked = bake(training, "adv").state_dict()
    for name, value in plain.state_dict().items():
        subject.same(baked[name], value, f"{name} after a forward in train mode")


def _baked(subject: Subject, model: nn.Module, alone: list[Any]) -> str:
    """The adversarial route as a plain network, and loaded into a fresh one."""
    plain = bake(model, "adv")
    if any(isinstance(module, RoutedNorm) for module in plain.modules()):
        raise Different("bake left routed layers")
    subject.same(subject.run(plain), alone[1], "baked")
    fresh = plain_seeds(subject.network.build).to(subject.dtype)
    if [type(module).__name__ for module in fresh.modules()] != [type(m).__name__ for m in plain.modules()]:
        raise Different("bake changed classes")
    fresh.load_state_dict(plain.state_dict(), strict=True)
    subject.same(subject.run(fresh), alone[1], "baked and loaded into a fresh network")
    one, two = (rows(subject.out, [i], subject.network.lists) for i in (0, 1))
    if apart(one, two) < subject.bound:
        return "loads, equal; every image gets the same outputs"
    if apart(alone[0], alone[1]) < subject.bound:
        raise Different("routes with different affines give the same outputs")
    return "loads, equal"


def _mixed(subject: Subject, model: nn.Module, norm: str, alone: list[Any]) -> str:
    """Split and routes by sample in eval mode, against the outputs `alone` of each sample's own route.

    For detectors the values before the choice of boxes are compared, since the choice jumps at near ties of
    scores."""
    refused, run, of_samples = [], subject.run, subject.of_samples
    if subject.network.lists:
        run, of_samples = subject.activations, lambda outputs, keep: [value[keep] for value in outputs]
        alone = [run(model, name) for name in ROUTES]
    for what, chosen in MIXED.items():
        selection = torch.tensor(chosen) if what == "per sample" else Split(clean=2, adv=2)
        try:
            mixed = run(model, selection)
        except RobustsabnError:
            refused.append(what)
            continue
        for i, own in enumerate(chosen):
            subject.same(
                of_samples(mixed, [i]),
                of_samples(alone[own], [i]),
                f"{norm}, {what}, sample {i} against its route",
            )
    if refused:
        return f"refused: {', '.join(refused)}"
    return (
        "equal" if any(subject.keeps_apart) or not subject.keeps_apart else "samples mix in the plain network"
    )
