"""Images of chosen classes from a generator or from a run; no data set is needed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import robustsabn.config
from robustsabn.errors import CheckpointError
from robustsabn.routing import Blend, route, routes_of
from robustsabn.routing.selections import Selection
from robustsabn.text import quote, shorten
from robustsabn.trainers.checkpoints.edited import trained_with
from robustsabn.trainers.checkpoints.files import read
from robustsabn.trainers.checkpoints.state import check_state, checked, fill, images_of, is_whole
from robustsabn.trainers.gan.config import GanConfig
from robustsabn.trainers.gan.networks import build_pair
from robustsabn.trainers.loop.compiling import uncompiled
from robustsabn.trainers.runs.folder import RunFolder

__all__ = [
    "LoadedGenerator",
    "between_classes",
    "between_latents",
    "evaluating",
    "generated",
    "latents",
    "load_generator",
    "sample",
]


@dataclass(frozen=True)
class LoadedGenerator:
    """A trained generator on the CPU in eval mode, with its configuration.

    `shape` is the image shape (C, H, W), `step` the number of training steps.
    """

    config: GanConfig
    generator: nn.Module
    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    step: int
    checkpoint: str
    present: tuple[int, ...]
    """The classes that had training images."""


def load_generator(folder: str | Path, checkpoint: str | None = None) -> LoadedGenerator:
    """Load the generator of a run of a GAN, by default from `ema`, else `best`, else `last`.

    Raises CheckpointError if there is no such run or checkpoint, if the run is not a GAN, or if a file is
    truncated or altered.
    """
    place = RunFolder(folder)
    config = _config(place)
    kept = [name for name in ("ema", "best") if (place.checkpoints / name).is_dir()]
    chosen = checkpoint or (kept or ["last"])[0]
    stored = read(place.checkpoints, chosen)
    classes, shape = images_of(checked(stored.state, place.checkpoints / chosen), place.checkpoints / chosen)
    generator = build_pair(config, len(classes), shape).generator
    words = f"{folder}: the {chosen} checkpoint, of {len(classes)} classes"
    fill(generator, stored.tensors["generator"], f"{words}, does not fit the model {quote(config.model)}")
    present = _present(stored.state, len(classes), place.checkpoints / chosen)
    return LoadedGenerator(config, generator.eval(), classes, shape, stored.state["step"], chosen, present)


def _present(state: dict[str, Any], classes: int, file: Path) -> tuple[int, ...]:
    """The classes that had training images; all if the checkpoint does not state them."""
    if "present" not in state:
        return tuple(range(classes))

    def valid(value: Any) -> bool:
        return isinstance(value, list) and len(value) > 0 and all(is_whole(k) and k < classes for k in value)

    check_state(state, file, {"present": valid})
    return tuple(state["present"])


def _config(place: RunFolder) -> GanConfig:
    task = place.written_config().get("task", "adversarial")
    if task != "gan":
        raise CheckpointError(
            f"{place.path} is a run of the task {shorten(task)}, which generates no "
            "images; give the run of a GAN, such as that of `robustsabn train gan-digits`"
        )
    return robustsabn.config.load(GanConfig, trained_with(place, GanConfig))


def latents(generator: nn.Module, n: int, seed: int = 0, truncation: float | None = None) -> Tensor:
    """Standard normal z (n, latent_dim) on the CPU, which depends only on (n, seed).

    With `truncation`, numbers are drawn from the normal distribution between -truncation and truncation:
    images are better but less varied. Brock et al., ICLR 2019.
    """
    source = torch.Generator().manual_seed(seed)
    z = torch.randn(n, int(generator.latent_dim), generator=source)  # type: ignore[arg-type]
    if truncation is None:
        return z
    bound = torch.erf(torch.tensor(truncation / 2**0.5, dtype=torch.float64))
    uniform = 2 * torch.rand(z.shape, generator=source, dtype=torch.float64) - 1
    # the inverse of the distribution function, between -truncation and truncation
    return (2**0.5 * torch.erfinv(uniform * bound)).to(z.dtype).clamp(-truncation, truncation)


def sample(
    generator: nn.Module,
    classes: Tensor,
    *,
    seed: int = 0,
    truncation: float | None = None,
    batch_size: int = 250,
) -> Tensor:
    """Images (N, C, H, W) in [0, 1] of `classes` (N,) int64, on the CPU.

    They depend only on the weights, the classes and the seed.
    """
    return generated(generator, latents(generator, len(classes), seed, truncation), classes, batch_size)


def generated(generator: nn.Module, z: Tensor, selection: Selection, batch_size: int = 250) -> Tensor:
    """Images (N, C, H, W) in [0, 1] from z (N, latent_dim), on the CPU.

    `selection` has a class for each z, or one for all.
    """
    device = next(generator.parameters()).device
    images, each = [], isinstance(selection, Tensor)
    with evaluating(generator), torch.no_grad():
        for start in range(0, len(z), batch_size):
            rows = slice(start, start + batch_size)
            chosen = selection[rows].to(device) if isinstance(selection, Tensor) and each else selection
            with route(generator, chosen):
                images.append(generator(z[rows].to(device)).float().cpu())
    return ((torch.cat(images) + 1) / 2).clamp(0, 1)


def between_classes(generator: nn.Module, z: Tensor, first: int, last: int, steps: int) -> Tensor:
    """Images from z (N, latent_dim), interpolated from class `first` to `last` by `Blend`.

    Returns (N, steps, C, H, W) in [0, 1], on the CPU.
    """
    columns = []
    for i in range(steps):
        share = i / max(steps - 1, 1)
        weights = torch.zeros(len(routes_of(generator)), device=next(generator.parameters()).device)
        weights[first] += 1 - share
        weights[last] += share
        columns.append(generated(generator, z, Blend(weights)))
    return torch.stack(columns, 1)


def between_latents(generator: nn.Module, ends: Tensor, classes: Tensor, steps: int) -> Tensor:
    """Images interpolated between two latents, `ends` (2, N, latent_dim), of `classes` (N,).

    Returns (N, steps, C, H, W) in [0, 1], on the CPU. The interpolation follows the great circle, so every z
    is as far from 0 as those in training. White 2016.
    """
    a, b = ends
    angle = torch.nn.functional.cosine_similarity(a, b, dim=1).clamp(-1, 1).acos()[:, None]
    columns = []
    for i in range(steps):
        share = i / max(steps - 1, 1)
        z = (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)
        columns.append(generated(generator, z, classes))
    return torch.stack(columns, 1)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put `model` into eval mode without torch.compile inside the block, and restore all modes after it."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with uncompiled(model):
            yield
    finally:
        for module, training in modes.items():
            module.training = training
