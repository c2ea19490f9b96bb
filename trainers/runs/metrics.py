"""What metrics.jsonl says of any run: its records, and its training time."""

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
    """What the block stumbles over in the content of `place`, a file or folder, becomes a CheckpointError
    that names it.
    """
    try:
        yield
    except CheckpointError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{place} holds something else than was written there ({one_line(error, 100)}); restore it from a"
            " copy, or remove what is damaged"
        ) from error


def read_records(metrics: Path) -> Iterator[Record]:
    """The records of a metrics.jsonl, none where there is no such file; a last line that was cut off is left
    out.

    Raises CheckpointError for any other line that is no record.
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
    """The record that `line` writes, None where it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    fine = (
        isinstance(found, dict) and isinstance(found.get("kind"), str) and isinstance(found.get("step"), int)
    )
    return found if fine else None


def average_names(records: Sequence[Record]) -> list[str]:
    """The averages of weights that a run has evaluated at its end, such as "ema"."""
    kinds = {record["kind"] for record in records} - {"test", "test_last"}
    return sorted(kind.removeprefix("test_") for kind in kinds if kind.startswith("test_"))


def training_seconds(found: Sequence[Record], step_images: int) -> float | None:
    """Wall time of the training steps, without evaluations; None where nothing was recorded."""
    train = [record for record in found if record["kind"] == "train"]
    if not all(record.get("images_per_second") for record in train):
        return None
    steps = [0, *(record["step"] for record in train)]
    taken = [after - before for before, after in pairwise(steps)]
    images = zip(taken, train, strict=True)
    return sum(n * step_images / record["images_per_second"] for n, record in images) if train else None
