"""Fréchet distance, kernel distance and inception score of features, by torchmetrics."""

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from robustsabn import _torchvision
from robustsabn.errors import InputError, MissingExtraError
from robustsabn.metrics.quality import Spread

__all__ = ["Frechet", "enough", "inception_score", "kernel_distance", "require_torchmetrics"]

SUBSETS = 100
SUBSET = 1000
SPLITS = 10
ALONE: dict[str, Any] = {"sync_on_compute": False}
"""A process measures what it has: torchmetrics would wait for the others of a run."""


class _Passed(nn.Module):
    """What torchmetrics takes for an extractor: the features were extracted before."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = width  # or it tries the module on an image of 299 x 299

    def forward(self, features: Tensor) -> Tensor:
        return features


class Frechet:
    """Fréchet distance ||m1 - m2||^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) to the `real` features (N, D).

    The moments of the real features are kept; sums are float64. Heusel et al. 2017, "GANs Trained by a Two
    Time-Scale Update Rule"."""

    def __init__(self, real: Tensor, what: str = "real images") -> None:
        enough(len(real), real.shape[1], what)
        with _library("fid") as library:
            self.metric = library.FrechetInceptionDistance(
                _Passed(real.shape[1]), reset_real_features=False, **ALONE
            )
        self.metric.update(real.double(), real=True)

    def __call__(self, features: Tensor, what: str = "images") -> float:
        """The distance; InputError if there are not more images than features."""
        enough(len(features), features.shape[1], what)
        self.metric.reset()
        self.metric.update(features.double(), real=False)
        return float(self.metric.compute())


def enough(n: int, width: int, what: str) -> None:
    """Raise InputError if a covariance of `width` features of n images cannot have full rank."""
    if n <= width:
        raise InputError(
            f"{what}: a Fréchet distance in {width} features needs more than {width} images, and there are "
            f"{n}; give more images, or an extractor of fewer features"
        )


def kernel_distance(features: Tensor, real: Tensor, seed: int = 0) -> tuple[Spread, int]:
    """Squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, unbiased, and the size of the
    subsets.

    Mean and deviation over `SUBSETS` subsets of `SUBSET` images, or fewer if there are not as many, drawn by
    `seed`. Binkowski et al. 2018, "Demystifying MMD GANs"."""
    size = min(SUBSET, len(features), len(real))
    with _library("kid", seed) as library:
        metric = library.KernelInceptionDistance(
            _Passed(real.shape[1]),
            subsets=1 if size == len(features) == len(real) else SUBSETS,
            subset_size=size,
            **ALONE,
        )
        metric.update(real, real=True)
        metric.update(features, real=False)
        mean, deviation = metric.compute()
    return Spread(float(mean), float(deviation)), size


def inception_score(logits: Tensor, seed: int = 0, splits: int = SPLITS) -> Spread:
    """Inception score, exp(mean KL(p(y|x) || p(y))): mean and deviation over `splits` parts drawn by `seed`.

    Salimans et al. 2016, "Improved Techniques for Training GANs".
    """
    with _library("inception", seed) as library:
        metric = library.InceptionScore(_Passed(logits.shape[1]), splits=splits, **ALONE)
        metric.update(logits.double())
        mean, deviation = metric.compute()
    return Spread(float(mean), float(deviation) if splits > 1 else 0.0)


@contextmanager
def _library(name: str, seed: int = 0) -> Iterator[Any]:
    """The module of torchmetrics; inside the block torch's generator starts at `seed`."""
    require_torchmetrics()
    _torchvision.load()  # torchmetrics imports it
    with torch.random.fork_rng([]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        yield importlib.import_module(f"torchmetrics.image.{name}")


def require_torchmetrics() -> None:
    """Raise MissingExtraError if torchmetrics is not installed."""
    if find_spec("torchmetrics") is None:
        raise MissingExtraError("torchmetrics is not installed; pip install 'robustsabn[gan]'")
