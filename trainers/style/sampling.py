"""Loads the network of a run; no data set is needed."""

from dataclasses import dataclass
from pathlib import Path

import robustsabn.config
from robustsabn.errors import CheckpointError
from robustsabn.models.style import Stylizer
from robustsabn.text import quote, shorten
from robustsabn.trainers.checkpoints.edited import trained_with
from robustsabn.trainers.checkpoints.files import read
from robustsabn.trainers.checkpoints.state import check_state, checked, fill
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.trainers.style.config import StyleConfig
from robustsabn.trainers.style.networks import rebuild_network

__all__ = ["Loaded", "load_stylizer"]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A trained network on the CPU in eval mode, with the configuration of its run.

    `styles` are the names of its fixed styles, empty if styles are given as pictures. `step` is the number of
    training steps, `checkpoint` what was loaded.
    """

    stylizer: Stylizer
    styles: tuple[str, ...]
    config: StyleConfig
    step: int
    checkpoint: str


def load_stylizer(folder: str | Path, checkpoint: str | None = None, *, encoder: str | None = None) -> Loaded:
    """Load the network of a run of style transfer, by default from `ema`, else `best`, else `last`.

    A run contains no weights of its encoder, except what the random one needs: they are read from the file in
    its configuration, or from `encoder`, a specification, if the file has moved. Raises CheckpointError if
    there is no such run or checkpoint, if the encoder has other weights, or if a file is damaged.
    """
    place = RunFolder(folder)
    config = _config(place)
    kept = [name for name in ("ema", "best") if (place.checkpoints / name).is_dir()]
    chosen = checkpoint or (kept or ["last"])[0]
    stored = read(place.checkpoints, chosen)
    file = place.checkpoints / chosen
    state = checked(stored.state, file)
    check_state(state, file, {"styles": lambda names: isinstance(names, list)})
    stylizer = rebuild_network(config, state, place.path, encoder)
    fill(
        stylizer,
        stored.tensors["stylizer"],
        f"{folder}: the {chosen} checkpoint does not fit the norm {quote(config.norm)}",
    )
    return Loaded(
        stylizer=stylizer.eval().requires_grad_(False),
        styles=stylizer.styles,
        config=config,
        step=state["step"],
        checkpoint=chosen,
    )


def _config(place: RunFolder) -> StyleConfig:
    task = place.written_config().get("task", "adversarial")
    if task != "style":
        raise CheckpointError(
            f"{place.path} is a run of the task {shorten(task)}; give one of style transfer, such as that of "
            "`robustsabn train style-demo`"
        )
    return robustsabn.config.load(StyleConfig, trained_with(place, StyleConfig))
