"""The records of a run as a table for spreadsheets."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from robustsabn.report.links import write_csv
from robustsabn.trainers.runs.metrics import Record

__all__ = ["write_metrics_csv"]


def write_metrics_csv(records: Sequence[Record], target: Path) -> None:
    """Write a row for each record; numbers inside of others are columns such as robust/adv/adv.

    Values are those of metrics.jsonl: accuracies are in [0, 1].
    """
    rows = [dict(_flat(record)) for record in records]
    head = dict.fromkeys(["kind", "step", "epoch", *(name for row in rows for name in row)])
    write_csv(target, list(head), [[row.get(name) for name in head] for row in rows])


def _flat(record: Record, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float, str)):
            yield prefix + name, value
