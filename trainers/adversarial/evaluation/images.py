"""The images that a run is evaluated on, with labels as the run numbers its classes."""

from robustsabn.data.specs import Tested, read_test
from robustsabn.errors import DataError
from robustsabn.trainers.adversarial.runs.models import LoadedRun

__all__ = ["evaluated"]


def evaluated(run: LoadedRun, data: str | None = None, n: int | None = None) -> Tested:
    """`n` test images of `data` (all by default), of the run's own data set unless given, as in its closing
    table.

    Raises DataError for images of another size than the run was trained on, and for classes that it does not
    know.
    """
    spec = run.config.data if data is None else data
    found = read_test(spec, n, seen=run.seen)
    if found.images.shape != run.shape:
        raise DataError(f"{spec} holds images (C, H, W) of {found.images.shape}; the run takes {run.shape}")
    return found
