"""Whether images lie among the real ones, and real ones among them: by distances to nearest neighbours in the features."""

import torch
from torch import Tensor

from robustsabn import _torchvision
from robustsabn.errors import MissingExtraError

__all__ = ["density_coverage", "precision_recall"]

CHUNK = 2000


def precision_recall(features: Tensor, real: Tensor, neighbours: int = 3) -> tuple[float, float]:
    """Shares of images (N, D) inside the manifold of the real ones (M, D), and of real ones inside that of the images.

    A manifold is the union of balls that reach to the `neighbours`-th nearest image of the same kind. By torch-fidelity.
    Kynkaanniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative Models". Raises
    MissingExtraError without torch-fidelity.
    """
    _torchvision.load()  # torch-fidelity imports it
    try:
        from torch_fidelity.metric_prc import prc_features_to_metric
    except ImportError as error:
        raise MissingExtraError(
            "precision and recall need torch-fidelity; pip install 'robustsabn[fidelity]'"
        ) from error
    found = prc_features_to_metric(
        features, real, prc_neighborhood=neighbours, prc_batch_size=CHUNK, save_cpu_ram=True, verbose=False
    )
    return float(found["precision"]), float(found["recall"])


def density_coverage(features: Tensor, real: Tensor, neighbours: int = 5) -> tuple[float, float]:
    """density = how many real balls hold an image (N, D), by `neighbours`, on average; coverage = the share of real images
    (M, D) whose ball holds one at least.

    A ball reaches to the `neighbours`-th nearest real image. Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics
    for Generative Models".
    """
    inside, covered = 0, 0
    for part in real.split(CHUNK):
        radius = (
            torch.cdist(part, real).kthvalue(neighbours + 1, dim=1).values
        )  # the first is the image itself
        within = torch.cat([torch.cdist(part, other) < radius[:, None] for other in features.split(CHUNK)], 1)
        inside += int(within.sum())
        covered += int(within.any(1).sum())
    return inside / (neighbours * len(features)), covered / len(real)
