"""Random splits of sets without parts."""

from torch import Tensor

from robustsabn.data.sets import permutation
from robustsabn.errors import DataError
from robustsabn.scalars import whole
from robustsabn.text import quote

__all__ = ["hold_out", "split"]


def hold_out(n: int, validation: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices (train, validation) of a split of n images by seed; at most a tenth is for validation.

    The tenth is rounded down, but is at least one image if `validation` is not 0. Training indices keep their
    order."""
    if not (-1 if whole(validation) is None else validation) >= 0:
        raise DataError(f"validation must be 0 or more images, not {quote(validation)}")
    size = min(validation, max(n // 10, 1), n - 1)
    order = permutation(n, seed)
    return order[size:].sort().values, order[:size]


def split(labels: Tensor, size: int, seed: int) -> tuple[Tensor, Tensor]:
    """As `hold_out`, but every class in `labels` (n,) keeps at least one training image.

    If a class has none, its first held-out image is exchanged for an image of the largest class.
    """
    kept, held = hold_out(len(labels), size, seed)
    lost = sorted(set(labels[held].tolist()) - set(labels[kept].tolist()))
    for k in lost:
        give = int((labels[held] == k).nonzero()[0])
        counts = labels[kept].bincount()
        if counts.max() < 2:
            break
        take = int((labels[kept] == counts.argmax()).nonzero()[0])
        kept[take], held[give] = held[give].clone(), kept[take].clone()
    return kept.sort().values if lost else kept, held
