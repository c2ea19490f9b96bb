"""Networks by specification, such as `nets.py:make` or `torchvision:resnet18`."""

import copy
import importlib
from pathlib import Path

from torch import Tensor, nn

from robustsabn.arguments import a_whole_number
from robustsabn.config.given import is_given, recall
from robustsabn.errors import ModelError
from robustsabn.models.factory import from_code
from robustsabn.models.libraries import from_timm, from_torchvision, normalized
from robustsabn.models.normalize import Normalize
from robustsabn.models.registry import build, names
from robustsabn.models.weights import fill, read_weights
from robustsabn.paths import given_path, sweep_runs
from robustsabn.text import nearest, one_line, quote
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

    - spec: one of `SPECS`, or a name of `robustsabn.models.names()`. Networks of torchvision and timm become
      a Sequential of their normalisation, `normal`, and the network, `model`.
    - weights: a file for `load_weights`; for torchvision and timm, of the network without the normalisation.
    - num_classes, in_channels: for a network that is built here; by default those of `weights`, else of the
      builder (10 and 3 for a registered name). A FUNCTION gets those that are given, if it has parameters for
      them.

    Raises ModelError if the network cannot be made, MissingExtraError without timm, and CheckpointError for a
    damaged run.
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
    """As `resolve`, but every module keeps its mode; `fresh_head` is that of `load_weights`."""
    if not isinstance(spec, str):
        raise ModelError(f"the model is {quote(spec)}; give text: {SPECS}, {', '.join(names())}")
    if (folder := run_folder(spec, weights)) is not None:
        # imported by name and late, since trainers depend on this package
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
    if is_given(spec):
        return _own_copy(spec), None
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


def _own_copy(spec: str) -> nn.Module:
    """A copy of a network that was given as an object, with its weights."""
    try:
        own: nn.Module = copy.deepcopy(recall(spec, ModelError))
    except (TypeError, RuntimeError) as error:
        raise ModelError(
            f"{spec} cannot be copied ({one_line(error)}); give a function that builds it: net.py:FUNCTION"
        ) from error
    return own


def run_folder(spec: str, weights: str | Path | None = None) -> Path | None:
    """The run folder that `spec` names; None if it names no folder.

    Raises ModelError for a folder that is not a run, and for `weights` together with a run.
    """
    if not spec or not (folder := given_path(spec, "the model", ModelError)).is_dir():
        return None
    if (seeds := sweep_runs(folder)) != []:
        raise ModelError(f"{folder} is a sweep; give one of its runs, such as {seeds[0]}")
    if not (folder / "config.yaml").is_file() or not (folder / "checkpoints").is_dir():
        raise ModelError(
            f"{folder} is not a run folder: it has no config.yaml or no checkpoints; give a folder that "
            "train wrote"
        )
    if weights is not None:
        raise ModelError(
            f"the run {folder} has its own weights; leave out {weights}, or give the network instead of the "
            "run"
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
