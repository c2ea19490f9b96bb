"""Clean and robust accuracy, where each route is attacked and images are scored through each route."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn.arguments import a_device, a_whole_number
from robustsabn.attacks import PGD, attack_mode
from robustsabn.attacks.autoattack.majority import LEAST, MOST
from robustsabn.attacks.model.logits import Gate
from robustsabn.attacks.model.outputs import kind_in_words, looks_like
from robustsabn.data import ImageSet
from robustsabn.errors import ConfigError, ModelError, RouteError
from robustsabn.routing import maybe_route, routes_of
from robustsabn.scalars import LARGEST, real
from robustsabn.text import quote
from robustsabn.trainers.adversarial.evaluation.accuracies import Evaluation
from robustsabn.trainers.adversarial.evaluation.images import evaluated
from robustsabn.trainers.adversarial.evaluation.scoring import Scores, VotedScores, is_random
from robustsabn.trainers.adversarial.evaluation.trained_routes import trained_routes
from robustsabn.trainers.adversarial.runs.models import LoadedRun, load_run, load_run_config
from robustsabn.trainers.adversarial.step.adversarial_step import build_attack
from robustsabn.trainers.given import named
from robustsabn.trainers.loop.draws import generator
from robustsabn.trainers.loop.precision import tensor_float32
from robustsabn.trainers.runs.folder import RunFolder
from robustsabn.user_code import kept_alive

__all__ = [
    "Evaluation",
    "evaluate",
    "evaluate_run",
    "known_routes",
    "parse_attack",
    "requested_routes",
    "starting_noise",
]

_VOTED = (
    "the model is random, its logits for the same images change from call to call: clean and attacked "
    f"images are scored by the majority of {LEAST} to {MOST} calls"
)


@kept_alive(ModelError)
def evaluate(
    model: nn.Module,
    images: ImageSet,
    attack: PGD,
    *,
    restarts: int = 1,
    attacked: Sequence[str] | None = None,
    routes: Sequence[str] | None = None,
    batch_size: int = 500,
    seed: int = 0,
    device: torch.device | str = "cpu",
    rank: int = 0,
    world: int = 1,
    reduce: Callable[[Tensor], Tensor] = lambda counts: counts,
    classified: Callable[[Tensor, Tensor], object] | None = None,
) -> Evaluation:
    """Clean accuracy and accuracy under `attack` of `model` on `device`, in float32 and eval mode.

    - images: an `ImageSet`, such as `robustsabn.data.load("digits").test`.
    - restarts: runs of the attack; an image counts if it is classified correctly in all of them. With
      several, a random model is judged once by majority, on the clean image and on the run with the lowest
      margin.
    - attacked, routes: the routes that are attacked, and those through which images are scored; all by
      default.
    - seed: the random start of an image depends only on (seed, its id in the set, run).
    - rank, world, reduce: with several processes each takes every `world`-th image, and `reduce` sums a
      tensor over them.
    - classified: gets the labels (n,) and the predictions (n,) of each batch, after the attack through the
      last attacked route, through the last of `routes`; -1 for a random model.

    Modules keep their modes. Raises RouteError for unknown routes, and InputError for outputs that are not
    logits.

    Example:

        >>> from robustsabn.attacks import PGD, ThreatModel
        >>> from robustsabn.data import load
        >>> from robustsabn.models import build
        >>> from robustsabn.trainers import evaluate
        >>> images = load("digits").test.sample(16)
        >>> model = build("resnet-digits", num_classes=10, in_channels=1).eval()
        >>> measured = evaluate(model, images, PGD(ThreatModel("Linf", 0.1), steps=1))
        >>> measured.attack, list(measured.clean), measured.n
        ('pgd-1', ['all'], 16)
    """
    scored = known_routes(model, routes)
    through = known_routes(model, attacked if attacked is not None else routes)
    gate = Gate(model, torch.empty(0, device=device), int(images.labels.max()))
    shape = (1 + len(through), len(scored))
    counts = torch.zeros(math.prod(shape) + 2, dtype=torch.long, device=device)
    kind: type[Scores] | None = Scores if restarts == 1 else None
    with attack_mode(model):
        for indices in torch.split(torch.arange(rank, len(images), world), batch_size):
            x, y = images.batch(indices, device)
            if kind is None:  # decided on the first batch
                kind = VotedScores if is_random(model, gate, x, scored) else Scores
            batch = kind(model, gate, x, y, scored, shape[0])
            batch.score(0, x)
            for run in range(restarts):
                delta0 = starting_noise(attack, x, images.ids[indices.cpu()], seed, run)
                for i, source in enumerate(through, 1):
                    # images that are wrong through every route need no further attack
                    left = batch.right[i].any(0).nonzero()[:, 0]
                    if left.numel():
                        with maybe_route(model, source):
                            x_adv = attack(model, x[left], y[left], delta0=delta0[left])
                        batch.score(i, x_adv, left)
            batch.close()
            if classified is not None:
                classified(y, batch.predicted)
            counts[:-1] += torch.cat([batch.right.sum(-1).flatten(), batch.unusable.sum()[None]])
    counts[-1] = kind is VotedScores
    *hits, unusable, voted = reduce(counts).tolist()
    rates = (torch.tensor(hits, dtype=torch.float64).view(shape) / len(images)).tolist()
    size = attack.threat.eps_max * 2.5 / attack.steps if attack.step_size is None else attack.step_size
    return Evaluation(
        n=len(images),
        clean=dict(zip(scored, rates[0], strict=True)),
        robust={a: dict(zip(scored, row, strict=True)) for a, row in zip(through, rates[1:], strict=True)},
        attack=f"pgd-{attack.steps}" + (f"-{restarts}" if restarts > 1 else ""),
        norm=attack.threat.norm,
        eps=attack.threat.eps_max,
        step_size=float(size.max()) if isinstance(size, Tensor) else size,
        unusable=unusable,
        notes=(_VOTED,) if voted else (),
    )


def evaluate_run(
    run: str | Path,
    *,
    checkpoint: str = "best",
    route: str = "all",
    attack: str = "pgd-20",
    step_size: float | None = None,
    n: int | None = None,
    device: torch.device | str | None = None,
    batch_size: int = 500,
    data: Any = None,
    seed: int = 0,
    network: nn.Module | None = None,
) -> Evaluation:
    """Clean and PGD accuracy of a run on `n` test images of its data set (all by default), or of `data`.

    - checkpoint: "best", "last", "ema" or "swa".
    - route: the name of a route, or "all" routes that the method trains.
    - attack: "pgd-STEPS" or "pgd-STEPS-RESTARTS", with the threat model of the training.
    - step_size: in image units; by default that of the training.
    - data: as that of `train`; network: as that of `load_run_model`.

    Raises ConfigError for another attack, and CheckpointError, DataError or RouteError for a run, data or
    route that does not exist or cannot be read.

    Example, after that of `train`:

        >>> from robustsabn.trainers import evaluate_run
        >>> measured = evaluate_run("runs/tiny", attack="pgd-1", n=16)
        >>> measured.attack, list(measured.robust)
        ('pgd-1', ['clean', 'adv'])
    """
    batch_size = a_whole_number("batch_size", batch_size, ConfigError)
    seed = a_whole_number("seed", seed, ConfigError, 0, LARGEST)
    if step_size is not None and not 0 < (real(step_size) or 0.0) < math.inf:
        raise ConfigError(f"step_size must be positive, such as 2 / 255; got {quote(step_size)}")
    chosen_device = None if device is None else a_device(device, ConfigError)
    steps, restarts = parse_attack(attack)
    folder = RunFolder(run).path
    config = load_run_config(folder)
    training = config.attack if step_size is None else replace(config.attack, step_size=step_size)
    if restarts > 1 and training.start == "none":
        raise ConfigError(
            f"attack {attack}: this run's attack starts at the image itself (attack.start: none), so "
            f"restarts would repeat one run; use pgd-{steps}"
        )
    device = torch.device(
        chosen_device or ("cuda" if torch.cuda.is_available() and config.device != "cpu" else "cpu")
    )
    loaded = load_run(folder, checkpoint, network)
    images = evaluated(loaded, named({"data": data})["data"], n)
    with tensor_float32(False):
        measured = evaluate(
            loaded.model.to(device),
            images.images.to(device),
            build_attack(training, steps),
            restarts=restarts,
            routes=requested_routes(loaded, route),
            batch_size=batch_size,
            seed=seed,
            device=device,
        )
        probabilities = _say_probabilities(loaded.model, images.images, batch_size, device)
    return measured.noted((*images.notes, *probabilities, *measured.notes), len(loaded.classes))


@torch.no_grad()
def _say_probabilities(
    model: nn.Module, images: ImageSet, batch_size: int, device: torch.device
) -> list[str]:
    """A note if the outputs look like probabilities, from one batch through the first route."""
    x, _ = images.batch(torch.arange(min(batch_size, len(images))), device)
    gate = Gate(model, x)
    with attack_mode(model), maybe_route(model, known_routes(model, None)[0]):
        note = kind_in_words(int(looks_like(gate(x), gate.precision)), gate, x)
    return [note[1]] if note else []


def requested_routes(run: LoadedRun, route: str) -> tuple[str, ...]:
    """The routes that `route` selects: one by name, or "all" that were trained.

    Raises RouteError for an unknown name.
    """
    if not isinstance(route, str):
        raise RouteError(f"route is {quote(route)}; give a route's name, or all")
    chosen = trained_routes(run.config.method, run.model) if route == "all" else (route,)
    return known_routes(run.model, chosen or None)


def parse_attack(text: str) -> tuple[int, int]:
    """Steps and restarts of "pgd-20" or "pgd-50-10"; ConfigError for anything else."""
    match = re.fullmatch(r"pgd-([1-9]\d{0,8})(?:-([1-9]\d{0,8}))?", text) if isinstance(text, str) else None
    if match is None:
        raise ConfigError(
            f"attack {quote(text)} is unknown; write pgd-STEPS or pgd-STEPS-RESTARTS, for example pgd-20 or "
            "pgd-50-10"
        )
    return int(match[1]), int(match[2] or 1)


def starting_noise(attack: PGD, x: Tensor, ids: Tensor, seed: int, run: int = 0) -> Tensor:
    """A starting perturbation for each of x (n, C, H, W), which depends only on (seed, id, run)."""
    like, index = x[:1].cpu(), (run,) if run else ()
    draws = [
        attack.threat.noise(like, attack.start, generator("cpu", seed, "evaluate", i, *index))
        for i in ids.tolist()
    ]
    return torch.cat(draws).to(x.device)


def known_routes(model: nn.Module, routes: Sequence[str] | None) -> tuple[str, ...]:
    """Return `routes`, by default all; ("all",) for a model without routes. Raises RouteError for others."""
    names = routes_of(model) or ("all",)
    unknown = [name for name in routes or () if name not in names]
    if unknown:
        raise RouteError(f"no route {quote(unknown[0])}: this model has {', '.join(names)}")
    return names if routes is None else tuple(routes)
