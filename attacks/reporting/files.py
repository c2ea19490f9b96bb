"""The files of one evaluation: JSON, a table of samples, adversarial images, and a page."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from robustsabn.attacks.report import Report
from robustsabn.attacks.reporting.document import document
from robustsabn.attacks.reporting.words import verdicts
from robustsabn.errors import InputError
from robustsabn.files import make_folder, replacing
from robustsabn.report.provenance import computed_with, tensors_sha256

__all__ = ["COLUMNS", "write"]

FILES = ("report.json", "per_sample.csv", "adversarial.safetensors")

COLUMNS = (
    "id",
    "label",
    "clean_prediction",
    "verdict",
    "attack",
    "target",
    "iteration",
    "margin",
    "distance",
    "adversarial_prediction",
    "fragile",
)


def write(
    report: Report,
    folder: str | Path,
    *,
    classes: Sequence[str] | None = None,
    x: Tensor | None = None,
    about: Mapping[str, str] | None = None,
    title: str | None = None,
) -> None:
    """Write report.json, per_sample.csv, adversarial.safetensors and report.html into `folder`.

    `classes` names the labels; `x` (N, ...) are the clean images for the pictures, in the order of the
    report; `about` says what was evaluated ("model", "data", "command", ...); `title` is that of the page.
    Date, processor, threads, versions and the SHA-256 of images, labels and ids are noted as `made`. An
    earlier report stays until all files are complete. Raises InputError where `x` does not have the shape of
    the report's images."""
    if x is not None and x.shape != report.x_adv.shape:
        raise InputError(
            f"x is {tuple(x.shape)}, but the report's images are {tuple(report.x_adv.shape)}; give the "
            "clean images in the order of report.ids, or leave x out"
        )
    folder = Path(folder)
    make_folder(folder)
    made = _made(report, x)
    content = {**report.to_dict(), "about": dict(about or {}), "made": made}
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    page = document(report, classes=classes, x=x, about=about, title=title, made=made, files=FILES)
    # all files are complete before the first is renamed, so that an earlier report stays whole until then
    with (
        replacing(folder / "report.json") as summary,
        replacing(folder / "report.html") as html,
        replacing(folder / "per_sample.csv") as table,
        replacing(folder / "adversarial.safetensors") as tensors,
    ):
        _tensors(report, tensors)
        _table(report, table)
        html.write_bytes(page.encode("utf-8", "backslashreplace"))
        summary.write_text(text, encoding="utf-8")


def _made(report: Report, x: Tensor | None) -> dict[str, str]:
    images = {} if x is None else {"images": x, "labels": report.y, "ids": report.ids}
    hashed = {"data_sha256": tensors_sha256(images)} if images else {}
    here = computed_with()
    return hashed | here | {name: text for name, text in report.versions.items() if name in here}


def _tensors(report: Report, path: Path) -> None:
    tensors = {
        "x_adv": report.x_adv,
        "ids": report.ids,
        "y": report.y,
        "clean": report.clean,
        "robust": report.robust,
    }
    notes = {"norm": report.norm, "eps": repr(report.eps), "version": report.version, "engine": report.engine}
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, notes)


def _table(report: Report, path: Path) -> None:
    names = [attack.name for attack in report.attacks]
    rows = zip(
        report.ids.tolist(),
        report.y.tolist(),
        report.clean_prediction.tolist(),
        verdicts(report),
        [names[index] if index >= 0 else "" for index in report.broken_by.tolist()],
        [value if value >= 0 else "" for value in report.target.tolist()],
        [value if value >= 0 else "" for value in report.iteration.tolist()],
        [f"{value:.6g}" for value in report.margin.tolist()],
        [f"{value:.6g}" for value in report.distance.tolist()],
        report.adversarial_prediction.tolist(),
        [int(value) for value in report.fragile.tolist()],
        strict=True,
    )
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])
