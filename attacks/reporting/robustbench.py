"""An evaluation in the format of RobustBench (github.com/RobustBench/robustbench, model_info)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from robustsabn.attacks.report import Report
from robustsabn.errors import InputError
from robustsabn.files import make_folder, replacing, write_text
from robustsabn.report.numbers import eps_text
from robustsabn.text import quote

__all__ = ["robustbench_json", "write_robustbench"]

FIELDS = (
    "link",
    "name",
    "authors",
    "additional_data",
    "number_forward_passes",
    "dataset",
    "venue",
    "architecture",
    "eps",
    "clean_acc",
    "reported",
    "autoattack_acc",
    "footnote",
)


def robustbench_json(report: Report, dataset: str, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The entry of model_info/DATASET/NORM/MODEL.json; accuracies are strings in percent with two decimals.

    `about` gives the fields that a report does not know: link, name (of the paper), authors, additional_data,
    venue, architecture, reported, footnote.
    Raises InputError for other keys, a version other than standard, and a search under autocast.
    """
    fields = dict(about or {})
    if unknown := sorted(set(fields) - set(FIELDS)):
        raise InputError(
            f"{quote(unknown[0])} is not a field of RobustBench; allowed are {', '.join(FIELDS)}"
        )
    if report.version != "standard":
        raise InputError(
            f"the report is of AutoAttack version {report.version!r}, but RobustBench takes version "
            "standard; evaluate again with it"
        )
    if any(flag.name == "autocast" for flag in report.flags):
        raise InputError("RobustBench takes a search in float32; evaluate again without autocast")
    robust = f"{100 * report.robust_accuracy:.2f}"
    known = {
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": dataset,
        "eps": eps_text(report.eps),
        "clean_acc": f"{100 * report.clean_accuracy:.2f}",
        "reported": robust,
        "autoattack_acc": robust,
    }
    return {**dict.fromkeys(FIELDS, ""), **known, **fields}


def write_robustbench(
    report: Report, folder: str | Path, name: str, dataset: str, about: Mapping[str, Any] | None = None
) -> tuple[Path, Path]:
    """Write NAME.json (the entry) and NAME.pt (adversarial images (N, ...) in the order of the set) into
    `folder`.

    NAME is a model id such as Rade2021Helper_R18_ddpm. Where no adversarial image was found, the tensor has
    the clean image, like the official code. Raises as `robustbench_json`."""
    entry = robustbench_json(report, dataset, about)
    folder = Path(folder)
    make_folder(folder)
    text, tensor = folder / f"{name}.json", folder / f"{name}.pt"
    with replacing(tensor) as aside:
        torch.save(report.x_adv[report.ids.argsort()], aside)
    write_text(text, json.dumps(entry, indent=2) + "\n")
    return text, tensor
