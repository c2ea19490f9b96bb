"""What metrics.jsonl says of a run of adversarial training: accuracy over time."""

from collections.abc import Sequence

from robustsabn.trainers.runs.metrics import Point, Record

__all__ = ["clean_course", "robust_course"]


def robust_course(found: Sequence[Record], kind: str = "validation") -> list[Point]:
    """(step, robust validation accuracy), attacked and scored through the last route; of averaged weights by
    `kind`.
    """
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
