"""Overlap of images and real ones in the features, by distances to nearest neighbours."""

import torch
from torch import Tensor

from robustsabn import _torchvision

__all__ = ["density_coverage", "precision_recall"]

CHUNK = 2000


def precision_recall(features: Tensor, real: Tensor, neighbours: int = 3) -> tuple[float, float]:
    """Precision and recall: shares of images (N, D) in the manifold of real ones (M, D), and of real ones in
    theirs.

    A manifold is the union of balls that reach to the `neighbours`-th nearest image of the same kind.
    Computed by torch-fidelity; raises MissingExtraError without it. Kynkaanniemi et al. 2019, "Improved
    Precision and Recall Metric for Assessing Generative Models"."""
    package = _torchvision.load_optional(
        "torch_fidelity.metric_prc",
        "precision and recall need torch-fidelity; pip install 'robustsabn[fidelity]'",
    )
    values = package.prc_features_to_metric(
        features, real, prc_neighborhood=neighbours, prc_batch_size=CHUNK, save_cpu_ram=True, verbose=False
    )
    return float(values["precision"]), float(values["recall"])


def density_coverage(features: Tensor, real: Tensor, neighbours: int = 5) -> tuple[float, float]:
    """Density: mean number of real balls around an image (N, D), divided by `neighbours`; and coverage.

    Coverage is the share of real images (M, D) whose ball contains an image. A ball reaches to the
    `neighbours`-th nearest real image. Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics for
    Generative Models"."""
    inside, covered = 0, 0
    for part in torch.split(real, CHUNK):
        radius = (
            torch.cdist(part, real).kthvalue(neighbours + 1, dim=1).values
        )  # the first is the image itself
        within = torch.cat(
            [torch.cdist(part, other) < radius[:, None] for other in torch.split(features, CHUNK)], 1
        )
        inside += int(within.sum())
        covered += int(within.any(1).sum())
    return inside / (neighbours * len(features)), covered / len(real)
