"""Networks of adversarial training: building them, and loading them from a run folder."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

import robustsabn.config
from robustsabn.conversion.convert import convert
from robustsabn.data.specs import Seen
from robustsabn.errors import CheckpointError, ConfigError
from robustsabn.models import build, load_weights, names
from robustsabn.models.spec import as_made
from robustsabn.text import quote
from robustsabn.trainers.adversarial.config import TrainConfig
from robustsabn.trainers.checkpoints.edited import trained_with
from robustsabn.trainers.checkpoints.files import read
from robustsabn.trainers.checkpoints.state import checked, fill, images_of
from robustsabn.trainers.given import network_name
from robustsabn.trainers.methods import Method, unknown_method
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.tasks import TASKS

__all__ = [
    "LoadedRun",
    "build_model",
    "load_run",
    "load_run_config",
    "load_run_model",
]


@dataclass(frozen=True, kw_only=True)
class LoadedRun:
    """A trained network on the CPU in eval mode, with its configuration and data set.

    `shape` is the image shape (C, H, W), `step` the number of training steps, `digest` that of the data set.
    """

    config: TrainConfig
    model: nn.Module
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    step: int = 0
    digest: str | None = None

    @property
    def seen(self) -> Seen:
        """The data set that the network was trained on."""
        return Seen(self.config.data, self.classes, self.digest)

    def plain(self) -> nn.Module:
        """A new network of the architecture before conversion, without the trained weights."""
        config = replace(self.config, norm="none", sync_bn=False)
        with torch.random.fork_rng([]):
            return build_model(config, len(self.classes), self.shape, fresh=False)


def build_model(
    config: TrainConfig, classes: int, shape: tuple[int, int, int], fresh: bool = True
) -> nn.Module:
    """Build the network of a run for images of `shape` (C, H, W), and convert it.

    With `fresh`, it starts from the configured weights.
    """
    weights = config.weights if fresh else None
    head = classes if config.fresh_head else None
    if config.model in names():
        model = build(config.model, classes, shape[0], **config.model_options)
        if weights is not None:
            load_weights(model, weights, fresh_head=head)
    elif config.model_options:
        raise ConfigError(f"model_options are for {', '.join(names())}; {quote(config.model)} takes none")
    else:
        model = as_made(
            config.model, weights=weights, num_classes=classes, in_channels=shape[0], fresh_head=head
        )
    if config.norm == "none":
        if config.sync_bn:
            raise ConfigError(
                "sync_bn needs routed normalisation; norm: bn is plain batch normalisation with this option"
            )
        return model
    return convert(model, norm=config.norm, routes=config.routes, init=config.init, sync=config.sync_bn)


def load_run_config(folder: str | Path) -> TrainConfig:
    """The configuration of a run of adversarial training.

    A method of the user's own code is not imported: the configuration can be read and shown, but not trained
    with. Raises CheckpointError if there is no run, or one of another task.

    Example, after that of `train`:

        >>> from robustsabn.trainers import load_run_config
        >>> config = load_run_config("runs/tiny")
        >>> config.norm, config.steps
        ('saauxbn', 2)
    """
    place = RunFolder(folder)
    _check_task(place)
    written = trained_with(place, TrainConfig, _complete)
    placeholder = unknown_method(written.get("method"))
    if placeholder is None:
        return robustsabn.config.load(TrainConfig, written)
    del written["method"]
    return replace(robustsabn.config.load(TrainConfig, written), method=cast(Method, placeholder))


def _check_task(place: RunFolder) -> None:
    """Raise CheckpointError for a run of another task, without running code of the user."""
    written = place.written_config()
    task = written.get("task", TASKS[0])
    other = task in TASKS[1:] or (
        task != TASKS[0] and not set(written) <= {f.name for f in fields(TrainConfig)}
    )
    if other:
        raise CheckpointError(
            f"{place.path} is a run of the task {quote(task)}, not of adversarial training; `robustsabn "
            "compare` and `robustsabn report` read it"
        )


def _complete(written: dict[str, Any]) -> dict[str, Any]:
    """Add the defaults of missing keys; the method may be one that this process does not know."""
    if unknown_method(written.get("method")) is None:
        return robustsabn.config.to_dict(robustsabn.config.load(TrainConfig, written))
    rest = {key: value for key, value in written.items() if key != "method"}
    return {
        **robustsabn.config.to_dict(robustsabn.config.load(TrainConfig, rest)),
        "method": written["method"],
    }


def load_run(folder: str | Path, checkpoint: str = "best", network: nn.Module | None = None) -> LoadedRun:
    """Load a run's trained network with its configuration and data set. Raises as `load_run_model`."""
    config = load_run_config(folder)
    if network is not None and network_name(network) != config.model:
        raise CheckpointError(
            f"{folder} trained the network {config.model}, not {network_name(network)}; give one of the same "
            "layers, or leave it out if the configuration can build it"
        )
    stored = read(RunFolder(folder).checkpoints, checkpoint)
    place = RunFolder(folder).checkpoints / checkpoint
    classes, shape = images_of(checked(stored.state, place), place)
    with torch.random.fork_rng([]):
        model = build_model(config, len(classes), shape, fresh=False)
    what = f"{folder}: the {checkpoint} checkpoint does not fit the model {quote(config.model)}"
    fill(model, stored.tensors["model"], what)
    data_digest = stored.state.get("content", {}).get("data")
    return LoadedRun(
        config=config,
        model=model.eval(),
        classes=classes,
        shape=shape,
        step=stored.state["step"],
        digest=data_digest,
    )


def load_run_model(
    folder: str | Path, checkpoint: str = "best", network: nn.Module | None = None
) -> nn.Module:
    """The network that a run trained, with its routes, on the CPU and in eval mode.

    `checkpoint`: "best", "last", "ema" or "swa". `network`: for a run that was given its network as an object
    by another process, one of the same layers. It takes images (N, C, H, W) in [0, 1] and returns logits
    (N, K). Raises CheckpointError if there is no such run or checkpoint, or if a file is truncated or
    altered.

    Example, after that of `train`:

        >>> import torch
        >>> from robustsabn import route
        >>> from robustsabn.trainers import load_run_model
        >>> model = load_run_model("runs/tiny")
        >>> with route(model, "adv"):
        ...     model(torch.rand(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """
    return load_run(folder, checkpoint, network).model
