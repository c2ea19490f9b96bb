"""What metrics.jsonl says of a run: its records, closing evaluation, accuracy over time, training time."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from robustsabn.trainers.evaluation import Evaluation

__all__ = [
    "AVERAGES",
    "Point",
    "Record",
    "clean_course",
    "closing",
    "read_records",
    "robust_course",
    "training_seconds",
]

Record = dict[str, Any]
Point = tuple[float, float]

AVERAGES = {"ema": "EMA", "swa": "SWA"}
"""Checkpoints of averaged weights, and what they are called."""


def read_records(metrics: Path) -> Iterator[Record]:
    """The records of a metrics.jsonl, none where there is no such file; a last line that was cut off is left out."""
    if metrics.is_file():
        for line in metrics.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                return


def closing(found: Sequence[Record], kind: str = "test") -> Evaluation | None:
    """The newest closing evaluation of the best checkpoint, or of another `kind`; None of a run that has none."""
    names = {field.name for field in fields(Evaluation)}
    tests = [record for record in found if record["kind"] == kind]
    return Evaluation(**{name: tests[-1][name] for name in names & tests[-1].keys()}) if tests else None


def robust_course(found: Sequence[Record], kind: str = "validation") -> list[Point]:
    """(step, robust validation accuracy), attacked and scored through the last route; of averaged weights by `kind`."""
    course = []
    for record in found:
        if record["kind"] == kind:
            last = list(record["robust"])[-1]
            course.append((record["step"], record["robust"][last][last]))
    return course


def clean_course(found: Sequence[Record]) -> list[Point]:
    """(step, clean validation accuracy) through the first route."""
    return [
        (record["step"], next(iter(record["clean"].values())))
        for record in found
        if record["kind"] == "validation"
    ]


def training_seconds(found: Sequence[Record], batch_size: int) -> float | None:
    """Wall time of the training steps, without evaluations; None where nothing was recorded."""
    train = [record for record in found if record["kind"] == "train"]
    if not all(record.get("images_per_second") for record in train):
        return None
    steps = [0, *(record["step"] for record in train)]
    taken = [after - before for before, after in pairwise(steps)]
    images = zip(taken, train, strict=True)
    return sum(n * batch_size / record["images_per_second"] for n, record in images) if train else None
