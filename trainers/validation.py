"""What a run evaluates of itself: held-out images as it goes, the test set at its end."""

from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import nn

from robustsabn.attacks import PGD, AutoAttack, ThreatModel, accuracy
from robustsabn.baking import bake
from robustsabn.data import Data, ImageSet
from robustsabn.routing import maybe_route, routes_of
from robustsabn.trainers.bench import build_attack
from robustsabn.trainers.config import TrainConfig
from robustsabn.trainers.evaluation import Evaluation, evaluate, starting_noise
from robustsabn.trainers.monitor import Monitor, results_table
from robustsabn.trainers.precision import tensor_float32
from robustsabn.trainers.processes import reduced

__all__ = ["Validator"]

SHOWN = 8  # images in a grid


class Validator:
    """Evaluates `model` on all processes together and tells the monitor."""

    def __init__(
        self, accelerator: Accelerator, model: nn.Module, data: Data, config: TrainConfig, monitor: Monitor
    ) -> None:
        self.accelerator, self.model, self.config, self.monitor = accelerator, model, config, monitor
        self.validation = data.validation.to(accelerator.device)
        self.test = data.test

    def validate(self, step: int, heading: str, kind: str = "validation") -> Evaluation:
        """Clean accuracy through every route and PGD accuracy through the last, on held-out images."""
        attack = build_attack(self.config.attack, self.config.validation.steps)
        routes = routes_of(self.model)
        found = self._evaluate(self.validation, attack, routes[-1:] or None)
        self.monitor.record(kind, step, {"clean": found.clean, "robust": found.robust})
        clean = "  ".join(f"clean {name} {100 * v:.1f} %" for name, v in found.clean.items())
        self.monitor.say(f"{heading}  {clean}  {found.attack} {100 * found.robust_accuracy:.1f} %")
        self._warn(found)
        if self.monitor.active and kind == "validation":
            x, y = self.validation.batch(
                torch.arange(min(SHOWN, len(self.validation))), self.accelerator.device
            )
            delta0 = starting_noise(attack, x, torch.arange(len(x)), 0)
            with maybe_route(self.model, routes[-1] if routes else 0):
                self.monitor.images(step, x, attack(self.model, x, y, delta0=delta0), attack.threat.eps_max)
        return found

    def close(self, step: int, which: str, kind: str = "test") -> Evaluation:
        """Clean and PGD accuracy of every route on the test set, as a table; `which` names the weights."""
        attack = build_attack(self.config.attack, self.config.test.steps)
        images = self.test.sample(self.config.test.images).to(self.accelerator.device)
        with tensor_float32(False):
            found = self._evaluate(images, attack, None)
            if self.config.test.autoattack and kind == "test":
                found = self._autoattack(found, attack.threat)
        self.monitor.record(kind, step, found.to_dict())
        self.monitor.table(results_table(found, f"{which}, {found.setting}"))
        self._warn(found)
        return found

    def _autoattack(self, found: Evaluation, threat: ThreatModel) -> Evaluation:
        """`found`, and how images that AutoAttack made through the last route fare through every route."""
        device, routes = self.accelerator.device, routes_of(self.model)
        images = self.test.sample(min(self.config.test.autoattack or 0, len(self.test)))
        x, y = images.batch(torch.arange(len(images)), device)
        plain = bake(self.model, routes[-1]) if routes else self.model
        report = AutoAttack(threat, progress=self.monitor.attacking)(plain.eval(), x, y, ids=images.ids)
        scores = {}
        for name in routes or ("all",):
            with maybe_route(self.model, name):
                scores[name] = accuracy(self.model, report.x_adv.to(device), y)
        return replace(found, autoattack=scores, autoattack_n=len(images))

    def _warn(self, found: Evaluation) -> None:
        if found.warning:
            self.monitor.say(f"warning: {found.warning}")

    def _evaluate(self, images: ImageSet, attack: PGD, attacked: tuple[str, ...] | None) -> Evaluation:
        acc = self.accelerator
        return evaluate(
            self.model,
            images,
            attack,
            attacked=attacked,
            batch_size=self.config.test.batch_size,
            device=acc.device,
            rank=acc.process_index,
            world=acc.num_processes,
            reduce=lambda counts: reduced(acc, counts, "sum"),
        )
