"""From a model spec, such as `nets.py:make` or `torchvision:resnet18`, to a network."""

import importlib
from pathlib import Path

from torch import Tensor, nn

from robustsabn.arguments import a_whole_number
from robustsabn.errors import ModelError
from robustsabn.models.factory import from_code
from robustsabn.models.libraries import from_timm, from_torchvision, normalized
from robustsabn.models.normalize import Normalize
from robustsabn.models.registry import build, names
from robustsabn.models.weights import fill, read_weights
from robustsabn.paths import given_path
from robustsabn.text import nearest, quote
from robustsabn.user_code import OwnCode

__all__ = ["SPECS", "as_made", "resolve", "run_folder"]

SPECS = "a run folder, path/to/file.py:FUNCTION, package.module:FUNCTION, torchvision:NAME, timm:NAME"


def resolve(
    spec: str,
    *,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
) -> nn.Module:
    """The network that `spec` names, in eval mode: images (N, C, H, W) in [0, 1] to logits.

    spec: one of `SPECS`, or a name of `robustsabn.models.names()`. Networks of torchvision and timm get the
    normalisation they were designed for in front, as `normal`, and are `model` behind it.
    weights: a file for `load_weights`; for torchvision and timm, of the network without the normalisation.
    num_classes, in_channels: of a network that is built here; by default as in `weights`, else the builder's own
    (10 and 3 for a registered name). A FUNCTION gets those that are given and that it has parameters for.
    Raises ModelError, MissingExtraError when timm is absent, and CheckpointError for a damaged run.
    """
    return as_made(spec, weights=weights, num_classes=num_classes, in_channels=in_channels).eval()


def as_made(
    spec: str,
    *,
    weights: str | Path | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    fresh_head: int | None = None,
) -> nn.Module:
    """As `resolve`, with every module in the mode in which the spec's code left it; `fresh_head` as for `load_weights`."""
    if not isinstance(spec, str):
        raise ModelError(f"the model is {quote(spec)}; give text: {SPECS}, {', '.join(names())}")
    if (folder := run_folder(spec, weights)) is not None:
        # by name and late: trainers stand above this package
        runs = importlib.import_module("robustsabn.trainers.adversarial.runs.models")
        trained: nn.Module = runs.load_run_model(folder, checkpoint="best")
        return trained
    for what, size in (("num_classes", num_classes), ("in_channels", in_channels)):
        if size is not None:
            a_whole_number(what, size, ModelError)
    state = None if weights is None else read_weights(weights)
    if spec in names():
        num_classes = num_classes or _size(state, "linear.weight", 0, default=10)
        in_channels = in_channels or _size(state, "conv1.weight", 1, default=3)
    model, normal = _fresh(spec, num_classes, in_channels)
    if state is not None and weights is not None:
        fill(model, state, weights, fresh_head=fresh_head)
    return model if normal is None else normalized(model, normal)


def _fresh(spec: str, num_classes: int | None, in_channels: int | None) -> tuple[nn.Module, Normalize | None]:
    source, _, name = spec.rpartition(":")
    if source == "torchvision":
        return from_torchvision(name, num_classes, in_channels)
    if source == "timm":
        return from_timm(name, num_classes, in_channels)
    if (code := OwnCode.split(spec)) is not None:
        return from_code(*code, num_classes=num_classes, in_channels=in_channels), None
    if spec in names() and num_classes and in_channels:
        return build(spec, num_classes, in_channels), None
    raise ModelError(f"unknown model {quote(spec)}{_hint(spec)}; allowed: {SPECS}, {', '.join(names())}")


def run_folder(spec: str, weights: str | Path | None = None) -> Path | None:
    """The run folder that `spec` names, None where it names no folder; ModelError for another folder, and `weights` to a run."""
    if not spec or not (folder := given_path(spec, "the model", ModelError)).is_dir():
        return None
    if not (folder / "config.yaml").is_file() or not (folder / "checkpoints").is_dir():
        raise ModelError(
            f"{folder} is not a run folder: it lacks config.yaml or checkpoints; give the folder that train wrote"
        )
    if weights is not None:
        raise ModelError(
            f"the run {folder} has its own weights; leave out {weights}, or name the network instead"
        )
    return folder


def _size(state: dict[str, Tensor] | None, key: str, dim: int, *, default: int) -> int:
    tensor = None if state is None else next((v for k, v in state.items() if k.endswith(key)), None)
    return default if tensor is None or tensor.dim() <= dim else tensor.shape[dim]


def _hint(spec: str) -> str:
    if spec.endswith(".py"):
        return f"; name its function: {spec}:FUNCTION"
    if "/" in spec:
        return "; there is no such folder"
    return nearest(spec, names())
