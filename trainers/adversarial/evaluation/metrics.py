"""What metrics.jsonl says of a run of adversarial training: closing evaluations, accuracy over time."""

from collections.abc import Sequence
from dataclasses import fields

from robustsabn.trainers.adversarial.evaluation.evaluation import Evaluation
from robustsabn.trainers.runs.metrics import Point, Record

__all__ = ["AVERAGES", "clean_course", "closing", "robust_course"]

AVERAGES = {"ema": "EMA", "swa": "SWA"}
"""Checkpoints of averaged weights, and what they are called."""


def closing(found: Sequence[Record], kind: str = "test") -> Evaluation | None:
    """The closing evaluation of the best checkpoint, or of another `kind`; None of a run that has none, or went on since."""
    names = {field.name for field in fields(Evaluation)}
    tests = [record for record in found if record["kind"] == kind][-1:]
    tests = [test for test in tests if all(record["step"] <= test["step"] for record in found)]
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
