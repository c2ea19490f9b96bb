"""Accuracy over time, from the records of a run of adversarial training."""

from collections.abc import Sequence

from robustsabn.trainers.runs.metrics import Point, Record

__all__ = ["clean_course", "robust_course"]


def robust_course(records: Sequence[Record], kind: str = "validation") -> list[Point]:
    """(step, robust validation accuracy), attacked and scored through the last route.

    `kind` may be the name of averaged weights.
    """
    course = []
    for record in records:
        if record["kind"] == kind:
            last = list(record["robust"])[-1]
            course.append((record["step"], record["robust"][last][last]))
    return course


def clean_course(records: Sequence[Record]) -> list[Point]:
    """(step, clean validation accuracy) through the first route."""
    return [
        (record["step"], next(iter(record["clean"].values())))
        for record in records
        if record["kind"] == "validation"
    ]
