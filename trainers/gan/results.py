"""The measurements of generated images, and how finished runs of GANs are compared and shown."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean
from typing import Any

from rich.table import Table

from robustsabn.metrics import Quality
from robustsabn.report.console import result_table
from robustsabn.report.plots import Plot, lines
from robustsabn.trainers.gan.config import GanConfig
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.measured import Column, Measured
from robustsabn.trainers.runs.metrics import Point, Record
from robustsabn.trainers.runs.pages.page import Page, Remark, Tile, series
from robustsabn.trainers.runs.results import EndedRun, Results
from robustsabn.trainers.tracking.charts import Chart, Charts

__all__ = ["AVERAGED", "RESULTS", "GanEvaluation"]

COLUMNS = {
    "distance": Column("Fréchet distance"),
    "class_accuracy": Column("class accuracy", "%"),
    "diversity": Column("diversity within a class"),
    "intra_class_distance": Column("Fréchet distance by class"),
    "inception_score": Column("inception score"),
}
OF_REAL = {name: f"real_{name}" for name in ("distance", "class_accuracy", "diversity")}
AVERAGED = "ema"
BLIND = 1e-3
"""Deviation of scores below which the discriminator tells no images apart; the hinge loss has margin 1."""
RECENT = 10
"""Lines of the log that are averaged to say so."""
TRAINING = {
    "loss": {"loss": "generator", "discriminator_loss": "discriminator"},
    "score of the discriminator": {"real_score": "real images", "fake_score": "generated images"},
}


@dataclass(frozen=True)
class GanEvaluation(Measured):
    """Measurements of generated images; None without an extractor or a judge.

    `distance` is the Fréchet distance; `label` names it in full. `class_accuracy` is the share of images that
    an independent classifier assigns to the intended class. `diversity` is the mean distance of features
    within a class. The fields `real_…` have the same numbers for real images that are not part of the
    reference.
    """

    images: int
    label: str = ""
    distance: float | None = None
    real_distance: float | None = None
    class_accuracy: float | None = None
    real_class_accuracy: float | None = None
    diversity: float | None = None
    real_diversity: float | None = None
    intra_class_distance: float | None = None
    inception_score: float | None = None
    extractor: str = ""
    judge: str = ""

    def numbers(self) -> dict[str, float]:
        values = {name: getattr(self, name) for name in (*COLUMNS, *OF_REAL.values())}
        return {name: value for name, value in values.items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}

    @property
    def protocol(self) -> str:
        return f"{self.label}, judge {self.judge}" if self.judge else self.label

    def measurement(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("images", "label", "extractor", "judge")}

    def __str__(self) -> str:
        words = [f"{self.label} {self.distance:.4g}"] if self.distance is not None else []
        if self.class_accuracy is not None:
            words.append(f"class accuracy {100 * self.class_accuracy:.1f} %")
        return "  ".join(words)

    @staticmethod
    def of(quality: Quality, images: int, real_class_accuracy: float | None = None) -> "GanEvaluation":
        """The evaluation with the numbers of `quality`."""
        names = {"fid": "distance", "floor": "real_distance", "intra_class_fid": "intra_class_distance"}
        numbers = {names.get(name, name): value for name, value in quality.numbers.items()}
        return GanEvaluation(
            images,
            quality.basis.label(),
            **{name: numbers[name] for name in (*COLUMNS, *OF_REAL.values()) if name in numbers},
            real_class_accuracy=real_class_accuracy,
            extractor=f"{quality.basis.extractor} {quality.basis.digest}",
            judge=f"{quality.judged.judge} {quality.judged.digest}" if quality.judged else "",
        )


class GanResults(Results[GanConfig, GanEvaluation]):
    """Results of GANs; the page shows averaged weights first, because images are sampled from them."""

    def columns(self, runs: Sequence[EndedRun[GanEvaluation]]) -> dict[str, Column]:
        shown = {*COLUMNS, "training_seconds"}
        return self.named(name for run in runs for name in run.numbers if name in shown)

    def table(self, measured: GanEvaluation, title: str) -> Table:
        numbers, rows = measured.numbers(), []
        for name, column in COLUMNS.items():
            if name in numbers:
                real = numbers.get(OF_REAL.get(name, ""))
                rows.append(
                    [column.heading, column.text(numbers[name]), "" if real is None else column.text(real)]
                )
        if not rows:
            return result_table(title, ["measured"], [["nothing, without an extractor"]])
        head = [f"{measured.images} images", "generated", "real"]
        return result_table(f"{title}\n{measured.label}" if measured.label else title, head, rows)

    def page(self, config: GanConfig, folder: RunFolder, records: Sequence[Record]) -> Page:
        page = super().page(config, folder, records)
        last = self.closing(records, f"test_{AVERAGED}") or self.closing(records)
        tiles = [
            Tile(COLUMNS[name].heading, COLUMNS[name].text(value), _beside(last, name))
            for name, value in (last.numbers() if last else {}).items()
            if name in COLUMNS
        ]
        measured = [_measured_chart(records, name) for name in ("distance", "class_accuracy")]
        charts = [*measured, *(_training_chart(records, what, names) for what, names in TRAINING.items())]
        drawn = [(plot, text) for plot, text in charts if plot is not None]
        return replace(page, tiles=tiles, remarks=[*_blind(records), *page.remarks], charts=drawn)


def _blind(records: Sequence[Record]) -> list[Remark]:
    """A warning if the discriminator has stopped to tell images apart."""
    spreads = [record["score_spread"] for record in records if "score_spread" in record][-RECENT:]
    if not spreads or fmean(spreads) >= BLIND:
        return []
    text = (
        f"At the end its scores spread by {fmean(spreads):.1g}: it gives all images, real or generated, the "
        "same, so the generator learns nothing. Lower discriminator.lr, or raise d_steps."
    )
    return [Remark("warning", "The discriminator tells no images apart.", text)]


def _beside(measured: GanEvaluation | None, name: str) -> str:
    real = measured.numbers().get(OF_REAL.get(name, "")) if measured else None
    return "" if real is None else f"real images {COLUMNS[name].text(real)}".replace(" %", "\u00a0%")


def _measured_chart(records: Sequence[Record], name: str) -> tuple[Plot | None, str]:
    """A number of the validations over steps, for current and for averaged weights."""
    column, kinds = COLUMNS[name], {"validation": "weights", AVERAGED: "averaged weights"}
    courses: dict[str, list[Point]] = {}
    for record in records:
        if record["kind"] in kinds and name in record:
            courses.setdefault(kinds[record["kind"]], []).append(
                (record["step"], column.scaled(record[name]))
            )
    plot = lines(courses, f"validation, {column.heading}", "step", column.axis)
    return plot, f"{column.heading.capitalize()} at each validation."


def _training_chart(records: Sequence[Record], what: str, names: dict[str, str]) -> tuple[Plot | None, str]:
    """A number over training, for both networks or for both kinds of images."""
    by_name = series(records, "train", lambda name: name in names)
    courses = {names[name.replace(" ", "_")]: points for name, points in by_name.items()}
    return lines(courses, f"training, {what}", "step", what), f"{what.capitalize()} in training."


CHARTS = Charts(
    title="GAN",
    shown=(
        Chart(title="Fréchet distance", tags={"validation/distance": "quality/distance"}),
        Chart(title="class accuracy", tags={"validation/class_accuracy": "quality/class accuracy"}),
    ),
    further=(
        Chart(
            title="score of the discriminator",
            tags={
                "train/real_score": "score/real",
                "train/fake_score": "score/generated",
                "train/score_spread": "score/spread",
            },
        ),
        Chart(
            title="loss",
            tags={"train/loss": "loss/generator", "train/discriminator_loss": "loss/discriminator"},
        ),
        Chart(
            title="learning rate of the discriminator", tags={"train/lr_discriminator": "rate/discriminator"}
        ),
    ),
    closing={
        "test/distance": "quality test/distance",
        "test/class_accuracy": "quality test/class accuracy",
        "test/diversity": "quality test/diversity",
        "test/intra_class_distance": "quality test/distance by class",
        "test/inception_score": "quality test/inception score",
    },
    left_out=("*/images", "*/real_*"),
)
RESULTS = GanResults(
    GanEvaluation,
    charts=CHARTS,
    columns=COLUMNS
    | {
        of: Column(f"{COLUMNS[name].heading}, real images", COLUMNS[name].unit)
        for name, of in OF_REAL.items()
    },
    pictures={
        "samples/classes": "A row for each class, a column for each latent",
        "samples/between classes": "From one class to the next",
        "samples/between latents": "From one latent to another",
    },
)
