"""The page of a run: its results, its training, its last pictures and its configuration."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import robustsabn.config
from robustsabn.files import write_text
from robustsabn.report.page import render
from robustsabn.report.plots import Plot, lines
from robustsabn.text import counted
from robustsabn.trainers.config import RunConfig
from robustsabn.trainers.runs.config_diff import departures, value_text
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.measured import Column
from robustsabn.trainers.runs.metrics import Point, Record, average_names
from robustsabn.trainers.runs.pages.metrics_csv import write_metrics_csv
from robustsabn.trainers.runs.provenance import read_provenance

__all__ = [
    "Page",
    "PageTable",
    "Picture",
    "Remark",
    "Report",
    "Series",
    "Tile",
    "closing_records",
    "course_charts",
    "last_pictures",
    "length_text",
    "loss_chart",
    "series",
    "write_page",
]

MOST_POINTS = 400
SMALL = 500
"""Least width in pixels of a picture that is shown smoothly: it holds text, or is a photo."""
FILES = (
    ("metrics.csv", "metrics.csv"),
    ("metrics.jsonl", "../metrics.jsonl"),
    ("evaluation.json", "evaluation.json"),
    ("curves.json", "curves.json"),
    ("provenance.json", "../provenance.json"),
    ("config.yaml", "../config.yaml"),
)
"""Files with the numbers of a page, each with its place from there."""

Series = dict[str, list[Point]]


class Tile(NamedTuple):
    """One of the main numbers of a run."""

    name: str
    number: str
    remark: str = ""


class Remark(NamedTuple):
    """A remark; `kind` is "warning", "note" or "good"."""

    kind: str
    heading: str
    text: str


class PageTable(NamedTuple):
    """A table of text with a note below, closed at first if `folded`; all columns but the first are
    right-aligned."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    folded: bool = False


class Report(NamedTuple):
    """A link to another page, relative to the folder of this one."""

    name: str
    link: str
    text: str
    warnings: str = ""


class Picture(NamedTuple):
    """A PNG image as a data URL; `small` ones are enlarged with visible pixels."""

    heading: str
    source: str
    caption: str
    small: bool = True


@dataclass(frozen=True, kw_only=True)
class Page:
    """The content of a run's page between its title and its configuration; empty parts are left out."""

    setting: str
    tiles: Sequence[Tile] = ()
    remarks: Sequence[Remark] = ()
    charts: Sequence[tuple[Plot, str]] = ()
    tables: Sequence[PageTable] = ()
    reports: Sequence[Report] = ()
    pictures: Sequence[Picture] = ()


def write_page(
    page: Page, config: RunConfig, folder: RunFolder, records: Sequence[Record], title: str | None = None
) -> Path:
    """Write report/index.html, a self-contained page, and metrics.csv beside it; returns the page's path."""
    target = folder.path / "report" / "index.html"
    parts = {name: getattr(page, name) for name in Page.__dataclass_fields__}
    write_metrics_csv(records, target.with_name("metrics.csv"))
    text = render(
        "run.html",
        title=title or f"Run {folder.path.resolve().name}",
        changed=[
            (key, value_text(key, value), value_text(key, default))
            for key, value, default in departures(config)
        ],
        configuration=robustsabn.config.dump(config),
        made=read_provenance(folder).facts(),
        files=[(name, link) for name, link in FILES if (target.parent / link).is_file()],
        **parts,
    )
    write_text(target, text)
    return target


def length_text(config: RunConfig) -> str:
    """The length of a run, in words."""
    return counted(config.steps, "step") if config.steps else counted(config.epochs, "epoch")


def closing_records(records: Sequence[Record]) -> list[tuple[str, Record]]:
    """The last closing evaluation of each checkpoint, with its title."""
    kinds = {"test": "best checkpoint", "test_last": "last checkpoint"}
    kinds |= {f"test_{name}": f"averaged weights ({name.upper()})" for name in average_names(records)}
    titled = []
    for kind, which in kinds.items():
        for record in [record for record in records if record["kind"] == kind][-1:]:
            went_on = any(other["step"] > record["step"] for other in records)
            before = f"After {record['step']} steps, before training went on"
            titled.append((f"{before if went_on else 'At the end of training'}, {which}", record))
    return titled


def series(records: Sequence[Record], kind: str, wanted: Callable[[str], bool]) -> Series:
    """The numbers of records of this `kind` whose names are `wanted`, over steps.

    Long series are thinned to every n-th record.
    """
    kept = [record for record in records if record["kind"] == kind]
    points: Series = {}
    for record in kept[:: max(1, len(kept) // MOST_POINTS)]:
        for name, value in record.items():
            if wanted(name) and isinstance(value, (int, float)):
                points.setdefault(name.replace("_", " "), []).append((record["step"], value))
    return points


def loss_chart(records: Sequence[Record]) -> list[tuple[Plot, str]]:
    """The chart of the training losses over steps, in a list; an empty list without losses."""
    losses = series(records, "train", lambda name: name == "loss" or name.endswith("_loss"))
    plot = lines(losses, "training loss", "step", "loss")
    return [] if plot is None else [(plot, "Loss on training images.")]


def course_charts(
    courses: Mapping[str, Sequence[Point]], columns: Mapping[str, Column]
) -> list[tuple[Plot, str]]:
    """A chart over steps for each number of the validations that has a column."""
    charts = []
    for name, column in columns.items():
        points = [(step, column.scaled(value)) for step, value in courses.get(name, ())]
        plot = lines({column.heading: points}, f"validation, {column.heading}", "step", column.axis)
        if plot is not None:
            charts.append((plot, f"{column.axis[0].upper()}{column.axis[1:]} at each validation."))
    return charts


def last_pictures(tb: Path, headings: Mapping[str, str] | None = None) -> list[Picture]:
    """The last picture of each tag that the run logged for TensorBoard.

    `headings` names the tags; others are named after themselves.
    """
    if not tb.is_dir():
        return []
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tb), size_guidance={"images": 1, "scalars": 1}, purge_orphaned_data=False)
    events.Reload()
    pictures = []
    for tag in events.Tags()["images"]:
        last = events.Images(tag)[-1]
        source = "data:image/png;base64," + base64.b64encode(last.encoded_image_string).decode()
        heading = (headings or {}).get(tag) or tag.rpartition("/")[2].replace("_", " ").capitalize()
        pictures.append(Picture(heading, source, f"Step {last.step}", last.width < SMALL))
    return pictures
