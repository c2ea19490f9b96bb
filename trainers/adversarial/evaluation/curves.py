"""Accuracy of a run against the radius and the steps of an attack, and class by class, in a file."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustsabn.analysis import RobustnessCurves, robustness_curves
from robustsabn.analysis.curves import gradients_of
from robustsabn.analysis.results import plain
from robustsabn.attacks import ThreatModel
from robustsabn.data.content import sha256
from robustsabn.files import make_folder, write_text
from robustsabn.report.provenance import computed_with
from robustsabn.routing import maybe_route
from robustsabn.trainers.adversarial.evaluation.evaluation import requested_routes
from robustsabn.trainers.adversarial.evaluation.images import evaluated
from robustsabn.trainers.adversarial.runs.models import load_run
from robustsabn.trainers.checkpoints.files import read_facts
from robustsabn.trainers.given import named
from robustsabn.trainers.loop.precision import tensor_float32
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.runs.metrics import understood

__all__ = ["RunCurves", "curves_of_run", "read_curves"]

FILE = "curves.json"


@dataclass(frozen=True, kw_only=True)
class RunCurves:
    """Curves of a checkpoint by route ("all" for a model without routes), and how they were measured."""

    routes: Mapping[str, RobustnessCurves]
    classes: tuple[str, ...]
    checkpoint: str
    step: int
    data: str
    seed: int
    made: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values for JSON."""
        return {
            **vars(self),
            "classes": list(self.classes),
            "routes": {route: plain(curves.to_dict()) for route, curves in self.routes.items()},
            "made": dict(self.made),
        }

    def findings(self) -> list[str]:
        """Every sign of masked gradients, with its route."""
        return [
            finding + ("" if route == "all" else f", through {route}")
            for route, curves in self.routes.items()
            for finding in curves.findings
        ]


def curves_of_run(
    run: str | Path,
    *,
    checkpoint: str = "best",
    route: str = "all",
    n: int | None = None,
    device: torch.device | str | None = None,
    batch_size: int = 500,
    data: Any = None,
    seed: int = 0,
    network: nn.Module | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> RunCurves:
    """Measure `robustness_curves` through each route of a run, and write them to RUN/report/curves.json.

    Arguments and errors are those of `evaluate_run`. `progress` is told how many gradients of images were
    taken since the last call, and how many there are in all.
    """
    folder = RunFolder(run)
    loaded = load_run(folder.path, checkpoint, network)
    # read now: a run that is still training may save another checkpoint meanwhile
    weights = read_facts(folder.checkpoints, checkpoint).get("files", {}).get("model.safetensors", "")
    config, tested = loaded.config, evaluated(loaded, named({"data": data})["data"], n)
    place = torch.device(
        device or ("cuda" if torch.cuda.is_available() and config.device != "cpu" else "cpu")
    )
    model, threat = loaded.model.to(place).eval(), ThreatModel(config.attack.norm, config.attack.eps)
    x, y = tested.images.batch(torch.arange(len(tested.images)), place)
    found = {}
    routes = requested_routes(loaded, route)
    work = len(routes) * gradients_of(len(y))

    def told(gradients: int) -> None:
        if progress is not None:
            progress(gradients, work)

    with tensor_float32(False):
        for name in routes:
            with maybe_route(model, name):
                found[name] = robustness_curves(
                    model, x, y, threat, seed=seed, batch_size=batch_size, progress=told
                )
    curves = RunCurves(
        routes=found,
        classes=loaded.classes,
        checkpoint=checkpoint,
        step=loaded.step,
        data=config.data if data is None else str(data),
        seed=seed,
        made={
            "weights_sha256": weights,
            "data_sha256": sha256({"test": tested.images}, tested.classes),
            **computed_with(place),
        },
    )
    report = folder.path / "report"
    make_folder(report)
    write_text(report / FILE, json.dumps(curves.to_dict(), indent=1, allow_nan=False) + "\n")
    return curves


def read_curves(report: Path) -> RunCurves | None:
    """The curves in the folder `report` of a run, None without any."""
    file = report / FILE
    if not file.is_file():
        return None
    with understood(file):
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        routes = {str(name): RobustnessCurves.from_dict(own) for name, own in content["routes"].items()}
        return RunCurves(**{**content, "routes": routes, "classes": tuple(content["classes"])})
