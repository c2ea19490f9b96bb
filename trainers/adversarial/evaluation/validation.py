"""The evaluations of a run: held-out images during training, the test set at its end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from robustsabn.attacks import PGD, AutoAttack, ProgressEvent, accuracy, attack_mode
from robustsabn.attacks.model.logits import Gate
from robustsabn.conversion.bake import bake
from robustsabn.data import Data, ImageSet
from robustsabn.routing import maybe_route
from robustsabn.trainers.adversarial.config import TrainConfig
from robustsabn.trainers.adversarial.evaluation.analysis import analysed
from robustsabn.trainers.adversarial.evaluation.evaluation import Evaluation, evaluate, starting_noise
from robustsabn.trainers.adversarial.evaluation.overfitting import (
    begins,
    collapse,
    collapsed,
    course,
    decline,
)
from robustsabn.trainers.adversarial.evaluation.pictures import MOST_CLASSES, attacked_images, confusion
from robustsabn.trainers.adversarial.evaluation.tables import results_table
from robustsabn.trainers.adversarial.evaluation.trained_routes import trained_routes
from robustsabn.trainers.adversarial.step.adversarial_step import build_attack
from robustsabn.trainers.loop.compiling import uncompiled
from robustsabn.trainers.loop.precision import tensor_float32
from robustsabn.trainers.methods import Standard
from robustsabn.trainers.processes.distributed import reduced
from robustsabn.trainers.runs.metrics import Record
from robustsabn.trainers.runs.monitor import Monitor

__all__ = ["Validator"]

SHOWN = 6  # images in a grid
SIGNS = {"train_robust": "on training images", "fgsm": "fgsm"}


class Validator:
    """Evaluates `model` on all processes and reports to the monitor."""

    def __init__(
        self, accelerator: Accelerator, model: nn.Module, data: Data, config: TrainConfig, monitor: Monitor
    ) -> None:
        self.accelerator, self.model, self.config, self.monitor = accelerator, model, config, monitor
        self.validation = data.validation.to(accelerator.device)
        self.seen = data.train.sample(min(len(data.validation), len(data.train))).to(accelerator.device)
        self.test, self.classes = data.test, data.classes
        self.routes = trained_routes(config.method, model)
        self.by_robustness = config.by_robustness
        self.defended = not isinstance(config.method, Standard)

    def validate(self, step: int, heading: str, kind: str = "validation") -> Evaluation:
        """Clean accuracy through every trained route and PGD accuracy through the last one.

        Measured on held-out images. With the `kind` "validation", also looks for overfitting.
        """
        attack = build_attack(self.config.attack, self.config.validation.steps)
        routes = self.routes
        evaluation = self._evaluate(self.validation, attack, routes[-1:] or None, routes or None)
        signs = self._overfitting(evaluation, attack) if kind == "validation" else {}
        clean = "  ".join(f"clean {name} {100 * v:.1f} %" for name, v in evaluation.clean.items())
        extras = "".join(
            f"  {word} {100 * signs[name]:.1f} %" for name, word in SIGNS.items() if name in signs
        )
        self.monitor.say(
            f"{heading}  {clean}  {evaluation.attack} {100 * evaluation.robust_accuracy:.1f} %{extras}"
        )
        self.monitor.record(kind, step, {"clean": evaluation.clean, "robust": evaluation.robust, **signs})
        self._warn(evaluation)
        if kind == "validation" and begins(points := course(self.monitor.validations)):
            self.monitor.say(f"warning: catastrophic overfitting: {collapse(points, self.by_robustness)}")
        if self.monitor.active and kind == "validation":
            self.monitor.picture("images/adversarial", self._attacked(attack), step)
        return evaluation

    def close(self, step: int, which: str, kind: str = "test") -> Evaluation:
        """Clean and PGD accuracy of every trained route on the test set, as a table.

        `which` names the weights.
        """
        recorded = self.monitor.validations if kind == "test" and self.defended else []
        if lost := decline(course(recorded), self.by_robustness):
            self.monitor.say(f"overfitting: {lost}")
        attack = build_attack(self.config.attack, self.config.test.steps)
        images = self.test.sample(self.config.test.images).to(self.accelerator.device)
        confused = torch.zeros(len(self.classes) ** 2, dtype=torch.long, device=self.accelerator.device)

        def classified(y: Tensor, predicted: Tensor) -> None:
            known = (predicted >= 0) & (predicted < len(self.classes))
            pairs = y[known] * len(self.classes) + predicted[known]
            confused.add_(torch.bincount(pairs, minlength=len(confused)))

        with tensor_float32(False):
            evaluation = self._evaluate(images, attack, None, self.routes or None, classified)
            if self.config.test.autoattack and kind == "test":
                evaluation = self._autoattack(evaluation, attack)
        self.monitor.table(results_table(evaluation, f"{which}, {evaluation.setting}"))
        self._warn(evaluation)
        self.monitor.record(kind, step, {**evaluation.to_dict(), "asked": self.config.test.protocol})
        counts = reduced(self.accelerator, confused, "sum").view(len(self.classes), -1).cpu()
        if self.monitor.active and kind == "test" and len(counts) <= MOST_CLASSES and counts.any():
            through = f" through {self.routes[-1]}" if self.routes else ""
            title = f"{evaluation.attack}{through}, {evaluation.n} test images, % of each label"
            self.monitor.figure("images/confusion under attack", confusion(counts, self.classes, title), step)
        return evaluation

    def _attacked(self, attack: PGD) -> Tensor:
        """A picture of some images, clean through the first route and attacked through the last."""
        ids = torch.arange(min(SHOWN, len(self.validation)))
        x, y = self.validation.batch(ids, self.accelerator.device)
        first, last = (self.routes[0], self.routes[-1]) if self.routes else (0, 0)
        gate, names = Gate(self.model, x), dict(enumerate(map(str, self.classes)))
        with uncompiled(self.model), torch.no_grad():
            with maybe_route(self.model, last):
                x_adv = attack(self.model, x, y, delta0=starting_noise(attack, x, ids, 0))
            with attack_mode(self.model):
                with maybe_route(self.model, first):
                    clean = gate(x).argmax(1)
                with maybe_route(self.model, last):
                    attacked = gate(x_adv).argmax(1)
        # a network may have more outputs than there are classes
        words = [[names.get(k, str(k)) for k in each.tolist()] for each in (y, clean, attacked)]
        return attacked_images(x, x_adv, *words)

    def _autoattack(self, evaluation: Evaluation, attack: PGD) -> Evaluation:
        """Add to `evaluation` the accuracy on AutoAttack's images, made through the last route."""
        device, routes = self.accelerator.device, self.routes
        images = self.test.sample(min(self.config.test.autoattack or 0, len(self.test)))
        x, y = images.batch(torch.arange(len(images)), device)
        plain = bake(self.model, routes[-1]) if routes else self.model
        try:
            report = AutoAttack(attack.threat, progress=self._progress)(plain.eval(), x, y, ids=images.ids)
        finally:
            self.monitor.hide()
        scores = {}
        for name in routes or ("all",):
            with maybe_route(self.model, name), uncompiled(self.model):
                scores[name] = accuracy(self.model, report.x_adv.to(device), y)
        same: dict[str, float] = {}
        if len(images) < evaluation.n:  # the two attacks are compared on the same images
            few = images.to(device)
            (same,) = self._evaluate(few, attack, routes[-1:] or None, routes or None).robust.values()
        return replace(evaluation, autoattack=scores, autoattack_n=len(images), same_images=same)

    def _progress(self, event: ProgressEvent) -> None:
        left = f"{event.left} of {event.total} images left, {event.robust} robust"
        self.monitor.show(f"autoattack: {event.attack}", event.done, event.work, left)

    @contextmanager
    def _counted(self, what: str, forwards: int) -> Iterator[None]:
        """A bar that counts the images which the model sees in the block."""
        with self.monitor.counting(what, forwards) as count:
            hook = self.model.register_forward_hook(lambda _, images, logits: count(len(images[0])))
            try:
                yield
            finally:
                hook.remove()

    def _overfitting(self, evaluation: Evaluation, attack: PGD) -> dict[str, float]:
        """Signs of overfitting: accuracy under one step, and under `attack` on training images."""
        last = self.routes[-1:] or None
        one_step = replace(attack, steps=1, step_size=attack.threat.eps_max, start="none", loss="ce")
        fgsm = self._evaluate(self.validation, one_step, last, last).robust_accuracy
        signs: dict[str, float] = {"fgsm": fgsm}
        if self.defended:
            signs["collapsed"] = collapsed(evaluation.robust_accuracy, fgsm)
        if self.config.validation.gap:
            seen = self._evaluate(self.seen, attack, last, last).robust_accuracy
            signs |= {"train_robust": seen, "robust_gap": seen - evaluation.robust_accuracy}
        return signs

    def analysed(self, count: int) -> Record:
        """What the routes do to `count` held-out images and to their images by the validation's attack."""
        attack = build_attack(self.config.attack, self.config.validation.steps)
        ids = torch.arange(min(count, len(self.validation)))
        x, y = self.validation.batch(ids, self.accelerator.device)
        return analysed(self.model, self.routes, attack, x, y, starting_noise(attack, x, ids, 0))

    def _warn(self, evaluation: Evaluation) -> None:
        if evaluation.warning:
            self.monitor.say(f"warning: {evaluation.warning}")

    def _evaluate(
        self,
        images: ImageSet,
        attack: PGD,
        attacked: tuple[str, ...] | None,
        scored: tuple[str, ...] | None,
        classified: Callable[[Tensor, Tensor], None] | None = None,
    ) -> Evaluation:
        acc, names = self.accelerator, scored or ("all",)
        rounds = len(names) + len(attacked or names) * (attack.steps + 1 + len(names))
        forwards = rounds * len(images) // acc.num_processes
        part = {id(self.validation): "validation", id(self.seen): "training"}.get(id(images), "test")
        what = f"{len(images)} {part} images, pgd-{attack.steps}"
        with self._counted(what, forwards), uncompiled(self.model):
            # uncompiled, or each of the many batch sizes would be compiled
            return evaluate(
                self.model,
                images,
                attack,
                attacked=attacked,
                routes=scored,
                batch_size=self.config.test.batch_size,
                device=acc.device,
                rank=acc.process_index,
                world=acc.num_processes,
                reduce=lambda counts: reduced(acc, counts, "sum"),
                classified=classified,
            )
