"""One route of a trained run as a plain network in a file."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from robustsabn.conversion.bake import bake
from robustsabn.conversion.export import export as write
from robustsabn.errors import CheckpointError, ConfigError, RouteError
from robustsabn.files import check_name
from robustsabn.locks import LOCK, locked
from robustsabn.paths import given_path
from robustsabn.routing import maybe_route, routes_of
from robustsabn.text import quote
from robustsabn.trainers.adversarial.runs.models import LoadedRun, load_run
from robustsabn.trainers.checkpoints.files import read_facts
from robustsabn.trainers.loop.result import RunResult
from robustsabn.trainers.runs.folder import RunFolder

__all__ = ["export"]


def export(
    run: str | Path | RunResult[Any],
    out: str | Path,
    *,
    route: str | None = None,
    format: str | None = None,
    checkpoint: str = "best",
    network: nn.Module | None = None,
) -> float:
    """Write one route of a run to the file `out` as a plain network that does not need this package.

    Returns the largest difference of its logits to those of the run; a file that computes something else is
    not written.

    - run: a run folder, or the result of `train`.
    - route: "clean" or "adv"; may be left out if the run has no routes.
    - format: "safetensors", "onnx" or "pt2"; by default the ending of `out`. ONNX and pt2 files know the
      classes, the route, and the SHA-256 of the weights of the checkpoint.
    - network: as that of `load_run_model`.

    Raises RouteError for another route, CheckpointError as `load_run_model`, and ConfigError,
    ConversionError or MissingExtraError if the file cannot be written.

    Example, after that of `train`:

        >>> from robustsabn.trainers import export
        >>> difference = export("runs/tiny", "runs/tiny.safetensors", route="adv")
        >>> difference < 1e-4
        True
    """
    folder = RunFolder(run.folder if isinstance(run, RunResult) else run)
    target = given_path(out, "out", ConfigError)
    check_name(target)
    if (target.parent / "state.json").is_file():
        raise ConfigError(f"out: {target.parent} is a checkpoint of a run; choose another folder")
    with locked(target.parent, f".{target.name}{LOCK}"):
        loaded = load_run(folder.path, checkpoint, network)
        _check_route(loaded, route, folder.path)
        images = torch.rand(5, *loaded.shape, generator=torch.Generator().manual_seed(0))
        with maybe_route(loaded.model, route):
            return write(
                bake(loaded.model, route) if route is not None else loaded.model,
                target,
                loaded.model,
                images,
                format=format,
                fresh=loaded.plain(),
                notes={
                    "model": loaded.config.model,
                    "route": route or "",
                    "classes": loaded.classes,
                    "input": "float32 (N, C, H, W) in [0, 1]; the normalisation is inside",
                    "output": "logits (N, K)",
                    "checkpoint": checkpoint,
                    "step": loaded.step,
                    "weights_sha256": _weights_sha256(folder, checkpoint),
                },
            )


def _check_route(loaded: LoadedRun, route: str | None, folder: Path) -> None:
    routes = routes_of(loaded.model)
    if route not in routes and (routes or route is not None):
        given = "no route is given (route=, --route)" if route is None else f"no route {quote(route)}"
        raise RouteError(f"{given}: {folder} has {', '.join(routes) or 'no routes, leave it out'}")


def _weights_sha256(folder: RunFolder, checkpoint: str) -> str:
    try:
        files: dict[str, str] = read_facts(folder.checkpoints, checkpoint).get("files", {})
    except CheckpointError:
        return ""
    return files.get("model.safetensors", "")
