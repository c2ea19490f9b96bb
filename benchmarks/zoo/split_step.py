"""A training step on a Split: gradients of both routes, against two forwards if these can be compared."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn import Split, route
from robustsabn.errors import RobustsabnError
from zoo.network import forward, rows, still, tensors
from zoo.subject import ROUTES, Different, Subject, apart, brief

__all__ = ["split_step"]


def _loss(outputs: Any) -> Tensor:
    """A sum over samples; the weight of a number depends on its place in the sample alone."""
    total = torch.zeros((), dtype=torch.float64)
    for value in tensors(outputs):
        if value.is_floating_point() and value.requires_grad:
            sample = value[0] if value.ndim else value
            weights = torch.cos(torch.linspace(0, 7, sample.numel(), dtype=torch.float64)).reshape(
                sample.shape
            )
            total = total + (value.double() * weights).sum()
    return total


def split_step(subject: Subject, model: nn.Module, said: list[str]) -> str:
    """A Split step in train mode: finite gradients for both routes, equal to two forwards if comparable."""
    lists = subject.network.lists
    plain = still(copy.deepcopy(subject.plain)).train()
    try:
        _loss(forward(plain, subject.batch)).backward()
        halves = [rows(subject.batch, keep, lists) for keep in ([0, 1], [2, 3])]
        for half in halves:
            forward(copy.deepcopy(plain), half)
    except Exception as error:  # noqa: BLE001  # whatever a foreign network raises
        said.append(f"train mode, the plain network: {brief(error)}")
        return "the plain network does not train on this batch"
    trained, two = still(copy.deepcopy(model)).train(), still(copy.deepcopy(model)).train()
    try:
        with route(trained, Split(clean=2, adv=2)):
            outputs = forward(trained, subject.batch)
    except RobustsabnError as refusal:
        said.append(f"Split in train mode: {refusal}")
        _two_forwards(two, halves)
        _finite(plain, two)
        return "refused; finite in two forwards"
    _loss(outputs).backward()
    _finite(plain, trained)
    if lists or not all(subject.keeps_apart):
        return "finite"
    if apart(forward(plain, subject.batch, seed=1), forward(plain, subject.batch, seed=2)) > subject.bound:
        return "finite; draws at random in train mode"
    return _as_two_forwards(subject, trained, two, outputs, _two_forwards(two, halves))


def _two_forwards(model: nn.Module, halves: list[Any]) -> list[Any]:
    """What the messages advise instead of a Split: a forward for each route."""
    outputs = []
    for name, half in zip(ROUTES, halves, strict=True):
        with route(model, name):
            outputs.append(forward(model, half))
        _loss(outputs[-1]).backward()
    return outputs


def _finite(plain: nn.Module, trained: nn.Module) -> None:
    largest = max(
        (float(p.grad.abs().max()) for p in trained.parameters() if p.grad is not None and p.grad.numel()),
        default=0.0,
    )
    used = {name for name, parameter in plain.named_parameters() if parameter.grad is not None}
    plain_parameters = dict(plain.named_parameters())
    for name, table in trained.named_parameters():
        of_plain = name.replace("route_", "")
        if "route_" not in name or of_plain not in used:
            continue
        if table.grad is None:
            raise Different(f"{name} got no gradient, the plain network's {of_plain} does")
        of_plain_grad = plain_parameters[of_plain].grad
        if not table.grad.isfinite().all() and of_plain_grad is not None and of_plain_grad.isfinite().all():
            raise Different(f"{name}: gradients are not finite")
        for route_name, row in zip(ROUTES, table.grad.reshape(len(ROUTES), -1), strict=True):
            if not row.any() and float(table.grad.abs().max()) > 1e-6 * largest:
                raise Different(f"{name}: route {route_name} got no gradient")


def _as_two_forwards(subject: Subject, split: nn.Module, two: nn.Module, outputs: Any, own: list[Any]) -> str:
    """Whether outputs, gradients and running statistics are those of two forwards, each through its route."""
    for half, keep in zip(own, ([0, 1], [2, 3]), strict=True):
        ours = [value for value in tensors(rows(outputs, keep, False)) if value.ndim and len(value) == 2]
        theirs = [value for value in tensors(half) if value.ndim and len(value) == 2]
        if apart(ours, theirs) > subject.bound:
            return f"finite; outputs are not those of two forwards ({apart(ours, theirs):.0e})"
    theirs_by_name = dict(two.named_parameters())
    for name, parameter in split.named_parameters():
        other = theirs_by_name[name].grad
        if (parameter.grad is None) != (other is None):
            return f"finite; gradients are not those of two forwards ({name})"
        if other is not None and parameter.grad is not None:
            scale = max(float(other.abs().max()), 1e-3)
            off = float((parameter.grad - other).abs().max()) / scale
            if off > 100 * subject.bound:
                return f"finite; gradients are not those of two forwards ({name}, {off:.0e})"
    buffers = dict(two.named_buffers())
    for name, value in split.named_buffers():
        if apart(value, buffers[name]) > subject.bound and "num_batches" not in name:
            return f"finite; {name} is not that of two forwards"
    return "finite, as two forwards"
