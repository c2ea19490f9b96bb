"""Evaluates a run with attacks that report every sample: AutoAttack, its official code, other libraries."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn.attacks import AutoAttack, ThreatModel, accuracy
from robustsabn.attacks.adapters import LIBRARIES, foreign, foreign_report, official
from robustsabn.attacks.report import Report
from robustsabn.attacks.reporting import write
from robustsabn.conversion.bake import bake
from robustsabn.errors import ConfigError
from robustsabn.files import require_space
from robustsabn.locks import locked
from robustsabn.routing import maybe_route, routes_of
from robustsabn.text import quote
from robustsabn.trainers.adversarial.evaluation.evaluation import Evaluation, requested_routes
from robustsabn.trainers.adversarial.evaluation.images import evaluated
from robustsabn.trainers.adversarial.runs.models import load_run
from robustsabn.trainers.checkpoints.files import read_facts
from robustsabn.trainers.runs.folder import RunFolder

__all__ = ["ATTACKS", "attack_run"]

ATTACKS = ("autoattack[:VERSION]", "official[:VERSION]", *(f"{name}:CLASS" for name in LIBRARIES))
Reported = Callable[[nn.Module, Tensor, Tensor, Tensor], Report]


def attack_run(
    run: str | Path,
    attack: str,
    *,
    checkpoint: str = "best",
    route: str = "all",
    options: Mapping[str, Any] | None = None,
    n: int | None = None,
    device: torch.device | str | None = None,
    batch_size: int | None = None,
    data: str | None = None,
    seed: int = 0,
    about: Mapping[str, str] | None = None,
    progress: Callable[[Any], None] | None = None,
    tell: Callable[[str, Report], None] | None = None,
) -> tuple[Evaluation, dict[str, Report]]:
    """Attack each route of a run as a plain network, and score the images through every route.

    `route` as in `evaluate_run`. `attack` is one of `ATTACKS`, in the ball of the run's training; `options`
    are those of another library's class. For each attacked route, a report is saved in
    RUN/report/ATTACK-ROUTE, with `about` added to it, and returned by route. Before it is written, `tell` is
    called with the route and the report.

    Raises FolderInUseError if another command writes there, ConfigError for another attack, and the errors of
    `evaluate_run`, `AutoAttack` and `foreign`.
    """
    folder = RunFolder(run).path
    loaded = load_run(folder, checkpoint)
    # read now: a run that is still training may save another checkpoint meanwhile
    weights = read_facts(RunFolder(folder).checkpoints, checkpoint)["files"].get("model.safetensors", "")
    source, config = data or loaded.config.data, loaded.config
    threat = ThreatModel(config.attack.norm, config.attack.eps)
    report_on = _attack(attack, threat, dict(options or {}), seed, batch_size, progress)
    tested = evaluated(loaded, data, n)
    images = tested.images
    device = torch.device(
        device or ("cuda" if torch.cuda.is_available() and config.device != "cpu" else "cpu")
    )
    model = loaded.model.to(device).eval()
    scored = requested_routes(loaded, route)
    places = {route: folder / "report" / _name(attack, route) for route in scored}
    x, y = images.batch(torch.arange(len(images)), device)
    reports, robust = {}, {}
    with contextlib.ExitStack() as held:
        for place in places.values():  # fail before the attack if the report cannot be written
            held.enter_context(locked(place))
            require_space(place, 2 * x.numel() * x.element_size())
        for attacked, place in places.items():
            plain = bake(model, attacked) if routes_of(model) else model
            report = reports[attacked] = report_on(plain, x, y, images.ids)
            robust[attacked] = {
                name: (
                    report.robust_accuracy
                    if name == attacked
                    else _accuracy(model, name, report.x_adv.to(device), y)
                )
                for name in scored
            }
            if tell is not None:
                tell(attacked, report)
            details = {"model": str(folder), "data": source, "checkpoint": checkpoint, "route": attacked}
            details |= {"step": str(loaded.step), "weights_sha256": weights, **(about or {})}
            write(report, place, classes=loaded.classes, x=x.cpu(), about=details)
    clean = {name: _accuracy(model, name, x, y) for name in scored}
    whole = Evaluation(
        n=len(y), clean=clean, robust=robust, attack=attack, norm=threat.norm, eps=threat.eps_max
    )
    return whole.noted(tested.notes, len(loaded.classes)), reports


def _name(attack: str, route: str) -> str:
    """The name of the folder of a report."""
    return attack.replace(":", "-") + ("" if route == "all" else f"-{route}")


def _accuracy(model: nn.Module, route: str, x: Tensor, y: Tensor) -> float:
    with maybe_route(model, route):
        return accuracy(model, x, y)


def _attack(
    text: str,
    threat: ThreatModel,
    options: dict[str, Any],
    seed: int,
    batch_size: int | None,
    progress: Callable[[Any], None] | None,
) -> Reported:
    name, _, version = text.partition(":")
    if name in LIBRARIES:
        made = foreign(text, threat, options, seed=seed)
        return lambda model, x, y, ids: foreign_report(
            made, model, x, y, ids=ids, batch_size=batch_size or 250
        )
    if name not in ("autoattack", "official"):
        raise ConfigError(
            f"attack {quote(text)} is unknown; write pgd-STEPS, pgd-STEPS-RESTARTS, {', '.join(ATTACKS)}"
        )
    if options:
        raise ConfigError(
            f"{text} takes no options; {quote(next(iter(options)))} belongs to another library's attack"
        )
    if name == "official":
        return lambda model, x, y, ids: official(
            model,
            x,
            y,
            threat,
            version=version or "standard",
            seed=seed,
            batch_size=batch_size or 250,
            ids=ids,
        )
    ours = AutoAttack(
        threat, version=version or "standard", seed=seed, batch_size=batch_size or "auto", progress=progress
    )
    return lambda model, x, y, ids: ours(model, x, y, ids=ids)
