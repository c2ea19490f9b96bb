"""CPU time of the default monitoring, as a share of the training steps: digits and CIFAR-10 recipes.

python benchmarks/monitoring.py [--cifar10 npz:cifar10.npz] [--rounds 3] [--out FILE.md]

Short runs of a recipe alternate: one as it is by default, one whose monitor does nothing (no records, no
TensorBoard, no pictures, no histograms, no terminal). They train the same to the bit. Two numbers:

- counted: CPU time of the main thread in calls of the monitor and in what they draw, and that of all other
  threads (TensorBoard writes its files in one); of the steps of the same run.
- difference: CPU time of the one run minus that of the other, without what happens once a run.

Run it with one thread (OMP_NUM_THREADS=1), or threads of torch count as those of TensorBoard. What happens
once a run (imports, the configuration, the confusion at the end) has a column of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from timing import write_table

from robustsabn.trainers import train
from robustsabn.trainers.adversarial.evaluation import validation
from robustsabn.trainers.adversarial.task import AdversarialTraining
from robustsabn.trainers.loop import loop
from robustsabn.trainers.runs.monitor import Monitor, Window

IN_STEPS = ((Monitor, ("record", "advance")), (Window, ("add", "mean")))
AT_VALIDATIONS = (
    (Monitor, ("picture", "histograms", "say", "show", "flush")),
    (loop.Loop, ("_affines",)),
    (validation.Validator, ("_attacked",)),
)
ONCE = ((Monitor, ("__init__", "describe", "figure", "table")), (validation, ("confusion",)))


@dataclass
class Times:
    """CPU seconds of one run."""

    steps: float = 0.0
    calls: dict[str, float] = field(default_factory=lambda: {"steps": 0.0, "validations": 0.0, "once": 0.0})
    others: float = 0.0  # threads beside the main one
    whole: float = 0.0
    inside: int = 0

    @property
    def counted(self) -> float:
        return self.calls["steps"] + self.calls["validations"] + self.others


@contextlib.contextmanager
def measured(times: Times) -> Iterator[None]:
    """Measure the run in the block."""
    with contextlib.ExitStack() as stack:
        groups = {"steps": IN_STEPS, "validations": AT_VALIDATIONS, "once": ONCE}
        for group, places in groups.items():
            for place, names in places:
                for name in names:
                    timed = _timed(getattr(place, name), times, group)
                    stack.enter_context(patch.object(place, name, timed))
        whole_step = AdversarialTraining.step

        def step(self: Any, at: int) -> Any:
            began = time.thread_time()
            found = whole_step(self, at)
            times.steps += time.thread_time() - began
            return found

        stack.enter_context(patch.object(AdversarialTraining, "step", step))
        whole, main = time.process_time(), time.thread_time()
        yield
        times.whole = time.process_time() - whole
        times.others = times.whole - (time.thread_time() - main)


def _timed(function: Any, times: Times, group: str) -> Any:
    @functools.wraps(function)
    def timed(*args: Any, **options: Any) -> Any:
        times.inside += 1
        began = time.thread_time()
        try:
            return function(*args, **options)
        finally:
            times.inside -= 1
            if not times.inside:  # otherwise the caller counts it
                times.calls[group] += time.thread_time() - began

    return timed


class Silent(Monitor):
    """A monitor that does nothing."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args[:4], False, *args[5:])


def one(recipe: str, overrides: Sequence[str], silent: bool) -> Times:
    times = Times()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(contextlib.redirect_stdout(None))
        if silent:
            stack.enter_context(patch.object(loop, "Monitor", Silent))
        stack.enter_context(measured(times))
        train(recipe, [*overrides, "device=cpu", f"out={folder}/run"])
    return times


def row(name: str, recipe: str, overrides: Sequence[str], rounds: int) -> list[object]:
    one(recipe, [*overrides, "steps=2"], False)  # imports
    pairs = [(one(recipe, overrides, False), one(recipe, overrides, True)) for _ in range(rounds)]

    def median(share: Any) -> str:
        return f"{statistics.median(map(share, pairs)):.2f}"

    def difference(pair: tuple[Times, Times]) -> float:
        return 100 * (pair[0].whole - pair[0].calls["once"] - pair[1].whole) / pair[1].steps

    differences = sorted(map(difference, pairs))
    return [
        name,
        median(lambda pair: pair[0].steps),
        median(lambda pair: 1e3 * pair[0].calls["steps"]),
        median(lambda pair: 1e3 * pair[0].calls["validations"]),
        median(lambda pair: 1e3 * pair[0].others),
        median(lambda pair: 100 * pair[0].counted / pair[0].steps),
        f"{median(difference)} ({differences[0]:.1f} to {differences[-1]:.1f})",
        median(lambda pair: 1e3 * pair[0].calls["once"]),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cifar10", default="cifar10", help="the data, such as npz:cifar10.npz")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    few = ["test.images=50", "test.steps=1", "test.autoattack=none"]
    runs = [
        ("digits, 3 epochs (99 steps, 1 validation)", "digits", ["epochs=3", *few]),
        (
            "cifar10-small, 100 steps, 1 validation",
            "cifar10-small",
            [f"data={args.cifar10}", "steps=100", "validation.images=64", *few],
        ),
    ]
    head = (
        *("run", "steps s", "log ms", "validation ms", "other threads ms"),
        *("counted, % of steps", "difference, % of steps", "once a run ms"),
    )
    rows = [row(name, recipe, overrides, args.rounds) for name, recipe, overrides in runs]
    write_table("CPU time of the default monitoring", head, rows, args.out)


if __name__ == "__main__":
    main()
