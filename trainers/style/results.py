"""The measurements of stylised pictures, and how finished runs are compared and shown."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table

from robustsabn.report.console import result_table
from robustsabn.trainers.runs.measured import Column, Measured
from robustsabn.trainers.runs.results import EndedRun, Results
from robustsabn.trainers.style.config import StyleConfig
from robustsabn.trainers.tracking.charts import Chart, Charts

__all__ = ["RESULTS", "StyleEvaluation"]

COLUMNS = {
    "style_loss": Column("style loss"),
    "style_loss_of_content": Column("style loss of the content"),
    "content_loss_adain": Column("content loss, AdaIN target"),
    "content_loss": Column("content loss, own target"),
    "nearer_to_style": Column("nearer to the style", "%"),
    "content_correlation": Column("content correlation"),
    "reconstruction_db": Column("reconstruction in dB"),
}


@dataclass(frozen=True, kw_only=True)
class StyleEvaluation(Measured):
    """Means over fixed pairs of pictures; losses are without their weights.

    `content_loss` is against the features that were decoded, `content_loss_adain` against those of plain
    AdaIN, which no norm can move. `style_loss_of_content` is the style loss of the content picture itself.
    `nearer_to_style` is the share of results whose style loss to the style is smaller than that to the
    content. `content_correlation` is that of the features of result and content at the tap.
    `reconstruction_db` is the PSNR of the content decoded from its own features (alpha 0). `by_tap` is the
    style loss of each tap.
    """

    pairs: int
    content_loss: float
    content_loss_adain: float
    style_loss: float
    style_loss_of_content: float
    nearer_to_style: float
    content_correlation: float
    reconstruction_db: float
    by_tap: dict[str, float] = field(default_factory=dict)
    encoder: str = ""

    def numbers(self) -> dict[str, float]:
        values = {name: float(getattr(self, name)) for name in COLUMNS}
        return values | {f"style_loss_{tap}": value for tap, value in self.by_tap.items()}

    @property
    def protocol(self) -> str:
        return f"{self.pairs} pairs, encoder {self.encoder}"

    def measurement(self) -> dict[str, Any]:
        return {"pairs": self.pairs, "encoder": self.encoder, "taps": list(self.by_tap)}

    def __str__(self) -> str:
        return (
            f"style loss {self.style_loss:.3f} (content picture {self.style_loss_of_content:.3f})  "
            f"content loss {self.content_loss_adain:.3f}  reconstruction {self.reconstruction_db:.1f} dB"
        )


class StyleResults(Results[StyleConfig, StyleEvaluation]):
    """Results of style transfer; comparisons do not show single taps."""

    def columns(self, runs: Sequence[EndedRun[StyleEvaluation]]) -> dict[str, Column]:
        shown = {*COLUMNS, "training_seconds"}
        return self.named(name for run in runs for name in run.numbers if name in shown)

    def table(self, measured: StyleEvaluation, title: str) -> Table:
        numbers = measured.numbers()
        rows = [[column.heading, column.text(numbers[name])] for name, column in self.named(numbers).items()]
        return result_table(title, [f"{measured.pairs} pair{'s' * (measured.pairs > 1)}", "mean"], rows)


CHARTS = Charts(
    title="style transfer",
    shown=(
        Chart(
            title="style loss",
            tags={"validation/style_loss": "quality/style loss", "train/style_loss": "loss/style"},
        ),
        Chart(
            title="content loss, AdaIN target",
            tags={
                "validation/content_loss_adain": "quality/content loss",
                "train/content_loss": "loss/content",
            },
        ),
        Chart(title="content correlation", tags={"validation/content_correlation": "quality/correlation"}),
    ),
    further=(
        Chart(title="nearer to the style", tags={"validation/nearer_to_style": "quality/nearer to style"}),
        Chart(
            title="reconstruction in dB", tags={"validation/reconstruction_db": "quality/reconstruction dB"}
        ),
        Chart(title="loss", tags={"train/loss": "loss/total"}),
    ),
    closing={
        "test/style_loss": "quality test/style loss",
        "test/content_loss_adain": "quality test/content loss",
        "test/content_correlation": "quality test/correlation",
        "test/nearer_to_style": "quality test/nearer to style",
        "test/reconstruction_db": "quality test/reconstruction dB",
    },
    left_out=("*/pairs", "*/style_loss_of_content", "*/by_tap/*"),
)
RESULTS = StyleResults(
    StyleEvaluation,
    charts=CHARTS,
    columns=COLUMNS,
    pictures={
        "validation/pictures": "A row for each content picture, a column for each style; last, the content "
        "reconstructed (alpha 0)"
    },
)
