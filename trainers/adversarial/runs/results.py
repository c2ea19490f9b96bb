"""Finished runs of adversarial training: how they are compared and shown."""

import json
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from robustsabn.errors import CheckpointError
from robustsabn.trainers.adversarial.config import TrainConfig
from robustsabn.trainers.adversarial.evaluation.evaluation import Evaluation
from robustsabn.trainers.adversarial.evaluation.metrics import clean_course, robust_course
from robustsabn.trainers.adversarial.evaluation.tables import results_table
from robustsabn.trainers.adversarial.runs.models import load_run_config
from robustsabn.trainers.adversarial.runs.page import run_page
from robustsabn.trainers.checkpoints.files import read_facts
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.measured import Column
from robustsabn.trainers.runs.metrics import Point, Record, understood
from robustsabn.trainers.runs.pages.page import Page
from robustsabn.trainers.runs.results import EndedRun, Results
from robustsabn.trainers.tracking.charts import Chart, Charts

__all__ = ["RESULTS"]


class AdversarialResults(Results[TrainConfig, Evaluation]):
    """Accuracies through each route, AutoAttack accuracy if measured, and signs of overfitting."""

    def config(self, folder: RunFolder, cls: type[TrainConfig]) -> TrainConfig:
        return load_run_config(folder.path)

    def settings(self, config: TrainConfig, measured: Evaluation) -> dict[str, Any]:
        protocol = {"test.attack": measured.attack, "test.images": measured.n}
        return super().settings(config, measured) | protocol

    def later(self, folder: RunFolder, config: TrainConfig, measured: Evaluation) -> dict[str, float]:
        attacked = _autoattack(folder, config, measured)
        return {} if attacked is None else {f"autoattack_accuracy_{attacked[0]}": attacked[1]}

    def courses(self, records: Sequence[Record]) -> dict[str, list[Point]]:
        return {"robust_accuracy": robust_course(records), "clean_accuracy": clean_course(records)}

    def columns(self, runs: Sequence[EndedRun[Evaluation]]) -> dict[str, Column]:
        evaluations = [run.evaluation for run in runs]
        routed = {evaluation.routes for evaluation in evaluations if evaluation.routes != ("all",)}
        first, last = ("", "")
        if routed:
            ends = {(routes[0], routes[-1]) for routes in routed}
            first, last = (
                f", {name} route" for name in (ends.pop() if len(ends) == 1 else ("first", "last"))
            )
        attacks = {evaluation.attack for evaluation in evaluations}
        headings = {
            "clean_accuracy": f"clean accuracy{first}",
            "clean_accuracy_last_route": f"clean accuracy{last}",
            "robust_accuracy": (attacks.pop() if len(attacks) == 1 else "PGD") + last,
        }
        sizes = {evaluation.n for evaluation in evaluations}
        known = dict.fromkeys(name for run in runs for name in run.numbers)
        for name in known:
            if name.startswith("autoattack"):
                n = int(name.rpartition("_")[2])
                headings[name] = f"AutoAttack{last}" + ("" if sizes == {n} else f", {n} images")
        columns = {name: Column(heading, "%") for name, heading in headings.items() if name in known}
        return columns | {name: column for name, column in self.named(known).items() if name not in columns}

    def table(self, measured: Evaluation, title: str) -> Table:
        return results_table(measured, f"{title}, {measured.setting}")

    def page(self, config: TrainConfig, folder: RunFolder, records: Sequence[Record]) -> Page:
        return run_page(config, folder, records)


CHARTS = Charts(
    title="adversarial training",
    shown=(
        Chart(
            title="robust accuracy",
            tags={
                "validation/robust/LAST/LAST": "accuracy/robust/held out",
                "validation/train_robust": "accuracy/robust/train",
            },
        ),
        Chart(
            title="clean accuracy",
            tags={
                "validation/clean/FIRST": "accuracy/clean/held out",
                "train/clean_accuracy": "accuracy/clean/train",
            },
        ),
        Chart(title="robust gap", tags={"validation/robust_gap": "accuracy gap/robust"}),
    ),
    further=(
        Chart(title="robust accuracy by route", also=("validation/robust/",)),
        Chart(title="clean accuracy by route", also=("validation/clean/",)),
        Chart(
            title="one step beside PGD",
            tags={"validation/fgsm": "accuracy/fgsm/held out"},
            also=("accuracy/robust/held out",),
        ),
        Chart(
            title="loss",
            tags={"train/loss": "loss/total", "train/clean_loss": "loss/clean", "train/adv_loss": "loss/adv"},
        ),
    ),
    closing={
        "test/clean/FIRST": "accuracy test/clean",
        "test/robust/LAST/LAST": "accuracy test/robust",
        "test/autoattack/LAST": "accuracy test/autoattack",
    },
    left_out=("test/*",),
)
RESULTS = AdversarialResults(Evaluation, charts=CHARTS)


def _autoattack(folder: RunFolder, config: TrainConfig, evaluation: Evaluation) -> tuple[int, float] | None:
    """The number of images and the accuracy of standard AutoAttack through the last route.

    Of the run's own measurement and that of `evaluate`, the one with more images; None without any.
    """
    last = evaluation.routes[-1]
    measurements = []
    if evaluation.autoattack:
        measurements.append((evaluation.autoattack_n, evaluation.autoattack[last]))
    name = "autoattack" if last == "all" else f"autoattack-{last}"
    report = folder.path / "report" / name / "report.json"
    if report.is_file():
        with understood(report):
            content: Record = json.loads(report.read_text(encoding="utf-8"))
            about, ball = content["about"], (config.attack.norm, config.attack.eps)
            same = about.get("checkpoint") == "best" and about.get("data") == config.data
            # and of the same weights, not of an earlier best checkpoint
            same = same and about.get("step") in (None, _best_step(folder))
            if same and content["version"] == "standard" and (content["norm"], content["eps"]) == ball:
                measurements.append((int(content["n"]), float(content["robust_accuracy"])))
    return max(measurements, default=None)


def _best_step(folder: RunFolder) -> str | None:
    """The step of the best checkpoint; None if that was removed."""
    try:
        return str(read_facts(folder.checkpoints, "best").get("step"))
    except CheckpointError:
        return None
