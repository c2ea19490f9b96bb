"""Clean and robust accuracy: clean images through each route, attacks through each route scored through each."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn.attacks import PGD
from robustsabn.data import ImageSet, load_test
from robustsabn.errors import ConfigError, DataError, RouteError
from robustsabn.routing import maybe_route, routes_of
from robustsabn.trainers.bench import build_attack
from robustsabn.trainers.randomness import generator
from robustsabn.trainers.runs import LoadedRun, load_run, load_run_config

__all__ = ["Evaluation", "evaluate", "evaluate_run", "starting_noise"]


@dataclass(frozen=True)
class Evaluation:
    """Accuracies in [0, 1] on `n` images.

    `clean[r]`: clean images through route r. `robust[a][r]`: images attacked through route a, scored through route r.
    A model without routes has the one route "all".
    """

    n: int
    clean: dict[str, float]
    robust: dict[str, dict[str, float]]
    attack: str
    norm: str
    eps: float

    @property
    def routes(self) -> tuple[str, ...]:
        return tuple(self.clean)

    @property
    def clean_accuracy(self) -> float:
        """Clean images through the first route."""
        return self.clean[self.routes[0]]

    @property
    def robust_accuracy(self) -> float:
        """Images attacked through the last route that was attacked, and scored through it."""
        last = list(self.robust)[-1]
        return self.robust[last][last]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and dictionaries, for JSON."""
        return asdict(self)


def evaluate(
    model: nn.Module,
    images: ImageSet,
    attack: PGD,
    *,
    attacked: Sequence[str] | None = None,
    routes: Sequence[str] | None = None,
    batch_size: int = 500,
    seed: int = 0,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world: int = 1,
    reduce: Callable[[Tensor], Tensor] = lambda counts: counts,
) -> Evaluation:
    """Clean accuracy and accuracy under `attack` of `model` on `device`, in float32 and eval mode.

    Attacks go through the routes `attacked`, scores through `routes`, all by default. The starting perturbation of an
    image depends on (seed, its id in the set) alone. With several processes each takes every `world`-th image and
    `reduce` sums a tensor over them. Modules keep their modes.
    """
    scored = _known(model, routes)
    through = _known(model, attacked if attacked is not None else routes)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    counts = torch.zeros(1 + len(through), len(scored), dtype=torch.long, device=device)
    try:
        for indices in torch.split(torch.arange(rank, len(images), world), batch_size):
            x, y = images.batch(indices, device)
            delta0 = starting_noise(attack, x, images.ids[indices.cpu()], seed)
            for i, source in enumerate((None, *through)):
                x_eval = x if source is None else _attacked(model, attack, x, y, delta0, source)
                for j, target in enumerate(scored):
                    with torch.no_grad(), _through(model, target):
                        counts[i, j] += (model(x_eval).argmax(1) == y).sum()
    finally:
        for module, mode in modes.items():
            module.training = mode
    rates = [[hits / len(images) for hits in row] for row in reduce(counts).tolist()]
    return Evaluation(
        len(images),
        dict(zip(scored, rates[0], strict=True)),
        {a: dict(zip(scored, row, strict=True)) for a, row in zip(through, rates[1:], strict=True)},
        f"pgd-{attack.steps}",
        attack.threat.norm,
        attack.threat.eps_max,
    )


def evaluate_run(
    run: str | Path,
    *,
    checkpoint: str = "best",
    route: str = "all",
    attack: str = "pgd-20",
    n: int | None = None,
    device: torch.device | str | None = None,
    batch_size: int = 500,
    data: str | None = None,
    seed: int = 0,
) -> Evaluation:
    """Clean and PGD accuracy of a run on `n` test images of its data set (all by default), or of `data`.

    `route` is a route's name or "all"; the ball is that of the run's training. Raises ConfigError for an attack other
    than pgd-STEPS, and CheckpointError, DataError or RouteError for what cannot be read or is not there.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
    match = re.fullmatch(r"pgd-([1-9]\d*)", attack)
    if match is None:
        raise ConfigError(f"attack {attack!r} is unknown; write pgd-STEPS, for example pgd-20")
    folder = Path(run)
    config = load_run_config(folder)
    images = load_test(data or config.data, n)
    device = torch.device(
        device or ("cuda" if torch.cuda.is_available() and config.device != "cpu" else "cpu")
    )
    loaded = load_run(folder, checkpoint)
    _check_fit(images, loaded, data or config.data)
    return evaluate(
        loaded.model.to(device),
        images.to(device),
        build_attack(config.attack, int(match[1])),
        routes=None if route == "all" else (route,),
        batch_size=batch_size,
        seed=seed,
        device=device,
    )


def starting_noise(attack: PGD, x: Tensor, ids: Tensor, seed: int) -> Tensor:
    """A starting perturbation for each of x (n, C, H, W), a function of (seed, id) whatever the batch."""
    like = x[:1].cpu()
    draws = [
        attack.threat.noise(like, attack.start, generator("cpu", seed, "evaluate", i)) for i in ids.tolist()
    ]
    return torch.cat(draws).to(x.device)


def _check_fit(images: ImageSet, run: LoadedRun, data: str) -> None:
    if images.shape != run.shape:
        raise DataError(f"{data} holds images (C, H, W) of {images.shape}; the run takes {run.shape}")
    if int(images.labels.max()) >= len(run.classes):
        raise DataError(
            f"{data} has the label {int(images.labels.max())}; the run knows 0 to {len(run.classes) - 1}, "
            f"{', '.join(run.classes[:10])}"
        )


def _attacked(model: nn.Module, attack: PGD, x: Tensor, y: Tensor, delta0: Tensor, source: str) -> Tensor:
    with _through(model, source):
        return attack(model, x, y, delta0=delta0)


def _through(model: nn.Module, name: str) -> Any:
    return maybe_route(model, name)


def _known(model: nn.Module, routes: Sequence[str] | None) -> tuple[str, ...]:
    names = routes_of(model) or ("all",)
    unknown = [name for name in routes or () if name not in names]
    if unknown:
        raise RouteError(f"no route {unknown[0]!r}: this model has {', '.join(names)}")
    return names if routes is None else tuple(routes)
