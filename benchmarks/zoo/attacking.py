"""Attacks on a converted classifier of the zoo, and the folded copy that AutoAttack may search on."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, fx, nn

from robustsabn import route
from robustsabn.attacks import APGD, PGD, AutoAttack, ThreatModel
from robustsabn.attacks.folding.folded_copy import folded
from robustsabn.errors import InputError
from zoo.network import Network

__all__ = ["attacked", "folding"]

EPS = 8 / 255


def _gradient(model: nn.Module, x: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(model(leaf).logsumexp(1).sum(), leaf)
    return found.flatten(1)


def folding(network: Network, model: nn.Module) -> str:
    """Whether a folded copy is made, and computes the same as the model on images other than its examples."""
    model = copy.deepcopy(model).float().eval()
    (x,) = network.inputs(4)
    (others,) = network.inputs(4)
    with route(model, "adv"):
        found, why = folded(model, x)
        if found is None:
            return f"not made: {why}"
        with torch.no_grad():
            expected, ours = model(others), found(others)
        off = float((ours - expected).abs().max() / expected.abs().max())
        if not off <= 1e-3:
            return f"DIFFERENT: logits off by {off:.0e}"
        slopes = _gradient(model, others)
        apart = (_gradient(found, others) - slopes).norm(dim=1) / slopes.norm(dim=1)
    # a maximum at a tie may take the other of two pixels: an image may differ
    if not float(apart.nan_to_num(0).sort().values[1]) <= 1e-2:
        return f"DIFFERENT: input gradients off by {float(apart.max()):.0e}"
    return "exact, folded" if isinstance(found, fx.GraphModule) else f"exact, laid out only: {why}"


def attacked(network: Network, model: nn.Module) -> str:
    """PGD and AutoAttack with a few steps: images in the ball and the box, verdicts those of the model."""
    model = copy.deepcopy(model).float().eval()
    (x,) = network.inputs(4)
    x, threat = x.clamp(0, 1), ThreatModel("Linf", EPS)
    try:
        with route(model, "adv"):
            with torch.no_grad():
                y = model(x).argmax(1)
            x_adv = PGD(threat, steps=2, step_size=EPS / 2)(model, x, y)
            report = AutoAttack(threat, version="custom", attacks=[APGD(threat, steps=3)], batch_size=4)(
                model, x, y
            )
            of_autoattack = report.x_adv.to(x)
            with torch.no_grad():
                broken = model(of_autoattack).argmax(1) != y
    except InputError as refusal:
        return f"refused: {refusal}"
    for images in (x_adv, of_autoattack):
        inside = ((images - x).abs() <= EPS + 1e-6).all() and (images >= 0).all() and (images <= 1).all()
        if not (inside and images.isfinite().all()):
            return "DIFFERENT: images outside the ball or the box"
    reported = 1 - report.robust_accuracy
    if abs(reported - float(broken.float().mean())) > 1e-6:
        return f"DIFFERENT: {reported:.2f} broken is reported, {float(broken.float().mean()):.2f} are"
    return "runs"
