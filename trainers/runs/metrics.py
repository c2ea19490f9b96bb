"""Reads metrics.jsonl: its records and the training time."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from robustsabn.errors import CheckpointError
from robustsabn.text import one_line

__all__ = [
    "Point",
    "Record",
    "average_names",
    "parse_record",
    "read_records",
    "training_seconds",
    "understood",
]

Record = dict[str, Any]
Point = tuple[float, float]


@contextlib.contextmanager
def understood(place: Path) -> Iterator[None]:
    """Turn errors of the block about the content of `place` into a CheckpointError that names it.

    `place` is a file or a folder.
    """
    try:
        yield
    except CheckpointError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{place} does not have the content that was written ({one_line(error, 100)}); restore it from a"
            " copy, or remove it"
        ) from error


def read_records(metrics: Path) -> Iterator[Record]:
    """The records of a metrics.jsonl, none if there is no file.

    An incomplete last line is left out. Raises CheckpointError for any other line that is not a record.
    """
    lines = metrics.read_bytes().splitlines() if metrics.is_file() else []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
            if number == len(lines):
                return
        if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
            raise CheckpointError(
                f"{metrics}: line {number} is damaged; restore the file, or remove that line"
            )
        yield record


def parse_record(line: str) -> Record | None:
    """The record in `line`, or None if the line is not a record."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    valid = (
        isinstance(record, dict)
        and isinstance(record.get("kind"), str)
        and isinstance(record.get("step"), int)
    )
    return record if valid else None


def average_names(records: Sequence[Record]) -> list[str]:
    """The averages of weights that have a closing evaluation, such as "ema"."""
    kinds = {record["kind"] for record in records} - {"test", "test_last"}
    return sorted(kind.removeprefix("test_") for kind in kinds if kind.startswith("test_"))


def training_seconds(records: Sequence[Record], step_images: int) -> float | None:
    """Wall time of the training steps, without evaluations; None if nothing was recorded."""
    train = [record for record in records if record["kind"] == "train"]
    if not all(record.get("images_per_second") for record in train):
        return None
    steps = [0, *(record["step"] for record in train)]
    taken = [after - before for before, after in pairwise(steps)]
    images = zip(taken, train, strict=True)
    return sum(n * step_images / record["images_per_second"] for n, record in images) if train else None
