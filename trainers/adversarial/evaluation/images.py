"""The test images on which a run is evaluated, with labels numbered as in the run."""

from robustsabn.data.specs import Tested, read_test
from robustsabn.errors import DataError
from robustsabn.trainers.adversarial.runs.models import LoadedRun

__all__ = ["evaluated"]


def evaluated(
    run: LoadedRun, data: str | None = None, n: int | None = None, *, download: bool = False
) -> Tested:
    """Load `n` test images (default: all) of `data`, or of the run's own data set.

    Raises DataError for images of another shape than the run's, and for unknown classes.
    """
    spec = run.config.data if data is None else data
    tested = read_test(spec, n, download=download, seen=run.seen)
    if tested.images.shape != run.shape:
        raise DataError(f"{spec} holds images (C, H, W) of {tested.images.shape}; the run takes {run.shape}")
    return tested
