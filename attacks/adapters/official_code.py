"""The official AutoAttack code, if it is installed, with our report."""

import importlib
import importlib.metadata
import importlib.util
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from robustsabn.attacks.adapters.network import Network, undisturbed
from robustsabn.attacks.adapters.tally import Tally
from robustsabn.attacks.counts import positive, seed_of
from robustsabn.attacks.model.inputs import check_threat
from robustsabn.attacks.model.logits import Model
from robustsabn.attacks.report import Flag, Report
from robustsabn.attacks.threat import ThreatModel
from robustsabn.errors import InputError, MissingExtraError
from robustsabn.text import quote

__all__ = ["official"]

PACKAGES = ("pyautoattack", "autoattack")  # the code as published on PyPI, and as installed from GitHub
VERSIONS = ("standard", "plus", "rand", "custom")
ATTACKS = ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t")
SQUARE_ALONE = 0.002  # share of the samples above which the official code warns


@torch.inference_mode(False)
def official(
    model: Model,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    *,
    version: str = "standard",
    attacks: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int = 250,
    ids: Tensor | None = None,
) -> Report:
    """The report of the installed official AutoAttack on images x (N, C, H, W) in [0, 1] with labels y (N,).

    Each attack of `version` runs on the samples that are still robust, `batch_size` at a time; `attacks`
    names them for version "custom". Successes are verified like those of our own attacks. With fewer than ten
    classes all other classes are targets. Model, random states and gradients are the same afterwards. `ids`
    (N,) number the samples. Raises MissingExtraError without pyautoattack or autoattack, and InputError for
    what they cannot attack."""
    package = _package()
    order = _check(x, threat, version, attacks)
    network, seed, (batch_size,) = Network(model, x), seed_of(seed), positive(batch_size=batch_size)
    tally = Tally(network, x, y, threat, batch_size, rand=version == "rand")
    x, y = tally.x, tally.y
    _check_classes(order, tally.classes)
    messages: list[str] = []
    with undisturbed(network, x.device, seed) as printed, _listening(messages):
        engine = importlib.import_module(package).AutoAttack(
            network, norm=threat.norm, eps=threat.eps_max, seed=seed, version=version, device=x.device
        )
        order = order or tuple(engine.attacks_to_run)
        for attack in (engine.apgd_targeted, engine.fab):
            attack.n_target_classes = min(attack.n_target_classes, tally.classes - 1)
        for name in order:
            rows = tally.robust.nonzero()[:, 0]
            if not len(rows):
                break
            network.eval()
            tally.take(name, rows, *_attack(engine, package, name, x[rows], y[rows], batch_size))
        messages += [line for line in printed.getvalue().splitlines() if line.lower().startswith("warning")]
    flags = tuple(
        Flag(name="official", severity="warning", count=0, ids=(), message=line)
        for line in dict.fromkeys(messages)
    )
    return tally.report(
        engine="official",
        version=version,
        seed=seed,
        ids=ids,
        versions={package: importlib.metadata.version(package)},
        flags=flags + _square_alone(tally, ids),
    )


def _attack(
    engine: Any, package: str, name: str, x: Tensor, y: Tensor, batch_size: int
) -> tuple[Tensor, float]:
    engine.attacks_to_run = [name]
    size = {"batch_size" if package == "pyautoattack" else "bs": batch_size}
    began = time.perf_counter()
    result = engine.run_standard_evaluation(x, y, **size)
    return result[0] if isinstance(result, tuple) else result, time.perf_counter() - began


def _package() -> str:
    installed = next((name for name in PACKAGES if importlib.util.find_spec(name) is not None), None)
    if installed is None:
        raise MissingExtraError(
            "the official AutoAttack is not installed; pip install 'robustsabn[pyautoattack]'"
        )
    return installed


def _check(x: Tensor, threat: ThreatModel, version: str, attacks: Sequence[str] | None) -> tuple[str, ...]:
    check_threat(threat)
    if not isinstance(version, str) or version not in VERSIONS:
        raise InputError(f"the official code has no version {quote(version)}; it has {', '.join(VERSIONS)}")
    if attacks is not None and (isinstance(attacks, (str, bytes)) or not isinstance(attacks, Sequence)):
        raise InputError(f"attacks are {quote(attacks)}; give a list of names, such as ['apgd-ce', 'square']")
    if (version == "custom") != bool(attacks):
        raise InputError(
            f"version is {quote(version)} and attacks are {attacks}; give attacks together with version "
            "'custom', and with no other version"
        )
    if unknown := [name for name in attacks or () if name not in ATTACKS]:
        raise InputError(f"the official code has no attack {quote(unknown[0])}; it has {', '.join(ATTACKS)}")
    if isinstance(threat, ThreatModel) and (isinstance(threat.eps, Tensor) or threat.bounds != (0, 1)):
        raise InputError("the official code takes only one eps for all images, and only bounds (0, 1)")
    if x.ndim != 4:
        raise InputError(
            f"the official code takes images (N, C, H, W), not {tuple(x.shape)}; use engine robustsabn"
        )
    return tuple(attacks or ())


def _check_classes(order: tuple[str, ...], classes: int) -> None:
    least = 4 if not order or "apgd-t" in order else 3 if "apgd-dlr" in order else 2
    if classes < least:
        raise InputError(
            f"the model has {classes} classes, but the official code's loss needs {least}; use engine "
            "robustsabn"
        )


def _square_alone(tally: Tally, ids: Tensor | None) -> tuple[Flag, ...]:
    index = next((i for i, cost in enumerate(tally.costs) if cost.name == "square"), -1)
    rows = (tally.broken_by == index).nonzero()[:, 0].cpu() if index > 0 else torch.empty(0)
    if len(rows) <= SQUARE_ALONE * len(tally.y):
        return ()
    numbers = tuple((rows if ids is None else ids.cpu()[rows]).tolist())
    message = (
        f"Square broke {len(rows)} images that gradient attacks could not break: gradients may be masked. "
        "Run Square longer, or an attack made for this defence."
    )
    return (Flag(name="square-only", severity="warning", count=len(rows), ids=numbers, message=message),)


@contextmanager
def _listening(messages: list[str]) -> Iterator[None]:
    """Collects the warnings that the official code logs."""
    logger = logging.getLogger("auto-attack")
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    propagate, level = logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        logger.setLevel(level)
